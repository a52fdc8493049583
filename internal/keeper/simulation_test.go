package keeper

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/journal"
	"golang.org/x/mod/sumdb/note"
	"pgregory.net/rapid"
)

// A law is one of the catalogs that the simulation moves between, and what an
// independent reader knows of it.
type law struct {
	text   string
	rules  *Rules
	out    map[string]bool // users who may neither approve nor start
	frozen bool            // production is frozen from 10:00 to 11:00
	loose  bool            // production demands no security review
	age    time.Duration   // how old a record may be that vouches for production
}

func laws(t testing.TB) []*law {
	locked := func(pairs ...string) string {
		return rulesWith(append(pairs, "<age>", "recordAge: 150m\n", "<lock>", "  - {name: one, lock: {mode: sequential}}\n", "<latest>", "checks:\n  - {name: one, lock: {mode: runLatest}}\n")...)
	}
	all := []*law{
		{text: locked()},
		{text: locked("<bob>", "\noff: true", "<age>", "recordAge: 5h\n"), out: map[string]bool{"bob": true}, age: 5 * time.Hour},
		{text: locked(", cat, eve<managers>", ", eve"), out: map[string]bool{"cat": true}},
		{text: locked("<lock>", "  - {name: one, lock: {mode: sequential}}\nwaivers: [{demand: security-review, owner: dora, until: 2026-12-01T00:00:00Z, reason: in a hurry}]\n",
			"  - name: security\n    approval: {count: 1, groups: [security], review: security}\n", ""), loose: true},
		{text: locked("<more>", "---\nkind: Freeze\nname: stop\nscope: /projects/payments/environments/production\nfrom: 2026-11-02T10:00:00Z\nuntil: 2026-11-02T11:00:00Z\nreason: quiet\nactions: [deploy]\n"), frozen: true},
	}
	for _, l := range all {
		l.rules = mustRules(t, l.text)
		if l.age == 0 {
			l.age = 150 * time.Minute
		}
	}
	return all
}

var (
	personOf  = map[string]string{"ann-admin": "ann"}
	accountOf = map[string]string{"1001": "ann", "1011": "ann-admin", "1002": "bob", "1003": "cat", "1004": "eve"}
	security  = map[string]bool{"cat": true, "eve": true, "ann-admin": true}
)

// A reader follows the journal with rules of its own, written without looking
// at the keeper's, and fails on the first entry that must not be.
type reader struct {
	law         *law
	deployments map[string]*seen
	unproven    map[string]bool // accounts that count as dora, who invited them
	tokens      map[lockkeeper.Digest]string
	builders    []builder       // who started the runs that recorded the artifact
	good        map[string]bool // environment and artifacts that were deployed with success
}

type builder struct {
	run, who, own string
	at            lockkeeper.Moment
}

// vouched says whether a record of the artifact is young enough at now.
func (r *reader) vouched(d *seen, now lockkeeper.Moment) bool {
	return slices.ContainsFunc(r.builders, func(b builder) bool { return now.Sub(b.at) < min(d.age, r.law.age) })
}

// built says whether the person started a run that built what d deploys, before
// that was let through.
func (r *reader) built(d *seen, who string) bool {
	return who != "" && slices.ContainsFunc(r.builders, func(b builder) bool {
		return (b.who == who || b.own == who) && (!d.leased || !d.released.Before(b.at))
	})
}

type seen struct {
	ask      lockkeeper.Ask
	digest   lockkeeper.Digest
	deadline lockkeeper.Moment
	behind   map[string]bool
	robot    bool
	approved []string
	standIns map[string]string            // from → to
	handed   map[string]lockkeeper.Moment // when, by from
	voted    map[string]lockkeeper.Moment // when last, by user
	released lockkeeper.Moment
	opened   int64
	line     string
	ends     lockkeeper.Moment
	limit    lockkeeper.Moment
	leased   bool
	asker    lockkeeper.Digest // the job that asked
	asked    lockkeeper.Digest // its handle
	job      lockkeeper.Digest
	handle   lockkeeper.Digest
	ended    bool
	standing lockkeeper.Digest
	loose    bool          // opened under a law that demanded no security review
	age      time.Duration // how old a record might be then
}

func (r *reader) who(user string) string {
	if r.unproven[user] {
		return "dora"
	}
	if p := personOf[user]; p != "" {
		return p
	}
	return user
}

