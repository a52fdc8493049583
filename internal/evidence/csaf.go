package evidence

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
)

// csaf reads CSAF 2.0, profile VEX (section 4.5).
func csaf(c *cursor) (Summary, error) {
	r := &csafReader{statements: statements{c: c}, s: Summary{Format: "csaf-2.0"}, products: map[string]product{}, groups: map[string][]string{}}
	tree, vulnerabilities := -1, -1
	err := c.object(func(key string) error {
		switch key {
		case "document":
			return r.document()
		case "product_tree":
			tree = c.pos
		case "vulnerabilities":
			vulnerabilities = c.pos
		}
		return nil
	})
	if err != nil {
		return r.s, err
	}
	if r.version != "2.0" || r.category != "csaf_vex" {
		return r.s, unknownFormat(VEX, fmt.Sprintf("it is CSAF %.20q of the category %.40q", r.version, r.category), vexFormats)
	}
	if r.state == "draft" {
		return r.s, refuse(codeUnreadable, "The document is a draft.").WithField("$.document.tracking.status").WithNext("Bring it once it is interim or final.")
	}
	if r.s.Made.IsZero() {
		return r.s, refuse(codeUnreadable, "The document has no date of its current release.").WithField("$.document.tracking.current_release_date")
	}
	if tree >= 0 {
		if err := c.again(tree, "product_tree", r.tree); err != nil {
			return r.s, err
		}
	}
	if vulnerabilities >= 0 {
		err = c.again(vulnerabilities, "vulnerabilities", func() error { return c.array(r.vulnerability) })
	}
	r.s.Statements = r.list
	return r.s, err
}

type csafReader struct {
	statements
	s                        Summary
	version, category, state string
	products                 map[string]product // by product id
	groups                   map[string][]string
	relations                [][3]string // product id, component, product
}

func (r *csafReader) document() error {
	c := r.c
	return c.object(func(key string) error {
		switch key {
		case "csaf_version":
			return c.text(&r.version)
		case "category":
			return c.text(&r.category)
		case "tracking":
			return c.object(func(key string) error {
				switch key {
				case "current_release_date":
					return c.time(&r.s.Made)
				case "status":
					return c.text(&r.state)
				case "generator":
					return r.generator()
				}
				return nil
			})
		}
		return nil
	})
}

func (r *csafReader) generator() error {
	c, name, version := r.c, "", ""
	err := c.object(func(key string) error {
		if key != "engine" {
			return nil
		}
		return c.object(func(key string) error {
			switch key {
			case "name":
				return c.short(&name)
			case "version":
				return c.short(&version)
			}
			return nil
		})
	})
	r.s.Tool = tool(name, version)
	return err
}

