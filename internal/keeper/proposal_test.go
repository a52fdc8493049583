package keeper

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lockkeeper/lockkeeper"
)

// A posture is a catalog of the proposal tests in the model's words: what is there,
// and who may write.
type posture struct{ two, freeze, eve, ada, cat, rel bool }

const postureText = `
{kind: User, name: dora}
---
{kind: User, name: dora2, person: dora}
---
{kind: User, name: ada}
---
{kind: User, name: cat}
---
{kind: User, name: eve}
---
{kind: Group, name: managers, users: [cat, ada, dora<eve>]}
---
{kind: Project, name: p}
---
{kind: Environment, name: e, project: p, tier: preproduction, checks: [{name: c, approval: {count: <count>, groups: [managers]}}]}
---
{kind: Assignment, name: administration, role: organisation-administrator, principal: user:dora, scope: /}
---
{kind: Assignment, name: administration-2, role: organisation-administrator, principal: user:dora2, scope: /}
<more>`

func (p posture) rules(t testing.TB) *Rules {
	more, eve, count := "", "", "1"
	if p.two {
		count = "2"
	}
	if p.eve {
		eve = ", eve"
	}
	if p.freeze {
		more += "---\n{kind: Freeze, name: f, scope: /projects/p, from: 2026-11-01T00:00:00Z, until: 2026-12-01T00:00:00Z, reason: r}\n"
	}
	if p.ada {
		more += "---\n{kind: Assignment, name: ada, role: organisation-administrator, principal: user:ada, scope: /}\n"
	}
	if p.rel {
		more += "---\n{kind: Assignment, name: rel, role: release-manager, principal: user:ada, scope: /projects/p}\n"
	}
	if p.cat {
		more += "---\n{kind: Assignment, name: cat, role: environment-administrator, principal: user:cat, scope: /projects/p}\n"
	}
	return mustRules(t, strings.NewReplacer("<eve>", eve, "<count>", count, "<more>", more).Replace(postureText))
}

// access and place are the persons who may write access, and the environment.
func (p posture) access() []string {
	out := []string{"dora"}
	if p.ada {
		out = append(out, "ada")
	}
	return out
}

func (p posture) place() []string {
	if p.cat {
		return append(p.access(), "cat")
	}
	return p.access()
}

func besides(list []string, person string) bool {
	return slices.ContainsFunc(list, func(p string) bool { return p != person })
}

// second says whether what a person does takes another one, by the words of the
// documentation.
func (p posture) second(next posture, person string) bool {
	weakPlace := p.two && !next.two || p.freeze && !next.freeze
	weakAccess := !p.eve && next.eve || !p.ada && next.ada || !p.cat && next.cat || !p.rel && next.rel
	lost := besides(p.access(), person) && !besides(next.access(), person) || besides(p.place(), person) && !besides(next.place(), person)
	return weakPlace && besides(p.place(), person) || (weakAccess || lost) && besides(p.access(), person)
}

// may says whether a person may write all that differs.
func (p posture) may(next posture, person string) bool {
	if p.eve != next.eve || p.ada != next.ada || p.cat != next.cat || p.rel != next.rel {
		return slices.Contains(p.access(), person)
	}
	return slices.Contains(p.place(), person)
}

func humanOf(user string) string { return strings.TrimSuffix(user, "2") }

