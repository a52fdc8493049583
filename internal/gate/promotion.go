package gate

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// A Stretch is a time in which artifacts stood in an environment without a break:
// from a success, while nothing else was let in there. A deployment of the very same
// artifacts is no break; while it runs, nobody knows what stands.
type Stretch struct {
	Deployment string                `json:"deployment"` // of the newest success in it
	Artifacts  []lockkeeper.Artifact `json:"artifacts"`  // sorted by name
	Since      lockkeeper.Moment     `json:"since"`      // the first success
	Last       lockkeeper.Moment     `json:"last"`       // the newest
	Until      lockkeeper.Moment     `json:"until,omitzero"`
	Again      string                `json:"again,omitempty"` // deployment of the same artifacts that runs
}

// again reports whether the ask puts back what was good in this environment before.
func (f Facts) again() bool {
	return f.Ask.Action == lockkeeper.RollbackAction || f.Ask.Action == lockkeeper.RedeployAction
}

// askedBefore reports whether a check that is not asked again of what is put back was
// asked when that first came: an override waives for one ask, and not for the next.
func (f Facts) askedBefore(check string) bool {
	return f.again() && !slices.ContainsFunc(f.Good, func(g Release) bool {
		return slices.Equal(g.Artifacts, f.Ask.Artifacts) && slices.Contains(g.Waived, check)
	})
}

// promotions judges where the artifacts must have run.
func promotions(f Facts, now lockkeeper.Moment) []lockkeeper.Decision {
	var out []lockkeeper.Decision
	for _, c := range f.Environment.Checks {
		if c.Promotion != nil {
			out = append(out, promotion(f, c, now))
		}
	}
	return out
}

// promotion passes when the artifacts of the ask, all together and nothing else, have
// stood long enough in the environments that the check names. What has not happened
// yet may still: it waits. What was good here before is not asked.
func promotion(f Facts, c catalog.Check, now lockkeeper.Moment) lockkeeper.Decision {
	p := *c.Promotion
	if f.askedBefore(c.Name) {
		return passed(c, "not_asked_of_"+f.Ask.Action, "These artifacts were deployed here with success before; where they had to run was asked then.")
	}
	if f.Stood == nil {
		return lockkeeper.Decision{Subject: "check " + c.Name, Verdict: lockkeeper.Error, Code: "promotion_unknown", Sentence: "Nothing says what ran in other environments.", Next: "Ask again."}
	}
	var because []lockkeeper.Decision
	for _, env := range p.Environments {
		because = append(because, ranIn(f, p, env, now))
	}
	all := lockkeeper.All("check "+c.Name, fmt.Sprintf("The artifacts have run in %s.", strings.Join(p.Environments, ", ")), because...)
	if !p.Any || len(because) == 0 {
		return all
	}
	best := -1
	for i, d := range because {
		if d.Verdict == lockkeeper.Pass && (best < 0 || because[best].Until.Before(*d.Until)) {
			best = i
		}
	}
	if best < 0 {
		all.Next = fmt.Sprintf("One of %s is enough. %s", strings.Join(p.Environments, ", "), all.Next)
		return all
	}
	d := because[best]
	return lockkeeper.Decision{Subject: "check " + c.Name, Verdict: lockkeeper.Pass, Code: d.Code, Sentence: d.Sentence, Until: d.Until, Because: because[best : best+1]}
}

// ranIn judges one environment by the stretch there that serves best.
func ranIn(f Facts, p catalog.Promotion, env string, now lockkeeper.Moment) lockkeeper.Decision {
	var found *lockkeeper.Decision
	for _, s := range f.Stood(env) {
		if !slices.Equal(s.Artifacts, f.Ask.Artifacts) {
			continue
		}
		d := stood(p, env, s, now)
		if d.Verdict == lockkeeper.Pass && p.Tests != nil {
			d = testedSince(f, p, d, s.Last, now)
		}
		better := found == nil || found.Verdict != lockkeeper.Pass || d.Verdict == lockkeeper.Pass && found.Until.Before(*d.Until)
		if better { // of those that do not pass the newest says best what is missing
			found = &d
		}
	}
	if found != nil {
		return *found
	}
	return lockkeeper.Decision{Subject: "environment " + env, Verdict: lockkeeper.Wait, Code: "promotion_missing",
		Sentence: fmt.Sprintf("These artifacts, all together, were not deployed to %s with success, or the last time they were was no success.", env),
		Next:     fmt.Sprintf("Deploy them there first: lockkeeper deploy --environment %s with the same artifacts.", env)}
}