// enough says whether distinct persons, still entitled and not behind the run,
// fill the places: k managers and k of security, who all are managers too.
func (r *reader) enough(d *seen) bool {
	if d.ask.Environment == "test" {
		return true
	}
	k := 1
	if d.robot {
		k = 2
	}
	managers, secure := map[string]bool{}, map[string]bool{}
	for _, user := range d.approved {
		own := user
		if p := personOf[user]; p != "" {
			own = p
		}
		who := r.who(user)
		if r.law.out[user] || d.behind[who] || d.behind[own] || r.built(d, who) || r.built(d, own) {
			continue
		}
		managers[who] = true
		if security[user] || r.standsForSecurity(d, user) {
			secure[who] = true
		}
	}
	if d.loose && r.law.loose { // no review was demanded then, and none is now
		return len(managers) >= k
	}
	return len(secure) >= k && len(managers) >= 2*k
}

// standsForSecurity says whether somebody of security, who still may approve and
// has not, handed his place over to the user.
func (r *reader) standsForSecurity(d *seen, user string) bool {
	for from, to := range d.standIns {
		own := from
		if p := personOf[from]; p != "" {
			own = p
		}
		if to != user || d.voted[user].Before(d.handed[from]) || !security[from] || r.law.out[from] || d.behind[r.who(from)] || d.behind[own] || r.built(d, r.who(from)) || r.built(d, own) {
			continue
		}
		voted := false
		for _, a := range d.approved {
			voted = voted || a == from || personOf[a] == own || r.who(a) == r.who(from)
		}
		if !voted {
			return true
		}
	}
	return false
}

func (r *reader) entitled(d *seen) bool {
	for who := range d.behind {
		if !r.law.out[who] {
			return true
		}
	}
	return d.robot
}

func (r *reader) use(token lockkeeper.Digest, what string) error {
	if was, used := r.tokens[token]; used && was != what {
		return fmt.Errorf("a token that opened %s opens %s (invariant 4)", was, what)
	}
	r.tokens[token] = what
	return nil
}

