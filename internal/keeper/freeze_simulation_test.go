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

// A freezing model knows freezes, overrides, releases and tokens of one deployment by
// rules of its own, written without looking at the gate's.
type freezing struct {
	now     lockkeeper.Moment
	freezes []modelFreeze
	asked   bool // an override waits or waives
	open    lockkeeper.Moment
	waives  []string
	oz, una bool
	granted lockkeeper.Moment // zero: not
	ends    lockkeeper.Moment
	spent   int
	out     bool // una left the group of overriders
	third   bool // eve approved
	runs    bool
	byOver  bool // it was let through by the override
	lease   lockkeeper.Moment
	limit   lockkeeper.Moment
}

type modelFreeze struct {
	id          string
	from, until lockkeeper.Moment
	ended       bool
	inFlight    string
	soft        bool
}

func (f modelFreeze) holds(at lockkeeper.Moment) bool {
	return !f.ended && !at.Before(f.from) && at.Before(f.until)
}

// counts says whether the override waives anything now.
func (m *freezing) counts() bool {
	return !m.granted.IsZero() && m.now.Before(m.ends) && m.oz && m.una && !m.out
}
func (m *freezing) waived(check string) bool { return m.counts() && slices.Contains(m.waives, check) }

// frozen says whether a freeze stops a start, and at the least what reaches what runs.
func (m *freezing) frozen(reaches ...string) bool {
	return slices.ContainsFunc(m.freezes, func(f modelFreeze) bool {
		return f.holds(m.now) && (len(reaches) == 0 || slices.Contains(reaches, f.inFlight)) && !(f.soft && m.waived("freeze:"+f.id))
	})
}

// next is the first instant, before end, at which a freeze begins that reaches what runs.
func (m *freezing) next(end lockkeeper.Moment, reaches ...string) lockkeeper.Moment {
	for _, f := range m.freezes {
		if !f.ended && m.now.Before(f.from) && f.from.Before(end) && slices.Contains(reaches, f.inFlight) && !(f.soft && m.waived("freeze:"+f.id)) {
			end = f.from
		}
	}
	return end
}

// usedIt says whether a release now needs the override.
func (m *freezing) usedIt() bool {
	needs := m.waived("office") || m.waived("desk")
	for _, f := range m.freezes {
		needs = needs || f.holds(m.now) && f.soft && m.waived("freeze:"+f.id)
	}
	return needs
}

// passes says whether the deployment may be let through now: office and desk never pass
// by themselves, and last needs eve once the desk is waived.
func (m *freezing) passes() bool {
	return m.waived("office") && m.waived("desk") && m.third && !m.frozen() && m.now.Before(began.Add(2*time.Hour))
}

// stands says whether what runs may go on.
func (m *freezing) stands() bool {
	return m.runs && m.now.Before(m.lease) && m.third && !m.frozen("abort") && (!m.byOver || m.counts())
}

