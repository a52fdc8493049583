package evidence

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// seeds are the documents of a kind in testdata.
func seeds(t testing.TB, kind Kind) [][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/read/" + string(kind) + "-*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no documents of %s: %v", kind, err)
	}
	var out [][]byte
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range a.Files {
			if f.Name != "want" {
				out = append(out, f.Data)
			}
		}
	}
	return out
}

// fuzzed reads any content twice: the same comes out, a refusal or a summary that
// keeps what evidence.go promises.
func fuzzed(f *testing.F, kind Kind, signers ...Signer) {
	for _, seed := range seeds(f, kind) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		before := bytes.Clone(content)
		s, err := Read(kind, content, signers)
		again, err2 := Read(kind, content, signers)
		if !bytes.Equal(content, before) {
			t.Fatal("the content was changed")
		}
		if !reflect.DeepEqual(s, again) || fmt.Sprint(err) != fmt.Sprint(err2) {
			t.Fatalf("not the same twice: %+v, %v and %+v, %v", s, err, again, err2)
		}
		if err != nil {
			refusal(t, err)
			return
		}
		if why := broken(kind, s); why != "" {
			t.Fatalf("%s: %+v", why, s)
		}
		if kind != Tests && kind != Coverage && json.Valid(content) && !once(content) {
			t.Fatal("a member that stands twice was read")
		}
	})
}

// broken says which promise of evidence.go a summary breaks.
func broken(kind Kind, s Summary) string {
	if s.Kind != kind || s.Format == "" || len(s.Tool) > MaxText || len(s.Subjects) > MaxSubjects {
		return "kind, format, tool or subjects"
	}
	set := 0
	for _, is := range []bool{s.Tests != nil, s.Coverage != nil, s.Scan != nil, s.SBOM != nil, s.Vulnerabilities != nil, len(s.Statements) > 0, s.Attestation != nil} {
		if is {
			set++
		}
	}
	if set != 1 {
		return "not exactly one is set"
	}
	switch {
	case s.Tests != nil:
		r := *s.Tests
		if r.Total < 1 || r.Total != r.Passed+r.Failed+r.Erred+r.Skipped || r.Suites < 1 || len(r.Broken) != min(MaxNamed, r.Failed+r.Erred) {
			return "the counts of tests"
		}
	case s.Coverage != nil:
		if s.Coverage.Lines < 1 || s.Coverage.Covered < 0 || s.Coverage.Covered > s.Coverage.Lines {
			return "the counts of lines"
		}
	case s.Scan != nil:
		if s.Scan.Runs < 1 || len(s.Scan.Worst) != min(MaxNamed, s.Scan.Errors) {
			return "the counts of results"
		}
	case s.SBOM != nil:
		b := *s.SBOM
		if b.Total < 1 || b.Identified > b.Total || b.Versioned > b.Total || b.Licensed > b.Total || len(b.Incomplete) > MaxNamed {
			return "the counts of components"
		}
	case s.Vulnerabilities != nil:
		for i, f := range s.Vulnerabilities.Findings {
			if f.ID == "" || f.Package == "" || f.Severity.rank() > 5 && f.Severity != Unknown || len(f.Aliases) > MaxNamed {
				return "a finding"
			}
			if i > 0 {
				g := s.Vulnerabilities.Findings[i-1]
				if g.ID > f.ID || g.ID == f.ID && g.Package >= f.Package {
					return "the order of findings"
				}
			}
		}
	}
	for _, st := range s.Statements {
		if st.ID == "" || len(st.Products) == 0 || st.Status == "" || st.Status == NotAffected && st.Reason == "" {
			return "a statement"
		}
	}
	if len(s.Statements) > MaxStatements {
		return "too many statements"
	}
	if a := s.Attestation; a != nil && (len(a.Signers) == 0 || len(s.Subjects) == 0 || len(a.Predicate) > MaxPredicate || !json.Valid(a.Predicate)) {
		return "an attestation"
	}
	return ""
}

// once says whether no object of valid JSON has a member twice, by the tokens of
// encoding/json: another way than the cursor's.
func once(content []byte) bool {
	dec := json.NewDecoder(bytes.NewReader(content))
	dec.UseNumber()
	type level struct {
		keys  map[string]bool // of an object
		value bool            // a value comes next, not a key
	}
	var open []level
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) || err != nil {
			return true
		}
		last := len(open) - 1
		if d, is := token.(json.Delim); is && (d == '}' || d == ']') {
			open = open[:last]
			continue
		}
		if last >= 0 && open[last].keys != nil {
			if key, is := token.(string); is && !open[last].value {
				if open[last].keys[key] {
					return false
				}
				open[last].keys[key] = true
			}
			open[last].value = !open[last].value
		}
		switch token {
		case json.Delim('{'):
			open = append(open, level{keys: map[string]bool{}})
		case json.Delim('['):
			open = append(open, level{})
		}
	}
}

func FuzzTests(f *testing.F)           { fuzzed(f, Tests) }
func FuzzCoverage(f *testing.F)        { fuzzed(f, Coverage) }
func FuzzScan(f *testing.F)            { fuzzed(f, Scan) }
func FuzzSBOM(f *testing.F)            { fuzzed(f, SBOM) }
func FuzzVulnerabilities(f *testing.F) { fuzzed(f, Vulnerabilities) }
func FuzzVEX(f *testing.F)             { fuzzed(f, VEX) }

// fuzzKey is a public key that nothing in the corpus is signed with.
const fuzzKey = `-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----`

func FuzzAttestation(f *testing.F) {
	f.Add(envelopeOf(statementType, provenanceV1, make([]byte, 64)))
	f.Add([]byte(`{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "verificationMaterial": {"publicKey": {"hint": "x"}, "tlogEntries": []}, "dsseEnvelope": {"payload": "e30=", "payloadType": "application/vnd.in-toto+json", "signatures": [{"sig": "AAAA"}]}}`))
	fuzzed(f, Attestation, Signer{Name: "ci", Key: fuzzKey})
}

// FuzzStatement reads any payload as if it were signed.
func FuzzStatement(f *testing.F) {
	f.Add([]byte(provenanceV1))
	f.Add(fmt.Appendf(nil, provenanceV02, ""))
	f.Fuzz(func(t *testing.T, payload []byte) {
		s, err := statement("dsse", statementType, payload, []SignedBy{{Signer: "ci"}})
		if err != nil {
			refusal(t, err)
			return
		}
		if s.Kind = Attestation; broken(Attestation, s) != "" {
			t.Fatalf("%+v", s)
		}
	})
}
