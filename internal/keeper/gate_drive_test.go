package keeper

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"pgregory.net/rapid"
)

// modelArtifacts are what the asks of the model deploy.
var modelArtifacts = []lockkeeper.Artifact{{Name: "app", Digest: lockkeeper.DigestOf([]byte("model a"))}, {Name: "app", Digest: lockkeeper.DigestOf([]byte("model b"))}}

// A gateDrive drives a keeper and the model of its gate side by side.
type gateDrive struct {
	t       *rapid.T
	ctx     context.Context
	k       *Keeper
	m       *gateModel
	dir     string
	n       int // jobs so far
	seen    map[string]int
	read    int64 // entries of the journal that were read
	log     *gateReader
	address map[string]string // of callbacks, by ask
	held    []*heldRun
	laws    map[stance]*Rules
	tb      *testing.T
}

// clock is asked by the keeper's own goroutines, too.
func (g *gateDrive) clock() time.Time {
	g.m.ticking.Lock()
	defer g.m.ticking.Unlock()
	return g.m.now.Time()
}

// rules compiles each stance once.
func (g *gateDrive) rules(p stance) *Rules {
	if g.laws[p] == nil {
		g.laws[p] = mustRules(g.tb, p.text())
	}
	return g.laws[p]
}

func (g *gateDrive) open(o Options) {
	o.Dir, o.Issuer, o.Clock = g.dir, "https://lockkeeper.example", g.clock
	k, err := Open(g.ctx, o)
	if err != nil {
		g.t.Fatalf("it does not start again: %v", err)
	}
	g.k = k
}

// uniform draws from 0 to n-1, n at most 128, each about as often: what rapid draws by
// itself is mostly small, and rare outcomes would stay so.
func (g *gateDrive) uniform(n int, name string) int {
	return sevenBits.Draw(g.t, name) % n
}

var sevenBits = rapid.Custom(func(t *rapid.T) int {
	n := 0
	for range 7 {
		n *= 2
		if rapid.Bool().Draw(t, "bit") {
			n++
		}
	}
	return n
})

func (g *gateDrive) pick(name string, of ...string) string { return of[g.uniform(len(of), name)] }

// one is true once in so many times.
func (g *gateDrive) one(in int, name string) bool { return g.uniform(in, name) == in-1 }

// check holds an outcome against what the model says of it.
func (g *gateDrive) check(what string, err error, says say) {
	g.t.Helper()
	if lockkeeper.KindOf(err) == lockkeeper.Unavailable || err != nil && lockkeeper.RefusalOf(err) == nil {
		g.t.Fatalf("%s: %v", what, err)
	}
	g.seen[fmt.Sprint(what, " ", err == nil)]++
	if says == no && err == nil || says == yes && err != nil {
		g.t.Fatalf("%s at %s: %v, and the model says %s\nlaw %+v\n%s", what, g.m.now, err, says, g.m.law, g.story())
	}
}

func (g *gateDrive) story() string {
	var b strings.Builder
	for _, a := range g.m.asks {
		if !a.ended {
			fmt.Fprintf(&b, "%+v override %+v\n", *a, a.over)
		}
	}
	fmt.Fprintf(&b, "freezes %+v, good %v, freed %s, pieces %+v", g.m.freezes, g.m.good, g.m.freed, g.m.pieces)
	return b.String()
}

// job is a fresh token of a job.
func (g *gateDrive) job(run, job, environment, actor string) lockkeeper.Workload {
	g.n++
	return workload(g.n, run, job, environment, actor, "push", 1, g.m.now)
}

// ask is one of the last few, mostly one that has not ended.
func (g *gateDrive) ask() *stagedAsk {
	if len(g.m.asks) == 0 {
		return nil
	}
	last := g.m.asks[max(0, len(g.m.asks)-4):]
	var alive []*stagedAsk
	for _, a := range last {
		if g.m.waits(a) || g.m.runs(a) {
			alive = append(alive, a)
		}
	}
	if len(alive) == 0 || g.one(12, "any") {
		return last[g.uniform(len(last), "ask")]
	}
	return alive[g.uniform(len(alive), "alive")]
}

