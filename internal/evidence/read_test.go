package evidence

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "rewrite what the documents of testdata are read as")

// TestRead reads every document of testdata/read: files named KIND-WHAT.txtar, with
// documents and, behind each, what it is read as.
func TestRead(t *testing.T) {
	files, err := filepath.Glob("testdata/read/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no documents: %v", err)
	}
	for _, file := range files {
		kind, _, _ := strings.Cut(filepath.Base(file), "-")
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			out := &txtar.Archive{Comment: a.Comment}
			for _, f := range a.Files {
				if f.Name == "want" {
					continue
				}
				out.Files = append(out.Files, f, txtar.File{Name: "want", Data: []byte(reading(t, Kind(kind), f.Data))})
			}
			if *update {
				if err := os.WriteFile(file, txtar.Format(out), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(txtar.Format(a)), string(txtar.Format(out))); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// reading is what a document is read as, or why it is refused.
func reading(t *testing.T, kind Kind, content []byte) string {
	t.Helper()
	s, err := Read(kind, content, nil)
	if err != nil {
		r := refusal(t, err)
		return fmt.Sprintf("REFUSED %s\n%s\n", r.Code, r.Error())
	}
	out, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(out) + "\n"
}
