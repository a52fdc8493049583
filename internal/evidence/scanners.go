package evidence

import (
	"github.com/lockkeeper/lockkeeper"
)

// trivy reads Trivy's own JSON, schema version 2. Its VendorIDs are advisories about
// several vulnerabilities, not other names of one, and are not read.
func trivy(c *cursor) (Summary, error) {
	t := &trivyReader{c: c, s: Summary{Format: "trivy", Tool: "trivy"}, found: newFindings()}
	err := c.object(func(key string) error {
		switch key {
		case "SchemaVersion":
			version := -1
			if err := c.index(&version); err != nil {
				return err
			}
			if version != 2 {
				return c.fail(codeFormat, "The schema %d of Trivy is not read, only 2.", version)
			}
		case "CreatedAt":
			return c.time(&t.s.Made)
		case "Trivy":
			return c.object(func(key string) error {
				if key != "Version" {
					return nil
				}
				var v string
				err := c.short(&v)
				t.s.Tool = tool("trivy", v)
				return err
			})
		case "Metadata":
			return t.metadata()
		case "Results":
			return c.array(t.result)
		}
		return nil
	})
	if err != nil {
		return Summary{}, err
	}
	if t.looked == 0 {
		return Summary{}, refuse(codeEmpty, "The report says of no packages that they were looked at.").
			WithNext("Let Trivy scan for vulnerabilities, with --list-all-pkgs, so that it names what it looked at.")
	}
	t.s.Vulnerabilities = &Report{Findings: t.found.sorted()}
	return t.s, nil
}

type trivyReader struct {
	c      *cursor
	s      Summary
	found  *findings
	looked int // results about packages
}

func (t *trivyReader) metadata() error {
	return t.c.object(func(key string) error {
		if key != "RepoDigests" {
			return nil
		}
		return digests(t.c, &t.s.Subjects)
	})
}

// digests reads references of images that end in their digest.
func digests(c *cursor, into *[]lockkeeper.Digest) error {
	return c.array(func() error {
		var ref string
		err := c.text(&ref)
		if d, ok := digestIn(ref); ok {
			*into = append(*into, d)
		}
		if len(*into) > MaxSubjects {
			return c.fail(codeTooLarge, "The document is about more than %d digests.", MaxSubjects)
		}
		return err
	})
}

func (t *trivyReader) result() error {
	c, class := t.c, ""
	if err := c.item(); err != nil {
		return err
	}
	if c.peek() != '{' {
		return c.wrong("an object")
	}
	err := c.object(func(key string) error {
		switch key {
		case "Class":
			return c.text(&class)
		case "Vulnerabilities":
			return c.array(t.vulnerability)
		}
		return nil
	})
	if class != "secret" && class != "config" && class != "license" && class != "license-file" {
		t.looked++
	}
	return err
}

func (t *trivyReader) vulnerability() error {
	c, f := t.c, Finding{}
	name, version, severity, fixed := "", "", "", ""
	if c.peek() != '{' {
		return c.wrong("an object")
	}
	err := c.object(func(key string) error {
		switch key {
		case "VulnerabilityID":
			return c.short(&f.ID)
		case "PkgName":
			return c.text(&name)
		case "InstalledVersion":
			return c.text(&version)
		case "FixedVersion":
			return c.text(&fixed)
		case "Severity":
			return c.text(&severity)
		case "PublishedDate":
			return c.time(&f.Published)
		case "PkgIdentifier":
			return c.object(func(key string) error {
				if key == "PURL" {
					return c.text(&f.Package)
				}
				return nil
			})
		}
		return nil
	})
	if err != nil {
		return err
	}
	if f.Package == "" {
		f.Package = component{name: name, version: version}.label()
	}
	f.Severity, f.Fixed = severityOf(severity), versions(fixed)
	return t.found.add(c, f)
}

