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

const day = 24 * time.Hour

// recordRules demand a threat model of test that two of the reviewers approved.
func recordRules(check string, more ...string) string {
	return rulesWith("<latest>", "checks: [{name: model, record: "+check+"}]\n", "<more>", `---
{kind: User, name: sue}
---
{kind: User, name: sam}
---
{kind: User, name: sam-2, person: sam}
---
{kind: User, name: wes}
---
{kind: Group, name: reviewers, users: [sue, sam, sam-2, ann, wes]}
---
{kind: Role, name: writing, actions: [changes/propose, deployments/read]}
---
{kind: Role, name: securing, actions: [changes/secure, deployments/read]}
---
{kind: Assignment, name: writing, role: writing, principal: user:ann, scope: /projects/payments}
---
{kind: Assignment, name: writing-2, role: writing, principal: user:wes, scope: /projects/payments}
---
{kind: Assignment, name: securing, role: securing, principal: group:reviewers, scope: /projects/payments}
---
{kind: Assignment, name: outside, role: securing, principal: user:bob, scope: /projects/payments}
---
{kind: Assignment, name: responding, role: organisation-administrator, principal: user:cat, scope: /}
`+strings.Join(more, ""))
}

const twoReviewers = "{kind: threat-model, groups: [reviewers], count: 2, longest: 2400h, warn: 48h}"

func threats(id string, scope lockkeeper.Scope, until time.Duration) proposeRecord {
	return proposeRecord{ID: id, Kind: "threat-model", Scope: scope, Summary: "what was found", Document: "threats.pdf", Content: lockkeeper.DigestOf([]byte(id)), Size: 3, Until: began.Add(until)}
}

func (c *deploying) approvesRecord(user, id string, at time.Duration) error {
	c.t.Helper()
	var digest lockkeeper.Digest
	if r := c.Designs[id]; r != nil {
		digest = r.Digest
	}
	return c.user(user, decideRecord{Record: id, Approve: true, Digest: digest}, at)
}

// gateAt is how the check stands for an ask that was opened when c began.
func (c *deploying) gateAt(at time.Duration) string {
	c.t.Helper()
	c.n++
	id := fmt.Sprintf("d-g%d", c.n)
	j := c.job(id, "9", "test", "1001", at)
	if err := c.open(id, j, "test", at); err != nil {
		return codeOf(err)
	}
	code := c.decided(id, "check model", at)
	must(c.t, c.as(Caller{Holder: id}, cancelDeployment{Deployment: id}, at))
	return code
}

// gatesAt holds how the check stands at several instants, in their order.
func (c *deploying) gatesAt(want map[time.Duration]string) {
	c.t.Helper()
	for _, at := range slices.Sorted(maps.Keys(want)) {
		if got := c.gateAt(at); got != want[at] {
			c.t.Errorf("after %s: %s, want %s", at, got, want[at])
		}
	}
}

// TestRecord demands a record that two reviewers approved: who may write one, who may
// approve it, when it counts, and that it ends.
func TestRecord(t *testing.T) {
	c := deployCore(t, recordRules(twoReviewers))
	scope := lockkeeper.EnvironmentScope("payments", "test")
	if got := c.gateAt(0); got != "record_missing" {
		t.Errorf("without a record: %s", got)
	}
	for code, p := range map[string]proposeRecord{
		"record_unasked": func() proposeRecord { p := threats("r", scope, 30*day); p.Kind = "privacy"; return p }(),
		"end_too_soon":   threats("r", scope, time.Hour), "end_too_far": threats("r", scope, 101*day),
		"summary_missing":  func() proposeRecord { p := threats("r", scope, 30*day); p.Summary = " "; return p }(),
		"document_missing": func() proposeRecord { p := threats("r", scope, 30*day); p.Document = "../x"; return p }(),
		"link_unfit":       func() proposeRecord { p := threats("r", scope, 30*day); p.Link = "http://x"; return p }(),
		"scope_missing":    threats("r", "/projects/payments/environments/none", 30*day),
	} {
		want(t, c.user("ann", p, 0), code)
	}
	want(t, c.user("bob", threats("r", scope, 30*day), 0), "not_granted")
	must(t, c.user("ann", threats("r-1", scope, 30*day), 0))
	for user, code := range map[string]string{"ann": "own_deployment", "bob": "not_asked", "dora": "not_asked"} {
		if got := saying(c.approvesRecord(user, "r-1", time.Second)); got != code {
			t.Errorf("%s approves: %q, want %q", user, got, code)
		}
	}
	want(t, c.user("sue", decideRecord{Record: "r-1", Approve: true, Digest: "sha256:other"}, time.Second), "record_differs")
	must(t, c.approvesRecord("sam", "r-1", time.Second))
	want(t, c.approvesRecord("sam-2", "r-1", 2*time.Second), "already_approved")
	if got := c.gateAt(time.Minute); got != "record_waits" {
		t.Errorf("with one approval: %s", got)
	}
	must(t, c.approvesRecord("sue", "r-1", 2*time.Minute))
	c.gatesAt(map[time.Duration]string{3 * time.Minute: "record_live", 30*day - time.Millisecond: "record_live", 30 * day: "record_ended"})
}

