package evidence

import (
	"net/url"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
)

var cyclonedxVersions = []string{"1.4", "1.5", "1.6", "1.7"}

// A cdx is a document of CycloneDX as JSON, read as far as one kind needs it.
type cdx struct {
	c         *cursor
	s         Summary
	root      component // metadata.component: the artifact itself
	relations int
	places    map[string]int // of the document's own members that are read later
}

func cyclonedx(c *cursor, kind Kind, members map[string]string) (*cdx, error) {
	version := members["specVersion"]
	if !slices.Contains(cyclonedxVersions, version) {
		return nil, unknownFormat(kind, "it is CycloneDX "+version, "CycloneDX "+strings.Join(cyclonedxVersions, ", "))
	}
	d := &cdx{c: c, s: Summary{Format: "cyclonedx-" + version}, places: map[string]int{}}
	err := c.object(func(key string) error {
		switch key {
		case "metadata":
			return d.metadata()
		case "components", "vulnerabilities":
			if !c.null() {
				d.places[key] = c.pos
			}
		case "dependencies":
			return c.array(d.dependency)
		}
		return nil
	})
	d.s.Subjects = d.root.subjects()
	return d, err
}

func cyclonedxSBOM(c *cursor, members map[string]string) (Summary, error) {
	d, err := cyclonedx(c, SBOM, members)
	if err != nil {
		return Summary{}, err
	}
	out := Components{Relations: d.relations}
	err = d.components(func(m component) {
		if m.material() {
			out.add(m)
		}
	})
	d.s.SBOM = &out
	return d.s, err
}

// components calls f with every component, those within others too.
func (d *cdx) components(f func(component)) error {
	at, there := d.places["components"]
	if !there {
		return nil
	}
	var each func() error
	each = func() error {
		var m component
		if err := d.component(&m, func() error { return d.c.array(each) }); err != nil {
			return err
		}
		f(m)
		return d.c.item()
	}
	return d.c.again(at, "components", func() error { return d.c.array(each) })
}

func (d *cdx) metadata() error {
	return d.c.object(func(key string) error {
		switch key {
		case "timestamp":
			return d.c.time(&d.s.Made)
		case "component":
			return d.component(&d.root, func() error { return nil })
		case "tools":
			return d.tools()
		}
		return nil
	})
}

// tools are a list of tools (to 1.4) or an object with components (from 1.5).
func (d *cdx) tools() error {
	list := func() error {
		return d.c.array(func() error {
			var m component
			err := d.component(&m, func() error { return nil })
			if d.s.Tool == "" {
				d.s.Tool = clip(tool(m.name, m.version))
			}
			return err
		})
	}
	if d.c.peek() == '[' {
		return list()
	}
	return d.c.object(func(key string) error {
		if key == "components" {
			return list()
		}
		return nil
	})
}

// component reads one component; within reads those that it holds.
func (d *cdx) component(m *component, within func() error) error {
	c := d.c
	if c.peek() != '{' {
		return c.wrong("an object")
	}
	return c.object(func(key string) error {
		switch key {
		case "bom-ref":
			return c.text(&m.ref)
		case "type":
			return c.text(&m.kind)
		case "group":
			return c.text(&m.group)
		case "name":
			return c.text(&m.name)
		case "version":
			return c.text(&m.version)
		case "purl":
			return c.text(&m.purl)
		case "cpe":
			return c.text(&m.cpe)
		case "licenses":
			return c.array(func() error { m.licensed = true; return nil })
		case "hashes":
			return checksums(c, "alg", "content", &m.digests)
		case "components":
			return within()
		}
		return nil
	})
}

func (d *cdx) dependency() error {
	return d.c.object(func(key string) error {
		if key != "dependsOn" {
			return nil
		}
		return d.c.array(func() error { d.relations++; return d.c.item() })
	})
}

// A cdxVulnerability is one entry of vulnerabilities, with its analysis.
type cdxVulnerability struct {
	finding  Finding
	affected []cdxAffected
	updated  lockkeeper.Moment
}

type cdxAffected struct {
	ref   string
	fixed []string // versions that the document calls unaffected
}

// vulnerabilities reads them all, and the labels of what they affect.
func (d *cdx) vulnerabilities() ([]cdxVulnerability, map[string]component, error) {
	var list []cdxVulnerability
	refs, total := map[string]component{}, 0
	at := d.places["vulnerabilities"]
	err := d.c.again(at, "vulnerabilities", func() error {
		return d.c.array(func() error {
			v, err := d.vulnerability()
			if err != nil {
				return err
			}
			if total += max(1, len(v.affected)); total > MaxFindings {
				return d.c.fail(codeTooLarge, "The document has more than %d vulnerabilities of packages.", MaxFindings)
			}
			for _, a := range v.affected {
				refs[a.ref] = component{}
			}
			list = append(list, v)
			return nil
		})
	})
	if err != nil {
		return nil, nil, err
	}
	err = d.components(func(m component) {
		if _, wanted := refs[m.ref]; wanted {
			refs[m.ref] = m
		}
	})
	return list, refs, err
}

