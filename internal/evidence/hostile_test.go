package evidence

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"testing"
	"unicode/utf8"
)

// fill repeats parts between a head and a tail until the document is as large as one
// may be.
func fill(head string, part func(i int) string, sep, tail string) []byte {
	var b bytes.Buffer
	b.WriteString(head)
	for i := 0; ; i++ {
		p := part(i)
		if b.Len()+len(p)+len(sep)+len(tail) > MaxDocument {
			break
		}
		if i > 0 {
			b.WriteString(sep)
		}
		b.WriteString(p)
	}
	b.WriteString(tail)
	return b.Bytes()
}

func same(s string) func(int) string { return func(int) string { return s } }

// TestHostile gives what would hurt a careless reader: all of it is refused, with a
// reason, or counted.
func TestHostile(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write([]byte("<testsuite/>"))
	_ = z.Close()
	utf16 := []byte("\xff\xfe<\x00t\x00/\x00>\x00")
	bomb := `<!DOCTYPE lolz [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]><testsuite><testcase name="&b;"/></testsuite>`
	external := `<!DOCTYPE t [<!ENTITY x SYSTEM "file:///etc/passwd">]><testsuite><testcase name="&x;"/></testsuite>`
	deepJSON := func(inner string) string {
		return inner + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + "}"
	}
	for name, c := range map[string]struct {
		kind    Kind
		content []byte
		code    string
	}{
		"an entity bomb":          {Tests, []byte(bomb), codeUnreadable},
		"an external entity":      {Tests, []byte(external), codeUnreadable},
		"a parameter entity":      {Coverage, []byte(`<!DOCTYPE coverage [<!ENTITY % p SYSTEM "http://x">%p;]><coverage/>`), codeUnreadable},
		"a DTD within":            {Tests, []byte(`<testsuite><!DOCTYPE x><testcase name="a"/></testsuite>`), codeUnreadable},
		"deep XML":                {Tests, []byte(strings.Repeat("<testsuite>", 1000)), codeTooLarge},
		"deep XML elsewhere":      {SBOM, []byte(`<bom xmlns="http://cyclonedx.org/schema/bom/1.5">` + strings.Repeat("<x>", 1000)), codeTooLarge},
		"deep JSON":               {Scan, []byte(deepJSON(`{"version": "2.1.0", "runs": [], "x": `)), codeUnreadable},
		"deeper than is let":      {Scan, []byte(`{"version": "2.1.0", "runs": [], "x": ` + strings.Repeat("[", 65) + strings.Repeat("]", 65) + "}"), codeTooLarge},
		"many attributes":         {Tests, []byte("<testsuite " + attributes(maxAttributes+1) + "/>"), codeTooLarge},
		"gzip":                    {Tests, packed.Bytes(), codeEncoding},
		"zip":                     {SBOM, []byte("PK\x03\x04rest"), codeEncoding},
		"zstd":                    {SBOM, []byte("\x28\xb5\x2f\xfdrest"), codeEncoding},
		"UTF-16":                  {Tests, utf16, codeEncoding},
		"UTF-16, big end first":   {Scan, []byte("\xfe\xff\x00{\x00}"), codeEncoding},
		"no UTF-8":                {Scan, []byte("{\"version\": \"2.1.0\xff\"}"), codeEncoding},
		"nothing":                 {Tests, nil, codeEmpty},
		"white space":             {Scan, []byte(" \n\t"), codeEmpty},
		"only a mark":             {Scan, []byte("\xef\xbb\xbf"), codeEmpty},
		"too large":               {Scan, bytes.Repeat([]byte(" "), MaxDocument+1), codeTooLarge},
		"NaN":                     {Scan, []byte(`{"version": "2.1.0", "runs": [NaN]}`), codeUnreadable},
		"a comment":               {Scan, []byte(`{"version": "2.1.0", /* */ "runs": []}`), codeUnreadable},
		"a member twice, hidden":  {Scan, []byte(`{"version": "2.1.0", "runs": [], "x": [{"a": {"b": 1, "b": 2}}]}`), codeUnreadable},
		"a member twice, escaped": {Scan, []byte(`{"version": "2.1.0", "runs": [], "run\u0073": []}`), codeUnreadable},
		"a member twice of many":  {Scan, []byte(`{"version": "2.1.0", "runs": [], "x": {` + members(40) + `, "m39": 0}}`), codeUnreadable},
		"a huge index":            {Scan, []byte(`{"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "a"}}, "results": [{"ruleIndex": 1e300}]}]}`), codeUnreadable},
		"an index below":          {Scan, []byte(`{"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "a"}}, "results": [{"ruleIndex": -2}]}]}`), codeUnreadable},
		"an index between":        {Scan, []byte(`{"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "a"}}, "results": [{"ruleIndex": 1.5}]}]}`), codeUnreadable},
		"another kind":            {Kind("magic"), []byte("{}"), "evidence_kind"},
		"too many findings": {Vulnerabilities, fill(`{"SchemaVersion": 2, "ArtifactName": "a", "Results": [{"Vulnerabilities": [`,
			func(i int) string { return fmt.Sprintf(`{"VulnerabilityID": "C%d"}`, i) }, ",", "]}]}"), codeTooLarge},
		"too many statements": {VEX, fill(`{"@context": "https://openvex.dev/ns", "timestamp": "2026-01-01T00:00:00Z", "statements": [`,
			same(`{"vulnerability": "A", "status": "fixed", "products": ["a", "b"]}`), ",", "]}"), codeTooLarge},
		"too many members": {Scan, fill(`{"version": "2.1.0", "runs": [], "x": {`, func(i int) string { return fmt.Sprintf(`"%d":0`, i) }, ",", "}}"), codeTooLarge},
		"too many aliases": {VEX, []byte(`{"@context": "https://openvex.dev/ns", "timestamp": "2026-01-01T00:00:00Z", "statements": [{"vulnerability": {"aliases": [` +
			strings.TrimSuffix(strings.Repeat(`"a",`, MaxNamed+1), ",") + `]}}]}`), codeTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Read(c.kind, c.content, nil); refusal(t, err).Code != c.code {
				t.Error(err)
			}
		})
	}
}

