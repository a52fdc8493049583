package catalog

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lockkeeper/lockkeeper"
	"pgregory.net/rapid"
)

func editFor(c *Catalog, kind Kind, name string, e Edit) Edit {
	e.Key = Key{Kind: kind, Name: name}
	e.Was = c.DigestOf(e.Key)
	return e
}

const rewritten = `# yaml-language-server: $schema=lockkeeper.schema.json

# Who there is.
kind: User
name: ann
---
# The operators. Ask the platform team.
kind: Role
name: operator
actions:
  # what they do every day
  - deployments/start # with a run
  - "freezes/*"
  - deployments/*  # all of it
title: Operators
---
kind: Assignment   # of ann
name: ops
role: operator
principal: user:ann
scope: /  # everywhere
# nothing more
---
{kind: Assignment, name: flow, role: operator, principal: "user:ann", # {why?}
  scope: /, end: 2030-01-01T00:00:00Z}
---
{kind: Role, name: reading, actions: ["*/read", access/write, journal/*], title: 'it''s [so]'}
---
{kind: ActivationRule, name: rule, role: operator, scope: /}
---
{kind: Assignment, name: goes, role: reading, principal: user:ann, scope: /}
# that was it
---
{kind: Assignment, name: stays, role: reading, principal: user:ann, scope: /, eligible: false,}
---
{kind: ActivationRule, name: rule-2, role: reading, scope: /}
`

func TestRewrite(t *testing.T) {
	files := []File{{"a.yaml", []byte(rewritten)}, {"b.yaml", []byte("{kind: Group, name: g, users: [ann]}\n")}, {"c.yaml", []byte("# one\n{kind: Assignment, name: alone, role: reading, principal: group:g, scope: /}")},
		{"d.json", []byte(`{"kind": "User", "name": "bob"} {"kind": "Role", "name": "json", "actions": ["journal/*"]}`)}}
	c := mustRead(t, files...)
	patterns := func(list ...lockkeeper.ActionPattern) Edit { return Edit{Actions: list} }
	got, err := Rewrite(files, []Edit{
		editFor(c, RoleKind, "operator", patterns("deployments/start", "freezes/write", "deployments/cancel", "deployments/approve")),
		editFor(c, AssignmentKind, "ops", Edit{Eligible: true}), editFor(c, AssignmentKind, "flow", Edit{Eligible: true}), editFor(c, AssignmentKind, "stays", Edit{Eligible: true}),
		editFor(c, RoleKind, "reading", patterns("*/read", "journal/read")), editFor(c, AssignmentKind, "goes", Edit{Remove: true}), editFor(c, AssignmentKind, "alone", Edit{Remove: true}),
		editFor(c, RoleKind, "json", patterns("journal/export")),
	})
	if err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer(`  - "freezes/*"
  - deployments/*  # all of it
`, `  - freezes/write
  - deployments/cancel
  - deployments/approve
`, "scope: /  # everywhere\n", "scope: /  # everywhere\neligible: true\n", "2030-01-01T00:00:00Z}", "2030-01-01T00:00:00Z, eligible: true}",
		`["*/read", access/write, journal/*]`, `["*/read", journal/read]`, "eligible: false", "eligible: true",
		"---\n{kind: Assignment, name: goes, role: reading, principal: user:ann, scope: /}\n# that was it\n", "").Replace(rewritten)
	if len(got) != 3 || got[0].Name != "a.yaml" || got[1].Name != "c.yaml" || got[1].Data != nil {
		t.Fatalf("%q", got)
	}
	if d := cmp.Diff(want, string(got[0].Data)); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if !strings.HasPrefix(string(got[2].Data), `{"kind": "User", "name": "bob"} {`) || !strings.Contains(string(got[2].Data), "journal/export") {
		t.Errorf("%s", got[2].Data)
	}
}

// The first document takes the comment about the whole file not with it, and what
// cannot be changed changes nothing.
func TestRewriteKeepsTheRest(t *testing.T) {
	text := "# About this file.\n\n# About ann.\nkind: User\nname: ann\n---\n{kind: User, name: bob}\n"
	files := []File{{"a.yaml", []byte(text)}}
	c := mustRead(t, files...)
	got, err := Rewrite(files, []Edit{editFor(c, UserKind, "ann", Edit{Remove: true})})
	if err != nil || len(got) != 1 || string(got[0].Data) != "# About this file.\n\n---\n{kind: User, name: bob}\n" {
		t.Errorf("%q %v", got, err)
	}
	for name, e := range map[string]Edit{"missing": editFor(c, UserKind, "eve", Edit{Remove: true}), "another": {Key: Key{Kind: UserKind, Name: "ann"}, Was: lockkeeper.DigestOf(nil), Remove: true}} {
		if name == "missing" {
			e.Was = lockkeeper.DigestOf(nil)
		}
		if got, err := Rewrite(files, []Edit{e}); lockkeeper.KindOf(err) != lockkeeper.Conflict || got != nil {
			t.Errorf("%s: %q %v", name, got, err)
		}
	}
	odd := []File{{"a.yaml", []byte("kind: User\nname: ann\n...\nkind: User\nname: bob\n")}}
	if got, err := Rewrite(odd, []Edit{editFor(mustRead(t, odd...), UserKind, "ann", Edit{Remove: true})}); lockkeeper.KindOf(err) != lockkeeper.Conflict || got != nil {
		t.Errorf("%q %v", got, err)
	}
}

