package cli

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// desk FILE... starts a service that knows tickets, and puts its address into the files,
// in the place of DESK. It answers with what desk/TICKET holds, and not at all well
// while there is a file desk/down.
func desk(ts *testscript.TestScript, _ bool, files []string) {
	folder := ts.MkAbs("desk")
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := os.Stat(filepath.Join(folder, "down")); err == nil {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		data, err := os.ReadFile(filepath.Join(folder, path.Base(r.URL.Path)))
		if err != nil {
			http.NotFound(w, r)
			return
		}
		io.WriteString(w, strings.ReplaceAll(string(data), "DIGEST", r.Header.Get("Lockkeeper-Ask-Digest")))
	}))
	ts.Defer(s.Close)
	for _, file := range files {
		data, err := os.ReadFile(ts.MkAbs(file))
		ts.Check(err)
		ts.Check(os.WriteFile(ts.MkAbs(file), []byte(strings.ReplaceAll(string(data), "DESK", s.URL)), 0o600))
	}
}
