package gate

import (
	"slices"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// waiving are facts whose environment has a soft check of every kind that may be soft,
// none of which passes, and an override that names them all.
func waiving() Facts {
	f := facts()
	f.Environment.Override = &catalog.Override{Groups: []string{"o"}}
	f.Environment.Checks = append(f.Environment.Checks,
		catalog.Check{Name: "refs", Branches: &catalog.Branches{Allowed: []string{"refs/heads/release"}}, Soft: true},
		catalog.Check{Name: "form", Template: &catalog.Template{Allowed: []catalog.TemplateSource{{Path: "a/b/c.yml", Refs: []string{"refs/tags/v1"}}}}, Soft: true},
		catalog.Check{Name: "soak", Delay: &catalog.Delay{For: catalog.Duration(time.Hour)}, Soft: true},
		catalog.Check{Name: "office", Hours: &catalog.Hours{Zone: "UTC", Windows: []catalog.Window{{Days: []string{"sunday"}, From: "09:00", To: "10:00"}}}, Soft: true},
		catalog.Check{Name: "desk", Approval: &catalog.Approval{Count: 1, Groups: []string{"desk"}}, Soft: true})
	f.Freezes = []catalog.Freeze{{Name: "quiet", Scope: "/", From: now, Until: now.Add(time.Hour), Soft: true}}
	f.Overrides = []Override{{ID: "o-1", Waives: []string{"refs", "form", "soak", "office", "desk", "freeze:quiet", "two", "main"}, By: []string{"oz", "una"}, Reason: "r", Until: now.Add(30 * time.Minute)}}
	return f
}

// An override waives what it names and what is soft, and nothing else; what fails and
// could be waived waits, so that an override can be asked for at all.
func TestWaived(t *testing.T) {
	if d := Judge(waiving(), now); d.Verdict != lockkeeper.Pass || *d.Until != now.Add(30*time.Minute) {
		t.Errorf("with all waived: %s %s until %v", d.Verdict, d.Sentence, d.Until)
	}
	for name, c := range map[string]struct {
		subject, code string
		verdict       lockkeeper.Verdict
	}{
		"refs": {"check refs", "branch_not_allowed", lockkeeper.Wait}, "form": {"check form", "template_missing", lockkeeper.Wait}, "soak": {"check soak", "delayed", lockkeeper.Wait},
		"office": {"check office", "outside_hours", lockkeeper.Wait}, "desk": {"check desk", "approvals_missing", lockkeeper.Wait}, "freeze:quiet": {"freeze", "frozen", lockkeeper.Wait},
	} {
		f := waiving()
		f.Overrides[0].Waives = slices.DeleteFunc(f.Overrides[0].Waives, func(s string) bool { return s == name })
		want(t, name+" is not named", Judge(f, now), c.subject, c.verdict, c.code)
		if d := Judge(f, now); d.Verdict != lockkeeper.Wait || d.Passed(now) {
			t.Errorf("without %s it is %s", name, d.Verdict)
		}
		f.Environment.Override = nil
		if verdict := Judge(f, now).Verdict; verdict != lockkeeper.Fail {
			t.Errorf("where nothing can be waived: %s", verdict)
		}
	}
	// Hard checks are not waived by being named.
	f := waiving()
	f.Votes = nil
	want(t, "no votes", Judge(f, now), "check two", lockkeeper.Wait, "approvals_missing")
	f = waiving()
	f.Ask.Ref = "refs/heads/x"
	want(t, "another branch", Judge(f, now), "check main", lockkeeper.Fail, "branch_not_allowed")
	f = waiving()
	f.Freezes[0].Soft = false
	want(t, "a hard freeze", Judge(f, now), "freeze", lockkeeper.Wait, "frozen")
	for name, change := range map[string]func(*Facts){
		"nobody started it": func(f *Facts) { f.Initiators = nil },
		"another stage":     func(f *Facts) { f.Ask.Stage = "build" },
		"nobody vouches":    func(f *Facts) { f.Records = nil },
		"patience is over":  func(f *Facts) { f.Deadline = now },
		"a soft review is none that production demands": func(f *Facts) { f.Environment.Checks[0].Soft = true },
	} {
		f := waiving()
		change(&f)
		f.Overrides[0].Waives = append(f.Overrides[0].Waives, "initiator", "stage", "artifacts", "patience", "demand approval", "approval")
		if d := Judge(f, now); d.Verdict != lockkeeper.Fail {
			t.Errorf("%s: %s", name, d.Verdict)
		}
	}
	// What runs is held to it, too.
	f = waiving()
	f.Released = now
	if d := Standing(f, now); d.Verdict != lockkeeper.Pass {
		t.Errorf("while it runs: %s %s", d.Verdict, d.Sentence)
	}
	f.Overrides = nil
	if d := Standing(f, now); d.Verdict == lockkeeper.Pass {
		t.Error("it runs on without its override")
	}
}

// Freezes spare whoever is of their groups and started the run alone.
func TestExempt(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Facts)
		code   string
	}{
		"a member":                {func(*Facts) {}, "not_frozen"},
		"a member beside another": {func(f *Facts) { f.Initiators = append(f.Initiators, Initiator{User: "bob"}) }, "frozen"},
		"two members":             {func(f *Facts) { f.Initiators = append(f.Initiators, Initiator{User: "bob", Groups: []string{"x"}}) }, "not_frozen"},
		"of another group":        {func(f *Facts) { f.Initiators[0].Groups = []string{"y"} }, "frozen"},
		"automation":              {func(f *Facts) { f.Initiators[0].Automation = true }, "frozen"},
		"nobody":                  {func(f *Facts) { f.Initiators = nil }, "frozen"},
		"an account of nobody":    {func(f *Facts) { f.Initiators[0].User = "" }, "frozen"},
		"another freeze holds":    {func(f *Facts) { f.Freezes = append(f.Freezes, catalog.Freeze{From: now, Until: now.Add(time.Hour)}) }, "frozen"},
		"a zone nobody knows": {func(f *Facts) {
			f.Freezes[0].Zone, f.Freezes[0].Windows = "Europe/Zuerich", []catalog.FreezeWindow{{Days: catalog.Weekdays()}}
		}, "zone_unknown"},
	} {
		f := facts()
		f.Freezes = []catalog.Freeze{{Name: "z", From: now, Until: now.Add(time.Hour), Exempt: []string{"x"}, InFlight: catalog.InFlightAbort}}
		f.Initiators[0].Groups = []string{"x"}
		c.change(&f)
		if d := Freeze(f, now); d.Code != c.code || (d.Verdict == lockkeeper.Pass) != (c.code == "not_frozen") {
			t.Errorf("%s: %s %s", name, d.Verdict, d.Code)
		}
		if d, _ := InFlight(f, false, now); (d.Verdict == lockkeeper.Pass) != (c.code == "not_frozen" || name == "another freeze holds") {
			t.Errorf("%s, while it runs: %s %s", name, d.Verdict, d.Code)
		}
	}
}