// A check takes a record for so long after its approval, whatever end it names; one of
// the project covers its environments.
func TestRecordOutlivesNoCheck(t *testing.T) {
	c := deployCore(t, recordRules("{kind: threat-model, groups: [reviewers], longest: 240h}", "---\n{kind: Environment, name: other, project: payments, tier: development, checks: [{name: model, record: {kind: threat-model, groups: [reviewers]}}]}\n"))
	must(t, c.user("ann", threats("r-1", "/projects/payments", 100*day), 0))
	must(t, c.approvesRecord("sue", "r-1", day))
	c.gatesAt(map[time.Duration]string{11*day - time.Millisecond: "record_live", 11 * day: "record_ended"})
}

// Accounts that turn out to be one person's fill one place, and those of whoever wrote
// the record fill none, whenever that becomes known.
func TestRecordOfOnePerson(t *testing.T) {
	for person, want := range map[string]string{"": "record_live", "sue": "record_waits", "ann": "record_waits"} {
		c := deployCore(t, recordRules(twoReviewers))
		must(t, c.user("ann", threats("r-1", "/projects/payments/environments/test", 30*day), 0))
		must(t, c.approvesRecord("sue", "r-1", time.Second))
		must(t, c.approvesRecord("wes", "r-1", 2*time.Second))
		if person != "" {
			c.rules = mustRules(t, strings.Replace(recordRules(twoReviewers), "{kind: User, name: wes}", "{kind: User, name: wes, person: "+person+"}", 1))
		}
		if got := c.gateAt(time.Minute); got != want {
			t.Errorf("wes is %q: %s, want %s", person, got, want)
		}
	}
}

// A new version takes the place of the one before when it is approved, and an ended one
// does not bring the old one back.
func TestRecordSuperseded(t *testing.T) {
	c := deployCore(t, recordRules(strings.Replace(twoReviewers, "count: 2, ", "", 1)))
	scope := lockkeeper.EnvironmentScope("payments", "test")
	must(t, c.user("ann", threats("r-1", scope, 60*day), 0))
	must(t, c.approvesRecord("sue", "r-1", time.Second))
	must(t, c.user("wes", threats("r-2", scope, 30*day), time.Minute))
	if got := c.gateAt(2 * time.Minute); got != "record_live" {
		t.Errorf("a version that waits takes the place of one that counts: %s", got)
	}
	want(t, c.approvesRecord("wes", "r-2", 3*time.Minute), "own_deployment")
	must(t, c.approvesRecord("sam", "r-2", 3*time.Minute))
	if c.Designs["r-1"] != nil {
		t.Error("the older version is there still")
	}
	if got := c.gateAt(40 * day); got != "record_ended" {
		t.Errorf("the newer one has ended: %s", got)
	}
	must(t, c.user("sam", endRecord{"r-2", "the queue was replaced"}, 41*day))
	if got := c.gateAt(42 * day); got != "record_missing" {
		t.Errorf("both are gone: %s", got)
	}
}

// A record that ends while an ask waits lets it go no more, nor one whose approver is
// quarantined; a lease that runs is not taken.
func TestRecordEndsUnderAnAsk(t *testing.T) {
	c := deployCore(t, recordRules(twoReviewers))
	scope := lockkeeper.EnvironmentScope("payments", "test")
	must(t, c.user("ann", threats("r-1", scope, 30*day), 0))
	must(t, c.approvesRecord("sue", "r-1", time.Second))
	must(t, c.approvesRecord("sam", "r-1", time.Second))
	j := c.job("2", "21", "test", "1001", time.Minute)
	must(t, c.open("d-a", j, "test", time.Minute))
	must(t, c.user("cat", openIncident{ID: "i-1", Title: "stolen", Mode: BestEffort, Quarantine: quarantines(t, "user:sue")}, 2*time.Minute))
	want(t, c.claim("d-a", j, 3*time.Minute), "record_held")
	must(t, c.user("sam", endRecord{"r-1", "wrong"}, 4*time.Minute))
	want(t, c.claim("d-a", j, 5*time.Minute), "record_missing")
}

