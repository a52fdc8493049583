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

// telling is a test, or one run of a property.
type telling interface {
	Fatalf(string, ...any)
}

// look writes down what waits and was told nobody.
func (c *core) look(t telling, now lockkeeper.Moment) {
	cmd := queueMessages{}
	if c.Outbox != nil {
		listeners := c.listeners(now)
		found := c.waitings(listeners, nil, now)
		for _, id := range slices.Sorted(maps.Keys(c.Deployments)) {
			d := c.Deployments[id]
			if x := c.waitingDeployment(d, now); x.waits != nil && d.Status == Waiting {
				x.users = waitsFor(x, listeners[x.about])
				found = append(found, x)
			}
			for _, o := range d.Overrides {
				if x, waits := c.waitingOverride(d, o, now); waits {
					x.users = waitsFor(x, listeners[x.about])
					found = append(found, x)
				}
			}
		}
		cmd = c.difference(listeners, found)
	}
	if s, err := c.step(Caller{Keeper: true}, "", cmd, now); err != nil || s.err != nil {
		t.Fatalf("%v %v", err, s.err)
	}
}

func (c *core) report(t telling, d Delivery, code string, now lockkeeper.Moment) {
	s, err := c.step(Caller{Keeper: true}, "", reportMessages{[]DeliveryOutcome{{Rule: d.Rule, IDs: d.IDs(), Code: code, Reason: "it broke"}}}, now)
	if err != nil || s.err != nil {
		t.Fatalf("%v %v", err, s.err)
	}
}

// told spells what is due: user: subject, …
func (c *core) told(now lockkeeper.Moment) []string {
	var out []string
	for _, d := range c.deliveries(now) {
		line := d.Rule + " " + d.User + ":"
		for _, i := range d.Items {
			line += " " + i.Subject
		}
		out = append(out, line)
	}
	slices.Sort(out)
	return out
}

const mailing = `---
{kind: Notification, name: post, via: mail, to: [group:managers, group:security], about: [deployments, ended, notices]}
---
{kind: Notification, name: room, via: slack, to: [group:security], about: [deployments]}
`

// Approvers are told when it is their turn, each once; who stands behind the run is not
// told, nor is anybody any more once it has been approved. A room is told at each turn.
func TestToldInTurn(t *testing.T) {
	c := deployCore(t, rulesWith("<more>", mailing, "approval: {count: 1, groups: [security], review: security}", "approval: {count: 1, groups: [security], review: security, after: [managers]}", "users: [cat, eve, ann-admin]", "users: [cat, ann-admin]"))
	c.look(t, began)
	c.waiting("1") // by ann
	at := began.Add(time.Minute)
	c.look(t, at)
	if got := strings.Join(c.told(at), "; "); got != "post bob: deployment/d-a; post cat: deployment/d-a; post eve: deployment/d-a; room : deployment/d-a" {
		t.Errorf("first told are %s", got)
	}
	size := c.Size
	c.look(t, at)
	if c.Size != size {
		t.Error("what was written down is written down again")
	}
	for _, d := range c.deliveries(at) {
		if d.User != "eve" {
			c.report(t, d, "", at)
		}
	}
	if got := strings.Join(c.told(at), "; "); got != "post eve: deployment/d-a" {
		t.Errorf("left are %s", got)
	}
	must(t, c.approve("bob", "d-a", 2*time.Minute))
	at = began.Add(3 * time.Minute)
	c.look(t, at)
	if got := strings.Join(c.told(at), "; "); got != "post cat: deployment/d-a; room : deployment/d-a" {
		t.Errorf("then told are %s", got)
	}
	must(t, c.approve("cat", "d-a", 4*time.Minute))
	at = began.Add(5 * time.Minute)
	c.look(t, at)
	if got := c.told(at); len(got) != 0 || len(c.Outbox.Tellings) != 0 {
		t.Errorf("told of what waits no more: %s", got)
	}
}