func (g *gateDrive) opens() {
	m := g.m
	a := &stagedAsk{run: fmt.Sprint(100 + len(m.asks)), artifact: g.uniform(2, "artifact"), opened: m.now, then: m.law, votes: map[string]bool{},
		action: g.pick("action", "deploy", "deploy", "deploy", "deploy", "rollback", "redeploy")}
	if n := len(m.good); n > 0 && g.one(3, "again") {
		a.action, a.artifact = g.pick("back", "rollback", "redeploy"), m.good[n-1]
	}
	says := yes
	switch a.action {
	case "rollback":
		says = saysIf(slices.Contains(m.good, a.artifact))
	case "redeploy":
		says = saysIf(len(m.good) > 0 && m.good[len(m.good)-1] == a.artifact)
	default:
		if m.law.tests > 0 {
			if _, failed := m.tested(a.artifact, m.law.tests); failed {
				says = no
			} else if i := slices.IndexFunc(m.pieces, func(p modelPiece) bool { return p.artifact == a.artifact && !p.good }); i >= 0 {
				says = either
			}
		}
	}
	environment := "production"
	if g.one(20, "nowhere") {
		environment, says = "prod", no
	}
	id, err := g.k.OpenDeployment(g.ctx, g.job(a.run, "11", "production", "1001"), "", OpenDeployment{Action: a.action, Environment: environment, Artifacts: []lockkeeper.Artifact{modelArtifacts[a.artifact]}, Handle: HandleDigest("h" + a.run)})
	g.check("open "+a.action, err, says)
	if err != nil {
		return
	}
	v, err := g.k.Deployment(g.ctx, Caller{Holder: id}, id)
	if err != nil {
		g.t.Fatal(err)
	}
	a.id, a.digest = id, v.Digest
	if g.one(2, "told") {
		g.told(a)
	}
	m.asks = append(m.asks, a)
}

func (g *gateDrive) votes(a *stagedAsk) {
	m, user := g.m, g.pick("user", "bob", "cat", "eve", "fay", "ann", "oz", "dora", "nobody")
	digest, says := a.digest, saysIf(m.waits(a) && m.member(user, false) && !a.votes[user])
	if g.one(10, "other digest") {
		digest, says = modelArtifacts[0].Digest, no
	}
	if a.doubtful && says == yes {
		says = either
	}
	if g.one(25, "reject") {
		if says == no && digest == a.digest && m.waits(a) && m.member(user, false) {
			says = yes // whoever has approved may still say no
			if a.doubtful {
				says = either
			}
		}
		err := g.k.Vote(g.ctx, Caller{User: user}, a.id, false, digest, "no")
		if g.check("reject", err, says); err == nil {
			m.end(a)
		}
		return
	}
	err := g.k.Vote(g.ctx, Caller{User: user}, a.id, true, digest, "")
	if g.check("vote", err, says); err == nil {
		a.votes[user] = true
	}
}

func (g *gateDrive) withdraws(a *stagedAsk) {
	m, user := g.m, g.pick("user", "bob", "cat", "eve", "fay", "ann")
	says := saysIf(a.votes[user] && (m.waits(a) || m.runs(a)))
	if a.doubtful && says == yes || !a.ended && !a.started.IsZero() && !m.runs(a) || !a.ended && a.started.IsZero() && !m.waits(a) {
		says = min(says, either)
		if a.votes[user] {
			says = either
		}
	}
	if a.ended && a.votes[user] && m.unswept {
		says = either
	}
	err := g.k.Withdraw(g.ctx, Caller{User: user}, a.id, "no")
	g.check("withdraw", err, says)
	if err == nil {
		delete(a.votes, user)
		if m.runs(a) && !m.stands(a) {
			m.end(a)
		}
	}
}

// evidence brings test results: good ones, bad ones, of another commit, or by a stage that
// may not.
func (g *gateDrive) evidence() {
	g.brings(g.pick("results", "good", "good", "good", "good", "bad", "few", "another commit", "another stage", "nothing"), g.uniform(2, "artifact"))
}

