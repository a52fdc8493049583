package catalog

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// Bounds of checks.
const (
	maxWindows   = 32
	maxExcept    = 400
	maxPatterns  = 64
	maxTemplates = 32
	maxWaivers   = 8
	leastBeat    = 10 * time.Second
)

func (v *rules) environment(r *resource, e *Environment) {
	if e.Tier != Production && e.Tier != Preproduction && e.Tier != Development {
		tiers := []string{string(Production), string(Preproduction), string(Development)}
		v.add(r, "tier", "tier_unknown", "The tier is "+name(string(e.Tier))+", and must be one of "+strings.Join(tiers, ", ")+".", v.problems.suggest(string(e.Tier), tiers, "Say how much the environment matters."))
	}
	v.within(r, "lease", e.Lease, time.Second, maxLease)
	v.within(r, "heartbeat", e.Heartbeat, leastBeat, time.Hour)
	v.within(r, "patience", e.Patience, time.Second, maxPatience)
	v.within(r, "coolingOff", e.CoolingOff, time.Minute, LongestCoolingOff)
	v.within(r, "recordAge", e.RecordAge, time.Minute, maxRecordAge)
	if len(e.Checks) > maxChecks {
		v.bounded(r, "checks", len(e.Checks), maxChecks)
	}
	first := map[string]bool{}
	locks := 0
	for i, check := range e.Checks {
		at := fmt.Sprintf("checks[%d]", i)
		if err := lockkeeper.CheckName(check.Name); err != nil {
			v.add(r, at+".name", "name_unfit", "The name of a check is unfit: "+clip(err.Error(), 200)+".", "Choose a name such as two-people.")
		} else if first[check.Name] {
			v.add(r, at+".name", "duplicate_check", "The check "+check.Name+" is already defined in this environment.", "Keep one of the two, or rename this one.")
		}
		first[check.Name] = true
		v.check1(r, at, e, check)
		v.softUnfit(r, at, check)
		v.actionsUnfit(r, at, e, check)
		v.shadow(r, at, e, check)
		if check.Lock != nil {
			if locks++; locks > 1 {
				v.add(r, at+".lock", "duplicate_lock", "The environment "+e.Name+" has a lock already.", "Keep one of the two.")
			}
		}
	}
	v.waivers(r, e)
	v.mode(r, e)
	if e.Persons != nil && *e.Persons == (Persons{}) {
		v.add(r, "persons", "persons_missing", "The budget of persons says nothing.", "Write persons: {write: 5, approve: 4}, or one of the two.")
	}
	v.override(r, e)
	v.heldBy(r, e)
	v.afterCycles(r, e)
	v.demands(r, e)
}

// check1 checks one check, which has exactly one kind.
func (v *rules) check1(r *resource, at string, e *Environment, c Check) {
	kinds := 0
	count := func(set bool, f func()) {
		if set {
			kinds++
			f()
		}
	}
	count(c.Approval != nil, func() { v.approval(r, at+".approval", e, c) })
	count(c.Branches != nil, func() { v.branches(r, at+".branches", *c.Branches) })
	count(c.Template != nil, func() { v.template(r, at+".template", *c.Template) })
	count(c.Expression != nil, func() { v.expression(r, at+".expression.rule", askVariable, c.Expression.Rule) })
	count(c.Delay != nil, func() {
		if c.Delay.For <= 0 || time.Duration(c.Delay.For) >= e.PatienceLimit() {
			v.add(r, at+".delay.for", "duration_out_of_bounds", fmt.Sprintf("The delay is %s, and an ask waits %s at most.", time.Duration(c.Delay.For), e.PatienceLimit()), "Choose a delay above 0 and below the environment's patience.")
		}
	})
	count(c.Hours != nil, func() { v.hours(r, at+".hours", *c.Hours) })
	count(c.Lock != nil, func() {
		if c.Lock.Mode != LockSequential && c.Lock.Mode != LockLatest {
			v.add(r, at+".lock.mode", "lock_mode_unknown", "The mode of the lock is "+name(c.Lock.Mode)+".", "Write "+LockSequential+" (each in its turn) or "+LockLatest+" (the newest only).")
		}
	})
	count(c.Promotion != nil, func() { v.promotion(r, at+".promotion", e, *c.Promotion) })
	if _, evidence := c.Evidence(); evidence {
		for _, set := range []bool{c.Tests != nil, c.Scan != nil, c.SBOM != nil, c.Vulnerabilities != nil, c.Provenance != nil, c.Attestation != nil, c.Plan != nil} {
			if set {
				kinds++
			}
		}
		v.evidenceCheck(r, at, e, c)
	}
	count(c.Record != nil, func() { v.record(r, at+".record", *c.Record) })
	count(c.Call != nil, func() { v.callCheck(r, at+".call", e, *c.Call) })
	count(c.Metrics != nil, func() { v.metricsCheck(r, at+".metrics", e, *c.Metrics) })
	count(c.Change != nil, func() { v.changeCheck(r, at+".change", e, *c.Change) })
	count(c.Policy != nil, func() { v.policyCheck(r, at+".policy", *c.Policy) })
	switch {
	case kinds == 0:
		v.add(r, at, "check_without_kind", "The check "+name(c.Name)+" says nothing to check.", "Add approval: with count and groups, or branches, template, expression, delay, hours, lock, tests, scan, sbom, vulnerabilities, provenance, attestation, plan, promotion, record, call, metrics, change or policy.")
	case kinds > 1:
		v.add(r, at, "check_with_two_kinds", "The check "+name(c.Name)+" says more than one thing to check.", "Make a check of each, with a name of its own.")
	}
}