// The simulation drives freezes of every kind, an override, votes, releases, heartbeats
// and tokens in random order, and after each step holds the answer against the model:
// both what must be refused and what must be given.
func TestFreezesAndOverridesSimulated(t *testing.T) {
	lawful := mustRules(t, overrideRules("<age>", "recordAge: 100h\n"))
	lawless := mustRules(t, strings.Replace(overrideRules("<age>", "recordAge: 100h\n"), "ola, una, ann-admin]", "ola, ann-admin]", 1))
	seen := map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		c := &deploying{core: &core{world: world{State: newState(), rules: lawful}}, t: t}
		must(t, c.as(Caller{Keeper: true}, firstEntry{}, 0))
		c.waiting("1")
		m := &freezing{now: began.Add(time.Second), freezes: []modelFreeze{{id: "quiet", from: began.Add(-time.Hour), until: began.Add(3 * time.Hour), soft: true, inFlight: "finish"}}}
		for _, user := range []string{"bob", "cat"} {
			must(t, c.approve(user, "d-a", time.Second))
		}
		at := func() time.Duration { return m.now.Sub(began) }
		check := func(what string, err error, may bool) {
			seen[fmt.Sprint(what, " ", may)]++
			if (err == nil) != may {
				rt.Fatalf("%s at %s: %v, and the model says %v\n%+v", what, m.now, err, may, m)
			}
		}
		ask := func(i int, waives []string) {
			last := m.freezes[len(m.freezes)-1]
			alive := m.asked && (m.granted.IsZero() && m.now.Before(m.open.Add(time.Hour)) || !m.granted.IsZero() && m.now.Before(m.ends))
			may := !m.runs && m.now.Before(began.Add(2*time.Hour)) && m.spent < 2 && !alive && len(c.Deployments["d-a"].Overrides) < maxOverrides
			if slices.Contains(waives, "freeze:"+last.id) {
				may = may && last.soft && (c.Freezes[last.id] != nil || last.id == "quiet")
			}
			c.shown("ann", true, at())
			err := c.asks("ann", fmt.Sprint("o-", i), waives, at())
			check("ask", err, may)
			if err == nil {
				m.asked, m.open, m.waives, m.oz, m.una, m.granted = true, m.now, waives, false, false, lockkeeper.Moment{}
			}
		}
		approve := func(who string) {
			own := map[string]*bool{"oz": &m.oz, "una": &m.una}[who]
			list := c.Deployments["d-a"].Overrides
			if len(list) == 0 {
				return
			}
			c.shown(who, true, at())
			may := m.asked && m.granted.IsZero() && m.now.Before(m.open.Add(time.Hour)) && !m.runs && !*own && !(who == "una" && m.out)
			if both := m.oz || m.una || who == ""; may && both && m.spent >= 2 {
				may = m.out // the last vote would grant one too many
			}
			err := c.says(who, list[len(list)-1].ID, true, at())
			check("approve the override", err, may)
			if err == nil {
				if *own = true; m.oz && m.una && !m.out {
					m.granted, m.ends, m.spent = m.now, m.now.Add(time.Hour), m.spent+1
				}
			}
		}
		for i := range rapid.IntRange(20, 200).Draw(rt, "steps") {
			if c.Deployments["d-a"] == nil {
				break
			}
			what := rapid.SampledFrom([]string{"clock", "clock", "freeze", "lift", "lift", "ask", "oz", "una", "all", "all", "all", "end", "eve", "eve", "claim", "claim", "claim", "token", "token", "renew", "law", "sweep"}).Draw(rt, "what")
			switch what {
			case "clock":
				m.now = m.now.Add(time.Duration(rapid.SampledFrom([]int{1, 10, 30, 60, 100, 200, 1800}).Draw(rt, "seconds")) * time.Second)
			case "freeze":
				f := modelFreeze{id: fmt.Sprint("f-", i), from: m.now, until: m.now.Add(time.Duration(rapid.IntRange(1, 20).Draw(rt, "minutes")) * time.Minute),
					inFlight: rapid.SampledFrom([]string{"finish", "noTokens", "abort"}).Draw(rt, "in flight"), soft: rapid.Bool().Draw(rt, "soft")}
				m.freezes = append(m.freezes, f)
				check("freeze", c.user("dora", startFreeze{ID: f.id, Scope: production, For: f.until.Sub(f.from), Reason: "why", InFlight: f.inFlight, Soft: f.soft}, at()), true)
				if running := m.runs && m.now.Before(m.lease); running && m.frozen("abort") && f.inFlight == "abort" {
					if c.Deployments["d-a"] != nil {
						rt.Fatalf("the freeze took no lease: %+v", m)
					}
					continue
				}
			case "lift":
				i := rapid.IntRange(0, len(m.freezes)-1).Draw(rt, "which")
				check("lift by who started it", c.user("dora", endFreeze{m.freezes[i].id, "why"}, at()), false)
				err := c.user("rev", endFreeze{m.freezes[i].id, "why"}, at())
				check("lift", err, i > 0 && m.freezes[i].holds(m.now))
				m.freezes[i].ended = m.freezes[i].ended || err == nil
			case "ask":
				ask(i, rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"office", "desk", "freeze:quiet", "freeze:" + m.freezes[len(m.freezes)-1].id}), 2, 4, rapid.ID[string]).Draw(rt, "waives"))
			case "oz", "una":
				approve(what)
			case "all": // what it takes, mostly
				waives := []string{"office", "desk", "freeze:quiet"}
				if last := m.freezes[len(m.freezes)-1]; last.soft && last.id != "quiet" && c.Freezes[last.id] != nil {
					waives = append(waives, "freeze:"+last.id)
				}
				ask(i, waives)
				approve("oz")
				approve("una")
			case "end":
				list := c.Deployments["d-a"].Overrides
				if len(list) == 0 {
					continue
				}
				alive := m.asked && (m.granted.IsZero() && m.now.Before(m.open.Add(time.Hour)) || !m.granted.IsZero() && m.now.Before(m.ends))
				c.shown("ann", true, at())
				err := c.in("ann", endOverride{list[len(list)-1].ID, "why"}, at())
				check("end the override", err, alive)
				if err == nil {
					m.asked, m.granted = false, lockkeeper.Moment{}
					if m.runs && m.byOver && m.now.Before(m.lease) && c.Deployments["d-a"] != nil {
						rt.Fatal("it runs on without its override")
					}
				}
			case "eve":
				if m.third {
					continue
				}
				err := c.approve("eve", "d-a", at()) // with the desk waived, nothing comes before hers
				check("eve approves", err, !m.runs && m.now.Before(began.Add(2*time.Hour)))
				m.third = err == nil
			case "claim":
				m.claim(rt, c, check)
			case "token":
				may := m.stands() && !m.frozen("abort", "noTokens")
				end := m.next(m.earlier(m.now.Add(2*time.Minute), m.lease), "abort", "noTokens")
				may = may && end.Sub(m.now) >= time.Second
				err := c.tokenA(at())
				check("token", err, may)
				if till := c.Deployments["d-a"].Lease; err == nil && (end.Before(till.TokensTill) || till.TokensTill.Before(end.Add(-time.Second))) {
					rt.Fatalf("the token ends at %s, and the model says %s", till.TokensTill, end)
				}
			case "renew":
				err := c.renew(at())
				check("renew", err, m.stands())
				if err == nil {
					ends := m.next(m.earlier(m.now.Add(4*time.Minute), m.limit), "abort")
					if m.lease.Sub(m.now) <= 2*time.Minute && m.lease.Before(ends) {
						m.lease = ends
					}
					if got := c.Deployments["d-a"].Lease.Ends; got != m.lease {
						rt.Fatalf("the lease ends at %s, and the model says %s", got, m.lease)
					}
				}
			case "law":
				if m.out = !m.out; m.out {
					c.rules = lawless
				} else {
					c.rules = lawful
				}
			case "sweep":
				must(t, c.as(Caller{Keeper: true}, sweep{}, at()))
			}
		}
	})
	for _, what := range []string{"lift true", "claim true", "claim false", "token true", "token false", "renew true", "renew false", "ask true", "ask false", "approve the override true", "end the override true"} {
		if seen[what] == 0 {
			t.Errorf("never seen: %s of %v", what, seen)
		}
	}
}

func (m *freezing) earlier(a, b lockkeeper.Moment) lockkeeper.Moment {
	if b.Before(a) {
		return b
	}
	return a
}

func (m *freezing) claim(rt *rapid.T, c *deploying, check func(string, error, bool)) {
	if m.runs { // the same job asks again: a retry
		check("claim again", c.claimA(m.now.Sub(began)), m.now.Before(m.lease))
		return
	}
	may := m.passes()
	err := c.claimA(m.now.Sub(began))
	check("claim", err, may)
	if err != nil {
		return
	}
	m.runs, m.byOver = true, m.usedIt()
	m.limit = m.next(m.now.Add(10*time.Minute), "abort")
	if m.byOver {
		m.limit = m.earlier(m.limit, m.ends)
	}
	m.lease = m.earlier(m.limit, m.now.Add(4*time.Minute))
	if l := c.Deployments["d-a"].Lease; l.Ends != m.lease || l.Limit != m.limit {
		rt.Fatalf("the lease ends at %s, at %s at most; the model says %s and %s", l.Ends, l.Limit, m.lease, m.limit)
	}
}