func (g *gateDrive) brings(kind string, artifact int) {
	m := g.m
	j, text, says := g.job(fmt.Sprint(5000+g.n), "10", "", "1009"), goodTests, yes
	switch kind {
	case "bad":
		text = badTests
	case "few":
		text = `<testsuite name="s"><testcase name="a"/></testsuite>`
	case "another commit":
		j.Commit = lockkeeper.SignedFact(strings.Repeat("2", 40))
	case "another stage":
		j.Environment, says = lockkeeper.SignedFact("production"), no
	case "nothing":
		text, says = "<testsuite", no
	}
	_, err := g.k.AddEvidence(g.ctx, j, "", AddEvidence{Artifacts: []lockkeeper.Artifact{modelArtifacts[artifact]}, Pieces: []Piece{unit(text)}})
	g.check("bring "+kind, err, says)
	if err == nil && kind != "another commit" {
		m.pieces = append(m.pieces, modelPiece{m.now, kind == "good", artifact})
	}
}

// question is the open question of an ask's check, as the worker sees it.
func (g *gateDrive) question(a *stagedAsk, check string) (OpenQuestion, bool) {
	list := g.k.Questions()
	i := slices.IndexFunc(list, func(q OpenQuestion) bool { return q.About == deploymentSubject(a.id) && q.Rule == check })
	if i < 0 {
		return OpenQuestion{}, false
	}
	return list[i], true
}

func (g *gateDrive) answers(a *stagedAsk) {
	q, asked := g.question(a, "service")
	if must := g.m.waits(a) && !a.doubtful && a.then.service; must && !asked {
		g.t.Fatalf("nobody asks the service about %s\n%s", a.id, g.story())
	}
	if !asked {
		return
	}
	kind := g.pick("answer", "yes", "yes", "yes", "yes", "no", "away")
	o := map[string]QuestionOutcome{"yes": met(true), "no": met(false), "away": missed("service_unreachable")}[kind]
	err := g.k.ReportQuestion(g.ctx, q, o)
	says := saysIf(g.m.waits(a))
	if says == no && !a.ended && a.started.IsZero() {
		says = either // it is over, and a question may be open until that is written down
	}
	if g.check("answer "+kind, err, says); err == nil {
		a.answers = append(a.answers, modelAnswer{g.m.now, kind == "yes"})
	}
}

// calls answers at the address that a service was told: once, again, otherwise, about
// another ask, too late, and with an address that was never given out.
func (g *gateDrive) calls(a *stagedAsk) {
	if g.one(3, "late") {
		for _, o := range g.m.asks {
			if g.address[o.id] != "" && o.verdict == 0 && !g.m.waits(o) {
				a = o
			}
		}
	}
	if g.told(a) == "" {
		return
	}
	verdict, digest := g.pick("verdict", "pass", "pass", "pass", "pass", "pass", "fail"), a.digest
	if g.one(6, "forged") {
		address, before := g.address[a.id], g.k.Questions()
		err := g.k.Callback(g.ctx, address[:len(address)-6]+"AAAAAA", fmt.Appendf(nil, `{"verdict": "pass", "digest": %q}`, a.digest))
		if lockkeeper.KindOf(err) != lockkeeper.Unauthenticated || len(g.k.Questions()) != len(before) {
			g.t.Fatalf("a forged address: %v", err)
		}
		g.seen["callback forged"]++
		return
	}
	if g.one(10, "about another") {
		digest = modelArtifacts[0].Digest
	}
	g.called(a, verdict, digest)
}

// told is the address that the service of an ask was told; "": none yet.
func (g *gateDrive) told(a *stagedAsk) string {
	if q, asked := g.question(a, "later"); asked && g.address[a.id] == "" {
		at, err := g.k.CallbackAddress(q)
		if err != nil && !g.m.waits(a) {
			return ""
		}
		if err != nil {
			g.t.Fatalf("no address for what is asked: %v", err)
		}
		g.address[a.id] = at[strings.LastIndexByte(at, '/')+1:]
		if g.one(2, "delivered") {
			g.check("delivered", g.k.ReportQuestion(g.ctx, q, QuestionOutcome{Delivered: true}), min(either+saysIf(g.m.waits(a)), yes))
		}
	}
	return g.address[a.id]
}

