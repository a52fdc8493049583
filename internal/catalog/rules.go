package catalog

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// rules holds a catalog that is being made against what must be true of every
// catalog. Each rule adds its problems and goes on.
type rules struct {
	c        *Catalog
	problems *collector
	written  bool // by people, not from the journal: see Compile
	known    map[Key]*resource
	broken   bool // some document could not be admitted; what counts members cannot know
}

func (v *rules) add(r *resource, path, code, sentence, mend string) {
	for _, bad := range r.bad {
		if within(path, bad) || within(bad, path) {
			return
		}
	}
	n := r.root.find(path)
	v.problems.add(Problem{File: r.file, Line: n.line, Column: n.column, Path: path, Code: code, Sentence: sentence, Mend: mend})
}

// within reports whether the path inner is outer or leads below it.
func within(inner, outer string) bool {
	rest, ok := strings.CutPrefix(inner, outer)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// admit says whether r may stand in the catalog by its name. What it refuses
// stays known, so that a reference to a broken document is not a second
// problem.
func (v *rules) admit(r *resource) bool {
	first, dup := v.known[r.key]
	if !dup {
		v.known[r.key] = r
	}
	if !r.good {
		v.broken = true
		return false
	}
	before := v.problems.count
	unfit := lockkeeper.CheckName(r.key.Name)
	switch {
	case unfit != nil:
		v.add(r, "name", "name_unfit", "The name of this "+string(r.key.Kind)+" is unfit: "+clip(unfit.Error(), 200)+".", "Choose a name such as payments-production.")
	case dup:
		v.add(r, "name", "duplicate_resource", fmt.Sprintf("%s is already defined in %s.", r.key, first.where()), "Keep one of the two, or rename this one.")
	}
	admitted := v.problems.count == before
	v.broken = v.broken || !admitted
	return admitted
}

func projectBound(k Kind) bool {
	return k == PipelineKind || k == EnvironmentKind || k == IdentityKind
}

// reference checks that path, whose value is to.Name, names something.
func (v *rules) reference(r *resource, path string, to Key) bool {
	if to.Name == "" {
		v.add(r, path, "field_missing", fmt.Sprintf("The field %s is missing: %s needs one.", path, r.key), "Name a "+string(to.Kind)+" of the catalog.")
		return false
	}
	if v.exists(to) {
		return true
	}
	v.broken = v.broken || to.Kind == UserKind || to.Kind == GroupKind
	at := ""
	if to.Project != "" {
		at = " in project " + name(to.Project)
	}
	v.add(r, path, "unknown_"+strings.ToLower(string(to.Kind)), fmt.Sprintf("There is no %s %s%s.", to.Kind, name(to.Name), at),
		v.problems.suggest(to.Name, v.names(to), "Add the "+string(to.Kind)+", or name one that there is."))
	return false
}

// names lists what a reference such as to could have meant.
func (v *rules) names(to Key) []string {
	if v.problems.compared > maxComparisons {
		return nil
	}
	v.problems.compared += len(v.known)
	var names []string
	for k := range v.known {
		if k.Kind == to.Kind && k.Project == to.Project {
			names = append(names, k.Name)
		}
	}
	if to.Kind == RoleKind {
		for _, b := range BuiltInRoles() {
			names = append(names, b.Name)
		}
	}
	return names
}

func (v *rules) exists(k Key) bool {
	if _, ok := v.known[k]; ok {
		return true
	}
	_, ok := v.c.Roles[k.Name]
	return ok && k.Kind == RoleKind
}

// check runs every rule in the order in which the resources were read: what
// concerns one alone over all that were read, and what compares several over
// the admitted ones.
func (v *rules) check(read, admitted []*resource) {
	for _, r := range read {
		if projectBound(r.key.Kind) {
			v.reference(r, "project", Key{Kind: ProjectKind, Name: r.key.Project})
		}
		switch value := r.value.(type) {
		case *User:
			v.user(r, value)
		case *Group:
			v.group(r, value)
		case *Role:
			v.role(r, value)
		case *Assignment:
			v.assignment(r, value)
		case *Provider:
			v.provider(r, value)
		case *Freeze:
			v.freeze(r, value)
		case *FreezeRule:
			v.freezeRule(r, value)
		case *ActivationRule:
			v.activationRule(r, value)
		case *Directory:
			v.directory(r, value)
		case *Provisioner:
			v.provisioner(r, value)
		case *Separation:
			v.separation(r, value)
		case *Policy:
			v.policy(r, value)
		case *Signer:
			v.signer(r, value)
		case *Notification:
			v.notification(r, value)
		case *Pipeline:
			v.pipeline(r, value)
		case *Environment:
			v.environment(r, value)
		case *Identity:
			v.identity(r, value)
		}
	}
	v.groupCycles()
	v.platformIDs(admitted)
	v.persons(admitted)
	v.directories(admitted)
	v.admitting(admitted)
	v.providers(admitted)
	v.ambiguousStages(admitted)
	v.promotionCycles(admitted)
	v.identityPairs(admitted)
	v.eligible(admitted)
	v.assignable(admitted)
	v.demandedActivation(admitted)
	if !v.broken {
		v.approvers(admitted)
	}
}

func (v *rules) user(r *resource, u *User) {
	if u.Person != "" {
		if err := lockkeeper.CheckName(string(u.Person)); err != nil {
			v.add(r, "person", "name_unfit", "The person is unfit: "+clip(err.Error(), 200)+".", "Use one short name for each human being, the same in all of his users.")
		}
	}
	for i, id := range u.IDs {
		at := fmt.Sprintf("ids[%d]", i)
		if v.reference(r, at+".provider", Key{Kind: ProviderKind, Name: id.Provider}) {
			v.platformID(r, at+".id", id.Provider, id.ID)
		}
	}
	v.signIns(r, u)
}

func (v *rules) group(r *resource, g *Group) {
	for i, u := range g.Users {
		v.reference(r, fmt.Sprintf("users[%d]", i), Key{Kind: UserKind, Name: u})
	}
	for i, o := range g.Groups {
		v.reference(r, fmt.Sprintf("groups[%d]", i), Key{Kind: GroupKind, Name: o})
	}
}

func (v *rules) role(r *resource, role *Role) {
	if v.written && builtIn(role.Name) {
		v.add(r, "name", "role_built_in", "The role "+role.Name+" is built in and cannot be defined anew.", "Give this role another name.")
	}
	if len(role.Actions) == 0 {
		v.add(r, "actions", "actions_missing", "The role "+role.Name+" has no actions.", "List at least one, such as deployments/read.")
	}
	v.patterns(r, "actions", role.Actions)
	v.patterns(r, "notActions", role.NotActions)
	for i, s := range role.Scopes {
		v.scopeAt(r, fmt.Sprintf("scopes[%d]", i), s)
	}
	if len(role.Scopes) > 0 {
		v.bounded(r, "scopes", len(role.Scopes), maxRoleScopes)
	}
}

func (v *rules) patterns(r *resource, field string, list []lockkeeper.ActionPattern) {
	for i, p := range list {
		if _, err := lockkeeper.ParseActionPattern(string(p)); err == nil {
			continue
		}
		v.add(r, fmt.Sprintf("%s[%d]", field, i), "unknown_action", name(string(p))+" matches no action.", v.problems.suggest(string(p), knownPatterns(), "Name an action such as deployments/approve, a collection such as deployments/*, or *."))
	}
}

func knownPatterns() []string {
	var known []string
	for _, a := range lockkeeper.Actions() {
		collection, verb, _ := strings.Cut(string(a), "/")
		known = append(known, string(a), collection+"/*", "*/"+verb)
	}
	return known
}

func (v *rules) assignment(r *resource, a *Assignment) {
	v.reference(r, "role", Key{Kind: RoleKind, Name: a.Role})
	switch a.Principal.Kind {
	case lockkeeper.UserPrincipal:
		v.reference(r, "principal", Key{Kind: UserKind, Name: a.Principal.Name})
	case lockkeeper.WorkloadPrincipal:
		v.workload(r, a)
	default:
		v.reference(r, "principal", Key{Kind: GroupKind, Name: a.Principal.Name})
	}
	v.scope(r, a.Scope)
	v.moments(r, "start", a.Start)
	v.moments(r, "end", a.End)
	v.condition(r, a.Condition)
	v.exceptions(r, a)
	if !a.End.IsZero() && !a.Start.Before(a.End) {
		v.add(r, "end", "end_before_start", "The assignment "+a.Name+" ends before it starts, or at that moment.", "Set end after start; it holds up to end, without it.")
	}
}

// moments refuses an instant that the canonical form could not carry, or that
// reads as none at all.
func (v *rules) moments(r *resource, path string, m lockkeeper.Moment) {
	if r.root.field(path) == nil {
		return
	}
	if y := m.Time().Year(); y < 1970 || y > 9998 {
		v.add(r, path, "time_unfit", "The field "+path+" lies outside the years 1970 to 9998.", "Write a real instant; leave the field out for no limit.")
	}
}

// scope checks the scope of an assignment or freeze, and that what it names is
// in the catalog. Repositories and branches are no resources and may be any.
func (v *rules) scope(r *resource, s lockkeeper.Scope) { v.scopeAt(r, "scope", s) }

func (v *rules) scopeAt(r *resource, path string, s lockkeeper.Scope) {
	if s == "" {
		v.add(r, path, "field_missing", "The field "+path+" is missing.", "Write / for everything, or /projects/NAME.")
		return
	}
	if _, err := lockkeeper.ParseScope(string(s)); err != nil {
		v.add(r, path, "scope_unfit", "The scope is unfit: "+clip(err.Error(), 200)+".", "Write / or a path such as /projects/NAME/environments/NAME.")
		return
	}
	parts := strings.Split(string(s), "/")
	if len(parts) < 3 || !v.reference(r, path, Key{Kind: ProjectKind, Name: parts[2]}) || len(parts) < 5 {
		return
	}
	kinds := map[string]Kind{"environments": EnvironmentKind, "pipelines": PipelineKind, "identities": IdentityKind}
	kind, ok := kinds[parts[3]]
	if !ok || !v.reference(r, path, Key{kind, parts[2], parts[4]}) || len(parts) < 7 {
		return
	}
	v.stage(r, path, v.known[Key{PipelineKind, parts[2], parts[4]}], parts[6])
}

// oneOf checks that every entry of a list is one of known.
func (v *rules) oneOf(r *resource, path string, list []string, known ...string) {
	for i, s := range list {
		if !slices.Contains(known, s) {
			v.add(r, fmt.Sprintf("%s[%d]", path, i), "value_unknown", name(s)+" is none of "+strings.Join(known, ", ")+".", v.problems.suggest(s, known, "Write one of them."))
		}
	}
}

// stage checks that the pipeline has the stage.
func (v *rules) stage(r *resource, path string, pipeline *resource, stage string) bool {
	p, ok := pipeline.value.(*Pipeline)
	if !ok || !pipeline.good || slices.ContainsFunc(p.Stages, func(s Stage) bool { return s.Name == stage }) {
		return true
	}
	var names []string
	for _, s := range p.Stages {
		names = append(names, s.Name)
	}
	v.add(r, path, "unknown_stage", fmt.Sprintf("The pipeline %s has no stage %s.", p.Name, name(stage)),
		v.problems.suggest(stage, names, "Its stages are "+strings.Join(names, ", ")+"."))
	return false
}

// within checks a duration that is set.
func (v *rules) within(r *resource, path string, d Duration, least, most time.Duration) {
	// Of a field within another, zero is the default. An older release did not look at
	// these bounds: a catalog of a journal stays readable.
	if nested := strings.ContainsAny(path, ".["); nested && (d == 0 || !v.written) || !nested && r.root.field(path) == nil {
		return
	}
	if t := time.Duration(d); t < least || t > most {
		v.add(r, path, "duration_out_of_bounds", fmt.Sprintf("The field %s is %s; it must be from %s to %s.", path, t, least, most), "Choose a length within these, or leave the field out for the default.")
	}
}
