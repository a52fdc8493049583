package catalog

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// A Difference is one change between two catalogs, field by field, with what it
// does to protection.
type Difference struct {
	Change
	Fields  []FieldChange // nothing for what was added or removed whole
	Weakens []string      // why it gives somebody more, or asks for less; a sentence each
}

// A FieldChange is one value that differs. Old or New is "" where the field is
// not there.
type FieldChange struct {
	Path string // checks[two-people].approval.count
	Old  string // canonical JSON
	New  string
}

// Explain lists what makes old into new, as Diff does, with every field that
// differs and every way in which the new catalog protects less than the old
// one. What it cannot judge, such as an expression that reads differently, it
// reports as weakening: a person must look.
func Explain(old, new *Catalog) []Difference {
	w := &weakening{old: old.get(), new: new.get()}
	var out []Difference
	for _, ch := range Diff(old, new) {
		out = append(out, Difference{ch, fieldsBetween(old.document(ch.Key), new.document(ch.Key)), w.of(ch.Key)})
	}
	return out
}

// Weaker lists those of the differences that weaken, without their fields.
func Weaker(old, new *Catalog) []Difference {
	w := &weakening{old: old.get(), new: new.get()}
	var out []Difference
	for _, ch := range Diff(old, new) {
		if reasons := w.of(ch.Key); len(reasons) > 0 {
			out = append(out, Difference{Change: ch, Weakens: reasons})
		}
	}
	return out
}

func (c *Catalog) document(k Key) []byte {
	if c == nil {
		return nil
	}
	for _, d := range c.documents {
		if d.Key == k {
			return d.Data
		}
	}
	return nil
}

func fieldsBetween(old, new []byte) []FieldChange {
	if old == nil || new == nil {
		return nil
	}
	var a, b any
	if json.Unmarshal(old, &a) != nil || json.Unmarshal(new, &b) != nil {
		return nil
	}
	before, after := map[string]string{}, map[string]string{}
	flatten("", a, before)
	flatten("", b, after)
	var out []FieldChange
	for _, path := range slices.Sorted(maps.Keys(merged(before, after))) {
		if before[path] != after[path] {
			out = append(out, FieldChange{path, before[path], after[path]})
		}
	}
	return out
}

func merged(a, b map[string]string) map[string]string {
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}

// flatten lists the leaves of a document. An entry of a list that has a name is
// known by it, and an entry of a list of texts by itself, so that inserting one
// does not change all that follow.
func flatten(path string, v any, into map[string]string) {
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 && path != "" {
			into[path] = "{}" // that it is there says something
		}
		for k, x := range v {
			flatten(strings.TrimPrefix(path+"."+k, "."), x, into)
		}
	case []any:
		for i, x := range v {
			label := fmt.Sprint(i)
			if m, ok := x.(map[string]any); ok && m["name"] != nil {
				label = fmt.Sprint(m["name"])
			} else if s, ok := x.(string); ok {
				label = s
			}
			flatten(path+"["+label+"]", x, into)
		}
	default:
		b, err := json.Marshal(v)
		if err == nil {
			into[path] = string(b)
		}
	}
}

// A weakening compares two catalogs, one document after the other. What a
// change means may hang on other documents: losing a member weakens a group
// that a deny is for.
type weakening struct {
	old, new *Catalog
	reasons  []string
	derived  *derived // made when it is first needed
}