func (r *reader) read(e Entry, ev event) error {
	switch ev := ev.(type) {
	case *deploymentOpened:
		digest, err := ev.Ask.Digest()
		if err != nil || digest != ev.Digest {
			return fmt.Errorf("the ask has another digest (invariant 4)")
		}
		want := map[string]string{"production": "deploy", "test": "deploy-test"}[ev.Ask.Environment]
		if ev.Ask.Stage != want {
			return fmt.Errorf("the stage %s opens %s (invariant 7)", ev.Ask.Stage, ev.Ask.Environment)
		}
		d := &seen{ask: ev.Ask, digest: ev.Digest, deadline: ev.Deadline, behind: map[string]bool{}, standIns: map[string]string{}, handed: map[string]lockkeeper.Moment{}, voted: map[string]lockkeeper.Moment{}, opened: e.Seq,
			line: ev.Ask.Environment + ev.Ask.Pipeline + ev.Ask.Stage + ev.Ask.Ref, asker: ev.Job, asked: ev.Handle, loose: r.law.loose, age: r.law.age}
		if ev.Ask.Action == lockkeeper.RollbackAction && !r.good[ev.Ask.Environment+fmt.Sprint(ev.Ask.Artifacts)] {
			return fmt.Errorf("a rollback to what was never there")
		}
		for _, o := range ev.Initiators {
			user := accountOf[o.Account]
			d.robot = d.robot || o.Automation || o.Account == "1099"
			if user == "" && o.Account != "1099" {
				return fmt.Errorf("nobody knows who %s is (invariant 9)", o.Account)
			}
			if user != "" {
				d.behind[r.who(user)] = true
				if p := personOf[user]; p != "" {
					user = p
				}
				d.behind[user] = true
			}
		}
		if d.robot && ev.Ask.Environment == "test" || ev.Ask.Attempt != 1 {
			return fmt.Errorf("automation or a re-run got in (invariant 9)")
		}
		r.deployments[ev.ID] = d
		return r.use(ev.Token, ev.ID)
	case *artifactRecorded:
		if user := accountOf[ev.Initiator.Account]; user != "" || ev.Initiator.Account == "1099" {
			who := r.who(user)
			own := user
			if p := personOf[user]; p != "" {
				own = p
			}
			r.builders = append(r.builders, builder{ev.Run, who, own, e.Time})
		} else {
			r.builders = append(r.builders, builder{run: ev.Run, at: e.Time})
		}
		if _, used := r.tokens[ev.Token]; used {
			return fmt.Errorf("a token records twice")
		}
		return r.use(ev.Token, "artifacts")
	case *deploymentApproved:
		d := r.deployments[ev.ID]
		if ev.Digest != d.digest || d.ended || d.leased || !e.Time.Before(d.deadline) {
			return fmt.Errorf("an approval of something else, or too late (invariant 4)")
		}
		if d.behind[r.who(ev.User)] || r.law.out[ev.User] || r.built(d, r.who(ev.User)) {
			return fmt.Errorf("%s approved what is theirs, or without the right (invariants 3, 5)", ev.User)
		}
		d.approved, d.voted[ev.User] = append(d.approved, ev.User), e.Time
	case *approvalWithdrawn:
		d := r.deployments[ev.ID]
		if d.ended || !slices.Contains(d.approved, ev.User) {
			return fmt.Errorf("%s withdraws what is not there", ev.User)
		}
		d.approved = slices.DeleteFunc(d.approved, func(u string) bool { return u == ev.User })
		delete(d.standIns, ev.User)
	case *approvalDelegated:
		d := r.deployments[ev.ID]
		if d.ended || d.leased || r.law.out[ev.From] || r.law.out[ev.To] || d.behind[r.who(ev.From)] || d.behind[r.who(ev.To)] || r.built(d, r.who(ev.From)) || r.built(d, r.who(ev.To)) {
			return fmt.Errorf("%s hands over to %s what is not theirs (invariants 3, 5)", ev.From, ev.To)
		}
		d.standIns[ev.From], d.handed[ev.From] = ev.To, e.Time
	case *leaseRenewed:
		d := r.deployments[ev.Deployment]
		switch {
		case !d.leased || d.ended || !e.Time.Before(d.ends):
			return fmt.Errorf("a renewal of a dead lease (invariant 6)")
		case d.limit.Before(ev.Ends) || e.Time.Add(5*time.Minute).Before(ev.Ends) || ev.Ends.Before(d.ends):
			return fmt.Errorf("a renewal beyond the lease's limit (invariant 6)")
		case !r.enough(d) || !r.entitled(d):
			return fmt.Errorf("a renewal after a right was lost (invariant 5)")
		}
		d.ends = ev.Ends
	case *leaseGranted:
		d := r.deployments[ev.Deployment]
		for id, o := range r.deployments {
			if o.leased && !o.ended && o.ask.Environment == d.ask.Environment {
				return fmt.Errorf("a lease beside that of %s (the lock)", id)
			}
			if !o.ended && !o.leased && o.line == d.line && o.opened < d.opened && d.ask.Environment == "test" {
				return fmt.Errorf("a lease while the older %s still waits (runLatest)", id)
			}
		}
		switch {
		case d.leased:
			return fmt.Errorf("a second lease (invariant 2)")
		case d.ended || !e.Time.Before(d.deadline):
			return fmt.Errorf("a lease after the end (invariant 6)")
		case ev.Digest != d.digest:
			return fmt.Errorf("a lease for another ask (invariant 4)")
		case ev.Handle != d.asked || !d.ask.Detached && ev.Job != d.asker:
			return fmt.Errorf("a lease for another job than the one that asked (invariant 7)")
		case !r.enough(d):
			return fmt.Errorf("a lease with the approvals of %v, behind it %v (invariants 3, 5)", d.approved, d.behind)
		case !r.entitled(d):
			return fmt.Errorf("a lease for an initiator without the right (invariant 5)")
		case d.ask.Environment == "production" && d.ask.Action == lockkeeper.DeployAction && !r.vouched(d, e.Time):
			return fmt.Errorf("a lease for an artifact whose records are too old (invariant 10)")
		case r.law.frozen && d.ask.Environment == "production" && d.ask.Action == lockkeeper.DeployAction && e.Time.Time().Hour() == 10:
			return fmt.Errorf("a lease in a freeze (invariant 9)")
		}
		d.released = e.Time
		d.leased, d.ends, d.job, d.handle = true, ev.Ends, ev.Job, ev.Handle
		d.limit = e.Time.Add(map[string]time.Duration{"production": 10 * time.Minute, "test": 5 * time.Minute}[d.ask.Environment])
		return r.use(ev.Token, ev.Deployment)
	case *tokenGranted:
		d := r.deployments[ev.Deployment]
		switch {
		case !d.leased || d.ended || !e.Time.Before(d.ends):
			return fmt.Errorf("a token without a live lease (invariants 6, 7)")
		case d.ends.Before(ev.Expires):
			return fmt.Errorf("a token that outlives its lease (invariant 7)")
		case ev.Job != d.job || ev.Handle != d.handle:
			return fmt.Errorf("a token for another job (invariant 7)")
		case !r.enough(d) || !r.entitled(d):
			return fmt.Errorf("a token after a right was lost (invariant 5)")
		case ev.Standing == nil && d.standing != ev.StandingDigest:
			return fmt.Errorf("nothing says what stood when the token was granted")
		}
		if d.standing = ev.StandingDigest; ev.Standing != nil {
			if b, err := marshal(*ev.Standing); err != nil || lockkeeper.DigestOf(b) != ev.StandingDigest {
				return fmt.Errorf("what stood has another digest")
			}
		}
		return r.use(ev.Token, ev.Deployment)
	case *deploymentEnded:
		d := r.deployments[ev.ID]
		if d.ended {
			return fmt.Errorf("it ended twice")
		}
		switch ev.End.Status {
		case Succeeded:
			r.good[d.ask.Environment+fmt.Sprint(d.ask.Artifacts)] = true
		case Superseded:
			newer := false
			for _, o := range r.deployments {
				newer = newer || o.line == d.line && o.opened > d.opened && (!o.ended || o.leased)
			}
			if !newer || d.leased || d.ask.Environment != "test" {
				return fmt.Errorf("superseded by nothing newer")
			}
		case Indeterminate:
			if e.Time.Before(d.ends) {
				return fmt.Errorf("given up before its lease ended")
			}
		}
		d.ended = true
	}
	return nil
}

