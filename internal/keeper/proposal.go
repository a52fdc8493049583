package keeper

import (
	"fmt"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// A Proposal is a catalog that would weaken something, and that a second person
// has not approved yet.
type Proposal struct {
	ID        string              `json:"id"`
	User      string              `json:"user"`
	Persons   []lockkeeper.Person `json:"persons"` // that the proposer counted as
	Base      int                 `json:"base"`    // the revision that it was planned against; it dies when that moves
	Catalog   lockkeeper.Digest   `json:"catalog"` // of the whole
	Documents []lockkeeper.Digest `json:"documents"`
	Message   string              `json:"message,omitempty"`
	Changes   []ChangedDocument   `json:"changes"`
	Weakens   []string            `json:"weakens"` // why it takes a second person, a sentence each; at most maxWeakens
	Digest    lockkeeper.Digest   `json:"digest"`  // of what is proposed: what an approval is for
	Opened    lockkeeper.Moment   `json:"opened"`
	Deadline  lockkeeper.Moment   `json:"deadline"`
}

// Bounds of what is proposed.
const (
	maxProposals     = 20 // that wait
	maxProposalsEach = 3  // of one user
	maxWeakens       = 100
	proposalPatience = 72 * time.Hour
)

func (p Proposal) digest() (lockkeeper.Digest, error) {
	b, err := lockkeeper.Canonical(map[string]any{"proposal": p.ID, "user": p.User, "base": p.Base, "catalog": p.Catalog, "message": p.Message})
	if err != nil {
		return "", err
	}
	return lockkeeper.DigestOf(append([]byte("lockkeeper.proposal.v1\n"), b...)), nil
}

func proposalSubject(id string) string { return "proposal/" + id }

// catalogProposed keeps a catalog until a second person has decided.
type catalogProposed struct {
	one
	Proposal Proposal            `json:"proposal"`
	Right    lockkeeper.Decision `json:"right"` // of the proposer
}

func (*catalogProposed) kind() string { return "catalog.proposed" }
func (ev *catalogProposed) subjects() []string {
	return []string{proposalSubject(ev.Proposal.ID), "user/" + ev.Proposal.User, "proposals"}
}
func (ev *catalogProposed) apply(s *State, e Entry) error {
	p := ev.Proposal
	if s.Proposals[p.ID] != nil {
		return fmt.Errorf("the proposal %s is open already", p.ID)
	}
	p.Opened = e.Time
	s.Proposals[p.ID] = &p
	return nil
}

// proposalClosed ends a proposal that was not put in force.
type proposalClosed struct {
	one
	ID       string `json:"id"`
	Status   string `json:"status"`
	User     string `json:"user,omitempty"` // who closed it
	Reason   string `json:"reason,omitempty"`
	Revision int    `json:"revision"`
}

// How a proposal ends.
const (
	proposalApproved  = "approved" // and in force: catalog.applied says so
	proposalDenied    = "denied"
	proposalWithdrawn = "withdrawn"
	proposalTimedOut  = "timed_out"
	proposalOvertaken = "overtaken" // another revision came in force
)

func (*proposalClosed) kind() string { return "catalog.proposal_closed" }
func (ev *proposalClosed) subjects() []string {
	out := []string{proposalSubject(ev.ID), "proposals"}
	if ev.User != "" {
		out = append(out, "user/"+ev.User)
	}
	return out
}
func (ev *proposalClosed) apply(s *State, _ Entry) error {
	if s.Proposals[ev.ID] == nil {
		return fmt.Errorf("the proposal %s is not open", ev.ID)
	}
	delete(s.Proposals, ev.ID)
	return nil
}

// A Second is why a catalog that weakens was put in force: who proposed it and who
// approved it, or that there was nobody else.
type Second struct {
	Proposal string              `json:"proposal,omitempty"`
	Proposer string              `json:"proposer,omitempty"`
	Approver string              `json:"approver,omitempty"`
	Persons  []lockkeeper.Person `json:"persons,omitempty"` // that the approver counted as
	Digest   lockkeeper.Digest   `json:"digest,omitempty"`
	Comment  string              `json:"comment,omitempty"`
	// Activation is what the approver's right rested on, and Behind who had proposed it.
	Activation string              `json:"activation,omitempty"`
	Behind     []lockkeeper.Person `json:"behind,omitempty"`
	Alone      bool                `json:"alone,omitempty"`    // nobody else could have decided
	Recovery   string              `json:"recovery,omitempty"` // codes of several persons started the session: the review that is owed for it
	Weakens    []string            `json:"weakens"`
}

// closeProposals ends what waits when another revision comes in force, but for one.
func (w *world) closeProposals(but string) []event {
	var out []event
	for _, id := range w.proposalIDs() {
		if id != but {
			out = append(out, &proposalClosed{ID: id, Status: proposalOvertaken, Reason: fmt.Sprintf("Revision %d came in force.", w.Revision.Number+1), Revision: w.Revision.Number})
		}
	}
	return out
}

func (w *world) proposalIDs() []string {
	var ids []string
	for id := range w.Proposals {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// overdueProposals writes down what was waited for in vain.
func (w *world) overdueProposals(now lockkeeper.Moment) []event {
	var out []event
	for _, id := range w.proposalIDs() {
		if p := w.Proposals[id]; !now.Before(p.Deadline) {
			out = append(out, &proposalClosed{ID: id, Status: proposalTimedOut, Reason: fmt.Sprintf("It waited until %s.", p.Deadline), Revision: w.Revision.Number})
		}
	}
	return out
}

// weakens lists why the changes to other rules take a second person, a sentence
// each: what protects less, and what takes the second person himself away; and the
// documents that do it.
func (w *world) weakens(user string, next *Rules, now lockkeeper.Moment) (sentences []string, keys []catalog.Key) {
	for _, d := range catalog.Weaker(w.rules.ofCatalog(), next.ofCatalog()) {
		keys = append(keys, d.Key)
		for _, why := range d.Weakens {
			sentences = append(sentences, fmt.Sprintf("%s: %s", d.Key, why))
		}
	}
	if lost := w.losesSecond(user, next, now); len(lost) > 0 {
		sentences = append(sentences, lost...)
		for _, ch := range catalog.Diff(w.rules.Catalog, next.Catalog) {
			if writeAction[ch.Key.Kind] == lockkeeper.WriteAccess {
				keys = append(keys, ch.Key)
			}
		}
	}
	if len(sentences) > maxWeakens {
		sentences = append(sentences[:maxWeakens-1], fmt.Sprintf("%d more", len(sentences)-maxWeakens+1))
	}
	return sentences, keys
}
