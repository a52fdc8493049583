package keeper

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"pgregory.net/rapid"
)

// onceRules let votes on production count for all of a run.
func onceRules(pairs ...string) string {
	return rulesWith(append(pairs, "approval: {count: 1, groups: [managers]}", "approval: {count: 1, groups: [managers], once: true}",
		"approval: {count: 1, groups: [security], review: security}", "approval: {count: 1, groups: [security], review: security, once: true}")...)
}

// through lets a deployment of run 2 through with the votes of bob and cat.
func through(t *testing.T, text string) (*deploying, lockkeeper.Workload) {
	c := deployCore(t, text)
	must(t, c.record(c.job("1", "10", "", "1001", 0), 0))
	j := c.job("2", "11", "production", "1001", 0)
	must(t, c.open("d-a", j, "production", 0))
	must(t, c.approve("bob", "d-a", time.Second))
	must(t, c.approve("cat", "d-a", 2*time.Second))
	must(t, c.claim("d-a", j, 3*time.Second))
	return c, j
}

func (c *deploying) finish(id string, code int, at time.Duration) error {
	return c.as(Caller{Holder: id}, endDeployment{Deployment: id, ExitCode: code}, at)
}

// TestApprovedOnce lets other jobs of a run through by the votes on the first, whether
// that runs still, has ended, or they waited beside it; and nothing without once.
func TestApprovedOnce(t *testing.T) {
	c, _ := through(t, onceRules())
	second := c.job("2", "12", "production", "1001", 0)
	must(t, c.open("d-b", second, "production", 4*time.Second))
	must(t, c.finish("d-a", 0, 5*time.Second))
	must(t, c.claim("d-b", second, 6*time.Second))
	d := c.Deployments["d-b"]
	if len(d.Votes) != 2 || d.Votes[0].From != "d-a" || !slices.Equal(d.Votes[0].Fills, []string{"managers"}) || !strings.Contains(spelled(d.Lease.Gate), "(carried from d-a)") {
		t.Errorf("d-b has the votes %+v and the gate %s", d.Votes, spelled(d.Lease.Gate))
	}
	f, err := c.facts(d, began.Add(7*time.Second))
	must(t, err)
	if standing := c.standing(d, f, began.Add(7*time.Second)); !standing.Passed(began.Add(7 * time.Second)) {
		t.Errorf("it does not stand: %+v", standing)
	}
	must(t, c.finish("d-b", 0, 8*time.Second))
	third := c.job("2", "13", "production", "1001", 0)
	must(t, c.open("d-c", third, "production", 9*time.Second))
	must(t, c.claim("d-c", third, 10*time.Second))
	if v := c.Deployments["d-c"].Votes; len(v) != 2 || v[0].From != "d-a" {
		t.Errorf("d-c has the votes %+v", v)
	}

	c, _ = through(t, rulesWith())
	second = c.job("2", "12", "production", "1001", 0)
	must(t, c.open("d-b", second, "production", 4*time.Second))
	if err := c.claim("d-b", second, 5*time.Second); codeOf(err) != "approvals_missing" || len(c.Shared) != 0 {
		t.Errorf("without once: %v", err)
	}
}

func spelled(d lockkeeper.Decision) string {
	out := d.Sentence
	for _, b := range d.Because {
		out += " " + spelled(b)
	}
	return out
}

