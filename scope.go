package lockkeeper

import (
	"fmt"
	"net/url"
	"strings"
)

// A Scope is a node of the tree in which rights are granted; what is granted at
// a scope holds below it. The canonical spelling is one of
//
//	/
//	/projects/P
//	/projects/P/environments/E
//	/projects/P/repositories/R
//	/projects/P/repositories/R/branches/B
//	/projects/P/pipelines/L
//	/projects/P/pipelines/L/stages/S
//	/projects/P/identities/I
//
// A branch is escaped as one path segment (feature/x is written feature%2Fx).
type Scope string

// Root is the scope that contains every other.
const Root Scope = "/"

// scopeBelow names the collections that may follow a collection.
var scopeBelow = map[string][]string{
	"":             {"projects"},
	"projects":     {"environments", "repositories", "pipelines", "identities"},
	"repositories": {"branches"},
	"pipelines":    {"stages"},
}

// ParseScope reads the canonical spelling of a scope; any other spelling is an
// error that says what is wrong with it.
func ParseScope(s string) (Scope, error) {
	if s == "/" {
		return Root, nil
	}
	if !strings.HasPrefix(s, "/") {
		return "", fmt.Errorf("the scope %q must begin with '/'", s)
	}
	parts := strings.Split(s[1:], "/")
	parent := ""
	for i := 0; i < len(parts); i += 2 {
		collection := parts[i]
		if !contains(scopeBelow[parent], collection) {
			return "", fmt.Errorf("the scope %q: %q is not one of %s", s, collection, orNone(scopeBelow[parent]))
		}
		if i+1 == len(parts) {
			return "", fmt.Errorf("the scope %q ends after %q; a name must follow", s, collection)
		}
		if err := checkScopeName(collection, parts[i+1]); err != nil {
			return "", fmt.Errorf("the scope %q: %w", s, err)
		}
		parent = collection
	}
	return Scope(s), nil
}

func checkScopeName(collection, name string) error {
	if collection != "branches" {
		return CheckName(name)
	}
	plain, err := url.PathUnescape(name)
	if err != nil || plain == "" || len(plain) > 255 || url.PathEscape(plain) != name {
		return fmt.Errorf("the branch %q is not escaped as one path segment", name)
	}
	return nil
}

// ProjectScope is /projects/P.
func ProjectScope(project string) Scope { return Scope("/projects/" + project) }

// EnvironmentScope is /projects/P/environments/E.
func EnvironmentScope(project, environment string) Scope {
	return ProjectScope(project) + Scope("/environments/"+environment)
}

// PipelineScope is /projects/P/pipelines/L.
func PipelineScope(project, pipeline string) Scope {
	return ProjectScope(project) + Scope("/pipelines/"+pipeline)
}

// IdentityScope is /projects/P/identities/I.
func IdentityScope(project, identity string) Scope {
	return ProjectScope(project) + Scope("/identities/"+identity)
}

// Parent is the scope that directly contains s; the parent of Root is Root.
func (s Scope) Parent() Scope {
	rest := string(s)
	for range 2 {
		i := strings.LastIndexByte(rest, '/')
		if i <= 0 {
			return Root
		}
		rest = rest[:i]
	}
	return Scope(rest)
}

// Contains reports whether what is granted at s holds at inner: s is inner or
// one of its ancestors.
func (s Scope) Contains(inner Scope) bool {
	if s == Root || s == inner {
		return true
	}
	return len(inner) > len(s) && inner[len(s)] == '/' && inner[:len(s)] == s
}

// Project is the name of the project that s lies in, or "" for Root.
func (s Scope) Project() string {
	rest, ok := strings.CutPrefix(string(s), "/projects/")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}

// Environment is the name of the environment that s is, or "" where s is none.
func (s Scope) Environment() string {
	_, rest, ok := strings.Cut(string(s), "/environments/")
	if !ok || strings.Contains(rest, "/") || s.Project() == "" {
		return ""
	}
	return rest
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "(nothing lies below)"
	}
	return strings.Join(list, ", ")
}
