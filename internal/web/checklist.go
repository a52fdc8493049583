package web

import (
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

func ballotOf(approve bool, v api.Vote) keeper.ReviewBallot {
	b := keeper.ReviewBallot{Approve: approve, Digest: v.Digest, Comment: v.Comment}
	for _, a := range v.Answers {
		b.Answers = append(b.Answers, keeper.ReviewAnswer(a))
	}
	return b
}

func answersOf(list []keeper.ReviewAnswer) []api.ReviewAnswer {
	var out []api.ReviewAnswer
	for _, a := range list {
		out = append(out, api.ReviewAnswer(a))
	}
	return out
}

func checklistOf(list []keeper.ChecklistItem) []api.ChecklistItem {
	var out []api.ChecklistItem
	for _, q := range list {
		out = append(out, api.ChecklistItem(q))
	}
	return out
}
