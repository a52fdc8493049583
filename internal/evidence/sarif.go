package evidence

import (
	"fmt"
	"strings"
)

// readSARIF reads SARIF 2.1.0.
func readSARIF(content []byte) (Summary, error) {
	const formats = "SARIF 2.1.0"
	if !isJSON(content) {
		return Summary{}, unknownFormat(Scan, "it is not JSON", formats)
	}
	c, err := newCursor(content)
	if err != nil {
		return Summary{}, err
	}
	members, err := c.members()
	if err != nil {
		return Summary{}, err
	}
	if _, runs := members["runs"]; !runs || members["version"] != "2.1.0" {
		return Summary{}, unknownFormat(Scan, fmt.Sprintf("its version is %q", members["version"]), formats)
	}
	s := &sarif{c: c}
	err = c.object(func(key string) error {
		switch key {
		case "runs":
			return c.array(s.run)
		case "inlineExternalProperties":
			return c.array(func() error { return c.fail(codeElsewhere, "Results in inlineExternalProperties are not read.") })
		}
		return nil
	})
	if err != nil {
		return Summary{}, err
	}
	if s.out.Runs == 0 {
		return Summary{}, refuse(codeEmpty, "The document has no run of a tool.")
	}
	return Summary{Format: "sarif-2.1.0", Tool: strings.Join(s.tools, ", "), Scan: &s.out}, nil
}

type sarif struct {
	c     *cursor
	out   ScanResults
	tools []string
	// Of the run that is read.
	levels     [][]string        // by component of the tool, the first its driver: default levels of rules
	components map[string]int    // by name
	byID       map[string]string // default level by the id of a rule of the driver
	rules      int
}

// maxRules bounds the rules of one run, which are kept while it is read.
const maxRules = 100_000

// run reads one run: its tool first, wherever it stands, because the levels of
// results come from the tool's rules (SARIF 2.1.0 §3.27.10).
func (s *sarif) run() error {
	c := s.c
	if c.peek() != '{' {
		return c.wrong("an object")
	}
	s.out.Runs++
	s.levels, s.components, s.byID, s.rules = nil, map[string]int{}, map[string]string{}, 0
	tool, results, invocations := -1, -1, -1
	err := c.object(func(key string) error {
		switch key {
		case "tool":
			tool = c.pos
		case "results":
			if !c.null() {
				results = c.pos
			}
		case "invocations":
			invocations = c.pos
		case "externalPropertyFileReferences":
			return c.object(func(key string) error {
				if key == "results" || key == "driver" || key == "invocations" {
					return c.fail(codeElsewhere, "The run's %s are in other files.", key)
				}
				return nil
			})
		}
		return nil
	})
	if err != nil {
		return err
	}
	if tool < 0 {
		return c.fail(codeUnreadable, "The run names no tool.")
	}
	if err := c.again(tool, "tool", s.tool); err != nil {
		return err
	}
	if invocations >= 0 {
		if err := c.again(invocations, "invocations", func() error { return c.array(s.invocation) }); err != nil {
			return err
		}
	}
	if results < 0 { // §3.14.23: the tool did not get as far as having results
		s.out.Incomplete = true
		return nil
	}
	return c.again(results, "results", func() error { return c.array(s.result) })
}

func (s *sarif) tool() error {
	name, version := "", ""
	driver, extensions := -1, -1
	err := s.c.object(func(key string) error {
		switch key {
		case "driver":
			driver = s.c.pos
		case "extensions":
			extensions = s.c.pos
		}
		return nil
	})
	if err != nil {
		return err
	}
	if driver < 0 {
		return s.c.fail(codeUnreadable, "The tool has no driver.")
	}
	if err := s.c.again(driver, "driver", func() error { return s.component(&name, &version) }); err != nil {
		return err
	}
	if name == "" {
		return s.c.fail(codeUnreadable, "The tool has no name.")
	}
	if len(s.tools) < MaxNamed {
		s.tools = append(s.tools, tool(name, version))
	}
	if extensions < 0 {
		return nil
	}
	return s.c.again(extensions, "extensions", func() error {
		return s.c.array(func() error { var n, v string; return s.component(&n, &v) })
	})
}

// component reads a driver or an extension: the default levels of its rules.
func (s *sarif) component(name, version *string) error {
	c, levels := s.c, []string(nil)
	driver := len(s.levels) == 0
	err := c.object(func(key string) error {
		switch key {
		case "name":
			return c.short(name)
		case "semanticVersion":
			return c.short(version)
		case "version":
			if *version == "" {
				return c.short(version)
			}
		case "rules":
			return c.array(func() error {
				id, level := "", "warning"
				if err := s.rule(&id, &level); err != nil {
					return err
				}
				if s.rules++; s.rules > maxRules {
					return c.fail(codeTooLarge, "The run has more than %d rules.", maxRules)
				}
				levels = append(levels, level)
				if _, twice := s.byID[id]; driver && !twice {
					s.byID[id] = level
				}
				return nil
			})
		}
		return nil
	})
	s.components[*name] = len(s.levels)
	s.levels = append(s.levels, levels)
	return err
}

