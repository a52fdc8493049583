package keeper

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"pgregory.net/rapid"
)

// drifting are the provisioners of the duty tests under an action on drift.
func drifting(action string) string {
	return strings.ReplaceAll(strings.ReplaceAll(provisioned, "postgresql:", "drift: "+action+", postgresql:"), "webhook:", "drift: "+action+", webhook:")
}

// A driftWorld is a dutyWorld whose target is changed by others, too.
type driftWorld struct {
	*dutyWorld
	past    map[lockkeeper.Digest]pastDuty // what ended, by what it was about
	foreign lockkeeper.Digest              // an account that others made
}

// note remembers the duties that have ended since before.
func (w *driftWorld) note(before map[string]*Duty) {
	for id, d := range before {
		if w.c.Duties[id] == nil {
			w.past[d.Target] = pastDuty{*d, w.now}
		}
	}
}

func (w *driftWorld) duties() map[string]*Duty {
	out := map[string]*Duty{}
	for id, d := range w.c.Duties {
		out[id] = d.clone()
	}
	return out
}

// scan reads the target as it is and reports that: late, if later things were done in
// between.
func (w *driftWorld) scan(between func()) {
	for _, s := range w.c.scans(w.now) {
		c := driftReport{Provisioner: s.Provisioner, Began: s.Began, Attempts: map[string]int{}, Past: map[int]pastDuty{}}
		expected := map[lockkeeper.Digest]bool{}
		for _, d := range s.Duties {
			c.Attempts[d.ID] = d.Attempt
			if expected[d.Target] = true; !w.far.has[d.Target] {
				c.Seen = append(c.Seen, Seen{Kind: Vanished, Account: d.Account, Duty: d.ID})
			}
		}
		for target, has := range w.far.has {
			switch p, own := w.past[target]; {
			case !has || expected[target]:
			case target == w.foreign:
				c.Seen = append(c.Seen, Seen{Kind: AssignedOutside, Account: "app"})
			case own && p.Duty.Provisioner == s.Provisioner:
				c.Past[len(c.Seen)] = p
				c.Seen = append(c.Seen, Seen{Kind: LeftOver, Account: p.Duty.Account, Duty: p.Duty.ID, Target: target})
			}
		}
		between()
		if _, err := w.step("", c); err != nil {
			w.t.Fatalf("a report is refused: %v", err)
		}
	}
}

// TestInvariant12Drift lets others delete and make accounts at the target beside what
// is activated, ended, granted and taken away. Whatever the order: only what was
// touched is marked; what others made is never taken; and with repair or revoke the
// target comes to hold what activations give, and nothing else of ours.
func TestInvariant12Drift(t *testing.T) {
	seen := map[string]int{}
	untilSeen(t, seen, []string{"drift.found", "duty.reopened", "activation.ended", "duty.ended"}, func(rt *rapid.T) {
		action := rapid.SampledFrom([]string{catalog.AlertDrift, catalog.RepairDrift, catalog.RevokeDrift}).Draw(rt, "action")
		d := &dutyWorld{t: rt, c: &core{world: world{State: newState(), rules: accessLawOf(t, "<deny>", drifting(action))}}, mirror: newState(), far: &farTarget{has: map[lockkeeper.Digest]bool{}}, now: began, seen: seen}
		w := &driftWorld{dutyWorld: d, past: map[lockkeeper.Digest]pastDuty{}, foreign: lockkeeper.DigestOf([]byte("foreign"))}
		w.far.has[w.foreign] = true
		if _, err := w.step("", firstEntry{}); err != nil {
			rt.Fatal(err)
		}
		victims := map[string]bool{}
		n := 0
		do := func() {
			n++
			before := w.duties()
			switch rapid.IntRange(0, 8).Draw(rt, "what") {
			case 0, 1:
				w.activate(n, rapid.SampledFrom([]string{"ann", "bob"}).Draw(rt, "user"), rapid.SampledFrom([]lockkeeper.Scope{"/projects/p", "/projects/p/environments/f"}).Draw(rt, "scope"), time.Hour)
			case 2:
				if len(w.ids) > 0 {
					_, _ = w.step("dora", endActivation{rapid.SampledFrom(w.ids).Draw(rt, "activation"), "enough"})
				}
			case 3, 4:
				w.work(true)
			case 5:
				w.later(rapid.SampledFrom([]time.Duration{time.Second, 20 * time.Second, time.Minute}).Draw(rt, "later"))
			case 6:
				_, _ = w.step("", sweep{})
			case 7: // others take an account away
				for _, id := range slices.Sorted(maps.Keys(w.c.Duties)) {
					if o := w.c.Duties[id]; w.far.has[o.Target] && rapid.Bool().Draw(rt, "delete") {
						w.far.has[o.Target] = false
						for _, x := range w.c.Duties {
							victims[x.Activation] = victims[x.Activation] || x.Target == o.Target
						}
					}
				}
			case 8: // others make one again that was taken away
				for _, target := range slices.SortedFunc(maps.Keys(w.past), func(a, b lockkeeper.Digest) int { return strings.Compare(string(a), string(b)) }) {
					if rapid.Bool().Draw(rt, "make") {
						w.far.has[target] = true
					}
				}
			}
			w.note(before)
		}
		for range rapid.IntRange(10, 60).Draw(rt, "steps") {
			if rapid.IntRange(0, 3).Draw(rt, "scan") > 0 {
				do()
				continue
			}
			before := w.duties()
			w.scan(func() {
				if rapid.Bool().Draw(rt, "late") {
					do()
				}
			})
			w.note(before)
			for id, a := range w.c.Activations {
				if !a.Modified.IsZero() && !victims[id] {
					rt.Fatalf("%s is marked, and nobody touched it", id)
				}
			}
			if !w.far.has[w.foreign] {
				rt.Fatal("what others gave was taken away")
			}
			one, _ := w.c.Digest()
			if two, _ := w.mirror.Digest(); one != two {
				rt.Fatal("the state is not the fold of the journal (invariant 1)")
			}
		}
		w.settle(action)
	})
}