func (v *rules) approval(r *resource, at string, e *Environment, c Check) {
	a := *c.Approval
	if a.Count < 1 || a.Count > maxApprovals {
		v.add(r, at+".count", "count_out_of_bounds", fmt.Sprintf("The count of approvals is %d; it must be from 1 to %d.", a.Count, maxApprovals), "Say how many persons must let an ask through.")
	}
	if len(a.Groups) == 0 {
		v.add(r, at+".groups", "groups_missing", "The approval asks nobody.", "Name the groups whose members may approve.")
	}
	for i, g := range a.Groups {
		v.reference(r, fmt.Sprintf("%s.groups[%d]", at, i), Key{Kind: GroupKind, Name: g})
	}
	v.escalation(r, at+".escalate", e, a)
	if a.Review != "" && a.Review != SecurityReview {
		v.add(r, at+".review", "review_unknown", "The review is "+name(a.Review)+".", "Write "+SecurityReview+", or leave it out.")
	}
	v.checklist(r, at+".checklist", e, a)
	for i, before := range a.After {
		j := slices.IndexFunc(e.Checks, func(o Check) bool { return o.Name == before && o.Approval != nil })
		if j < 0 || before == c.Name {
			v.add(r, fmt.Sprintf("%s.after[%d]", at, i), "unknown_check", "There is no other approval "+name(before)+" in this environment.", "Name an approval check that comes first.")
		}
	}
	for _, f := range []struct {
		field string
		value Duration
	}{{"timeout", a.Timeout}, {"validity", a.Validity}} {
		if f.value != 0 && (time.Duration(f.value) < time.Minute || time.Duration(f.value) > e.PatienceLimit()) {
			v.add(r, at+"."+f.field, "duration_out_of_bounds", fmt.Sprintf("The field %s is %s; it must be from 1m to the environment's patience (%s).", f.field, time.Duration(f.value), e.PatienceLimit()), "Choose a length within these, or leave the field out.")
		}
	}
	if t := time.Duration(a.SignedIn); t != 0 && (t < time.Minute || t > 7*24*time.Hour) {
		v.add(r, at+".signedIn", "duration_out_of_bounds", fmt.Sprintf("The field signedIn is %s; it must be from 1m to 168h.", t), "Choose a length within these, or leave the field out.")
	}
}

// escalation refuses one that asks nobody, or that comes when nobody may vote any
// more.
func (v *rules) escalation(r *resource, at string, e *Environment, a Approval) {
	if a.Escalate == nil {
		return
	}
	limit, of := e.PatienceLimit(), "the patience"
	if a.Timeout > 0 && time.Duration(a.Timeout) < limit {
		limit, of = time.Duration(a.Timeout), "its time-out"
	}
	if after := time.Duration(a.Escalate.After); after < time.Minute || after >= limit {
		v.add(r, at+".after", "duration_out_of_bounds", fmt.Sprintf("It escalates after %s; that must be from 1m to less than %s (%s).", after, of, limit), "Choose a length within these.")
	}
	if len(a.Escalate.Groups) == 0 {
		v.add(r, at+".groups", "groups_missing", "The escalation asks nobody.", "Name the groups whose members may approve then.")
	}
	for i, g := range a.Escalate.Groups {
		v.reference(r, fmt.Sprintf("%s.groups[%d]", at, i), Key{Kind: GroupKind, Name: g})
	}
}

// afterCycles refuses approvals that wait for each other.
func (v *rules) afterCycles(r *resource, e *Environment) {
	state := map[string]int{}
	var visit func(name string) bool
	visit = func(name string) bool {
		switch state[name] {
		case 1:
			return true
		case 2:
			return false
		}
		state[name] = 1
		for _, c := range e.Checks {
			if c.Name == name && c.Approval != nil && slices.ContainsFunc(c.Approval.After, visit) {
				return true
			}
		}
		state[name] = 2
		return false
	}
	for i, c := range e.Checks {
		if state[c.Name] == 0 && visit(c.Name) {
			v.add(r, fmt.Sprintf("checks[%d].approval.after", i), "after_cycle", "The approvals of "+e.Name+" wait for each other, so none could ever come first.", "Take one of the entries of after out.")
			return
		}
	}
}