// TestInvariant13 plays random sequences of applying, approving, denying, taking
// back and waiting. No weaker catalog comes in force without two persons while
// there are two, nobody decides his own, and nobody what gives him something.
func TestInvariant13(t *testing.T) {
	outcome := map[string]int{}
	for range 4 { // so that what is rare comes, too
		rapid.Check(t, func(t *rapid.T) {
			now, force := began, posture{two: true, freeze: true, ada: rapid.Bool().Draw(t, "ada"), cat: rapid.Bool().Draw(t, "cat")}
			c := &core{world: world{State: newState(), rules: force.rules(tOf(t))}}
			events := []event{&journalStarted{}, &setupCompleted{User: "dora", Credential: "p"}}
			for _, user := range []string{"dora2", "ada", "cat", "eve"} {
				events = append(events, &accountEnrolled{User: user, Credential: "p", Maker: "dora"}, &accountProven{User: user, Token: lockkeeper.TokenIDOf("x", user), Expires: now})
			}
			if err := c.record(&step{}, Caller{Keeper: true}, "", "", events, now); err != nil {
				t.Fatal(err)
			}
			type waiting struct {
				by   string
				next posture
				base int
				till lockkeeper.Moment
			}
			open, n := map[string]waiting{}, 0
			user := func() string {
				return rapid.SampledFrom([]string{"dora", "dora", "dora2", "ada", "ada", "cat", "eve"}).Draw(t, "user")
			}
			do := func(by string, cmd command) step {
				s, err := c.step(Caller{User: by}, "", cmd, now)
				if err != nil {
					t.Fatalf("%s by %s: %v", cmd.name(), by, err)
				}
				outcome[fmt.Sprint(cmd.name(), " ", codeOf(s.err))]++
				return s
			}
			for range rapid.IntRange(5, 40).Draw(t, "steps") {
				ids := []string{"p-none"}
				for id := range open {
					ids = append(ids, id)
				}
				slices.Sort(ids)
				if len(ids) > 1 && rapid.IntRange(0, 5).Draw(t, "a real one") > 0 {
					ids = ids[1:]
				}
				id := rapid.SampledFrom(ids).Draw(t, "proposal")
				w, known := open[id]
				by, revision := user(), c.Revision.Number
				switch rapid.SampledFrom([]string{"apply", "apply", "apply", "approve", "approve", "approve", "deny", "withdraw", "wait"}).Draw(t, "step") {
				case "apply":
					next := force
					for range rapid.IntRange(1, 2).Draw(t, "changes") {
						part := []*bool{&next.two, &next.freeze, &next.eve, &next.ada, &next.cat, &next.rel}[rapid.IntRange(0, 5).Draw(t, "part")]
						*part = !*part
					}
					if next == force {
						continue
					}
					n++
					id = fmt.Sprint("p-", n)
					s := do(by, applyCatalog{Base: revision, Rules: next.rules(tOf(t)), ID: id})
					mine := 0
					for _, o := range open {
						mine += map[bool]int{true: 1}[o.by == by]
					}
					switch second := force.second(next, humanOf(by)); {
					case !force.may(next, humanOf(by)):
						if s.err == nil {
							t.Fatalf("%s may not make %+v of %+v", by, next, force)
						}
					case second && (mine >= maxProposalsEach || len(open) >= maxProposals):
						if codeOf(s.err) != "proposals_many" {
							t.Fatalf("%s has %d proposals: %v", by, mine, s.err)
						}
					case second:
						if s.err != nil || c.Revision.Number != revision || c.Proposals[id] == nil || s.rules != nil {
							t.Fatalf("%s makes %+v of %+v, which takes a second person: %v", by, next, force, s.err)
						}
						open[id] = waiting{by, next, revision, now.Add(proposalPatience)}
					default:
						if s.err != nil || c.Revision.Number != revision+1 {
							t.Fatalf("%s makes %+v of %+v, which takes nobody else: %v", by, next, force, s.err)
						}
						force = next
						clear(open)
					}
				case "approve":
					digest := lockkeeper.DigestOf([]byte("another"))
					if p := c.Proposals[id]; p != nil && rapid.IntRange(0, 9).Draw(t, "right digest") > 0 {
						digest = p.Digest
					}
					rules := w.next.rules(tOf(t))
					s := do(by, approveProposal{Proposal: id, Digest: digest, Rules: rules})
					gains := by == "ada" && (w.next.ada && !force.ada || w.next.rel && !force.rel) || by == "cat" && w.next.cat && !force.cat || by == "eve" && w.next.eve && !force.eve
					want := known && now.Before(w.till) && c.Revision.Number <= w.base+1 && w.base == revision && humanOf(by) != humanOf(w.by) && force.may(w.next, humanOf(by)) && force.may(w.next, humanOf(w.by)) && !gains &&
						digest != lockkeeper.DigestOf([]byte("another"))
					if (s.err == nil) != want {
						t.Fatalf("%s approves %+v in place of %+v: %v, want %v", by, w, force, s.err, want)
					}
					if want {
						force = w.next
						clear(open)
						if ev := s.events[len(s.events)-1].(*catalogApplied); ev.Second.Approver != by || ev.Second.Proposer != w.by || ev.Second.Alone || s.rules != rules {
							t.Fatalf("%+v", ev.Second)
						}
					}
				case "deny", "withdraw":
					withdraw := rapid.Bool().Draw(t, "back")
					s := do(by, denyProposal{Proposal: id, Withdraw: withdraw, Rules: w.next.rules(tOf(t))})
					want := known && now.Before(w.till) && (withdraw && by == w.by || !withdraw && humanOf(by) != humanOf(w.by) && force.may(w.next, humanOf(by)))
					if (s.err == nil) != want {
						t.Fatalf("%s ends %+v: %v, want %v", by, w, s.err, want)
					}
					if want {
						delete(open, id)
					}
				case "wait":
					now = now.Add(time.Duration(rapid.SampledFrom([]int{1, 30, 72}).Draw(t, "hours")) * time.Hour)
					if rapid.Bool().Draw(t, "sweep") {
						if _, err := c.step(Caller{Keeper: true}, "", sweep{}, now); err != nil {
							t.Fatal(err)
						}
						for id, w := range open {
							if !now.Before(w.till) {
								delete(open, id)
							}
						}
					}
				}
				if want := force.rules(tOf(t)).Catalog.Digest(); c.rules.Catalog.Digest() != want || len(c.Proposals) != len(open) {
					t.Fatalf("%+v should be in force, and %d proposals wait instead of %d", force, len(c.Proposals), len(open))
				}
			}
		})
	}
	for _, must := range []string{"catalog.apply <nil>", "catalog.apply not_granted", "proposal.approve <nil>", "proposal.approve proposal_own", "proposal.approve proposal_gains", "proposal.approve proposal_closed", "proposal.approve timed_out", "proposal.approve not_granted", "proposal.deny <nil>", "proposal.withdraw <nil>"} {
		if outcome[must] == 0 {
			t.Errorf("the sequences never saw %q: %v", must, outcome)
		}
	}
	t.Log(outcome)
}

