package keeper

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/access"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// could reports whether a user may do an action at a scope, or may activate a role
// that lets him.
func (w *world) could(user string, action lockkeeper.Action, scope lockkeeper.Scope, now lockkeeper.Moment) bool {
	if w.allowed(user, action, scope, now) {
		return true
	}
	return w.quarantined(user) == nil && w.rules.Access.Check(user, action, scope, now).Code == "not_granted" && len(w.rules.Access.Activatable(user, action, scope, now)) > 0
}

// couldBefore reports whether a user could do an action at some time before a proposal
// that is made now times out: nobody is alone because it is night.
func (w *world) couldBefore(user string, action lockkeeper.Action, scope lockkeeper.Scope, now lockkeeper.Moment) bool {
	for at := now; at.Before(now.Add(proposalPatience)); at = at.Add(30 * time.Minute) {
		if w.could(user, action, scope, at) {
			return true
		}
	}
	return false
}

// writers are the users to whom anything is assigned that lets somebody write a
// document, be it eligible or over: few in any organisation.
func (w *world) writers() map[string]bool {
	out, done, writes := map[string]bool{}, map[string]bool{}, w.writeRoles()
	for _, a := range w.rules.Catalog.Assignments {
		switch group := a.Principal.Name; {
		case a.Deny || len(writes[a.Role]) == 0:
		case a.Principal.Kind == lockkeeper.UserPrincipal:
			out[a.Principal.Name] = true
		case !done[group]:
			done[group] = true
			for _, user := range w.rules.Access.Holders(group) {
				out[user] = true
			}
		}
	}
	return out
}

// writeRoles are the rights to write that each role gives.
func (w *world) writeRoles() map[string][]lockkeeper.Action {
	out := map[string][]lockkeeper.Action{}
	for name := range w.rules.Catalog.Roles {
		for _, action := range writeActions {
			if w.rules.Access.RoleAllows(name, action) {
				out[name] = append(out[name], action)
			}
		}
	}
	return out
}

// others are the users who can sign in, with a password or as a directory said once,
// and are another person than the given one,
// sorted. An account that has proved itself once stays another person's here even
// if somebody has reset it since, or else whoever may reset it would be alone at
// will; its vote does not count until it has proved itself anew.
func (w *world) others(user string) []string {
	mine := w.persons(user)
	able := map[string]bool{}
	for name, a := range w.Accounts {
		made := a.First != "" && slices.Contains(mine, w.rules.Catalog.PersonOf(a.First))
		able[name] = a.Credential != "" && (a.Proven || a.Once || !made)
	}
	for _, m := range w.Members {
		if _, binds := bindsMember(w.rules.ofCatalog(), m); binds {
			able[m.User] = true
		}
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(w.writers())) {
		if able[name] && !slices.Contains(mine, w.rules.Catalog.PersonOf(name)) {
			out = append(out, name)
		}
	}
	return out
}

// withoutQuarantinesBy is the world in which whoever a user has quarantined himself
// is there still: nobody becomes alone by that.
func (w *world) withoutQuarantinesBy(user string) *world {
	rules := *w.rules
	rules.Access = rules.Access.Believing() // nobody is alone because others have not signed in of late
	s := *w.State
	s.Incidents = map[string]*Incident{}
	for id, i := range w.Incidents {
		milder := *i
		milder.Quarantine = slices.DeleteFunc(slices.Clone(i.Quarantine), func(q Quarantine) bool {
			return q.Kind == userTarget && q.By != "" && shared(w.persons(q.By), w.persons(user))
		})
		s.Incidents[id] = &milder
	}
	return &world{State: &s, rules: &rules}
}

func shared(a, b []lockkeeper.Person) bool {
	return slices.ContainsFunc(a, func(p lockkeeper.Person) bool { return slices.Contains(b, p) })
}

// secondFor reports whether somebody else than the user could decide one of the
// changes that weaken. Each is looked at alone: to put something beside it that
// nobody else may write makes nobody alone.
func (w *world) secondFor(user string, next *Rules, keys []catalog.Key, now lockkeeper.Moment) bool {
	w = w.withoutQuarantinesBy(user)
	others := w.others(user)
	for _, k := range keys {
		scope := w.rules.Catalog.ScopeOf(k)
		if _, was := w.rules.Catalog.Has(k); !was {
			scope = next.Catalog.ScopeOf(k)
		}
		if slices.ContainsFunc(others, func(o string) bool { return w.couldBefore(o, writeAction[k.Kind], scope, now) }) {
			return true
		}
	}
	return false
}

