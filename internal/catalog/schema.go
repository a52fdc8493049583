package catalog

import (
	_ "embed"
	"encoding"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// fieldComments are the comments of the fields of resource.go, by Type.Field: the
// manual and the editor say the same. A test rewrites the file (-update) and
// fails while it differs.
//
//go:embed schema_comments.json
var fieldComments []byte

var comments = sync.OnceValue(func() map[string]string {
	out := map[string]string{}
	if err := json.Unmarshal(fieldComments, &out); err != nil {
		panic(err) // the embedded file is made by a test
	}
	return out
})

// Schema is the JSON Schema (draft 2020-12) of one document, for editors. It
// says what a document looks like; Read says everything else that must hold.
func Schema() map[string]any {
	var branches []any
	definitions := map[string]any{}
	for _, kind := range slices.Sorted(maps.Keys(blanks)) {
		t := reflect.TypeOf(blanks[kind]()).Elem()
		object := structSchema(t, definitions)
		properties := object["properties"].(map[string]any)
		properties["kind"] = map[string]any{"const": string(kind)}
		object["required"] = append([]string{"kind"}, object["required"].([]string)...)
		object["description"] = comments()[t.Name()]
		branches = append(branches, map[string]any{
			"if":   map[string]any{"properties": map[string]any{"kind": map[string]any{"const": string(kind)}}, "required": []string{"kind"}},
			"then": object,
		})
	}
	return map[string]any{"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Lockkeeper governance document", "type": "object", "required": []string{"kind", "name"},
		"properties": map[string]any{"kind": map[string]any{"enum": kindNames()}}, "allOf": branches, "$defs": definitions}
}

var textType = reflect.TypeFor[encoding.TextUnmarshaler]()

func schemaOf(t reflect.Type, definitions map[string]any) map[string]any {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if reflect.PointerTo(t).Implements(textType) {
		return map[string]any{"type": "string"}
	}
	switch t.Kind() {
	case reflect.Struct:
		if _, known := definitions[t.Name()]; !known {
			definitions[t.Name()] = true // so that a type may hold itself
			d := structSchema(t, definitions)
			if text := comments()[t.Name()]; text != "" {
				d["description"] = text
			}
			definitions[t.Name()] = d
		}
		return map[string]any{"$ref": "#/$defs/" + t.Name()}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": schemaOf(t.Elem(), definitions)}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int:
		return map[string]any{"type": "integer", "minimum": 0}
	}
	return map[string]any{"type": []string{"string", "integer"}} // an id may be plain digits
}

func structSchema(t reflect.Type, definitions map[string]any) map[string]any {
	properties, required := map[string]any{}, []string{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		s := schemaOf(f.Type, definitions)
		if text := comments()[t.Name()+"."+f.Name]; text != "" {
			s["description"] = text
		}
		if values := enums[t.Name()+"."+f.Name]; values != nil {
			delete(s, "type")
			if s["items"] != nil {
				s = map[string]any{"type": "array", "items": map[string]any{"enum": values()}, "description": s["description"]}
			} else {
				s["enum"] = values()
			}
		}
		properties[name] = s
		if options == "" {
			required = append(required, name)
		}
	}
	return map[string]any{"type": "object", "additionalProperties": false, "properties": properties, "required": required}
}

// enums are the fields that take one of a few values.
var enums = map[string]func() []string{
	"Provider.Platform":  platformNames,
	"Directory.Platform": directoryPlatforms, "Directory.ScimSubject": subjectAttributes, "Directory.ScimGroups": groupAttributes,
	"Environment.Tier": func() []string { return []string{string(Production), string(Preproduction), string(Development)} },
	"Waiver.Demand": func() []string {
		var out []string
		for _, d := range Demands() {
			out = append(out, string(d))
		}
		return out
	},
	"AzureMetric.Aggregation": Aggregations, "AzureAlerts.Severities": Severities, "ChangeCheck.Category": StatusCategories,
	"Approval.Review":   func() []string { return []string{SecurityReview} },
	"Lock.Mode":         func() []string { return []string{LockSequential, LockLatest} },
	"Window.Days":       Weekdays,
	"Freeze.Actions":    func() []string { return []string{"deploy", "rollback", TokensAction} },
	"Freeze.InFlight":   func() []string { return []string{InFlightFinish, InFlightNoTokens, InFlightAbort} },
	"FreezeWindow.Days": Weekdays,
	"Freeze.Callers":    func() []string { return []string{PeopleCaller, AutomationCaller} },
	"Claim.Fact":        MappableFacts,
	"SSH.Extensions":    SSHExtensions,
	"Separation.Mode":   func() []string { return []string{SeparateHolding, SeparateUse} },
	"Environment.Mode":  func() []string { return []string{EnforceMode, ObserveMode} },
}
