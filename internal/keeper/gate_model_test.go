package keeper

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// What follows is the gate as docs/design and the invariants of release gates describe it,
// written a second time and without looking at the gate: what may be let through at an
// instant, what must not be, and where the rules leave it open. TestGateModel holds a real
// keeper against it.

// A say is what the model says of an outcome.
type say int

const (
	no     say = iota // it must be refused
	either            // the rules leave it open
	yes               // it must be given
)

func (s say) String() string { return [...]string{"no", "either", "yes"}[s] }

func saysIf(b bool) say {
	if b {
		return yes
	}
	return no
}

// A stance is what the catalog says.
type stance struct {
	two     bool // managers: two persons, not one
	tests   int  // how old test results may be, in minutes; 0: none are asked for
	service bool // a service must say yes, and that counts for a minute
	later   bool // a service answers later, once
	office  bool // soft: hours that are not open on this day
	hasty   bool // an ask waits for twenty minutes, not for two hours
	window  bool // deployments, and what deploys again, are frozen from 09:20 to 09:40
	out     string
}

// environment is the part of it that stands in the environment's own document.
func (p stance) environment() stance {
	p.window, p.out = false, ""
	return p
}

func (p stance) text() string {
	checks := fmt.Sprintf("  - {name: managers, approval: {count: %d, groups: [managers]}}\n", 1+map[bool]int{true: 1}[p.two]) +
		"  - {name: security, approval: {count: 1, groups: [security], review: security}}\n  - {name: main, branches: {allowed: [refs/heads/main]}}\n"
	if p.tests > 0 {
		checks += fmt.Sprintf("  - {name: tests, tests: {names: [unit], least: 2, age: %dm}}\n", p.tests)
	}
	if p.service {
		checks += "  - {name: service, call: {service: {url: 'https://service.example/{digest}', criteria: body.ok == true, retry: 10s, timeout: 5s}, validity: 60s}}\n"
	}
	if p.later {
		checks += "  - {name: later, call: {service: {url: 'https://later.example/', criteria: 'body.verdict == \"pass\" && body.digest == ask.digest'}, callback: true}}\n"
	}
	if p.office {
		checks += "  - {name: office, hours: {zone: UTC, windows: [{days: [sunday], from: \"09:00\", to: \"10:00\"}]}, soft: true}\n"
	}
	frozen := ""
	if p.window {
		frozen = "---\n{kind: Freeze, name: window, scope: /projects/payments/environments/production, from: 2026-11-02T09:20:00Z, until: 2026-11-02T09:40:00Z, reason: quiet, actions: [deploy]}\n"
	}
	members := func(list ...string) string {
		return strings.Join(slices.DeleteFunc(list, func(u string) bool { return u == p.out }), ", ")
	}
	return strings.NewReplacer("<checks>", checks, "<patience>", map[bool]string{false: "2h", true: "20m"}[p.hasty], "<frozen>", frozen, "<managers>", members("ann", "bob", "cat", "eve", "fay"), "<security>", members("cat", "eve")).Replace(modelRules)
}

const modelRules = `{kind: User, name: dora}
---
{kind: User, name: ann, ids: [{provider: github, id: "1001"}]}
---
{kind: User, name: zoe, ids: [{provider: github, id: "1009"}]}
---
{kind: User, name: bob}
---
{kind: User, name: cat}
---
{kind: User, name: eve}
---
{kind: User, name: fay}
---
{kind: User, name: oz}
---
{kind: User, name: una}
---
{kind: User, name: rev}
---
{kind: Group, name: managers, users: [<managers>]}
---
{kind: Group, name: starters, users: [ann, zoe]}
---
{kind: Group, name: security, users: [<security>]}
---
{kind: Group, name: overriders, users: [oz, una]}
---
{kind: Group, name: auditors, users: [rev, dora]}
---
{kind: Assignment, name: administration, role: organisation-administrator, principal: 'user:dora', scope: /}
---
{kind: Assignment, name: releases, role: release-manager, principal: 'group:managers', scope: /projects/payments}
---
{kind: Assignment, name: starts, role: release-manager, principal: 'group:starters', scope: /projects/payments}
---
{kind: Assignment, name: overrides, role: release-manager, principal: 'group:overriders', scope: /projects/payments}
---
{kind: Assignment, name: lifts, role: environment-administrator, principal: 'user:rev', scope: /projects/payments}
---
{kind: Project, name: payments}
---
{kind: Provider, name: github, platform: github, issuer: 'https://ci.example', app: {id: "77"}}
---
kind: Pipeline
name: release
project: payments
provider: github
organisation: "7001"
repository: "8001"
definition: release.yml
stages:
  - {name: build, evidence: [tests], trust: {events: [push], refs: [refs/heads/main]}}
  - {name: deploy, trust: {environment: production, events: [push], refs: [refs/heads/main]}}
  - {name: deploy-canary, trust: {environment: canary, selfHosted: true, events: [push], refs: [refs/heads/main]}}
---
kind: Environment
name: production
project: payments
tier: production
lease: 10m
heartbeat: 4m
patience: <patience>
recordAge: 100h
checks:
<checks>  - {name: one, lock: {mode: sequential}}
override: {groups: [overriders], reviewers: {groups: [auditors]}, budget: 20}
---
kind: Environment
name: canary
project: payments
tier: preproduction
lease: 10m
patience: 2h
heldBy: github
checks:
  - {name: managers, approval: {count: 1, groups: [managers]}}
---
{kind: Identity, name: payments-production, project: payments, environment: production, audiences: ['https://target.example'], lifetime: 2m, stages: [release/deploy]}
---
{kind: Identity, name: payments-canary, project: payments, environment: canary, audiences: ['https://target.example'], lifetime: 2m, stages: [release/deploy-canary]}
<frozen>`