// settle scans and works until nothing moves any more, and expects that the target
// holds what it should, as far as the action says.
func (w *driftWorld) settle(action string) {
	for range 8 {
		before := w.duties()
		w.later(time.Minute)
		_, _ = w.step("", sweep{})
		for w.work(true) {
		}
		w.note(before)
		w.later(10 * time.Second)
		before = w.duties()
		w.scan(func() {})
		w.note(before)
	}
	for w.work(true) {
	}
	right := map[lockkeeper.Digest]bool{w.foreign: true}
	lasting := map[lockkeeper.Digest]bool{} // taken away too often to be granted again
	for _, d := range w.c.Duties {
		if !w.c.finished(d, w.now) {
			right[d.Target] = true
			lasting[d.Target] = lasting[d.Target] || d.Repaired >= maxRepairs
		}
	}
	for target := range right {
		if !w.far.has[target] && action == catalog.RepairDrift && !lasting[target] {
			w.t.Fatal("what is activated is not granted again")
		}
	}
	for target, has := range w.far.has {
		if has && !right[target] && action != catalog.AlertDrift {
			w.t.Fatalf("an account of ours is left (invariant 12): %+v", w.past[target])
		}
	}
	found := 0
	for _, list := range w.c.Drifted {
		for _, d := range list {
			if d.Kind != AssignedOutside {
				found++
			}
		}
	}
	if found > 0 && action == catalog.RevokeDrift {
		w.t.Fatalf("a drift is left: %+v", w.c.Drifted)
	}
}

// grantedCore is a core whose activation a-1 has its account, and the report of a scan
// that saw something of it.
func grantedCore(t *testing.T, action string) (*core, func(by string, cmd command, at time.Duration) error, func(kind string) driftReport) {
	t.Helper()
	c, do := accessCore(t, "<deny>", drifting(action))
	activated(t, c, do, "1", "/projects/p/environments/e", 0)
	must(t, do("", beginEffect{"o-1-1", 1, GrantVerb, 30 * time.Second}, 0))
	must(t, do("", endEffect{"o-1-1", 1, Outcome{}, 0.5}, 0))
	return c, do, func(kind string) driftReport {
		return driftReport{Provisioner: "database", Began: began.Add(time.Minute), Attempts: map[string]int{"o-1-1": c.Duties["o-1-1"].Attempt}, Seen: []Seen{{Kind: kind, Account: "x", Duty: "o-1-1"}}}
	}
}

