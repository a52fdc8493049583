package gate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// demands judges what a production environment must have. A waiver counts up to
// its end, and not while its end lies further ahead than any may.
func demands(f Facts, now lockkeeper.Moment) []lockkeeper.Decision {
	if f.Environment.Tier != catalog.Production {
		return nil
	}
	var out []lockkeeper.Decision
	for _, demand := range catalog.DemandsOf(f.Ask.Action) {
		if !f.Environment.Meets(demand) {
			out = append(out, waived(f, demand, now))
		}
	}
	return out
}

func waived(f Facts, demand catalog.Demand, now lockkeeper.Moment) lockkeeper.Decision {
	d := lockkeeper.Decision{Subject: "demand " + string(demand), Verdict: lockkeeper.Fail, Code: "demand_unmet",
		Sentence: fmt.Sprintf("%s is of tier production, has no %s, and nobody waives it now.", f.Environment.Name, demand),
		Next:     "Add the check to the environment, or a waiver with an owner and an end."}
	furthest := now.Add(catalog.LongestWaiver)
	for _, w := range f.Environment.Waivers {
		switch {
		case w.Demand != demand || !now.Before(w.Until):
		case furthest.Before(w.Until):
			if d.Verdict != lockkeeper.Pass {
				d.Code = "waiver_too_long"
				d.Sentence = fmt.Sprintf("%s waives %s for %s until %s, and a waiver may end %d days ahead at most.", w.Owner, demand, f.Environment.Name, w.Until, int(catalog.LongestWaiver.Hours()/24))
				d.Next = fmt.Sprintf("Add the check to the environment, or set the waiver's end to %s or sooner.", furthest)
			}
		case d.Until == nil || d.Until.Before(w.Until):
			until := w.Until
			d.Verdict, d.Code, d.Next, d.Until = lockkeeper.Pass, "demand_waived", "", &until
			d.Sentence = fmt.Sprintf("%s waives %s until %s: %s", w.Owner, demand, w.Until, w.Reason)
		}
	}
	return d
}

// static judges what the ask itself says: it holds or fails for good.
func static(f Facts) []lockkeeper.Decision {
	var out []lockkeeper.Decision
	for _, c := range f.Environment.Checks {
		switch {
		case c.Branches != nil:
			out = append(out, branches(f, c))
		case c.Template != nil:
			out = append(out, template(f, c))
		case c.Expression != nil:
			out = append(out, expression(f, c))
		}
	}
	return out
}

// unasked says which checks are not asked, and why.
func unasked(f Facts) []lockkeeper.Decision {
	var out []lockkeeper.Decision
	for _, c := range f.Unasked {
		out = append(out, passed(c, "check_not_asked", "It is asked only where %s, which is not so of this ask.", clip(c.When)))
	}
	return out
}

func failed(c catalog.Check, code, sentence, next string) lockkeeper.Decision {
	return lockkeeper.Decision{Subject: "check " + c.Name, Verdict: lockkeeper.Fail, Code: code, Sentence: sentence, Next: next}
}

func passed(c catalog.Check, code, format string, args ...any) lockkeeper.Decision {
	return lockkeeper.Decision{Subject: "check " + c.Name, Verdict: lockkeeper.Pass, Code: code, Sentence: fmt.Sprintf(format, args...)}
}

// branches passes for a ref that a pattern admits and, where that is asked for,
// that the platform says is protected. Unknown is no.
func branches(f Facts, c catalog.Check) lockkeeper.Decision {
	b := c.Branches
	if !slices.ContainsFunc(b.Allowed, func(p string) bool { return refMatches(p, f.Ask.Ref) }) {
		return failed(c, "branch_not_allowed", fmt.Sprintf("The ref %q may not be deployed to %s.", f.Ask.Ref, f.Environment.Name),
			"Deploy from one of: "+strings.Join(b.Allowed, ", ")+".")
	}
	if b.Protected && f.Ask.Protected != lockkeeper.RefIsProtected {
		sentence := fmt.Sprintf("The platform says that %s is not protected.", f.Ask.Ref)
		if f.Ask.Protected == "" {
			sentence = fmt.Sprintf("The platform does not say whether %s is protected, and unknown is no.", f.Ask.Ref)
		}
		return failed(c, "branch_not_protected", sentence, "Protect the branch on the platform, and run again.")
	}
	return passed(c, "branch_allowed", "%s may be deployed to %s.", f.Ask.Ref, f.Environment.Name)
}