// called is what a service answers at its address.
func (g *gateDrive) called(a *stagedAsk, verdict string, digest lockkeeper.Digest) {
	good := verdict == "pass" && digest == a.digest
	err := g.k.Callback(g.ctx, g.address[a.id], fmt.Appendf(nil, `{"verdict": %q, "digest": %q}`, verdict, digest))
	switch {
	case !g.m.waits(a) && a.verdict == 0:
		says := no
		if !a.ended && a.started.IsZero() {
			says = either
		}
		g.check("callback late", err, says)
	case a.verdict != 0: // again: the very same is nothing, and anything else is refused
		if changed := (a.verdict == 1) != good; changed && err == nil {
			g.t.Fatalf("a second answer takes the first's place: %v", err)
		}
		g.seen["callback again"]++
	default:
		says := yes
		if a.doubtful {
			says = either
		}
		if g.check(fmt.Sprint("callback ", good), err, says); err == nil {
			a.verdict = 2 - map[bool]int{true: 1}[good]
		}
	}
}

// decrees puts another catalog in force.
func (g *gateDrive) decrees() {
	next := g.m.law
	switch g.pick("law", "two", "tests", "tests", "service", "later", "office", "window", "hasty", "hasty", "out", "out", "back") {
	case "two":
		next.two = !next.two
	case "tests":
		next.tests = []int{0, 10, 30}[g.uniform(3, "age")]
	case "service":
		next.service = !next.service
	case "later":
		next.later = !next.later
	case "office":
		next.office = !next.office
	case "window":
		next.window = !next.window
	case "hasty":
		next.hasty = !next.hasty
	case "out":
		next.out = g.pick("out", "bob", "cat", "eve", "fay")
	case "back":
		next.out = ""
	}
	g.decree(next)
}

func (g *gateDrive) decree(next stance) {
	revision, _ := g.k.Revision()
	done, err := do[applied](g.ctx, g.k, Caller{User: "dora"}, "", applyCatalog{Base: revision.Number, Rules: g.rules(next), Issuer: "https://lockkeeper.example", ID: newID("p")})
	if g.check("law", err, yes); done.Proposal != "" {
		g.t.Fatalf("dora is alone, and it waits for somebody: %+v", done)
	}
	g.m.law = next
	g.sweeps()
}

func (g *gateDrive) sweeps() {
	if _, err := do[any](g.ctx, g.k, Caller{Keeper: true}, "", sweep{}); err != nil {
		g.t.Fatal(err)
	}
	g.m.swept()
}

func (g *gateDrive) freezes() {
	m := g.m
	if len(m.freezes) > 0 && g.one(2, "lift") {
		i := g.uniform(len(m.freezes), "which")
		f := &m.freezes[i]
		holds := !f.lifted && m.now.Before(f.until)
		g.check("lift by who froze", g.k.EndFreeze(g.ctx, Caller{User: "dora"}, f.id, "go"), no)
		err := g.k.EndFreeze(g.ctx, Caller{User: "rev"}, f.id, "go")
		if g.check("lift", err, saysIf(holds)); err == nil {
			f.lifted = true
		}
		return
	}
	f := handFreeze{from: m.now, until: m.now.Add(time.Duration(1+g.uniform(10, "minutes")) * time.Minute), inFlight: g.pick("in flight", "finish", "noTokens", "abort")}
	started, err := g.k.StartFreeze(g.ctx, Caller{User: "dora"}, "", StartFreeze{Scope: production, For: f.until.Sub(f.from), Reason: "why", InFlight: f.inFlight})
	says := yes
	if len(m.freezes) >= maxFreezesEach {
		says = either
	}
	if g.check("freeze", err, says); err != nil {
		return
	}
	f.id = started.ID
	m.freezes = append(m.freezes, f)
	if a := m.holder(); a != nil && f.inFlight == "abort" {
		if !slices.Contains(started.Revoked, a.id) {
			g.t.Fatalf("a freeze that takes leases leaves %s its own", a.id)
		}
		m.end(a)
	}
}

// shown lets a user show a credential, with a second factor.
func (g *gateDrive) shown(user string) Caller {
	g.n++
	id := fmt.Sprint("s-", user, g.n)
	ev := &sessionStarted{Session: Session{ID: id, User: user, Started: g.m.now, Expires: g.m.now.Add(12 * time.Hour), Authenticated: g.m.now, Strong: true}}
	if _, err := do[any](g.ctx, g.k, Caller{Keeper: true}, "", planted{ev}); err != nil {
		g.t.Fatal(err)
	}
	return Caller{User: user, Session: id}
}

