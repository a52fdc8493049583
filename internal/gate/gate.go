package gate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// Judge decides whether the ask may pass now. The decision's Because holds one
// decision for every check, in the order of the package comment.
func Judge(f Facts, now lockkeeper.Moment) lockkeeper.Decision {
	because := before(f, now)
	others := lockkeeper.All("", "", because...)
	if l := lockOf(f.Environment); l != nil {
		because = append(because, lock(f, *l, others, now))
	}
	for i := range because {
		if d := &because[i]; d.Verdict == lockkeeper.Pass && d.Until == nil {
			d.Until = &f.Deadline
		}
	}
	return lockkeeper.All(subject(f), fmt.Sprintf("Every check of %s passed.", f.Environment.Name), because...)
}

// Ready reports whether everything but the lock has passed.
func Ready(f Facts, now lockkeeper.Moment) bool {
	return lockkeeper.All("", "", before(f, now)...).Passed(now)
}

func before(f Facts, now lockkeeper.Moment) []lockkeeper.Decision {
	because := []lockkeeper.Decision{initiator(f), stage(f), artifacts(f, now)}
	because = append(because, demands(f, now)...)
	because = append(because, f.Activated...)
	because = append(because, unasked(f)...)
	because = append(because, f.waiveAll(static(f))...)
	because = append(because, f.waiveAll(evidenceChecks(f, now))...)
	because = append(because, f.waiveAll(promotions(f, now))...)
	because = append(because, f.waiveAll(designs(f, now))...)
	because = append(because, approvals(f, now)...)
	because = append(because, Freeze(f, now))
	because = append(because, f.waiveAll(times(f, now))...)
	because = append(because, f.waiveAll(calls(f, now))...)
	because = append(because, f.waiveAll(policies(f, now))...)
	return unenforced(f, append(because, patience(f, now)))
}

// Standing judges what must go on holding while a deployment runs: who started
// it, the stage, the artifacts, what the ask itself says, and the approvals with
// the voters' rights of this moment, and the freezes that take leases. It leaves out
// what concerns only the start: other freezes, hours, delays, waivers, the lock and
// the ask's patience.
func Standing(f Facts, now lockkeeper.Moment) lockkeeper.Decision {
	because := []lockkeeper.Decision{initiator(f), stage(f), artifacts(f, now)}
	because = append(because, f.Activated...)
	because = append(because, f.waiveAll(static(f))...)
	because = append(because, approvals(f, now)...)
	if frozen, reaches := InFlight(f, false, now); reaches {
		because = append(because, frozen)
	}
	return lockkeeper.All(subject(f), fmt.Sprintf("Every check of %s holds.", f.Environment.Name), unenforced(f, because)...)
}

func subject(f Facts) string {
	return "gate of " + string(lockkeeper.EnvironmentScope(f.Environment.Project, f.Environment.Name))
}

// initiator passes when everybody behind the run is known and may start
// deployments here, or is automation that the environment admits.
func initiator(f Facts) lockkeeper.Decision {
	d := lockkeeper.Decision{Subject: "initiator", Verdict: lockkeeper.Pass, Code: "initiator_known"}
	if len(f.Initiators) == 0 {
		d.Verdict, d.Code = lockkeeper.Fail, "initiator_unknown"
		d.Sentence = "Nobody can say who started this run."
		d.Next = "Start the run from an account that a user of the catalog lists under ids."
		return d
	}
	var names []string
	for _, i := range f.Initiators {
		one := oneInitiator(f, i)
		d.Because = append(d.Because, one)
		if one.Verdict != lockkeeper.Pass && d.Verdict == lockkeeper.Pass {
			d.Verdict, d.Code, d.Sentence, d.Next = one.Verdict, one.Code, one.Sentence, one.Next
		}
		d.Until = earlier(d.Until, one.Until)
		names = append(names, i.name())
	}
	if d.Verdict == lockkeeper.Pass {
		d.Sentence = fmt.Sprintf("The run was started by %s.", strings.Join(names, " and "))
	} else {
		d.Until = nil
	}
	return d
}

// earlier is the earlier of two ends, of which nil is none.
func earlier(a, b *lockkeeper.Moment) *lockkeeper.Moment {
	if a == nil || b != nil && b.Before(*a) {
		return b
	}
	return a
}