func (r *csafReader) tree() error {
	c := r.c
	err := c.object(func(key string) error {
		switch key {
		case "branches":
			return r.branches()
		case "full_product_names":
			return c.array(func() error { _, err := r.product(); return err })
		case "relationships":
			return c.array(r.relationship)
		case "product_groups":
			return c.array(r.group)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, rel := range r.relations {
		part, whole := r.products[rel[1]], r.products[rel[2]]
		if len(whole.names) > 0 && len(part.names) > 0 && len(whole.subcomponents) == 0 && len(part.subcomponents) == 0 {
			r.products[rel[0]] = product{names: whole.names, subcomponents: part.names}
		} else {
			delete(r.products, rel[0]) // what is not known wholly is not known
		}
	}
	return nil
}

func (r *csafReader) branches() error {
	c := r.c
	return c.array(func() error {
		return c.object(func(key string) error {
			switch key {
			case "branches":
				return r.branches()
			case "product":
				_, err := r.product()
				return err
			}
			return nil
		})
	})
}

// product reads a full product name: its id, and what can be known again of it.
func (r *csafReader) product() (id string, err error) {
	c, p := r.c, product{}
	err = c.object(func(key string) error {
		switch key {
		case "product_id":
			return c.short(&id)
		case "product_identification_helper":
			return c.object(func(key string) error {
				switch key {
				case "purl":
					var name string
					err := c.short(&name)
					if _, ok := parsePURL(name); ok {
						p.names = append(p.names, name)
					}
					return err
				case "hashes":
					return r.hashes(&p)
				}
				return nil
			})
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	if id == "" {
		return "", c.fail(codeUnreadable, "A product has no product_id.")
	}
	if _, twice := r.products[id]; twice {
		return "", c.fail(codeUnreadable, "The product %.80q is defined twice.", id)
	}
	r.products[id] = p
	return id, c.item()
}

func (r *csafReader) hashes(p *product) error {
	return r.c.array(func() error {
		return r.c.object(func(key string) error {
			if key != "file_hashes" {
				return nil
			}
			var list []lockkeeper.Digest
			err := checksums(r.c, "algorithm", "value", &list)
			for _, d := range list {
				p.names = append(p.names, string(d))
			}
			if len(p.names) > MaxNamed {
				return r.c.fail(codeTooLarge, "A product has more than %d names.", MaxNamed)
			}
			return err
		})
	})
}

func (r *csafReader) relationship() error {
	c, part, whole, id := r.c, "", "", ""
	if err := c.item(); err != nil {
		return err
	}
	err := c.object(func(key string) error {
		switch key {
		case "product_reference":
			return c.short(&part)
		case "relates_to_product_reference":
			return c.short(&whole)
		case "full_product_name":
			var err error
			id, err = r.product()
			return err
		}
		return nil
	})
	r.relations = append(r.relations, [3]string{id, part, whole})
	return err
}

func (r *csafReader) group() error {
	c, id := r.c, ""
	var members []string
	err := c.object(func(key string) error {
		switch key {
		case "group_id":
			return c.short(&id)
		case "product_ids":
			return c.texts(&members)
		}
		return nil
	})
	r.groups[id] = members
	return err
}

// csafStatuses says which lists of products mean which status. What is only a
// recommendation or a mark of a range means none.
var csafStatuses = map[string]Status{
	"first_affected": Affected, "known_affected": Affected, "last_affected": Affected,
	"known_not_affected": NotAffected, "fixed": FixedStatus, "first_fixed": FixedStatus,
	"under_investigation": UnderInvestigation,
}

func (r *csafReader) vulnerability() error {
	c, id := r.c, ""
	var aliases []string
	said := map[string]Status{} // by product id
	reasons := map[string]string{}
	if c.peek() != '{' {
		return c.wrong("an object")
	}
	err := c.object(func(key string) error {
		switch key {
		case "cve":
			return c.short(&id)
		case "ids":
			return c.array(func() error {
				return c.object(func(key string) error {
					if key == "text" {
						return c.alias(&aliases)
					}
					return nil
				})
			})
		case "product_status":
			return r.status(said)
		case "flags":
			return c.array(func() error { return r.reason("label", reasons) })
		case "threats":
			return c.array(func() error { return r.reason("details", reasons) })
		}
		return nil
	})
	if err != nil {
		return err
	}
	if id == "" && len(aliases) > 0 {
		id = aliases[0]
	}
	// The ids of trackers may be of advisories about several; those of GitHub are not.
	aliases = slices.DeleteFunc(aliases, func(a string) bool { return !strings.HasPrefix(a, "GHSA-") })
	for _, p := range sortedKeys(said) {
		known := r.products[p]
		if len(known.names) == 0 {
			continue // nothing by which the product is known again
		}
		st := Statement{ID: id, Aliases: slices.Clone(aliases), Products: known.names, Subcomponents: known.subcomponents, Status: said[p], Reason: reasons[p], At: r.s.Made}
		if err := r.add(st); err != nil {
			return err
		}
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// status reads the lists of products. A product in lists that contradict each other
// is refused (CSAF 2.0, 6.1.6).
func (r *csafReader) status(said map[string]Status) error {
	return r.c.object(func(key string) error {
		status, means := csafStatuses[key]
		if !means {
			return nil
		}
		var ids []string
		if err := r.c.texts(&ids); err != nil {
			return err
		}
		for _, id := range ids {
			if was, twice := said[id]; twice && was != status {
				return r.c.fail(codeContradictory, "The product %.80q is %s and %s.", id, was, status)
			}
			said[id] = status
		}
		return nil
	})
}

// reason reads a flag, or a threat of the category impact: why products are not
// affected.
func (r *csafReader) reason(member string, reasons map[string]string) error {
	c, text, category := r.c, "", ""
	var ids, groups []string
	err := c.object(func(key string) error {
		switch key {
		case member:
			return c.short(&text)
		case "category":
			return c.text(&category)
		case "product_ids":
			return c.texts(&ids)
		case "group_ids":
			return c.texts(&groups)
		}
		return nil
	})
	if member == "details" && category != "impact" {
		return err
	}
	text = strings.TrimSpace(text)
	for _, list := range append(r.named(groups), ids) {
		for _, id := range list {
			if reasons[id] == "" || member == "label" {
				reasons[id] = text
			}
			if err == nil {
				err = c.item()
			}
			if err != nil {
				return err
			}
		}
	}
	return err
}

// named are the members of the groups.
func (r *csafReader) named(groups []string) [][]string {
	var lists [][]string
	for _, g := range groups {
		lists = append(lists, r.groups[g])
	}
	return lists
}
