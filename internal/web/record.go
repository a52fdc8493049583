package web

import (
	"context"
	"net/http"

	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

func (s *Server) registerRecords() {
	route(s, http.MethodGet, "/records", "list-design-records", "Design records that wait for approvals or count", s.designRecords)
	route(s, http.MethodPost, "/records", "propose-design-record", "Ask for approval of a threat model, a design review or the like", s.proposeRecord)
	route(s, http.MethodGet, "/records/{id}", "get-design-record", "One design record", s.designRecord)
	route(s, http.MethodPost, "/records/{id}/approve", "approve-design-record", "Approve a design record that somebody else wrote", s.decideRecord(true))
	route(s, http.MethodPost, "/records/{id}/reject", "reject-design-record", "Reject a design record", s.decideRecord(false))
	route(s, http.MethodPost, "/records/{id}/end", "end-design-record", "Take a design record out before its end", s.endRecord)
}

func (s *Server) designRecords(_ context.Context, in *struct {
	Credential
	Project string `query:"project" maxLength:"63" doc:"of this project only"`
}) (*reply[api.DesignRecords], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	out := api.DesignRecords{Records: []api.DesignRecord{}}
	for _, r := range s.Keeper.DesignRecords(by, in.Project) {
		out.Records = append(out.Records, recordBody(r))
	}
	return &reply[api.DesignRecords]{out}, nil
}

func (s *Server) proposeRecord(ctx context.Context, in *keyed[api.ProposeRecord]) (*reply[api.DesignRecord], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	id, err := s.Keeper.ProposeRecord(ctx, by, in.Key, keeper.ProposeRecord(in.Body))
	if err != nil {
		return nil, err
	}
	return s.recordReply(by, id)
}

func (s *Server) recordReply(by keeper.Caller, id string) (*reply[api.DesignRecord], error) {
	r, err := s.Keeper.DesignRecord(by, id)
	return &reply[api.DesignRecord]{recordBody(r)}, err
}

func (s *Server) designRecord(_ context.Context, in *struct {
	Credential
	ID string `path:"id" maxLength:"63"`
}) (*reply[api.DesignRecord], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	return s.recordReply(by, in.ID)
}

func (s *Server) decideRecord(approve bool) func(context.Context, *about[api.DecideRecord]) (*struct{}, error) {
	return func(ctx context.Context, in *about[api.DecideRecord]) (*struct{}, error) {
		by, err := s.person(in.Authorization)
		if err != nil {
			return nil, err
		}
		return nil, s.Keeper.DecideRecord(ctx, by, in.ID, approve, in.Body.Digest, in.Body.Comment)
	}
}

func (s *Server) endRecord(ctx context.Context, in *about[api.EndRecord]) (*struct{}, error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	return nil, s.Keeper.EndRecord(ctx, by, in.ID, in.Body.Reason)
}

func recordBody(r keeper.RecordView) api.DesignRecord {
	out := api.DesignRecord{ID: r.ID, Author: r.User, Digest: r.Digest, Opened: r.Opened, Deadline: r.Deadline, Status: r.Status, Votes: []api.RecordVote{}, Checks: []api.RecordStand{},
		ProposeRecord: api.ProposeRecord{Kind: r.Kind, Scope: r.Scope, Summary: r.Summary, Document: r.Document, Content: r.Content, Size: r.Size, Link: r.Link, Until: r.Until}}
	for _, v := range r.Votes {
		out.Votes = append(out.Votes, api.RecordVote{User: v.User, At: v.At, Comment: v.Comment})
	}
	for _, c := range r.Checks {
		one := api.RecordStand{Environment: c.Environment, Check: c.Check, Groups: c.Groups, Needed: c.Needed, Approved: c.Approved}
		if !c.Ends.IsZero() {
			one.Ends = &c.Ends
		}
		out.Checks = append(out.Checks, one)
	}
	return out
}
