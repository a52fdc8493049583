package evidence

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"
)

// readManifests reads rendered Kubernetes manifests (helm template, kustomize build):
// documents of YAML, each one object or a List of them. An alias could make a small
// document huge, and a member that stands twice could say two things: both are
// refused.
func readManifests(content []byte) (Summary, error) {
	limits := loaderlimits.New(loaderlimits.DepthFunc(func(depth int, _ *yaml.DepthContext) error {
		if depth > MaxDepth {
			return errors.New("too deep")
		}
		return nil
	}))
	loader, err := yaml.NewLoader(bytes.NewReader(content), yaml.WithPlugin(limits), yaml.WithUniqueKeys(false))
	if err != nil {
		return Summary{}, refuse(codeUnreadable, "The document is not YAML.")
	}
	m := &manifests{planning: planning{out: Planned{Kind: HelmPlan}}}
	for {
		var doc yaml.Node
		err := loader.Load(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil { // the parser's own words may repeat a value
			at := ""
			if load := (*yaml.LoadError)(nil); errors.As(err, &load) {
				at = fmt.Sprintf("line %d", load.Mark.Line)
			}
			return Summary{}, refuse(codeUnreadable, "The document is not YAML, or nests deeper than %d.", MaxDepth).WithField(at)
		}
		for _, root := range doc.Content {
			if root.ShortTag() == "!!null" {
				continue // an empty document
			}
			if err := m.object(root, 0); err != nil {
				return Summary{}, err
			}
		}
	}
	if m.out.Objects == 0 {
		return Summary{}, refuse(codeEmpty, "The manifest has no object.").WithNext("Write it with: helm template … > rendered.yaml")
	}
	return m.summary("kubernetes", "")
}

type manifests struct{ planning }

func (m *manifests) object(n *yaml.Node, depth int) error {
	at := fmt.Sprintf("line %d", n.Line)
	if err := plainYAML(n, 0); err != nil {
		return err
	}
	kind, version, meta := field(n, "kind"), field(n, "apiVersion"), field(n, "metadata")
	if n.Kind != yaml.MappingNode || scalarOf(kind) == "" || scalarOf(version) == "" {
		return refuse(codeUnreadable, "A document is no object with apiVersion and kind.").WithField(at)
	}
	if items := field(n, "items"); items != nil && strings.HasSuffix(kind.Value, "List") && depth == 0 {
		for _, item := range items.Content {
			if err := m.object(item, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	name, space := scalarOf(field(meta, "name")), scalarOf(field(meta, "namespace"))
	if name == "" {
		name = scalarOf(field(meta, "generateName")) + "*"
	}
	if name == "*" || m.out.Objects >= MaxChanges {
		return refuse(codeUnreadable, "An object has no name, or there are more than %d.", MaxChanges).WithField(at)
	}
	address := fmt.Sprintf("%s %s %s", version.Value, kind.Value, strings.TrimPrefix(space+"/"+name, "/"))
	var b bytes.Buffer
	canonicalYAML(&b, n, kind.Value == "Secret")
	m.count("apply", address)
	m.sum("object "+address, b.Bytes())
	return nil
}

// field is the value of a member; nil: there is none.
func field(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func scalarOf(n *yaml.Node) string {
	if n == nil || n.Kind != yaml.ScalarNode {
		return ""
	}
	return n.Value
}

// plainYAML refuses what lets a document say something else than it seems to say.
func plainYAML(n *yaml.Node, depth int) error {
	at := fmt.Sprintf("line %d", n.Line)
	switch {
	case depth > MaxDepth:
		return refuse(codeTooLarge, "The document nests deeper than %d.", MaxDepth).WithField(at)
	case n.Kind == yaml.AliasNode:
		return refuse(codeUnreadable, "There is an alias (*).").WithField(at).WithNext("Render it without: the objects that are applied have none.")
	}
	if n.Kind == yaml.MappingNode {
		seen := make(map[string]bool, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			k := n.Content[i]
			if k.Kind != yaml.ScalarNode || k.Value == "<<" || seen[k.Value] {
				return refuse(codeContradictory, "A member has no plain name, or stands twice.").WithField(fmt.Sprintf("line %d", k.Line))
			}
			seen[k.Value] = true
		}
	}
	for _, child := range n.Content {
		if err := plainYAML(child, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// canonicalYAML writes a node so that two that mean the same are written the same. Of
// a Secret it leaves the data out.
func canonicalYAML(b *bytes.Buffer, n *yaml.Node, secret bool) {
	switch n.Kind {
	case yaml.MappingNode:
		type member struct {
			key   string
			value *yaml.Node
		}
		var list []member
		for i := 0; i+1 < len(n.Content); i += 2 {
			list = append(list, member{n.Content[i].Value, n.Content[i+1]})
		}
		slices.SortFunc(list, func(a, b member) int { return strings.Compare(a.key, b.key) })
		b.WriteByte('{')
		for _, m := range list {
			fmt.Fprintf(b, "%q:", m.key)
			if secret && (m.key == "data" || m.key == "stringData") || m.key == "kubectl.kubernetes.io/last-applied-configuration" {
				fmt.Fprintf(b, "%q,", sensitive)
				continue
			}
			canonicalYAML(b, m.value, false)
			b.WriteByte(',')
		}
		b.WriteByte('}')
	case yaml.SequenceNode:
		b.WriteByte('[')
		for _, child := range n.Content {
			canonicalYAML(b, child, false)
			b.WriteByte(',')
		}
		b.WriteByte(']')
	default:
		fmt.Fprintf(b, "%s %q", n.ShortTag(), n.Value)
	}
}
