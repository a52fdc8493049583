package catalog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
)

// A File is one file of documents. Name stands in the problems.
type File struct {
	Name string
	Data []byte
}

// Read turns files into a catalog, or says everything that is wrong with them.
// Exactly one of the two results is nil. The order of the files does not matter
// to the catalog, only to which of two conflicting documents is named as the
// second. A file named *.json is read as JSON, any other as YAML.
func Read(files []File) (*Catalog, Problems) {
	problems := new(collector)
	in := &inbox{problems: problems}
	var resources []*resource
	for _, f := range files {
		for _, root := range in.roots(f) {
			d := &decoder{file: f.Name, problems: problems, written: true}
			if r := d.resource(root); r != nil {
				resources = append(resources, r)
			}
		}
	}
	if len(resources) == 0 && problems.count == 0 {
		problems.add(Problem{File: "(no file)", Code: "nothing_read", Sentence: "There is no document at all.",
			Mend: "Name files that hold documents: an empty catalog would take every right away."})
	}
	return build(resources, problems, true)
}

// roots parses one file into its documents.
func (in *inbox) roots(f File) []*node {
	chunks := in.chunks(f)
	if strings.HasSuffix(f.Name, ".json") && len(chunks) > 0 {
		whole := f.Data
		if len(chunks) > 1 || len(whole) > maxDocumentBytes {
			in.problems.add(Problem{File: f.Name, Line: 1, Column: 1, Code: "json_broken",
				Sentence: "A JSON file holds JSON values only, one after the other, and at most 1 MiB.", Mend: "Split it, and take out lines that begin with ---."})
			return nil
		}
		roots := newJSONReader(f.Name, bytes.TrimPrefix(whole, []byte("\xef\xbb\xbf")), true, in.problems).read()
		return in.count(f.Name, roots, 1)
	}
	var out []*node
	for _, c := range chunks {
		y := &yamlReader{file: f.Name, line: c.line, problems: in.problems}
		out = append(out, in.count(f.Name, y.read(c.data), 1)...)
	}
	return out
}

// count adds documents that no marker line has shown; counted of them are
// counted already.
func (in *inbox) count(name string, roots []*node, counted int) []*node {
	in.documents += max(len(roots)-counted, 0)
	if in.documents > maxDocuments {
		in.problems.add(Problem{File: name, Code: "too_many_documents",
			Sentence: fmt.Sprintf("There are more than %d documents.", maxDocuments), Mend: "Leave out what nothing refers to."})
		return nil
	}
	return roots
}

// Compile makes the catalog again out of its documents, as Documents gave them
// and the journal keeps them. It is deterministic and independent of their
// order.
//
// Documents in a journal must stay readable for ever, so what Compile demands
// may never grow: a rule of a later release belongs to Read only. Of today's,
// the guesses about secrets and the ban on the names of built-in roles are such
// rules; in a compiled catalog a document shadows a built-in role of its name.
//
// The error is a refusal whose cause is a Problems.
func Compile(documents [][]byte) (*Catalog, error) {
	problems := new(collector)
	var resources []*resource
	if len(documents) > maxDocuments {
		return nil, Problems{{File: "(journal)", Code: "too_many_documents", Sentence: fmt.Sprintf("There are more than %d documents.", maxDocuments)}}.Err()
	}
	for i, data := range documents {
		file := fmt.Sprintf("document %d (%s)", i+1, lockkeeper.DigestOf(data))
		if canonical, err := lockkeeper.Canonical(json.RawMessage(data)); len(data) > maxStoredBytes || err != nil || !bytes.Equal(canonical, data) {
			problems.add(Problem{File: file, Code: "not_canonical", Sentence: "The document is not canonical JSON.", Mend: "Store documents as Documents gives them."})
			continue
		}
		for _, root := range newJSONReader(file, data, false, problems).read() {
			d := &decoder{file: file, problems: problems}
			if r := d.resource(root); r != nil {
				r.data = data
				resources = append(resources, r)
			}
		}
	}
	c, p := build(resources, problems, false)
	if err := p.Err(); err != nil {
		return nil, err
	}
	return c, nil
}

// maxStoredBytes is more than any document that Read took can have as canonical
// JSON: every byte of it may become a six-byte escape.
const maxStoredBytes = 6*maxDocumentBytes + 1024