// Who has voted is told no more, though his turn goes on; and what is gathered is told
// when it is due, together.
func TestToldNoMore(t *testing.T) {
	c := deployCore(t, rulesWith("<more>", mailing+"---\n{kind: Notification, name: later, via: mail, to: [user:cat], about: [deployments], digest: {every: 10m}}\n", "approval: {count: 1, groups: [managers]}", "approval: {count: 2, groups: [managers]}", "approval: {count: 1, groups: [security], review: security}", "approval: {count: 1, groups: [security], review: security, after: [managers]}"))
	c.look(t, began)
	c.waiting("1")
	at := began.Add(time.Minute)
	c.look(t, at)
	if got := strings.Join(c.told(at), "; "); got != "post bob: deployment/d-a; post cat: deployment/d-a; post eve: deployment/d-a; room : deployment/d-a" {
		t.Errorf("first told are %s", got)
	}
	must(t, c.approve("bob", "d-a", 2*time.Minute))
	at = began.Add(3 * time.Minute)
	c.look(t, at)
	if got := strings.Join(c.told(at), "; "); got != "post cat: deployment/d-a; post eve: deployment/d-a; room : deployment/d-a" {
		t.Errorf("then told are %s", got)
	}
	if got := strings.Join(c.told(began.Add(10*time.Minute)), "; "); !strings.Contains(got, "later cat: deployment/d-a") || strings.Contains(strings.Join(c.told(began.Add(10*time.Minute-1)), ""), "later") {
		t.Errorf("with the digest is told %s", got)
	}
}

// What keeps failing is tried ever more seldom, then given up, raises an alert, and is
// over once something is sent.
func TestGivenUp(t *testing.T) {
	c := deployCore(t, rulesWith("<more>", mailing))
	c.look(t, began)
	c.waiting("1")
	now := began.Add(time.Minute)
	c.look(t, now)
	var pauses []time.Duration
	for range 2 * maxAttempts {
		i := slices.IndexFunc(c.deliveries(now), func(d Delivery) bool { return d.Rule == "room" })
		if i < 0 {
			break
		}
		c.report(t, c.deliveries(now)[i], "service_refused", now)
		for _, x := range c.Outbox.Tellings {
			for _, a := range x.To {
				if a.Rule == "room" && a.Status == "" {
					pauses = append(pauses, a.Retry.Sub(now))
					if now = a.Retry; slices.ContainsFunc(c.deliveries(now.Add(-time.Millisecond)), func(d Delivery) bool { return d.Rule == "room" }) {
						t.Error("it is tried before its time")
					}
				}
			}
		}
	}
	if len(pauses) != maxAttempts-1 || !slices.IsSorted(pauses) || pauses[0] != firstTold || pauses[len(pauses)-1] != lastTold {
		t.Errorf("it was tried after %v", pauses)
	}
	standing := c.Outbox.Channels["room"]
	if standing.Lost != 1 || standing.GaveUp.IsZero() || standing.Failed != began.Add(time.Minute) || standing.Code != "service_refused" {
		t.Errorf("it stands at %+v", standing)
	}
	if a, fails := channelAlert("room", standing); !fails || a.Severity != "high" || !strings.Contains(a.Sentence, "room") || len(c.failingChannels()) != 1 {
		t.Errorf("the alert is %+v", a)
	}
	must(t, c.user("dora", testChannel{"t-1", "room"}, now.Sub(began)))
	for _, d := range c.deliveries(now) {
		if d.Rule == "room" {
			c.report(t, d, "", now)
		}
	}
	if s := c.Outbox.Channels["room"]; s.Sent != 1 || s.Lost != 1 || !s.GaveUp.IsZero() || len(c.failingChannels()) != 0 {
		t.Errorf("after one was sent it stands at %+v", s)
	}
}

