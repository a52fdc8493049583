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
	there := append(w.separations(lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment)), d.Apart...)
	if len(there) == 0 {
		return ""
	}
	mine := w.usesOf(v)
	others := append(w.usesOfInitiators(d, f), mine...) // what one vote stands for is compared with itself, too
	for _, o := range d.approvals() {
		if o.User != v.User && (v.Seq == 0 || o.Seq < v.Seq) {
			others = append(others, w.usesOf(o)...)
		}
	}
	for _, s := range there {
		for _, a := range mine {
			for _, b := range others {
				if i, j := s.Duty(a.action), s.Duty(b.action); i >= 0 && j >= 0 && i != j && shared(a.persons, b.persons) {
					return fmt.Sprintf("The separation %s keeps %s and %s of one deployment apart: %s, and %s, and that is one person.", s.Name, a.action, b.action, a.who, b.who)
				}
			}
		}
	}
	return ""
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