func (m *gateModel) pending(o *modelOverride) bool {
	return o != nil && !o.over && o.granted.IsZero() && m.now.Before(o.opened.Add(time.Hour))
}

func (g *gateDrive) override(a *stagedAsk) {
	m := g.m
	lives := m.pending(a.over) || a.over != nil && !a.over.over && !a.over.granted.IsZero() && m.now.Before(a.over.granted.Add(time.Hour))
	what := "ask"
	if lives {
		what = g.pick("override", "oz", "oz", "una", "una", "una", "ann", "bob", "end")
	}
	switch what {
	case "ask":
		g.asksOverride(a, g.pick("waives", "office", "office", "office", "managers", "tests"))
	case "end":
		err := g.k.EndOverride(g.ctx, g.shown("ann"), a.over.id, "no")
		says := saysIf(m.waits(a) || m.runs(a))
		if a.doubtful || says == no {
			says = either
		}
		if g.check("end an override", err, says); err == nil {
			a.over.over = true
			if m.runs(a) && !m.stands(a) {
				m.end(a)
			}
		}
	default:
		g.overrides(a, what)
	}
}

func (g *gateDrive) asksOverride(a *stagedAsk, waives string) {
	m := g.m
	says := saysIf(m.waits(a) && waives == "office" && (m.law.office || a.then.office))
	if a.doubtful || a.asked >= maxOverrides {
		says = min(says, either)
	}
	id, err := g.k.RequestOverride(g.ctx, g.shown("ann"), "", a.id, OverrideRequest{Waives: []string{waives}, Reason: "orders are lost", Incident: "INC-1"})
	if g.check("ask for an override", err, says); err == nil {
		a.over, a.asked = &modelOverride{id: id, opened: m.now, under: m.law.environment()}, a.asked+1
	}
}

// overrides lets somebody approve the override of an ask.
func (g *gateDrive) overrides(a *stagedAsk, who string) {
	m, o := g.m, a.over
	mine := map[string]*bool{"oz": &o.oz, "una": &o.una}[who]
	says := saysIf(mine != nil && !*mine && m.pending(o) && m.waits(a) && o.under == m.law.environment())
	if a.doubtful {
		says = min(says, either)
	}
	digest := modelArtifacts[0].Digest
	if v, err := g.k.Override(Caller{User: "dora"}, o.id); err == nil {
		digest = v.Digest
	}
	err := g.k.DecideOverride(g.ctx, g.shown(who), o.id, true, digest, "")
	if g.check("approve an override", err, says); err == nil {
		if *mine = true; o.oz && o.una {
			o.granted = m.now
		}
	}
}

func (g *gateDrive) claims(a *stagedAsk) {
	m := g.m
	run, job, handle, says := a.run, "11", "h"+a.run, m.released(a)
	again := m.runs(a)
	if again {
		says = yes // the same job asks again
	}
	switch g.uniform(24, "who") {
	case 0:
		run, says = "1", no
	case 1:
		job, says = "12", no
	case 2:
		handle, says = "another", no
	}
	j := g.job(run, job, "production", "1001")
	if g.one(20, "moved") {
		j.Commit, says = lockkeeper.SignedFact(strings.Repeat("2", 40)), no
	}
	err := g.k.Claim(g.ctx, j, a.id, handle)
	if again {
		g.check("claim again", err, says)
		return
	}
	needed := m.law.office || a.then.office
	g.check("claim", err, says)
	if err != nil {
		g.seen["claim refused "+codeOf(err)]++
		return
	}
	if needed {
		g.seen["claim by override"]++
	}
	g.seen["claim "+a.action]++
	a.started, a.waived, a.limit = m.now, needed, m.now.Add(10*time.Minute)
	if end := a.over; needed && end.granted.Add(time.Hour).Before(a.limit) {
		a.limit = end.granted.Add(time.Hour)
	}
	a.ends = a.limit
	if beat := m.now.Add(4 * time.Minute); beat.Before(a.ends) {
		a.ends = beat
	}
	m.swept()
}

