package forge

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/lktest"
)

func checkOf(t *testing.T, z *lktest.AzureAPI) Asking {
	t.Helper()
	m, err := AzureAsking(z.URL, z.Organisation, z.Check(nil))
	if err != nil {
		t.Fatal(err)
	}
	return m.Asking
}

func azureClient(z *lktest.AzureAPI) *Azure {
	access := z.Access
	return &Azure{Provider: "azure", Issuer: "https://ci.example/" + z.Organisation, API: z.URL, Access: func(context.Context, string) (string, error) { return access, nil }}
}

// The service connection's password proves the sender, whoever its user is.
func TestAzureSent(t *testing.T) {
	basic := func(user, password string) string {
		r := http.Request{Header: http.Header{}}
		r.SetBasicAuth(user, password)
		return r.Header.Get("Authorization")
	}
	for _, good := range []string{basic("", "s3:cret"), basic("anybody", "s3:cret"), strings.Replace(basic("x", "s3:cret"), "Basic", "basic", 1)} {
		if !AzureSent("s3:cret", good) {
			t.Errorf("%q is not taken", good)
		}
	}
	for name, c := range map[string][2]string{"other": {"s3:cret", basic("x", "s3:cre")}, "longer": {"s3:cret", basic("x", "s3:crett")}, "none": {"s3:cret", ""}, "no secret": {"", basic("x", "")},
		"bearer": {"s3:cret", "Bearer s3:cret"}, "as a user": {"s3:cret", basic("s3:cret", "")}, "no base64": {"s3:cret", "Basic ???"}, "plain": {"s3:cret", "Basic x:s3:cret"}, "no colon": {"eA==", "Basic eA=="}} {
		if AzureSent(c[0], c[1]) {
			t.Errorf("%s is taken", name)
		}
	}
}

// The headers of a check, as the documentation has them filled in.
func TestAzureAsking(t *testing.T) {
	z := lktest.NewAzureAPI(t, time.Now())
	m, err := AzureAsking(z.URL, z.Organisation, z.Check(nil))
	check := Check{Project: z.Project, Hub: "gates", Plan: "81111111-2222-3333-4444-555555555555", Job: "82111111-2222-3333-4444-555555555555", Task: "83111111-2222-3333-4444-555555555555", Timeline: "84111111-2222-3333-4444-555555555555"}
	want := AzureMessage{Asking: Asking{Organisation: z.Organisation, Repository: z.Repository, Place: z.Project, Run: "1234", Environment: "payments/production",
		Mark: check.Plan + "/" + check.Job + "/" + check.Task, Check: check}, Access: z.Access}
	if err != nil || m != want {
		t.Errorf("read %+v %v", m, err)
	}
	one, _ := AzureAsking(z.URL, z.Organisation, z.Check(map[string]string{"Completion": "ApiResponse"}))
	two, _ := AzureAsking(z.URL, z.Organisation, z.Check(map[string]string{"Completion": "apiresponse", "PlanId": check.Job, "TaskInstanceId": check.Plan}))
	if !one.Polled || one.Mark != "attempt 1" || two.Mark != one.Mark {
		t.Errorf("asked again it is %+v, and was %+v", two, one)
	}
	long := strings.Repeat("x", 16<<10+1)
	for name, more := range map[string]map[string]string{
		"metadata": {"PlanUrl": "http://169.254.169.254/"}, "loopback": {"PlanUrl": "http://127.0.0.1:1/"}, "another organisation": {"PlanUrl": "https://dev.azure.com/other/"},
		"a host that begins so": {"PlanUrl": z.URL + ".example.com/"}, "user information": {"PlanUrl": strings.Replace(z.URL, "http://", "http://"+strings.TrimPrefix(z.URL, "http://")+"@", 1) + "/"},
		"a path below": {"PlanUrl": z.URL + "/other"}, "a query": {"PlanUrl": z.URL + "/?x"}, "no plan url": {"PlanUrl": ""}, "no project": {"ProjectId": ""}, "a path as project": {"ProjectId": "../../x"},
		"no plan": {"PlanId": ""}, "unfilled": {"PlanId": "$(system.PlanId)"}, "no job": {"JobId": ""}, "no task": {"TaskInstanceId": "x"}, "no timeline": {"TimelineId": ""}, "a path as hub": {"HubName": "../x"}, "no hub": {"HubName": ""},
		"no run": {"BuildId": ""}, "spelled run": {"BuildId": "01234"}, "a path as run": {"BuildId": "1/../2"}, "no repository": {"RepositoryId": ""}, "no environment": {"Environment": ""}, "long environment": {"Environment": long[:256]},
		"no token": {"AuthToken": ""}, "long token": {"AuthToken": long}, "a token with a line": {"AuthToken": "x y"}, "completion": {"Completion": "Later"}, "no attempt": {"Completion": "ApiResponse", "StageAttempt": ""}, "attempt": {"Completion": "ApiResponse", "StageAttempt": "$(Checks.StageAttempt)"},
	} {
		m, err := AzureAsking(z.URL, z.Organisation, z.Check(more))
		if problem(err) != "message_malformed" || m != (AzureMessage{}) {
			t.Errorf("%s: %+v %v", name, m, err)
		}
		if err != nil && strings.Contains(err.Error(), z.Access) {
			t.Errorf("%s: the error holds the token", name)
		}
	}
}

