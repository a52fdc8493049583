package lockkeeper_test

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/lockkeeper/lockkeeper"

// law says which of our packages each may import. A new edge is a change of the
// design (docs/architecture.md), not a way to make this test pass.
const law = `
(root):
api internal/catalog internal/journal internal/token: (root)
internal/evidence: (root)
internal/rego: (root) internal/catalog internal/gate
internal/forge: (root)
internal/measure: (root)
internal/access: (root) internal/catalog
internal/gate: (root) internal/catalog internal/evidence
internal/identity: (root) internal/token
internal/keeper: (root) internal/catalog internal/access internal/evidence internal/gate internal/measure internal/token internal/journal
internal/effect: (root) internal/forge internal/keeper internal/gate internal/rego
internal/web: (root) api internal/catalog internal/forge internal/keeper internal/identity internal/token
internal/cli: (root) api internal/catalog internal/access internal/effect internal/evidence internal/gate internal/identity internal/journal internal/keeper internal/rego internal/token internal/web
internal/lktest: (root) api internal/token
internal/lktest/provider:
cmd/lockkeeper: internal/cli
demo: (root) api internal/lktest internal/lktest/provider
`

// fences says which packages alone may import what lies outside.
var fences = map[string][]string{
	"database/sql":                        {"internal/journal"},
	"modernc.org/sqlite":                  {"internal/journal"},
	"github.com/jackc/pgx/v5":             {"internal/effect", "demo"},
	"golang.org/x/crypto/ssh":             {"internal/effect"},
	"github.com/wneessen/go-mail":         {"internal/effect"},
	"os/exec":                             {"internal/cli", "internal/rego", "demo", "internal/lktest"},
	"github.com/danielgtaylor/huma/v2":    {"internal/web"},
	"github.com/spf13/cobra":              {"internal/cli"},
	"go.yaml.in/yaml/v4":                  {"internal/catalog", "internal/evidence", "demo"},
	"github.com/go-jose/go-jose/v4":       {"internal/token", "internal/lktest", "internal/lktest/provider"},
	"golang.org/x/crypto/argon2":          {"internal/keeper"},
	"github.com/coreos/go-oidc/v3/oidc":   {"internal/identity", "demo"},
	"golang.org/x/oauth2":                 {"internal/identity"},
	"github.com/go-webauthn/webauthn":     {"internal/identity"},
	"github.com/prometheus/client_golang": {"internal/web"},
	"testing":                             {"internal/lktest", "internal/lktest/provider"},
	"github.com/zitadel/oidc":             {"internal/lktest/provider"},
	"github.com/sigstore":                 {"internal/evidence"},
	"github.com/open-policy-agent/opa":    {"internal/rego"},
}

// pure packages may not see the outside world.
var pure = []string{"(root)", "internal/catalog", "internal/access", "internal/gate", "internal/evidence", "internal/measure", "internal/token"}

var impure = []string{"os", "net", "net/http", "context", "log/slog", "os/exec", "database/sql"}

type goPackage struct {
	ImportPath string
	Imports    []string
}

func ours(t *testing.T) map[string][]string {
	t.Helper()
	// What go list reads is unknown to the cache of test results: open it here too.
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && strings.HasSuffix(path, ".go") {
			_, err = os.ReadFile(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return found
		} else if err != nil {
			t.Fatal(err)
		}
		found[short(p.ImportPath)] = p.Imports
	}
}

func short(path string) string {
	if path == module {
		return "(root)"
	}
	return strings.TrimPrefix(path, module+"/")
}

func TestImportLaw(t *testing.T) {
	allowed := map[string][]string{}
	for _, line := range strings.Split(strings.TrimSpace(law), "\n") {
		left, right, _ := strings.Cut(line, ":")
		for _, name := range strings.Fields(left) {
			allowed[name] = strings.Fields(right)
		}
	}
	found := ours(t)
	for name, imports := range found {
		may, listed := allowed[name]
		if !listed {
			t.Errorf("the package %s is not in the law", name)
		}
		for _, i := range imports {
			if (i == module || strings.HasPrefix(i, module+"/")) && !slices.Contains(may, short(i)) {
				t.Errorf("%s imports %s", name, short(i))
			}
			if name == "(root)" && strings.Contains(i, ".") {
				t.Errorf("the root imports %s, which is not of the standard library", i)
			}
			if slices.Contains(pure, name) && slices.Contains(impure, i) && !(name == "internal/token" && i == "context") {
				t.Errorf("%s is pure and imports %s", name, i)
			}
			for fence, inside := range fences {
				if (i == fence || strings.HasPrefix(i, fence+"/")) && !slices.Contains(inside, name) {
					t.Errorf("%s imports %s, which only %v may", name, i, inside)
				}
			}
		}
	}
	for name := range allowed {
		if _, there := found[name]; !there {
			t.Errorf("the law names %s, which is not there", name)
		}
	}
}
