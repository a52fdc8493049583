package cli

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/lktest"
	"github.com/rogpeppe/go-internal/testscript"
	"go.yaml.in/yaml/v4"
)

// integration decodes the documents of a file under integrations.
func integration(t interface{ Fatalf(string, ...any) }, file string) (documents []map[string]any) {
	data, err := os.ReadFile(filepath.Join("..", "..", "integrations", file))
	if err != nil {
		t.Fatalf("%v", err)
	}
	for dec := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var d map[string]any
		if err := dec.Decode(&d); err == io.EOF {
			return documents
		} else if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		documents = append(documents, d)
	}
}

// step is the shell of a file's one step, and its environment.
func step(t interface{ Fatalf(string, ...any) }, file string) (run string, env map[string]any) {
	d := integration(t, file)
	at := func(v any, path ...any) any {
		for _, p := range path {
			switch p := p.(type) {
			case string:
				m, _ := v.(map[string]any)
				v = m[p]
			case int:
				if l, _ := v.([]any); len(l) > p {
					v = l[p]
				} else {
					v = nil
				}
			}
		}
		return v
	}
	var script any
	switch {
	case strings.HasPrefix(file, "github/"):
		script, env = at(d[0], "runs", "steps", 0, "run"), at(d[0], "runs", "steps", 0, "env").(map[string]any)
	case strings.HasPrefix(file, "azure/"):
		script, env = at(d[0], "steps", 0, "bash"), at(d[0], "steps", 0, "env").(map[string]any)
	default:
		job := at(d[1], "$[[ inputs.job-name ]]")
		script, env = at(job, "script", 0), at(job, "variables").(map[string]any)
	}
	run, _ = script.(string)
	return run, env
}

// No text that a caller gives becomes a part of a shell: it comes as a variable.
func TestIntegrations(t *testing.T) {
	for _, file := range []string{"github/record/action.yml", "github/deploy/action.yml", "azure/deploy.yml", "gitlab/templates/deploy.yml"} {
		run, env := step(t, file)
		if !strings.Contains(run, "lockkeeper ") || strings.Contains(run, "${{") || strings.Contains(run, "$[[") || strings.Contains(run, "$(") {
			t.Errorf("%s runs %q", file, run)
		}
		if env["LOCKKEEPER_SERVER"] == nil {
			t.Errorf("%s sets %v", file, env)
		}
		for name := range env {
			if strings.HasPrefix(name, "LK_") && !strings.Contains(run, name) {
				t.Errorf("%s sets %s and does not use it", file, name)
			}
		}
	}
	for _, file := range []string{"github/record/action.yml", "github/deploy/action.yml"} {
		d := integration(t, file)[0]
		text, err := yaml.Marshal(d["runs"])
		if err != nil || d["runs"].(map[string]any)["using"] != "composite" {
			t.Errorf("%s: %v %v", file, err, d["runs"])
		}
		for name := range d["inputs"].(map[string]any) {
			if !strings.Contains(string(text), "${{ inputs."+name+" }}") {
				t.Errorf("%s takes %s and does not use it", file, name)
			}
		}
	}
}

// integrate FILE SCRIPT writes the shell of an integration's step to a script.
func integrate(ts *testscript.TestScript, _ bool, args []string) {
	run, _ := step(ts, args[0])
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(run), 0o755))
}

// hub starts GitHub's API with an App of ours, puts its address into the place of HUB in
// the files named, and the App's secrets into the folder of PROVISIONERS.
func hub(ts *testscript.TestScript, _ bool, files []string) {
	g, err := lktest.StartGitHubAPI()
	ts.Check(err)
	ts.Defer(g.Close)
	hubs.Store(ts, g)
	for _, name := range files {
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(strings.ReplaceAll(ts.ReadFile(name), "HUB", g.URL)), 0o644))
	}
	folder := ts.MkAbs("app")
	ts.Check(os.MkdirAll(folder, 0o700))
	ts.Check(os.WriteFile(filepath.Join(folder, "app@github.key"), g.Key, 0o600))
	ts.Check(os.WriteFile(filepath.Join(folder, "app@github.secret"), []byte(g.Secret+"\n"), 0o600))
	ts.Setenv("PROVISIONERS", folder)
}

// hook lets GitHub tell the server that it holds the run.
func hook(ts *testscript.TestScript, _ bool, _ []string) {
	g, _ := hubs.Load(ts)
	body, signature := g.(*lktest.GitHubAPI).Message(nil)
	req, err := http.NewRequest("POST", ts.Getenv("LOCKKEEPER_SERVER")+"/hooks/github/github", bytes.NewReader(body))
	ts.Check(err)
	req.Header.Set("X-GitHub-Event", "deployment_protection_rule")
	req.Header.Set("X-Hub-Signature-256", signature)
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		ts.Fatalf("the message: %s", resp.Status)
	}
}

// told STATE waits until the platform was told so.
func told(ts *testscript.TestScript, _ bool, args []string) {
	g, _ := hubs.Load(ts)
	for range 1200 {
		for _, r := range g.(*lktest.GitHubAPI).Reviews(true) {
			if r.State != args[0] {
				ts.Fatalf("the platform was told %+v", r)
			}
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("the platform was told nothing")
}

var hubs sync.Map // of scripts