// Both spellings of an organisation of the public service are one, and no others.
func TestAzureOrganisation(t *testing.T) {
	for _, c := range []struct {
		api, said string
		same      bool
	}{
		{"https://dev.azure.com/acme", "https://dev.azure.com/acme/", true}, {"https://dev.azure.com/acme", "https://dev.azure.com/Acme", true}, {"https://dev.azure.com/acme", "https://acme.visualstudio.com/", true},
		{"https://acme.visualstudio.com", "https://dev.azure.com/acme/", true}, {"https://acme.visualstudio.com", "https://acme.visualstudio.com/DefaultCollection/", true}, {"https://tfs.example.com/tfs/main", "https://tfs.example.com/tfs/main/", true},
		{"https://dev.azure.com/acme", "http://dev.azure.com/acme/", false}, {"https://dev.azure.com/acme", "https://acme.visualstudio.com.example.com/", false}, {"https://dev.azure.com/acme", "https://other.visualstudio.com/", false},
		{"https://dev.azure.com/acme", "https://acme.visualstudio.com/x", false}, {"https://dev.azure.com/acme", "https://dev.azure.com/", false}, {"https://tfs.example.com/tfs/main", "https://tfs.example.com/tfs/other", false},
		{"https://dev.azure.com/acme", "https://dev.azure.com/acme%2f..%2fother", false}, {"", "", false},
	} {
		if got := sameOrganisation(c.api, c.said); got != c.same {
			t.Errorf("%s and %s: %v", c.api, c.said, got)
		}
	}
}