// TestRecordModel plays random records, approvals, ends and instants, and holds the gate
// against a reading of its own: the newest version at a scope that a person who did not
// write it has approved counts until its end, or ten days after that.
func TestRecordModel(t *testing.T) {
	seen := map[string]int{}
	rules := recordRules("{kind: threat-model, groups: [reviewers], longest: 240h}")
	env, project := lockkeeper.EnvironmentScope("payments", "test"), lockkeeper.Scope("/projects/payments")
	rapid.Check(t, func(rt *rapid.T) {
		c := deployCore(t, rules)
		type version struct {
			id, author      string
			scope           lockkeeper.Scope
			until, approved time.Duration // approved: 0, never
			gone            bool
		}
		var all []*version
		at := time.Duration(0)
		for i := range rapid.IntRange(1, 14).Draw(rt, "acts") {
			at += rapid.SampledFrom([]time.Duration{time.Minute, time.Hour, day, 4 * day, 9 * day}).Draw(rt, "later")
			var v *version
			if len(all) > 0 {
				v = rapid.SampledFrom(all).Draw(rt, "version")
			}
			switch act := rapid.IntRange(0, 4).Draw(rt, "act"); {
			case act <= 1 || v == nil:
				n := &version{id: fmt.Sprint("r-", i), author: rapid.SampledFrom([]string{"ann", "wes"}).Draw(rt, "author"), scope: rapid.SampledFrom([]lockkeeper.Scope{env, project}).Draw(rt, "scope")}
				n.until = at + rapid.SampledFrom([]time.Duration{day, 5 * day, 10 * day}).Draw(rt, "life")
				p := threats(n.id, n.scope, 0)
				p.Until = began.Add(n.until)
				must(t, c.user(n.author, p, at))
				all = append(all, n)
			case act <= 3:
				user := rapid.SampledFrom([]string{"ann", "wes", "sue", "sam"}).Draw(rt, "user")
				err := c.approvesRecord(user, v.id, at)
				may := !v.gone && user != v.author && at < v.until && c.Designs[v.id] != nil
				if (err == nil) != may && codeOf(err) != "already_approved" && codeOf(err) != "timed_out" {
					rt.Fatalf("%s approves %+v after %s: %v", user, v, at, err)
				}
				if err == nil && v.approved == 0 {
					v.approved = at
					for _, o := range all {
						if o == v {
							break
						}
						o.gone = o.gone || o.scope == v.scope
					}
				}
			default:
				if err := c.user("sue", endRecord{v.id, "over"}, at); (err == nil) == v.gone && codeOf(err) != "record_over" {
					rt.Fatalf("%+v is ended: %v", v, err)
				}
				v.gone = true
			}
			want := false
			newest := map[lockkeeper.Scope]bool{}
			for _, v := range slices.Backward(all) {
				if v.gone || v.approved == 0 || newest[v.scope] {
					continue
				}
				newest[v.scope] = true
				want = want || at < v.until && at < v.approved+10*day
			}
			got := c.gateAt(at)
			if seen[got]++; (got == "record_live") != want {
				rt.Fatalf("after %s the gate says %s, and the model %v: %v", at, got, want, all)
			}
		}
	})
	for _, code := range []string{"record_live", "record_missing", "record_waits", "record_ended"} {
		if seen[code] == 0 {
			t.Errorf("never %s: %v", code, seen)
		}
	}
}

// What a journal says of records decides the same again, and under stricter rules not.
func TestWhatIfOfRecords(t *testing.T) {
	then := recordRules(strings.Replace(twoReviewers, "count: 2, ", "", 1))
	c := deployCore(t, then)
	scope := lockkeeper.EnvironmentScope("payments", "test")
	must(t, c.user("ann", threats("r-1", scope, 60*day), 0))
	must(t, c.approvesRecord("sue", "r-1", time.Second))
	j := c.job("2", "21", "test", "1001", time.Minute)
	must(t, c.open("d-a", j, "test", time.Minute))
	must(t, c.claim("d-a", j, 2*time.Minute))
	for name, test := range map[string]struct{ given, want string }{
		"the same":    {then, "[]"},
		"two of them": {recordRules(twoReviewers), "[lease.granted waits record_waits]"},
		"shorter":     {strings.Replace(then, "longest: 2400h", "longest: 240h", 1), "[record.proposed refused end_too_far]"},
	} {
		if out, got := c.lookedBack(then, test.given); fmt.Sprint(got) != test.want {
			t.Errorf("%s: it differs in %v, want %s: %s", name, got, test.want, out)
		}
	}
}