// A lessening remembers which actions other rules take from a user, be it only in
// part: at a scope, from some time on, on a condition, or until he activates them.
type lessening struct {
	w     *world
	next  *Rules
	now   lockkeeper.Moment
	known map[string]map[lockkeeper.Action]bool
}

// of reports whether a user has less of an action. It is what he would gain by
// going back.
func (l lessening) of(user string, action lockkeeper.Action) bool {
	lost, known := l.known[user]
	if !known {
		lost = map[lockkeeper.Action]bool{}
		gains := l.w.rules.ofAccess().GainsOf(l.next.ofAccess(), l.w.withGroups([]string{user}, l.w.rules), l.now)
		for _, g := range gains {
			lost[g.Action] = true
		}
		if len(gains) >= access.MaxGains { // there may be more
			for _, a := range writeActions {
				lost[a] = true
			}
		}
		l.known[user] = lost
	}
	return lost[action]
}

// withGroups adds to users who stands for the groups that directories put them in.
func (w *world) withGroups(users []string, rules *Rules) []string {
	out := slices.Clone(users)
	for _, key := range slices.Sorted(maps.Keys(w.Members)) {
		m := w.Members[key]
		if d, known := rules.ofCatalog().Directories[m.Directory]; known && slices.Contains(users, m.listedAs(rules.ofCatalog())) {
			for _, group := range groupsHere(d, append(w.writtenGroups(d, m), m.Groups...)) {
				out = append(out, access.MembersAt(group))
			}
		}
	}
	return out
}

// losesSecond lists the rights to write, by scope, that somebody else holds and
// nobody else would hold any more, or only less of. Without this, whoever may take rights away could
// first take them from the second person.
func (w *world) losesSecond(user string, next *Rules, now lockkeeper.Moment) []string {
	w = w.withoutQuarantinesBy(user)
	others := w.others(user)
	joined := *next.joined(w.State)
	joined.Access = joined.Access.Believing()
	after := &world{State: w.State, rules: &joined}
	less := lessening{w, next, now, map[string]map[lockkeeper.Action]bool{}}
	left := after.others(user)
	var out []string
	seen, writes := map[string]bool{}, w.writeRoles()
	for _, name := range slices.Sorted(maps.Keys(w.rules.Catalog.Assignments)) {
		a := w.rules.Catalog.Assignments[name]
		if a.Deny {
			continue
		}
		for _, action := range writes[a.Role] {
			at := fmt.Sprintf("%s at %s", action, a.Scope)
			if seen[at] {
				continue
			}
			seen[at] = true
			i := slices.IndexFunc(others, func(o string) bool { return w.couldBefore(o, action, a.Scope, now) })
			keeps := func(o string) bool {
				return after.couldBefore(o, action, a.Scope, now) && !less.of(o, action)
			}
			if i < 0 || slices.Contains(left, others[i]) && keeps(others[i]) {
				continue
			}
			if !slices.ContainsFunc(left, keeps) {
				out = append(out, fmt.Sprintf("nobody else than %s would hold %s as before", user, at))
			}
		}
	}
	return out
}

var writeActions = func() []lockkeeper.Action {
	out := slices.Collect(maps.Values(writeAction))
	slices.Sort(out)
	return slices.Compact(out)
}()

// gainsBy reports whether any account of the persons gains by other rules.
func (w *world) gainsBy(persons []lockkeeper.Person, next *Rules, now lockkeeper.Moment) error {
	var accounts []string
	for _, c := range []*catalog.Catalog{w.rules.Catalog, next.Catalog} {
		for name := range c.Users {
			if slices.Contains(persons, c.PersonOf(name)) {
				accounts = append(accounts, name)
			}
		}
	}
	slices.Sort(accounts)
	accounts = slices.Compact(accounts)
	all := w.withGroups(accounts, next)
	slices.Sort(all)
	gains := next.ofAccess().GainsOf(w.rules.ofAccess(), slices.Compact(all), now)
	if len(gains) == 0 {
		gains = w.gainsPotentially(accounts, next, now)
	}
	if len(gains) > 0 {
		return lockkeeper.Forbidden.Errorf("proposal_gains", "You would gain by it yourself: %s.", gains[0]).
			WithNext("Let somebody decide who gains nothing, or propose it yourself.")
	}
	return nil
}