// build joins decoded documents into a catalog and holds every rule against it.
func build(resources []*resource, problems *collector, written bool) (*Catalog, Problems) {
	c := &Catalog{
		Projects: map[string]Project{}, Users: map[string]User{}, Groups: map[string]Group{}, Roles: map[string]Role{},
		Assignments: map[string]Assignment{}, Providers: map[string]Provider{}, Freezes: map[string]Freeze{}, ActivationRules: map[string]ActivationRule{}, Directories: map[string]Directory{},
		Provisioners: map[string]Provisioner{},
		Signers:      map[string]Signer{},
		Policies:     map[string]Policy{},
		texts:        map[Key]map[string]place{},
		Pipelines:    map[lockkeeper.Scope]Pipeline{},
		Environments: map[lockkeeper.Scope]Environment{},
		Identities:   map[lockkeeper.Scope]Identity{},
		programs:     map[string]*program{},
		conditions:   map[string]*Condition{},
		Separations:  map[string]Separation{},
		FreezeRules:  map[string]FreezeRule{},

		Notifications: map[string]Notification{},
	}
	for _, r := range BuiltInRoles() {
		c.Roles[r.Name] = r
	}
	v := &rules{c: c, problems: problems, written: written, known: map[Key]*resource{}}
	var fit []*resource
	for _, r := range resources {
		if v.admit(r) {
			c.put(r)
			fit = append(fit, r)
			if written {
				c.noteTexts(r)
			}
		}
	}
	v.check(resources, fit)
	if problems.count > 0 {
		return nil, problems.sorted()
	}
	if err := c.index(fit); err != nil {
		problems.add(Problem{File: "(catalog)", Code: "no_canonical_form", Sentence: "A document has no canonical form.", Mend: "Take out what is not valid text."})
		return nil, problems.sorted()
	}
	return c, nil
}

// put stores a resource in its map.
func (c *Catalog) put(r *resource) {
	switch v := r.value.(type) {
	case *Project:
		c.Projects[v.Name] = *v
	case *User:
		c.Users[v.Name] = *v
	case *Group:
		c.Groups[v.Name] = *v
	case *Role:
		c.Roles[v.Name] = *v
	case *Assignment:
		c.Assignments[v.Name] = *v
	case *Provider:
		c.Providers[v.Name] = *v
	case *Freeze:
		c.Freezes[v.Name] = *v
	case *FreezeRule:
		c.FreezeRules[v.Name] = *v
	case *ActivationRule:
		c.ActivationRules[v.Name] = *v
	case *Directory:
		c.Directories[v.Name] = *v
	case *Provisioner:
		c.Provisioners[v.Name] = *v
	case *Separation:
		c.Separations[v.Name] = *v
	case *Signer:
		c.Signers[v.Name] = *v
	case *Policy:
		c.Policies[v.Name] = *v
	case *Notification:
		c.Notifications[v.Name] = *v
	case *Pipeline:
		c.Pipelines[lockkeeper.PipelineScope(v.Project, v.Name)] = *v
	case *Environment:
		c.Environments[lockkeeper.EnvironmentScope(v.Project, v.Name)] = *v
	case *Identity:
		c.Identities[lockkeeper.IdentityScope(v.Project, v.Name)] = *v
	}
}

const catalogDomain = "lockkeeper.catalog.v1\n"

// index makes everything that is derived from the maps.
func (c *Catalog) index(resources []*resource) error {
	c.byID, c.bySignIn, c.byRepo = map[PlatformID]string{}, map[SignIn]string{}, map[repository][]candidate{}
	c.byEnv, c.frozen = map[lockkeeper.Scope]lockkeeper.Scope{}, map[lockkeeper.Scope][]Freeze{}
	for _, r := range resources {
		data := r.data
		if data == nil {
			var err error
			if data, err = canonicalDocument(r); err != nil {
				return err
			}
		}
		c.documents = append(c.documents, Document{r.key, lockkeeper.DigestOf(data), data})
		c.indexOne(r.value)
	}
	slices.SortFunc(c.documents, func(a, b Document) int { return a.Key.Compare(b.Key) })
	for _, list := range c.byRepo {
		slices.SortFunc(list, candidate.compare)
	}
	for _, list := range c.frozen {
		slices.SortFunc(list, func(a, b Freeze) int { return strings.Compare(a.Name, b.Name) })
	}
	sum := []byte(catalogDomain)
	for _, d := range c.documents {
		sum = append(append(sum, d.Digest...), '\n')
	}
	c.digest = lockkeeper.DigestOf(sum)
	c.policies()
	return nil
}

func (c *Catalog) indexOne(value any) {
	switch v := value.(type) {
	case *User:
		for _, id := range v.IDs {
			c.byID[id] = v.Name
		}
		for _, s := range v.SignIns {
			if s.None {
				continue
			}
			c.bySignIn[SignIn{Directory: s.Directory, Subject: s.Subject}] = v.Name
		}
	case *Pipeline:
		key := repository{v.Provider, v.Organisation, v.Repository}
		for i := range v.Stages {
			c.byRepo[key] = append(c.byRepo[key], candidate{lockkeeper.PipelineScope(v.Project, v.Name), i})
		}
	case *Identity:
		c.byEnv[lockkeeper.EnvironmentScope(v.Project, v.Environment)] = lockkeeper.IdentityScope(v.Project, v.Name)
	case *Freeze:
		c.frozen[v.Scope] = append(c.frozen[v.Scope], *v)
	}
}

// canonicalDocument is the resource as the journal keeps it.
func canonicalDocument(r *resource) ([]byte, error) {
	raw, err := json.Marshal(r.value)
	if err != nil {
		return nil, err
	}
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, err
	}
	kind, err := json.Marshal(r.key.Kind)
	if err != nil {
		return nil, err
	}
	fields["kind"] = kind
	return lockkeeper.Canonical(fields)
}