// What a scan saw of an account that something was done about since says nothing, and
// neither does what nobody vouches for.
func TestDriftFence(t *testing.T) {
	for name, change := range map[string]func(c *core, do func(string, command, time.Duration) error, r *driftReport){
		"another attempt":     func(_ *core, _ func(string, command, time.Duration) error, r *driftReport) { r.Attempts["o-1-1"] = 2 },
		"not listed":          func(_ *core, _ func(string, command, time.Duration) error, r *driftReport) { r.Attempts = nil },
		"another provisioner": func(_ *core, _ func(string, command, time.Duration) error, r *driftReport) { r.Provisioner = "hook" },
		"ended": func(_ *core, do func(string, command, time.Duration) error, _ *driftReport) {
			must(t, do("ann", endActivation{"a-1", ""}, time.Minute))
		},
		"no such duty": func(_ *core, _ func(string, command, time.Duration) error, r *driftReport) { r.Seen[0].Duty = "o-9-9" },
	} {
		t.Run(name, func(t *testing.T) {
			c, do, report := grantedCore(t, catalog.RevokeDrift)
			r := report(Vanished)
			change(c, do, &r)
			size := c.Size
			must(t, do("", r, 2*time.Minute))
			if c.Size != size || len(c.Drifted) > 0 {
				t.Errorf("it counts: %+v", c.Drifted)
			}
		})
	}
	c, do, report := grantedCore(t, catalog.RevokeDrift)
	want(t, do("ann", report(Vanished), time.Minute), "machine_only")
	r := report(LeftOver) // answered for
	must(t, do("", r, time.Minute))
	r.Seen[0] = Seen{Kind: LeftOver, Account: "lk_x", Duty: "o-8-1"}
	r.Past = map[int]pastDuty{0: {Duty{ID: "o-8-1", Activation: "a-8", User: "bob", Provisioner: "database", Account: "lk_x"}, r.Began.Add(-time.Second)}} // ended just before
	must(t, do("", r, time.Minute))
	if len(c.Drifted) > 0 || c.Duties["o-8-1"] != nil || !c.Activations["a-1"].Modified.IsZero() {
		t.Errorf("it counts: %+v", c.Drifted)
	}
}

// Nobody is outlasted: after some repairs somebody is only told; and the same scan
// again writes nothing.
func TestDriftRepairsEnd(t *testing.T) {
	c, do, report := grantedCore(t, catalog.RepairDrift)
	at := time.Minute
	for n := 1; n <= maxRepairs+2; n++ {
		at += time.Minute
		must(t, do("", report(Changed), at))
		d := c.Duties["o-1-1"]
		if n > maxRepairs {
			size := c.Size
			must(t, do("", report(Changed), at))
			if d.Repaired != maxRepairs || d.Status != DutyGranted || c.Size != size || len(c.Drifted["database"]) != 1 {
				t.Fatalf("%d: %+v", n, d)
			}
			continue
		}
		if d.Repaired != n || d.Status != DutyTaken {
			t.Fatalf("%d: %+v", n, d)
		}
		want(t, do("ann", handCredential{Activation: "a-1", Kind: "postgresql"}, at), "not_granted_yet")
		must(t, do("", beginEffect{"o-1-1", d.Attempt + 1, GrantVerb, 30 * time.Second}, at))
		must(t, do("", endEffect{"o-1-1", d.Attempt, Outcome{}, 0.5}, at))
	}
	if c.Activations["a-1"].Modified != began.Add(2*time.Minute) {
		t.Errorf("marked at %s", c.Activations["a-1"].Modified)
	}
}

// A target that holds a multitude of others' accounts fills neither state nor journal,
// and a provisioner that goes takes its drift along.
func TestDriftIsBounded(t *testing.T) {
	c, do, report := grantedCore(t, catalog.AlertDrift)
	r := report(AssignedOutside)
	r.Seen = nil
	for i := range 2_000 {
		r.Seen = append(r.Seen, Seen{Kind: AssignedOutside, Account: fmt.Sprintf("app%04d\x1b[31m", i), Detail: strings.Repeat("x", 10_000)})
	}
	must(t, do("", r, time.Minute))
	if list := c.Drifted["database"]; len(list) != maxDrifts || strings.Contains(list[0].Account, "\x1b") || len(list[0].Detail) > maxComment {
		t.Errorf("%d drifts: %+v", len(list), list[0])
	}
	c.rules = accessLawOf(t)
	if s := c.scans(began.Add(time.Minute)); len(s) != 1 || s[0].Terms.Kind() != "" {
		t.Errorf("%+v", s)
	}
	must(t, do("", driftReport{Provisioner: "database"}, 2*time.Minute))
	if len(c.Drifted) != 0 {
		t.Error("it stays")
	}
}

// Who takes a duty anew is the journal alone: what it does not know is others'.
func TestDriftOfAnotherJournal(t *testing.T) {
	k, _ := started(t, Options{})
	got, err := k.pastOf(context.Background(), Scan{Provisioner: "database"}, []Seen{{Kind: LeftOver, Duty: "o-unknown-1"}, {Kind: LeftOver, Duty: "../x"}, {Kind: LeftOver, Target: lockkeeper.DigestOf([]byte("x"))}, {Kind: LeftOver}})
	must(t, err)
	if len(got) != 0 {
		t.Errorf("%+v", got)
	}
}
