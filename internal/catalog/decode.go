package catalog

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/lockkeeper/lockkeeper"
)

// A resource is one decoded document with the tree that it came from.
type resource struct {
	key   Key
	file  string
	root  *node
	value any // *Project, *User, …
	good  bool
	bad   []string // the paths that did not decode; the rules say nothing about them
	data  []byte   // canonical JSON, when the journal gave it
}

func (r *resource) where() string {
	if r.root.line == 0 {
		return r.file
	}
	return fmt.Sprintf("%s:%d", r.file, r.root.line)
}

// blanks makes an empty resource of each kind.
var blanks = map[Kind]func() any{
	ProjectKind:     func() any { return new(Project) },
	UserKind:        func() any { return new(User) },
	GroupKind:       func() any { return new(Group) },
	RoleKind:        func() any { return new(Role) },
	AssignmentKind:  func() any { return new(Assignment) },
	ProviderKind:    func() any { return new(Provider) },
	PipelineKind:    func() any { return new(Pipeline) },
	EnvironmentKind: func() any { return new(Environment) },
	IdentityKind:    func() any { return new(Identity) },
	FreezeKind:      func() any { return new(Freeze) },

	ActivationRuleKind: func() any { return new(ActivationRule) },
	DirectoryKind:      func() any { return new(Directory) },
	SeparationKind:     func() any { return new(Separation) },

	ProvisionerKind: func() any { return new(Provisioner) },

	SignerKind:     func() any { return new(Signer) },
	PolicyKind:     func() any { return new(Policy) },
	FreezeRuleKind: func() any { return new(FreezeRule) },

	NotificationKind: func() any { return new(Notification) },
}

func kindNames() []string {
	var out []string
	for k := range blanks {
		out = append(out, string(k))
	}
	slices.Sort(out)
	return out
}

// A decoder fills a resource from a tree, strictly: every field is known, has
// the type it must have, and says the same to every reader of YAML.
type decoder struct {
	file     string
	problems *collector
	written  bool // by people: refuse what looks like a secret
	bad      []string
}

func (d *decoder) add(n *node, path, code, sentence, mend string) {
	if path != "" && len(d.bad) < maxProblems {
		d.bad = append(d.bad, path)
	}
	d.problems.add(Problem{File: d.file, Line: n.line, Column: n.column, Path: path, Code: code, Sentence: sentence, Mend: mend})
}

// resource decodes one document; nil if not even its kind can be told.
func (d *decoder) resource(root *node) *resource {
	if root.kind != mapping {
		d.add(root, "", "not_a_resource", "A document must be a mapping with a field kind, but this is "+root.what()+".", "Begin it with kind: and name:.")
		return nil
	}
	kind := root.field("kind")
	if kind == nil {
		d.add(root, "kind", "kind_missing", "The document has no kind.", "Add kind: one of "+strings.Join(kindNames(), ", ")+".")
		return nil
	}
	blank := blanks[Kind(kind.text)]
	if kind.kind != scalar || blank == nil {
		d.add(kind, "kind", "kind_unknown", "There is no kind "+d.show(kind)+".", d.problems.suggest(kind.text, kindNames(), "The kinds are "+strings.Join(kindNames(), ", ")+"."))
		return nil
	}
	before := d.problems.count
	r := &resource{file: d.file, root: root, value: blank()}
	v := reflect.ValueOf(r.value).Elem()
	d.structure(root, v, "")
	r.key = Key{Kind: Kind(kind.text), Name: v.FieldByName("Name").String()}
	if p := v.FieldByName("Project"); p.IsValid() {
		r.key.Project = p.String()
	}
	r.good, r.bad = d.problems.count == before, d.bad
	return r
}

// show quotes a scalar for a sentence, unless it looks like a secret.
func (d *decoder) show(n *node) string {
	if n.kind != scalar {
		return n.what()
	}
	return name(n.text)
}

// name quotes s for a sentence: short, and never what looks like a secret.
func name(s string) string {
	if secret(s, false) {
		return "(withheld, it looks like a secret)"
	}
	return strconv.Quote(clip(s, 80))
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

func (d *decoder) value(n *node, v reflect.Value, path string) {
	if v.Type() == regoType {
		d.rego(n, v, path)
		return
	}
	if n.kind == scalar && !d.scalarFit(n, path) {
		return
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		d.text(n, u, path)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, v, path)
	case reflect.Slice:
		d.list(n, v, path)
	case reflect.Bool:
		if n.kind != scalar || !n.plain || n.text != "true" && n.text != "false" {
			d.wrongType(n, path, "true or false", "Write true or false, without quotes; yes, no, on and off are texts.")
			return
		}
		v.SetBool(n.text == "true")
	case reflect.Int:
		i, err := strconv.Atoi(n.text)
		if n.kind != scalar || !n.plain || !isDigits(n.text) || err != nil {
			d.wrongType(n, path, "a whole number", "Write plain digits, without quotes.")
			return
		}
		v.SetInt(int64(i))
	case reflect.String:
		d.string(n, v, path)
	}
}

var regoType = reflect.TypeFor[RegoText]()

