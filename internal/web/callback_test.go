package web

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/lockkeeper/lockkeeper/internal/lktest"
)

// A service answers at the address that it was told, over HTTP: once. Nothing of the
// address is logged.
func TestCallbackOverHTTP(t *testing.T) {
	var log bytes.Buffer
	w := &world{t: t, options: keeper.Options{Dir: t.TempDir(), Log: slog.New(slog.NewTextHandler(&log, nil))}, issuer: lktest.NewIssuer(t)}
	w.begin(strings.Replace(rules, "checks:\n", "checks:\n  - {name: scan, call: {service: {url: 'https://scan.example/', criteria: body.ok == true}, callback: true}}\n", 1))
	d := w.waiting(w.job("push", "production"), "handle")
	open := w.keeper.Questions()
	if len(open) != 1 || open[0].About != "deployment/"+d.ID {
		t.Fatalf("%+v", open)
	}
	address, err := w.keeper.CallbackAddress(open[0])
	w.must(err)
	if !strings.HasPrefix(address, w.server.URL+"/callbacks/") {
		t.Fatal(address)
	}
	post := func(to, body string) int {
		t.Helper()
		resp, err := http.Post(to, "application/json", strings.NewReader(body))
		w.must(err)
		defer resp.Body.Close()
		io.Copy(io.Discard, resp.Body)
		return resp.StatusCode
	}
	resp, err := http.Get(address)
	w.must(err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed && resp.StatusCode != http.StatusNotFound {
		t.Errorf("GET: %d", resp.StatusCode)
	}
	before := w.size(t)
	for what, c := range map[string]struct {
		to, body string
		want     int
	}{
		"forged": {address[:len(address)-6] + "AAAAAA", `{"ok": true}`, 401}, "nothing": {w.server.URL + "/callbacks/x", `{"ok": true}`, 401},
		"no JSON": {address, `ok`, 422}, "large": {address, `{"ok": true, "x": "` + strings.Repeat("x", maxCallback) + `"}`, 422},
	} {
		if got := post(c.to, c.body); got != c.want {
			t.Errorf("%s: %d, want %d", what, got, c.want)
		}
	}
	if w.size(t) != before {
		t.Error("strangers write into the journal")
	}
	for i, want := range []int{204, 204} {
		if got := post(address, `{"ok": true}`); got != want {
			t.Errorf("%d: %d", i, got)
		}
	}
	if got := post(address, `{"ok": false}`); got != 409 {
		t.Errorf("another answer: %d", got)
	}
	v, err := w.keeper.Deployment(context.Background(), keeper.Caller{User: "dora"}, d.ID)
	w.must(err)
	if said := fmt.Sprintf("%+v", v.Gate); !strings.Contains(said, "call_good") {
		t.Error(said)
	}
	w.server.Close()
	if secret := address[strings.LastIndexByte(address, '.'):]; strings.Contains(log.String(), secret) {
		t.Error("the log has the address")
	}
}
