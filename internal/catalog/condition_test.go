package catalog

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

func TestConditionsAreRefused(t *testing.T) {
	const start = "{kind: User, name: ann}\n---\n{kind: Project, name: p}\n---\n{kind: Role, name: local, actions: [deployments/read], scopes: [/projects/p]}\n---\n"
	for _, test := range []struct{ fields, code, path, says string }{
		{`condition: 'tier == "production"'`, "", "", ""},
		{`condition: 'now.getHours("Europe/Zurich") >= 8 && user in ["ann"]'`, "", "", ""},
		{`condition: ""`, "condition_unfit", "condition", "column"},
		{`condition: 'true'`, "condition_unfit", "condition", "it says nothing about"},
		{`condition: 'tier'`, "condition_unfit", "condition", "must be true or false"},
		{`condition: 'ask.action == "x"'`, "condition_unfit", "condition", "undeclared reference to 'ask'"},
		{`condition: 'tier == production'`, "condition_unfit", "condition", "undeclared reference to 'production'"},
		{`condition: 'tier == "a'`, "condition_unfit", "condition", "column"},
		{`condition: '[1,2,3,4,5,6,7,8].all(a, [1,2,3,4,5,6,7,8].all(b, [1,2,3,4,5,6,7,8].all(c, [1,2,3,4,5,6,7,8].all(d, size(scope) > a*b*c*d))))'`, "condition_unfit", "condition", "it may cost"},
		{`condition: '` + strings.Repeat("(", 60) + "tier" + strings.Repeat(")", 60) + ` == ""'`, "condition_unfit", "condition", "recursion"},
		{`condition: 'tier != "` + strings.Repeat("x", 1000) + `"'`, "condition_unfit", "condition", "more than 1000"},
		{`condition: 7`, "condition_unfit", "condition", "must be true or false"},
		{`condition: [a]`, "wrong_type", "condition", "must be a text"},
		{`here: true`, "here_unfit", "here", ""},
		{`except: [user:ann]`, "except_unfit", "except", ""},
		{`deny: true, here: true, except: [user:ann]`, "", "", ""},
		{`deny: true, except: [user:nobody]`, "unknown_user", "except[0]", ""},
		{`deny: true, except: [ann]`, "principal_unfit", "except[0]", ""},
		{`deny: true, except: [` + strings.Repeat("user:ann, ", 21) + `]`, "too_many_entries", "except", ""},
	} {
		text := start + "{kind: Assignment, name: a, role: reader, principal: user:ann, scope: /, " + test.fields + "}"
		_, problems := Read([]File{{"x.yaml", []byte(text)}})
		if test.code == "" {
			if len(problems) > 0 {
				t.Errorf("%s: %v", test.fields, problems)
			}
			continue
		}
		if len(problems) == 0 || problems[0].Code != test.code || problems[0].Path != test.path || problems[0].Line == 0 || !strings.Contains(problems[0].Sentence, test.says) || problems[0].Mend == "" {
			t.Errorf("%s: %v, want %s at %s with %q", test.fields, problems, test.code, test.path, test.says)
		}
	}
	for text, code := range map[string]string{
		"{kind: Assignment, name: a, role: local, principal: user:ann, scope: /}":                          "scope_not_assignable",
		"{kind: Assignment, name: a, role: local, principal: user:ann, scope: /projects/p}":                "",
		"{kind: Assignment, name: a, role: local, principal: user:ann, scope: /, deny: true}":              "",
		"{kind: Assignment, name: a, role: local, principal: user:ann, scope: /projects/p/repositories/r}": "",
		"{kind: Role, name: r, actions: [deployments/read], scopes: [/projects/q]}":                        "unknown_project",
		"{kind: Role, name: r, actions: [deployments/read], scopes: [projects]}":                           "scope_unfit",
		"{kind: Role, name: r, actions: [deployments/read], scopes: [" + strings.Repeat("/, ", 101) + "]}": "duplicate_value",
	} {
		_, problems := Read([]File{{"x.yaml", []byte(start + text)}})
		if (code == "") != (len(problems) == 0) || code != "" && problems[0].Code != code {
			t.Errorf("%s: %v, want %q", text, problems, code)
		}
	}
}

// A condition sees the beginning of the minute, and errs where it cannot be judged.
func TestConditionHolds(t *testing.T) {
	now := lockkeeper.MomentOf(time.Date(2026, 11, 24, 10, 30, 59, 0, time.UTC))
	about := Circumstance{Action: "deployments/start", Scope: "/projects/p/environments/e", User: "ann", Tier: Production, Now: now}
	for text, want := range map[string]string{
		`now == timestamp("2026-11-24T10:30:00Z")`: "true",
		`project + "/" + environment == "p/e"`:     "true",
		`action.matches("^deployments/")`:          "true",
		`user == "bob"`:                            "false",
		`int(user) > 3`:                            "error",
		`timestamp(user) < now`:                    "error",
		`tier == "production" || int(user) > 3`:    "true",
	} {
		c, err := CompileCondition(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		holds, err := c.Holds(about)
		got := fmt.Sprint(holds)
		if err != nil {
			got = "error"
		}
		if got != want || c.Timed != strings.Contains(text, "now") || c.ByTier != strings.Contains(text, "tier") {
			t.Errorf("%s is %s, %v: %+v", text, got, err, c)
		}
	}
	c, err := CompileCondition(`user == "ann"`)
	if err != nil {
		t.Fatal(err)
	}
	about.User = ""
	if holds, err := c.Holds(about); holds || err == nil {
		t.Error("nobody knows who a group's member is, and the condition says it does")
	}
}

func FuzzCondition(f *testing.F) {
	for _, s := range []string{`tier == "production"`, `now.getHours() > 8`, `[action].all(a, a.matches(user))`, `"`, `scope.matches("(a*)*b")`} {
		f.Add(s)
	}
	about := Circumstance{Action: "deployments/start", Scope: lockkeeper.Scope("/projects/p/repositories/r/branches/" + strings.Repeat("a", 255)), User: strings.Repeat("u", 63), Now: lockkeeper.MomentOf(time.Unix(1, 0))}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := CompileCondition(s)
		if err != nil {
			return
		}
		began := time.Now()
		c.Holds(about)
		if took := time.Since(began); took > time.Second {
			t.Errorf("%q took %s", s, took)
		}
	})
}
