package evidence

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A modelSuite is a suite as the model draws it.
type modelSuite struct {
	cases  []string // what befell each: "", failure, error, skipped
	suites []modelSuite
}

func drawSuite(t *rapid.T, depth int) modelSuite {
	s := modelSuite{cases: rapid.SliceOfN(rapid.SampledFrom([]string{"", "failure", "error", "skipped"}), 0, 4).Draw(t, "cases")}
	if depth > 0 {
		for range rapid.IntRange(0, 2).Draw(t, "suites") {
			s.suites = append(s.suites, drawSuite(t, depth-1))
		}
	}
	return s
}

// counts are the cases by what befell them, with those of suites within.
func (s modelSuite) counts(within bool) map[string]int {
	n := map[string]int{}
	for _, c := range s.cases {
		n[c]++
		n["tests"]++
	}
	for _, o := range s.suites {
		for k, v := range o.counts(true) {
			if within {
				n[k] += v
			}
		}
	}
	return n
}

// write writes the suite with totals, of its own cases or with those within; add is
// added to the totals named by lie.
func (s modelSuite) write(b *strings.Builder, within bool, lie string) {
	n := s.counts(within)
	totals := map[string]int{"tests": n["tests"], "failures": n["failure"], "errors": n["error"], "skipped": n["skipped"]}
	if _, is := totals[lie]; is {
		totals[lie] += 100
	}
	fmt.Fprintf(b, `<testsuite name="s" tests="%d" failures="%d" errors="%d" skipped="%d">`, totals["tests"], totals["failures"], totals["errors"], totals["skipped"])
	for i, c := range s.cases {
		fmt.Fprintf(b, `<testcase name="c%d">`, i)
		if c != "" {
			fmt.Fprintf(b, `<%s message="&lt;&amp;">text</%s>`, c, c)
		}
		b.WriteString("</testcase>")
	}
	for _, o := range s.suites {
		o.write(b, within, "")
	}
	b.WriteString("</testsuite>")
}

func (s modelSuite) suitesCount() (with, empty int) {
	if len(s.cases) > 0 {
		with = 1
	}
	if s.counts(true)["tests"] == 0 {
		empty = 1
	}
	for _, o := range s.suites {
		w, e := o.suitesCount()
		with, empty = with+w, empty+e
	}
	return with, empty
}

// TestJUnitModel writes random trees of suites and reads their counts back; a tree
// whose totals lie is refused.
func TestJUnitModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tree := drawSuite(t, 3)
		n := tree.counts(true)
		var b strings.Builder
		lie := rapid.SampledFrom([]string{"", "", "tests", "failures", "errors", "skipped"}).Draw(t, "lie")
		tree.write(&b, rapid.Bool().Draw(t, "within"), lie)
		s, err := Read(Tests, []byte(b.String()), nil)
		switch {
		case lie != "":
			if err == nil {
				t.Fatalf("a lie about %s was read: %s", lie, b.String())
			}
		case n["tests"] == 0:
			if err == nil {
				t.Fatal("nothing was read as something")
			}
		case err != nil:
			t.Fatalf("%v: %s", err, b.String())
		default:
			with, empty := tree.suitesCount()
			want := TestResults{Suites: with, Total: n["tests"], Passed: n[""], Failed: n["failure"], Erred: n["error"], Skipped: n["skipped"], Empty: empty}
			got := *s.Tests
			got.Broken = nil
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("%+v, want %+v: %s", got, want, b.String())
			}
		}
	})
}

// TestCoverageModel writes the same random runs of lines in each format that counts
// lines, in pieces, and reads the same from all of them.
func TestCoverageModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type hit struct{ file, line, count int }
		hits := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) hit {
			return hit{rapid.IntRange(0, 3).Draw(t, "file"), rapid.IntRange(1, 6).Draw(t, "line"), rapid.IntRange(0, 2).Draw(t, "count")}
		}), 1, 20).Draw(t, "hits")
		run := map[[2]int]bool{}
		var lcov, golang, cobertura strings.Builder
		golang.WriteString("mode: count\n")
		for _, h := range hits {
			at := [2]int{h.file, h.line}
			run[at] = run[at] || h.count > 0
			fmt.Fprintf(&lcov, "SF:f%d\nDA:%d,%d\nend_of_record\n", h.file, h.line, h.count)
			fmt.Fprintf(&golang, "f%d.go:%d.1,%d.9 1 %d\n", h.file, h.line, h.line, h.count)
			fmt.Fprintf(&cobertura, `<class filename="f%d"><lines><line number="%d" hits="%d"/></lines></class>`, h.file, h.line, h.count)
		}
		want := Covered{Lines: int64(len(run))}
		for _, r := range run {
			if r {
				want.Covered++
			}
		}
		for _, doc := range []string{lcov.String(), golang.String(), "<coverage><classes>" + cobertura.String() + "</classes></coverage>"} {
			s, err := Read(Coverage, []byte(doc), nil)
			if err != nil || *s.Coverage != want {
				t.Fatalf("%+v, %v, want %+v of %s", s.Coverage, err, want, doc)
			}
		}
	})
}

