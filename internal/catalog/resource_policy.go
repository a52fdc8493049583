package catalog

import (
	"fmt"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// A Policy is a rule in Rego that checks of environments name.
type Policy struct {
	Name  string `json:"name"`
	Title string `json:"title,omitempty"`
	// Rego is the text of one module of Rego v1, at most 64 KiB. Its rules deny, wait and
	// allow make the verdict: deny and wait are sets of sentences, allow is true or not.
	Rego RegoText `json:"rego"`
	// Tests is the text of a second module, whose rules test_… are run by lockkeeper
	// policy test; nothing at a gate sees it.
	Tests RegoText `json:"tests,omitempty"`
}

// A RegoText is the text of one module.
type RegoText string

// MaxRego is how many bytes one text of a policy has at most.
const MaxRego = 64 << 10

// A PolicyCheck demands that a policy passes over the ask and the evidence about its
// artifacts.
type PolicyCheck struct {
	Name string `json:"name"` // of the Policy
	// Age is up to when, from when it was made, a piece of evidence is fresh in what the
	// policy sees; default 720h, 1m to 8760h.
	Age Duration `json:"age,omitempty"`
	// Validity is how long a verdict counts, if nothing that the policy sees changes but
	// the time; default 15m, 1m to 24h.
	Validity Duration `json:"validity,omitempty"`
	// Digest is that of the one text of the policy that is meant, as lockkeeper policy
	// test says it; default: of the text that the catalog has.
	Digest string `json:"digest,omitempty"`
}

// Defaults and bounds of a PolicyCheck.
const (
	DefaultPolicyValidity = 15 * time.Minute
	maxPolicyValidity     = 24 * time.Hour
	maxPolicyAge          = 365 * 24 * time.Hour
)

// AgeLimit is up to which age evidence is fresh for the policy.
func (p PolicyCheck) AgeLimit() time.Duration { return orDefault(p.Age, DefaultEvidenceAge) }

// ValidityLimit is how long a verdict counts.
func (p PolicyCheck) ValidityLimit() time.Duration {
	return orDefault(p.Validity, DefaultPolicyValidity)
}

// PolicyOf is the digest of the document that a policy is now: another text, or another
// test, is another policy. "": there is none of the name.
func (c *Catalog) PolicyOf(name string) lockkeeper.Digest {
	d, _ := c.Has(Key{Kind: PolicyKind, Name: name})
	return d.Digest
}

// policyCheck checks a check that names a policy.
func (v *rules) policyCheck(r *resource, at string, p PolicyCheck) {
	v.reference(r, at+".name", Key{Kind: PolicyKind, Name: p.Name})
	v.length(r, at, "age", p.Age, time.Minute, maxPolicyAge)
	v.length(r, at, "validity", p.Validity, time.Minute, maxPolicyValidity)
	if p.Digest == "" {
		return
	}
	if _, err := lockkeeper.ParseDigest(p.Digest); err != nil {
		v.add(r, at+".digest", "digest_unfit", name(p.Digest)+" is no digest.", "Write sha256: and 64 hexadecimal digits, or leave it out.")
		return
	}
	if of := v.known[Key{Kind: PolicyKind, Name: p.Name}]; of != nil && of.good {
		data := of.data
		if data == nil {
			data, _ = canonicalDocument(of)
		}
		if is := lockkeeper.DigestOf(data); string(is) != p.Digest {
			v.add(r, at+".digest", "policy_other", "The policy "+name(p.Name)+" is another one than the check means.", fmt.Sprintf("Look at it; if it is right, write %s.", is))
		}
	}
}

func (v *rules) policy(r *resource, p *Policy) {
	for field, text := range map[string]RegoText{"rego": p.Rego, "tests": p.Tests} {
		if len(text) > MaxRego {
			v.add(r, field, "rego_large", fmt.Sprintf("The text has %d bytes, more than %d.", len(text), MaxRego), "Make two policies of it, and a check of each.")
		}
	}
	if p.Rego == "" {
		v.add(r, "rego", "field_missing", "The policy says nothing.", "Write rego: | and the text of a module below it.")
	}
}

// policies fills in which policy each check means, so that what was demanded when an ask
// was opened goes on meaning the policy of then.
func (c *Catalog) policies() {
	for scope, e := range c.Environments {
		copied := false
		for i, check := range e.Checks {
			if check.Policy == nil || check.Policy.Digest != "" {
				continue
			}
			if !copied {
				e.Checks, copied = append([]Check(nil), e.Checks...), true
			}
			p := *check.Policy
			p.Digest = string(c.PolicyOf(p.Name))
			e.Checks[i].Policy = &p
		}
		c.Environments[scope] = e
	}
}

// policyCheck reports what a check that names a policy demands no more.
func (w *weakening) policyCheck(about string, a, b PolicyCheck) {
	w.when(a.Name != b.Name, "the check %s asks another policy", about)
	w.when(b.AgeLimit() > a.AgeLimit(), "the check %s calls evidence fresh for %s instead of %s", about, b.AgeLimit(), a.AgeLimit())
	w.when(b.ValidityLimit() > a.ValidityLimit(), "a verdict of the check %s counts for %s instead of %s", about, b.ValidityLimit(), a.ValidityLimit())
}

// policy reports that a policy says something else: nobody can tell whether that is
// less.
func (w *weakening) policy(a, b Policy) {
	w.when(a.Rego != b.Rego, "the policy %s has another text", b.Name)
	w.when(a.Tests != "" && b.Tests == "", "the policy %s has no tests any more", b.Name)
}

// A place is where the text of a field begins in a file.
type place struct {
	file         string
	line, column int
	block        bool // as a literal block: its lines are lines of the file
}

// InText says where in the files of a catalog a line and column of a policy's text
// stand: exactly, if the text is a literal block of YAML.
func (c *Catalog) InText(k Key, field string, line, column int, p Problem) Problem {
	p.Path = field
	at, written := c.texts[k][field]
	switch {
	case !written:
		p.File = "(" + k.String() + ")"
		p.Line, p.Column = line, column
	case at.block:
		p.File, p.Line, p.Column = at.file, at.line+line, at.column+column
	default:
		p.File, p.Line, p.Column = at.file, at.line, at.column
		p.Sentence = fmt.Sprintf("In line %d, column %d of the text: %s", line, column, p.Sentence)
	}
	return p
}

// noteTexts remembers where the texts of policies stand.
func (c *Catalog) noteTexts(r *resource) {
	if _, is := r.value.(*Policy); !is {
		return
	}
	out := map[string]place{}
	for _, field := range []string{"rego", "tests"} {
		if n := r.root.field(field); n != nil && n.line > 0 {
			at := place{file: r.file, line: n.line, column: n.column, block: n.block}
			if n.block {
				at.column = n.indent
			}
			out[field] = at
		}
	}
	c.texts[r.key] = out
}