// of gives the reasons why the change of one document protects less.
func (w *weakening) of(k Key) []string {
	w.reasons = nil
	old, new := w.old, w.new
	switch k.Kind {
	case EnvironmentKind:
		a, was, b, is := pair(old.Environments, new.Environments, lockkeeper.EnvironmentScope(k.Project, k.Name))
		if is {
			w.waivers(a, b) // of a new one too: it stands for the demands that it does without
		}
		if was && is {
			w.environment(a, b)
		}
	case IdentityKind:
		if a, was, b, is := pair(old.Identities, new.Identities, lockkeeper.IdentityScope(k.Project, k.Name)); is {
			w.identity(a, was, b)
		}
	case PipelineKind:
		// The stages of a new one may hold nothing until an identity names them, and
		// vouch for nothing but what they deploy themselves; evidence they bring counts
		// for whatever the project deploys.
		a, was, b, is := pair(old.Pipelines, new.Pipelines, lockkeeper.PipelineScope(k.Project, k.Name))
		if was && is {
			w.pipeline(a, b)
		}
		w.unheard(a, b)
		if !was {
			w.heard(b)
		}
	case ProviderKind:
		if a, was, b, is := pair(old.Providers, new.Providers, k.Name); is {
			w.provider(a, was, b)
		}
	case FreezeKind:
		if a, was, b, is := pair(old.Freezes, new.Freezes, k.Name); was {
			w.freeze(a, b, is)
		}
	case FreezeRuleKind:
		a, was, b, is := pair(old.FreezeRules, new.FreezeRules, k.Name)
		w.freezeRule(a, was, b, is)
	case ActivationRuleKind:
		if a, was, b, is := pair(old.ActivationRules, new.ActivationRules, k.Name); was {
			w.activationRule(a, b, is)
		}
	case DirectoryKind:
		if a, was, b, is := pair(old.Directories, new.Directories, k.Name); was || is {
			w.directory(a, was, b, is)
		}
	case ProvisionerKind:
		if a, was, b, is := pair(old.Provisioners, new.Provisioners, k.Name); is {
			w.provisioner(a, was, b)
		}
	case PolicyKind:
		if a, was, b, is := pair(old.Policies, new.Policies, k.Name); was && is {
			w.policy(a, b)
		}
	case SignerKind:
		if a, was, b, is := pair(old.Signers, new.Signers, k.Name); is {
			w.signer(a, was, b)
		}
	case NotificationKind:
		if a, was, b, is := pair(old.Notifications, new.Notifications, k.Name); was {
			w.notification(a, b, is)
		}
	case SeparationKind:
		if a, was, b, is := pair(old.Separations, new.Separations, k.Name); was {
			w.separation(a, b, is)
		}
	case RoleKind:
		if a, was, b, is := pair(old.Roles, new.Roles, k.Name); was && is {
			w.role(a, b)
		}
	case AssignmentKind:
		a, was, b, is := pair(old.Assignments, new.Assignments, k.Name)
		w.assignment(a, was, b, is)
	case GroupKind:
		if a, was, b, is := pair(old.Groups, new.Groups, k.Name); is {
			w.group(a, was, b)
		}
	case UserKind:
		a, was, b, is := pair(old.Users, new.Users, k.Name)
		w.user(a, was, b, is)
	}
	return w.reasons
}

var empty = &Catalog{}

func (c *Catalog) get() *Catalog {
	if c == nil {
		return empty
	}
	return c
}

func pair[K comparable, V any](old, new map[K]V, k K) (a V, was bool, b V, is bool) {
	a, was = old[k]
	b, is = new[k]
	return
}

func (w *weakening) when(yes bool, format string, args ...any) {
	if yes {
		w.reasons = append(w.reasons, fmt.Sprintf(format, args...))
	}
}

// more reports every text that the new list has and the old one has not.
func (w *weakening) more(format string, old, new []string) {
	for _, s := range new {
		w.when(!slices.Contains(old, s), format, s)
	}
}

func (w *weakening) environment(a, b Environment) {
	rank := map[Tier]int{Production: 2, Preproduction: 1}
	w.when(rank[b.Tier] < rank[a.Tier], "the tier goes down from %s to %s", a.Tier, b.Tier)
	w.when(a.Tier != b.Tier && (w.old.byTier() || w.new.byTier()), "conditions of assignments hang on the tier, and it is another")
	w.when(b.Automation && !a.Automation, "automation may start deployments")
	w.when(b.LeaseLimit() > a.LeaseLimit(), "leases may live %s instead of %s", b.LeaseLimit(), a.LeaseLimit())
	w.when(b.Beat() > a.Beat(), "a silent holder keeps its lease for %s instead of %s", b.Beat(), a.Beat())
	w.when(b.PatienceLimit() > a.PatienceLimit(), "an ask and its approvals may wait %s instead of %s", b.PatienceLimit(), a.PatienceLimit())
	w.when(a.Activation != "" && a.Activation != b.Activation, "a run need not have activated %s any more", a.Activation)
	w.when(b.RecordLimit() > a.RecordLimit(), "a record vouches for an artifact for %s instead of %s", b.RecordLimit(), a.RecordLimit())
	w.persons(a.Persons, b.Persons)
	w.override(a.Override, b.Override)
	w.when(b.Observes() && !a.Observes(), "its checks are judged and stop nothing any more")
	w.heldBy(a.HeldBy, b.HeldBy)
	w.when(b.CoolingOff < a.CoolingOff, "whoever changes the gate has a vote there after %s instead of %s", time.Duration(b.CoolingOff), time.Duration(a.CoolingOff))
	w.checks(a.Checks, b.Checks)
	w.unasked(a, b)
}

