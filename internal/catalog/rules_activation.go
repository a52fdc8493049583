package catalog

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

const (
	maxTicketPattern = 200
	maxExtensions    = 10
)

func (v *rules) activationRule(r *resource, rule *ActivationRule) {
	v.reference(r, "role", Key{Kind: RoleKind, Name: rule.Role})
	v.scope(r, rule.Scope)
	v.within(r, "longest", rule.Longest, 5*time.Minute, 24*time.Hour)
	v.within(r, "patience", rule.Patience, 5*time.Minute, 7*24*time.Hour)
	v.within(r, "stepUp", rule.StepUp, time.Minute, 24*time.Hour)
	if rule.Ticket != "" {
		if _, err := TicketPattern(rule.Ticket); err != nil || len(rule.Ticket) > maxTicketPattern {
			v.add(r, "ticket", "pattern_unfit", fmt.Sprintf("The ticket is no regular expression of at most %d bytes.", maxTicketPattern), "Write one such as CHG[0-9]{7}; it is compared with the whole ticket.")
		}
	}
	v.within(r, "coolingOff", rule.CoolingOff, time.Minute, 30*24*time.Hour)
	if n := rule.ExtensionLimit(); n < 0 || n > maxExtensions {
		v.add(r, "extensions", "count_out_of_bounds", fmt.Sprintf("The count of extensions is %d; it must be from 0 to %d.", n, maxExtensions), "Say how often an activation may be made longer.")
	}
	if rule.Hours != nil {
		v.hours(r, "hours", *rule.Hours)
	}
	v.breakGlass(r, rule)
	v.ticketCall(r, rule)
	v.uses(r, rule)
	as := &Environment{Patience: Duration(rule.PatienceLimit()), Checks: rule.Approvals}
	seen := map[string]bool{hoursName: rule.Hours != nil}
	for i, c := range rule.Approvals {
		at := fmt.Sprintf("approvals[%d]", i)
		switch {
		case c.Approval == nil:
			v.add(r, at, "check_unfit", "Only approvals can be asked for before an activation.", "Write approval: {count: 1, groups: [...]}.")
			continue
		case seen[c.Name]:
			v.add(r, at+".name", "duplicate", "Two approvals have the name "+name(c.Name)+".", "Give each a name of its own.")
		case c.Soft:
			v.add(r, at+".soft", "soft_unfit", "Only checks of deployments can be soft.", "Leave soft out.")
		case len(c.Actions) > 0:
			v.add(r, at+".actions", "actions_unfit", "Only checks of deployments are asked of some actions.", "Leave actions out.")
		case c.Shadow:
			v.add(r, at+".shadow", "shadow_unfit", "An approval of an activation is asked for or it is not.", "Leave shadow out.")
		case c.Approval.Review != "":
			v.add(r, at+".approval.review", "review_unfit", "A security review is of a deployment, not of an activation.", "Leave review out.")
		case c.Approval.Once:
			v.add(r, at+".approval.once", "once_unfit", "Votes count for several deployments of one run, never for several activations.", "Leave once out.")
		case len(c.Approval.Checklist) > 0:
			v.add(r, at+".approval.checklist", "checklist_unfit", "A checklist is of the security review of a deployment, not of an activation.", "Leave checklist out.")
			continue
		}
		seen[c.Name] = true
		v.approval(r, at+".approval", as, c)
	}
}

// hoursName is how the hours of a rule are called among its approvals.
const hoursName = "hours"

// HoursCheck is the rule's hours as a check, under the name that the rule's
// approvals leave free; nil: it has none.
func (r ActivationRule) HoursCheck() *Check {
	if r.Hours == nil {
		return nil
	}
	return &Check{Name: hoursName, Hours: r.Hours}
}

// workload refuses an assignment to a stage that is not there, or that would give
// it something without a run that asks.
func (v *rules) workload(r *resource, a *Assignment) {
	if !a.Eligible {
		v.add(r, "principal", "workload_not_eligible", "A stage holds nothing by itself; it can only be eligible, and activate the role for one run.", "Add eligible: true.")
	}
	if a.Condition != "" {
		v.add(r, "condition", "condition_unfit", "What a stage activates is held against no condition: it gives nothing but the way through its environment.", "Take the condition out, and write a check of the environment.")
	}
	project, stage, _ := strings.Cut(a.Principal.Name, "/")
	pipeline, stage, _ := strings.Cut(stage, "/")
	if key := (Key{PipelineKind, project, pipeline}); v.reference(r, "principal", key) {
		v.stage(r, "principal", v.known[key], stage)
	}
}

// demandedActivation refuses a role that nobody could activate at the environment.
func (v *rules) demandedActivation(admitted []*resource) {
	for _, r := range admitted {
		e, is := r.value.(*Environment)
		if !is || e.Activation == "" {
			continue
		}
		v.reference(r, "activation", Key{Kind: RoleKind, Name: e.Activation})
		if scope := lockkeeper.EnvironmentScope(e.Project, e.Name); len(v.c.RulesOf(e.Activation, scope)) == 0 {
			v.add(r, "activation", "activation_rule_missing", fmt.Sprintf("No rule says what it takes to activate %s at %s, so no run could.", e.Activation, scope), "Add an ActivationRule for this role, at this scope or above it.")
		}
	}
}

// TicketPattern compiles a rule's pattern, to be matched by whole tickets.
func TicketPattern(pattern string) (*regexp.Regexp, error) {
	return regexp.Compile(`^(?:` + pattern + `)$`)
}

// eligible refuses an eligible assignment that could never be activated, or that
// is a deny.
func (v *rules) eligible(admitted []*resource) {
	for _, r := range admitted {
		a, is := r.value.(*Assignment)
		if !is || !a.Eligible {
			continue
		}
		if a.Deny {
			v.add(r, "eligible", "eligible_deny", "The assignment "+a.Name+" denies, and nobody activates a deny.", "Take one of deny and eligible out.")
		}
		if len(v.c.RulesOf(a.Role, a.Scope)) == 0 {
			v.add(r, "eligible", "activation_rule_missing", fmt.Sprintf("No rule says what it takes to activate %s at %s, so nobody could.", a.Role, a.Scope),
				"Add an ActivationRule for this role, at this scope or above it.")
		}
	}
}
