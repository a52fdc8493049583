package web

import (
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

func plansOf(list []keeper.PlanView) []api.PlannedFor {
	var out []api.PlannedFor
	for _, p := range list {
		one := api.PlannedFor{Kind: p.Kind, Digest: p.Digest}
		if e := p.Piece; e != nil {
			s := e.Summary.Plan
			one.Evidence, one.Line, one.Stage, one.At = e.ID, e.Summary.Line(), e.Pipeline+"/"+e.Stage, e.At
			one.Total = s.Adds + s.Changes + s.Destroys + s.Replaces + s.Objects
			for _, c := range s.Shown {
				one.Changes = append(one.Changes, api.PlannedChange(c))
			}
		}
		out = append(out, one)
	}
	return out
}
