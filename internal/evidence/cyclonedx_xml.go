package evidence

import (
	"encoding/xml"
	"slices"
	"strings"
)

const cyclonedxSpace = "http://cyclonedx.org/schema/bom/"

// cyclonedxXML reads a bill of materials of CycloneDX as XML.
func cyclonedxXML(content []byte) (Summary, error) {
	root, err := rootOf(content)
	if err != nil {
		return Summary{}, err
	}
	version, is := strings.CutPrefix(root.Space, cyclonedxSpace)
	if !is || root.Local != "bom" || !slices.Contains(cyclonedxVersions, version) {
		return Summary{}, unknownFormat(SBOM, "its root is "+clip(strings.TrimSpace(root.Space+" "+root.Local)), sbomFormats)
	}
	b := &bomXML{s: Summary{Format: "cyclonedx-" + version}, space: root.Space}
	if err := newWalker(content).walk(b); err != nil {
		return Summary{}, err
	}
	b.s.SBOM = &b.out
	return b.s, nil
}

type bomXML struct {
	s     Summary
	out   Components
	space string
	open  []component // that are read, the innermost last
	alg   string      // of the hash that is read
	value strings.Builder
	other int // elements of other namespaces that are open
}

func (b *bomXML) start(x *walker, e xml.StartElement) error {
	b.value.Reset()
	if e.Name.Space != b.space || b.other > 0 {
		b.other++
		return nil
	}
	switch parent := x.parent(); e.Name.Local {
	case "component":
		if parent != "components" && parent != "metadata" {
			return x.fail(codeUnreadable, "A component stands in a %.60s.", parent)
		}
		m := component{}
		m.ref, _ = attr(e, "bom-ref")
		m.kind, _ = attr(e, "type")
		b.open = append(b.open, m)
		return x.item()
	case "hash":
		b.alg, _ = attr(e, "alg")
	case "license", "expression":
		if n := len(b.open); n > 0 && parent == "licenses" {
			b.open[n-1].licensed = true
		}
	case "dependency":
		if parent == "dependency" {
			b.out.Relations++
		}
		return x.item()
	}
	return nil
}

func (b *bomXML) text(x *walker, data []byte) error {
	if b.value.Len()+len(data) > 1<<20 {
		return x.fail(codeTooLarge, "A text has more than %d bytes.", 1<<20)
	}
	b.value.Write(data)
	return nil
}

func (b *bomXML) end(x *walker, name string) error {
	if b.other > 0 {
		b.other--
		return nil
	}
	value, parent := strings.TrimSpace(b.value.String()), x.parent()
	b.value.Reset()
	if name == "timestamp" && parent == "metadata" {
		b.s.Made = moment(value)
	}
	if parent == "tool" && b.s.Tool == "" && name == "name" {
		b.s.Tool = clip(value)
	}
	if len(b.open) == 0 {
		return nil
	}
	m := &b.open[len(b.open)-1]
	if name == "component" {
		b.close(x, *m)
		return nil
	}
	if name == "hash" && parent == "hashes" && len(x.path) > 2 && x.path[len(x.path)-3] == "component" {
		if d, ok := sha256Of(b.alg, value); ok && len(m.digests) <= MaxSubjects {
			m.digests = append(m.digests, d)
		}
	}
	if parent != "component" {
		return nil
	}
	switch name {
	case "group":
		m.group = value
	case "name":
		m.name = value
	case "version":
		m.version = value
	case "purl":
		m.purl = value
	case "cpe":
		m.cpe = value
	}
	return nil
}

// close counts a component where it is a part: not the artifact itself, nor a tool.
func (b *bomXML) close(x *walker, m component) {
	b.open = b.open[:len(b.open)-1]
	metadata, tools := slices.Contains(x.path, "metadata"), slices.Contains(x.path, "tools")
	switch {
	case tools:
		if b.s.Tool == "" {
			b.s.Tool = clip(tool(m.name, m.version))
		}
	case metadata && len(b.open) == 0:
		b.s.Subjects = m.subjects()
	case !metadata && m.material():
		b.out.add(m)
	}
}