// A stagedAsk is what the model knows of one ask to production.
type stagedAsk struct {
	id       string
	run      string
	artifact int
	action   string
	opened   lockkeeper.Moment
	digest   lockkeeper.Digest
	then     stance
	votes    map[string]bool
	answers  []modelAnswer // of the service
	verdict  int           // of the one that answers later: 0 none, 1 yes, 2 no
	over     *modelOverride
	asked    int // overrides
	ended    bool
	doubtful bool // a final no may have ended it
	started  lockkeeper.Moment
	ends     lockkeeper.Moment
	limit    lockkeeper.Moment
	waived   bool // it was let through by its override

	outwaited bool // its patience was over once, and stays so under other rules
}

type modelAnswer struct {
	at   lockkeeper.Moment
	good bool
}

type modelOverride struct {
	id      string
	opened  lockkeeper.Moment
	under   stance
	oz, una bool
	granted lockkeeper.Moment
	over    bool
}

type modelPiece struct {
	at       lockkeeper.Moment
	good     bool
	artifact int
}

type handFreeze struct {
	id       string
	from     lockkeeper.Moment
	until    lockkeeper.Moment
	inFlight string
	lifted   bool
}

// A gateModel is the world as the rules know it.
type gateModel struct {
	ticking sync.Mutex // over now
	now     lockkeeper.Moment
	law     stance
	asks    []*stagedAsk // oldest first
	pieces  []modelPiece
	freezes []handFreeze
	good    []int // artifacts that were deployed with success, oldest first
	freed   lockkeeper.Moment
	unswept bool // a lease has ended by the clock, and nobody has written that down yet
}

// patience is for how long an ask of a stance waits.
func (p stance) patience() time.Duration {
	if p.hasty {
		return 20 * time.Minute
	}
	return 2 * time.Hour
}

func (m *gateModel) waits(a *stagedAsk) bool {
	return !a.ended && !a.outwaited && a.started.IsZero() && m.now.Before(a.opened.Add(min(a.then.patience(), m.law.patience())))
}

func (m *gateModel) runs(a *stagedAsk) bool {
	return !a.ended && !a.started.IsZero() && m.now.Before(a.ends)
}

func (m *gateModel) holder() *stagedAsk {
	for _, a := range m.asks {
		if m.runs(a) {
			return a
		}
	}
	return nil
}

// member says whether a user may fill a place of a kind now. ann starts the runs, and zoe
// builds: neither approves.
func (m *gateModel) member(user string, security bool) bool {
	list := []string{"bob", "cat", "eve", "fay"}
	if security {
		list = []string{"cat", "eve"}
	}
	return user != m.law.out && slices.Contains(list, user)
}

// enough says whether distinct persons, members still, fill the places of a stance.
func (m *gateModel) enough(a *stagedAsk, p stance) bool {
	managers, security := 0, 0
	for user := range a.votes {
		if m.member(user, false) {
			managers++
		}
		if m.member(user, true) {
			security++
		}
	}
	return security >= 1 && managers >= 2+map[bool]int{true: 1}[p.two]
}