func (v *rules) branches(r *resource, at string, b Branches) {
	v.bounded(r, at+".allowed", len(b.Allowed), maxPatterns)
	for i, pattern := range b.Allowed {
		path := fmt.Sprintf("%s.allowed[%d]", at, i)
		if pattern == "*" || strings.HasPrefix(pattern, "refs/*") || strings.Contains(pattern, "**") || strings.ContainsAny(pattern, "?[") {
			v.add(r, path, "ref_wildcard", "The pattern "+name(pattern)+" is too wide.", "A * stands for one part of a branch's name, without a slash: refs/heads/release/*.")
			continue
		}
		v.ref(r, path, strings.ReplaceAll(pattern, "*", "x"))
	}
}

func (v *rules) template(r *resource, at string, t Template) {
	v.bounded(r, at+".allowed", len(t.Allowed), maxTemplates)
	for i, s := range t.Allowed {
		path := fmt.Sprintf("%s.allowed[%d]", at, i)
		if pathUnfit(s.Path) != "" || strings.Count(s.Path, "/") < 2 {
			v.add(r, path+".path", "template_unfit", "The template's path must be OWNER/REPOSITORY/PATH, without @ and a ref.", "Write for instance acme/delivery/.github/workflows/deploy.yml.")
		}
		if len(s.Refs)+len(s.Commits) == 0 {
			v.add(r, path, "template_unpinned", "The template is admitted at no ref and no commit.", "List refs or commits: whoever may push anywhere else in its repository must not be able to change it.")
		}
		for j, ref := range s.Refs {
			v.ref(r, fmt.Sprintf("%s.refs[%d]", path, j), ref)
		}
		for j, c := range s.Commits {
			if (len(c) != 40 && len(c) != 64) || strings.Trim(c, "0123456789abcdef") != "" {
				v.add(r, fmt.Sprintf("%s.commits[%d]", path, j), "commit_unfit", name(c)+" is no full commit id.", "Write all 40 or 64 hexadecimal digits.")
			}
		}
	}
}

func (v *rules) hours(r *resource, at string, h Hours) {
	v.zone(r, at+".zone", h.Zone)
	v.bounded(r, at+".windows", len(h.Windows), maxWindows)
	for i, w := range h.Windows {
		path := fmt.Sprintf("%s.windows[%d]", at, i)
		v.bounded(r, path+".days", len(w.Days), 7)
		v.oneOf(r, path+".days", w.Days, Weekdays()...)
		from, okFrom := ClockMinutes(w.From)
		to, okTo := ClockMinutes(w.To)
		if !okFrom || from == 24*60 {
			v.add(r, path+".from", "clock_unfit", name(w.From)+" is no time of day.", "Write it as 09:00.")
		}
		if !okTo || to == 0 {
			v.add(r, path+".to", "clock_unfit", name(w.To)+" is no end of a window.", "Write it as 17:00; 24:00 is the end of the day.")
		}
		if okFrom && okTo && from == to {
			v.add(r, path+".to", "window_empty", "The window ends when it begins.", "Set from and to apart.")
		}
	}
	v.dates(r, at+".except", h.Except)
}

// Weekdays are the names of the days, as windows write them, monday first.
func Weekdays() []string {
	return []string{"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"}
}

// ClockMinutes reads a time of day, 00:00 to 24:00, as minutes after midnight.
func ClockMinutes(s string) (int, bool) {
	if len(s) != 5 || s[2] != ':' || strings.Trim(s[:2]+s[3:], "0123456789") != "" {
		return 0, false
	}
	h, m := int(s[0]-'0')*10+int(s[1]-'0'), int(s[3]-'0')*10+int(s[4]-'0')
	if m > 59 || h > 24 || h == 24 && m > 0 {
		return 0, false
	}
	return h*60 + m, true
}

func (v *rules) waivers(r *resource, e *Environment) {
	if len(e.Waivers) > maxWaivers {
		v.bounded(r, "waivers", len(e.Waivers), maxWaivers)
	}
	for i, w := range e.Waivers {
		at := fmt.Sprintf("waivers[%d]", i)
		if all := Demands(); !slices.Contains(all, w.Demand) {
			v.add(r, at+".demand", "demand_unknown", "There is no demand "+name(string(w.Demand))+".", fmt.Sprintf("Write one of %v.", all))
		}
		v.reference(r, at+".owner", Key{Kind: UserKind, Name: w.Owner})
		if y := w.Until.Time().Year(); y < 1970 || y > 9998 {
			v.add(r, at+".until", "field_missing", "The waiver has no end.", "Write an instant such as 2027-03-01T00:00:00Z, at most 366 days ahead; the gate fails from then on.")
		}
		if strings.TrimSpace(w.Reason) == "" {
			v.add(r, at+".reason", "reason_missing", "The waiver has no reason.", "Say why, for whoever reviews it.")
		}
	}
}

