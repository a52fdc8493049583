package evidence

import (
	"fmt"
	"strings"

	"github.com/lockkeeper/lockkeeper"
)

const sbomFormats = "CycloneDX 1.4 to 1.7 as JSON or XML, SPDX 2.2 and 2.3 as JSON"

func readSBOM(content []byte) (Summary, error) {
	s, err := readBOM(content)
	if err != nil {
		return Summary{}, err
	}
	if s.SBOM.Total == 0 {
		return Summary{}, refuse(codeEmpty, "The bill of materials lists nothing besides the artifact itself.").
			WithNext("Let the tool look into the artifact.")
	}
	return s, nil
}

func readBOM(content []byte) (Summary, error) {
	if isXML(content) {
		return cyclonedxXML(content)
	}
	if !isJSON(content) {
		return Summary{}, unknownFormat(SBOM, "it is neither JSON nor XML", sbomFormats)
	}
	c, err := newCursor(content)
	if err != nil {
		return Summary{}, err
	}
	members, err := c.members()
	if err != nil {
		return Summary{}, err
	}
	_, context := members["@context"]
	switch {
	case members["bomFormat"] == "CycloneDX":
		return cyclonedxSBOM(c, members)
	case members["spdxVersion"] != "":
		return spdx(c, members["spdxVersion"])
	case context:
		return Summary{}, unknownFormat(SBOM, "it is JSON-LD, which SPDX 3 is written in", sbomFormats)
	}
	return Summary{}, unknownFormat(SBOM, "it says neither bomFormat nor spdxVersion", sbomFormats)
}

// A component of a bill of materials.
type component struct {
	ref, kind, group, name, version, purl, cpe string
	licensed                                   bool
	digests                                    []lockkeeper.Digest
}

// label is how a component is named: its package URL, otherwise name@version.
func (m component) label() string {
	if _, ok := parsePURL(m.purl); ok {
		return m.purl
	}
	name := strings.TrimPrefix(m.group+"/"+m.name, "/")
	if m.version != "" {
		name += "@" + m.version
	}
	return name
}

// subjects are the digests that name the component by content.
func (m component) subjects() []lockkeeper.Digest {
	list := m.digests
	for _, name := range []string{m.purl, m.version} {
		if d, ok := digestIn(name); ok {
			list = append(list, d)
		}
	}
	return list
}

// material says whether what is listed is a part whose origin and version matter.
// Files without a package URL are contents of packages, and keys and algorithms
// are no parts at all.
func (m component) material() bool {
	return m.kind != "cryptographic-asset" && (m.kind != "file" || m.purl != "")
}

func (o *Components) add(m component) {
	o.Total++
	_, ok := parsePURL(m.purl)
	identified := ok || m.cpe != ""
	if identified {
		o.Identified++
	}
	if m.version != "" {
		o.Versioned++
	}
	if m.licensed {
		o.Licensed++
	}
	if (!identified || m.version == "") && len(o.Incomplete) < MaxNamed {
		label := m.label()
		if label == "" {
			label = fmt.Sprintf("number %d", o.Total)
		}
		o.Incomplete = named(o.Incomplete, label)
	}
}

// spdx reads SPDX 2.2 and 2.3. The packages that the document describes are the
// artifact itself, if there is one; if it describes several, they are its parts.
func spdx(c *cursor, version string) (Summary, error) {
	if version != "SPDX-2.2" && version != "SPDX-2.3" {
		return Summary{}, unknownFormat(SBOM, "its version is "+version, sbomFormats)
	}
	r := &spdxReader{c: c, s: Summary{Format: strings.ToLower(version)}, described: map[string]bool{}}
	packages := -1
	err := c.object(func(key string) error {
		switch key {
		case "creationInfo":
			return r.creation()
		case "documentDescribes":
			return c.array(func() error { var id string; err := c.text(&id); return r.describe(id, err) })
		case "relationships":
			return r.relationships()
		case "packages":
			packages = c.pos
		}
		return nil
	})
	if err == nil && packages >= 0 {
		err = c.again(packages, "packages", func() error { return c.array(r.item) })
	}
	r.s.SBOM = &r.out
	return r.s, err
}