// TestNotApprovedOnce asks people again for everything else, and once something speaks
// against what they said.
func TestNotApprovedOnce(t *testing.T) {
	later := onceRules()
	tests := map[string]struct {
		rules string
		then  func(c *deploying, first lockkeeper.Workload)
		run   string
		job   func(j *lockkeeper.Workload)
		open  func(o *openDeployment)
		at    time.Duration
		code  string
	}{
		"nothing":        {},
		"another run":    {run: "3", code: "approvals_missing"},
		"another commit": {job: func(j *lockkeeper.Workload) { j.Commit.Value = strings.Repeat("b", 40) }, code: "artifact_claimed"},
		"parameters":     {open: func(o *openDeployment) { o.Parameters = map[string]string{"a": "b"} }, code: "approvals_missing"},
		"another person": {job: func(j *lockkeeper.Workload) { j.Actor.Value = "1004" }, code: "approvals_missing"},
		"his own":        {job: func(j *lockkeeper.Workload) { j.Actor.Value = "1002" }, code: "approvals_missing"},
		"detached":       {open: func(o *openDeployment) { o.Detached = true }},
		"withdrawn": {then: func(c *deploying, _ lockkeeper.Workload) {
			must(c.t, c.user("bob", withdrawApproval{Deployment: "d-a"}, 3*time.Second))
		}, code: "approvals_missing"},
		"withdrawn later": {then: func(c *deploying, _ lockkeeper.Workload) {
			must(c.t, c.finish("d-a", 0, 3*time.Second))
			must(c.t, c.user("bob", withdrawApproval{Deployment: "d-a"}, 3*time.Second))
		}, code: "approvals_missing"},
		"succeeded": {then: func(c *deploying, _ lockkeeper.Workload) { must(c.t, c.finish("d-a", 0, 3*time.Second)) }},
		"failed":    {then: func(c *deploying, _ lockkeeper.Workload) { must(c.t, c.finish("d-a", 1, 3*time.Second)) }, code: "approvals_missing"},
		"revoked": {then: func(c *deploying, _ lockkeeper.Workload) {
			must(c.t, c.user("dora", revokeLease{Deployment: "d-a", Reason: "stop"}, 3*time.Second))
		}, code: "approvals_missing"},
		"he left": {then: func(c *deploying, _ lockkeeper.Workload) {
			c.rules = mustRules(c.t, strings.Replace(later, "bob, cat, eve]", "cat, eve]", 1))
		}, code: "approvals_missing"},
		"it asks for more": {then: func(c *deploying, _ lockkeeper.Workload) {
			c.rules = mustRules(c.t, strings.Replace(later, "count: 1, groups: [managers]", "count: 2, groups: [managers]", 1))
		}, code: "approvals_missing"},
		"it says otherwise": {then: func(c *deploying, _ lockkeeper.Workload) {
			c.rules = mustRules(c.t, strings.Replace(later, "groups: [managers], once: true", "groups: [managers], instructions: look, once: true", 1))
		}, code: "approvals_missing"},
		"too old":        {at: 2*time.Hour + time.Second, code: "approvals_missing"},
		"nearly too old": {at: 2*time.Hour - time.Second},
		"no more valid":  {rules: strings.Replace(later, "groups: [managers], once: true", "groups: [managers], validity: 30m, once: true", 1), at: 31 * time.Minute, code: "approvals_missing"},
		"he is off": {then: func(c *deploying, _ lockkeeper.Workload) {
			must(c.t, c.finish("d-a", 0, 3*time.Second))
			for _, ev := range c.departs(Caller{Keeper: true}, "bob", "left", c.rules, began.Add(4*time.Second)) {
				must(c.t, ev.apply(c.State, Entry{}))
			}
		}, code: "approvals_missing"},
		"an incident": {then: func(c *deploying, _ lockkeeper.Workload) {
			must(c.t, (&incidentOpened{Incident: Incident{ID: "i-1"}}).apply(c.State, Entry{}))
			must(c.t, (&incidentClosed{ID: "i-1"}).apply(c.State, Entry{}))
		}, code: "approvals_missing"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			rules := test.rules
			if rules == "" {
				rules = later
			}
			c, first := through(t, rules)
			if test.then != nil {
				test.then(c, first)
			}
			run, at := "2", 5*time.Second
			if test.run != "" {
				run = test.run
			}
			if test.at > 0 {
				must(t, c.finish("d-a", 0, 4*time.Second))
				at = test.at
				c.Deployments["d-a"] = nil
				delete(c.Deployments, "d-a")
			}
			j := c.job(run, "12", "production", "1001", at)
			if test.job != nil {
				test.job(&j)
			}
			o := openDeployment{ID: "d-b", Job: j, Environment: "production", Artifacts: []lockkeeper.Artifact{app}, Handle: HandleDigest("h")}
			if test.open != nil {
				test.open(&o)
			}
			err := c.as(Caller{Workload: &j}, o, at)
			if err == nil {
				err = c.claim("d-b", j, at)
			}
			if saying(err) != test.code {
				t.Errorf("d-b: %v, want %q", err, test.code)
			}
		})
	}
}

