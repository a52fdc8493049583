package evidence

import (
	"slices"
	"strings"
)

// osv reads the JSON of OSV-Scanner.
func osv(c *cursor) (Summary, error) {
	o := &osvReader{c: c, found: newFindings()}
	listed := false
	err := c.object(func(key string) error {
		if key != "results" {
			return nil
		}
		listed = c.peek() == '['
		return c.array(func() error {
			if c.peek() != '{' {
				return c.wrong("an object")
			}
			return c.object(func(key string) error {
				if key == "packages" {
					return c.array(o.pkg)
				}
				return nil
			})
		})
	})
	if err != nil {
		return Summary{}, err
	}
	if !listed {
		return Summary{}, refuse(codeEmpty, "The report has no list of results, not even an empty one.")
	}
	return Summary{Format: "osv-scanner", Tool: "osv-scanner", Vulnerabilities: &Report{Findings: o.found.sorted()}}, nil
}

type osvReader struct {
	c             *cursor
	found         *findings
	name, version string            // of the package that is read
	scores        map[string]string // worst score of a group of aliases, by each id in it
	groups        map[string][]string
}

// pkg reads a package: its groups of aliases first, wherever they stand, because
// they hold the scores.
func (o *osvReader) pkg() error {
	c := o.c
	if err := c.item(); err != nil {
		return err
	}
	if c.peek() != '{' {
		return c.wrong("an object")
	}
	o.name, o.version, o.scores, o.groups = "", "", map[string]string{}, map[string][]string{}
	vulnerabilities := -1
	err := c.object(func(key string) error {
		switch key {
		case "package":
			return c.object(func(key string) error {
				switch key {
				case "name":
					return c.short(&o.name)
				case "version":
					return c.short(&o.version)
				case "commit":
					if o.version == "" {
						return c.short(&o.version)
					}
				}
				return nil
			})
		case "vulnerabilities":
			vulnerabilities = c.pos
		case "groups":
			return c.array(o.group)
		}
		return nil
	})
	if err != nil || vulnerabilities < 0 {
		return err
	}
	return c.again(vulnerabilities, "vulnerabilities", func() error { return c.array(o.vulnerability) })
}

func (o *osvReader) group() error {
	c, score := o.c, ""
	var ids []string
	err := c.object(func(key string) error {
		switch key {
		case "ids", "aliases":
			return c.array(func() error { return c.alias(&ids) })
		case "max_severity":
			return c.text(&score)
		}
		return nil
	})
	for _, id := range ids {
		o.scores[id] = score
		o.groups[id] = ids
	}
	return err
}

// An affected package of an entry of OSV.
type osvAffected struct {
	name, purl string
	fixed      []string
}

func (o *osvReader) vulnerability() error {
	c, f, said := o.c, Finding{}, ""
	var withdrawn string
	var affected []osvAffected
	if c.peek() != '{' {
		return c.wrong("an object")
	}
	err := c.object(func(key string) error {
		switch key {
		case "id":
			return c.short(&f.ID)
		case "aliases":
			return c.array(func() error { return c.alias(&f.Aliases) })
		case "published":
			return c.time(&f.Published)
		case "withdrawn":
			return c.text(&withdrawn)
		case "database_specific":
			if c.peek() != '{' {
				return nil
			}
			return c.object(func(key string) error {
				if key == "severity" && c.peek() == '"' {
					return c.text(&said)
				}
				return nil
			})
		case "affected":
			return c.array(func() error {
				var a osvAffected
				err := o.affected(&a)
				if a.name == o.name {
					affected = append(affected, a)
				}
				return err
			})
		}
		return nil
	})
	if err != nil || withdrawn != "" {
		return err
	}
	o.complete(&f, said, affected)
	return o.found.add(c, f)
}

// complete says the severity, the package and the fixes.
func (o *osvReader) complete(f *Finding, said string, affected []osvAffected) {
	f.Severity = severityOf(said)
	if score, ok := scoreOf(o.scores[f.ID]); ok {
		f.Severity = worse(f.Severity, severityOfScore(score))
	}
	f.Aliases = distinct(append(f.Aliases, o.groups[f.ID]...), f.ID)
	f.Aliases = f.Aliases[:min(len(f.Aliases), MaxNamed)]
	f.Package = component{name: o.name, version: o.version}.label()
	for _, a := range affected {
		if p, ok := parsePURL(a.purl); ok && p.version == "" && o.version != "" && !strings.ContainsAny(a.purl, "?#") {
			f.Package = a.purl + "@" + o.version
		}
		for _, v := range a.fixed {
			if !slices.Contains(f.Fixed, v) && len(f.Fixed) < MaxNamed {
				f.Fixed = append(f.Fixed, v)
			}
		}
	}
}

func (o *osvReader) affected(a *osvAffected) error {
	c := o.c
	return c.object(func(key string) error {
		switch key {
		case "package":
			return c.object(func(key string) error {
				switch key {
				case "name":
					return c.short(&a.name)
				case "purl":
					return c.short(&a.purl)
				}
				return nil
			})
		case "ranges":
			return c.array(func() error {
				return c.object(func(key string) error {
					if key != "events" {
						return nil
					}
					return c.array(func() error {
						return c.object(func(key string) error {
							if key != "fixed" {
								return nil
							}
							var v string
							err := c.short(&v)
							if len(a.fixed) < MaxNamed {
								a.fixed = append(a.fixed, v)
							}
							return err
						})
					})
				})
			})
		}
		return nil
	})
}
