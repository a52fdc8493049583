package gate

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"pgregory.net/rapid"
)

const lintRules = `
{kind: Project, name: p}
---
{kind: User, name: ann, ids: [{provider: github, id: "1"}]}
---
{kind: User, name: bob}
---
{kind: Group, name: g, users: [ann, bob]}
---
{kind: Provider, name: github, platform: github, issuer: "https://ci.example"}
---
kind: Pipeline
name: release
project: p
provider: github
organisation: 7
repository: 8
definition: r.yml
stages:<build>
  - {name: deploy, trust: {environment: e, events: [<event>], refs: [refs/heads/main]}}
---
kind: Environment
name: e
project: p
tier: <tier>
<fields>checks:
  - {name: main, branches: {allowed: [<allowed>]}}
  - {name: people, approval: {count: 1, groups: [g], review: security}}
<checks><identity><more>`

const parameterCheck = "  - {name: out, call: {service: {url: \"https://x.example/{parameter.change}\", criteria: body.ok == true}}}\n"

// Each way in which nobody can pass, or hardly anybody, and the nearest rules in which
// all is well.
func TestLook(t *testing.T) {
	at := lockkeeper.MomentOf(time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)) // a Monday
	plain := map[string]string{"<build>": "\n  - {name: build, trust: {events: [push], refs: [refs/heads/main]}}", "<event>": "push", "<tier>": "production", "<fields>": "", "<allowed>": "refs/heads/main", "<checks>": "", "<more>": "",
		"<identity>": "---\n{kind: Identity, name: i, project: p, environment: e, audiences: [a], stages: [release/deploy]}\n"}
	hours := func(name, day, from, to string) string {
		return fmt.Sprintf("  - {name: %s, hours: {zone: UTC, windows: [{days: [%s], from: %q, to: %q}]}}\n", name, day, from, to)
	}
	freeze := func(fields string) string {
		return "---\n{kind: Freeze, name: z, scope: /projects/p, reason: r, from: 2026-11-01T00:00:00Z" + fields + "}\n"
	}
	for name, c := range map[string]struct {
		change map[string]string
		want   string
	}{
		"all is well":                      {nil, ""},
		"no identity":                      {map[string]string{"<identity>": ""}, "environment_without_identity"},
		"one stage, in production":         {map[string]string{"<build>": ""}, "artifact_unrecordable"},
		"one stage, before":                {map[string]string{"<build>": "", "<tier>": "preproduction"}, ""},
		"another ref":                      {map[string]string{"<allowed>": "refs/heads/rel/*"}, "refs_never_match"},
		"a pattern that fits":              {map[string]string{"<allowed>": "refs/heads/m*"}, ""},
		"another ref in shadow":            {map[string]string{"<checks>": "  - {name: rel, shadow: true, branches: {allowed: [refs/heads/rel]}}\n"}, ""},
		"another ref beside it":            {map[string]string{"<checks>": "  - {name: rel, branches: {allowed: [refs/heads/rel]}}\n"}, "refs_never_match"},
		"two checks with no ref in common": {map[string]string{"[refs/heads/main]}}\n---\nkind": "[refs/heads/main, refs/heads/rel]}}\n---\nkind", "<checks>": "  - {name: rel, branches: {allowed: [refs/heads/rel]}}\n"}, "checks_contradict"},
		"it only observes":                 {map[string]string{"<fields>": "mode: observe\n", "<allowed>": "refs/heads/rel"}, ""},
		"a schedule":                       {map[string]string{"<event>": "schedule"}, "automation_only"},
		"a schedule that is admitted":      {map[string]string{"<event>": "schedule", "<fields>": "automation: true\n"}, ""},
		"a schedule or a person":           {map[string]string{"<event>": "schedule, workflow_dispatch"}, ""},
		"hours on each day":                {map[string]string{"<checks>": hours("day", "monday, tuesday, wednesday, thursday, friday, saturday, sunday", "09:00", "17:00")}, ""},
		"hours on one day":                 {map[string]string{"<checks>": hours("day", "monday", "09:00", "17:00")}, "patience_too_short"},
		"and patience for it":              {map[string]string{"<checks>": hours("day", "monday", "09:00", "17:00"), "<fields>": "patience: 200h\n"}, ""},
		"hours apart":                      {map[string]string{"<checks>": hours("day", "monday", "09:00", "17:00") + hours("night", "monday", "17:00", "23:00")}, "checks_contradict"},
		"hours apart, one in shadow":       {map[string]string{"<fields>": "patience: 200h\n", "<checks>": hours("day", "monday", "09:00", "17:00") + strings.Replace(hours("night", "monday", "17:00", "23:00"), "night,", "night, shadow: true,", 1)}, ""},
		"hours that touch over midnight":   {map[string]string{"<fields>": "patience: 200h\n", "<checks>": hours("day", "monday", "22:00", "02:00") + hours("night", "tuesday", "01:00", "03:00")}, ""},
		"exceptions from all":              {map[string]string{"<checks>": "  - {name: day, hours: {zone: UTC, windows: [{days: [monday], from: \"09:00\", to: \"17:00\"}], except: [\"2026-11-02\", \"2026-11-09\", \"2026-11-16\", \"2026-11-23\", \"2026-11-30\", \"2026-12-07\"]}}\n"}, "hours_never_open"},
		"a freeze for ever":                {map[string]string{"<more>": freeze(", until: 2030-01-01T00:00:00Z")}, "frozen_for_long"},
		"a freeze for a while":             {map[string]string{"<more>": freeze(", until: 2026-12-01T00:00:00Z")}, ""},
		"a freeze of deployments alone":    {map[string]string{"<more>": freeze(", until: 2030-01-01T00:00:00Z, actions: [deploy]")}, ""},
		"a freeze holds what observes":     {map[string]string{"<fields>": "mode: observe\n", "<more>": freeze(", until: 2030-01-01T00:00:00Z")}, "frozen_for_long"},
		"a waiver that is over":            {map[string]string{"<fields>": "waivers: [{demand: branch-control, owner: ann, until: 2026-10-01T00:00:00Z, reason: r}]\n", "<allowed>": "refs/heads/main"}, ""},
		"a waiver that is over and needed": {map[string]string{"<fields>": "waivers: [{demand: branch-control, owner: ann, until: 2026-10-01T00:00:00Z, reason: r}]\n", "{name: main, branches": "{name: main, shadow: true, branches"}, "demand_unmet"},
		"a lock that outlasts who waits":   {map[string]string{"<fields>": "patience: 1h\n", "<checks>": "  - {name: one, lock: {mode: sequential}}\n"}, "lock_outlasts_patience"},
		"a soft check and no override":     {map[string]string{"<checks>": "  - {name: soak, soft: true, delay: {for: 10m}}\n"}, "soft_never_waived"},
		"a soft check in shadow":           {map[string]string{"<checks>": "  - {name: soak, soft: true, shadow: true, delay: {for: 10m}}\n"}, ""},
		"a soft check where all observes":  {map[string]string{"<fields>": "mode: observe\n", "<checks>": "  - {name: soak, soft: true, delay: {for: 10m}}\n"}, ""},
		"a soft check and an override":     {map[string]string{"<fields>": "override: {groups: [g], reviewers: {groups: [g]}}\n", "<checks>": "  - {name: soak, soft: true, delay: {for: 10m}}\n"}, ""},
		"an override and no soft check":    {map[string]string{"<fields>": "override: {groups: [g], reviewers: {groups: [g]}}\n"}, ""},
		"a held run and a parameter":       {map[string]string{"issuer: \"https://ci.example\"": "issuer: \"https://ci.example\", app: {id: \"7\"}", "<fields>": "heldBy: github\n", "<checks>": parameterCheck}, "parameter_never_comes"},
		"a job and a parameter":            {map[string]string{"<checks>": parameterCheck}, ""},
		"a held run and a commit":          {map[string]string{"issuer: \"https://ci.example\"": "issuer: \"https://ci.example\", app: {id: \"7\"}", "<fields>": "heldBy: github\n", "<checks>": strings.Replace(parameterCheck, "parameter.change", "commit", 1)}, ""},
		"a lock that does not":             {map[string]string{"<checks>": "  - {name: one, lock: {mode: sequential}}\n"}, ""},
	} {
		text := lintRules
		for mark, s := range c.change {
			text = strings.ReplaceAll(text, mark, s)
		}
		for mark, s := range plain {
			text = strings.ReplaceAll(text, mark, s)
		}
		rules, problems := catalog.Read([]catalog.File{{Name: "r.yaml", Data: []byte(text)}})
		if err := problems.Err(); err != nil {
			t.Errorf("%s: %v", name, problems)
			continue
		}
		var codes []string
		for _, l := range Look(rules, at) {
			codes = append(codes, l.Code)
			if l.Sentence == "" || l.Mend == "" || l.Never == slices.Contains([]string{"patience_too_short", "lock_outlasts_patience", "soft_never_waived"}, l.Code) {
				t.Errorf("%s: %+v", name, l)
			}
		}
		if got := strings.Join(codes, " "); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// A path that is never open is told of, by its action, and what a deployment meets, too, once.
func TestLookAtPaths(t *testing.T) {
	hours := func(name, zone string, actions ...string) catalog.Check {
		return catalog.Check{Name: name, Actions: actions, Hours: &catalog.Hours{Zone: zone, Windows: []catalog.Window{{Days: []string{"monday"}, From: "09:00", To: "10:00"}}}}
	}
	never := hours("none", "UTC", "rollback")
	never.Hours.Windows[0].Days = nil
	c := &catalog.Catalog{Environments: map[lockkeeper.Scope]catalog.Environment{"/projects/p/environments/e": {Name: "e", Project: "p", Tier: catalog.Production,
		Checks: []catalog.Check{never, {Name: "main", Branches: &catalog.Branches{Allowed: []string{"refs/heads/main"}}}, {Name: "people", Approval: &catalog.Approval{Count: 1}, Actions: []string{"deploy", "redeploy"}}}}}}
	var got []string
	for _, l := range Look(c, now) {
		got = append(got, l.Code+": "+l.Sentence)
	}
	all := strings.Join(got, "\n")
	for _, want := range []string{"hours_never_open: Of a rollback: The hours of the check none never open", "demand_unmet: Of a rollback: e is of tier production, has no approval",
		"demand_unmet: e is of tier production, has no security-review"} {
		if strings.Count(all, want) != 1 {
			t.Errorf("%q stands %d times in:\n%s", want, strings.Count(all, want), all)
		}
	}
	if strings.Contains(all, "Of a rollback: e is of tier production, has no security-review") || strings.Contains(all, "Of a redeploy") || strings.Count(all, "environment_without_identity") != 1 {
		t.Errorf("told too much:\n%s", all)
	}
}

// TestLookAtHours compares what is said of hours with a look at every quarter of an
// hour in the time that is looked at.
func TestLookAtHours(t *testing.T) {
	never, once := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		env := catalog.Environment{Name: "e", Project: "p", Tier: catalog.Development, Patience: catalog.Duration(30 * 24 * time.Hour)}
		for i := range rapid.IntRange(1, 3).Draw(t, "checks") {
			clock := func(name string, least int) (int, string) {
				q := rapid.IntRange(least, 95).Draw(t, name)
				return q, fmt.Sprintf("%02d:%02d", q/4, q%4*15)
			}
			_, from := clock("from", 0)
			_, to := clock("to", 1)
			if from == to {
				to = "24:00"
			}
			env.Checks = append(env.Checks, catalog.Check{Name: fmt.Sprintf("c%d", i), Hours: &catalog.Hours{Zone: rapid.SampledFrom([]string{"UTC", "Europe/Zurich", "Asia/Kathmandu"}).Draw(t, "zone"),
				Windows: []catalog.Window{{Days: []string{rapid.SampledFrom(catalog.Weekdays()).Draw(t, "day"), rapid.SampledFrom(catalog.Weekdays()).Draw(t, "other")}, From: from, To: to}}}})
		}
		zones := map[string]*time.Location{}
		for _, c := range env.Checks {
			zones[c.Hours.Zone], _ = time.LoadLocation(c.Hours.Zone)
		}
		together := false
		for at := now; at.Before(now.Add(lookAhead)) && !together; at = at.Add(15 * time.Minute) {
			together = !slices.ContainsFunc(env.Checks, func(c catalog.Check) bool { return !open(*c.Hours, at.Time().In(zones[c.Hours.Zone])) })
		}
		l := linter{c: &catalog.Catalog{}, env: env, now: now}
		l.times()
		says := slices.ContainsFunc(l.found, func(f Lint) bool { return f.Never })
		if says == together {
			t.Fatalf("the hours are open together: %v, and it says %+v", together, l.found)
		}
		if together {
			once++
		} else {
			never++
		}
	})
	if never == 0 || once == 0 {
		t.Errorf("never %d, once %d", never, once)
	}
}
