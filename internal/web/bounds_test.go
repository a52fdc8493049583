package web

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/api"
)

// TestInvariant14 sends to every operation of the API, as somebody who may do
// everything, bodies and paths that are larger or deeper than any that is meant.
// Each is refused with a problem and a code, soon, and nothing is written.
func TestInvariant14(t *testing.T) {
	w := newWorld(t)
	credential := w.people["dora"].Bearer
	var doc struct {
		Paths map[string]map[string]json.RawMessage
	}
	w.must(w.people["dora"].Call(context.Background(), "GET", "/openapi.json", nil, &doc))
	large := append([]byte(`{"user":"`), bytes.Repeat([]byte("x"), maxCatalog)...)
	large = append(large, '"', '}')
	hostile := map[string][]byte{
		"large":        large,
		"padded":       append(bytes.Repeat([]byte(" "), maxCatalog), '{', '}'),
		"deep arrays":  []byte(`{"x":` + strings.Repeat("[", 200_000) + strings.Repeat("]", 200_000) + `}`),
		"deep objects": []byte(strings.Repeat(`{"x":`, 100_000) + "1" + strings.Repeat("}", 100_000)),
		"number":       []byte(`{"base":1` + strings.Repeat("0", 500_000) + `,"seconds":1e` + strings.Repeat("9", 500_000) + `}`),
		"members":      []byte(`{` + strings.Repeat(`"x":1,`, 100_000) + `"x":1}`),
		"long name":    []byte(`{"` + strings.Repeat("n", 500_000) + `":1}`),
		"names":        []byte(`{` + manyNames(5000) + `"x":1}`),
		"two":          []byte(`{} {}`),
		"cut":          []byte(`{"user":"`),
	}
	before := w.size(t)
	operations := 0
	for path, methods := range doc.Paths {
		for method, about := range methods {
			method = strings.ToUpper(method)
			takes := bytes.Contains(about, []byte(`"requestBody"`))
			if takes {
				operations++
				for name, body := range hostile {
					w.refused(t, method+" "+path+" "+name, method, strings.ReplaceAll(path, "{id}", "d-x"), credential, body)
				}
			}
			if strings.Contains(path, "{") {
				w.refused(t, method+" "+path+" with a long name", method, strings.NewReplacer("{id}", strings.Repeat("a", 30_000), "{name}", strings.Repeat("a", 30_000)).Replace(path), credential, []byte("{}"))
			}
		}
	}
	if operations < 15 {
		t.Fatalf("only %d operations take a body", operations)
	}
	w.refused(t, "a long header", "GET", "/api/v1/catalog", strings.Repeat("a", 2*maxHeader), nil)
	if after := w.size(t); after != before {
		t.Errorf("%d entries were written", after-before)
	}
}

func manyNames(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"n%d":1,`, i)
	}
	return b.String()
}

func (w *world) refused(t *testing.T, what, method, path, bearer string, body []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, w.server.URL+path, bytes.NewReader(body))
	w.must(err)
	r.Header.Set("Authorization", "Bearer "+bearer)
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		if ctx.Err() != nil {
			t.Errorf("%s: no answer in time", what)
		} // otherwise the server closed the connection while the rest was being sent
		return
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	var p struct{ Code, Detail string }
	switch {
	case resp.StatusCode < 400 || resp.StatusCode >= 500:
		t.Errorf("%s: %d %.300s", what, resp.StatusCode, text)
	case resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge && (json.Unmarshal(text, &p) != nil || p.Code == ""):
		t.Errorf("%s: %d without a code: %.300s", what, resp.StatusCode, text)
	case len(text) > 16<<10:
		t.Errorf("%s: the refusal has %d bytes", what, len(text))
	}
}

// size is how many entries the journal has.
func (w *world) size(t *testing.T) int64 {
	t.Helper()
	var out api.Entries
	w.must(w.people["dora"].Call(context.Background(), "GET", "/journal/entries?limit=1000", nil, &out))
	return out.Next
}