func members(n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf(`"m%d":0`, i))
	}
	return strings.Join(list, ",")
}

func attributes(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `a%d="" `, i)
	}
	return b.String()
}

// large are documents as large as one may be, with as many entries as fit.
func large() map[string]struct {
	kind    Kind
	content func() []byte
	code    string // of the refusal; "": it is read
} {
	type doc = struct {
		kind    Kind
		content func() []byte
		code    string
	}
	run := `{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"a"}},"results":[`
	return map[string]doc{
		"JUnit": {Tests, func() []byte { return fill("<testsuite>", same("<testcase/>"), "", "</testsuite>") }, codeTooLarge},
		"JUnit, named": {Tests, func() []byte {
			return fill("<testsuite>", func(i int) string { return fmt.Sprintf(`<testcase classname="com.acme.Pay" name="t%d"/>`, i) }, "", "</testsuite>")
		}, ""},
		"JUnit, suites": {Tests, func() []byte { return fill("<testsuites>", same("<testsuite/>"), "", "</testsuites>") }, codeTooLarge},
		"JUnit, output": {Tests, func() []byte {
			return fill("<testsuite><testcase/><system-out>", same("some words of a log\n"), "", "</system-out></testsuite>")
		}, ""},
		"Cobertura": {Coverage, func() []byte {
			return fill(`<coverage><class filename="a"><lines>`, func(i int) string { return fmt.Sprintf(`<line number="%d" hits="1"/>`, i) }, "", "</lines></class></coverage>")
		}, ""},
		"LCOV": {Coverage, func() []byte {
			return fill("SF:a\n", func(i int) string { return fmt.Sprintf("DA:%d,1\n", i) }, "", "end_of_record\n")
		}, ""},
		"LCOV, records": {Coverage, func() []byte {
			return fill("", func(i int) string { return fmt.Sprintf("SF:%d\nDA:1,1\nend_of_record\n", i) }, "", "")
		}, ""},
		"Go": {Coverage, func() []byte {
			return fill("mode: set\n", func(i int) string { return fmt.Sprintf("a.go:%d.1,2.2 1 1\n", i) }, "", "")
		}, ""},
		"SARIF, a million": {Scan, func() []byte {
			return []byte(run + strings.TrimSuffix(strings.Repeat(`{"level":"note"},`, 950_000), ",") + "]}]}")
		}, ""},
		"SARIF, too many": {Scan, func() []byte {
			return []byte(run + strings.TrimSuffix(strings.Repeat("{},", MaxItems+1), ",") + "]}]}")
		}, codeTooLarge},
		"SARIF, located": {Scan, func() []byte {
			return fill(run, func(i int) string {
				return fmt.Sprintf(`{"ruleId":"R%d","level":"error","locations":[{"physicalLocation":{"artifactLocation":{"uri":"src/f%d.go"},"region":{"startLine":7}}}]}`, i, i)
			}, ",", "]}]}")
		}, ""},
		"SARIF, rules": {Scan, func() []byte {
			return fill(`{"version":"2.1.0","runs":[{"results":[],"tool":{"driver":{"name":"a","rules":[`, func(i int) string { return fmt.Sprintf(`{"id":"%d"}`, i) }, ",", "]}}}]}")
		}, codeTooLarge},
		"CycloneDX": {SBOM, func() []byte {
			return fill(`{"bomFormat":"CycloneDX","specVersion":"1.6","components":[`, func(i int) string { return fmt.Sprintf(`{"name":"c%d","version":"1","purl":"pkg:npm/c%d@1"}`, i, i) }, ",", "]}")
		}, ""},
		"CycloneDX, XML": {SBOM, func() []byte {
			return fill(`<bom xmlns="http://cyclonedx.org/schema/bom/1.6"><components>`, func(i int) string { return fmt.Sprintf(`<component><name>c%d</name></component>`, i) }, "", "</components></bom>")
		}, ""},
		"SPDX": {SBOM, func() []byte {
			return fill(`{"spdxVersion":"SPDX-2.3","packages":[`, func(i int) string { return fmt.Sprintf(`{"SPDXID":"p%d","name":"c","versionInfo":"1"}`, i) }, ",", "]}")
		}, ""},
		"Trivy, packages": {Vulnerabilities, func() []byte {
			return fill(`{"SchemaVersion":2,"ArtifactName":"a","Results":[{"Packages":[`, func(i int) string { return fmt.Sprintf(`{"ID":"p%d","Name":"p%d","Version":"1"}`, i, i) }, ",", "]}]}")
		}, ""},
		"Grype, details": {Vulnerabilities, func() []byte {
			return fill(`{"descriptor":{},"matches":[{"vulnerability":{"id":"A"},"artifact":{"name":"a"},"matchDetails":[`, same(`{"type":"exact-direct-match","found":{"versionConstraint":"x"}}`), ",", "]}]}")
		}, ""},
		"CSAF, branches": {VEX, func() []byte {
			return fill(`{"document":{"category":"csaf_vex","csaf_version":"2.0","tracking":{"current_release_date":"2026-01-01T00:00:00Z"}},"product_tree":{"branches":[`, func(i int) string { return fmt.Sprintf(`{"product":{"product_id":"%d"}}`, i) }, ",", "]}}")
		}, codeEmpty},
		"JSON, one long text": {Scan, func() []byte { return fill(`{"version":"2.1.0","runs":[],"x":"`, same("aaaaaaaaaaaaaaaa"), "", `"}`) }, codeEmpty},
		"JSON, escapes": {Scan, func() []byte {
			return fill(`{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"`, same(`\u00e9`), "", `"}}}]}`)
		}, ""},
	}
}

