package keeper

import (
	"fmt"
	"maps"
	"slices"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/gate"
)

// A use is a part that somebody had in a deployment.
type use struct {
	action  lockkeeper.Action
	who     string // for a sentence
	persons []lockkeeper.Person
}

// usesOf are the parts that a vote stands for: its voter's, and those of whoever
// approved the activation that it was given under.
func (w *world) usesOf(v Vote) []use {
	out := []use{{lockkeeper.ApproveDeployments, v.User + " approves it", w.everybody(v.User, v.Persons)}}
	if len(v.Through) > 0 {
		out = append(out, use{lockkeeper.ApproveActivations, fmt.Sprintf("%s approved what %s had activated", v.Through[0], v.User), v.Through})
	}
	return out
}

// separations are those of use at a scope, sorted by name.
func (w *world) separations(scope lockkeeper.Scope) []catalog.Separation {
	var out []catalog.Separation
	for _, name := range slices.Sorted(maps.Keys(w.rules.Catalog.Separations)) {
		if s := w.rules.Catalog.Separations[name]; s.Mode == catalog.SeparateUse && s.Scope.Contains(scope) {
			out = append(out, s)
		}
	}
	return out
}

// apart says why a vote cannot count beside what others have done for the same
// deployment, or "": by the separations of use there, those of now and those of
// when it was opened, which compare persons. The later of two votes gives way.
func (w *world) apart(d *Deployment, f gate.Facts, v Vote) string {
	there := w.separationsOf(d)
	if len(there) == 0 {
		return ""
	}
	mine := w.usesOf(v)
	others := append(w.usesBefore(d, f), mine...) // what one vote stands for is compared with itself, too
	for _, o := range d.approvals() {
		if o.User != v.User && (v.Seq == 0 || o.Seq < v.Seq) {
			others = append(others, w.usesOf(o)...)
		}
	}
	return collision(there, mine, others)
}

// separationsOf are those of use that hold for a deployment: of now, and of when it
// was opened.
func (w *world) separationsOf(d *Deployment) []catalog.Separation {
	return append(w.separations(lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment)), d.Apart...)
}

// collision says which of the separations keeps one of some uses from one of others
// that the same person had; "": none.
func collision(there []catalog.Separation, some, others []use) string {
	for _, s := range there {
		for _, a := range some {
			for _, b := range others {
				if i, j := s.Duty(a.action), s.Duty(b.action); i >= 0 && j >= 0 && i != j && shared(a.persons, b.persons) {
					return fmt.Sprintf("The separation %s keeps %s and %s of one deployment apart: %s, and %s, and that is one person.", s.Name, a.action, b.action, a.who, b.who)
				}
			}
		}
	}
	return ""
}

// separated is the verdict on a deployment with what separations of use say about the
// parts that no vote is: who built it, who started it, and who let those activate what
// they did it under. Nobody's vote mends that, so it fails.
func (w *world) separated(d *Deployment, f gate.Facts, verdict lockkeeper.Decision) lockkeeper.Decision {
	why := w.together(d, f)
	if why == "" {
		return verdict
	}
	fail := lockkeeper.Decision{Subject: "separation", Verdict: lockkeeper.Fail, Code: "duties_not_separated", Sentence: why, Next: "Let another person start the run."}
	return lockkeeper.All(verdict.Subject, verdict.Sentence, append([]lockkeeper.Decision{fail}, verdict.Because...)...)
}

// together says which separation of use the parts of a deployment break that no vote
// is; "": none.
func (w *world) together(d *Deployment, f gate.Facts) string {
	there := w.separationsOf(d)
	if len(there) == 0 {
		return ""
	}
	parts := append(w.usesOfBuilders(f), w.usesOfInitiators(d, f)...)
	return collision(there, parts, parts)
}

// usesBefore are the parts in a deployment that stand before any vote on it.
func (w *world) usesBefore(d *Deployment, f gate.Facts) []use {
	out := append(w.usesOfBuilders(f), w.usesOfInitiators(d, f)...)
	for _, t := range d.Taken {
		out = append(out, use{lockkeeper.RevokeActivations, t.User + " took approvals of it away", w.everybody(t.User, t.Persons)})
	}
	return out
}

