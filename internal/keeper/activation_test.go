package keeper

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"pgregory.net/rapid"
)

// accessRules is the catalog of the activation tests. The marks <…> are where laws
// differ.
const accessRules = `
{kind: User, name: dora}
---
{kind: User, name: ann}
---
{kind: User, name: ann2, person: ann}
---
{kind: User, name: bob}
---
{kind: User, name: cat<cat>}
---
{kind: Group, name: engineers, users: [ann, <bob>cat]}
---
{kind: Group, name: leads, users: [ann2, bob, cat, dora<leads>]}
---
{kind: Project, name: p}
---
{kind: Environment, name: e, project: p, tier: development}
---
{kind: Environment, name: f, project: p, tier: development}
---
{kind: Role, name: operator, actions: [deployments/start, deployments/cancel, identities/use<wider>]}
---
{kind: Assignment, name: administration, role: organisation-administrator, principal: user:dora, scope: /}
---
{kind: Assignment, name: deciders, role: access-approver, principal: group:leads, scope: /}
---
{kind: Assignment, name: operators, role: operator, principal: group:engineers, scope: /projects/p, eligible: true}
---
{kind: ActivationRule, name: op, role: operator, scope: /projects/p, longest: <longest>, patience: 2h, approvals: [{name: lead, approval: {count: 1, groups: [leads]}}]}
<strict><deny>`

type accessLaw struct {
	pairs []string
	rules *Rules

	leads, engineers map[string]bool
	longest          time.Duration
	wider, strict    bool
	denied           string // at environment f
}

func accessLaws(t testing.TB) []*accessLaw {
	strict := "---\n{kind: ActivationRule, name: strict, role: operator, scope: /projects/p/environments/e, approvals: [{name: another, approval: {count: 1, groups: [leads]}}]}\n"
	base := func(pairs ...string) []string {
		return append(pairs, "<bob>", "bob, ", "<leads>", "", "<cat>", "", "<wider>", "", "<longest>", "1h", "<strict>", strict, "<deny>", "")
	}
	leads := map[string]bool{"ann2": true, "bob": true, "cat": true, "dora": true}
	engineers := map[string]bool{"ann": true, "bob": true, "cat": true}
	all := []*accessLaw{
		{pairs: base(), leads: leads, engineers: engineers, longest: time.Hour, strict: true},
		{pairs: base("<bob>", ""), leads: leads, engineers: map[string]bool{"ann": true, "cat": true}, longest: time.Hour, strict: true},
		{pairs: base("<cat>", ", off: true"), leads: map[string]bool{"ann2": true, "bob": true, "dora": true}, engineers: map[string]bool{"ann": true, "bob": true}, longest: time.Hour, strict: true},
		{pairs: base("<strict>", "", "<longest>", "4h"), leads: leads, engineers: engineers, longest: 4 * time.Hour},
		{pairs: base("<wider>", ", deployments/approve"), leads: leads, engineers: engineers, longest: time.Hour, strict: true, wider: true},
		{pairs: base("<deny>", "---\n{kind: Assignment, name: not-ann, role: operator, principal: user:ann, scope: /projects/p/environments/f, deny: true}\n"), leads: leads, engineers: engineers, longest: time.Hour, strict: true, denied: "ann"},
	}
	for _, l := range all {
		l.rules = mustRules(t, strings.NewReplacer(l.pairs...).Replace(accessRules+forPeople))
	}
	return all
}

func (l *accessLaw) actions() []lockkeeper.Action {
	out := []lockkeeper.Action{lockkeeper.StartDeployments, lockkeeper.CancelDeployments, lockkeeper.UseIdentities}
	if l.wider {
		out = append(out, lockkeeper.ApproveDeployments)
	}
	return out
}

// needed is how many leads must approve an activation at a scope.
func (l *accessLaw) needed(scope lockkeeper.Scope) int {
	if l.strict && scope.Contains("/projects/p/environments/e") {
		return 2
	}
	return 1
}

// The model: what was asked and what is active, in the words of the documentation.
type modelRequest struct {
	user     string
	scope    lockkeeper.Scope
	length   time.Duration
	deadline lockkeeper.Moment
	needed   int
	wider    bool
	votes    map[string]bool
	at       lockkeeper.Moment // not begun before; zero: at once
	extends  string            // the activation that it makes longer
	from     lockkeeper.Moment // when that ends
	uses     int               // at most; 0: any number
}
type modelActivation struct {
	user     string
	scope    lockkeeper.Scope
	began    lockkeeper.Moment
	ends     lockkeeper.Moment
	wider    bool
	extended int
	uses     int // at most; 0: any number
	used     int
}

