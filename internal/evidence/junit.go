package evidence

import (
	"encoding/xml"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
)

// readTests reads JUnit XML as Surefire, Gradle, pytest, gotestsum, Jest and
// GoogleTest write it.
func readTests(content []byte) (Summary, error) {
	const formats = "JUnit XML (testsuites or testsuite)"
	if !isXML(content) {
		return Summary{}, unknownFormat(Tests, "it is not XML", formats)
	}
	root, err := rootOf(content)
	if err != nil {
		return Summary{}, err
	}
	if root.Space != "" || root.Local != "testsuites" && root.Local != "testsuite" {
		return Summary{}, unknownFormat(Tests, "its root is "+clip(root.Local), formats)
	}
	j := &junit{}
	if err := newWalker(content).walk(j); err != nil {
		return Summary{}, err
	}
	if j.out.Total == 0 {
		return Summary{}, refuse(codeEmpty, "The document has no test case.").WithNext("Bring the results of tests that ran.")
	}
	return Summary{Format: "junit", Made: j.made, Tests: &j.out}, nil
}

// tally counts cases as the totals of a suite do. A case may hold a failure and an
// error; totals count it under either or under both.
type tally struct {
	tests, failed, erred, skipped, both int64
}

func (t *tally) add(o tally) {
	t.tests += o.tests
	t.failed += o.failed
	t.erred += o.erred
	t.skipped += o.skipped
	t.both += o.both
}

// A suite that is open: its own cases, and those of suites within too.
type suite struct {
	own, all tally
	totals   [5]int64 // tests, failures, errors, skipped, disabled, as the suite says; -1: it does not
}

type junit struct {
	out    TestResults
	made   lockkeeper.Moment
	suites []suite // that are open; the first may be testsuites
	inCase bool
	fate   tally // of the open case
	name   string
}

func (j *junit) start(x *walker, e xml.StartElement) error {
	name, parent := e.Name.Local, x.parent()
	switch name {
	case "testsuites", "testsuite":
		if len(x.path) > 1 && (name == "testsuites" || parent != "testsuites" && parent != "testsuite") {
			return x.fail(codeUnreadable, "A %s stands in a %.60s.", name, parent)
		}
		return j.suite(x, e)
	case "testcase":
		if parent != "testsuite" {
			return x.fail(codeUnreadable, "A test case stands in a %.60s, not in a testsuite.", parent)
		}
		j.testcase(e)
		return x.item()
	}
	if j.inCase && parent == "testcase" {
		switch name {
		case "failure":
			j.fate.failed = 1
		case "error":
			j.fate.erred = 1
		case "skipped":
			j.fate.skipped = 1
		}
	} else if name == "failure" || name == "error" || name == "skipped" {
		return x.fail(codeUnreadable, "A %s stands in a %.60s, not in a testcase.", name, parent)
	}
	return nil
}

func (j *junit) suite(x *walker, e xml.StartElement) error {
	if err := x.item(); err != nil {
		return err
	}
	s := suite{}
	for i, name := range []string{"tests", "failures", "errors", "skipped", "disabled"} {
		n, err := x.count(e, name)
		if err != nil {
			return err
		}
		s.totals[i] = n
	}
	if at, _ := attr(e, "timestamp"); at != "" {
		// The earliest counts: a document is as old as the oldest of its results.
		if m := moment(at); !m.IsZero() && (j.made.IsZero() || m.Before(j.made)) {
			j.made = m
		}
	}
	j.suites = append(j.suites, s)
	return nil
}

func (j *junit) testcase(e xml.StartElement) {
	class, _ := attr(e, "classname")
	name, _ := attr(e, "name")
	j.inCase, j.fate, j.name = true, tally{tests: 1}, strings.TrimPrefix(class+"."+name, ".")
	// GoogleTest says in attributes what did not run.
	status, _ := attr(e, "status")
	result, _ := attr(e, "result")
	if status == "notrun" || status == "skipped" || status == "disabled" || result == "suppressed" || result == "skipped" {
		j.fate.skipped = 1
	}
}

func (j *junit) end(x *walker, name string) error {
	switch name {
	case "testcase":
		j.inCase = false
		j.count()
	case "testsuite", "testsuites":
		last := len(j.suites) - 1
		s := j.suites[last]
		j.suites = j.suites[:last]
		if err := s.check(x); err != nil {
			return err
		}
		if last > 0 {
			j.suites[last-1].all.add(s.all)
		}
		if name == "testsuite" && s.own.tests > 0 {
			j.out.Suites++
		}
		if name == "testsuite" && s.all.tests == 0 {
			j.out.Empty++
		}
	}
	return nil
}

// count takes the open case as what is worst of it.
func (j *junit) count() {
	f := &j.fate
	j.out.Total++
	switch {
	case f.erred > 0:
		j.out.Erred++
		f.both, f.skipped = f.failed, 0
	case f.failed > 0:
		j.out.Failed++
		f.skipped = 0
	case f.skipped > 0:
		j.out.Skipped++
	default:
		j.out.Passed++
	}
	if f.erred > 0 || f.failed > 0 {
		j.out.Broken = named(j.out.Broken, j.name)
	}
	s := &j.suites[len(j.suites)-1]
	s.own.add(*f)
	s.all.add(*f)
}

// check refuses a suite whose totals are neither those of its own cases nor those
// with the suites within.
func (s suite) check(x *walker) error {
	says := s.totals
	fits := func(what string, n int64, may ...int64) error {
		if n < 0 || slices.Contains(may, n) {
			return nil
		}
		return x.fail(codeContradictory, "The suite says that it has %d %s, but its cases have %d.", n, what, may[len(may)-1])
	}
	skipped := []int64{s.own.skipped, s.all.skipped}
	if says[4] > 0 { // some count what is disabled under skipped too, and some apart
		skipped = append([]int64{s.own.skipped - says[4], s.all.skipped - says[4]}, skipped...)
	}
	for _, err := range []error{
		fits("tests", says[0], s.own.tests, s.all.tests),
		fits("failures", says[1], s.own.failed-s.own.both, s.all.failed-s.all.both, s.own.failed, s.all.failed),
		fits("errors", says[2], s.own.erred-s.own.both, s.all.erred-s.all.both, s.own.erred, s.all.erred),
		fits("skipped", says[3], skipped...),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

func (j *junit) text(*walker, []byte) error { return nil }
