package keeper

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
)

// A ProposalView is a proposal, and how it stands or ended.
type ProposalView struct {
	Proposal
	Verdict lockkeeper.Decision
	End     *ProposalEnd
}

// A ProposalEnd is how a proposal ended.
type ProposalEnd struct {
	At       lockkeeper.Moment
	Status   string // approved, denied, withdrawn, timed_out or overtaken
	User     string // who ended it
	Reason   string
	Revision int // that it became
}

// Proposals lists what waits, oldest first, for whoever may read the catalog.
func (k *Keeper) Proposals(by Caller) ([]ProposalView, error) {
	if err := k.MayReadCatalog(by); err != nil {
		return nil, err
	}
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	out := []ProposalView{}
	for _, p := range k.state.Proposals {
		out = append(out, ProposalView{Proposal: *p, Verdict: p.waits(now)})
	}
	slices.SortFunc(out, func(a, b ProposalView) int {
		return cmp.Or(a.Opened.Time().Compare(b.Opened.Time()), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

// Proposal is one proposal, waiting or ended, for whoever may read the catalog.
func (k *Keeper) Proposal(ctx context.Context, by Caller, id string) (ProposalView, error) {
	if err := k.MayReadCatalog(by); err != nil {
		return ProposalView{}, err
	}
	missing := lockkeeper.NotFound.Errorf("proposal_missing", "There is no proposal %.40q.", id).WithNext("List those that wait: lockkeeper proposals list")
	if !strings.HasPrefix(id, "p-") || lockkeeper.CheckName(id) != nil {
		return ProposalView{}, missing
	}
	now := k.now()
	k.mu.RLock()
	p := k.state.Proposals[id]
	k.mu.RUnlock()
	if p != nil { // a proposal in the state never changes
		return ProposalView{Proposal: *p, Verdict: p.waits(now)}, nil
	}
	v, err := k.endedProposal(ctx, id)
	if err == nil && v.ID == "" {
		return v, missing
	}
	return v, err
}

func (k *Keeper) endedProposal(ctx context.Context, id string) (ProposalView, error) {
	var v ProposalView
	_, err := k.fold(ctx, proposalSubject(id), func(_ *State, e Entry, body event) bool {
		switch ev := body.(type) {
		case *catalogProposed:
			v.Proposal = ev.Proposal
			v.Opened = e.Time
		case *proposalClosed:
			v.End = &ProposalEnd{At: e.Time, Status: ev.Status, User: ev.User, Reason: ev.Reason}
		case *catalogApplied:
			v.End = &ProposalEnd{At: e.Time, Status: proposalApproved, User: ev.Second.Approver, Reason: ev.Second.Comment, Revision: ev.Number}
		}
		return false
	})
	if err != nil {
		return v, err
	}
	v.Verdict = v.End.decision(v.Proposal)
	return v, nil
}

// waits says how a proposal stands that nobody has decided.
func (p Proposal) waits(now lockkeeper.Moment) lockkeeper.Decision {
	d := lockkeeper.Decision{Subject: "proposal " + p.ID, Verdict: lockkeeper.Wait, Code: "second_person_missing",
		Sentence: fmt.Sprintf("It waits for another person than %s, until %s.", p.User, p.Deadline), Next: "Another person who may write it runs: lockkeeper proposals approve " + p.ID}
	if !now.Before(p.Deadline) {
		d.Verdict, d.Code, d.Sentence, d.Next = lockkeeper.Fail, "timed_out", fmt.Sprintf("It waited until %s.", p.Deadline), "Apply it again."
	}
	return d
}

// decision says how a proposal ended. None: it fell with a copy of the journal.
func (e *ProposalEnd) decision(p Proposal) lockkeeper.Decision {
	d := lockkeeper.Decision{Subject: "proposal " + p.ID, Verdict: lockkeeper.Fail, Code: "proposal_closed", Sentence: "The proposal fell with the copy of the journal that it stood in.", Next: "Apply it again."}
	if e == nil {
		return d
	}
	d.Code, d.Sentence = "proposal_"+e.Status, e.Reason
	switch e.Status {
	case proposalApproved:
		d.Verdict, d.Next = lockkeeper.Pass, ""
		d.Sentence = fmt.Sprintf("%s approved it at %s; it is revision %d.", e.User, e.At, e.Revision)
	case proposalDenied:
		d.Sentence = strings.TrimSpace(fmt.Sprintf("%s denied it at %s. %s", e.User, e.At, e.Reason))
	case proposalWithdrawn:
		d.Sentence = fmt.Sprintf("%s withdrew it at %s.", e.User, e.At)
	}
	return d
}

// ApproveProposal puts in force what somebody else proposed, with the digest that
// the caller saw.
func (k *Keeper) ApproveProposal(ctx context.Context, by Caller, id string, digest lockkeeper.Digest, comment string) (Applied, error) {
	rules, err := k.proposedRules(ctx, id)
	if err != nil {
		return Applied{}, err
	}
	return do[applied](ctx, k, by, "", approveProposal{Proposal: id, Digest: digest, Comment: comment, Rules: rules, Issuer: k.options.Issuer})
}

// DenyProposal ends what somebody else proposed.
func (k *Keeper) DenyProposal(ctx context.Context, by Caller, id, reason string) error {
	rules, err := k.proposedRules(ctx, id)
	if err != nil {
		return err
	}
	_, err = do[opened](ctx, k, by, "", denyProposal{Proposal: id, Reason: reason, Rules: rules})
	return err
}

// WithdrawProposal takes back what the caller proposed.
func (k *Keeper) WithdrawProposal(ctx context.Context, by Caller, id string) error {
	_, err := do[opened](ctx, k, by, "", denyProposal{Proposal: id, Withdraw: true})
	return err
}

// proposedRules compiles the documents of a proposal, beside the writer.
func (k *Keeper) proposedRules(ctx context.Context, id string) (*Rules, error) {
	k.mu.RLock()
	p := k.state.Proposals[id]
	k.mu.RUnlock()
	if p == nil {
		return nil, lockkeeper.Conflict.Errorf("proposal_closed", "The proposal %.40s does not exist or waits no more.", id).WithNext("List them: lockkeeper proposals list").WithField(id)
	}
	return k.rulesOf(ctx, Revision{Number: p.Base + 1, Digest: p.Catalog, Documents: p.Documents})
}