// persons reports a budget of persons that is larger or gone.
func (w *weakening) persons(a, b *Persons) {
	var was, is Persons
	if a != nil {
		was = *a
	}
	if b != nil {
		is = *b
	}
	larger := func(old, new int) bool { return old != 0 && (new == 0 || new > old) }
	w.when(larger(was.Write, is.Write), "more persons may be able to start deployments or take the identity's tokens")
	w.when(larger(was.Approve, is.Approve), "more persons may be able to approve deployments")
}

func (w *weakening) checks(a, b []Check) {
	for _, c := range a {
		if c.Shadow {
			continue // it stopped nothing
		}
		i := slices.IndexFunc(b, func(o Check) bool { return o.Name == c.Name })
		if i < 0 {
			w.when(true, "the check %s is gone", c.Name)
			continue
		}
		w.when(b[i].Shadow, "the check %s is judged and stops nothing any more", c.Name)
		w.check(c, b[i])
	}
}

func (w *weakening) waivers(a, b Environment) {
	for _, x := range b.Waivers {
		covered := slices.ContainsFunc(a.Waivers, func(o Waiver) bool { return o.Demand == x.Demand && !o.Until.Before(x.Until) })
		w.when(!covered, "%s is waived until %s", x.Demand, x.Until)
	}
}

func (w *weakening) check(a, b Check) {
	w.when(b.Soft && !a.Soft, "the check %s may be waived by an override", a.Name)
	w.actions(a, b)
	switch {
	case a.Approval != nil && b.Approval != nil:
		w.approval(a.Name, *a.Approval, *b.Approval)
	case a.Branches != nil && b.Branches != nil:
		w.more("the check "+a.Name+" admits %s", a.Branches.Allowed, b.Branches.Allowed)
		w.when(a.Branches.Protected && !b.Branches.Protected, "the check %s takes unprotected refs", a.Name)
	case a.Template != nil && b.Template != nil:
		w.more("the check "+a.Name+" admits the template %s", templates(*a.Template), templates(*b.Template))
	case a.Expression != nil && b.Expression != nil:
		w.when(a.Expression.Rule != b.Expression.Rule, "the check %s judges another expression", a.Name)
	case a.Delay != nil && b.Delay != nil:
		w.when(b.Delay.For < a.Delay.For, "the check %s waits %s instead of %s", a.Name, time.Duration(b.Delay.For), time.Duration(a.Delay.For))
	case a.Hours != nil && b.Hours != nil:
		w.hours("the check "+a.Name, *a.Hours, *b.Hours)
	case a.Lock != nil && b.Lock != nil:
	case a.Promotion != nil && b.Promotion != nil:
		w.promotion(a.Name, *a.Promotion, *b.Promotion)
	case a.Record != nil && b.Record != nil:
		w.record(a.Name, *a.Record, *b.Record)
	case a.Tests != nil && b.Tests != nil, a.Scan != nil && b.Scan != nil, a.SBOM != nil && b.SBOM != nil,
		a.Vulnerabilities != nil && b.Vulnerabilities != nil, a.Provenance != nil && b.Provenance != nil, a.Attestation != nil && b.Attestation != nil,
		a.Plan != nil && b.Plan != nil:
		w.evidenceCheck(a, b)
	case a.Call != nil && b.Call != nil, a.Metrics != nil && b.Metrics != nil, a.Change != nil && b.Change != nil:
		w.outside(a, b)
	case a.Policy != nil && b.Policy != nil:
		w.policyCheck(a.Name, *a.Policy, *b.Policy)
	default:
		w.when(true, "the check %s is of another kind", a.Name)
	}
}

