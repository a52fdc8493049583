package evidence

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lockkeeper/lockkeeper"
)

var (
	digestA = lockkeeper.DigestOf([]byte("a"))
	digestB = lockkeeper.DigestOf([]byte("b"))
)

func at(day int) lockkeeper.Moment {
	return lockkeeper.MomentOf(time.Date(2026, 1, day, 0, 0, 0, 0, time.UTC))
}

// TestOpen says of single cases whether a finding stays open.
func TestOpen(t *testing.T) {
	finding := Finding{ID: "CVE-1", Aliases: []string{"GHSA-1"}, Package: "pkg:npm/left-pad@1.0.0?arch=amd64", Severity: High}
	not := Statement{ID: "CVE-1", Products: []string{string(digestA)}, Status: NotAffected, Reason: "because", At: at(2)}
	with := func(change func(*Statement)) Statement { s := not; change(&s); return s }
	oci := "pkg:oci/pay@" + strings.ReplaceAll(string(digestA), ":", "%3A") + "?repository_url=ghcr.io/acme"
	for name, c := range map[string]struct {
		said []Statement
		own  Finding // status, reason and time of the report's own analysis
		open bool
	}{
		"nothing is said":                {nil, Finding{}, true},
		"not affected":                   {[]Statement{not}, Finding{}, false},
		"not affected without a reason":  {[]Statement{with(func(s *Statement) { s.Reason = "" })}, Finding{}, true},
		"fixed":                          {[]Statement{with(func(s *Statement) { s.Status, s.Reason = FixedStatus, "" })}, Finding{}, false},
		"affected":                       {[]Statement{with(func(s *Statement) { s.Status = Affected })}, Finding{}, true},
		"under investigation":            {[]Statement{with(func(s *Statement) { s.Status = UnderInvestigation })}, Finding{}, true},
		"no status":                      {[]Statement{with(func(s *Statement) { s.Status = "" })}, Finding{}, true},
		"another vulnerability":          {[]Statement{with(func(s *Statement) { s.ID = "CVE-2" })}, Finding{}, true},
		"an alias of the finding":        {[]Statement{with(func(s *Statement) { s.ID = "GHSA-1" })}, Finding{}, false},
		"an alias on both sides":         {[]Statement{with(func(s *Statement) { s.ID, s.Aliases = "X", []string{"ghsa-1"} })}, Finding{}, false},
		"another product":                {[]Statement{with(func(s *Statement) { s.Products = []string{string(digestB)} })}, Finding{}, true},
		"the image by purl":              {[]Statement{with(func(s *Statement) { s.Products = []string{oci} })}, Finding{}, false},
		"an image without a digest":      {[]Statement{with(func(s *Statement) { s.Products = []string{"pkg:oci/pay"} })}, Finding{}, true},
		"the package in the product":     {[]Statement{with(func(s *Statement) { s.Subcomponents = []string{"pkg:npm/left-pad@1.0.0"} })}, Finding{}, false},
		"another package in the product": {[]Statement{with(func(s *Statement) { s.Subcomponents = []string{"pkg:npm/right-pad"} })}, Finding{}, true},
		"the package in another product": {[]Statement{with(func(s *Statement) {
			s.Products, s.Subcomponents = []string{string(digestB)}, []string{"pkg:npm/left-pad"}
		})}, Finding{}, true},
		"a subcomponent that is no purl":      {[]Statement{with(func(s *Statement) { s.Subcomponents = []string{"left-pad"} })}, Finding{}, true},
		"the package alone":                   {[]Statement{with(func(s *Statement) { s.Products = []string{"pkg:npm/left-pad@1.0.0"} })}, Finding{}, false},
		"the package, any version":            {[]Statement{with(func(s *Statement) { s.Products = []string{"pkg:npm/left-pad"} })}, Finding{}, false},
		"the package, another version":        {[]Statement{with(func(s *Statement) { s.Products = []string{"pkg:npm/left-pad@1.0.1"} })}, Finding{}, true},
		"the package, its qualifier":          {[]Statement{with(func(s *Statement) { s.Products = []string{"pkg:npm/left-pad?arch=amd64"} })}, Finding{}, false},
		"the package, another qualifier":      {[]Statement{with(func(s *Statement) { s.Products = []string{"pkg:npm/left-pad?arch=arm64"} })}, Finding{}, true},
		"the package, one qualifier too many": {[]Statement{with(func(s *Statement) { s.Products = []string{"pkg:npm/left-pad?arch=amd64&os=linux"} })}, Finding{}, true},
		"another type":                        {[]Statement{with(func(s *Statement) { s.Products = []string{"pkg:pypi/left-pad@1.0.0"} })}, Finding{}, true},
		"the package as a product with parts": {[]Statement{with(func(s *Statement) {
			s.Products, s.Subcomponents = []string{"pkg:npm/left-pad"}, []string{"pkg:npm/left-pad"}
		})}, Finding{}, true},
		"later affected":              {[]Statement{not, with(func(s *Statement) { s.Status, s.At = Affected, at(3) })}, Finding{}, true},
		"earlier affected":            {[]Statement{with(func(s *Statement) { s.Status, s.At = Affected, at(1) }), not}, Finding{}, false},
		"affected at the same time":   {[]Statement{not, with(func(s *Statement) { s.Status = Affected })}, Finding{}, true},
		"affected without a time":     {[]Statement{not, with(func(s *Statement) { s.Status, s.At = Affected, lockkeeper.Moment{} })}, Finding{}, true},
		"not affected without a time": {[]Statement{with(func(s *Statement) { s.At = lockkeeper.Moment{} })}, Finding{}, false},
		"own: not affected":           {nil, Finding{Status: NotAffected, Reason: "x"}, false},
		"own: no reason":              {nil, Finding{Status: NotAffected}, true},
		"own: affected, no time":      {[]Statement{not}, Finding{Status: Affected}, true},
		"own: affected, before":       {[]Statement{not}, Finding{Status: Affected, At: at(1)}, false},
		"own: affected, after":        {[]Statement{not}, Finding{Status: Affected, At: at(3)}, true},
		"own: fixed, later affected":  {[]Statement{with(func(s *Statement) { s.Status, s.At = Affected, at(3) })}, Finding{Status: FixedStatus, At: at(2)}, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := finding
			f.Status, f.Reason, f.At = c.own.Status, c.own.Reason, c.own.At
			if left := Open(Report{Findings: []Finding{f}}, c.said, []lockkeeper.Digest{digestA}); (len(left) == 1) != c.open {
				t.Errorf("open is %v, want %t", left, c.open)
			}
		})
	}
	if left := Open(Report{Findings: []Finding{finding}}, []Statement{not}, nil); len(left) != 1 {
		t.Error("without a product a statement about one closed a finding")
	}
}

