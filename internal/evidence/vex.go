package evidence

import (
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
)

const vexFormats = "OpenVEX 0.2.0 and 0.0.1, CycloneDX 1.4 to 1.7 as JSON, CSAF 2.0 of the category csaf_vex"

func readVEX(content []byte) (Summary, error) {
	if !isJSON(content) {
		return Summary{}, unknownFormat(VEX, "it is not JSON", vexFormats)
	}
	c, err := newCursor(content)
	if err != nil {
		return Summary{}, err
	}
	members, err := c.members()
	if err != nil {
		return Summary{}, err
	}
	_, document := members["document"]
	var s Summary
	switch {
	case members["@context"] == "https://openvex.dev/ns" || strings.HasPrefix(members["@context"], "https://openvex.dev/ns/v0."):
		s, err = openvex(c)
	case members["bomFormat"] == "CycloneDX":
		s, err = cyclonedxVEX(c, members)
	case document:
		s, err = csaf(c)
	default:
		return Summary{}, unknownFormat(VEX, "it says none of them", vexFormats)
	}
	if err == nil && len(s.Statements) == 0 {
		err = refuse(codeEmpty, "The document has no statement about a product that can be known again.").
			WithNext("Name products by package URL or SHA-256 digest.")
	}
	return s, err
}

// statements are what a document says, at most MaxStatements.
type statements struct {
	c    *cursor
	list []Statement
}

func (l *statements) add(s Statement) error {
	if s.Status == NotAffected && s.Reason == "" {
		return l.c.fail(codeNoReason, "%s is said not to affect the product, without a justification.", s.ID).
			WithNext("Say why: a justification or an impact statement.")
	}
	if s.ID == "" {
		return l.c.fail(codeUnreadable, "A statement names no vulnerability.")
	}
	if len(l.list) >= MaxStatements {
		return l.c.fail(codeTooLarge, "The document has more than %d statements.", MaxStatements)
	}
	s.Aliases = distinct(s.Aliases, s.ID)
	for _, names := range []*[]string{&s.Products, &s.Subcomponents} {
		*names = slices.Clone(*names) // which several statements may share
		slices.Sort(*names)
		*names = slices.Compact(*names)
	}
	l.list = append(l.list, s)
	return nil
}

// A product of OpenVEX: what names it, and the subcomponents that are meant.
type product struct {
	names, subcomponents []string
}

type openvexReader struct {
	statements
	at lockkeeper.Moment // of the document
}

// openvex reads OpenVEX 0.2.0, and 0.0.1, where vulnerabilities and products are texts.
func openvex(c *cursor) (Summary, error) {
	r := &openvexReader{statements: statements{c: c}}
	s, at := Summary{Format: "openvex"}, -1
	var last lockkeeper.Moment
	err := c.object(func(key string) error {
		switch key {
		case "timestamp":
			return c.time(&r.at)
		case "last_updated":
			return c.time(&last)
		case "tooling":
			return c.short(&s.Tool)
		case "statements":
			at = c.pos
		}
		return nil
	})
	if err != nil {
		return s, err
	}
	if r.at.IsZero() {
		return s, refuse(codeUnreadable, "The document has no timestamp with a time zone; without one nobody knows which statement is the latest.").WithField("$.timestamp")
	}
	if at >= 0 {
		err = c.again(at, "statements", func() error { return c.array(r.statement) })
	}
	s.Made, s.Statements = r.at, r.list
	if s.Made.Before(last) {
		s.Made = last
	}
	return s, err
}