func (w *weakening) approval(name string, a, b Approval) {
	w.when(b.Count < a.Count, "the check %s asks for %d approvals instead of %d", name, b.Count, a.Count)
	w.more("the check "+name+" takes approvals of the group %s", a.Groups, b.Groups)
	w.more("the check "+name+" no longer comes after %s", b.After, a.After)
	w.when(a.Review != "" && b.Review != a.Review, "the check %s is no %s review any more", name, a.Review)
	w.when(longer(a.Validity, b.Validity), "approvals of the check %s stay valid for longer", name)
	w.when(longer(a.Timeout, b.Timeout), "the check %s waits for longer", name)
	w.when(longer(a.SignedIn, b.SignedIn), "the check %s takes votes of an older sign-in", name)
	w.when(a.Strong && !b.Strong, "the check %s takes votes without a second factor", name)
	w.when(b.Once && !a.Once, "votes of the check %s count for several deployments of one run", name)
	w.more("the check "+name+" asks no more of its reviewer: %s", b.reviewItems(), a.reviewItems())
	if e := b.Escalate; e != nil {
		was := Escalation{Groups: a.Groups}
		if a.Escalate != nil {
			was.After, was.Groups = a.Escalate.After, slices.Concat(a.Groups, a.Escalate.Groups)
		}
		w.more("after a time the check "+name+" takes approvals of the group %s", was.Groups, e.Groups)
		w.when(a.Escalate != nil && e.After < was.After, "the check %s asks others after %s instead of %s", name, time.Duration(e.After), time.Duration(was.After))
	}
}

func (w *weakening) hours(of string, a, b Hours) {
	w.more(of+" has the window %s", windows(a), windows(b))
	w.more(of+" has windows on %s", b.Except, a.Except)
}

// longer reports whether a limit was lengthened; zero is no limit.
func longer(a, b Duration) bool { return a != 0 && (b == 0 || b > a) }

func templates(t Template) []string {
	var out []string
	for _, s := range t.Allowed {
		for _, at := range slices.Concat(s.Refs, s.Commits) {
			out = append(out, s.Path+"@"+at)
		}
	}
	return out
}

func windows(h Hours) []string {
	var out []string
	for _, win := range h.Windows {
		for _, d := range win.Days {
			out = append(out, fmt.Sprintf("%s %s to %s in %s", d, win.From, win.To, h.Zone))
		}
	}
	return out
}

func (w *weakening) identity(a Identity, was bool, b Identity) {
	w.more("its tokens may be for %s", a.Audiences, b.Audiences)
	w.more("the stage %s may hold it", a.Stages, b.Stages)
	w.when(b.People && !a.People, "people may have its tokens, past the checks of %s", b.Environment)
	w.anyRef(a, b)
	w.when(was && b.TokenLifetime() > a.TokenLifetime(), "its tokens live %s instead of %s", b.TokenLifetime(), a.TokenLifetime())
	w.when(was && a.Environment != b.Environment, "it belongs to %s instead of %s", b.Environment, a.Environment)
}

// anyRef reports stages that are new to an identity above development and that
// an issuer vouches for whose tokens name no ref: what tells such a stage apart
// may be written on any branch. Rules cannot refuse that, see rules_apart.go.
func (w *weakening) anyRef(a, b Identity) {
	env := w.new.Environments[lockkeeper.EnvironmentScope(b.Project, b.Environment)]
	for _, s := range b.Stages {
		pipeline, _, _ := strings.Cut(s, "/")
		provider := w.new.Providers[w.new.Pipelines[lockkeeper.PipelineScope(b.Project, pipeline)].Provider]
		w.when(env.Tier != Development && provider.Platform == OIDC && !provider.fills("ref") && !slices.Contains(a.Stages, s),
			"the stage %s may be of any branch: tokens of %s name no ref", s, provider.Name)
	}
}