// propose keeps a catalog for a second person.
func (c applyCatalog) propose(w *world, by Caller, right lockkeeper.Decision, weakens []string, now lockkeeper.Moment) ([]event, any, error) {
	mine := 0
	for _, p := range w.Proposals {
		if p.User == by.User {
			mine++
		}
	}
	if mine >= maxProposalsEach || len(w.Proposals) >= maxProposals {
		return nil, nil, lockkeeper.Limited.Errorf("proposals_many", "%d proposals wait, %d of them yours.", len(w.Proposals), mine).WithNext("Withdraw some: lockkeeper proposals list")
	}
	if c.ID == "" || w.Proposals[c.ID] != nil {
		return nil, nil, lockkeeper.Conflict.Errorf("proposal_nameless", "The proposal has no id of its own.").WithNext("Apply it again.")
	}
	rev := revisionOf(c.Rules.Catalog, w.Revision.Number)
	p := Proposal{ID: c.ID, User: by.User, Persons: append(w.persons(by.User), w.behind(by)...), Base: c.Base, Catalog: rev.Digest, Documents: rev.Documents, Message: c.Message,
		Changes: changesBetween(w.rules.Catalog, c.Rules.Catalog), Weakens: weakens, Opened: now, Deadline: now.Add(proposalPatience)}
	var err error
	if p.Digest, err = p.digest(); err != nil {
		return nil, nil, lockkeeper.Invalid.Errorf("proposal_malformed", "The proposal has no digest: %v.", err)
	}
	return []event{&catalogProposed{Proposal: p, Right: right}}, applied{Revision: w.Revision.Number, Digest: w.Revision.Digest, Changes: p.Changes, Proposal: p.ID, Weakens: weakens}, nil
}

// proposed finds a proposal that waits.
func (w *world) proposed(id string, now lockkeeper.Moment) (*Proposal, error) {
	p := w.Proposals[id]
	if p == nil {
		return nil, lockkeeper.Conflict.Errorf("proposal_closed", "The proposal %.40s does not exist or waits no more.", id).WithNext("List them: lockkeeper proposals list").WithField(id)
	}
	if !now.Before(p.Deadline) {
		return nil, lockkeeper.Conflict.Errorf("timed_out", "The proposal waited until %s.", p.Deadline).WithNext("Apply it again.")
	}
	return p, nil
}

// decidesProposal decides whether the caller is a second person for a proposal: another one
// than the proposer, then and now, who may write everything that it changes. By
// the way he may not gain by it.
func (w *world) decidesProposal(p *Proposal, by Caller, next *Rules, now lockkeeper.Moment) error {
	if by.User == "" {
		return errPersonNeeded()
	}
	mine := w.persons(by.User)
	if by.User == p.User || shared(mine, w.everybody(p.User, p.Persons)) {
		return lockkeeper.Forbidden.Errorf("proposal_own", "The proposal is of %s, and counts as yours.", p.User).WithNext("Let another person decide.")
	}
	var because []lockkeeper.Decision
	for _, ch := range catalog.Diff(w.rules.Catalog, next.Catalog) {
		because = append(because, w.mayWrite(by.User, ch, next.Catalog, now)...)
	}
	if d := lockkeeper.All("decide the proposal", "You may write everything that it changes.", because...); !d.Passed(now) {
		return lockkeeper.Forbidden.Errorf(d.Code, "%s", d.Sentence).WithNext("%s", d.Next).WithDecision(d)
	}
	return nil
}

// approveProposal puts in force what somebody else proposed.
type approveProposal struct {
	Proposal string
	Digest   lockkeeper.Digest // of the proposal that the caller saw
	Comment  string
	Rules    *Rules // of its documents, compiled before
	Issuer   string // the keeper's own
}

