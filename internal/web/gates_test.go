package web

import (
	"context"
	"testing"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
)

// Over HTTP, as a pipeline sees it: a token is exchanged for a live lease only, by the job
// that claimed it and with its handle; not before it, not with another's, not once it has
// ended, and the handle that had it before the next lease is nothing then.
func TestGates04Exchange(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	j := w.job("push", "production")
	exchange := func(id, with string) string {
		t.Helper()
		e := w.exchange(exchangeForm1(w.issuer.JobToken(j), id, with, "https://target.example"))
		if (e.Token == "") == (e.Code == "") {
			t.Errorf("neither a token nor a reason, or both: %s", e.body)
		}
		return e.Code
	}
	d := w.waiting(j, handle)
	if got := exchange(d.ID, handle); got != "lease_missing" {
		t.Errorf("while it waits: %q", got)
	}
	for _, user := range []string{"bob", "cat"} {
		w.must(w.people[user].Call(ctx, "POST", "/deployments/"+d.ID+"/approve", api.Vote{Digest: d.Digest}, nil))
	}
	if got := exchange(d.ID, handle); got != "lease_missing" {
		t.Errorf("approved and not claimed: %q", got)
	}
	w.must(w.as(j).Call(ctx, "POST", "/deployments/"+d.ID+"/claim", api.Claim{Handle: handle}, nil))
	if got := exchange(d.ID, handle); got != "" {
		t.Fatalf("under its lease: %q", got)
	}
	if got := exchange(d.ID, "lkh_another"); got == "" {
		t.Error("with another handle")
	}
	if got := exchange("d-another", handle); got == "" {
		t.Error("of another deployment")
	}
	w.must(api.Client{Server: w.server.URL, Bearer: handle}.Call(ctx, "POST", "/deployments/"+d.ID+"/end", api.EndDeployment{}, nil))
	if got := exchange(d.ID, handle); got != "deployment_ended" {
		t.Errorf("once it has ended: %q", got)
	}
}

// Over HTTP, neither a job with its platform's token nor the handle of a deployment
// approves anything, whoever started the run; and nobody without a sign-in does.
func TestGates07NobodyButPeople(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	j := w.job("push", "production")
	d := w.waiting(j, handle)
	bobs := w.job("push", "")
	bobs.ActorID = "1002"
	for name, c := range map[string]api.Client{"a job of bob's": w.as(bobs), "the handle": {Server: w.server.URL, Bearer: handle}, "nobody": {Server: w.server.URL}} {
		for _, verb := range []string{"approve", "reject"} {
			if err := c.Call(ctx, "POST", "/deployments/"+d.ID+"/"+verb, api.Vote{Digest: d.Digest}, nil); lockkeeper.RefusalOf(err) == nil {
				t.Errorf("%s may %s: %v", name, verb, err)
			}
		}
	}
	var now api.Deployment
	w.must(w.people["bob"].Call(ctx, "GET", "/deployments/"+d.ID, nil, &now))
	if now.Status != "waiting" || len(now.Approvals) != 0 {
		t.Errorf("it is %s, with the approvals %v", now.Status, now.Approvals)
	}
}

// A freeze stands where leases and tokens are handed out, whatever a pipeline's definition
// says: a claim is refused, and so is an exchange where the freeze reaches what runs.
func TestGates26AtTheToken(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	j := w.job("push", "production")
	running := w.running(j, handle)
	w.must(w.people["dora"].Call(ctx, "POST", "/freezes", api.StartFreeze{Scope: "/projects/payments", Seconds: 3600, Reason: "the books", InFlight: "noTokens"}, nil))
	if e := w.exchange(exchangeForm1(w.issuer.JobToken(j), running.ID, handle, "https://target.example")); e.Code != "frozen" || e.Token != "" {
		t.Errorf("a token in the freeze: %s", e.body)
	}
	next := w.job("push", "production")
	d := w.waiting(next, "lkh_next")
	for _, user := range []string{"bob", "cat"} {
		w.must(w.people[user].Call(ctx, "POST", "/deployments/"+d.ID+"/approve", api.Vote{Digest: d.Digest}, nil))
	}
	if err := w.as(next).Call(ctx, "POST", "/deployments/"+d.ID+"/claim", api.Claim{Handle: "lkh_next"}, nil); code(err) != "frozen" {
		t.Errorf("a claim in the freeze: %v", err)
	}
}