// tOf lets helpers of testing.TB be used inside a property.
func tOf(t *rapid.T) testing.TB { return failing{t: t} }

type failing struct {
	testing.TB
	t *rapid.T
}

func (f failing) Helper()           {}
func (f failing) Fatal(args ...any) { f.t.Fatal(args...) }

// Who could only activate the right is a second person, too, and an account that
// was reset stays one; neither can decide as it is.
func TestSecondPersonCounts(t *testing.T) {
	base := posture{two: true}
	const maybe = "---\n{kind: ActivationRule, name: r, role: organisation-administrator, scope: /, longest: 8h}\n---\n{kind: Assignment, name: ada, role: organisation-administrator, principal: user:ada, scope: /, eligible: true}\n"
	text := func(count, more string) *Rules {
		return mustRules(t, strings.NewReplacer("<eve>", "", "<count>", count, "<more>", more).Replace(postureText))
	}
	start := func(rules *Rules, more ...event) *core {
		c := &core{world: world{State: newState(), rules: rules}}
		events := append([]event{&journalStarted{}, &setupCompleted{User: "dora", Credential: "p"}}, more...)
		if err := c.record(&step{}, Caller{Keeper: true}, "", "", events, began); err != nil {
			t.Fatal(err)
		}
		return c
	}
	enrolled := &accountEnrolled{User: "ada", Credential: "p", Maker: "dora"}
	proven := &accountProven{User: "ada", Token: lockkeeper.TokenIDOf("x", "ada"), Expires: began}
	reset := &accountEnrolled{User: "ada", Credential: "q", Maker: "dora"}
	both := posture{two: true, ada: true}
	const sso = "---\n{kind: Directory, name: sso, platform: dex, issuer: 'https://dex.example.com', client: c}\n---\n{kind: Assignment, name: ada, role: organisation-administrator, principal: user:ada, scope: /}\n"
	signed := func(count string) *Rules {
		return mustRules(t, strings.NewReplacer("name: ada}", "name: ada, signIns: [{directory: sso, subject: s}]}", "<eve>", "", "<count>", count, "<more>", sso).Replace(postureText))
	}
	fading := func(fields string) *Rules {
		return text("2", "---\n{kind: Assignment, name: ada, role: organisation-administrator, principal: user:ada, scope: /"+fields+"}\n")
	}
	for _, test := range []struct {
		name     string
		old, new *Rules
		more     []event
		waits    bool
		approve  string
	}{
		{"nobody else", base.rules(t), posture{}.rules(t), []event{enrolled, proven}, false, ""},
		{"somebody eligible", text("2", maybe), text("1", maybe), []event{enrolled, proven}, true, "not_granted"},
		{"an account that counts as the same person still", both.rules(t), posture{ada: true}.rules(t), []event{enrolled}, false, ""},
		{"another person", both.rules(t), posture{ada: true}.rules(t), []event{enrolled, proven}, true, ""},
		{"another person, reset by the proposer", both.rules(t), posture{ada: true}.rules(t), []event{enrolled, proven, reset}, true, "proposal_own"},
		{"another person, by a directory", signed("2"), signed("1"), []event{&memberSaid{Member: Member{Directory: "sso", Subject: "s", User: "ada", Said: began}}}, true, ""},
		{"an end to the other person's right", both.rules(t), fading(", end: 2027-11-02T10:00:00Z"), []event{enrolled, proven}, true, ""},
		{"a beginning of the other person's right", both.rules(t), fading(", start: 2026-11-02T10:00:00Z"), []event{enrolled, proven}, true, ""},
		{"a condition on the other person's right", both.rules(t), fading(", condition: 'now < timestamp(\"2027-01-01T00:00:00Z\")'"), []event{enrolled, proven}, true, ""},
		{"a deny to come of the other person's right", both.rules(t), fading("}\n---\n{kind: Assignment, name: later, role: organisation-administrator, principal: user:ada, scope: /, deny: true, start: 2027-01-01T00:00:00Z"), []event{enrolled, proven}, true, ""},
		{"what takes nothing from the other person", both.rules(t), fading("}\n---\n{kind: Group, name: more"), []event{enrolled, proven}, false, ""},
		{"taking the other person away", both.rules(t), base.rules(t), []event{enrolled, proven}, true, ""},
		{"a weaker check beside much else", both.rules(t), posture{ada: true, cat: true, eve: true}.rules(t), []event{enrolled, proven}, true, ""},
	} {
		c := start(test.old, test.more...)
		s, err := c.step(Caller{User: "dora"}, "", applyCatalog{Rules: test.new, ID: "p-1"}, began)
		if err != nil || s.err != nil || (c.Proposals["p-1"] != nil) != test.waits {
			t.Errorf("%s: %v %v, waits: %v", test.name, err, s.err, c.Proposals)
			continue
		}
		if !test.waits {
			if ev := s.events[0].(*catalogApplied); ev.Second == nil && test.new.Catalog.Groups["more"].Name != "" {
				continue // it weakens nothing
			} else if ev.Second == nil || !ev.Second.Alone || len(ev.Second.Weakens) == 0 {
				t.Errorf("%s: the entry does not say that nobody else could decide: %+v", test.name, ev.Second)
			}
			continue
		}
		s, err = c.step(Caller{User: "ada"}, "", approveProposal{Proposal: "p-1", Digest: c.Proposals["p-1"].Digest, Rules: test.new}, began)
		if err != nil || codeOf(s.err) != test.approve && (test.approve != "" || s.err != nil) {
			t.Errorf("%s: %v %v, want %q", test.name, err, s.err, test.approve)
		}
	}
}