// TestOpenModel compares Open with a model that looks at every pair.
func TestOpenModel(t *testing.T) {
	packages := []string{"pkg:npm/a@1", "pkg:npm/a@2", "pkg:npm/b@1?arch=x", "bash@5"}
	ids := []string{"CVE-1", "CVE-2", "GHSA-1", "GHSA-2"}
	names := []string{string(digestA), string(digestB), "pkg:npm/a", "pkg:npm/a@1", "pkg:npm/b?arch=x", "pkg:npm/b?arch=y", "bash@5"}
	// What each name of a package covers, written down by hand.
	covers := map[string][]string{"pkg:npm/a": {"pkg:npm/a@1", "pkg:npm/a@2"}, "pkg:npm/a@1": {"pkg:npm/a@1"}, "pkg:npm/b?arch=x": {"pkg:npm/b@1?arch=x"}}
	statuses := []Status{NotAffected, Affected, FixedStatus, UnderInvestigation}
	has := func(list []string, s string) bool {
		return strings.Contains("\n"+strings.Join(list, "\n")+"\n", "\n"+s+"\n")
	}
	rapid.Check(t, func(t *rapid.T) {
		aliases := rapid.SliceOfNDistinct(rapid.SampledFrom(ids), 0, 2, rapid.ID)
		moments := rapid.Map(rapid.IntRange(0, 3), func(day int) lockkeeper.Moment {
			if day == 0 {
				return lockkeeper.Moment{}
			}
			return at(day)
		})
		var said []Statement
		for range rapid.IntRange(0, 6).Draw(t, "statements") {
			said = append(said, Statement{
				ID: rapid.SampledFrom(ids).Draw(t, "id"), Aliases: aliases.Draw(t, "aliases"),
				Products:      rapid.SliceOfNDistinct(rapid.SampledFrom(names), 1, 2, rapid.ID).Draw(t, "products"),
				Subcomponents: rapid.SliceOfNDistinct(rapid.SampledFrom(names[2:]), 0, 1, rapid.ID).Draw(t, "subcomponents"),
				Status:        rapid.SampledFrom(statuses).Draw(t, "status"), Reason: rapid.SampledFrom([]string{"", "r"}).Draw(t, "reason"), At: moments.Draw(t, "at"),
			})
		}
		var report Report
		for i := range rapid.IntRange(0, 4).Draw(t, "findings") {
			f := Finding{ID: rapid.SampledFrom(ids).Draw(t, "id"), Aliases: aliases.Draw(t, "aliases"), Package: rapid.SampledFrom(packages).Draw(t, "package"), Fixed: []string{fmt.Sprint(i)}}
			if rapid.Bool().Draw(t, "analysed") {
				f.Status, f.At = rapid.SampledFrom(statuses).Draw(t, "own status"), moments.Draw(t, "own at")
			}
			report.Findings = append(report.Findings, f)
		}
		closes := func(f Finding) bool {
			all := []Statement{}
			if f.Status != "" {
				all = append(all, Statement{Status: f.Status, Reason: f.Reason, At: f.At})
			}
			for _, s := range said {
				same, product, whole, part := false, false, false, false
				for _, a := range append([]string{s.ID}, s.Aliases...) {
					same = same || has(append([]string{f.ID}, f.Aliases...), a)
				}
				for _, p := range s.Products {
					product = product || p == string(digestA)
					whole = whole || has(covers[p], f.Package)
				}
				for _, p := range s.Subcomponents {
					part = part || has(covers[p], f.Package)
				}
				if same && (product && (len(s.Subcomponents) == 0 || part) || whole && len(s.Subcomponents) == 0) {
					all = append(all, s)
				}
			}
			counted, good := 0, true
			for _, s := range all {
				superseded := false
				for _, o := range all {
					superseded = superseded || !s.At.IsZero() && s.At.Before(o.At)
				}
				if !superseded {
					counted++
					good = good && (s.Status == FixedStatus || s.Status == NotAffected && s.Reason != "")
				}
			}
			return counted > 0 && good
		}
		left := map[string]bool{}
		for _, f := range Open(report, said, []lockkeeper.Digest{digestA}) {
			left[f.Fixed[0]] = true
		}
		for _, f := range report.Findings {
			if left[f.Fixed[0]] == closes(f) {
				t.Fatalf("finding %+v, said %+v: open is %t", f, said, left[f.Fixed[0]])
			}
		}
	})
}

