package keeper

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"pgregory.net/rapid"
)

// asking is a rule for op that asks a service, and no approvals unless more says so.
func asking(more, call string) []string {
	return []string{"patience: 2h, approvals: [{name: lead, approval: {count: 1, groups: [leads]}}]}",
		"patience: 2h, ticket: 'INC-[0-9]+', ticketCall: {call: {url: 'https://tickets.example/{ticket}', criteria: body.ok == true" + call + "}" + more + "}}"}
}

const holding = ", whenAway: {count: 1, groups: [leads]}"

func asksTicket(id string) openRequest {
	r := asks(id)
	r.Ticket = "INC-1"
	return r
}

func met(is bool) QuestionOutcome { return QuestionOutcome{Answer: &Reply{Met: is, Status: 200}} }
func missed(code string) QuestionOutcome {
	return QuestionOutcome{Missed: &Missed{Code: code, Reason: "Away."}}
}

// outcome is what the worker brings for the first question of a request.
func (c *core) outcome(id string, o QuestionOutcome) reportQuestion {
	r := c.Requests[id]
	if r == nil || len(r.Questions) == 0 {
		return reportQuestion{About: requestSubject(id), ID: "q-none", Outcome: o}
	}
	return reportQuestion{About: requestSubject(id), ID: r.Questions[0].ID, Outcome: o}
}

// The system that knows the tickets is down: nothing begins, not when it is over, not
// with an answer that comes late; where the rule says so, persons decide, and only once
// they know of it (failure 19).
func TestFailure19TicketSystemDown(t *testing.T) {
	t.Run("refused", func(t *testing.T) {
		c, do := accessCore(t, asking("", "")...)
		must(t, do("ann", asksTicket("r-1"), 0))
		for _, at := range []time.Duration{0, time.Minute, 119 * time.Second} {
			want(t, do("ann", beginActivation{"r-1", "a-1"}, at), "ticket_asked")
		}
		must(t, do("", c.outcome("r-1", missed("service_unreachable")), 30*time.Second+90*time.Second-time.Second))
		for _, at := range []time.Duration{2 * time.Minute, time.Hour} {
			want(t, do("ann", beginActivation{"r-1", "a-1"}, at), "ticket_service_away")
			want(t, do("", c.outcome("r-1", met(true)), at), "question_late")
		}
		want(t, do("bob", c.approval("r-1"), time.Hour), "not_asked")
		want(t, do("ann", beginActivation{"r-1", "a-1"}, time.Hour), "ticket_service_away")
	})
	t.Run("held for a person", func(t *testing.T) {
		c, do := accessCore(t, asking(holding, "")...)
		must(t, do("ann", asksTicket("r-1"), 0))
		if err := do("bob", c.approval("r-1"), time.Minute); err == nil {
			t.Error("somebody decides in the place of a service that may answer yet")
		}
		want(t, do("ann", beginActivation{"r-1", "a-1"}, 3*time.Minute), "approvals_missing")
		if err := do("ann", c.approval("r-1"), 3*time.Minute); err == nil {
			t.Error("ann holds her own request")
		}
		if err := do("ann2", c.approval("r-1"), 3*time.Minute); err == nil {
			t.Error("ann's other account does")
		}
		must(t, do("bob", c.approval("r-1"), 3*time.Minute))
		must(t, do("ann", beginActivation{"r-1", "a-1"}, 3*time.Minute))
	})
	t.Run("an approval of before does not count", func(t *testing.T) {
		pairs := asking(holding+"}, approvals: [{name: lead, approval: {count: 1, groups: [leads]}}]", "")
		pairs[1] = strings.TrimSuffix(pairs[1], "}}") + "}"
		c, do := accessCore(t, pairs...)
		must(t, do("ann", asksTicket("r-1"), 0))
		must(t, do("bob", c.approval("r-1"), time.Minute))
		want(t, do("ann", beginActivation{"r-1", "a-1"}, 3*time.Minute), "approvals_missing")
		must(t, do("bob", c.approval("r-1"), 3*time.Minute)) // now knowing of it
		must(t, do("ann", beginActivation{"r-1", "a-1"}, 3*time.Minute))
	})
	t.Run("the rule takes it back", func(t *testing.T) {
		c, do := accessCore(t, asking(holding, "")...)
		must(t, do("ann", asksTicket("r-1"), 0))
		must(t, do("bob", c.approval("r-1"), 3*time.Minute))
		c.rules = accessLawOf(t, asking("", "")...)
		want(t, do("ann", beginActivation{"r-1", "a-1"}, 3*time.Minute), "ticket_service_away")
	})
}

// A rule that lets persons decide since helps no request that was made before.
func TestStandInsOfThen(t *testing.T) {
	c, do := accessCore(t, asking("", "")...)
	must(t, do("ann", asksTicket("r-1"), 0))
	c.rules = accessLawOf(t, asking(holding, "")...)
	if err := do("bob", c.approval("r-1"), 3*time.Minute); err == nil {
		t.Error("somebody decides who was not asked then")
	}
	want(t, do("ann", beginActivation{"r-1", "a-1"}, 3*time.Minute), "ticket_service_away")
}