// A simulation drives a core with random commands and instants.
type simulation struct {
	t       *rapid.T
	core    *core
	mirror  *State // folded from the stored bytes alone
	reader  *reader
	laws    []*law
	now     lockkeeper.Moment
	tokens  int
	ids     []string
	records []journal.Record
	outcome map[string]int
}

func (s *simulation) job() lockkeeper.Workload {
	t := s.t
	n := s.tokens
	if s.tokens > 0 && rapid.IntRange(0, 19).Draw(t, "reuse") == 0 {
		n = rapid.IntRange(0, s.tokens-1).Draw(t, "token")
	} else {
		s.tokens++
	}
	pick := func(name string, of ...string) string { return rapid.SampledFrom(of).Draw(t, name) }
	attempt := 1
	if rapid.IntRange(0, 15).Draw(t, "rerun") == 0 {
		attempt = 2
	}
	return workload(n, pick("run", "1", "2"), pick("job", "10", "11"), pick("environment", "production", "production", "production", "test", ""),
		pick("actor", "1001", "1001", "1001", "1002", "1002", "1003", "1011", "1099", "4444"), pick("event", "push", "push", "push", "push", "push", "push", "push", "schedule", "pull_request"), attempt, s.now)
}

func (s *simulation) id() string {
	if len(s.ids) == 0 {
		return "d-none"
	}
	var alive []string // of the last few, mostly those that have not ended
	for _, id := range s.ids[max(0, len(s.ids)-12):] {
		if s.core.Deployments[id] != nil {
			alive = append(alive, id)
		}
	}
	if len(alive) == 0 || rapid.IntRange(0, 9).Draw(s.t, "any") == 0 {
		return rapid.SampledFrom(s.ids).Draw(s.t, "deployment")
	}
	return rapid.SampledFrom(alive[max(0, len(alive)-2):]).Draw(s.t, "deployment")
}

func (s *simulation) handle() lockkeeper.Digest {
	return HandleDigest(rapid.SampledFrom([]string{"one", "one", "one", "two"}).Draw(s.t, "handle"))
}