func (a *modelActivation) spent() bool { return a.uses > 0 && a.used >= a.uses }

// over reports whether an activation ended before its time: nothing of it is left.
func (m *accessModel) over(id string, now lockkeeper.Moment) bool {
	for _, t := range m.tokens {
		if t.activation == id && now.Before(t.expires) {
			return false
		}
	}
	return m.activations[id].spent()
}

type modelToken struct {
	user       string
	activation string // that it rests on
	expires    lockkeeper.Moment
}

const consoleScope lockkeeper.Scope = "/projects/p/identities/console"

type accessModel struct {
	law         *accessLaw
	requests    map[string]*modelRequest
	activations map[string]*modelActivation
	begun       map[string]*modelActivation // by request
	ids         map[string]string           // of activations, by request
	tokens      map[string]*modelToken
}

// best is the activation that gives a user the use of the console for longest.
func (m *accessModel) best(user string, now lockkeeper.Moment) (id string) {
	for i, a := range m.activations {
		if a.user != user || !now.Before(a.ends) || a.spent() || !a.scope.Contains(consoleScope) || !m.eligible(user, a.scope) {
			continue
		}
		b := m.activations[id]
		if b == nil || a.uses == 0 && b.uses > 0 || (a.uses == 0) == (b.uses == 0) && (b.ends.Before(a.ends) || b.ends == a.ends && i < id) {
			id = i
		}
	}
	return id
}

// stands reports whether a token is to be taken.
func (m *accessModel) stands(t *modelToken, now lockkeeper.Moment) bool {
	a := m.activations[t.activation]
	return now.Before(t.expires) && a != nil && now.Before(a.ends) && (m.best(t.user, now) != "" || m.eligible(t.user, a.scope))
}

func personIn(user string) string { return strings.TrimSuffix(user, "2") }

func (m *accessModel) eligible(user string, scope lockkeeper.Scope) bool {
	return m.law.engineers[user] && lockkeeper.Scope("/projects/p").Contains(scope)
}

func (m *accessModel) ready(r *modelRequest, now lockkeeper.Moment) bool {
	persons := map[string]bool{}
	for v := range r.votes {
		if m.law.leads[v] && personIn(v) != personIn(r.user) {
			persons[personIn(v)] = true
		}
	}
	return m.eligible(r.user, r.scope) && r.length <= m.law.longest && (r.wider || !m.law.wider) && !now.Before(r.at) &&
		(r.extends == "" || m.extensible(r.extends, r.from, r.length, now)) &&
		len(persons) >= max(r.needed, m.law.needed(r.scope)) && now.Before(r.deadline)
}

// extensible reports whether an activation that ends at from can last longer.
func (m *accessModel) extensible(id string, from lockkeeper.Moment, length time.Duration, now lockkeeper.Moment) bool {
	a := m.activations[id]
	return a != nil && now.Before(a.ends) && !m.over(id, now) && a.ends == from && a.extended < 1 && a.ends.Add(length).Sub(a.began) <= m.law.longest
}

func (m *accessModel) waiting(user string) (n int) {
	for _, r := range m.requests {
		if r.user == user {
			n++
		}
	}
	return n
}

// may is what a user who holds nothing by assignment may do.
func (m *accessModel) may(user string, action lockkeeper.Action, scope lockkeeper.Scope, now lockkeeper.Moment) bool {
	if m.law.denied == user && scope == "/projects/p/environments/f" && slices.Contains(m.law.actions(), action) {
		return false
	}
	for _, a := range m.activations {
		approving := action == lockkeeper.ApproveDeployments
		if a.user == user && now.Before(a.ends) && !a.spent() && a.scope.Contains(scope) && m.eligible(user, a.scope) &&
			slices.Contains(m.law.actions(), action) && (!approving || a.wider) {
			return true
		}
	}
	return false
}