func (s *sarif) rule(id, level *string) error {
	return s.c.object(func(key string) error {
		switch key {
		case "id":
			return s.c.short(id)
		case "defaultConfiguration":
			return s.c.object(func(key string) error {
				if key == "level" {
					return s.level(level)
				}
				return nil
			})
		}
		return nil
	})
}

func (s *sarif) level(level *string) error {
	if err := s.c.text(level); err != nil {
		return err
	}
	switch *level {
	case "error", "warning", "note", "none":
		*level = strings.Clone(*level)
		return nil
	}
	return s.c.fail(codeUnreadable, "There is no level %.40q.", *level)
}

func (s *sarif) invocation() error {
	good := false
	err := s.c.object(func(key string) error {
		if key == "executionSuccessful" {
			return s.c.truth(&good)
		}
		return nil
	})
	s.out.Incomplete = s.out.Incomplete || !good
	return err
}

// A result of SARIF, as far as it is read.
type result struct {
	level, kind, rule, baseline, file string
	index, component, line            int
	componentName                     string
	suppressed                        bool
}

func (s *sarif) result() error {
	c := s.c
	if err := c.item(); err != nil {
		return err
	}
	if c.peek() != '{' {
		return c.wrong("an object")
	}
	r := result{index: -1, component: -1, kind: "fail"}
	err := c.object(func(key string) error {
		switch key {
		case "level":
			return s.level(&r.level)
		case "kind":
			return s.kind(&r.kind)
		case "ruleId":
			return c.text(&r.rule)
		case "ruleIndex":
			return c.index(&r.index)
		case "rule":
			return s.reference(&r)
		case "baselineState":
			return c.text(&r.baseline)
		case "suppressions":
			return s.suppressions(&r.suppressed)
		case "locations":
			return s.locations(&r)
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.count(r)
	return nil
}

func (s *sarif) kind(kind *string) error {
	if err := s.c.text(kind); err != nil {
		return err
	}
	switch *kind {
	case "pass", "open", "informational", "notApplicable", "review", "fail":
		return nil
	}
	return s.c.fail(codeUnreadable, "There is no kind of result %.40q.", *kind)
}

func (s *sarif) reference(r *result) error {
	return s.c.object(func(key string) error {
		switch key {
		case "id":
			if r.rule == "" {
				return s.c.text(&r.rule)
			}
		case "index":
			return s.c.index(&r.index)
		case "toolComponent":
			return s.c.object(func(key string) error {
				switch key {
				case "index":
					return s.c.index(&r.component)
				case "name":
					return s.c.text(&r.componentName)
				}
				return nil
			})
		}
		return nil
	})
}

// suppressions: a result is suppressed by at least one, and only if none of them is
// rejected or still under review (§3.27.23, §3.35.3).
func (s *sarif) suppressions(suppressed *bool) error {
	open := false
	err := s.c.array(func() error {
		*suppressed = true
		return s.c.object(func(key string) error {
			if key != "status" {
				return nil
			}
			status := ""
			err := s.c.text(&status)
			open = open || status != "accepted" && status != ""
			return err
		})
	})
	*suppressed = *suppressed && !open
	return err
}

func (s *sarif) locations(r *result) error {
	c := s.c
	return c.array(func() error {
		return c.object(func(key string) error {
			if key != "physicalLocation" || r.file != "" {
				return nil
			}
			return c.object(func(key string) error {
				switch key {
				case "artifactLocation":
					return c.object(func(key string) error {
						if key == "uri" {
							return c.short(&r.file)
						}
						return nil
					})
				case "region":
					return c.object(func(key string) error {
						if key == "startLine" {
							return c.index(&r.line)
						}
						return nil
					})
				}
				return nil
			})
		})
	})
}

func (s *sarif) count(r result) {
	if r.baseline == "absent" { // was there in the baseline and is gone
		return
	}
	level := r.level
	switch {
	case level == "" && r.kind != "fail":
		return
	case level == "none" && r.kind != "fail":
		return
	case level == "":
		level = s.defaultLevel(r)
	}
	switch {
	case r.suppressed:
		s.out.Suppressed++
	case level == "error":
		s.out.Errors++
		if len(s.out.Worst) < MaxNamed {
			s.out.Worst = named(s.out.Worst, fmt.Sprintf("%s at %s:%d", r.rule, r.file, r.line))
		}
	case level == "warning":
		s.out.Warnings++
	default:
		s.out.Notes++
	}
}

// defaultLevel is what the rule of a result says, and warning where none does.
func (s *sarif) defaultLevel(r result) string {
	component := 0
	if at, known := s.components[r.componentName]; known && r.componentName != "" {
		component = at
	}
	if r.component >= 0 { // an index counts the extensions
		component = r.component + 1
	}
	if r.index >= 0 && component < len(s.levels) && r.index < len(s.levels[component]) {
		return s.levels[component][r.index]
	}
	if component != 0 {
		return "warning"
	}
	for id := r.rule; id != ""; { // the id of a result may be more exact than that of its rule (§3.27.5)
		if level, known := s.byID[id]; known {
			return level
		}
		slash := strings.LastIndexByte(id, '/')
		id = id[:max(slash, 0)]
	}
	return "warning"
}