// rego takes the text of a module: longer than other texts, and code, so that only what
// nothing but a secret looks like is refused.
func (d *decoder) rego(n *node, v reflect.Value, path string) {
	switch {
	case n.kind != scalar || n.plain:
		d.wrongType(n, path, "a text", "Write "+path+": | and the module below it.")
	case d.written && secret(n.text, true):
		d.add(n, path, "secret_refused", "The value of "+path+" looks like a secret.", "Take it out, and replace that secret where it is used: it now stands in a file. A policy never needs one.")
	default:
		v.SetString(n.text)
	}
}

// scalarFit refuses a value that is empty, too long or looks like a secret.
func (d *decoder) scalarFit(n *node, path string) bool {
	field := path[strings.LastIndexByte(path, '.')+1:]
	switch {
	case n.plain && isNull(n.text):
		d.add(n, path, "value_missing", "The field "+path+" has no value.", "Give it one, or leave the field out.")
	case len(n.text) > maxTextBytes:
		d.add(n, path, "value_too_long", fmt.Sprintf("The value of %s has %d bytes, more than %d.", path, len(n.text), maxTextBytes), "Shorten it.")
	case field == "key" && keyUnfit(n.text) == "":
		return true // a public key is no secret
	case d.written && secret(n.text, slices.Contains([]string{"id", "organisation", "repository", "teamProject", "serviceAccount", "tenant", "client", "subject"}, field)):
		d.add(n, path, "secret_refused", "The value of "+path+" looks like a secret.", "Take it out, and replace that secret where it is used: it now stands in a file. The catalog never needs one.")
	default:
		return true
	}
	return false
}

func (d *decoder) wrongType(n *node, path, want, mend string) {
	d.add(n, path, "wrong_type", fmt.Sprintf("The field %s must be %s, but this is %s.", path, want, n.what()), mend)
}

func (d *decoder) string(n *node, v reflect.Value, path string) {
	switch {
	case n.kind != scalar, n.plain && (n.text == "true" || n.text == "false"):
		d.wrongType(n, path, "a text", "Write a text; put it in quotes if it reads as something else.")
	case n.plain && !isDigits(n.text) && looksNumeric(n.text):
		d.add(n, path, "ambiguous_text", fmt.Sprintf("The value of %s reads as a number or a date to some readers of YAML, and they would see another text.", path), "Put it in quotes.")
	default:
		v.SetString(n.text)
	}
}

func (d *decoder) text(n *node, u encoding.TextUnmarshaler, path string) {
	if n.kind != scalar {
		d.wrongType(n, path, "a text", "Write a single value.")
		return
	}
	if err := u.UnmarshalText([]byte(n.text)); err != nil {
		code, mend := "value_unfit", "Write it as the manual shows."
		sentence := clip(err.Error(), 200)
		switch u.(type) {
		case *Duration:
			code, mend = "duration_unfit", "Write a length of time such as 30s, 15m or 1h30m."
			sentence = name(n.text) + " is no length of time"
		case *lockkeeper.Moment:
			code, mend = "time_unfit", "Write it with its zone, such as 2027-03-01T18:00:00Z."
			sentence = name(n.text) + " is no instant"
		case *lockkeeper.Principal:
			code, mend = "principal_unfit", "Write user:NAME or group:NAME, or workload:PROJECT/PIPELINE/STAGE of one that is eligible."
		}
		d.add(n, path, code, fmt.Sprintf("The field %s: %s.", path, sentence), mend)
	}
}

func (d *decoder) list(n *node, v reflect.Value, path string) {
	if n.kind != sequence {
		d.wrongType(n, path, "a list", "Write each entry on a line of its own after a dash.")
		return
	}
	if len(n.values) == 0 {
		return
	}
	seen := map[string]bool{}
	v.Set(reflect.MakeSlice(v.Type(), len(n.values), len(n.values)))
	for i, e := range n.values {
		at := path + "[" + strconv.Itoa(i) + "]"
		d.value(e, v.Index(i), at)
		if e.kind == scalar && v.Type().Elem().Kind() == reflect.String && seen[e.text] {
			d.add(e, at, "duplicate_value", fmt.Sprintf("%s stands in %s twice.", d.show(e), path), "Keep one of the two.")
		}
		seen[e.text] = true
	}
}

func (d *decoder) structure(n *node, v reflect.Value, path string) {
	if n.kind != mapping {
		d.wrongType(n, path, "a mapping", "Write its fields, one on each line.")
		return
	}
	fields := map[string]int{}
	var names []string
	for i := range v.NumField() {
		tag, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		fields[tag] = i
		names = append(names, tag)
	}
	for i, k := range n.keys {
		if path == "" && k.text == "kind" {
			continue
		}
		at := strings.TrimPrefix(path+"."+k.text, ".")
		f, ok := fields[k.text]
		if !ok {
			if secret(k.text, false) {
				at = path
			}
			d.add(k, at, "unknown_field", "There is no field "+d.show(k)+" here.", d.problems.suggest(k.text, names, "The fields here are "+strings.Join(names, ", ")+"."))
			continue
		}
		d.value(n.values[i], v.Field(f), at)
	}
}