// TestWithdrawnEverywhere takes a vote back wherever it counts, whichever deployment it
// is withdrawn from, and the lease of what runs by it.
func TestWithdrawnEverywhere(t *testing.T) {
	for _, from := range []string{"d-a", "d-b", "d-c"} {
		for _, ended := range []bool{false, true} {
			c, _ := through(t, onceRules())
			second := c.job("2", "12", "production", "1001", 0)
			must(t, c.open("d-b", second, "production", 4*time.Second))
			must(t, c.claim("d-b", second, 4*time.Second))
			must(t, c.open("d-c", c.job("2", "13", "production", "1001", 0), "production", 5*time.Second))
			if ended {
				must(t, c.finish("d-a", 0, 5*time.Second))
			}
			must(t, c.user("bob", withdrawApproval{Deployment: from}, 6*time.Second))
			if c.Deployments["d-a"] != nil || c.Deployments["d-b"] != nil {
				t.Errorf("withdrawn from %s, what ran runs on: %v", from, c.Deployments)
			}
			if err := c.claim("d-c", c.job("2", "13", "production", "1001", 0), 7*time.Second); codeOf(err) != "token_replayed" && codeOf(err) != "approvals_missing" {
				t.Errorf("withdrawn from %s: %v", from, err)
			}
			if err := c.user("bob", withdrawApproval{Deployment: from}, 8*time.Second); err == nil {
				t.Errorf("withdrawn twice from %s", from)
			}
		}
	}
}

// TestSharedIsBounded keeps no more votes than it may, and none that are too old.
func TestSharedIsBounded(t *testing.T) {
	s := newState()
	for n := range maxShared + 3 {
		s.share(&Shared{Subject: lockkeeper.Digest(fmt.Sprint(n)), Till: began.Add(time.Hour + time.Duration(n)*time.Second)}, began)
	}
	if len(s.Shared) != maxShared || s.Shared["2"] != nil || s.Shared["3"] == nil {
		t.Errorf("%d are kept", len(s.Shared))
	}
	s.share(&Shared{Subject: "last", Till: began.Add(48 * time.Hour)}, began.Add(24*time.Hour))
	if len(s.Shared) != 1 {
		t.Errorf("%d are kept after a day", len(s.Shared))
	}
}

// A onceModel says, of votes on production, which persons' votes on what may let a
// deployment of the run through: it knows nothing of digests, gates and folds.
type onceModel struct {
	now   time.Duration
	alive map[string]*onceAsk
	votes map[string]map[string]onceVote // subject → voter, by check and place: what let one through
	off   map[string]bool
}

type onceAsk struct {
	subject, actor string
	own            map[string]time.Duration // voter → when
	runs           bool
}

type onceVote struct {
	at    time.Duration
	check string
	actor string
}

