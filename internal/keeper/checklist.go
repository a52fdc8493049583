package keeper

import (
	"context"
	"slices"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/gate"
)

// What a security reviewer says to the items of a checklist, and the items themselves.
type (
	ReviewAnswer  = gate.Answer
	ChecklistItem = catalog.ChecklistItem
)

// Bounds of the answers of one vote. What was asked when the ask was opened may be
// asked beside what is asked now.
const (
	maxReviewAnswers = 64
	maxReviewAnswer  = 500 // bytes of a comment
)

// A ReviewBallot is a verdict on an ask, with the answers to its checklists.
type ReviewBallot struct {
	Approve bool
	Digest  lockkeeper.Digest // of the ask that the voter saw
	Comment string
	Answers []ReviewAnswer
}

// Answer gives a verdict on the ask with the digest that the voter saw, and the answers
// to the checklists that he saw. They are kept in the vote, and in the receipt.
func (k *Keeper) Answer(ctx context.Context, by Caller, id string, b ReviewBallot) error {
	_, err := do[opened](ctx, k, by, "", vote{Deployment: id, Approve: b.Approve, Digest: b.Digest, Comment: b.Comment, Answers: b.Answers})
	return err
}

// Checklist lists what the security reviewers of a deployment that waits must answer:
// what its environment asks now, and what it asked when the ask was opened.
func (k *Keeper) Checklist(v View) []ChecklistItem {
	if v.Status != Waiting {
		return nil
	}
	c := k.Rules().Catalog
	env, _ := c.Facing(c.Environments[lockkeeper.EnvironmentScope(v.Ask.Project, v.Ask.Environment)], v.Ask)
	return reviewItems(&v.Deployment, env)
}

func reviewItems(d *Deployment, env catalog.Environment) []ChecklistItem {
	var out []ChecklistItem
	for _, c := range slices.Concat(env.Checks, d.Terms) {
		if c.Approval == nil {
			continue
		}
		for _, q := range c.Approval.Checklist {
			if !slices.Contains(out, q) {
				out = append(out, q)
			}
		}
	}
	return out
}

// answers are those of a vote, if each is to something that is asked, and once.
func (c vote) answers(d *Deployment, env catalog.Environment) ([]ReviewAnswer, error) {
	if len(c.Answers) > maxReviewAnswers {
		return nil, lockkeeper.Invalid.Errorf("answers_many", "The vote has %d answers, more than %d.", len(c.Answers), maxReviewAnswers)
	}
	asked := reviewItems(d, env)
	for i, a := range c.Answers {
		same := func(o ReviewAnswer) bool { return o.Item == a.Item && o.Ask == a.Ask }
		switch {
		case len(a.Comment) > maxReviewAnswer:
			return nil, lockkeeper.Invalid.Errorf("comment_long", "The comment on %.63q has %d bytes, more than %d.", a.Item, len(a.Comment), maxReviewAnswer)
		case !slices.Contains(asked, ChecklistItem{Item: a.Item, Ask: a.Ask}):
			return nil, lockkeeper.Conflict.Errorf("question_differs", "Nobody asks %.63q in these words.", a.Item).
				WithNext("Look at the deployment again and answer what it asks: lockkeeper deployments show %s", d.ID)
		case slices.ContainsFunc(c.Answers[:i], same):
			return nil, lockkeeper.Invalid.Errorf("answered_twice", "The item %.63q is answered twice.", a.Item).WithNext("Answer it once.")
		}
	}
	return slices.Clone(c.Answers), nil
}
