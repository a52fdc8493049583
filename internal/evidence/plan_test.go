package evidence

import (
	"encoding/json"
	"fmt"
	"math/rand"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// hidden is what must never be kept, wherever it stands.
const hidden = "hunter2-hidden"

const terraformPlan = `{"format_version":"1.2","terraform_version":"1.9.0","timestamp":"2026-11-02T09:00:00Z",
"variables":{"password":{"value":"` + hidden + `"}},
"prior_state":{"values":{"x":"` + hidden + `"}},
"planned_values":{"x":"` + hidden + `"},"configuration":{"y":["` + hidden + `"]},
"output_changes":{"url":{"actions":["update"],"before":"a","after":"b","before_sensitive":false,"after_sensitive":false}},
"resource_changes":[
 {"address":"aws_db.main","mode":"managed","type":"aws_db","name":"main","provider_name":"aws","change":{"actions":["delete","create"],
  "before":{"size":1,"password":"` + hidden + `"},"after":{"size":2,"password":"` + hidden + `"},"after_unknown":{},
  "before_sensitive":{"password":true},"after_sensitive":{"password":true}}},
 {"address":"aws_s3.logs","mode":"managed","type":"aws_s3","name":"logs","change":{"actions":["delete"],"before":{"k":"` + hidden + `"},"after":null,"before_sensitive":true,"after_sensitive":false}},
 {"address":"aws_sg.a","mode":"managed","type":"aws_sg","name":"a","change":{"actions":["create"],"before":null,"after":{"list":["x","` + hidden + `"]},"before_sensitive":false,"after_sensitive":{"list":[false,true]}}},
 {"address":"aws_sg.b","mode":"managed","type":"aws_sg","name":"b","change":{"actions":["update"],"before":{"a":1},"after":{"a":2},"before_sensitive":{},"after_sensitive":{}}},
 {"address":"aws_sg.c","mode":"managed","type":"aws_sg","name":"c","change":{"actions":["no-op"],"before":{"a":1},"after":{"a":1},"before_sensitive":{},"after_sensitive":{}}}]}`

const manifest = `# a comment
---
apiVersion: v1
kind: Secret
metadata: {name: db, namespace: payments}
stringData: {password: ` + hidden + `}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: app, namespace: payments}
spec: {replicas: 2}
---
---
apiVersion: v1
kind: List
items:
  - {apiVersion: v1, kind: Secret, metadata: {name: inner}, data: {k: ` + hidden + `}}
`

func readPlanText(t testing.TB, text string) Summary {
	t.Helper()
	s, err := Read(Plan, []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTerraformPlan(t *testing.T) {
	s := readPlanText(t, terraformPlan)
	want := "terraform: 1 to add, 1 to change, 1 to destroy, 1 to replace; sha256:"
	if !strings.HasPrefix(s.Line(), want) || s.Format != "terraform-1.2" || s.Tool != "terraform 1.9.0" || s.Plan.Gone() != 2 {
		t.Errorf("it says %q, %+v", s.Line(), s)
	}
	if got := fmt.Sprint(s.Plan.Shown); got != "[{destroy aws_s3.logs} {replace aws_db.main} {change aws_sg.b} {add aws_sg.a}]" {
		t.Errorf("it shows %s", got)
	}
}

func TestManifestPlan(t *testing.T) {
	s := readPlanText(t, manifest)
	if !strings.HasPrefix(s.Line(), "helm: 3 objects to apply") {
		t.Errorf("it says %q", s.Line())
	}
	if got := fmt.Sprint(s.Plan.Shown); got != "[{apply apps/v1 Deployment payments/app} {apply v1 Secret inner} {apply v1 Secret payments/db}]" {
		t.Errorf("it shows %s", got)
	}
	same := readPlanText(t, strings.Replace(strings.Replace(manifest, "{replicas: 2}", "\n  replicas: 2", 1), "# a comment", "", 1))
	more := readPlanText(t, strings.Replace(manifest, "replicas: 2", "replicas: 3", 1))
	typed := readPlanText(t, strings.Replace(manifest, "replicas: 2", "replicas: '2'", 1))
	if s.Plan.Digest != same.Plan.Digest || s.Plan.Digest == more.Plan.Digest || s.Plan.Digest == typed.Plan.Digest {
		t.Errorf("digests: %s, the same %s, more %s, as text %s", s.Plan.Digest, same.Plan.Digest, more.Plan.Digest, typed.Plan.Digest)
	}
}

// Nothing secret is kept, and no digest hangs on it, so that it cannot be guessed.
func TestPlanKeepsNoSecret(t *testing.T) {
	for _, text := range []string{terraformPlan, manifest} {
		s := readPlanText(t, text)
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), "hidden") {
			t.Errorf("it keeps %s", b)
		}
		if other := readPlanText(t, strings.ReplaceAll(text, hidden, "other")); other.Plan.Digest != s.Plan.Digest {
			t.Errorf("the digest hangs on the secret: %s", text[:20])
		}
	}
	for _, bad := range []string{"a: [" + hidden, "kind: " + hidden + "\n- b", `{"` + hidden, strings.Replace(terraformPlan, `["create"]`, `["`+"x"+`"]`, 1), "a: b: " + hidden} {
		if _, err := Read(Plan, []byte(bad), nil); err == nil || strings.Contains(err.Error(), hidden) {
			t.Errorf("%.30q: %v", bad, err)
		}
	}
}

// The order of members and resources is nothing; a value, an action and an address are.
func TestPlanDigestModel(t *testing.T) {
	base := readPlanText(t, terraformPlan).Plan.Digest
	rapid.Check(t, func(r *rapid.T) {
		var doc map[string]any
		d := json.NewDecoder(strings.NewReader(terraformPlan))
		d.UseNumber()
		if err := d.Decode(&doc); err != nil {
			r.Fatal(err)
		}
		list := doc["resource_changes"].([]any)
		rand.New(rand.NewSource(rapid.Int64().Draw(r, "order"))).Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		doc["timestamp"] = rapid.String().Draw(r, "timestamp")
		i := rapid.IntRange(0, len(list)-1).Draw(r, "resource")
		one := list[i].(map[string]any)
		change := one["change"].(map[string]any)
		differs := true
		switch rapid.SampledFrom([]string{"nothing", "address", "after", "mask", "action"}).Draw(r, "edit") {
		case "address":
			one["address"] = one["address"].(string) + "x"
		case "after":
			change["after"], change["after_sensitive"] = map[string]any{"n": rapid.Int().Draw(r, "n")}, map[string]any{}
		case "mask":
			delete(change, "after_sensitive") // then all of it is taken for sensitive
		case "action":
			change["actions"] = []any{"forget"}
		default:
			differs = false
		}
		b, err := json.Marshal(doc)
		if err != nil {
			r.Fatal(err)
		}
		s, err := Read(Plan, b, nil)
		if err != nil {
			r.Fatal(err)
		}
		if (s.Plan.Digest != base) != differs {
			r.Fatalf("it differs: %v, want %v: %s", s.Plan.Digest != base, differs, b)
		}
	})
}

func TestPlanHostile(t *testing.T) {
	object := "{apiVersion: v1, kind: A, metadata: {name: a}}"
	for name, text := range map[string]string{
		"deep json":      `{"format_version":"1.0","resource_changes":[` + strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100) + "]}",
		"deep yaml":      strings.Repeat("[", 5000) + strings.Repeat("]", 5000),
		"deeper yaml":    "apiVersion: v1\nkind: A\nmetadata: {name: a}\nx: " + strings.Repeat("[", 70) + strings.Repeat("]", 70),
		"bomb":           "a: &a [x,x]\nb: &b [*a,*a]\napiVersion: v1\nkind: A\nmetadata: {name: a}",
		"merge":          "apiVersion: v1\nkind: A\nmetadata: {name: a}\n<<: {kind: B}",
		"twice yaml":     "apiVersion: v1\nkind: A\nkind: B\nmetadata: {name: a}",
		"twice json":     strings.Replace(terraformPlan, `"mode":"managed"`, `"mode":"managed","mode":"data"`, 1),
		"twice address":  strings.Replace(terraformPlan, "aws_sg.c", "aws_sg.b", 1),
		"same object":    object + "\n---\n" + object,
		"no object":      "---\n---\n",
		"no name":        "{apiVersion: v1, kind: A}",
		"a list":         "[1, 2]",
		"a state":        `{"format_version":"1.0","values":{}}`,
		"other format":   `{"format_version":"9.0","resource_changes":[]}`,
		"errored":        strings.Replace(terraformPlan, `"timestamp"`, `"errored":true,"timestamp"`, 1),
		"unknown action": strings.Replace(terraformPlan, `["update"],"before":{"a"`, `["smash"],"before":{"a"`, 1),
		"no change":      `{"format_version":"1.0","resource_changes":[{"address":"a"}]}`,
		"truncated":      terraformPlan[:len(terraformPlan)-2],
		"many":           `{"format_version":"1.0","resource_changes":[` + strings.Repeat(`{"address":"a","change":{"actions":["create"]}},`, MaxChanges) + `{"address":"b","change":{"actions":["create"]}}]}`,
	} {
		if s, err := Read(Plan, []byte(text), nil); err == nil {
			t.Errorf("%s: it is read: %s", name, s.Line())
		}
	}
}

func FuzzPlan(f *testing.F) {
	f.Add([]byte(terraformPlan))
	f.Add([]byte(manifest))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := Read(Plan, b, nil); err == nil && (s.Plan == nil || s.Plan.Digest == "") {
			t.Error("it says nothing")
		}
	})
}
