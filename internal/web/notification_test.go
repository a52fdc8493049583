package web

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// A link in a message can be fetched by anybody, any number of times, with a session or
// without: it says what to run, the same of what is there and of what is not, and
// nothing happens. To approve takes a session and a POST.
func TestLinksDoNothing(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	d := w.waiting(w.job("push", "production"), "a handle")
	size := w.keeper.Size()
	get := func(method, path, bearer string) (int, string, http.Header) {
		r, err := http.NewRequest(method, w.server.URL+path, nil)
		w.must(err)
		if bearer != "" {
			r.Header.Set("Authorization", "Bearer "+bearer)
		}
		resp, err := http.DefaultClient.Do(r)
		w.must(err)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		w.must(err)
		return resp.StatusCode, string(b), resp.Header
	}
	status, there, headers := get("GET", "/open/deployment/"+d.ID, "")
	if status != 200 || !strings.Contains(there, "lockkeeper deployments show "+d.ID) || headers.Get("Set-Cookie") != "" || strings.Contains(there, "<form") || strings.Contains(there, "<script") {
		t.Errorf("%d %v %s", status, headers, there)
	}
	if _, gone, _ := get("GET", "/open/deployment/d-nothing", ""); strings.ReplaceAll(gone, "d-nothing", d.ID) != there {
		t.Error("the page tells what is there")
	}
	for range 3 {
		for _, kind := range []string{"deployment", "request", "override", "review", "proposal", "campaign", "notice", "alerts", "user"} {
			for _, bearer := range []string{"", w.people["ann"].Bearer, w.people["bob"].Bearer, "lkp_wrong"} {
				for _, method := range []string{"GET", "HEAD"} {
					if status, _, _ := get(method, "/open/"+kind+"/"+d.ID, bearer); status != 200 {
						t.Errorf("%s of %s: %d", method, kind, status)
					}
				}
			}
		}
	}
	for _, id := range []string{"%3Cscript%3Ealert(1)%3C%2Fscript%3E", "d-x;rm", strings.Repeat("a", 300)} {
		if _, body, _ := get("GET", "/open/deployment/"+id, ""); strings.Contains(body, "<script") || strings.Contains(body, "rm") || strings.Contains(body, "aaaaaaaa") {
			t.Errorf("the page repeats %s: %s", id, body)
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE"} {
		if status, _, _ := get(method, "/open/deployment/"+d.ID, w.people["bob"].Bearer); status != http.StatusMethodNotAllowed {
			t.Errorf("%s is answered with %d", method, status)
		}
	}
	if status, _, _ := get("GET", "/api/v1/deployments/"+d.ID+"/approve", w.people["bob"].Bearer); status != http.StatusMethodNotAllowed && status != http.StatusNotFound {
		t.Errorf("something is approved by GET: %d", status)
	}
	if w.keeper.Size() != size {
		t.Errorf("following links wrote %d entries", w.keeper.Size()-size)
	}
	if v, err := w.keeper.Deployment(ctx, keeper.Caller{User: "bob"}, d.ID); err != nil || len(v.Votes) != 0 || v.Status != keeper.Waiting {
		t.Errorf("the deployment is %+v, %v", v, err)
	}
}

// What waits is told to whom it waits for, and what has ended to who started it, each
// once; a server that begins anew tells nothing twice that was reported, and loses nothing.
func TestToldOfDeployments(t *testing.T) {
	w := &world{t: t, options: keeper.Options{Dir: t.TempDir()}, issuer: newWorld(t).issuer}
	w.begin(rules + "---\n{kind: Notification, name: post, via: mail, to: [group:managers, user:dora], about: [deployments, ended, alerts]}\n")
	ctx := context.Background()
	teller := w.keeper.Teller()
	due := func() string {
		for more := true; more; {
			var err error
			more, err = teller.Look(ctx)
			w.must(err)
		}
		var out []string
		for _, d := range w.keeper.Deliveries() {
			for _, i := range d.Items {
				out = append(out, d.User+" "+i.About+" "+i.Subject+": "+i.Text)
			}
		}
		slices.Sort(out)
		return strings.Join(out, "\n")
	}
	report := func() {
		for _, d := range w.keeper.Deliveries() {
			w.must(w.keeper.ReportDeliveries(ctx, []keeper.DeliveryOutcome{{Rule: d.Rule, IDs: d.IDs()}}))
		}
	}
	if got := due(); strings.Contains(got, "deployment") {
		t.Errorf("before anything waits: %s", got)
	}
	report()
	d := w.waiting(w.job("push", "production"), "a handle")
	want := []string{"bob deployments deployment/" + d.ID, "cat deployments deployment/" + d.ID} // ann started it
	got := strings.Split(due(), "\n")
	if len(got) != 2 || !strings.HasPrefix(got[0], want[0]+": "+d.ID+" waits for approval (two): release/deploy to production of payments, at commit ") || !strings.HasPrefix(got[1], want[1]) {
		t.Errorf("told are %s", got)
	}
	report()
	if got := due(); got != "" {
		t.Errorf("told again: %s", got)
	}
	w.must(w.people["bob"].Call(ctx, "POST", "/deployments/"+d.ID+"/reject", api.Vote{Digest: d.Digest, Comment: "not \u202e now"}, nil))
	if got := due(); got != "ann ended deployment/"+d.ID+": "+d.ID+" to production of payments has ended: rejected. not now" {
		t.Errorf("then told is %s", got)
	}
	teller = w.keeper.Teller() // as after a start
	if got := due(); strings.Count(got, "\n") != 0 || got == "" {
		t.Errorf("after a start, told is %q", got)
	}
	report()
	teller = w.keeper.Teller()
	if got := due(); got != "" {
		t.Errorf("after another, told is %q", got)
	}
	for range 12 {
		id, err := w.keeper.TestNotification(ctx, keeper.Caller{User: "dora"}, "post")
		w.must(err)
		w.must(w.keeper.ReportDeliveries(ctx, []keeper.DeliveryOutcome{{Rule: "post", IDs: []string{id}, Code: "broken", Reason: "it broke"}}))
	}
	if got := due(); strings.Contains(got, "channel_failing") {
		t.Errorf("an alert of what was not given up: %s", got)
	}
}

// Who is told what is for those who may see who may do what, and a test for who may write it.
func TestNotificationRoutes(t *testing.T) {
	w := &world{t: t, options: keeper.Options{Dir: t.TempDir()}, issuer: newWorld(t).issuer}
	w.begin(rules + "---\n{kind: Notification, name: post, title: Leads, via: mail, channel: company, to: [group:managers], about: [deployments, ended]}\n")
	ctx := context.Background()
	var out api.Notifications
	w.must(w.people["dora"].Call(ctx, "GET", "/notifications", nil, &out))
	if n := out.Notifications; len(n) != 1 || n[0].Name != "post" || n[0].Channel != "company" || n[0].Users != 3 || len(n[0].To) != 1 || n[0].To[0] != "group:managers" {
		t.Errorf("%+v", out)
	}
	if err := w.people["ann"].Call(ctx, "GET", "/notifications", nil, &out); err == nil {
		t.Error("anybody sees who is told what")
	}
	if err := w.people["ann"].Call(ctx, "POST", "/notifications/post/test", nil, nil); err == nil {
		t.Error("anybody sends messages")
	}
	var sent api.TestMessage
	w.must(w.people["dora"].Call(ctx, "POST", "/notifications/post/test", nil, &sent))
	w.must(w.people["dora"].Call(ctx, "GET", "/notifications", nil, &out))
	resp, err := http.Get(w.server.URL + "/metrics")
	w.must(err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	w.must(err)
	if out.Notifications[0].Waiting != 1 || !strings.HasPrefix(sent.ID, "m-") || !strings.Contains(string(b), `lockkeeper_messages_waiting{notification="post"} 1`) {
		t.Errorf("%+v %+v", sent, out)
	}
}