// Demands lists what every production environment must have.
func Demands() []Demand {
	return []Demand{DemandApproval, DemandSecurityReview, DemandBranchControl}
}

// Meets reports whether the environment's checks meet a demand. A soft one meets
// none, so that no override reaches what production must have.
func (e Environment) Meets(d Demand) bool {
	return slices.ContainsFunc(e.Checks, func(c Check) bool {
		if c.Soft || c.Shadow || c.When != "" {
			return false
		}
		switch d {
		case DemandApproval:
			return c.Approval != nil
		case DemandSecurityReview:
			return c.Approval != nil && c.Approval.Review == SecurityReview
		case DemandBranchControl:
			return c.Branches != nil
		}
		return false
	})
}

// demands refuses a production environment without what production demands. An
// environment in a journal that is older than this rule stays readable: there
// the gate fails instead.
func (v *rules) demands(r *resource, e *Environment) {
	if e.Tier != Production || !v.written {
		return
	}
	says := map[Demand][2]string{
		DemandApproval:       {"production_without_approval", "nobody must approve a deployment to it"},
		DemandSecurityReview: {"production_without_security_review", "no approval is a security review"},
		DemandBranchControl:  {"production_without_branch_control", "any branch could be deployed to it"},
	}
	mend := map[Demand]string{
		DemandApproval:       "Add a check with an approval of at least one person",
		DemandSecurityReview: "Add review: security to the approval that security people give",
		DemandBranchControl:  "Add a check with branches: {allowed: [refs/heads/main]}",
	}
	said := map[Demand]bool{}
	for _, action := range e.Paths() {
		there, of := e.For(action), ""
		if action != lockkeeper.DeployAction {
			of = ", where that is a " + action
		}
		for _, d := range DemandsOf(action) {
			if said[d] || there.Meets(d) || slices.ContainsFunc(e.Waivers, func(w Waiver) bool { return w.Demand == d }) {
				continue
			}
			said[d] = true
			v.add(r, "checks", says[d][0], "The environment "+e.Name+" is of tier production, and "+says[d][1]+of+".",
				mend[d]+", or waive it in somebody's name and for a time: waivers: [{demand: "+string(d)+", owner: USER, until: …, reason: …}].")
		}
	}
}

// factsKnown refuses checks that ask for what the tokens of a pipeline's platform
// never state: they could never pass.
func (v *rules) factsKnown(id *Identity, p *resource, env Environment) {
	pipeline, ok := p.value.(*Pipeline)
	if !ok {
		return
	}
	provider, known := v.c.Providers[pipeline.Provider]
	if _, is := platforms[provider.Platform]; !known || !is || !v.written {
		return
	}
	r := v.known[Key{EnvironmentKind, id.Project, id.Environment}]
	tokens := "Tokens of the platform " + provider.Platform
	if provider.Platform == OIDC {
		tokens = "Tokens of " + name(provider.Name)
	}
	for i, c := range env.Checks {
		at := fmt.Sprintf("checks[%d]", i)
		switch {
		case c.Branches != nil && !provider.states("ref"):
			mend := "Take the check out"
			if provider.Platform == OIDC {
				mend = "Fill the fact ref from a claim, or take the check out"
			}
			if env.Tier == Production {
				mend += ", and waive branch-control in somebody's name and for a time: waivers: [{demand: branch-control, owner: USER, until: …, reason: …}]"
			}
			v.add(r, at+".branches", "ref_unknowable", tokens+" name no ref, so the check could never pass.", mend+".")
		case c.Branches != nil && c.Branches.Protected && !provider.states("ref_protected"):
			v.add(r, at+".branches.protected", "protection_unknowable", tokens+" do not say whether a ref is protected, so the check could never pass.",
				"Take protected out, and protect the branch on the platform.")
		case c.Template != nil && !provider.states("called_path"):
			v.add(r, at+".template", "template_unknowable", tokens+" do not say in which reusable definition a job runs, so the check could never pass.",
				"Take the check out, and limit on the platform who may change the definition.")
		}
	}
}

// states reports whether tokens of the provider can state a fact that checks ask
// for.
func (p Provider) states(fact string) bool {
	switch p.Platform {
	case GitHub:
		return fact == "ref" || fact == "called_path"
	case GitLab:
		return fact == "ref" || fact == "ref_protected"
	case Azure:
		return fact == "ref"
	}
	return p.fills(fact)
}