// claimer is mostly the job that can claim: of the run that the ask is of.
func (s *simulation) claimer(id string) lockkeeper.Workload {
	j := s.job()
	d := s.core.Deployments[id]
	if d == nil || rapid.IntRange(0, 7).Draw(s.t, "misfit") == 0 {
		return j
	}
	j.Run, j.Attempt = lockkeeper.SignedFact(d.Ask.Run), d.Ask.Attempt
	j.Environment, j.Event = lockkeeper.SignedFact(d.Ask.Environment), lockkeeper.SignedFact("push")
	if d.Lease != nil && rapid.IntRange(0, 7).Draw(s.t, "another job") > 0 {
		for _, job := range []string{"10", "11"} {
			if j.Job = lockkeeper.SignedFact(job); j.JobKey() == d.Lease.Job {
				break
			}
		}
	}
	return j
}

// held is mostly the handle of the deployment's lease.
func (s *simulation) held(id string) lockkeeper.Digest {
	if d := s.core.Deployments[id]; d != nil && d.Lease != nil && rapid.IntRange(0, 7).Draw(s.t, "another handle") > 0 {
		return d.Lease.Handle
	}
	return s.handle()
}

func (s *simulation) command() (Caller, command) {
	t := s.t
	user := func() string {
		return rapid.SampledFrom([]string{"ann", "ann-admin", "bob", "bob", "cat", "cat", "eve", "eve", "dora", "nobody"}).Draw(t, "user")
	}
	choice := rapid.IntRange(0, 29).Draw(t, "command")
	for _, d := range s.core.Deployments {
		if d.Status == Running && choice > 12 { // a lease is rare: dwell on it
			choice = []int{11, 11, 14, 13, 24, 0}[choice%6]
			break
		}
	}
	switch choice {
	case 0, 1:
		j := s.job()
		id := fmt.Sprintf("d-%d", len(s.ids))
		s.ids = append(s.ids, id)
		env := j.Environment.Value
		if rapid.IntRange(0, 7).Draw(t, "elsewhere") == 0 {
			env = rapid.SampledFrom([]string{"production", "test", "moon"}).Draw(t, "to")
		}
		return Caller{Workload: &j}, openDeployment{ID: id, Job: j, Environment: env, Artifacts: []lockkeeper.Artifact{app}, Handle: s.handle(), Detached: rapid.Bool().Draw(t, "detached"),
			Action: rapid.SampledFrom([]string{"", "", "", "deploy", "rollback"}).Draw(t, "action")}
	case 2:
		j := s.job()
		j.Environment = lockkeeper.Fact{}
		return Caller{Workload: &j}, recordArtifacts{j, []lockkeeper.Artifact{app}}
	case 3, 4, 5, 6, 7, 16, 17, 18, 19:
		id, digest := s.id(), lockkeeper.DigestOf([]byte("other"))
		if d := s.core.Deployments[id]; d != nil && rapid.IntRange(0, 9).Draw(t, "right digest") > 0 {
			digest = d.Digest
		}
		return Caller{User: user()}, vote{Deployment: id, Approve: rapid.IntRange(0, 39).Draw(t, "reject") > 0, Digest: digest}
	case 8, 9, 10, 20:
		id := s.id()
		j := s.claimer(id)
		handle := s.handle()
		if d := s.core.Deployments[id]; d != nil && rapid.IntRange(0, 3).Draw(t, "another") > 0 {
			handle = d.Handle
			for _, job := range []string{"10", "11"} {
				if j.Job = lockkeeper.SignedFact(job); j.JobKey() == d.Requester || d.Ask.Detached {
					break
				}
			}
		}
		return Caller{Workload: &j}, claimLease{Deployment: id, Lease: "l-1", Job: j, Handle: handle}
	case 11, 12, 21, 22, 23:
		id := s.id()
		j := s.claimer(id)
		return Caller{Workload: &j}, grantToken{Deployment: id, ID: "t-1", Job: j, Handle: s.held(id), Audience: rapid.SampledFrom([]string{"https://target.example", "https://target.example", "https://target.example", "https://x"}).Draw(t, "audience")}
	case 28:
		return Caller{User: user()}, withdrawApproval{Deployment: s.id()}
	case 29:
		return Caller{User: user()}, revokeLease{Deployment: s.id(), Reason: "no"}
	case 13:
		id := s.id()
		if rapid.Bool().Draw(t, "cancel") {
			return Caller{User: user()}, cancelDeployment{Deployment: id}
		}
		return Caller{Holder: id}, endDeployment{id, rapid.IntRange(0, 1).Draw(t, "exit")}
	case 24, 25:
		id := s.id()
		return Caller{Holder: id}, renewLease{id, s.held(id)}
	case 26:
		id := s.id()
		return Caller{User: user()}, delegate{Deployment: id, To: user()}
	case 27:
		if rapid.Bool().Draw(t, "gates") {
			return Caller{Keeper: true}, noteGates{s.ids[max(0, len(s.ids)-maxNoted):]}
		}
	case 14:
		l := rapid.SampledFrom(s.laws).Draw(t, "law")
		return Caller{User: "dora"}, applyCatalog{Base: s.core.Revision.Number, Rules: l.rules}
	}
	if choice == 15 && rapid.Bool().Draw(t, "record") {
		digest, err := s.core.State.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return Caller{Keeper: true}, recordState{s.core.Size, digest}
	}
	return Caller{Keeper: true}, sweep{}
}

