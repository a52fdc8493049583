package cli

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/lktest"
	"github.com/rogpeppe/go-internal/testscript"
)

var labs sync.Map // of scripts

// lab starts GitLab's API with an access token of ours, puts its address into the place
// of LAB in the files named, and the secrets into the folder of PROVISIONERS.
func lab(ts *testscript.TestScript, _ bool, files []string) {
	g, err := lktest.StartGitLabAPI()
	ts.Check(err)
	ts.Defer(g.Close)
	labs.Store(ts, g)
	for _, name := range files {
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(strings.ReplaceAll(ts.ReadFile(name), "LAB", g.URL)), 0o644))
	}
	folder := ts.MkAbs("app")
	ts.Check(os.MkdirAll(folder, 0o700))
	ts.Check(os.WriteFile(filepath.Join(folder, "app@gitlab.key"), append(g.Key, '\n'), 0o600))
	ts.Check(os.WriteFile(filepath.Join(folder, "app@gitlab.secret"), []byte(g.Secret+"\n"), 0o600))
	ts.Setenv("PROVISIONERS", folder)
}

// labJob NUMBER [ENVIRONMENT [USER]] makes what follows run in that job of GitLab CI: its
// ID token stands in the environment, as its id_tokens says.
func labJob(ts *testscript.TestScript, _ bool, args []string) {
	i, _ := platforms.Load(ts)
	more := map[string]any{"job_id": args[0], "environment": nil, "environment_protected": nil, "deployment_tier": nil, "project_path": "acme/pay/ments",
		"ci_config_ref_uri": "gitlab.example.com/acme/pay/ments//.gitlab-ci.yml@refs/heads/main"}
	if len(args) > 1 {
		more["environment"], more["environment_protected"] = args[1], "true"
	}
	if len(args) > 2 {
		more["user_id"] = args[2]
	}
	issuer := i.(*lktest.Issuer)
	ts.Setenv("LOCKKEEPER_ID_TOKEN", issuer.Token(issuer.GitLabClaims(ts.Getenv("LOCKKEEPER_SERVER"), time.Now(), more)))
}

// labHook lets GitLab tell the server that it blocks the deployment: by the deployment's
// message, by the job's, or again.
func labHook(ts *testscript.TestScript, _ bool, args []string) {
	found, _ := labs.Load(ts)
	g := found.(*lktest.GitLabAPI)
	for _, event := range args {
		body := g.DeploymentMessage(nil)
		if event == "Job" {
			body = g.JobMessage(nil)
		}
		req, err := http.NewRequest("POST", ts.Getenv("LOCKKEEPER_SERVER")+"/hooks/gitlab/gitlab", bytes.NewReader(body))
		ts.Check(err)
		req.Header = g.Head(event+" Hook", body, time.Now())
		resp, err := http.DefaultClient.Do(req)
		ts.Check(err)
		resp.Body.Close()
		if resp.StatusCode != http.StatusAccepted {
			ts.Fatalf("the message: %s", resp.Status)
		}
	}
}

// labTold STATE waits until GitLab was told so, and lets somebody press the button.
func labTold(ts *testscript.TestScript, _ bool, args []string) {
	found, _ := labs.Load(ts)
	g := found.(*lktest.GitLabAPI)
	for range 1200 {
		for _, a := range g.Approvals() {
			if a.Status != args[0] {
				ts.Fatalf("the platform was told %+v", a)
			}
			if args[0] == "approved" {
				g.Plays("running", "running")
			}
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("the platform was told nothing")
}
