package keeper

import (
	"fmt"
	"maps"
	"slices"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// What an open incident forbids is looked up here and nowhere else, at the instant
// of every decision: a person's at checkBy, session and the writer's door, an ask's
// at judge, standing and where a job records or proves something. Nothing is taken
// out of the catalog or put back into it, so that no catalog can lift an incident.

// A place is where an ask stands, and what stands behind it.
type place struct {
	scopes   []lockkeeper.Scope // of the environment, the pipeline and the identity
	project  string
	pipeline string
	identity string
	provider string
	persons  []lockkeeper.Person // behind the run, and behind the runs that built what it deploys
}

// eased is the world as what runs already sees it: an incident of the mode
// best-effort lets that end.
func (w *world) eased(running bool) *world {
	if len(w.Incidents) == 0 || w.ease == running {
		return w
	}
	out := *w
	out.ease = running
	return &out
}

// inForce are the open incidents that count here, by id.
func (w *world) inForce() []*Incident {
	var out []*Incident
	for _, id := range slices.Sorted(maps.Keys(w.Incidents)) {
		if i := w.Incidents[id]; !w.ease || i.Mode == Strict {
			out = append(out, i)
		}
	}
	return out
}

// quarantined is the incident that a user is quarantined by, or nil. Every person
// that the account may be counts, also whoever vouches for it.
func (w *world) quarantined(user string) *Incident {
	if len(w.Incidents) == 0 {
		return nil
	}
	persons := w.persons(user)
	for _, i := range w.inForce() {
		if slices.ContainsFunc(i.Quarantine, func(q Quarantine) bool { return q.Kind == userTarget && q.Name == user }) || w.locksOut(i, persons) {
			return i
		}
	}
	return nil
}

// lockedPersons is the incident that quarantines one of the persons, or nil.
func (w *world) lockedPersons(persons []lockkeeper.Person) *Incident {
	for _, i := range w.inForce() {
		if w.locksOut(i, persons) {
			return i
		}
	}
	return nil
}

func (w *world) locksOut(i *Incident, persons []lockkeeper.Person) bool {
	return slices.ContainsFunc(i.Quarantine, func(q Quarantine) bool {
		return q.Kind == userTarget && slices.ContainsFunc(persons, func(p lockkeeper.Person) bool { return w.isTarget(q, p) })
	})
}

// isTarget reports whether a person is the one whom a quarantine is for: by the
// catalog of when it was declared, or by that of now.
func (w *world) isTarget(q Quarantine, p lockkeeper.Person) bool {
	return slices.Contains(q.Persons, p) || w.rules.Catalog.PersonOf(q.Name) == p
}

// errQuarantined is what a quarantined person is told, wherever he turns up.
func errQuarantined(i *Incident) *lockkeeper.Refusal {
	return lockkeeper.Forbidden.Errorf("quarantined", "You are quarantined by the incident %s and may do nothing while it is open.", i.ID).
		WithNext("Talk to whoever responds to incidents; once it is closed, sign in again.")
}

// quarantineOf is the verdict on a user whom an incident quarantines; false: none
// does.
func (w *world) quarantineOf(user string, action lockkeeper.Action, scope lockkeeper.Scope) (lockkeeper.Decision, bool) {
	i := w.quarantined(user)
	if i == nil {
		return lockkeeper.Decision{}, false
	}
	return lockkeeper.Decision{Subject: string(action) + " at " + string(scope), Verdict: lockkeeper.Fail, Code: "quarantined",
		Sentence: fmt.Sprintf("%s is quarantined by the incident %s.", user, i.ID), Next: "Close the incident: lockkeeper incident close " + i.ID}, true
}

// placeOf is where a deployment stands.
func (w *world) placeOf(d *Deployment) place {
	a := d.Ask
	env := lockkeeper.EnvironmentScope(a.Project, a.Environment)
	p := place{scopes: []lockkeeper.Scope{env, lockkeeper.PipelineScope(a.Project, a.Pipeline)}, project: a.Project, pipeline: a.Pipeline, provider: a.Provider}
	if id, known := w.rules.Catalog.IdentityOf(env); known {
		p.identity = id.Name
	}
	if d.Lease != nil {
		p.identity = d.Lease.Identity
	}
	if p.identity != "" {
		p.scopes = append(p.scopes, lockkeeper.IdentityScope(a.Project, p.identity))
	}
	for _, o := range d.Initiators {
		p.persons = append(p.persons, w.personsOf(o.Provider, o.Account, o.Persons)...)
	}
	for _, r := range w.recordsOf(a) {
		p.persons = append(p.persons, w.personsOf(r.Provider, r.Account, r.Persons)...)
		for _, account := range r.Others {
			p.persons = append(p.persons, w.personsOf(r.Provider, account, nil)...)
		}
	}
	return p
}

// locks are the reasons why open incidents stop what stands at a place; none: none
// does.
func (w *world) locks(at place) []lockkeeper.Decision {
	var out []lockkeeper.Decision
	for _, i := range w.inForce() {
		for _, s := range i.Freeze {
			q, one := targetAt(w.rules.Catalog, s)
			if slices.ContainsFunc(at.scopes, s.Contains) || one && w.stops(q, at) {
				out = append(out, locked(i, "incident_frozen", fmt.Sprintf("%s is frozen by the incident %s: %s", s, i.ID, i.Title)))
			}
		}
		for _, q := range i.Quarantine {
			if w.stops(q, at) {
				out = append(out, locked(i, "quarantined", fmt.Sprintf("%s is quarantined by the incident %s.", q, i.ID)))
			}
		}
	}
	return out
}

func locked(i *Incident, code, sentence string) lockkeeper.Decision {
	return lockkeeper.Decision{Subject: "incident " + i.ID, Verdict: lockkeeper.Fail, Code: code, Sentence: sentence,
		Next: "Ask again once it is closed: lockkeeper incident show " + i.ID}
}

// stops reports whether a quarantine is for what stands at a place. A pipeline and a
// provider are known by what makes them up, too: another document about the same
// one is no way around.
func (w *world) stops(q Quarantine, at place) bool {
	switch q.Kind {
	case userTarget:
		return slices.ContainsFunc(at.persons, func(p lockkeeper.Person) bool { return w.isTarget(q, p) })
	case identityTarget:
		return q.Project == at.project && q.Name == at.identity
	case providerTarget:
		return q.Name == at.provider || w.issuerOf(q.Name) != "" && SameIssuer(w.issuerOf(q.Name), w.issuerOf(at.provider))
	case pipelineTarget:
		return q.Project == at.project && q.Name == at.pipeline || w.samePipeline(q, at)
	}
	return true // a kind that nobody knows stops all
}

func (w *world) issuerOf(provider string) string {
	return w.rules.Catalog.Providers[provider].Issuer
}

func (w *world) samePipeline(q Quarantine, at place) bool {
	a, known := w.rules.Catalog.Pipelines[lockkeeper.PipelineScope(q.Project, q.Name)]
	b, too := w.rules.Catalog.Pipelines[lockkeeper.PipelineScope(at.project, at.pipeline)]
	return known && too && a.Organisation == b.Organisation && a.Repository == b.Repository && a.Definition == b.Definition && SameIssuer(w.issuerOf(a.Provider), w.issuerOf(b.Provider))
}

// unlocked is the verdict on a deployment with what open incidents say to it.
func (w *world) unlocked(d *Deployment, verdict lockkeeper.Decision) lockkeeper.Decision {
	if len(w.Incidents) == 0 {
		return verdict
	}
	locks := w.locks(w.placeOf(d))
	if len(locks) == 0 {
		return verdict
	}
	return lockkeeper.All(verdict.Subject, verdict.Sentence, slices.Concat(locks, verdict.Because)...)
}

// admits refuses a job that records or proves something while an incident stops its
// pipeline, its platform or somebody behind its run.
func (w *world) admits(pipeline catalog.Pipeline, provider string, origins []Origin) error {
	if len(w.Incidents) == 0 {
		return nil
	}
	at := place{project: pipeline.Project, pipeline: pipeline.Name, provider: provider}
	for _, o := range origins {
		at.persons = append(at.persons, w.personsOf(o.Provider, o.Account, o.Persons)...)
	}
	for _, d := range w.locks(at) {
		return lockkeeper.Forbidden.Errorf(d.Code, "%s", d.Sentence).WithNext("%s", d.Next).WithDecision(d)
	}
	return nil
}

// keepsQuarantine refuses a catalog that takes out, or makes into something else,
// what an open incident stops: it could come again under another name.
func (w *world) keepsQuarantine(new *catalog.Catalog) error {
	old := w.rules.ofCatalog()
	for _, i := range w.inForce() {
		list := slices.Clone(i.Quarantine)
		for _, s := range i.Freeze {
			if q, one := targetAt(old, s); one {
				list = append(list, q)
			}
		}
		for _, q := range list {
			if field := w.escapes(q, old, new); field != "" {
				return lockkeeper.Conflict.Errorf("incident_holds", "The incident %s stops %s, and this catalog changes its %s.", i.ID, q, field).
					WithNext("Leave that as it is until the incident is closed; a user may be switched off (off: true).").WithField(q.String())
			}
		}
		for scope, env := range old.Environments {
			frozen := slices.ContainsFunc(i.Freeze, func(s lockkeeper.Scope) bool { return s.Contains(scope) })
			if _, still := new.Environments[scope]; frozen && !still {
				return lockkeeper.Conflict.Errorf("incident_holds", "The incident %s freezes %s, and this catalog has no such environment any more.", i.ID, scope).
					WithNext("Leave the environment in until the incident is closed.").WithField(env.Name)
			}
		}
	}
	return nil
}

// otherDirectory names the directory, if there is one, that a catalog takes out,
// makes into another, or lists a second time: whoever signs in there would come as
// somebody else.
func otherDirectory(old, new *catalog.Catalog) string {
	same := func(a, b catalog.Directory) bool {
		return SameIssuer(a.IssuerURL(), b.IssuerURL())
	}
	for name, a := range old.Directories {
		if b, is := new.Directories[name]; !is || !same(a, b) || a.Client != b.Client || a.SubjectClaim() != b.SubjectClaim() {
			return "directory " + name
		}
		for again, b := range new.Directories {
			if _, was := old.Directories[again]; !was && same(a, b) {
				return "directory " + again
			}
		}
	}
	return ""
}

// targetAt is the pipeline or the identity at a scope; false: there is something else.
func targetAt(c *catalog.Catalog, s lockkeeper.Scope) (Quarantine, bool) {
	if p, is := c.Pipelines[s]; is {
		return Quarantine{Kind: pipelineTarget, Project: p.Project, Name: p.Name}, true
	}
	id, is := c.Identities[s]
	return Quarantine{Kind: identityTarget, Project: id.Project, Name: id.Name}, is
}

// changedUser names what a catalog changes that a user is known by; "": nothing.
func changedUser(a catalog.User, new *catalog.Catalog) string {
	b, is := new.Users[a.Name]
	switch {
	case !is:
		return "user " + a.Name
	case a.Who() != b.Who():
		return "person"
	case slices.ContainsFunc(a.IDs, func(id catalog.PlatformID) bool { return !slices.Contains(b.IDs, id) }):
		return "ids"
	case slices.ContainsFunc(a.SignIns, func(s catalog.SignIn) bool { return !slices.Contains(b.SignIns, s) }):
		return "signIns"
	}
	return ""
}

// escapes names what of a quarantined resource a catalog changes that it is known
// by; "": nothing. Of a person, that is all his users.
func (w *world) escapes(q Quarantine, old, new *catalog.Catalog) string {
	switch q.Kind {
	case userTarget:
		for _, name := range slices.Sorted(maps.Keys(old.Users)) {
			if u := old.Users[name]; name == q.Name || w.isTarget(q, u.Who()) {
				if field := changedUser(u, new); field != "" {
					return field
				}
			}
		}
		return otherDirectory(old, new)
	case providerTarget:
		a, was := old.Providers[q.Name]
		if b := new.Providers[q.Name]; was && (a.Issuer != b.Issuer || a.Platform != b.Platform) {
			return "issuer"
		}
	case pipelineTarget:
		at := lockkeeper.PipelineScope(q.Project, q.Name)
		a, was := old.Pipelines[at]
		if b := new.Pipelines[at]; was && (a.Provider != b.Provider || a.Organisation != b.Organisation || a.Repository != b.Repository || a.Definition != b.Definition) {
			return "repository or definition"
		}
	case identityTarget:
		at := lockkeeper.IdentityScope(q.Project, q.Name)
		a, was := old.Identities[at]
		if b, is := new.Identities[at]; was && (!is || a.Environment != b.Environment) {
			return "environment"
		}
	}
	return ""
}