// refMatches matches a whole ref. A * stands for any text without a slash; no
// other character is special.
func refMatches(pattern, ref string) bool {
	p, r := strings.Split(pattern, "/"), strings.Split(ref, "/")
	if len(p) != len(r) {
		return false
	}
	for i := range p {
		if !partMatches(p[i], r[i]) {
			return false
		}
	}
	return true
}

func partMatches(pattern, s string) bool {
	pieces := strings.Split(pattern, "*")
	if len(pieces) == 1 {
		return pattern == s
	}
	first, last := pieces[0], pieces[len(pieces)-1]
	if len(s) < len(first)+len(last) || !strings.HasPrefix(s, first) || !strings.HasSuffix(s, last) {
		return false
	}
	s = s[len(first) : len(s)-len(last)]
	for _, piece := range pieces[1 : len(pieces)-1] {
		i := strings.Index(s, piece)
		if i < 0 {
			return false
		}
		s = s[i+len(piece):]
	}
	return true
}

// template passes for a job that runs in an admitted reusable definition, at an
// admitted ref or commit.
func template(f Facts, c catalog.Check) lockkeeper.Decision {
	got := f.Ask.Template
	var names []string
	for _, t := range c.Template.Allowed {
		names = append(names, t.Path)
		if t.Path != got.Path || got.Path == "" {
			continue
		}
		if got.Ref != "" && slices.Contains(t.Refs, got.Ref) || got.Commit != "" && slices.Contains(t.Commits, got.Commit) {
			return passed(c, "template_admitted", "The job runs in %s at %s.", got.Path, firstOf(got.Ref, got.Commit))
		}
	}
	next := "Let the job run in one of: " + strings.Join(names, ", ") + "."
	switch {
	case got.Path == "":
		return failed(c, "template_missing", "The job runs in no reusable definition, or the platform does not say in which.", next)
	case slices.Contains(names, got.Path):
		return failed(c, "template_not_pinned", fmt.Sprintf("The job runs in %s at %s, which is not an admitted ref or commit.", got.Path, firstOf(got.Ref, got.Commit)), "Call it at a ref or commit that the check admits.")
	}
	return failed(c, "template_not_admitted", fmt.Sprintf("The job runs in %s.", got.Path), next)
}

func firstOf(s ...string) string {
	for _, one := range s {
		if one != "" {
			return one
		}
	}
	return "an unknown ref"
}

// expression passes when the expression is true. What cannot be judged is an
// error, which passes nothing.
func expression(f Facts, c catalog.Check) lockkeeper.Decision {
	rule, next := c.Expression.Rule, c.Expression.Message
	if next == "" {
		next = "Change what is asked for so that the expression holds."
	}
	broken := func(err error) lockkeeper.Decision {
		return lockkeeper.Decision{Subject: "check " + c.Name, Verdict: lockkeeper.Error, Code: "expression_error",
			Sentence: fmt.Sprintf("The expression %s cannot be judged for this ask: %v.", clip(rule), err), Next: next}
	}
	if f.Holds == nil {
		return broken(fmt.Errorf("nothing evaluates it"))
	}
	holds, err := f.Holds(rule, f.Ask)
	switch {
	case err != nil:
		return broken(err)
	case !holds:
		return failed(c, "expression_false", fmt.Sprintf("The expression %s is not true of this ask.", clip(rule)), next)
	}
	return passed(c, "expression_true", "The expression %s is true of this ask.", clip(rule))
}

func clip(s string) string {
	if len(s) > 160 {
		s = strings.ToValidUTF8(s[:160], "") + "…"
	}
	return fmt.Sprintf("%q", s)
}
