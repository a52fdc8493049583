package catalog

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// A Catalog is all governance resources at one revision. It never changes after
// Read or Compile made it; its maps must not be written to. It is safe for use
// by several goroutines.
type Catalog struct {
	Projects     map[string]Project
	Users        map[string]User
	Groups       map[string]Group
	Roles        map[string]Role // the built-in ones too
	Assignments  map[string]Assignment
	Providers    map[string]Provider
	Pipelines    map[lockkeeper.Scope]Pipeline    // by /projects/P/pipelines/L
	Environments map[lockkeeper.Scope]Environment // by /projects/P/environments/E
	Identities   map[lockkeeper.Scope]Identity    // by /projects/P/identities/I
	Freezes      map[string]Freeze

	ActivationRules map[string]ActivationRule
	Directories     map[string]Directory
	Separations     map[string]Separation

	Provisioners map[string]Provisioner
	FreezeRules  map[string]FreezeRule

	Signers  map[string]Signer
	Policies map[string]Policy

	Notifications map[string]Notification

	documents []Document // sorted by key
	digest    lockkeeper.Digest
	byID      map[PlatformID]string                 // platform account → user
	bySignIn  map[SignIn]string                     // account at a directory → user
	byRepo    map[repository][]candidate            // immutable ids → stages
	byEnv     map[lockkeeper.Scope]lockkeeper.Scope // environment → identity
	frozen    map[lockkeeper.Scope][]Freeze         // scope → its own freezes, by name
	programs  map[string]*program                   // compiled expressions, by variable and text

	texts map[Key]map[string]place // where texts of policies stand in the files, if they were read from files

	conditions map[string]*Condition // compiled conditions of assignments, by text
}

// A repository is one repository by the ids that its platform never changes.
type repository struct{ provider, organisation, repository string }

// A candidate is one stage of one pipeline.
type candidate struct {
	pipeline lockkeeper.Scope
	stage    int
}

// A Document is one resource as the journal keeps it. Data is the canonical
// JSON (RFC 8785) of the resource with its "kind"; Digest is the SHA-256 of
// Data.
type Document struct {
	Key    Key
	Digest lockkeeper.Digest
	Data   []byte
}

// Documents lists the documents of the catalog, sorted by key. Built-in roles
// are part of the program and are no documents.
func (c *Catalog) Documents() []Document { return slices.Clone(c.documents) }

// Digest binds the whole catalog: equal catalogs have equal digests, whatever
// files they came from.
func (c *Catalog) Digest() lockkeeper.Digest { return c.digest }

// UserOf is the user who lists the platform account id of the provider among
// his own.
func (c *Catalog) UserOf(provider, id string) (User, bool) {
	u, ok := c.Users[c.byID[PlatformID{provider, id}]]
	return u, ok
}

// PersonOf is the human behind a user. It is the user's own name where the
// catalog says nothing else, also for a user that it does not have, so that two
// unknown users never count as one person.
func (c *Catalog) PersonOf(user string) lockkeeper.Person {
	if u, ok := c.Users[user]; ok {
		return u.Who()
	}
	return lockkeeper.Person(user)
}

// Who is the human behind the user: Person, or the user's own name.
func (u User) Who() lockkeeper.Person {
	if u.Person != "" {
		return u.Person
	}
	return lockkeeper.Person(u.Name)
}

// IdentityOf is the one identity that may touch the environment.
func (c *Catalog) IdentityOf(environment lockkeeper.Scope) (Identity, bool) {
	scope, ok := c.byEnv[environment]
	if !ok {
		return Identity{}, false
	}
	id, ok := c.Identities[scope]
	return id, ok
}