// What the API proves of a run that waits is all that is believed.
func TestAzureLook(t *testing.T) {
	z := lktest.NewAzureAPI(t, time.Now())
	c, a := azureClient(z), checkOf(t, z)
	z.Hold()
	look, err := c.Look(context.Background(), a)
	is := func(s string) lockkeeper.Fact { return lockkeeper.Fact{Value: s, Mark: lockkeeper.LookedUp} }
	want := lockkeeper.Workload{Provider: "azure", Platform: "azure", Issuer: "https://ci.example/" + z.Organisation, Attempt: 1, Organisation: is(z.Organisation), Project: is(z.Project), Pipeline: is("42"),
		Repository: is(z.Repository), Run: is("1234"), Stage: is("Deploy"), Job: is("stage/Deploy"), Event: is("individualCI"), Ref: is("refs/heads/main"), Commit: is(z.Commit),
		Actor: is("a1111111-2222-3333-4444-555555555555"), ActorName: is("ann@example.com"), QueuedBy: is("00000002-0000-8888-8000-000000000000")}
	if err != nil || !look.Held || look.Over || look.Job != want {
		t.Errorf("looked %+v %v", look, err)
	}
	z.Hold("s3")
	if look, err := c.Look(context.Background(), a); err != nil || !look.Held || look.Job.Stage.Known() || look.Job.Attempt != 0 {
		t.Errorf("two stages wait: %+v %v", look, err)
	}
	z.Begin()
	if look, err := c.Look(context.Background(), a); err != nil || look.Held || look.Over {
		t.Errorf("none waits: %+v %v", look, err)
	}
	z.Hold()
	z.Build("status", "completed")
	z.Build("result", "canceled")
	if look, err := c.Look(context.Background(), a); err != nil || look.Held || !look.Over || look.Outcome != "cancelled" {
		t.Errorf("the run is over: %+v %v", look, err)
	}
	for name, v := range map[string]any{"sourceVersion": "HEAD", "requestedFor": nil, "reason": "", "repository": nil, "definition": nil, "id": 1235} {
		z := lktest.NewAzureAPI(t, time.Now())
		z.Hold()
		z.Build(name, v)
		if _, err := azureClient(z).Look(context.Background(), checkOf(t, z)); problem(err) != "answer_malformed" {
			t.Errorf("%s is %v: %v", name, v, err)
		}
	}
	for _, branch := range []string{"main", "refs/heads/../x", "refs/heads/a b"} {
		z.Build("sourceBranch", branch)
		if look, err := c.Look(context.Background(), a); err != nil || look.Job.Ref.Known() {
			t.Errorf("%q: %+v %v", branch, look.Job.Ref, err)
		}
	}
}

// The answer is the event that the check waits for, under the ids that it asked with; an
// access that has ended is told from everything else.
func TestAzureTell(t *testing.T) {
	z := lktest.NewAzureAPI(t, time.Now())
	c, a, ctx := azureClient(z), checkOf(t, z), context.Background()
	z.Hold()
	if err := c.Status(ctx, a, "it waits:\nfor bob"); err != nil || len(z.Lines()) != 1 || z.Lines()[0] != "it waits: for bob" {
		t.Errorf("said %q %v", z.Lines(), err)
	}
	other := a
	other.Check.Plan = a.Check.Task
	if err := c.Tell(ctx, other, true, ""); problem(err) != "platform_refused" || !err.(*Problem).Final {
		t.Errorf("another plan: %v", err)
	}
	if err := c.Tell(ctx, a, true, "yes"); err != nil {
		t.Error(err)
	}
	if got := z.Answers(); len(got) != 1 || got[0] != (lktest.AzureAnswer{Name: "TaskCompleted", Task: a.Check.Task, Job: a.Check.Job, Result: "succeeded"}) {
		t.Errorf("answered %+v", got)
	}
	if err := c.Tell(ctx, a, false, "no"); problem(err) != "platform_refused" || !err.(*Problem).Final {
		t.Errorf("answered twice: %v", err)
	}
	z.Ends()
	for _, err := range []error{c.Tell(ctx, a, true, ""), c.Status(ctx, a, ""), func() error { _, err := c.Look(ctx, a); return err }()} {
		if problem(err) != AccessOver {
			t.Errorf("the access has ended: %v", err)
		}
	}
	z = lktest.NewAzureAPI(t, time.Now())
	for _, status := range []int{500, 404, 429} {
		z.SetStatus(status)
		if _, err := azureClient(z).Look(ctx, checkOf(t, z)); problem(err) != "platform_refused" || err.(*Problem).Final {
			t.Errorf("%d: %v", status, err)
		}
	}
	z.SetStatus(302)
	if _, err := azureClient(z).Look(ctx, checkOf(t, z)); problem(err) != AccessOver {
		t.Errorf("the way to the sign-in: %v", err)
	}
}
