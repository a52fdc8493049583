package evidence

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
)

// readTerraform reads what terraform show -json says of a saved plan (format 1.x).
// Values, variables, the state and the configuration are stepped over; before and
// after go into the digest, without what their masks call sensitive.
func readTerraform(content []byte) (Summary, error) {
	c, err := newCursor(content)
	if err != nil {
		return Summary{}, err
	}
	p := &planning{out: Planned{Kind: TerraformPlan}}
	var format, version string
	var changes, errored bool
	err = c.object(func(key string) error {
		switch key {
		case "format_version":
			return c.short(&format)
		case "terraform_version":
			return c.short(&version)
		case "errored":
			return c.truth(&errored)
		case "resource_changes":
			changes = true
			return c.array(func() error { return p.resource(c) })
		case "output_changes":
			return c.object(func(name string) error { return p.output(c, name) })
		}
		return nil
	})
	switch {
	case err != nil:
		return Summary{}, err
	case !strings.HasPrefix(format, "1."):
		return Summary{}, refuse(codeFormat, "The document is no Terraform plan of the format 1.").WithNext("Write it with: terraform show -json PLANFILE > plan.json")
	case errored:
		return Summary{}, refuse(codeContradictory, "The plan says that planning failed, so that it is not whole.").WithNext("Plan again.")
	case !changes:
		return Summary{}, refuse(codeEmpty, "The plan says nothing of resources: it may be a state, which is written without a plan file.").WithNext("Write it with: terraform show -json PLANFILE > plan.json")
	}
	return p.summary("terraform-"+format, tool("terraform", version))
}

// value reads what comes next as it is, numbers as they are written.
func value(c *cursor) (any, error) {
	c.peek()
	start := c.pos
	if err := c.skip(); err != nil { // refuses depth and members that stand twice
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(c.data[start:c.pos]))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, c.fail(codeUnreadable, "The value cannot be read.")
	}
	return v, nil
}

// actions are those of Terraform, and what each comes to.
var actions = map[string]string{
	"no-op": "none", "read": "none", "create": "add", "update": "change", "delete": "destroy", "forget": "forget",
	"delete create": "replace", "create delete": "replace", "create forget": "replace",
}

func (p *planning) resource(c *cursor) error {
	if len(p.sums) >= MaxChanges {
		return c.fail(codeTooLarge, "The plan has more than %d resources.", MaxChanges)
	}
	v, err := value(c)
	if err != nil {
		return err
	}
	r, _ := v.(map[string]any)
	address, _ := r["address"].(string)
	deposed, _ := r["deposed"].(string)
	change, _ := r["change"].(map[string]any)
	if address == "" || change == nil {
		return c.fail(codeUnreadable, "A resource of the plan has no address, or no change.")
	}
	if deposed != "" {
		address += " (deposed " + deposed + ")"
	}
	action, err := p.change(c, change)
	if err != nil {
		return err
	}
	said := map[string]any{"change": change}
	for _, k := range []string{"address", "previous_address", "module_address", "mode", "type", "name", "index", "deposed", "provider_name", "action_reason"} {
		said[k] = r[k]
	}
	canonical, err := json.Marshal(said)
	if err != nil {
		return c.fail(codeUnreadable, "The resource cannot be read.")
	}
	p.count(action, address)
	p.sum("resource "+address, canonical)
	return nil
}

func (p *planning) output(c *cursor, name string) error {
	v, err := value(c)
	if err != nil {
		return err
	}
	change, _ := v.(map[string]any)
	if _, err := p.change(c, change); err != nil {
		return err
	}
	canonical, err := json.Marshal(change)
	if err != nil {
		return c.fail(codeUnreadable, "The output cannot be read.")
	}
	if len(p.sums) >= MaxChanges {
		return c.fail(codeTooLarge, "The plan has more than %d resources and outputs.", MaxChanges)
	}
	p.sum("output "+name, canonical)
	return nil
}

// change says what a change comes to, and takes out of it what is sensitive.
func (p *planning) change(c *cursor, change map[string]any) (string, error) {
	list, _ := change["actions"].([]any)
	var words []string
	for _, a := range list {
		word, _ := a.(string)
		words = append(words, word)
	}
	action, known := actions[strings.Join(words, " ")]
	if !known {
		return "", c.fail(codeUnreadable, "The actions %.80q are none that are known.", strings.Join(words, " "))
	}
	kept := []string{"actions", "before", "after", "after_unknown", "before_sensitive", "after_sensitive", "replace_paths", "importing", "generated_config"}
	for k := range change {
		if !slices.Contains(kept, k) {
			delete(change, k)
		}
	}
	for _, side := range []string{"before", "after"} {
		mask, masked := change[side+"_sensitive"]
		if !masked {
			mask = true // who does not say what is sensitive says nothing is not
		}
		change[side] = without(change[side], mask)
	}
	delete(change, "generated_config") // is written from values
	return action, nil
}

// without is a value without what its mask marks: true where it is sensitive, and
// objects and arrays that lead there. Where a mask fits the value not, all of that
// is taken out.
func without(v, mask any) any {
	switch m := mask.(type) {
	case nil:
		return v
	case bool:
		if !m {
			return v
		}
	case map[string]any:
		if len(m) == 0 {
			return v
		}
		if x, is := v.(map[string]any); is {
			for k, inner := range m {
				if _, there := x[k]; there {
					x[k] = without(x[k], inner)
				}
			}
			return x
		}
	case []any:
		if len(m) == 0 {
			return v
		}
		if x, is := v.([]any); is && len(m) <= len(x) {
			for i, inner := range m {
				x[i] = without(x[i], inner)
			}
			return x
		}
	}
	if v == nil {
		return nil
	}
	return sensitive
}