// RulesOf lists the rules that hold for activating a role at a scope, sorted by
// name: those there and above and, since what is activated holds below too, those
// below. None, if there is none there or above: it cannot be activated there.
func (c *Catalog) RulesOf(role string, scope lockkeeper.Scope) []ActivationRule {
	var out []ActivationRule
	covered := false
	for _, r := range c.ActivationRules {
		if r.Role == role && (r.Scope.Contains(scope) || scope.Contains(r.Scope)) {
			out = append(out, r)
			covered = covered || r.Scope.Contains(scope)
		}
	}
	if !covered {
		return nil
	}
	slices.SortFunc(out, func(a, b ActivationRule) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// FreezesAt lists the freezes whose scope contains scope, whatever their time,
// sorted by name.
func (c *Catalog) FreezesAt(scope lockkeeper.Scope) []Freeze {
	var out []Freeze
	for s := scope; ; s = s.Parent() {
		out = append(out, c.frozen[s]...)
		if s == lockkeeper.Root {
			break
		}
	}
	slices.SortFunc(out, func(a, b Freeze) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// ScopeOf is where a document lives: the scope at which one must hold the right
// to change it. The organisation's own kinds live at Root, a project at
// /projects/P, what belongs to a project at its own scope, and an assignment or
// a freeze at the scope that it names. For an assignment or freeze that the
// catalog does not have it is Root, the strictest answer.
func (c *Catalog) ScopeOf(k Key) lockkeeper.Scope {
	switch k.Kind {
	case ProjectKind:
		return lockkeeper.ProjectScope(k.Name)
	case PipelineKind:
		return lockkeeper.PipelineScope(k.Project, k.Name)
	case EnvironmentKind:
		return lockkeeper.EnvironmentScope(k.Project, k.Name)
	case IdentityKind:
		return lockkeeper.IdentityScope(k.Project, k.Name)
	case AssignmentKind:
		if a, ok := c.Assignments[k.Name]; ok {
			return a.Scope
		}
	case FreezeKind:
		if f, ok := c.Freezes[k.Name]; ok {
			return f.Scope
		}
	case FreezeRuleKind:
		if f, ok := c.FreezeRules[k.Name]; ok {
			return f.Scope
		}
	case ActivationRuleKind:
		if r, ok := c.ActivationRules[k.Name]; ok {
			return r.Scope
		}
	case ProvisionerKind:
		if p, ok := c.Provisioners[k.Name]; ok {
			return p.Scope
		}
	case SeparationKind:
		if s, ok := c.Separations[k.Name]; ok {
			return s.Scope
		}
	}
	return lockkeeper.Root
}

// Has finds the document of a key.
func (c *Catalog) Has(k Key) (Document, bool) {
	i, found := slices.BinarySearchFunc(c.documents, k, func(d Document, k Key) int { return d.Key.Compare(k) })
	if !found {
		return Document{}, false
	}
	return c.documents[i], true
}

// LeaseLimit is the longest that one lease on the environment may live.
func (e Environment) LeaseLimit() time.Duration { return orDefault(e.Lease, DefaultLease) }

// Beat is how long a holder may be silent before it loses its lease.
func (e Environment) Beat() time.Duration {
	return min(orDefault(e.Heartbeat, DefaultHeartbeat), e.LeaseLimit())
}

// PatienceLimit is how long an ask may wait at the environment's gate.
func (e Environment) PatienceLimit() time.Duration { return orDefault(e.Patience, DefaultPatience) }

// RecordLimit is how old, at the release, the record may be that vouches for an
// artifact.
func (e Environment) RecordLimit() time.Duration { return orDefault(e.RecordAge, DefaultRecordAge) }

// Pipelines are those that the identity's stages are of, sorted.
func (i Identity) Pipelines() []string {
	var out []string
	for _, s := range i.Stages {
		pipeline, _, _ := strings.Cut(s, "/")
		out = append(out, pipeline)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// TokenLifetime is how long one token of the identity lives.
func (i Identity) TokenLifetime() time.Duration { return orDefault(i.Lifetime, DefaultLifetime) }

func orDefault(d Duration, fallback time.Duration) time.Duration {
	if d == 0 {
		return fallback
	}
	return time.Duration(d)
}

// A Change is one difference between two catalogs.
type Change struct {
	Key  Key
	Verb string // added, changed or removed
}

// Diff lists what makes old into new, sorted by key. A nil catalog is an empty
// one.
func Diff(old, new *Catalog) []Change {
	before, after := digests(old), digests(new)
	var out []Change
	for k, d := range after {
		if b, ok := before[k]; !ok {
			out = append(out, Change{k, "added"})
		} else if b != d {
			out = append(out, Change{k, "changed"})
		}
	}
	for k := range maps.Keys(before) {
		if _, ok := after[k]; !ok {
			out = append(out, Change{k, "removed"})
		}
	}
	slices.SortFunc(out, func(a, b Change) int { return a.Key.Compare(b.Key) })
	return out
}

func digests(c *Catalog) map[Key]lockkeeper.Digest {
	out := map[Key]lockkeeper.Digest{}
	if c == nil {
		return out
	}
	for _, d := range c.documents {
		out[d.Key] = d.Digest
	}
	return out
}

// Compare orders keys by kind, project and name.
func (k Key) Compare(o Key) int {
	return cmp.Or(cmp.Compare(k.Kind, o.Kind), cmp.Compare(k.Project, o.Project), cmp.Compare(k.Name, o.Name))
}

// String is kind and name, with the project before the name where there is one:
// "Pipeline payments/release".
func (k Key) String() string {
	if k.Project == "" {
		return string(k.Kind) + " " + k.Name
	}
	return string(k.Kind) + " " + k.Project + "/" + k.Name
}