// What comes twice, forged, or for another question changes nothing.
func TestOutcomes(t *testing.T) {
	c, do := accessCore(t, asking("", "")...)
	must(t, do("ann", asksTicket("r-1"), 0))
	before := c.Size
	want(t, do("ann", c.outcome("r-1", met(true)), time.Second), "question_not_yours")
	want(t, do("", reportQuestion{About: "request/r-1", ID: "q-other", Outcome: met(true)}, time.Second), "question_over")
	want(t, do("", reportQuestion{About: "request/r-2", ID: c.Requests["r-1"].Questions[0].ID, Outcome: met(true)}, time.Second), "question_over")
	want(t, do("", c.outcome("r-1", QuestionOutcome{}), time.Second), "outcome_malformed")
	if c.Size == before {
		t.Error("what does not count is not written down")
	}
	if len(c.Requests["r-1"].Questions) != 1 || c.Requests["r-1"].Questions[0].Answer != nil {
		t.Fatalf("%+v", c.Requests["r-1"].Questions)
	}
	for range 3 { // the same cause once
		must(t, do("", c.outcome("r-1", missed("timed_out")), time.Second))
	}
	size := c.Size
	must(t, do("", c.outcome("r-1", missed("timed_out")), time.Second))
	if c.Size != size {
		t.Error("a cause that is known is written again")
	}
	want(t, do("ann", beginActivation{"r-1", "a-1"}, time.Second), "ticket_asked")
	must(t, do("", c.outcome("r-1", met(true)), 2*time.Second))
	size = c.Size
	must(t, do("", c.outcome("r-1", met(true)), 3*time.Second))
	if c.Size != size {
		t.Error("an answer that is known is written again")
	}
	want(t, do("", c.outcome("r-1", met(false)), 3*time.Second), "question_answered")
	must(t, do("ann", beginActivation{"r-1", "a-1"}, time.Hour))
	want(t, do("", reportQuestion{About: "request/r-1", ID: "q-1", Outcome: met(true)}, time.Hour), "question_over")
}

// A no ends it; and whoever asks with another ticket is another question.
func TestTicketRefused(t *testing.T) {
	c, do := accessCore(t, asking(holding, "")...)
	must(t, do("ann", asksTicket("r-1"), 0))
	must(t, do("", c.outcome("r-1", met(false)), time.Second))
	want(t, do("ann", beginActivation{"r-1", "a-1"}, time.Second), "ticket_refused")
	if err := do("bob", c.approval("r-1"), 3*time.Minute); err == nil {
		t.Error("a person decides after the service said no")
	}
	want(t, do("ann", beginActivation{"r-1", "a-1"}, 3*time.Minute), "ticket_refused")
	must(t, do("ann", asksTicket("r-2"), 3*time.Minute))
	if c.Requests["r-1"].Questions[0].ID == c.Requests["r-2"].Questions[0].ID {
		t.Error("two asks are one question")
	}
}

// With --at the service is asked once it may begin: what it says is about then.
func TestTicketAskedLater(t *testing.T) {
	c, do := accessCore(t, asking("", "")...)
	r := asksTicket("r-1")
	r.At = began.Add(time.Hour)
	must(t, do("ann", r, 0))
	must(t, do("", sweep{}, time.Minute))
	if n := len(c.Requests["r-1"].Questions); n != 0 {
		t.Errorf("%d questions an hour before", n)
	}
	must(t, do("", sweep{}, time.Hour))
	must(t, do("", sweep{}, time.Hour+time.Second))
	if n := len(c.Requests["r-1"].Questions); n != 1 {
		t.Fatalf("%d questions at the start", n)
	}
	must(t, do("", c.outcome("r-1", met(true)), time.Hour+time.Second))
	must(t, do("ann", beginActivation{"r-1", "a-1"}, time.Hour+time.Second))
}

