package keeper

import (
	"fmt"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// A heldRun is what the model knows of a run that its platform holds before canary, whose
// gate takes one manager.
type heldRun struct {
	hold, run  string
	mark       string
	deployment string
	digest     lockkeeper.Digest
	opened     lockkeeper.Moment
	votes      map[string]bool
	recorded   bool
	released   lockkeeper.Moment
	over       bool
	told       bool
}

func (h *heldRun) runs(now lockkeeper.Moment) bool {
	return !h.over && !h.released.IsZero() && now.Before(h.released.Add(10*time.Minute))
}

// passes says whether the held run may be let through now.
func (h *heldRun) passes(m *gateModel) bool {
	if h.over || h.deployment == "" || !h.released.IsZero() || !m.now.Before(h.opened.Add(2*time.Hour)) {
		return false
	}
	for user := range h.votes {
		if m.member(user, false) {
			return true
		}
	}
	return false
}

// canary is the run as the platform's API says it is.
func (g *gateDrive) canary(run string) lockkeeper.Workload {
	j := looked(run, "1001", 1)
	j.Job, j.Environment = lockkeeper.Fact{Value: "environment/canary", Mark: j.Job.Mark}, lockkeeper.Fact{Value: "canary", Mark: j.Environment.Mark}
	return j
}

// heldStep does something about a run that the platform holds.
func (g *gateDrive) heldStep() {
	m := g.m
	if len(g.held) == 0 || g.one(12, "another run") && len(g.held) < 6 {
		n := len(g.held)
		g.held = append(g.held, &heldRun{run: fmt.Sprint(9000 + n), mark: fmt.Sprint(500 + n), votes: map[string]bool{}})
	}
	h := g.held[len(g.held)-1-g.uniform(min(2, len(g.held)), "held")]
	asked := HoldAsked{Provider: "github", Organisation: "7001", Repository: "8001", Place: "acme/payments", Run: h.run, Environment: "canary", Installation: "9", Mark: h.mark}
	if h.hold == "" {
		id, err := g.k.NoteHold(g.ctx, asked)
		g.check("held noted", err, yes)
		h.hold = id
		return
	}
	if g.one(10, "delivered again") { // the platform delivers its message again
		id, err := g.k.NoteHold(g.ctx, asked)
		if g.check("held again", err, yes); id != h.hold {
			g.t.Fatalf("a message that comes again opens %s beside %s", id, h.hold)
		}
		g.seen["held again"]++
		return
	}
	if h.deployment == "" {
		g.heldOpens(h)
		return
	}
	switch g.pick("about the held", "vote", "vote", "release", "release", "tell", "tell", "lose") {
	case "vote":
		user := g.pick("user", "bob", "cat", "ann", "oz")
		waits := !h.over && h.released.IsZero() && m.now.Before(h.opened.Add(2*time.Hour))
		err := g.k.Vote(g.ctx, Caller{User: user}, h.deployment, true, h.digest, "")
		if g.check("held vote", err, saysIf(waits && m.member(user, false) && !h.votes[user])); err == nil {
			h.votes[user] = true
		}
	case "release":
		passes := h.passes(m)
		err := g.k.ReleaseHold(g.ctx, h.hold, g.canary(h.run))
		g.check("held release", err, saysIf(passes))
		if err == nil {
			h.released = m.now
			g.seen["held let through"]++
		} else if codeOf(err) == "hold_waits" {
			g.seen["held waits"]++
		}
	case "tell":
		g.heldTold(h)
	case "lose":
		if !g.one(3, "lose") {
			return
		}
		live := h.runs(m.now) || h.released.IsZero()
		if err := g.k.LoseHold(g.ctx, h.hold, Succeeded, "it ended"); err == nil && live {
			h.over = true
		}
	}
}

func (g *gateDrive) heldOpens(h *heldRun) {
	if !h.recorded && g.one(2, "record") {
		_, err := g.k.RecordArtifacts(g.ctx, g.job(h.run, "10", "", "1009"), "", modelArtifacts[:1])
		g.check("held recorded", err, yes)
		h.recorded = true
		return
	}
	err := g.k.OpenHold(g.ctx, h.hold, g.canary(h.run))
	if g.check("held open", err, saysIf(h.recorded)); err != nil {
		return
	}
	hold := g.holdOf(h)
	if hold.Deployment == "" {
		g.t.Fatalf("nothing was opened: %+v %+v", hold, hold.Owed)
	}
	v, err := g.k.Deployment(g.ctx, Caller{User: "dora"}, hold.Deployment)
	if err != nil {
		g.t.Fatal(err)
	}
	h.deployment, h.digest, h.opened = hold.Deployment, v.Digest, g.m.now
}

func (g *gateDrive) holdOf(h *heldRun) Hold {
	list := g.k.HeldRuns(Caller{User: "dora"})
	i := slices.IndexFunc(list, func(o Hold) bool { return o.ID == h.hold })
	if i < 0 {
		g.t.Fatalf("the hold %s is lost", h.hold)
	}
	return list[i]
}

// heldTold tells the platform what it is owed: yes only while what let the run through
// stands still, and no once it has ended without.
func (g *gateDrive) heldTold(h *heldRun) {
	m := g.m
	hold := g.holdOf(h)
	if hold.Owed == nil {
		if !h.released.IsZero() && !h.over {
			g.t.Fatalf("it was let through, and the platform is owed nothing: %+v", hold)
		}
		err := g.k.TellHold(g.ctx, h.hold, true, "", nil)
		if again := g.holdOf(h); err == nil && !again.Told.IsZero() {
			g.t.Fatalf("told yes, and nothing was owed: %+v", again)
		}
		return
	}
	if hold.Owed.Approve && h.released.IsZero() {
		g.t.Fatalf("a yes is owed for what was never let through: %+v", hold)
	}
	if stands := g.k.HoldStands(h.hold); stands && hold.Owed.Approve && !h.told && !(h.runs(m.now) && h.still(m)) {
		g.t.Fatalf("a yes stands for what does not: %+v %+v", hold, h)
	}
	if !hold.Told.IsZero() {
		return
	}
	wrong := g.one(4, "wrong answer")
	err := g.k.TellHold(g.ctx, h.hold, hold.Owed.Approve != wrong, "", nil)
	if wrong {
		g.check("held told another", err, no)
		return
	}
	g.check("held told", err, yes)
	h.told = true
	g.seen[map[bool]string{true: "held told yes", false: "held told no"}[hold.Owed.Approve]]++
}

// still says whether somebody who approved it may approve still.
func (h *heldRun) still(m *gateModel) bool {
	for user := range h.votes {
		if m.member(user, false) {
			return true
		}
	}
	return false
}