// restart goes on with the states as a restart reads them back.
func (s *simulation) restart() {
	for _, at := range []**State{&s.core.State, &s.mirror} {
		data, err := marshal(*at)
		if err != nil {
			s.t.Fatal(err)
		}
		if *at, err = readState(data, (*at).Size); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *simulation) step() {
	s.now = s.now.Add(time.Duration(rapid.SampledFrom([]int{0, 0, 0, 0, 1, 1, 5, 30, 61, 300, 1800}).Draw(s.t, "seconds")) * time.Second)
	by, cmd := s.command()
	key := rapid.SampledFrom([]string{"", "", "", "k"}).Draw(s.t, "key")
	if key != "" {
		key = fmt.Sprintf("k%d", len(s.records)) // a fresh one
	}
	out, err := s.core.step(by, key, cmd, s.now)
	if err != nil {
		s.t.Fatalf("%s: %v", cmd.name(), err)
	}
	s.outcome[cmd.name()+" "+fmt.Sprint(out.err == nil)]++
	s.checkNoted(cmd, out)
	if r := lockkeeper.RefusalOf(out.err); r != nil && r.Code == "artifact_stale" {
		s.outcome["artifact_stale"]++
	}
	if v, is := cmd.(vote); is && out.err == nil && v.Digest != s.reader.deployments[v.Deployment].digest {
		s.t.Fatalf("a vote for another ask was taken (invariant 4)")
	}
	if a, is := cmd.(applyCatalog); is && out.err == nil {
		for _, l := range s.laws {
			if l.rules == a.Rules {
				s.reader.law = l
			}
		}
	}
	if rapid.IntRange(0, 3).Draw(s.t, "restart") == 0 {
		s.restart()
	}
	s.check(out)
	if key != "" && out.err == nil && len(out.records) > 0 {
		again, err := s.core.step(by, key, cmd, s.now)
		if err != nil || again.err != nil || len(again.records) != 0 || again.replay == nil {
			s.t.Fatalf("%s with the same key: %v %+v", cmd.name(), err, again)
		}
	}
}

// check reads what was recorded, folds it into the mirror from its bytes, and
// compares the two states (invariant 1).
func (s *simulation) check(out step) {
	for _, r := range out.records {
		e, ev, err := readEntry(r.Data)
		if err != nil {
			s.t.Fatal(err)
		}
		if whole, err := marshal(e); err != nil || string(whole) != string(r.Data) {
			s.t.Fatalf("entry %d is stored in another form than encoding/json gives: %s", e.Seq, r.Data)
		}
		if err := s.reader.read(e, ev); err != nil {
			s.t.Fatalf("entry %d %s: %v\n%s", e.Seq, e.Kind, err, r.Data)
		}
		if err := s.mirror.apply(e, ev); err != nil {
			s.t.Fatal(err)
		}
	}
	s.records = append(s.records, out.records...)
	one, err := s.core.State.Digest()
	if err != nil {
		s.t.Fatal(err)
	}
	two, err := s.mirror.Digest()
	if err != nil {
		s.t.Fatal(err)
	}
	if one != two {
		s.t.Fatalf("after %d entries the state is not the fold of the journal (invariant 1)", s.core.Size)
	}
}

// TestSimulation checks invariants 1 to 7, 9 and 10 after each of many random
// commands at random instants.
func TestSimulation(t *testing.T) {
	all := laws(t)
	total := map[string]int{}
	untilSeen(t, total, []string{"deployment.open true", "deployment.open false", "deployment.approve true", "lease.claim true", "lease.claim false", "token.grant true", "token.grant false", "deployment.end true", "lease.renew true", "lease.renew false", "approval.delegate true", "approval.delegate false", "approval.withdraw true", "lease.revoke false", "state.record true", "artifact_stale", "gate.moved", "flapped"}, func(rt *rapid.T) {
		s := &simulation{t: rt, core: &core{world: world{State: newState(), rules: all[0].rules, spelled: map[string]spelling{}}}, mirror: newState(), laws: all, now: began, outcome: map[string]int{},
			reader: &reader{law: all[0], deployments: map[string]*seen{}, unproven: map[string]bool{"eve": true}, tokens: map[lockkeeper.Digest]string{}, good: map[string]bool{}}}
		first := step{}
		events := []event{&journalStarted{Log: Log{Origin: "simulation"}}, &setupCompleted{User: "dora", Credential: "p"}}
		for _, user := range []string{"ann", "ann-admin", "bob", "cat", "eve"} {
			events = append(events, &accountEnrolled{User: user, Credential: "p", Maker: "dora"})
			if user != "eve" {
				events = append(events, &accountProven{User: user, Token: lockkeeper.TokenIDOf("proof", user), Expires: s.now})
			}
		}
		// The state starts with an artifact that the build stage vouched for.
		build := workload(-1, "1", "1", "", "1001", "push", 1, s.now)
		events = append(events, &artifactRecorded{Project: "payments", Pipeline: "release", Stage: "build", Repository: "8001", Commit: build.Commit.Value, Run: "1",
			Artifacts: []lockkeeper.Artifact{app}, Token: build.TokenID, TokenExpires: build.Expires})
		if err := s.core.record(&first, Caller{Keeper: true}, "", "", events, s.now); err != nil {
			rt.Fatal(err)
		}
		s.check(first)
		for range rapid.IntRange(80, 300).Draw(rt, "steps") {
			s.step()
		}
		s.checkMeasured()
		for k, n := range s.outcome {
			total[k] += n
		}
	})
	t.Log(total)
}

// TestStateIsFoldOfJournal appends a history to a real journal, opens it
// again and folds it to the same state.
func TestStateIsFoldOfJournal(t *testing.T) {
	skey, vkey, err := note.GenerateKey(rand.Reader, "fold")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	ctx, options := context.Background(), journal.Options{Dir: t.TempDir(), Origin: "fold", Signer: signer, Verifier: verifier}
	j, err := journal.Open(ctx, options)
	if err != nil {
		t.Fatal(err)
	}
	l := &law{rules: mustRules(t, rulesWith())}
	c := &core{world: world{State: newState(), rules: l.rules}}
	for i := range 40 {
		job := workload(i, fmt.Sprint(i), "10", "test", "1001", "push", 1, began)
		id := fmt.Sprintf("d-%d", i)
		for _, cmd := range []command{
			openDeployment{ID: id, Job: job, Environment: "test", Artifacts: []lockkeeper.Artifact{app}, Handle: HandleDigest("h")},
			claimLease{Deployment: id, Lease: "l", Job: job, Handle: HandleDigest("h")},
			grantToken{Deployment: id, ID: "t", Job: job, Handle: HandleDigest("h"), Audience: "https://target.example"},
		} {
			out, err := c.step(Caller{Workload: &job}, "", cmd, began)
			if err != nil || out.err != nil {
				t.Fatal(err, out.err)
			}
			if _, err := j.Append(ctx, journal.Batch{Size: j.Head().Size, Records: out.records}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if j, err = journal.Open(ctx, options); err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	again := newState()
	for stored, err := range j.Entries(ctx, 0, 0) {
		if err != nil {
			t.Fatal(err)
		}
		e, ev, err := readEntry(stored.Data)
		if err != nil {
			t.Fatal(err)
		}
		if err := again.apply(e, ev); err != nil {
			t.Fatal(err)
		}
	}
	one, _ := c.State.Digest()
	two, _ := again.Digest()
	if one != two || one == "" || again.Size != 120 {
		t.Errorf("the reopened journal folds to another state: %d entries", again.Size)
	}
}