type spdxReader struct {
	c         *cursor
	s         Summary
	out       Components
	described map[string]bool
}

func (r *spdxReader) describe(id string, err error) error {
	if err == nil && len(r.described) < 2 { // two are as many as any more: none is left out
		r.described[id] = true
	}
	return err
}

func (r *spdxReader) creation() error {
	return r.c.object(func(key string) error {
		switch key {
		case "created":
			return r.c.time(&r.s.Made)
		case "creators":
			return r.c.array(func() error {
				var who string
				err := r.c.text(&who)
				if name, is := strings.CutPrefix(who, "Tool: "); is && r.s.Tool == "" {
					r.s.Tool = clip(name)
				}
				return err
			})
		}
		return nil
	})
}

func (r *spdxReader) relationships() error {
	return r.c.array(func() error {
		if err := r.c.item(); err != nil {
			return err
		}
		from, to, kind := "", "", ""
		err := r.c.object(func(key string) error {
			switch key {
			case "spdxElementId":
				return r.c.text(&from)
			case "relatedSpdxElement":
				return r.c.text(&to)
			case "relationshipType":
				return r.c.text(&kind)
			}
			return nil
		})
		switch kind {
		case "DESCRIBES":
			return r.describe(to, err)
		case "DESCRIBED_BY":
			return r.describe(from, err)
		}
		r.out.Relations++
		return err
	})
}

func (r *spdxReader) item() error {
	c := r.c
	if err := c.item(); err != nil {
		return err
	}
	if c.peek() != '{' {
		return c.wrong("an object")
	}
	m := component{}
	err := c.object(func(key string) error {
		switch key {
		case "SPDXID":
			return c.text(&m.ref)
		case "name":
			return c.text(&m.name)
		case "versionInfo":
			return c.text(&m.version)
		case "licenseConcluded", "licenseDeclared":
			var l string
			err := c.text(&l)
			m.licensed = m.licensed || l != "" && l != "NONE" && l != "NOASSERTION"
			return err
		case "externalRefs":
			return r.reference(&m)
		case "checksums":
			return checksums(c, "algorithm", "checksumValue", &m.digests)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(r.described) == 1 && r.described[m.ref] {
		r.s.Subjects = append(r.s.Subjects, m.subjects()...)
		return nil
	}
	r.out.add(m)
	return nil
}

func (r *spdxReader) reference(m *component) error {
	return r.c.array(func() error {
		kind, locator := "", ""
		err := r.c.object(func(key string) error {
			switch key {
			case "referenceType":
				return r.c.text(&kind)
			case "referenceLocator":
				return r.c.text(&locator)
			}
			return nil
		})
		switch kind = kind[strings.LastIndexByte(kind, '/')+1:]; kind {
		case "purl":
			m.purl = locator
		case "cpe22Type", "cpe23Type":
			m.cpe = locator
		}
		return err
	})
}

// checksums keeps the SHA-256 of a list of digests with their algorithms.
func checksums(c *cursor, algorithm, value string, into *[]lockkeeper.Digest) error {
	return c.array(func() error {
		name, hex := "", ""
		err := c.object(func(key string) error {
			switch key {
			case algorithm:
				return c.text(&name)
			case value:
				return c.text(&hex)
			}
			return nil
		})
		if d, ok := sha256Of(name, hex); ok && len(*into) <= MaxSubjects {
			*into = append(*into, d)
		}
		return err
	})
}

// sha256Of is the digest that an algorithm's name and hexadecimal digits say, if it
// is a SHA-256.
func sha256Of(algorithm, hex string) (lockkeeper.Digest, bool) {
	if strings.ReplaceAll(strings.ToUpper(algorithm), "-", "") != "SHA256" {
		return "", false
	}
	d, err := lockkeeper.ParseDigest("sha256:" + strings.ToLower(hex))
	return d, err == nil
}