// grype reads Grype's own JSON. What its own rules made it ignore is not in matches
// and is not read: VEX that is brought beside it says what does not matter.
func grype(c *cursor) (Summary, error) {
	g := &grypeReader{c: c, s: Summary{Format: "grype"}, found: newFindings()}
	listed := false
	err := c.object(func(key string) error {
		switch key {
		case "matches":
			listed = c.peek() == '['
			return c.array(g.match)
		case "source":
			return g.source()
		case "descriptor":
			return g.descriptor()
		}
		return nil
	})
	if err != nil {
		return Summary{}, err
	}
	if !listed {
		return Summary{}, refuse(codeEmpty, "The report has no list of matches, not even an empty one.")
	}
	g.s.Vulnerabilities = &Report{Database: g.database, Findings: g.found.sorted()}
	return g.s, nil
}

type grypeReader struct {
	c        *cursor
	s        Summary
	database lockkeeper.Moment
	found    *findings
}

func (g *grypeReader) source() error {
	c, kind := g.c, ""
	var list []lockkeeper.Digest
	err := c.object(func(key string) error {
		switch key {
		case "type":
			return c.text(&kind)
		case "target":
			if c.peek() != '{' {
				return nil
			}
			return c.object(func(key string) error {
				switch key {
				case "manifestDigest":
					var ref string
					err := c.text(&ref)
					if d, ok := digestIn(ref); ok {
						list = append(list, d)
					}
					return err
				case "repoDigests":
					return digests(c, &list)
				}
				return nil
			})
		}
		return nil
	})
	if kind == "image" {
		g.s.Subjects = list
	}
	return err
}

func (g *grypeReader) descriptor() error {
	c, name, version := g.c, "", ""
	var built func(key string) error
	built = func(key string) error {
		switch key {
		case "built":
			return c.time(&g.database)
		case "status":
			return c.object(built)
		}
		return nil
	}
	err := c.object(func(key string) error {
		switch key {
		case "name":
			return c.short(&name)
		case "version":
			return c.short(&version)
		case "timestamp":
			return c.time(&g.s.Made)
		case "db":
			return c.object(built)
		}
		return nil
	})
	g.s.Tool = tool(name, version)
	return err
}

func (g *grypeReader) match() error {
	c, f := g.c, Finding{}
	name, version := "", ""
	if err := c.item(); err != nil {
		return err
	}
	if c.peek() != '{' {
		return c.wrong("an object")
	}
	err := c.object(func(key string) error {
		switch key {
		case "vulnerability":
			return g.vulnerability(&f)
		case "relatedVulnerabilities":
			return c.array(func() error {
				return c.object(func(key string) error {
					if key == "id" && len(f.Aliases) <= MaxNamed {
						var id string
						err := c.short(&id)
						f.Aliases = append(f.Aliases, id)
						return err
					}
					return nil
				})
			})
		case "artifact":
			return c.object(func(key string) error {
				switch key {
				case "name":
					return c.text(&name)
				case "version":
					return c.text(&version)
				case "purl":
					return c.text(&f.Package)
				}
				return nil
			})
		}
		return nil
	})
	if err != nil {
		return err
	}
	if f.Package == "" {
		f.Package = component{name: name, version: version}.label()
	}
	// An advisory of a distribution relates to many vulnerabilities, and what is said
	// of one of them is not said of the advisory: only one alone is the same.
	if f.Aliases = distinct(f.Aliases, f.ID); len(f.Aliases) != 1 {
		f.Aliases = nil
	}
	return g.found.add(c, f)
}

func (g *grypeReader) vulnerability(f *Finding) error {
	c := g.c
	return c.object(func(key string) error {
		switch key {
		case "id":
			return c.short(&f.ID)
		case "severity":
			var s string
			err := c.text(&s)
			f.Severity = severityOf(s)
			return err
		case "fix":
			return c.object(func(key string) error {
				if key != "versions" {
					return nil
				}
				return c.array(func() error {
					var v string
					err := c.text(&v)
					f.Fixed = append(f.Fixed, versions(v)...)
					f.Fixed = f.Fixed[:min(len(f.Fixed), MaxNamed)]
					return err
				})
			})
		}
		return nil
	})
}