func oneInitiator(f Facts, i Initiator) lockkeeper.Decision {
	d := lockkeeper.Decision{Subject: "initiator " + i.name(), Verdict: lockkeeper.Fail}
	switch {
	case i.User == "":
		d.Code = "initiator_unknown"
		d.Sentence = fmt.Sprintf("The account %s that started this run belongs to no user of the catalog.", i.Account)
		d.Next = "List the account's id under ids of its user, or start the run from a listed account."
	case i.Right.Code == "user_off":
		d.Code, d.Because = "initiator_not_permitted", []lockkeeper.Decision{i.Right}
		d.Sentence = i.Right.Sentence
	case i.Automation && !f.Environment.Automation:
		d.Code = "automation_not_admitted"
		d.Sentence = fmt.Sprintf("%s is automation, and the environment %s admits only runs that a person started.", i.name(), f.Environment.Name)
		d.Next = "Start the run as a person, or set automation: true on the environment; each approval check then asks for one approver more."
	case i.Automation:
		d.Verdict, d.Code = lockkeeper.Pass, "automation_admitted"
		d.Sentence = fmt.Sprintf("%s is automation, which %s admits at the price of one approver more.", i.name(), f.Environment.Name)
	case i.Right.Verdict != lockkeeper.Pass:
		d.Code, d.Because = "initiator_not_permitted", []lockkeeper.Decision{i.Right}
		d.Sentence = fmt.Sprintf("%s started this run and may not start deployments to %s: %s", i.name(), f.Environment.Name, i.Right.Sentence)
		d.Next = i.Right.Next
	default:
		d.Verdict, d.Code, d.Because, d.Until = lockkeeper.Pass, "initiator_known", []lockkeeper.Decision{i.Right}, i.Right.Until
		d.Sentence = fmt.Sprintf("%s started this run and may start deployments here.", i.name())
	}
	return d
}

func (i Initiator) name() string {
	if i.User != "" {
		return i.User
	}
	return i.Account
}

// stage passes when the environment's one identity names the asking stage, so
// that a build stage has no path to a deploy identity.
func stage(f Facts) lockkeeper.Decision {
	d := lockkeeper.Decision{Subject: "stage", Verdict: lockkeeper.Fail}
	asking := f.Ask.Pipeline + "/" + f.Ask.Stage
	if f.Identity == nil {
		d.Code = "environment_without_identity"
		d.Sentence = fmt.Sprintf("The environment %s has no identity, so nothing may be deployed to it.", f.Environment.Name)
		d.Next = "Add an Identity for this environment to the catalog and name the stages that may hold it."
		return d
	}
	for _, s := range f.Identity.Stages {
		if s == asking {
			d.Verdict, d.Code = lockkeeper.Pass, "stage_named"
			d.Sentence = fmt.Sprintf("The identity %s names the stage %s.", f.Identity.Name, asking)
			return d
		}
	}
	d.Code = "stage_not_named"
	d.Sentence = fmt.Sprintf("The stage %s may not hold the identity %s.", asking, f.Identity.Name)
	d.Next = fmt.Sprintf("Deploy from one of its stages: %s.", strings.Join(f.Identity.Stages, ", "))
	return d
}

// artifacts says who vouches for each digest. Production demands, for each, a
// record by another stage of the same pipeline for the same commit, not too old.
func artifacts(f Facts, now lockkeeper.Moment) lockkeeper.Decision {
	var because []lockkeeper.Decision
	for _, a := range f.Ask.Artifacts {
		because = append(because, oneArtifact(f, a, now))
	}
	return lockkeeper.All("artifacts", "Each artifact is vouched for as this environment demands.", because...)
}

func oneArtifact(f Facts, a lockkeeper.Artifact, now lockkeeper.Moment) lockkeeper.Decision {
	d := lockkeeper.Decision{Subject: "artifact " + a.Name, Verdict: lockkeeper.Pass}
	if s, is := f.struck(a); is {
		return s.against(a, d)
	}
	if f.again() {
		return oldArtifact(f, a, d)
	}
	fresh, newest := f.voucher(a, now)
	if fresh != nil {
		d.Code = "artifact_recorded"
		d.Sentence = fmt.Sprintf("%s was recorded by the stage %s/%s of run %s from this commit.", a.Name, fresh.Pipeline, fresh.Stage, fresh.Run)
		if ends, _ := f.fresh(*fresh, now); f.Released.IsZero() {
			d.Until = &ends
		}
		return d
	}
	d.Code = "artifact_claimed"
	d.Sentence = fmt.Sprintf("The digest of %s is only claimed by the deploying stage; no other stage recorded it.", a.Name)
	next := fmt.Sprintf("Let the build stage run: lockkeeper artifact record %s=%s", a.Name, a.Digest)
	if newest != nil {
		d.Code = "artifact_stale"
		d.Sentence = fmt.Sprintf("%s was recorded by the stage %s/%s of run %s at %s, and a record vouches for %s at most.", a.Name, newest.Pipeline, newest.Stage, newest.Run, newest.At, f.recordAge())
		next = fmt.Sprintf("Build it again in a new run, whose build stage records it: lockkeeper artifact record %s=…", a.Name)
	}
	if f.Production || f.Environment.Tier == catalog.Production {
		d.Verdict, d.Next = lockkeeper.Fail, next
	}
	return d
}