func stood(p catalog.Promotion, env string, s Stretch, now lockkeeper.Moment) lockkeeper.Decision {
	d := lockkeeper.Decision{Subject: "environment " + env, Verdict: lockkeeper.Wait}
	soak, ends, over := time.Duration(p.Soak), s.Last.Add(p.AgeLimit()), now
	if !s.Until.IsZero() {
		over = s.Until
	}
	soaked := !over.Before(s.Since.Add(soak))
	switch {
	case s.Again != "":
		d.Code, d.Next = "promotion_disturbed", "Wait for its end."
		d.Sentence = fmt.Sprintf("%s deploys the same artifacts to %s again, and nobody knows yet how that ends.", s.Again, env)
	case !now.Before(ends):
		d.Code = "promotion_stale"
		d.Sentence = fmt.Sprintf("They were last deployed to %s with success at %s by %s, and that counts for %s.", env, s.Last, s.Deployment, p.AgeLimit())
		d.Next = fmt.Sprintf("Deploy them to %s once more (--redeploy, if nothing else runs there).", env)
	case !soaked && s.Until.IsZero():
		d.Code = "promotion_soaking"
		d.Sentence = fmt.Sprintf("They have run in %s since %s, and must for %s: until %s.", env, s.Since, soak, s.Since.Add(soak))
		d.Next = "Wait until then, and let nothing else in there."
	case !soaked:
		d.Code = "promotion_interrupted"
		d.Sentence = fmt.Sprintf("They ran in %s from %s to %s, when something else was let in, and must for %s without a break.", env, s.Since, s.Until, soak)
		d.Next = fmt.Sprintf("Deploy them to %s again, and let nothing else in there for %s.", env, soak)
	default:
		d.Verdict, d.Code, d.Until = lockkeeper.Pass, "promotion_good", &ends
		d.Sentence = fmt.Sprintf("They ran in %s from %s on, last deployed by %s.", env, s.Since, s.Deployment)
	}
	return d
}

// testedSince adds to a pass what tests of the artifacts say that were made since an
// instant: what was known before they were deployed says nothing of how they run there.
func testedSince(f Facts, p catalog.Promotion, d lockkeeper.Decision, since, now lockkeeper.Moment) lockkeeper.Decision {
	later := f
	later.Evidence = nil
	for _, e := range f.Evidence {
		if !e.made().Before(since) {
			later.Evidence = append(later.Evidence, e)
		}
	}
	s := search{f: later, c: catalog.Check{Tests: p.Tests}, now: now, ageless: !f.Released.IsZero()}
	s.want, _ = s.c.Evidence()
	because := []lockkeeper.Decision{d}
	for _, a := range f.Ask.Artifacts {
		because = append(because, s.judge(a))
	}
	return lockkeeper.All(d.Subject, d.Sentence, because...)
}

// Stands is the history of an environment once a lease for these artifacts is granted
// there at an instant.
func Stands(list []Stretch, deployment, action string, artifacts []lockkeeper.Artifact, at lockkeeper.Moment) []Stretch {
	var out []Stretch
	for _, s := range list {
		switch {
		case !s.Until.IsZero():
		case slices.Equal(s.Artifacts, artifacts):
			s.Again = deployment
		case action == lockkeeper.RollbackAction:
			continue // whoever goes back takes back what stood
		default:
			s.Until, s.Again = at, ""
		}
		out = append(out, s)
	}
	return out
}

// Succeeds is the history once a deployment of these artifacts has ended with success.
// Of one that did not run there alone nobody knows what it left.
func Succeeds(list []Stretch, deployment string, artifacts []lockkeeper.Artifact, alone bool, at lockkeeper.Moment) []Stretch {
	var out []Stretch
	fresh := Stretch{Deployment: deployment, Artifacts: artifacts, Since: at, Last: at}
	for _, s := range list {
		if s.Until.IsZero() {
			if slices.Equal(s.Artifacts, artifacts) {
				fresh.Since = s.Since
			}
			continue
		}
		out = append(out, s)
	}
	if alone {
		out = append(out, fresh)
	}
	return out[max(0, len(out)-MaxStretches):]
}

// Fails is the history once a deployment of these artifacts has ended otherwise: the
// last word about them there is that they do not run.
func Fails(list []Stretch, artifacts []lockkeeper.Artifact) []Stretch {
	return slices.DeleteFunc(slices.Clone(list), func(s Stretch) bool { return slices.Equal(s.Artifacts, artifacts) })
}

// MaxStretches bounds what is remembered of one environment; the oldest go first, and
// what is forgotten makes a gate wait, never pass.
const MaxStretches = 32