// TestActivations drives the core with random asks, verdicts, ends, laws and
// instants, and compares every outcome and every right with the model (invariants
// 3, 5, 6 and 8).
func TestActivations(t *testing.T) {
	all := accessLaws(t)
	seen := map[string]int{}
	untilSeen(t, seen, []string{"request.open true", "request.open false", "request.approve true", "request.approve false", "request.deny true", "activation.begin true", "activation.begin false", "activation.end true", "activation.end false", "activation.extend true", "activation.extend false", "smaller", "longer", "token.issue true", "token.issue false", "spent"}, func(rt *rapid.T) {
		c := &core{world: world{State: newState(), rules: all[0].rules}}
		m := &accessModel{all[0], map[string]*modelRequest{}, map[string]*modelActivation{}, map[string]*modelActivation{}, map[string]string{}, map[string]*modelToken{}}
		now := began
		mirror := newState()
		step := func(by string, cmd command) error {
			s, err := c.step(Caller{User: by, Keeper: by == ""}, "", cmd, now)
			if err != nil {
				rt.Fatal(err)
			}
			for i, e := range s.entries { // the state is the fold of the stored bytes
				read, ev, err := readEntry(s.records[i].Data)
				if err != nil || mirror.apply(read, ev) != nil {
					rt.Fatalf("entry %d: %v", e.Seq, err)
				}
			}
			seen[fmt.Sprint(cmd.name(), " ", s.err == nil)]++
			for _, ev := range s.events {
				switch ev.(type) {
				case *requestTrimmed:
					seen["smaller"]++
				case *activationExtended:
					seen["longer"]++
				}
			}
			return s.err
		}
		if err := step("", firstEntry{}); err != nil {
			rt.Fatal(err)
		}
		users := []string{"ann", "ann2", "bob", "cat", "dora"}
		scopes := []lockkeeper.Scope{"/projects/p", "/projects/p/environments/e", "/projects/p/environments/f", "/"}
		var requests, activations []string
		pick := func(name string, of []string) string {
			alive := slices.DeleteFunc(slices.Clone(of), func(id string) bool { return m.requests[id] == nil && m.activations[id] == nil })
			if len(alive) > 0 && rapid.IntRange(0, 5).Draw(rt, "alive") > 0 {
				of = alive
			}
			if len(of) == 0 {
				return "none"
			}
			return rapid.SampledFrom(of[max(0, len(of)-4):]).Draw(rt, name)
		}
		vote := func(user, id string, digest lockkeeper.Digest, approve bool) {
			err := step(user, decideRequest{Request: id, Approve: approve, Digest: digest, Comment: ""})
			r := m.requests[id]
			if err == nil && (r == nil || !m.law.leads[user] || personIn(user) == personIn(r.user) || digest == "other" || !now.Before(r.deadline)) {
				rt.Fatalf("%s decided on %s (invariant 3, 4 or 5)", user, id)
			}
			if err == nil && approve {
				r.votes[user] = true
			} else if err == nil {
				delete(m.requests, id)
			} else if r != nil && m.law.leads[user] && personIn(user) != personIn(r.user) && digest != "other" && now.Before(r.deadline) && codeOf(err) != "already_approved" {
				rt.Fatalf("%s may not decide on %s: %v", user, id, err)
			}
		}
		begin := func(by, id, activation string) {
			r := m.requests[id]
			err := step(by, beginActivation{id, activation})
			want := r != nil && by == r.user && m.ready(r, now)
			if a := m.begun[id]; a != nil && by == a.user && m.activations[m.ids[id]] == a && now.Before(a.ends) {
				if err != nil {
					rt.Fatalf("%s asks for the activation of %s again: %v", by, id, err)
				}
				return
			}
			if (err == nil) != want {
				rt.Fatalf("%s begins %s (%+v): %v, want %v", by, id, r, err, want)
			}
			if err == nil {
				if r.extends != "" {
					activation = r.extends
					m.activations[activation].ends = r.from.Add(r.length)
					m.activations[activation].extended++
				} else {
					m.activations[activation] = &modelActivation{user: r.user, scope: r.scope, began: now, ends: now.Add(r.length), wider: r.wider, uses: r.uses}
					activations = append(activations, activation)
				}
				m.begun[id], m.ids[id] = m.activations[activation], activation
				delete(m.requests, id)
			}
		}
		help := func(id, activation string) { // everybody does what he can so that it begins
			if r := c.Requests[id]; r != nil {
				for _, by := range []string{"bob", "cat", "dora"} {
					vote(by, id, r.Digest, true)
				}
				begin(r.User, id, activation)
			}
		}
		for n := range rapid.IntRange(20, 80).Draw(rt, "steps") {
			user := rapid.SampledFrom(users).Draw(rt, "user")
			switch rapid.IntRange(0, 17).Draw(rt, "command") {
			case 0, 1:
				id, scope := fmt.Sprint("r-", n), rapid.SampledFrom(scopes).Draw(rt, "scope")
				length := rapid.SampledFrom([]time.Duration{10 * time.Minute, time.Hour, 2 * time.Hour}).Draw(rt, "for")
				start, from := lockkeeper.Moment{}, now
				if rapid.IntRange(0, 3).Draw(rt, "ahead") == 0 {
					start = now.Add(rapid.SampledFrom([]time.Duration{10 * time.Minute, 3 * time.Hour}).Draw(rt, "at"))
					from = start
				}
				uses := rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(rt, "uses")
				err := step(user, openRequest{ID: id, Role: "operator", Scope: scope, For: length, Reason: "why", At: start, Uses: uses})
				want := m.eligible(user, scope) && length <= m.law.longest && m.waiting(user) < maxRequests
				if (err == nil) != want {
					rt.Fatalf("%s asks for %s at %s: %v, want %v", user, length, scope, err, want)
				}
				if err == nil {
					m.requests[id] = &modelRequest{user: user, scope: scope, length: length, at: start, deadline: from.Add(2 * time.Hour), needed: m.law.needed(scope), wider: m.law.wider, votes: map[string]bool{}, uses: uses}
					requests = append(requests, id)
					if rapid.Bool().Draw(rt, "helped") {
						help(id, fmt.Sprint("a-", n))
					}
				}
			case 2, 3, 4, 13:
				id := pick("request", requests)
				digest := lockkeeper.Digest("other")
				if r := c.Requests[id]; r != nil && rapid.IntRange(0, 9).Draw(rt, "digest") > 0 {
					digest = r.Digest
				}
				vote(user, id, digest, rapid.IntRange(0, 9).Draw(rt, "approve") > 0)
			case 5, 6:
				id := pick("request", requests)
				r := m.requests[id]
				by := user
				if r != nil && rapid.IntRange(0, 5).Draw(rt, "own") > 0 {
					by = r.user
				}
				begin(by, id, fmt.Sprint("a-", n))
			case 16, 17:
				id, best := fmt.Sprint("t-", n), m.best(user, now)
				err := step(user, issueToken{ID: id, Project: "p", Identity: "console", Audience: console})
				if (err == nil) != (best != "") {
					rt.Fatalf("%s issues a token: %v, by the model under %q (invariant 7)", user, err, best)
				}
				if err == nil {
					m.tokens[id] = &modelToken{user, best, now.Add(5 * time.Minute)}
					if a := m.activations[best]; a.uses > 0 {
						a.used++
						if a.spent() {
							seen["spent"]++
						}
					}
					if a := m.activations[best]; a.ends.Before(m.tokens[id].expires) {
						m.tokens[id].expires = a.ends
					}
					if t := c.PersonTokens[id]; t.Expires != m.tokens[id].expires || t.Activation != best {
						rt.Fatalf("%s rests on %s and ends at %s, by the model %+v", id, t.Activation, t.Expires, m.tokens[id])
					}
				}
			case 14:
				help(pick("request", requests), fmt.Sprint("a-", n))
			case 10, 15:
				id, request := pick("activation", activations), fmt.Sprint("r-", n)
				a, by := m.activations[id], user
				if a != nil && rapid.IntRange(0, 4).Draw(rt, "own") > 0 {
					by = a.user
				}
				length := rapid.SampledFrom([]time.Duration{10 * time.Minute, 50 * time.Minute, 2 * time.Hour}).Draw(rt, "longer")
				err := step(by, extendActivation{ID: request, Activation: id, For: length, Reason: "why"})
				pending := false
				for _, r := range m.requests {
					pending = pending || r.extends == id
				}
				want := a != nil && a.user == by && !pending && m.waiting(by) < maxRequests && m.eligible(by, a.scope) &&
					length <= m.law.longest && (a.wider || !m.law.wider) && m.extensible(id, a.ends, length, now)
				if (err == nil) != want {
					rt.Fatalf("%s makes %s (%+v) longer by %s: %v, want %v", by, id, a, length, err, want)
				}
				if err == nil {
					deadline := now.Add(2 * time.Hour)
					if a.ends.Before(deadline) {
						deadline = a.ends
					}
					m.requests[request] = &modelRequest{user: by, scope: a.scope, length: length, deadline: deadline, needed: m.law.needed(a.scope), wider: a.wider, votes: map[string]bool{}, extends: id, from: a.ends}
					requests = append(requests, request)
					if rapid.IntRange(0, 3).Draw(rt, "helped") > 0 {
						help(request, "")
					}
				}
			case 11, 12:
				id := pick("request", requests)
				r, digest := m.requests[id], lockkeeper.Digest("none")
				if c.Requests[id] != nil {
					digest = c.Requests[id].Digest
				}
				length := rapid.SampledFrom([]time.Duration{5 * time.Minute, time.Hour}).Draw(rt, "shorter")
				scope := rapid.SampledFrom([]lockkeeper.Scope{"", "/projects/p/environments/f", "/projects"}).Draw(rt, "narrower")
				err := step(user, decideRequest{Request: id, Approve: true, Digest: digest, For: length, Scope: scope})
				want := r != nil && m.law.leads[user] && personIn(user) != personIn(r.user) && now.Before(r.deadline) && length <= r.length && length <= m.law.longest &&
					(scope == "" || r.scope.Contains(scope) && scope != "/projects" && (r.extends == "" || scope == r.scope))
				same := r != nil && length == r.length && (scope == "" || scope == r.scope)
				if (err == nil) != want && !(same && codeOf(err) == "already_approved") && !(same && err == nil) {
					rt.Fatalf("%s makes %s (%+v) smaller, to %s at %q: %v, want %v", user, id, r, length, scope, err, want)
				}
				if err == nil {
					if r.length = length; scope != "" {
						r.scope = scope
					}
					r.votes[user] = true
				}
			case 7:
				id := pick("activation", activations)
				a, err := m.activations[id], step(user, endActivation{id, "enough"})
				want := a != nil && (a.user == user || m.law.leads[user] || user == "dora")
				if _, still := c.Activations[id]; err == nil && still || (err == nil) != want {
					rt.Fatalf("%s ends %s (%+v): %v, want %v", user, id, a, err, want)
				}
				if err == nil {
					delete(m.activations, id)
				}
			case 8:
				m.law = rapid.SampledFrom(all).Draw(rt, "law")
				c.rules = m.law.rules
			case 9:
				now = now.Add(rapid.SampledFrom([]time.Duration{time.Second, 9 * time.Minute, 50 * time.Minute, 3 * time.Hour}).Draw(rt, "later"))
				if rapid.Bool().Draw(rt, "sweep") {
					step("", sweep{})
					maps.DeleteFunc(m.requests, func(_ string, r *modelRequest) bool { return !now.Before(r.deadline) })
					maps.DeleteFunc(m.activations, func(id string, a *modelActivation) bool {
						return !now.Before(a.ends) || m.over(id, now) || !m.eligible(a.user, a.scope)
					})
				}
			}
			for id, token := range m.tokens {
				if is := c.tokenStands(c.PersonTokens[id], now); is != m.stands(token, now) {
					rt.Fatalf("the token %s (%+v) stands: %v (invariant 7)", id, token, is)
				}
			}
			for _, u := range []string{"ann", "bob", "cat"} {
				for _, s := range scopes {
					for _, action := range []lockkeeper.Action{lockkeeper.StartDeployments, lockkeeper.ApproveDeployments, lockkeeper.WriteAccess} {
						if d := c.check(u, action, s, now); d.Passed(now) != m.may(u, action, s, now) || d.Passed(now) != (d.Verdict == lockkeeper.Pass) {
							rt.Fatalf("%s %s at %s: %s, the model says %v", u, action, s, d.Sentence, m.may(u, action, s, now))
						} else if d.Until != nil && d.Verdict == lockkeeper.Pass && c.check(u, action, s, *d.Until).Passed(*d.Until) && m.onlyOne(u, now) {
							rt.Fatalf("%s %s at %s holds past %s", u, action, s, d.Until)
						}
					}
				}
			}
		}
		one, _ := c.Digest()
		if two, _ := mirror.Digest(); one != two {
			rt.Fatal("the state is not the fold of the journal (invariant 1)")
		}
	})
}

// onlyOne reports whether a user has one activation at most, so that its end is
// the end of the right.
func (m *accessModel) onlyOne(user string, now lockkeeper.Moment) bool {
	n := 0
	for _, a := range m.activations {
		if a.user == user && now.Before(a.ends) {
			n++
		}
	}
	return n <= 1
}

// firstEntry starts a journal.
type firstEntry struct{}

func (firstEntry) name() string  { return "first" }
func (firstEntry) about() string { return "" }
func (firstEntry) decide(*world, Caller, lockkeeper.Moment) ([]event, any, error) {
	return []event{&journalStarted{Log: Log{Origin: "access"}}}, nil, nil
}