// TestOnceModel holds what is let through in random sequences against a model (invariants
// 2 and 9): each place of each check is filled by a vote on this ask, or by one that let
// another one of the same run through, was not taken back, and of somebody who may still.
func TestOnceModel(t *testing.T) {
	reached := map[string]int{}
	untilSeen(t, reached, []string{"carried often", "withdrawn often"}, func(rt *rapid.T) {
		c := deployCore(t, strings.Replace(onceRules(), "groups: [managers], once: true", "groups: [managers], validity: 20m, once: true", 1))
		must(t, c.record(c.job("1", "10", "", "1099", 0), 0))
		m := onceModel{alive: map[string]*onceAsk{}, votes: map[string]map[string]onceVote{}, off: map[string]bool{}}
		jobs := map[string]lockkeeper.Workload{}
		pick := func(what string) string {
			var ids []string
			for id := range m.alive {
				ids = append(ids, id)
			}
			slices.Sort(ids)
			if len(ids) == 0 {
				rt.Skip()
			}
			return rapid.SampledFrom(ids).Draw(rt, what)
		}
		n := 0
		gone := func() {
			for id := range m.alive {
				if c.Deployments[id] == nil {
					delete(m.alive, id)
				}
			}
		}
		claim := func(rt *rapid.T, id string) {
			if a := m.alive[id]; !a.runs && c.claim(id, jobs[id], m.now) == nil {
				a.runs = true
				m.released(rt, id, c.Deployments[id], reached)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"": func(rt *rapid.T) { gone() },
			"open": func(rt *rapid.T) {
				n++
				id, run, actor := fmt.Sprintf("d-%d", n), rapid.SampledFrom([]string{"2", "3"}).Draw(rt, "run"), rapid.SampledFrom([]string{"1001", "1001", "1004"}).Draw(rt, "actor")
				j := c.job(run, fmt.Sprint(100+n), "production", actor, m.now)
				if c.open(id, j, "production", m.now) == nil {
					jobs[id], m.alive[id] = j, &onceAsk{subject: run, actor: actor, own: map[string]time.Duration{}}
				}
			},
			"approve": func(rt *rapid.T) {
				id, user := pick("id"), rapid.SampledFrom([]string{"bob", "cat", "eve"}).Draw(rt, "user")
				if c.approve(user, id, m.now) == nil {
					m.alive[id].own[user] = m.now
				}
			},
			"withdraw": func(rt *rapid.T) {
				id, user := pick("id"), rapid.SampledFrom([]string{"bob", "cat", "eve"}).Draw(rt, "user")
				if c.user(user, withdrawApproval{Deployment: id}, m.now) == nil {
					a := m.alive[id]
					if _, own := a.own[user]; !own || m.votes[a.subject][user].at == a.own[user] {
						delete(m.votes[a.subject], user)
					}
					delete(a.own, user)
					reached["withdrawn"]++
				}
			},
			"claim": func(rt *rapid.T) { claim(rt, pick("id")) },
			"approve and claim": func(rt *rapid.T) {
				id := pick("id")
				for _, user := range []string{"bob", "cat"} {
					if c.approve(user, id, m.now) == nil {
						m.alive[id].own[user] = m.now
					}
				}
				claim(rt, id)
			},
			"end": func(rt *rapid.T) {
				id, code := pick("id"), rapid.SampledFrom([]int{0, 0, 1}).Draw(rt, "code")
				if a := m.alive[id]; c.finish(id, code, m.now) == nil && code != 0 {
					delete(m.votes, a.subject)
				}
			},
			"leave": func(rt *rapid.T) {
				user := rapid.SampledFrom([]string{"bob", "cat", "eve"}).Draw(rt, "user")
				m.off[user] = !m.off[user]
				text := strings.Replace(onceRules(), "groups: [managers], once: true", "groups: [managers], validity: 20m, once: true", 1)
				for name, off := range m.off {
					if off {
						text = strings.Replace(text, "name: "+name+"\n", "name: "+name+"\noff: true\n", 1)
					}
				}
				c.rules = mustRules(t, text)
			},
			"wait": func(rt *rapid.T) {
				m.now += time.Duration(rapid.IntRange(1, 600).Draw(rt, "seconds")) * time.Second
				c.as(Caller{Keeper: true}, sweep{}, m.now)
				for id, a := range m.alive {
					if c.Deployments[id] == nil {
						delete(m.votes, a.subject)
					}
				}
			},
		})
		again := newState()
		for _, r := range c.past {
			e, ev, err := readEntry(r.Data)
			must(t, err)
			must(t, again.apply(e, ev))
		}
		if a, b := digestOfState(t, again), digestOfState(t, c.State); a != b {
			rt.Fatalf("the journal folds to another state")
		}
		for _, what := range []string{"carried", "withdrawn"} {
			if reached[what] >= 20 {
				reached[what+" often"]++
			}
		}
	})
}