// usesOfBuilders are the parts of those behind the runs that vouch for its artifacts, or
// brought evidence of them.
func (w *world) usesOfBuilders(f gate.Facts) []use {
	var out []use
	for _, r := range f.Records {
		out = append(out, use{lockkeeper.RecordArtifacts, fmt.Sprintf("%s on %s recorded %s", r.Account, r.Provider, r.Artifact.Name), r.Persons})
	}
	for _, k := range w.evidenceOf(f.Ask) {
		if persons := w.bringers(k); len(persons) > 0 && (f.Released.IsZero() || !f.Released.Before(k.At)) {
			out = append(out, use{lockkeeper.AddEvidence, fmt.Sprintf("%s on %s brought %s %q", k.Behind[0].Account, k.Behind[0].Provider, k.Summary.Kind, k.Name), persons})
		}
	}
	return out
}

// crossed says which separation of use whoever ends a deployment crosses; "": none.
// It is written down and refuses nothing: nothing may stand before a revocation.
func (w *world) crossed(d *Deployment, by Caller, action lockkeeper.Action, now lockkeeper.Moment) string {
	there := w.separationsOf(d)
	if len(there) == 0 || by.User == "" {
		return ""
	}
	f, err := w.facts(d, now)
	if err != nil {
		return ""
	}
	others := w.usesBefore(d, f)
	for _, v := range d.approvals() {
		others = append(others, w.usesOf(v)...)
	}
	return collision(there, []use{{action, by.User + " ended it", w.persons(by.User)}}, others)
}

// A Taking is one time that somebody took approvals of a deployment away, with the
// activation that they were given under.
type Taking struct {
	User    string              `json:"user"`
	Persons []lockkeeper.Person `json:"persons"` // that he was then
}

// maxTaken bounds the takings of one deployment: those of as many persons.
const maxTaken = 100

// taken remembers in deployments who took approvals of them away.
func (s *State) taken(user string, persons []lockkeeper.Person, deployments []string) {
	for _, id := range deployments {
		d := s.Deployments[id]
		if d == nil || len(persons) == 0 || len(d.Taken) >= maxTaken || slices.ContainsFunc(d.Taken, func(t Taking) bool { return t.User == user && slices.Equal(t.Persons, persons) }) {
			continue
		}
		d.Taken = append(slices.Clone(d.Taken), Taking{user, persons})
	}
}

// usesOfInitiators are the parts of those who stand behind the run, and of whoever
// approved the activations that they start it with.
func (w *world) usesOfInitiators(d *Deployment, f gate.Facts) []use {
	var out []use
	for _, id := range slices.Sorted(maps.Keys(w.Activations)) { // that the job itself holds
		if a := w.Activations[id]; a.Run != nil && a.Run.of(d) && len(a.Approvers) > 0 {
			out = append(out, use{lockkeeper.ApproveActivations, fmt.Sprintf("%s approved what the job had activated", a.Approvers[0]), a.Approvers})
		}
	}
	for _, i := range f.Initiators {
		out = append(out, use{lockkeeper.StartDeployments, i.Account + " started it", i.Persons})
		for _, id := range slices.Sorted(maps.Keys(w.Activations)) {
			a := w.Activations[id]
			if a.User == i.User && len(a.Approvers) > 0 && slices.Contains(a.Actions, lockkeeper.StartDeployments) && i.Right.Code == "activated" {
				out = append(out, use{lockkeeper.ApproveActivations, fmt.Sprintf("%s approved what %s had activated", a.Approvers[0], i.User), a.Approvers})
			}
		}
	}
	return out
}

// approvers are the persons whose approvals a request has, now and as they voted.
func (w *world) approvers(r *Request) []lockkeeper.Person {
	var out []lockkeeper.Person
	for _, v := range r.Votes {
		if !v.Approve || !r.approvedBy(v) {
			continue
		}
		for _, p := range w.everybody(v.User, v.Persons) {
			if !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	return out
}
