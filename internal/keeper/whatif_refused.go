package keeper

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/lockkeeper/lockkeeper"
)

// maxTried bounds what is kept of a command that was refused, in bytes.
const maxTried = 4 << 10

// triable are the commands that are kept with their refusal, so that a look back can say
// what other rules would have let in. They hold no secret: handles are digests. Jobs and
// callers stand in the entry, and identifiers are made anew.
var triable = map[string]func() command{
	"deployment.open":    func() command { return new(openDeployment) },
	"lease.claim":        func() command { return new(claimLease) },
	"token.grant":        func() command { return new(grantToken) },
	"artifact.record":    func() command { return new(recordArtifacts) },
	"deployment.approve": func() command { return new(vote) },
	"deployment.reject":  func() command { return new(vote) },
	"override.request":   func() command { return new(requestOverride) },
	"override.approve":   func() command { return new(decideOverride) },
	"override.deny":      func() command { return new(decideOverride) },
	"request.open":       func() command { return new(openRequest) },
	"request.approve":    func() command { return new(decideRequest) },
	"request.deny":       func() command { return new(decideRequest) },
	"approval.delegate":  func() command { return new(delegate) },
	"lease.renew":        func() command { return new(renewLease) },
	"deployment.cancel":  func() command { return new(cancelDeployment) },
	"activation.begin":   func() command { return new(beginActivation) },
	"glass.break":        func() command { return new(breakGlass) },
	"token.issue":        func() command { return new(issueToken) },
}

// tried is what is kept of a refused command; nil: nothing.
func tried(cmd command) json.RawMessage {
	if triable[cmd.name()] == nil {
		return nil
	}
	data, err := marshal(cmd)
	if err != nil || len(data) > maxTried {
		return nil
	}
	return data
}

// repeatRefused makes a refused command again. Who was refused is in the entry; a refusal
// that came again and was only counted was told in full at its first.
func repeatRefused(e Entry, ev *refusalMade) repetition {
	unknowable := repetition{unknowable: "refused_then"}
	if ev.Tried == nil || triable[ev.Command] == nil {
		return unknowable
	}
	cmd := triable[ev.Command]()
	if json.Unmarshal(ev.Tried, cmd) != nil {
		return unknowable
	}
	if cmd = anew(cmd, e); cmd == nil {
		return repetition{unknowable: "caller"}
	}
	r := asked(e, cmd, "")
	if _, id, about := strings.Cut(cmd.about(), "/"); about {
		r.rests = append(r.rests, id)
	}
	r.was, r.waited = ev.Code, ev.Decision != nil && ev.Decision.Verdict == lockkeeper.Wait
	return r
}

// anew gives a command what is not kept of it: the job, which the entry has, and
// identifiers, which nothing knows yet; nil: the entry names no job.
func anew(cmd command, e Entry) command {
	id := fmt.Sprintf("refused-%d", e.Seq)
	switch c := cmd.(type) {
	case *requestOverride:
		c.ID = id
	case *decideOverride:
		c.Review = id
	case *openRequest:
		c.ID = id
	case *beginActivation:
		c.ID = id
	case *breakGlass:
		c.Request, c.Activation, c.Review = id+"-r", id+"-a", id
	case *issueToken:
		c.ID = id
	}
	if e.By.Workload == nil {
		switch cmd.(type) {
		case *openDeployment, *claimLease, *grantToken, *recordArtifacts:
			return nil
		}
		return cmd
	}
	switch c := cmd.(type) {
	case *openDeployment:
		c.ID, c.Job = id, *e.By.Workload
	case *claimLease:
		c.Lease, c.Job = id, *e.By.Workload
	case *grantToken:
		c.ID, c.Job = id, *e.By.Workload
	case *recordArtifacts:
		c.Job = *e.By.Workload
	}
	return cmd
}