func digestOfState(t *testing.T, s *State) lockkeeper.Digest {
	d, err := s.Digest()
	must(t, err)
	return d
}

// released checks what let a deployment through, and says what of it counts for others.
func (m *onceModel) released(rt *rapid.T, id string, d *Deployment, reached map[string]int) {
	a := m.alive[id]
	security := map[string]bool{"cat": true, "eve": true}
	var managers, reviewers []string
	for user, at := range a.own {
		if user != map[string]string{"1004": "eve"}[a.actor] && !m.off[user] {
			if m.now-at < 20*time.Minute {
				managers = append(managers, user)
			}
			if security[user] {
				reviewers = append(reviewers, user)
			}
		}
	}
	for user, v := range m.votes[a.subject] {
		if m.off[user] || v.actor != a.actor || user == map[string]string{"1004": "eve"}[a.actor] {
			continue
		}
		if v.check == "managers" && m.now-v.at < 20*time.Minute {
			managers = append(managers, user)
		}
		if v.check == "security" && m.now-v.at < 2*time.Hour {
			reviewers = append(reviewers, user)
		}
	}
	if !slices.ContainsFunc(managers, func(x string) bool { return slices.ContainsFunc(reviewers, func(y string) bool { return x != y }) }) {
		rt.Fatalf("%s of run %s by %s is let through with %v and %v: %s", id, a.subject, a.actor, managers, reviewers, spelled(d.Lease.Gate))
	}
	shared := map[string]onceVote{}
	for _, v := range d.Votes {
		if v.From != "" {
			reached["carried"]++
			a.own[v.User] = v.At.Sub(began)
		}
	}
	for _, x := range d.Lease.Gate.Because {
		for _, v := range d.Votes {
			if name, is := strings.CutPrefix(x.Subject, "check "); is && (name == "managers" || name == "security") && strings.Contains(x.Sentence, ": "+v.User) {
				shared[v.User] = onceVote{at: v.At.Sub(began), check: name, actor: a.actor}
			}
		}
	}
	m.votes[a.subject] = shared
}

// TestCarriedByBothDemands carries no vote to an ask that was opened while the check
// demanded something else, though it demands the same again by now.
func TestCarriedByBothDemands(t *testing.T) {
	c, _ := through(t, onceRules())
	before := c.rules
	c.rules = mustRules(t, strings.Replace(onceRules(), "groups: [managers], once: true", "groups: [managers], instructions: look, once: true", 1))
	j := c.job("2", "12", "production", "1001", 0)
	must(t, c.open("d-b", j, "production", 4*time.Second))
	c.rules = before
	if err := c.claim("d-b", j, 5*time.Second); codeOf(err) != "approvals_missing" {
		t.Errorf("opened under another demand: %v", err)
	}
}

// TestVoidedIsNotShared takes, with an activation, the votes that were given under it
// from what counts for later, and only those.
func TestVoidedIsNotShared(t *testing.T) {
	c, _ := through(t, onceRules())
	for _, o := range c.Shared {
		o.Votes[0].Activation = "a-1"
	}
	shared := func() (n int) {
		for _, o := range c.Shared {
			n += len(o.Votes)
		}
		return n
	}
	must(t, (&votesVoided{Activation: "a-2"}).apply(c.State, Entry{}))
	if shared() != 2 {
		t.Errorf("another activation took votes: %d are left", shared())
	}
	must(t, (&votesVoided{Activation: "a-1"}).apply(c.State, Entry{}))
	if shared() != 1 {
		t.Errorf("%d votes are left", shared())
	}
	if err := c.open("d-b", c.job("2", "12", "production", "1001", 0), "production", 4*time.Second); err != nil {
		t.Fatal(err)
	}
	if d := c.view(c.Deployments["d-b"], began.Add(5*time.Second)); d.Gate.Code != "approvals_missing" {
		t.Errorf("d-b stands at %s", d.Gate.Sentence)
	}
}