func (w *weakening) pipeline(a, b Pipeline) {
	w.when(a.Provider != b.Provider || a.Organisation != b.Organisation || a.TeamProject != b.TeamProject || a.Repository != b.Repository, "another repository is trusted")
	w.when(a.Definition != b.Definition, "another definition is trusted")
	for _, s := range b.Stages {
		i := slices.IndexFunc(a.Stages, func(o Stage) bool { return o.Name == s.Name })
		if i < 0 {
			w.when(true, "the new stage %s may vouch for artifacts that this pipeline deploys", s.Name)
			continue
		}
		was := a.Stages[i].Trust
		w.more("the stage "+s.Name+" is started by %s", was.Events, s.Trust.Events)
		w.more("the stage "+s.Name+" runs on %s", was.Refs, s.Trust.Refs)
		w.more("the stage "+s.Name+" may bring %s", a.Stages[i].Evidence, s.Evidence)
		w.more("the stage "+s.Name+" may say what runs in %s", a.Stages[i].Running, s.Running)
		w.when(s.Trust.SelfHosted && !was.SelfHosted, "the stage %s runs on self-hosted runners", s.Name)
		w.when(was.Environment != s.Trust.Environment || was.Called != s.Trust.Called || was.Stage != s.Trust.Stage || was.ServiceAccount != s.Trust.ServiceAccount || was.Rule != s.Trust.Rule && was.Rule != "",
			"the stage %s is told by other facts", s.Name)
	}
}

func (w *weakening) provider(a Provider, was bool, b Provider) {
	if !was {
		w.when(true, "jobs that %s vouches for are believed", b.Issuer)
		return
	}
	w.when(a.Issuer != b.Issuer || a.Platform != b.Platform || a.API != b.API, "somebody else is believed")
	w.app(a.App, b.App)
	w.when(a.Audience != b.Audience, "tokens for another audience are taken")
	for _, c := range b.Claims {
		w.when(!slices.Contains(a.Claims, c), "the fact %s is read from the claim %s", c.Fact, c.Claim)
	}
	for _, c := range a.Claims {
		filled := slices.ContainsFunc(b.Claims, func(o Claim) bool { return o.Fact == c.Fact })
		w.when(!filled, "the fact %s is not read any more", c.Fact)
	}
	w.more("tokens signed with %s are taken", a.AcceptedAlgorithms(), b.AcceptedAlgorithms())
	w.when(b.LongestLife() > a.LongestLife(), "tokens may live %s instead of %s", b.LongestLife(), a.LongestLife())
}

func (w *weakening) activationRule(a, b ActivationRule, is bool) {
	if !is {
		w.when(true, "the rule for activating %s at %s is gone", a.Role, a.Scope)
		return
	}
	w.when(a.Role != b.Role || !b.Scope.Contains(a.Scope), "the rule covers other activations than those of %s at %s", a.Role, a.Scope)
	w.when(b.LongestActivation() > a.LongestActivation(), "an activation may last %s instead of %s", b.LongestActivation(), a.LongestActivation())
	w.when(b.PatienceLimit() > a.PatienceLimit(), "a request and its approvals may wait %s instead of %s", b.PatienceLimit(), a.PatienceLimit())
	w.when(!a.NoReason && b.NoReason, "nobody has to say why any more")
	w.when(a.Ticket != "" && a.Ticket != b.Ticket, "other tickets are taken, or none is asked for")
	w.when(b.ExtensionLimit() > a.ExtensionLimit(), "an activation may be made longer %d times instead of %d", b.ExtensionLimit(), a.ExtensionLimit())
	w.when(b.CoolingOff < a.CoolingOff, "after a change of the credential one waits for %s instead of %s", time.Duration(b.CoolingOff), time.Duration(a.CoolingOff))
	if a.Hours != nil && b.Hours != nil {
		w.hours("the rule", *a.Hours, *b.Hours)
	}
	w.when(a.Hours != nil && b.Hours == nil, "activations may begin at any hour")
	w.checks(a.Approvals, b.Approvals)
	w.breakGlass(a.BreakGlass, b.BreakGlass)
	w.when(longer(a.StepUp, b.StepUp), "it may be begun with an older sign-in")
	w.when(a.Strong && !b.Strong, "it may be begun without a second factor")
	w.uses(a, b)
}