// uses is what a holder does, or would: a token, a heartbeat, its word on how it went.
func (g *gateDrive) uses(a *stagedAsk, what string, wrong bool) {
	m, handle := g.m, "h"+a.run
	if wrong {
		handle = "another"
	}
	switch what {
	case "token":
		says := saysIf(m.stands(a) && !wrong && !m.frozen(a.action, "abort", "noTokens"))
		if m.runs(a) && a.ends.Sub(m.now) < 2*time.Second {
			says = min(says, either)
		}
		token, err := g.k.Exchange(g.ctx, g.job(a.run, "11", "production", "1001"), a.id, handle, "https://target.example")
		if g.check("token", err, says); err == nil && a.ends.Before(token.Expires) {
			g.t.Fatalf("a token until %s, of a lease until %s", token.Expires, a.ends)
		}
	case "renew":
		ends, err := g.k.Renew(g.ctx, a.id, handle)
		g.check("renew", err, saysIf(m.stands(a) && !wrong))
		if err != nil {
			return
		}
		later := m.now.Add(4 * time.Minute)
		if a.limit.Before(later) {
			later = a.limit
		}
		if a.ends.Sub(m.now) <= 2*time.Minute && a.ends.Before(later) {
			a.ends = later
		}
		if ends != a.ends {
			g.t.Fatalf("the lease ends at %s, and the model says %s", ends, a.ends)
		}
	default:
		by, err := g.k.Holder(g.ctx, a.id, handle)
		if err == nil {
			err = g.k.End(g.ctx, by, a.id, map[string]int{"fail": 1}[what])
		}
		says := saysIf(m.runs(a) && !wrong)
		if !a.started.IsZero() && !m.runs(a) && m.unswept && !wrong {
			says = either // it is taken, and counts for nothing
		}
		if g.check(what, err, says); err == nil && m.runs(a) {
			m.end(a)
			if what == "end" {
				m.good = append(m.good, a.artifact)
			}
		}
	}
}

// restarts stops the keeper and starts it again: from the journal alone, or from a state
// that was recorded.
func (g *gateDrive) restarts() {
	o, how := Options{}, "journal"
	if g.one(2, "snapshot") {
		how, o.VerifyWhole = "snapshot", 1
		if err := g.k.recordState(g.ctx); err != nil {
			g.t.Fatal(err)
		}
	}
	if err := g.k.Close(); err != nil {
		g.t.Fatal(err)
	}
	size := g.k.state.Size
	before, err := g.k.state.Digest()
	if err != nil {
		g.t.Fatal(err)
	}
	g.open(o)
	states, err := g.k.states(g.ctx, 1, size)
	if err != nil {
		g.t.Fatal(err)
	}
	if after, err := states[0].Digest(); err != nil || after != before {
		g.t.Fatalf("after a restart from the %s the state is another: %v", how, err)
	}
	g.seen["restart from the "+how]++
}

// step does one thing, and reads what the journal says of it.
func (g *gateDrive) step() {
	what := g.pick("what", "clock", "clock", "clock", "open", "vote", "vote", "vote", "vote", "evidence", "evidence", "answer", "answer", "call", "claim", "claim", "claim", "claim", "use", "use", "use",
		"law", "freeze", "override", "override", "withdraw", "sweep", "cancel", "restart", "held", "held", "through", "through", "queue", "shake")
	a := g.ask()
	if h := g.m.holder(); h != nil && slices.Contains([]string{"use", "withdraw", "claim"}, what) && !g.one(3, "another") {
		a = h
	}
	if a == nil && !slices.Contains([]string{"clock", "evidence", "law", "freeze", "sweep", "held", "queue"}, what) {
		what = "open"
	}
	switch what {
	case "clock":
		g.m.pass(time.Duration([]int{1, 5, 10, 20, 31, 60, 100, 200, 600}[g.uniform(9, "seconds")]) * time.Second)
	case "open":
		g.opens()
	case "vote":
		g.votes(a)
	case "withdraw":
		g.withdraws(a)
	case "evidence":
		g.evidence()
	case "answer":
		g.answers(a)
	case "call":
		g.calls(a)
	case "claim":
		g.claims(a)
	case "use":
		g.uses(a, g.pick("use", "token", "token", "renew", "end", "end", "fail"), g.one(10, "another handle"))
	case "law":
		g.decrees()
	case "freeze":
		g.freezes()
	case "override":
		g.override(a)
	case "sweep":
		g.sweeps()
	case "restart":
		if g.one(2, "restart") {
			g.restarts()
		}
	case "held":
		for range 4 {
			g.heldStep()
		}
	case "through":
		if g.prepares(a) {
			g.claims(a)
		}
	case "queue":
		g.queues()
	case "shake": // what let the holder through is taken away, and he goes on
		if h := g.m.holder(); h != nil {
			next := g.m.law
			if next.two = g.one(2, "two"); g.one(2, "leaves") {
				next.out = g.pick("out", "cat", "eve")
			}
			g.decree(next)
			g.uses(h, g.pick("use", "token", "renew"), false)
		}
	case "cancel":
		if g.one(3, "cancel") {
			says := saysIf((g.m.waits(a) || g.m.runs(a)) && !a.doubtful)
			if says == no {
				says = either // what time has ended may not be written down
			}
			err := g.k.Cancel(g.ctx, Caller{User: "ann"}, a.id, "no")
			if g.check("cancel", err, says); err == nil && (g.m.waits(a) || g.m.runs(a)) {
				g.m.end(a)
			}
		}
	}
	for _, a := range g.m.asks { // a final no, while it is demanded, may end it
		a.doubtful = a.doubtful || g.m.waits(a) && a.verdict == 2 && (a.then.later || g.m.law.later)
	}
	g.reads()
}