// Who may not is refused, and nobody but the server writes the outbox.
func TestMessagesRefused(t *testing.T) {
	c := deployCore(t, rulesWith("<more>", mailing))
	want(t, c.user("bob", testChannel{"t-1", "post"}, 0), "not_granted")
	want(t, c.user("dora", testChannel{"t-1", "nothing"}, 0), "notification_missing")
	want(t, c.user("dora", queueMessages{}, 0), "keeper_only")
	want(t, c.user("dora", reportMessages{}, 0), "keeper_only")
	c.look(t, began)
	want(t, c.as(Caller{Keeper: true}, queueMessages{From: 1 << 40, Cursor: 1 << 40}, 0), "messages_moved")
	want(t, c.as(Caller{Keeper: true}, queueMessages{From: c.Outbox.Cursor, Cursor: c.Size + 1}, 0), "messages_moved")
	twice := queueMessages{From: c.Outbox.Cursor, Cursor: c.Outbox.Cursor, Tellings: []Telling{{Key: "k", About: "deployments", To: []Addressee{{Rule: "post", User: "bob"}}}}}
	must(t, c.as(Caller{Keeper: true}, twice, 0))
	size := c.Size
	must(t, c.as(Caller{Keeper: true}, twice, 0))
	want(t, c.as(Caller{Keeper: true}, queueMessages{From: c.Outbox.Cursor + 1, Cursor: c.Size}, 0), "messages_moved")
	must(t, c.as(Caller{Keeper: true}, reportMessages{[]DeliveryOutcome{{Rule: "post", IDs: []string{"m-none"}}}}, 0))
	must(t, c.as(Caller{Keeper: true}, queueMessages{From: c.Outbox.Cursor, Cursor: c.Outbox.Cursor, Tellings: []Telling{{Key: "x", To: []Addressee{{Rule: "gone", User: "bob"}, {Rule: "room", User: "bob"}, {Rule: "post"}}}}}, 0))
	if c.Size != size {
		t.Error("what tells nobody is written down")
	}
}

// With a full outbox what waits is told later, and what ended is read again.
func TestOutboxIsBounded(t *testing.T) {
	c := deployCore(t, rulesWith("<more>", mailing))
	c.look(t, began)
	for i := range maxTellings {
		c.Outbox.Tellings[fmt.Sprint("k", i)] = &Telling{Key: fmt.Sprint("k", i), To: []Addressee{{ID: fmt.Sprint("m", i), Rule: "post", User: "bob"}}}
	}
	from := c.Outbox.Cursor
	ended := Telling{Key: "ended/d-9", About: "ended", Past: true, To: []Addressee{{Rule: "post", User: "bob"}}}
	waits := Telling{Key: "deployments/d-9", About: "deployments", To: []Addressee{{Rule: "post", User: "bob"}}}
	must(t, c.as(Caller{Keeper: true}, queueMessages{From: from, Cursor: c.Size, Tellings: []Telling{waits, ended}}, 0))
	if c.Outbox.Cursor != from || len(c.Outbox.Tellings) != maxTellings {
		t.Errorf("the cursor went from %d to %d, and %d things are told", from, c.Outbox.Cursor, len(c.Outbox.Tellings))
	}
	must(t, c.as(Caller{Keeper: true}, queueMessages{From: from, Cursor: c.Size, Over: []string{"k1", "k2"}, Tellings: []Telling{waits, ended}}, 0))
	if c.Outbox.Cursor == from || c.Outbox.Tellings["ended/d-9"] == nil || c.Outbox.Tellings["deployments/d-9"] == nil {
		t.Error("with room, it is not told")
	}
}

// What people write comes on one line, without what hides or turns text, and cut.
func TestOneLine(t *testing.T) {
	for in, out := range map[string]string{
		"a\r\nBcc: x\x00\u202eevil\u200b\ttab": "a Bcc: x evil tab", "  ": "", "\xff\xfe": "?",
		strings.Repeat("ä", 500): strings.Repeat("ä", 198) + "…",
	} {
		if got := oneLine(in, maxToldText); got != out || len(got) > maxToldText {
			t.Errorf("%q comes as %q", in, got)
		}
	}
}