// TestLarge reads the largest documents in bounded memory: what is kept of all that
// is read never exceeds 128 MiB, whatever the garbage.
func TestLarge(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT TESTED under -short: documents of 16 MiB; neither make check nor CI is short")
	}
	for name, c := range large() {
		t.Run(name, func(t *testing.T) {
			const limit = 128 << 20
			content := c.content()
			var s Summary
			var err error
			peak := peakOf(func() { s, err = Read(c.kind, content, nil) })
			if c.code != "" {
				if refusal(t, err).Code != c.code {
					t.Error(err)
				}
			} else if err != nil {
				t.Error(err)
			} else if s.Scan != nil && name == "SARIF, a million" && s.Scan.Notes != 950_000 {
				t.Errorf("%d notes", s.Scan.Notes)
			}
			t.Logf("%d MiB read, %d MiB beside it at most", len(content)>>20, peak>>20)
			if peak > limit {
				t.Errorf("%d MiB of heap", peak>>20)
			}
		})
	}
}

// peakOf is how far the heap grew while f ran, with the collector at work as it is
// in a server that has little memory left.
func peakOf(f func()) uint64 {
	defer debug.SetGCPercent(debug.SetGCPercent(20))
	runtime.GC()
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(heap)
	before, peak, done := heap[0].Value.Uint64(), uint64(0), make(chan struct{})
	go func() { f(); close(done) }()
	for {
		metrics.Read(heap)
		peak = max(peak, heap[0].Value.Uint64())
		select {
		case <-done:
			return peak - min(peak, before)
		default:
			runtime.Gosched()
		}
	}
}

// TestJSONSuite reads the files of JSONTestSuite as a value in a document: what is
// not JSON is refused, what is JSON is not refused as broken, and nothing panics.
func TestJSONSuite(t *testing.T) {
	vector(t, "JSONTestSuite", "test_parsing", "n_array_comma_after_close.json")
	files, _ := filepath.Glob(filepath.Join(vectors, "JSONTestSuite", "test_parsing", "*.json"))
	if len(files) < 300 {
		t.Fatalf("only %d files", len(files))
	}
	for _, file := range files {
		name := filepath.Base(file)
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		whole := []byte(`{"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "a"}}, "results": []}], "x": ` + string(data) + `}`)
		_, err = Read(Scan, whole, nil)
		if err != nil {
			refusal(t, err)
		}
		twice := strings.Contains(name, "duplicated_key") // which RFC 8259 leaves open, and we refuse
		switch {
		case name[0] == 'n' && err == nil:
			t.Errorf("%s was read", name)
		case name[0] == 'y' && err != nil && !twice:
			t.Errorf("%s: %v", name, err)
		case name[0] == 'y' && err == nil && twice:
			t.Errorf("%s: a member twice was read", name)
		case name[0] == 'i' && !utf8.Valid(data) && err == nil:
			t.Errorf("%s: no UTF-8 was read", name)
		}
		if _, err := Read(Scan, data, nil); err == nil {
			t.Errorf("%s was read as SARIF", name)
		}
	}
}