// queues lets the two oldest asks be ready, the holder end, and the younger of them come
// for the lock.
func (g *gateDrive) queues() {
	var waiting []*stagedAsk
	for _, a := range g.m.asks {
		if g.m.waits(a) && !a.doubtful {
			waiting = append(waiting, a)
		}
	}
	if len(waiting) < 2 {
		g.opens()
		return
	}
	g.prepares(waiting[0])
	g.prepares(waiting[1])
	if h := g.m.holder(); h != nil {
		g.uses(h, "end", false)
	}
	g.claims(waiting[1])
}

// prepares does for an ask what it lacks, so that what is rare comes. It reports whether
// there was anything to do.
func (g *gateDrive) prepares(a *stagedAsk) bool {
	m := g.m
	if !m.waits(a) {
		return false
	}
	for _, user := range []string{"cat", "eve", "bob", "fay"} {
		if m.member(user, false) && !a.votes[user] && !a.doubtful {
			if err := g.k.Vote(g.ctx, Caller{User: user}, a.id, true, a.digest, ""); err != nil {
				g.check("vote", err, yes)
			}
			a.votes[user] = true
		}
	}
	if q, asked := g.question(a, "service"); asked {
		g.check("answer yes", g.k.ReportQuestion(g.ctx, q, met(true)), yes)
		a.answers = append(a.answers, modelAnswer{m.now, true})
	}
	if max(a.then.tests, m.law.tests) > 0 && !g.one(4, "without results") {
		g.brings("good", a.artifact)
	}
	if g.told(a) != "" && a.verdict == 0 {
		g.called(a, "pass", a.digest)
	}
	if (a.then.office || m.law.office) && !m.overridden(a) && !a.doubtful {
		if !m.pending(a.over) || a.over.under != m.law.environment() {
			if a.over != nil && !a.over.over {
				return false
			}
			g.asksOverride(a, "office")
		}
		if a.over != nil && m.pending(a.over) {
			for _, who := range []string{"oz", "una"} {
				if done := map[string]bool{"oz": a.over.oz, "una": a.over.una}; !done[who] {
					g.overrides(a, who)
				}
			}
		}
	}
	g.reads()
	return true
}

// reads takes what the journal has by now, as it stands on the disk, and holds the live
// leases in it against the model's.
func (g *gateDrive) reads() {
	for stored, err := range g.k.journal.Entries(g.ctx, g.read, 0) {
		if err != nil {
			g.t.Fatal(err)
		}
		e, ev, err := readEntry(stored.Data)
		if err == nil {
			err = g.log.take(e, ev)
		}
		if err != nil {
			g.t.Fatalf("entry %d: %v\n%s\n%s", e.Seq, err, stored.Data, g.story())
		}
		g.read = e.Seq + 1
	}
	live := map[string]bool{}
	for id, ends := range g.log.leases["production"] {
		if g.m.now.Before(ends) {
			live[id] = true
		}
	}
	want := map[string]bool{}
	if a := g.m.holder(); a != nil {
		want[a.id] = true
	}
	if !maps.Equal(live, want) {
		g.t.Fatalf("at %s the journal has the live leases %v, and the model %v (gates 20, 31)\n%s", g.m.now, live, want, g.story())
	}
}