// TestToldAtLeastOnce plays requests, approvals, lost reports, failures and restarts at
// random. Whatever happened: in the end everybody for whom something waits was told of
// it, always under the same id, and nobody who may not decide it.
func TestToldAtLeastOnce(t *testing.T) {
	text := strings.NewReplacer("<bob>", "bob, ", "<leads>", "", "<cat>", "", "<wider>", "", "<longest>", "1h", "<strict>", "", "<deny>", "").Replace(accessRules) + `---
{kind: Notification, name: post, via: mail, to: [group:leads], about: [requests]}
---
{kind: Notification, name: later, via: mail, to: [user:cat, user:ann], about: [requests], digest: {every: 10m}}
---
{kind: Notification, name: room, via: teams, to: [group:leads], about: [requests]}
`
	rules := mustRules(t, text)
	rapid.Check(t, func(t *rapid.T) {
		c := &core{world: world{State: newState(), rules: rules}}
		now, n := began, 0
		var entries []Entry
		var events []event
		do := func(by Caller, cmd command) {
			s, err := c.step(by, "", cmd, now)
			if err != nil {
				t.Fatal(err)
			}
			entries, events = append(entries, s.entries...), append(events, s.events...)
		}
		look := func() {
			cmd := queueMessages{}
			if c.Outbox != nil {
				l := c.listeners(now)
				cmd = c.difference(l, c.waitings(l, nil, now))
			}
			do(Caller{Keeper: true}, cmd)
		}
		do(Caller{Keeper: true}, firstEntry{})
		look()
		ids := map[string]map[string]bool{} // by notification, request and user
		deliver := func(lost, fails bool) {
			for _, d := range c.deliveries(now) {
				if !fails {
					for _, i := range d.Items {
						key := d.Rule + " " + strings.TrimPrefix(i.Subject, "request/") + " " + d.User
						if ids[key] == nil {
							ids[key] = map[string]bool{}
						}
						ids[key][i.ID+" "+d.ID] = true
					}
				}
				o := DeliveryOutcome{Rule: d.Rule, IDs: d.IDs()}
				if fails {
					o.Code = "broken"
				}
				if !lost {
					do(Caller{Keeper: true}, reportMessages{[]DeliveryOutcome{o}})
				}
			}
		}
		for range rapid.IntRange(5, 30).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 300).Draw(t, "seconds")) * time.Second)
			switch rapid.SampledFrom([]string{"ask", "ask", "approve", "withdraw", "look", "look", "send", "send", "fail", "die", "restart"}).Draw(t, "step") {
			case "ask":
				n++
				do(Caller{User: rapid.SampledFrom([]string{"ann", "bob"}).Draw(t, "user")}, openRequest{ID: fmt.Sprint("r-", n), Role: "operator", Scope: "/projects/p", For: time.Hour, Reason: "why"})
			case "approve":
				for id, r := range c.Requests {
					_ = id
					do(Caller{User: "dora"}, decideRequest{Request: r.ID, Approve: true, Digest: r.Digest})
					break
				}
			case "withdraw":
				for _, r := range c.Requests {
					do(Caller{User: r.User}, withdrawRequest{r.ID})
					break
				}
			case "look":
				look()
			case "send":
				deliver(false, false)
			case "fail":
				deliver(false, true)
			case "die": // between the message and the report
				deliver(true, false)
			case "restart":
				s := newState()
				for i, e := range entries {
					if err := s.apply(e, events[i]); err != nil {
						t.Fatal(err)
					}
				}
				c = &core{world: world{State: s, rules: rules}}
			}
		}
		look()
		waits := maps.Clone(c.Requests)
		for range maxAttempts { // time enough for what was tried in vain, and for the digest
			now = now.Add(11 * time.Minute)
			look()
			deliver(false, false)
		}
		leads := map[string][]string{"ann": {"bob", "cat", "dora"}, "bob": {"ann2", "cat", "dora"}}
		for id, r := range waits {
			if len(r.Votes) > 0 {
				continue
			}
			for _, u := range leads[r.User] {
				if len(ids["post "+id+" "+u]) == 0 {
					t.Errorf("%s was not told of %s", u, id)
				}
			}
			if len(ids["later "+id+" cat"]) == 0 || len(ids["room "+id+" "]) == 0 {
				t.Errorf("the digest, or the room, was not told of %s: %v", id, ids)
			}
		}
		for key, of := range ids {
			if len(of) != 1 {
				t.Errorf("%s was told under %v", key, of)
			}
			if part := strings.Fields(key); len(part) == 3 && (part[2] == "ann" || part[2] == "ann2" && c.Requests[part[1]] != nil && c.Requests[part[1]].User == "ann") {
				t.Errorf("who may not decide was told: %s", key)
			}
		}
	})
}