// TestQuestions drives requests, answers that come late, twice and forged, votes, rules
// that change and the clock at random, and compares with a small model when an
// activation begins.
func TestQuestions(t *testing.T) {
	type law struct {
		asks    string // which service; "": none
		held    bool
		approve bool
	}
	laws := []law{{}, {asks: "a"}, {asks: "a", held: true}, {asks: "b", held: true}, {asks: "b"}, {asks: "a", approve: true}, {asks: "a", held: true, approve: true}, {approve: true}}
	var rules []*Rules
	for _, l := range laws {
		text := "patience: 2h, ticket: 'INC-[0-9]+'"
		if l.asks != "" {
			more := ""
			if l.held {
				more = holding
			}
			text += fmt.Sprintf(", ticketCall: {call: {url: 'https://%s.example/{ticket}', criteria: body.ok == true}%s}", l.asks, more)
		}
		if l.approve {
			text += ", approvals: [{name: lead, approval: {count: 1, groups: [leads]}}]"
		}
		rules = append(rules, accessLawOf(t, "patience: 2h, approvals: [{name: lead, approval: {count: 1, groups: [leads]}}]}", text+"}"))
	}
	type question struct {
		asked    lockkeeper.Moment
		answered bool
		met      bool
	}
	seen := map[string]int{}
	untilSeen(t, seen, []string{"activation.begin <nil>", "activation.begin ticket_asked", "activation.begin ticket_refused", "activation.begin ticket_service_away", "activation.begin approvals_missing",
		"question.report <nil>", "question.report question_late", "question.report question_answered", "question.report question_not_yours", "request.approve <nil>"}, func(rt *rapid.T) {
		now, at := began, rapid.IntRange(0, len(laws)-1).Draw(rt, "law")
		c := &core{world: world{State: newState(), rules: rules[at]}}
		mirror := newState()
		send := func(by Caller, cmd command) error {
			s, err := c.step(by, "", cmd, now)
			if err != nil {
				rt.Fatal(err)
			}
			for i, e := range s.entries {
				read, ev, err := readEntry(s.records[i].Data)
				if err != nil || mirror.apply(read, ev) != nil {
					rt.Fatalf("entry %d: %v", e.Seq, err)
				}
			}
			seen[cmd.name()+" "+codeOf(s.err)]++
			return s.err
		}
		keeper := Caller{Keeper: true}
		if err := send(keeper, firstEntry{}); err != nil {
			rt.Fatal(err)
		}
		opened := laws[at]
		if err := send(Caller{User: "ann"}, asksTicket("r-1")); err != nil {
			rt.Fatal(err)
		}
		questions := map[string]*question{}
		ask := func() { // by the law of now, and of then
			for _, l := range []law{laws[at], opened} {
				if l.asks != "" && questions[l.asks] == nil {
					questions[l.asks] = &question{asked: now}
				}
			}
		}
		ask()
		var votes []lockkeeper.Moment
		away := func(q *question) bool {
			return q != nil && !q.answered && now.Sub(q.asked) >= 2*time.Minute
		}
		held := func(service string) bool { // both laws that ask it let persons decide
			for _, l := range []law{laws[at], opened} {
				if l.asks == service && !l.held {
					return false
				}
			}
			return true
		}
		ready := func() bool {
			if (laws[at].approve || opened.approve) && len(votes) == 0 {
				return false
			}
			for _, l := range []law{laws[at], opened} {
				q := questions[l.asks]
				switch {
				case l.asks == "":
				case q == nil:
					return false
				case q.answered && q.met:
				case !away(q) || !held(l.asks):
					return false
				default:
					since := false
					for _, v := range votes {
						since = since || v.Sub(q.asked) >= 2*time.Minute
					}
					if !since {
						return false
					}
				}
			}
			return now.Sub(began) < 2*time.Hour
		}
		for range rapid.IntRange(3, 25).Draw(rt, "steps") {
			switch rapid.IntRange(0, 6).Draw(rt, "step") {
			case 0:
				now = now.Add(rapid.SampledFrom([]time.Duration{time.Second, 59 * time.Second, 2 * time.Minute}).Draw(rt, "later"))
			case 1:
				at = rapid.IntRange(0, len(laws)-1).Draw(rt, "law")
				c.rules = rules[at]
				if rapid.Bool().Draw(rt, "swept") {
					if err := send(keeper, sweep{}); err != nil {
						rt.Fatal(err)
					}
					ask()
				}
			case 2, 3:
				for _, q := range c.Requests["r-1"].Questions {
					service := strings.TrimPrefix(q.Call.URL, "https://")[:1]
					m := questions[service]
					by := rapid.SampledFrom([]Caller{keeper, keeper, {User: "ann"}}).Draw(rt, "by")
					yes := rapid.Bool().Draw(rt, "yes")
					err := send(by, reportQuestion{About: "request/r-1", ID: q.ID, Outcome: met(yes)})
					counts := by.Keeper && !m.answered && !away(m)
					again := by.Keeper && m.answered && m.met == yes
					if (err == nil) != (counts || again) {
						rt.Fatalf("%v to %s, which stands at %+v: %v", yes, service, m, err)
					}
					if counts {
						m.answered, m.met = true, yes
					}
				}
			case 4:
				if err := send(Caller{User: "bob"}, c.approval("r-1")); err == nil {
					votes = append(votes, now)
				} else if codeOf(err) != "already_approved" && codeOf(err) != "not_asked" {
					rt.Fatal(err)
				}
			default:
				want := ready()
				err := send(Caller{User: "ann"}, beginActivation{"r-1", "a-1"})
				if (err == nil) != want {
					rt.Fatalf("it begins at %s: %v, want %v (law %+v, opened under %+v, votes %v, questions %v)", now.Sub(began), err, want, laws[at], opened, votes, questions["a"])
				}
				if err == nil {
					one, _ := c.Digest()
					if two, _ := mirror.Digest(); one != two {
						rt.Fatal("the state is not the fold of the journal (invariant 1)")
					}
					return
				}
			}
		}
	})
}