func TestSeverities(t *testing.T) {
	order := []Severity{Negligible, Low, Medium, High, Critical, Unknown}
	for i, a := range order {
		for j, b := range order {
			if a.AtLeast(b) != (i >= j) {
				t.Errorf("%s at least %s: %t", a, b, a.AtLeast(b))
			}
		}
	}
	if !Severity("").AtLeast(Critical) || !Severity("odd").AtLeast(Critical) {
		t.Error("what is no severity must be as bad as unknown")
	}
	for score, want := range map[float64]Severity{0: Negligible, 0.1: Low, 3.9: Low, 4: Medium, 6.9: Medium, 7: High, 8.9: High, 9: Critical, 10: Critical, 10.1: Unknown, -1: Unknown} {
		if got := severityOfScore(score); got != want {
			t.Errorf("%v is %s, want %s", score, got, want)
		}
	}
	for _, c := range [][3]Severity{{"", Low, Low}, {Unknown, Low, Low}, {Low, Unknown, Low}, {Low, High, High}, {High, Low, High}, {"", Unknown, Unknown}} {
		if got := worse(c[0], c[1]); got != c[2] {
			t.Errorf("worse of %q and %q is %q", c[0], c[1], got)
		}
	}
}

func TestPackageURLs(t *testing.T) {
	for s, want := range map[string]string{
		"pkg:npm/%40angular/core@1.0.0":        "npm @angular/core 1.0.0",
		"pkg:npm/@angular/core":                "npm @angular/core ",
		"pkg:PyPI/My_Package@1":                "pypi my-package 1",
		"pkg:golang/github.com/A/b@v1#sub/x":   "golang github.com/A/b v1",
		"pkg:deb/debian/zlib@1:2%2B1?arch=x":   "deb debian/zlib 1:2+1",
		"pkg://npm/a@1":                        "npm a 1",
		"pkg:npm/":                             "",
		"pkg:npm":                              "",
		"npm/a@1":                              "",
		"pkg:npm/a%zz":                         "",
		"pkg:npm/" + strings.Repeat("a", 5000): "",
	} {
		p, ok := parsePURL(s)
		got := ""
		if ok {
			got = p.kind + " " + p.name + " " + p.version
		}
		if got != want {
			t.Errorf("%.60s is %q, want %q", s, got, want)
		}
	}
}
