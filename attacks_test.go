package lockkeeper_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// attacks are how many attacks of each letter ../shared/research/sts.md, section
// 3, has.
var attacks = map[string]int{"A": 16, "B": 10, "C": 5, "D": 7}

var attackName = regexp.MustCompile(`^([A-D])([0-9]+)_[a-z0-9_]+$`)

// Every attack is a subtest whose name begins with its number, and none is
// skipped: go test ./... -run 'Attacks/(A1|B7)_'
func TestAttacksHaveTests(t *testing.T) {
	found := map[string]string{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		names, skips := subtests(file)
		for _, name := range names {
			if m := attackName.FindStringSubmatch(name); m != nil {
				found[m[1]+m[2]] = path
				if skips {
					t.Errorf("%s: %s, and something in the file is skipped", path, name)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for letter, n := range attacks {
		for i := 1; i <= n; i++ {
			name := fmt.Sprint(letter, i)
			if found[name] == "" {
				t.Errorf("the attack %s has no test", name)
			}
			delete(found, name)
		}
	}
	for name, path := range found {
		t.Errorf("%s: there is no attack %s", path, name)
	}
}

// subtests are the names of the t.Run calls of a file, and whether it skips any.
func subtests(file *ast.File) (names []string, skips bool) {
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		f, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		switch f.Sel.Name {
		case "Skip", "Skipf", "SkipNow":
			skips = true
		case "Run":
			if len(call.Args) != 2 {
				break
			}
			if text, ok := call.Args[0].(*ast.BasicLit); ok && text.Kind == token.STRING {
				if name, err := strconv.Unquote(text.Value); err == nil {
					names = append(names, name)
				}
			}
		}
		return true
	})
	return names, skips
}