// oldArtifact judges an artifact of a rollback: all artifacts of the ask are
// together what one earlier deployment put here with success.
func oldArtifact(f Facts, a lockkeeper.Artifact, d lockkeeper.Decision) lockkeeper.Decision {
	if f.Ask.Action == lockkeeper.RedeployAction {
		return currentArtifact(f, a, d)
	}
	for i := len(f.Good) - 1; i >= 0; i-- {
		if g := f.Good[i]; slices.Equal(g.Artifacts, f.Ask.Artifacts) {
			d.Code = "artifact_was_good"
			d.Sentence = fmt.Sprintf("%s was deployed here with success by %s at %s.", a.Name, g.Deployment, g.At)
			return d
		}
	}
	d.Verdict, d.Code = lockkeeper.Fail, "rollback_unknown"
	d.Sentence = "These artifacts together were not among the last that were deployed here with success."
	d.Next = "Roll back to exactly the artifacts of an earlier deployment (lockkeeper deployments list), or deploy them as new ones."
	return d
}

// currentArtifact judges an artifact of a redeployment: all artifacts of the ask are
// together what was deployed here with success last.
func currentArtifact(f Facts, a lockkeeper.Artifact, d lockkeeper.Decision) lockkeeper.Decision {
	if n := len(f.Good); n > 0 && slices.Equal(f.Good[n-1].Artifacts, f.Ask.Artifacts) {
		d.Code = "artifact_is_current"
		d.Sentence = fmt.Sprintf("%s is what %s deployed here with success last, at %s.", a.Name, f.Good[n-1].Deployment, f.Good[n-1].At)
		return d
	}
	d.Verdict, d.Code = lockkeeper.Fail, "redeploy_unknown"
	d.Sentence = "These artifacts together are not what was deployed here with success last."
	d.Next = "Deploy exactly those once more (lockkeeper running show), go back to older ones with --rollback, or deploy these as new ones."
	return d
}

// voucher is the record that vouches for an artifact: the newest of the ask's own
// run or, if that recorded none, the newest of all; nil if there is none. fresh is
// it among those that are not too old, and newest among all, which vouches for
// nothing but says who made the artifact.
func (f Facts) voucher(a lockkeeper.Artifact, now lockkeeper.Moment) (fresh, newest *Record) {
	better := func(r Record, found *Record) bool {
		return found == nil || r.Run == f.Ask.Run || found.Run != f.Ask.Run
	}
	for i, r := range f.Records {
		if !r.vouches(f.Ask, a) {
			continue
		}
		if better(r, newest) {
			newest = &f.Records[i]
		}
		if _, is := f.fresh(r, now); is && better(r, fresh) {
			fresh = &f.Records[i]
		}
	}
	return fresh, newest
}

func (r Record) vouches(ask lockkeeper.Ask, a lockkeeper.Artifact) bool {
	return r.Artifact == a && r.Pipeline == ask.Pipeline && r.Stage != ask.Stage &&
		r.Repository == ask.Repository && r.Commit == ask.Commit
}

func patience(f Facts, now lockkeeper.Moment) lockkeeper.Decision {
	if now.Before(f.Deadline) {
		deadline := f.Deadline
		return lockkeeper.Decision{Subject: "patience", Verdict: lockkeeper.Pass, Code: "in_time", Until: &deadline,
			Sentence: fmt.Sprintf("The ask may wait until %s.", f.Deadline)}
	}
	return lockkeeper.Decision{Subject: "patience", Verdict: lockkeeper.Fail, Code: "timed_out",
		Sentence: fmt.Sprintf("The ask waited until %s and nobody let it through in time.", f.Deadline),
		Next:     "Start a new run and ask again."}
}
