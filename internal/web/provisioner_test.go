package web

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

const (
	databaseRules = "---\n{kind: Provisioner, name: database, role: release-manager, scope: /projects/payments, drift: repair, postgresql: {roles: [reading]}}\n"
	hostRules     = "---\n{kind: Provisioner, name: hosts, role: release-manager, scope: /projects/payments, ssh: {principals: [ops]}}\n"
)

// Anybody gets the list of revoked certificates of what makes any, and nothing of
// anything else.
func TestKRLIsPublic(t *testing.T) {
	w := newWorld(t)
	w.applied(databaseRules + hostRules)
	for name, want := range map[string]int{"hosts": 200, "database": 404, "nothing": 404, "..%2Fkeys": 404, strings.Repeat("x", 64): 422} {
		resp, err := http.Get(w.server.URL + "/api/v1/provisioners/" + name + "/krl")
		w.must(err)
		data, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		w.must(err)
		if resp.StatusCode != want {
			t.Errorf("%s: %s %s", name, resp.Status, data)
		}
		if want == 200 && (!bytes.HasPrefix(data, []byte("SSHKRL\n\x00")) || resp.Header.Get("Content-Type") != "application/octet-stream" || resp.Header.Get("Cache-Control") != "no-cache") {
			t.Errorf("%s: %q %v", name, data, resp.Header)
		}
	}
}

// Who may see activations at a provisioner sees how its target stands, and others and
// strangers nothing; the metrics name nobody.
func TestDriftIsSeenByWhoMay(t *testing.T) {
	w := newWorld(t)
	w.applied(databaseRules + hostRules)
	ctx := context.Background()
	s := w.keeper.Scans()
	if len(s) != 1 || s[0].Provisioner != "database" {
		t.Fatalf("%+v", s)
	}
	w.must(w.keeper.ReportScan(ctx, s[0], []keeper.Seen{{Kind: keeper.AssignedOutside, Account: "reporting", Detail: "It is a member of reading."}}))
	var out api.DriftTargets
	w.must(w.people["dora"].Call(ctx, "GET", "/provisioners/drift", nil, &out))
	if len(out.Targets) != 2 || out.Targets[0].Action != "repair" || !out.Targets[0].Visible || out.Targets[0].Scanned.IsZero() || len(out.Targets[0].Found) != 1 || out.Targets[0].Found[0].Account != "reporting" || out.Targets[1].Visible {
		t.Errorf("%+v", out)
	}
	var others api.DriftTargets
	err := w.people["ann"].Call(ctx, "GET", "/provisioners/drift", nil, &others)
	if text, _ := json.Marshal(others); err != nil || bytes.Contains(text, []byte("reporting")) {
		t.Errorf("ann sees %s (%v)", text, err)
	}
	stranger := api.Client{Server: w.server.URL}
	if err := stranger.Call(ctx, "GET", "/provisioners/drift", nil, &others); code(err) == "<nil>" {
		t.Error("a stranger sees it")
	}
	resp, err := http.Get(w.server.URL + "/metrics")
	w.must(err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	w.must(err)
	for _, want := range []string{`lockkeeper_drift{kind="assigned_outside"} 1`, `lockkeeper_drift{kind="vanished"} 0`, "lockkeeper_drift_unread 0"} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("no %s", want)
		}
	}
	if bytes.Contains(text, []byte("reporting")) {
		t.Error("a scrape names an account")
	}
}

// Only the handle of a run's request ends what the job activated.
func TestEndRunTakesTheHandle(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	if err := w.people["dora"].Call(ctx, "POST", "/requests/r-nothing/end", nil, nil); code(err) != "handle_needed" {
		t.Errorf("a person: %v", err)
	}
	if err := (api.Client{Server: w.server.URL}).With(api.HandlePrefix+"x").Call(ctx, "POST", "/requests/r-nothing/end", nil, nil); code(err) != "handle_unknown" {
		t.Errorf("another handle: %v", err)
	}
}