func (r *openvexReader) statement() error {
	c := r.c
	if c.peek() != '{' {
		return c.wrong("an object")
	}
	st, impact := Statement{}, ""
	var products []product
	var made, last lockkeeper.Moment
	err := c.object(func(key string) error {
		switch key {
		case "vulnerability":
			return r.vulnerability(&st)
		case "timestamp":
			return c.time(&made)
		case "last_updated":
			return c.time(&last)
		case "products":
			return r.products(&products)
		case "subcomponents":
			// Of OpenVEX 0.0.1, where they stand beside the products.
			return c.array(func() error { return c.fail(codeFormat, "Subcomponents beside the products are not read.") })
		case "status":
			return r.status(&st.Status)
		case "justification":
			return c.short(&st.Reason)
		case "impact_statement":
			return c.short(&impact)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if st.Reason == "" {
		st.Reason = impact
	}
	if st.Status == "" {
		return c.fail(codeUnreadable, "The statement has no status.")
	}
	if st.At = later(made, last); st.At.IsZero() {
		st.At = r.at
	}
	if len(products) == 0 {
		return c.fail(codeUnreadable, "The statement names no product.")
	}
	for _, p := range products {
		one := st
		one.Products, one.Subcomponents = p.names, p.subcomponents
		one.Aliases = slices.Clone(st.Aliases)
		if err := r.add(one); err != nil {
			return err
		}
	}
	return nil
}

func later(a, b lockkeeper.Moment) lockkeeper.Moment {
	if a.Before(b) {
		return b
	}
	return a
}

func (r *openvexReader) status(status *Status) error {
	var s string
	if err := r.c.text(&s); err != nil {
		return err
	}
	*status = Status(s)
	if !slices.Contains([]Status{NotAffected, Affected, FixedStatus, UnderInvestigation}, *status) {
		return r.c.fail(codeUnreadable, "There is no status %.40q.", s)
	}
	return nil
}

func (r *openvexReader) vulnerability(st *Statement) error {
	c, id := r.c, ""
	if c.peek() == '"' {
		return c.short(&st.ID)
	}
	err := c.object(func(key string) error {
		switch key {
		case "name":
			return c.short(&st.ID)
		case "@id":
			return c.short(&id)
		case "aliases":
			return c.array(func() error { return c.alias(&st.Aliases) })
		}
		return nil
	})
	if st.ID == "" {
		st.ID = id[strings.LastIndexByte(id, '/')+1:]
	}
	return err
}

func (r *openvexReader) products(into *[]product) error {
	return r.c.array(func() error {
		var p product
		if err := r.product(&p.names, &p.subcomponents); err != nil {
			return err
		}
		if len(p.names) == 0 {
			return r.c.fail(codeUnreadable, "A product has no @id, identifier or hash.")
		}
		if len(*into) >= MaxStatements {
			return r.c.fail(codeTooLarge, "A statement names more than %d products.", MaxStatements)
		}
		*into = append(*into, p)
		return nil
	})
}

// product reads what names a product; within is nil of a subcomponent, which has
// none of its own.
func (r *openvexReader) product(names, within *[]string) error {
	c := r.c
	keep := func() error {
		var s string
		if err := c.short(&s); err != nil || s == "" {
			return err
		}
		if len(*names) >= MaxSubjects {
			return c.fail(codeTooLarge, "A product has more than %d names or subcomponents.", MaxSubjects)
		}
		*names = append(*names, s)
		return nil
	}
	if c.peek() == '"' {
		return keep()
	}
	if c.peek() != '{' {
		return c.wrong("an object")
	}
	return c.object(func(key string) error {
		switch key {
		case "@id":
			return keep()
		case "identifiers":
			return c.object(func(key string) error {
				if key == "purl" {
					return keep()
				}
				return nil
			})
		case "hashes":
			return c.object(func(key string) error {
				if key != "sha-256" {
					return nil
				}
				var hex string
				err := c.text(&hex)
				if d, ok := sha256Of("sha-256", hex); ok {
					*names = append(*names, string(d))
				}
				return err
			})
		case "subcomponents":
			if within == nil {
				return c.fail(codeUnreadable, "A subcomponent has subcomponents.")
			}
			return c.array(func() error {
				before := len(*within)
				if err := r.product(within, nil); err != nil {
					return err
				}
				if len(*within) == before {
					// Nothing names it: without it the statement would be about all of the product.
					return c.fail(codeUnreadable, "A subcomponent has no @id, identifier or hash.")
				}
				return nil
			})
		}
		return nil
	})
}

// cyclonedxVEX reads the analyses of a document of CycloneDX. If the artifact itself
// is named by digest, they are about that product and the affected packages in it;
// otherwise about those packages, in whatever the document is brought for.
func cyclonedxVEX(c *cursor, members map[string]string) (Summary, error) {
	d, err := cyclonedx(c, VEX, members)
	if err != nil {
		return Summary{}, err
	}
	s := d.s
	s.Subjects = nil // each statement names its product
	if _, there := d.places["vulnerabilities"]; !there {
		return s, nil
	}
	list, refs, err := d.vulnerabilities()
	if err != nil {
		return Summary{}, err
	}
	var root []string
	for _, digest := range d.root.subjects() {
		root = append(root, string(digest))
	}
	l := statements{c: c}
	for _, v := range list {
		f := v.finding
		if f.Status == "" {
			continue
		}
		at := f.At
		for _, t := range []lockkeeper.Moment{v.updated, d.s.Made} {
			if at.IsZero() {
				at = t
			}
		}
		for _, a := range v.affected {
			name, isRoot := d.named(a.ref, refs)
			st := Statement{ID: f.ID, Aliases: slices.Clone(f.Aliases), Products: []string{name}, Status: f.Status, Reason: f.Reason, At: at}
			switch {
			case isRoot && len(root) > 0:
				st.Products = root
			case len(root) > 0:
				st.Products, st.Subcomponents = root, []string{name}
			}
			if err := l.add(st); err != nil {
				return Summary{}, err
			}
		}
	}
	s.Statements = l.list
	return s, nil
}