// smaller is each pattern, or one action in its place.
func smaller(patterns []lockkeeper.ActionPattern) (out []lockkeeper.ActionPattern) {
	parts := map[lockkeeper.ActionPattern]lockkeeper.ActionPattern{"*": "journal/export", "deployments/*": "deployments/cancel", "*/write": "projects/write"}
	for _, p := range patterns {
		if part := parts[p]; part != "" {
			p = part
		}
		out = append(out, p)
	}
	return out
}

// remarks are the lines that are nothing but a comment.
func remarks(text string) (out []string) {
	for row := range strings.Lines(text) {
		if strings.HasPrefix(row, "#") {
			out = append(out, row)
		}
	}
	return out
}

// However documents are written, the files say exactly the edits afterwards, and
// every line that is not of an edited document is as it was.
func TestRewriteSaysTheEdits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b strings.Builder
		b.WriteString("{kind: ActivationRule, name: x, role: r0, scope: /}\n---\nkind: User\nname: ann\n")
		pick := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }
		note := func() string { return pick("comment", "", "  # 'why {not] \"ö", " # - deployments/*") }
		list := func(indent string) string {
			items := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"deployments/*", "'deployments/start'", `"*"`, "freezes/write", "'*/write'"}), 1, 4, rapid.ID[string]).Draw(t, "items")
			if pick("style", "flow", "block") == "flow" {
				return " [" + strings.Join(items, pick("comma", ",", " , ", ",\n     ")) + "]" + note() + "\n"
			}
			out := note() + "\n"
			for _, i := range items {
				out += indent + "- " + i + note() + "\n"
			}
			return out
		}
		n := rapid.IntRange(1, 4).Draw(t, "n")
		for i := range n {
			fmt.Fprintf(&b, "---%s\n%skind: Role\nname: r%d%s\ntitle: \"é %d\"\nactions:%s", note(), pick("before", "", "# a comment\n", "\n"), i, note(), i, list(pick("indent", "", "  ", "    ")))
			if pick("style", "flow", "block") == "flow" {
				fmt.Fprintf(&b, "---\n{kind: Assignment, name: a%d,%s\n role: r0, principal: 'user:ann', scope: /%s}%s\n", i, note(), pick("end", "", ",", " , ", ", eligible: false"), note())
			} else {
				fmt.Fprintf(&b, "---\nkind: Assignment\nscope: /%s\nname: a%d\n%srole: r0\nprincipal: user:ann\n", note(), i, pick("between", "", "# x\n", "eligible: false\n"))
			}
		}
		text := b.String()
		if pick("end", "cut", "whole") == "cut" {
			text = strings.TrimSuffix(text, "\n")
		}
		files := []File{{"a.yaml", []byte(text)}}
		c, problems := Read(files)
		if err := problems.Err(); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		var edits []Edit
		for i := range n {
			switch rapid.IntRange(0, 3).Draw(t, "edit") {
			case 0:
				edits = append(edits, editFor(c, AssignmentKind, fmt.Sprint("a", i), Edit{Eligible: true}))
			case 1:
				edits = append(edits, editFor(c, AssignmentKind, fmt.Sprint("a", i), Edit{Remove: true}))
			case 2:
				edits = append(edits, editFor(c, RoleKind, fmt.Sprint("r", i), Edit{Actions: smaller(c.Roles[fmt.Sprint("r", i)].Actions)}))
			}
		}
		want, err := c.Edited(edits)
		if err != nil {
			t.Fatal(err)
		}
		changed, err := Rewrite(files, edits)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if want.Digest() == c.Digest() {
			return
		}
		is, problems := Read(changed)
		if err := problems.Err(); err != nil || is.Digest() != want.Digest() {
			t.Fatalf("%v\n%s", err, changed[0].Data)
		}
		before, after := remarks(text), remarks(string(changed[0].Data))
		for _, row := range after {
			if !slices.Contains(before, row) {
				t.Fatalf("the comment %q is new", row)
			}
		}
	})
}

// FuzzRewrite edits whatever reads as a catalog: the files say the edits afterwards,
// or nothing is given back.
func FuzzRewrite(f *testing.F) {
	f.Add(rewritten)
	f.Add("{kind: Role, name: r, actions: [\"*\"]}")
	f.Add("kind: Role\nname: r\nactions:\n- '*'")
	f.Add("# c\n\n---\nkind: User\nname: ann\n...\n---\n{\"kind\": \"User\", \"name\": \"bob\",}\n")
	f.Fuzz(func(t *testing.T, text string) {
		files := []File{{"a.yaml", []byte(text)}}
		c, problems := Read(files)
		if len(problems) > 0 {
			return
		}
		var edits []Edit
		for i, d := range c.Documents() {
			e := Edit{Key: d.Key, Was: d.Digest}
			switch {
			case d.Key.Kind == RoleKind:
				e.Actions = smaller(c.Roles[d.Key.Name].Actions)
			case d.Key.Kind == AssignmentKind && i%2 == 0:
				e.Eligible = true
			case d.Key.Kind == AssignmentKind:
				e.Remove = true
			default:
				continue
			}
			edits = append(edits, e)
		}
		want, err := c.Edited(edits)
		if err != nil {
			return
		}
		changed, err := Rewrite(files, edits)
		if err != nil && changed != nil {
			t.Fatal("something is given back")
		}
		if err == nil && len(changed) == 1 && changed[0].Data != nil {
			if is, problems := Read(changed); len(problems) > 0 || is.Digest() != want.Digest() {
				t.Fatalf("%v\n%s", problems, changed[0].Data)
			}
		}
	})
}