func (approveProposal) name() string    { return "proposal.approve" }
func (c approveProposal) about() string { return proposalSubject(c.Proposal) }
func (c approveProposal) next() *Rules  { return c.Rules }

func (c approveProposal) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	p, err := w.proposed(c.Proposal, now)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case len(c.Comment) > maxComment:
		return nil, nil, lockkeeper.Invalid.Errorf("comment_long", "The comment has %d bytes, more than %d.", len(c.Comment), maxComment)
	case c.Digest != p.Digest:
		return nil, nil, lockkeeper.Conflict.Errorf("ask_differs", "The verdict is on another proposal than this one.").WithNext("Look at the proposal again and decide on what you see.")
	case c.Rules.Catalog.Digest() != p.Catalog:
		return nil, nil, lockkeeper.Conflict.Errorf("ask_differs", "These are not the documents that were proposed.").WithNext("Ask again.")
	}
	if err := w.decidesProposal(p, by, c.Rules, now); err != nil {
		return nil, nil, err
	}
	if err := w.gainsBy(w.persons(by.User), c.Rules, now); err != nil {
		return nil, nil, err
	}
	a := applyCatalog{Base: p.Base, Message: p.Message, Rules: c.Rules, Issuer: c.Issuer}
	if _, _, err := a.fits(w, p.User, now); err != nil { // as if he applied it now
		return nil, nil, err
	}
	ev := revisionOf(c.Rules.Catalog, w.Revision.Number+1)
	ev.Changes, ev.Message = p.Changes, p.Message
	if _, ev.Unlinked, err = w.linking(p.User, c.Rules.Catalog); err != nil {
		return nil, nil, err
	}
	ev.WaysIn = w.waysIn(c.Rules.Catalog)
	var under string
	for _, ch := range catalog.Diff(w.rules.Catalog, c.Rules.Catalog) {
		if _, id := w.checkBy(by.User, writeAction[ch.Key.Kind], c.Rules.Catalog.ScopeOf(ch.Key), now); id != "" {
			under = id
		}
	}
	ev.Second = &Second{Activation: under, Behind: w.everybody(p.User, p.Persons), Proposal: p.ID, Proposer: p.User, Approver: by.User, Persons: w.persons(by.User), Digest: p.Digest, Comment: c.Comment, Weakens: p.Weakens}
	w.alter(ev, c.Rules.Catalog, Alteration{User: p.User, Persons: p.Persons}, Alteration{User: by.User, Persons: w.persons(by.User)})
	return slices.Concat(w.outlasted(now), w.closeProposals(p.ID), []event{ev}, w.endedBy(c.Rules, now)), applied{Revision: ev.Number, Digest: ev.Digest, Changes: ev.Changes}, nil
}

// denyProposal ends what somebody else proposed, or takes back what one has
// proposed oneself.
type denyProposal struct {
	Proposal string
	Withdraw bool
	Reason   string
	Rules    *Rules // of its documents; nil to withdraw
}

func (c denyProposal) name() string {
	if c.Withdraw {
		return "proposal.withdraw"
	}
	return "proposal.deny"
}
func (c denyProposal) about() string { return proposalSubject(c.Proposal) }

func (c denyProposal) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	p, err := w.proposed(c.Proposal, now)
	if err != nil {
		return nil, nil, err
	}
	ev := &proposalClosed{ID: p.ID, Status: proposalWithdrawn, User: by.User, Reason: c.Reason, Revision: w.Revision.Number}
	switch {
	case len(c.Reason) > maxComment:
		return nil, nil, lockkeeper.Invalid.Errorf("comment_long", "The comment has %d bytes, more than %d.", len(c.Reason), maxComment)
	case c.Withdraw && by.User != p.User:
		return nil, nil, lockkeeper.Forbidden.Errorf("proposal_of_another", "Only %s may withdraw it.", p.User).WithNext("Deny it: lockkeeper proposals deny %s", p.ID)
	case !c.Withdraw:
		if err := w.decidesProposal(p, by, c.Rules, now); err != nil {
			return nil, nil, err
		}
		ev.Status = proposalDenied
	}
	return []event{ev}, opened{p.ID}, nil
}
