package web

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/forge"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// pollPatience is for how long the platform is asked while it waits itself, for 3 seconds.
const pollPatience = 2500 * time.Millisecond

// checkReply is what a check of Azure DevOps reads. Only the status approved lets a run
// through, and only where the check is configured to take its answer from here.
type checkReply struct {
	Status     string            `json:"status"` // pending, approved, rejected
	Hold       string            `json:"hold"`   // our name of this asking
	Deployment string            `json:"deployment,omitempty"`
	Digest     lockkeeper.Digest `json:"digest,omitempty"` // of the whole ask
	Reason     string            `json:"reason,omitempty"`
}

// azureCheck takes what an "Invoke REST API" check sends: its configuration and the
// password of its service connection say that Azure DevOps sent it. The access of the
// run that it brings is sealed away, and what is so is read with it later. Azure DevOps
// wants its answer within 3 seconds, so nothing is read here but what a yes hangs on that
// is given in the response.
func (s *Server) azureCheck(r *http.Request, p catalog.Provider, secret string) (any, error) {
	if !forge.AzureSent(secret, r.Header.Get("Authorization")) {
		return nil, lockkeeper.Unauthenticated.Errorf("secret_wrong", "The message does not carry the service connection's password.").
			WithNext("Write the same password into the generic service connection and into the server's file.")
	}
	m, err := forge.AzureAsking(p.APIURL(), p.Issuer[strings.LastIndex(p.Issuer, "/")+1:], r.Header)
	if err != nil {
		why := "The message is none of a check."
		if problem := new(forge.Problem); errors.As(err, &problem) {
			why = problem.Reason
		}
		return nil, lockkeeper.Invalid.Errorf("message_malformed", "%s", why).WithNext("Compare the check's headers with docs/integrations/azure.md.")
	}
	if m.Polled && s.ReadHeld == nil {
		return nil, lockkeeper.Unavailable.Errorf("poll_impossible", "This server answers checks by callback only.").WithNext("Let the check's completion event be Callback.")
	}
	asked := keeper.HoldAsked{Provider: p.Name, Organisation: m.Organisation, Repository: m.Repository, Place: m.Place, Run: m.Run,
		Environment: m.Environment, Mark: m.Mark, Check: keeper.HoldCheck(m.Check), Polled: m.Polled}
	id, err := s.Keeper.NoteCheck(r.Context(), asked, m.Access)
	if err != nil || !m.Polled {
		return checkReply{Status: "pending", Hold: id}, err
	}
	said, err := s.Keeper.PollHold(r.Context(), id, func(ctx context.Context) (lockkeeper.Workload, bool, error) {
		ctx, cancel := context.WithTimeout(ctx, pollPatience)
		defer cancel()
		return s.ReadHeld(ctx, asked, m.Access)
	})
	if err != nil {
		return nil, err
	}
	out := checkReply{Status: "pending", Hold: id, Deployment: said.Deployment, Digest: said.Digest, Reason: said.Reason}
	if said.Decided {
		if out.Status = "rejected"; said.Approve {
			out.Status = "approved"
		}
	}
	return out, nil
}
