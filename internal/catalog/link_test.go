package catalog

import (
	"fmt"
	"strings"
	"testing"
)

// Whoever links an account to somebody could make his own runs another person's, and
// approve them, or sign in as him. Each way of doing so is named as weakening; more
// accounts of one person exclude more, and are not.
func TestLinkingAnAccountWeakens(t *testing.T) {
	const people = `
{kind: Provider, name: ci, platform: github, issuer: https://ci.example.com}
---
{kind: Directory, name: corp, platform: okta, issuer: https://corp.okta.com, client: c}
---
{kind: User, name: ann, ids: [{provider: ci, id: "1"}], signIns: [{directory: corp, subject: a}]}
---
{kind: User, name: ann-too, person: ann}
---
{kind: User, name: mal, ids: [{provider: ci, id: "2"}], signIns: [{directory: corp, subject: m}]}
---
{kind: User, name: bob}
`
	const anns, mals = `{kind: User, name: ann, ids: [{provider: ci, id: "1"}], signIns: [{directory: corp, subject: a}]}`, `{kind: User, name: mal, ids: [{provider: ci, id: "2"}], signIns: [{directory: corp, subject: m}]}`
	for _, test := range []struct {
		name  string
		pairs []string
		want  string // "": nothing is weaker
	}{
		{"one more of his own", []string{`{provider: ci, id: "1"}`, `{provider: ci, id: "1"}, {provider: ci, id: "3"}`}, "runs of the account 3 at ci are the user's"},
		{"his own, moved", []string{anns, `{kind: User, name: ann, ids: [{provider: ci, id: "1"}, {provider: ci, id: "2"}], signIns: [{directory: corp, subject: a}]}`, mals, "{kind: User, name: mal}"}, "runs of the account 2 at ci are the user's"},
		{"the other's taken away", []string{`ids: [{provider: ci, id: "1"}], `, ""}, "runs of the account 1 at ci are nobody's"},
		{"a sign-in", []string{"{directory: corp, subject: a}", "{directory: corp, subject: a}, {directory: corp, subject: x}"}, "the account x at corp may sign in as the user"},
		{"a sign-in, moved", []string{`signIns: [{directory: corp, subject: a}]`, `signIns: [{directory: corp, subject: a}, {directory: corp, subject: m}]`, `, signIns: [{directory: corp, subject: m}]`, ""}, "the account m at corp may sign in as the user"},
		{"to somebody new", []string{mals, `{kind: User, name: mal}` + "\n---\n" + `{kind: User, name: new, ids: [{provider: ci, id: "2"}]}`}, "runs of the account 2 at ci are the user's"},
		{"to a user without any", []string{`{kind: User, name: bob}`, `{kind: User, name: bob, ids: [{provider: ci, id: "9"}]}`}, "runs of the account 9 at ci are the user's"},
		{"one person made two", []string{"{kind: User, name: ann-too, person: ann}", "{kind: User, name: ann-too}"}, "no longer as one person with ann"},
		{"two persons made one", []string{"{kind: User, name: bob}", "{kind: User, name: bob, person: ann}"}, ""},
	} {
		text := strings.NewReplacer(test.pairs...).Replace(people)
		if text == people {
			t.Fatalf("%s: nothing changes", test.name)
		}
		got := ""
		for _, d := range Explain(mustRead(t, File{"old.yaml", []byte(people)}), mustRead(t, File{"new.yaml", []byte(text)})) {
			got += fmt.Sprint(d.Weakens)
		}
		if test.want == "" && strings.Trim(got, "[]") != "" || !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}
