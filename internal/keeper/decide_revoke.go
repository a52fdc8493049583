package keeper

import (
	"fmt"
	"slices"

	"github.com/lockkeeper/lockkeeper"
)

// approvalWithdrawn takes a person's approval back.
type approvalWithdrawn struct {
	one
	ID       string `json:"id"`
	User     string `json:"user"`
	Comment  string `json:"comment,omitempty"`
	Revision int    `json:"revision"`
}

func (*approvalWithdrawn) kind() string { return "approval.withdrawn" }
func (ev *approvalWithdrawn) subjects() []string {
	return []string{deploymentSubject(ev.ID), "user/" + ev.User}
}
func (ev *approvalWithdrawn) apply(s *State, _ Entry) error { return s.onDeployment(ev.ID, ev.on) }
func (ev *approvalWithdrawn) on(d *Deployment) {
	d.Votes = slices.DeleteFunc(d.Votes, func(v Vote) bool { return v.User == ev.User })
	d.recall(ev.User)
}

// recall takes back the place that a user handed over: his own vote has taken it
// back before, and that does not come alive again with the vote's end.
func (d *Deployment) recall(user string) {
	d.Delegated = slices.DeleteFunc(d.Delegated, func(o Delegation) bool { return o.From == user })
}

// void takes what was approved under an activation.
func (d *Deployment) void(activation string) {
	for _, v := range d.Votes {
		if v.Activation == activation {
			d.recall(v.User)
		}
	}
	d.Votes = withoutVotes(d.Votes, activation)
	d.dropVotes(func(v Vote) bool { return v.Activation == activation })
}

// withdrawApproval takes the caller's approval back.
type withdrawApproval struct {
	Deployment string `json:"deployment"`
	Comment    string `json:"comment,omitempty"`
}

func (withdrawApproval) name() string    { return "approval.withdraw" }
func (c withdrawApproval) about() string { return deploymentSubject(c.Deployment) }

// decide lets whoever approved take it back, whatever rights he has now. If the
// deployment runs already and no longer stands without it, its lease is revoked in
// the same decision.
func (c withdrawApproval) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	d, err := w.alive(c.Deployment)
	if len(c.Comment) > maxComment {
		return nil, nil, lockkeeper.Invalid.Errorf("comment_long", "The comment has %d bytes, more than %d.", len(c.Comment), maxComment)
	}
	if out := c.recall(w, d, by, now); len(out) > 0 {
		return out, opened{c.Deployment}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	return nil, nil, lockkeeper.Conflict.Errorf("nothing_to_withdraw", "You have not approved %s.", d.ID).
		WithNext("Say no to it with: lockkeeper reject %s", d.ID)
}

// takes takes the caller's approval of one deployment, and its lease if that does not
// stand without.
func (c withdrawApproval) takes(w *world, d *Deployment, by Caller, now lockkeeper.Moment) []event {
	ev := &approvalWithdrawn{ID: d.ID, User: by.User, Comment: c.Comment, Revision: w.Revision.Number}
	if d.Status != Running {
		return []event{ev}
	}
	without := d.clone()
	ev.on(without)
	facts, err := w.facts(without, now)
	var standing lockkeeper.Decision // without an environment nothing stands
	if err == nil {
		standing = w.standing(without, facts, now)
	}
	if standing.Passed(now) {
		return []event{ev}
	}
	end := w.revoked(d, by, fmt.Sprintf("%s withdrew the approval. %s", by.User, c.Comment), now)
	end.Decision = standing
	return []event{ev, end}
}

// revokeLease takes the lease of a running deployment away.
type revokeLease struct {
	Deployment string `json:"deployment"`
	Reason     string `json:"reason"`
}

func (revokeLease) name() string    { return "lease.revoke" }
func (c revokeLease) about() string { return deploymentSubject(c.Deployment) }

func (c revokeLease) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	d, err := w.alive(c.Deployment)
	if err != nil {
		return nil, nil, err
	}
	right, err := w.may(by, lockkeeper.RevokeLeases, lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment), now)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case c.Reason == "" || len(c.Reason) > maxComment:
		return nil, nil, lockkeeper.Invalid.Errorf("reason_missing", "Say why, in 1 to %d bytes.", maxComment).WithNext("Add --reason.")
	case d.Status != Running:
		return nil, nil, lockkeeper.Conflict.Errorf("not_running", "The deployment is %s; it has no lease.", d.Status).
			WithNext("Cancel it: lockkeeper deployments cancel %s", d.ID)
	}
	end := w.revoked(d, by, c.Reason, now)
	end.Decision, end.End.Crossed = right, w.crossed(d, by, lockkeeper.RevokeLeases, now)
	return []event{end}, opened{d.ID}, nil
}

func (w *world) revoked(d *Deployment, by Caller, reason string, now lockkeeper.Moment) *deploymentEnded {
	end := End{Status: Revoked, At: now, Reason: reason, By: by.String()}
	end.TokensOutside, end.OutsideTill = d.residue(now)
	return &deploymentEnded{ID: d.ID, End: end, Digest: d.Digest, Revision: w.Revision.Number}
}
