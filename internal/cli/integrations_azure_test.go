package cli

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/lktest"
	"github.com/rogpeppe/go-internal/testscript"
)

var azures sync.Map // of scripts

// azure starts Azure DevOps' API, puts its address into the place of CLOUD in the files
// named, and the check's password into the folder of PROVISIONERS. Its tokens are those
// of the issuer that ci has started.
func azure(ts *testscript.TestScript, _ bool, files []string) {
	z, err := lktest.StartAzureAPI(time.Now())
	ts.Check(err)
	ts.Defer(z.Close)
	azures.Store(ts, z)
	z.Build("requestedBy", map[string]any{"id": "a1111111-2222-3333-4444-555555555555"})
	for _, name := range files {
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(strings.ReplaceAll(ts.ReadFile(name), "CLOUD", z.URL)), 0o644))
	}
	i, _ := platforms.Load(ts)
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || !strings.EqualFold(r.Header.Get("Authorization"), "Bearer "+z.Access) {
			http.Error(w, "no job", http.StatusUnauthorized)
			return
		}
		issuer := i.(*lktest.Issuer)
		json.NewEncoder(w).Encode(map[string]string{"oidcToken": issuer.Token(issuer.AzureClaims(z, time.Now(), nil))})
	}))
	ts.Defer(tokens.Close)
	ts.Setenv("SYSTEM_OIDCREQUESTURI", tokens.URL)
	ts.Setenv("SYSTEM_ACCESSTOKEN", z.Access)
	folder := ts.MkAbs("app")
	ts.Check(os.MkdirAll(folder, 0o700))
	ts.Check(os.WriteFile(filepath.Join(folder, "app@azure.secret"), []byte(z.Secret+"\n"), 0o600))
	ts.Setenv("PROVISIONERS", folder)
}

// azure-at STAGE lets the run be in its stage Build, or hold before its stage Deploy.
func azureAt(ts *testscript.TestScript, _ bool, args []string) {
	z, _ := azures.Load(ts)
	a := z.(*lktest.AzureAPI)
	a.Hold()
	state, finish := "completed", any(time.Now().Add(-3*time.Second).UTC().Format(time.RFC3339Nano))
	if args[0] == "Build" {
		state, finish = "inProgress", nil
	}
	for _, record := range []string{"s1", "p1", "j1"} {
		a.Record(record, "state", state)
		a.Record(record, "finishTime", finish)
	}
}

// azure-check lets Azure's check tell the server that it holds the stage.
func azureCheck(ts *testscript.TestScript, _ bool, _ []string) {
	z, _ := azures.Load(ts)
	req, err := http.NewRequest("POST", ts.Getenv("LOCKKEEPER_SERVER")+"/hooks/azure/azure", nil)
	ts.Check(err)
	req.Header = z.(*lktest.AzureAPI).Check(nil)
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		ts.Fatalf("the message: %s", resp.Status)
	}
}

// azure-answered RESULT waits until the check was answered so.
func azureAnswered(ts *testscript.TestScript, _ bool, args []string) {
	z, _ := azures.Load(ts)
	for range 1200 {
		for _, a := range z.(*lktest.AzureAPI).Answers() {
			if a.Result != args[0] {
				ts.Fatalf("the check was answered %+v: %q", a, z.(*lktest.AzureAPI).Lines())
			}
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("the check was answered nothing")
}