// named is the package that a reference of affects means: a component of the
// document, the artifact itself, or a package URL, bare or behind a BOM link.
func (d *cdx) named(ref string, refs map[string]component) (label string, isRoot bool) {
	if ref == d.root.ref && ref != "" {
		return d.root.label(), true
	}
	if m := refs[ref]; m.label() != "" {
		return m.label(), false
	}
	return linked(ref), false
}

// linked is the package URL at the end of a BOM link (urn:cdx:SERIAL/VERSION#REF);
// a link to anything else stays as it is, for it means another document.
func linked(ref string) string {
	if !strings.HasPrefix(ref, "urn:cdx:") {
		return ref
	}
	_, fragment, _ := strings.Cut(ref, "#")
	if bare, err := url.PathUnescape(fragment); err == nil {
		if _, ok := parsePURL(bare); ok {
			return bare
		}
	}
	return ref
}

func (d *cdx) vulnerability() (cdxVulnerability, error) {
	c := d.c
	v := cdxVulnerability{}
	if c.peek() != '{' {
		return v, c.wrong("an object")
	}
	f := &v.finding
	err := c.object(func(key string) error {
		switch key {
		case "id":
			return c.short(&f.ID)
		case "references":
			return c.array(func() error {
				return c.object(func(key string) error {
					if key != "id" {
						return nil
					}
					return c.alias(&f.Aliases)
				})
			})
		case "ratings":
			return c.array(func() error { return rating(c, &f.Severity) })
		case "published":
			return c.time(&f.Published)
		case "updated":
			return c.time(&v.updated)
		case "affects":
			return c.array(func() error { return d.affects(&v) })
		case "analysis":
			return d.analysis(f)
		}
		return nil
	})
	if err == nil && f.ID == "" {
		err = c.fail(codeUnreadable, "A vulnerability has no id.")
	}
	return v, err
}

func (c *cursor) alias(into *[]string) error {
	var id string
	if err := c.short(&id); err != nil || id == "" {
		return err
	}
	if len(*into) >= MaxNamed {
		return c.fail(codeTooLarge, "A vulnerability has more than %d aliases.", MaxNamed)
	}
	*into = append(*into, id)
	return nil
}

// rating takes the worst of the ratings: the severity that one says, otherwise that
// of its score.
func rating(c *cursor, severity *Severity) error {
	said, score, method := "", -1.0, ""
	err := c.object(func(key string) error {
		switch key {
		case "severity":
			return c.text(&said)
		case "score":
			return c.number(&score)
		case "method":
			return c.text(&method)
		}
		return nil
	})
	s := severityOf(said)
	if s == Unknown && strings.HasPrefix(method, "CVSS") {
		s = severityOfScore(score)
	}
	*severity = worse(*severity, s)
	return err
}

func (d *cdx) affects(v *cdxVulnerability) error {
	c, a := d.c, cdxAffected{}
	err := c.object(func(key string) error {
		switch key {
		case "ref":
			return c.short(&a.ref)
		case "versions":
			return c.array(func() error {
				version, status := "", ""
				err := c.object(func(key string) error {
					switch key {
					case "version":
						return c.short(&version)
					case "status":
						return c.text(&status)
					}
					return nil
				})
				if status == "unaffected" && version != "" && len(a.fixed) < MaxNamed {
					a.fixed = append(a.fixed, version)
				}
				return err
			})
		}
		return nil
	})
	if err == nil && a.ref == "" {
		err = c.fail(codeUnreadable, "What is affected has no ref.")
	}
	if len(v.affected) > MaxFindings {
		err = c.fail(codeTooLarge, "A vulnerability affects more than %d packages.", MaxFindings)
	}
	v.affected = append(v.affected, a)
	return err
}

// states says what a state of CycloneDX means in the words of OpenVEX.
var states = map[string]Status{
	"resolved": FixedStatus, "resolved_with_pedigree": FixedStatus, "exploitable": Affected,
	"in_triage": UnderInvestigation, "false_positive": NotAffected, "not_affected": NotAffected,
}

func (d *cdx) analysis(f *Finding) error {
	c := d.c
	state, justification, detail := "", "", ""
	var first, last lockkeeper.Moment
	err := c.object(func(key string) error {
		switch key {
		case "state":
			if err := c.text(&state); err != nil {
				return err
			}
			if _, known := states[state]; !known {
				return c.fail(codeUnreadable, "There is no state %.40q of an analysis.", state)
			}
		case "justification":
			return c.short(&justification)
		case "detail":
			return c.short(&detail)
		case "firstIssued":
			return c.time(&first)
		case "lastUpdated":
			return c.time(&last)
		}
		return nil
	})
	f.Status, f.Reason, f.At = states[state], justification, last
	if f.Reason == "" {
		f.Reason = detail
	}
	if f.Reason == "" && state == "false_positive" {
		f.Reason = state
	}
	if f.At.IsZero() {
		f.At = first
	}
	return err
}