// tested says what the newest results of the artifact say: passed, failed, or too old or
// missing.
func (m *gateModel) tested(artifact, age int) (passed, failed bool) {
	for i := len(m.pieces) - 1; i >= 0; i-- {
		if p := m.pieces[i]; p.artifact == artifact {
			fresh := m.now.Before(p.at.Add(time.Duration(age) * time.Minute))
			return fresh && p.good, fresh && !p.good
		}
	}
	return false, false
}

// answered says what the service says now. A yes counts for a minute; one that came within
// half of that after another need not have been written down.
func (m *gateModel) answered(a *stagedAsk) say {
	if len(a.answers) == 0 {
		return no
	}
	last := a.answers[len(a.answers)-1]
	switch {
	case !last.good || !m.now.Before(last.at.Add(time.Minute)):
		return no
	case m.now.Before(last.at.Add(30 * time.Second)):
		return yes
	}
	return either
}

// overridden says whether the ask has an override that counts.
func (m *gateModel) overridden(a *stagedAsk) bool {
	o := a.over
	return o != nil && !o.over && !o.granted.IsZero() && m.now.Before(o.granted.Add(time.Hour)) && (!a.started.IsZero() || o.under == m.law.environment())
}

// frozen says whether a freeze stops the action now; with reaches, one that treats what
// runs so.
func (m *gateModel) frozen(action string, reaches ...string) bool {
	if open := began.Add(20 * time.Minute); len(reaches) == 0 && m.law.window && action != lockkeeper.RollbackAction && !m.now.Before(open) && m.now.Before(open.Add(20*time.Minute)) {
		return true
	}
	return slices.ContainsFunc(m.freezes, func(f handFreeze) bool {
		return !f.lifted && !m.now.Before(f.from) && m.now.Before(f.until) && (len(reaches) == 0 || slices.Contains(reaches, f.inFlight))
	})
}

// ready says whether everything but the lock lets the ask through now.
func (m *gateModel) ready(a *stagedAsk) say {
	if !m.waits(a) || m.frozen(a.action) {
		return no
	}
	switch a.action {
	case lockkeeper.RollbackAction:
		if !slices.Contains(m.good, a.artifact) {
			return no
		}
	case lockkeeper.RedeployAction:
		if len(m.good) == 0 || m.good[len(m.good)-1] != a.artifact {
			return no
		}
	}
	out := yes
	if a.doubtful {
		out = either
	}
	for _, p := range []stance{a.then, m.law} {
		out = min(out, saysIf(m.enough(a, p)))
		if p.tests > 0 && a.action == lockkeeper.DeployAction {
			passed, _ := m.tested(a.artifact, p.tests)
			out = min(out, saysIf(passed))
		}
		if p.service {
			out = min(out, m.answered(a))
		}
		if p.later {
			out = min(out, saysIf(a.verdict == 1))
		}
		if p.office {
			out = min(out, saysIf(m.overridden(a)))
		}
	}
	return out
}

// released says whether the ask may have the lease now: ready, nobody holds the lock, and
// it is its turn.
func (m *gateModel) released(a *stagedAsk) say {
	out := m.ready(a)
	if m.holder() != nil {
		return no
	}
	for _, o := range m.asks {
		if o == a {
			break // the rest is younger
		}
		r := m.ready(o)
		switch {
		case r == no || m.freed.IsZero():
		case m.now.Before(m.freed.Add(30 * time.Second)):
			out = min(out, either-map[bool]say{true: 1}[r == yes])
		case m.unswept:
			out = min(out, either)
		}
	}
	return out
}

// stands says whether what runs may go on.
func (m *gateModel) stands(a *stagedAsk) bool {
	return m.runs(a) && m.enough(a, a.then) && m.enough(a, m.law) && !m.frozen(a.action, "abort") && (!a.waived || m.overridden(a))
}

// end writes down that an ask has ended.
func (m *gateModel) end(a *stagedAsk) {
	if !a.started.IsZero() && !a.ended {
		m.freed = m.now
	}
	a.ended = true
}

// pass lets time pass, and ends by arithmetic what it ends.
func (m *gateModel) pass(d time.Duration) {
	m.ticking.Lock()
	m.now = m.now.Add(d)
	m.ticking.Unlock()
	for _, a := range m.asks {
		a.outwaited = a.outwaited || !a.ended && a.started.IsZero() && !m.waits(a)
		if !a.ended && !a.started.IsZero() && !m.now.Before(a.ends) {
			a.ended, m.freed, m.unswept = true, a.ends, true
		}
	}
}

// swept says that what time has ended is written down by now.
func (m *gateModel) swept() {
	if m.unswept {
		m.freed, m.unswept = m.now, false
	}
}