// TestSARIFModel writes random results and counts them again.
func TestSARIFModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var want ScanResults
		want.Runs = 1
		var results []map[string]any
		for range rapid.IntRange(0, 30).Draw(t, "results") {
			level := rapid.SampledFrom([]string{"error", "warning", "note", "none"}).Draw(t, "level")
			r := map[string]any{"level": level, "message": map[string]any{"text": "x"}}
			gone := false
			if rapid.IntRange(0, 3).Draw(t, "baseline") == 0 {
				state := rapid.SampledFrom([]string{"new", "absent", "unchanged"}).Draw(t, "state")
				r["baselineState"], gone = state, state == "absent"
			}
			statuses := rapid.SliceOfN(rapid.SampledFrom([]string{"accepted", "underReview", "rejected"}), 0, 2).Draw(t, "suppressions")
			list := []any{}
			suppressed := len(statuses) > 0
			for _, s := range statuses {
				list = append(list, map[string]any{"kind": "external", "status": s})
				suppressed = suppressed && s == "accepted"
			}
			r["suppressions"] = list
			results = append(results, r)
			switch {
			case gone:
			case suppressed:
				want.Suppressed++
			case level == "error":
				want.Errors++
			case level == "warning":
				want.Warnings++
			default:
				want.Notes++
			}
		}
		if results == nil {
			results = []map[string]any{}
		}
		doc, _ := json.Marshal(map[string]any{"version": "2.1.0", "runs": []any{map[string]any{"results": results, "tool": map[string]any{"driver": map[string]any{"name": "a"}}}}})
		s, err := Read(Scan, doc, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := *s.Scan
		got.Worst = nil
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("%+v, want %+v of %s", got, want, doc)
		}
	})
}

// TestBOMModel writes random components as JSON and as XML, and reads the same
// counts from both.
func TestBOMModel(t *testing.T) {
	type bomXML struct {
		XMLName    xml.Name `xml:"http://cyclonedx.org/schema/bom/1.5 bom"`
		Components struct {
			List []modelComponent `xml:"component"`
		} `xml:"components"`
	}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SampledFrom([]string{"", "1.0", "ü<&>"})
		var list []modelComponent
		var want Components
		for i := range rapid.IntRange(1, 10).Draw(t, "components") {
			c := modelComponent{Type: "library", Name: fmt.Sprintf("c%d", i), Version: text.Draw(t, "version")}
			if rapid.Bool().Draw(t, "identified") {
				c.PURL = "pkg:npm/c"
				want.Identified++
			}
			if c.Version != "" {
				want.Versioned++
			}
			want.Total++
			list = append(list, c)
		}
		asJSON, _ := json.Marshal(map[string]any{"bomFormat": "CycloneDX", "specVersion": "1.5", "components": list})
		var b bomXML
		b.Components.List = list
		asXML, _ := xml.Marshal(b)
		for _, doc := range [][]byte{asJSON, asXML} {
			s, err := Read(SBOM, doc, nil)
			if err != nil {
				t.Fatal(err)
			}
			got := *s.SBOM
			got.Incomplete = nil
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("%+v, want %+v of %s", got, want, doc)
			}
		}
	})
}

type modelComponent struct {
	Type    string `json:"type" xml:"type,attr"`
	Name    string `json:"name" xml:"name"`
	Version string `json:"version,omitempty" xml:"version,omitempty"`
	PURL    string `json:"purl,omitempty" xml:"purl,omitempty"`
}

// TestOrderOfMembers reads each JSON document of testdata with its members in the
// order of their names: it says the same.
func TestOrderOfMembers(t *testing.T) {
	tried := 0
	for _, kind := range []Kind{Scan, SBOM, Vulnerabilities, VEX} {
		for _, doc := range seeds(t, kind) {
			want, err := Read(kind, doc, nil)
			var tree any
			if err != nil || json.Unmarshal(doc, &tree) != nil {
				continue
			}
			tried++
			sorted, _ := json.Marshal(tree)
			got, err := Read(kind, sorted, nil)
			if a, b := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); err != nil || marshal(got) != marshal(want) {
				t.Errorf("%v\n%s\n%s\n%s", err, sorted, a, b)
			}
			if _, err := Read(kind, append([]byte("\xef\xbb\xbf"), bytes.TrimSpace(doc)...), nil); err != nil {
				t.Errorf("with a byte order mark: %v", err)
			}
		}
	}
	if tried < 15 {
		t.Errorf("only %d documents were tried", tried)
	}
}

func marshal(s Summary) string {
	out, _ := json.Marshal(s)
	return string(out)
}

func BenchmarkRead(b *testing.B) {
	for name, c := range large() {
		if c.code != "" {
			continue
		}
		b.Run(strings.ReplaceAll(name, " ", "_"), func(b *testing.B) {
			content := c.content()
			b.SetBytes(int64(len(content)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Read(c.kind, content, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAttestation(b *testing.B) {
	good := vector(b, "sigstore", "happy-path-intoto-in-dsse-v3", "bundle.sigstore.json")
	signer := conformance
	signer.Root = vector(b, "sigstore", "trusted-root-public-good.json")
	for b.Loop() {
		if _, err := Read(Attestation, good, []Signer{signer}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	var report Report
	var said []Statement
	for i := range MaxFindings {
		id := fmt.Sprintf("CVE-%d", i)
		report.Findings = append(report.Findings, Finding{ID: id, Package: fmt.Sprintf("pkg:npm/p%d@1", i)})
		said = append(said, Statement{ID: id, Products: []string{string(digestA)}, Status: NotAffected, Reason: "r"})
	}
	for b.Loop() {
		if len(Open(report, said, nil)) != MaxFindings {
			b.Fatal("closed")
		}
	}
}

// A report of few findings beside many statements of other vulnerabilities.
func BenchmarkOpenAmongMany(b *testing.B) {
	var report Report
	var said []Statement
	for i := range 100 * MaxFindings {
		id := fmt.Sprintf("CVE-%d", i)
		if i < 100 {
			report.Findings = append(report.Findings, Finding{ID: id, Package: fmt.Sprintf("pkg:npm/p%d@1", i)})
		}
		said = append(said, Statement{ID: id, Products: []string{string(digestA)}, Status: NotAffected, Reason: "r"})
	}
	for b.Loop() {
		if len(Open(report, said, nil)) != 100 {
			b.Fatal("closed")
		}
	}
}