// modelFolder is the data folder of a keeper that has been set up, and has recorded the
// artifacts.
func modelFolder(t *testing.T) string {
	ctx, dir := context.Background(), t.TempDir()
	k, err := Open(ctx, Options{Dir: dir, Issuer: "https://lockkeeper.example", Clock: began.Time})
	must(t, err)
	code, err := k.MakeSetupCode(ctx)
	must(t, err)
	must(t, k.SetUp(ctx, code, "dora", "a password of dora"))
	_, err = k.Apply(ctx, Caller{User: "dora"}, readRules(t, stance{}.text()), 1, "first")
	must(t, err)
	_, err = k.RecordArtifacts(ctx, workload(1_000_000, "1", "10", "", "1009", "push", 1, began), "", modelArtifacts[:1])
	must(t, err)
	_, err = k.RecordArtifacts(ctx, workload(1_000_001, "2", "10", "", "1009", "push", 1, began), "", modelArtifacts[1:])
	must(t, err)
	must(t, k.Close())
	return dir
}

func copyFolder(t *rapid.T, from, to string) {
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == from {
			return err
		}
		at := filepath.Join(to, strings.TrimPrefix(path, from))
		if d.IsDir() {
			return os.Mkdir(at, 0o700)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(at, data, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// gateModelMust are outcomes that a run of the model has to reach: a gate that is always
// shut would agree with everything else.
var gateModelMust = []string{"claim true", "claim false", "claim by override", "claim deploy", "claim rollback", "claim redeploy", "claim again true", "token true", "token false", "renew true", "renew false", "end true", "end false",
	"vote true", "vote false", "reject true", "withdraw true", "withdraw false", "bring good true", "bring bad true", "bring another stage false", "bring nothing false", "answer yes true", "answer away true",
	"callback true true", "callback false true", "callback forged", "callback again", "callback late false", "freeze true", "lift true", "lift by who froze false", "ask for an override true", "ask for an override false",
	"approve an override true", "approve an override false", "end an override true", "restart from the journal", "restart from the snapshot", "open rollback false", "open redeploy false", "cancel true",
	"claim refused evidence_stale", "claim refused tests_bad", "claim refused frozen", "claim refused locked", "claim refused not_its_turn", "claim refused call_silent", "claim refused approvals_missing", "claim refused outside_hours",
	"held let through", "held waits", "held told yes", "held told no", "held again"}

// TestGateModel drives a real keeper, its journal on the disk, through random
// interleavings of everything that a gate hangs on, and holds each outcome against the
// model: what is given where the model sees something lacking is a defect, and what is
// refused where all was good is one, too. LOCKKEEPER_MODEL_ROUNDS=N plays N rounds.
func TestGateModel(t *testing.T) {
	first := modelFolder(t)
	seen, laws, played := map[string]int{}, map[stance]*Rules{}, 0
	property := func(rt *rapid.T) {
		played++
		g := &gateDrive{t: rt, tb: t, ctx: context.Background(), m: &gateModel{now: began.Add(time.Second)}, seen: seen, log: newGateReader(), address: map[string]string{}, laws: laws}
		dir, err := os.MkdirTemp(t.TempDir(), "round")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(dir)
		copyFolder(rt, first, dir)
		g.dir = dir
		g.open(Options{})
		defer func() { g.k.Close() }()
		g.decree(stance{two: g.one(4, "two"), tests: []int{0, 0, 10, 30}[g.uniform(4, "tests")], service: g.one(3, "service"), later: g.one(3, "later"), office: g.one(3, "office"), hasty: g.one(4, "hasty"), window: g.one(4, "window")})
		for range rapid.IntRange(40, 160).Draw(rt, "steps") {
			g.step()
		}
	}
	untilSeen(t, seen, gateModelMust, property)
	rare := map[string]int{}
	for _, what := range gateModelMust {
		if seen[what] < 10 {
			rare[what] = seen[what]
		}
	}
	t.Logf("%d rounds; rare were %v", played, rare)
}
