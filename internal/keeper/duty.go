package keeper

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// A Duty is to undo outside what an activation opens there. It is recorded with
// the activation, before anything is done outside, and ends only when a worker
// has read at the target that nothing is left, or when two persons attest it.
//
// What a worker does is an attempt, which has a number and a deadline. The number
// is the fence: what comes back about an older attempt says nothing. A crash
// before `duty.tried` leaves nothing outside; after it, what may have been granted
// is taken away, whether it was or not.
type Duty struct {
	ID          string              `json:"id"`
	Activation  string              `json:"activation"`
	User        string              `json:"user"`
	Provisioner string              `json:"provisioner"`
	Terms       catalog.Provisioner `json:"terms"` // as they were when it was taken: it is undone by the same
	// Account is what stands for the activation on the system, and Target is equal for
	// duties that stand for the same account on the same system: the last one of them
	// takes it away.
	Account string            `json:"account"`
	Target  lockkeeper.Digest `json:"target"`
	Taken   lockkeeper.Moment `json:"taken"`
	Ends    lockkeeper.Moment `json:"ends"`          // of the activation, by arithmetic
	Over    lockkeeper.Moment `json:"over,omitzero"` // since when it has to be undone
	Status  string            `json:"status"`

	Attempt int               `json:"attempt,omitempty"` // number of the last one
	Verb    string            `json:"verb,omitempty"`    // of the attempt that is not over; "": there is none
	Until   lockkeeper.Moment `json:"until,omitzero"`    // its deadline
	Settled bool              `json:"settled,omitempty"` // no grant could still happen when it began
	// Maybe counts the grants that happened or may have, and Unsettled is until when
	// one may still happen that nobody has reported.
	Maybe     int               `json:"maybe,omitempty"`
	Unsettled lockkeeper.Moment `json:"unsettled,omitzero"`

	Failures int               `json:"failures,omitempty"` // since the last thing that went well
	Retry    lockkeeper.Moment `json:"retry,omitzero"`     // no attempt before
	Code     string            `json:"code,omitempty"`     // why the last one failed
	Reason   string            `json:"reason,omitempty"`

	Behind   []lockkeeper.Person `json:"behind,omitempty"`   // who stands behind the run that holds it
	Repaired int                 `json:"repaired,omitempty"` // how often it was granted anew because it was changed there

	Credentials int               `json:"credentials,omitempty"` // that were handed out
	Outside     lockkeeper.Moment `json:"outside,omitzero"`      // until when one of them lives, whatever is undone
	Attested    []Attestation     `json:"attested,omitempty"`
}

// How a duty stands, and how it ends.
const (
	DutyTaken   = "taken"            // recorded; nothing is known to be granted
	DutyGranted = "granted"          // the target has it
	DutyOwed    = "revocation_owed"  // it should be away, and is not known to be
	DutyRevoked = "revoked"          // it is away, and is read once more when nothing can be under way
	dutyUndone  = "undone"           // it is known to be away
	dutyForced  = "force_closed"     // two persons say that it is away
	GrantVerb   = "grant"            // what an attempt does
	RevokeVerb  = "revoke"           //
	forcedAbout = "duties/forced"    // subject of all that were closed by word of mouth
	dutiesAbout = "duties"           // subject of all
	untouched   = "nothing was done" //
)

// An Attestation is one person's word that what is owed was removed by hand.
type Attestation struct {
	User    string              `json:"user"`
	Persons []lockkeeper.Person `json:"persons"`
	At      lockkeeper.Moment   `json:"at"`
	Comment string              `json:"comment"`
}

// Bounds of duties.
const (
	maxDuties      = 10_000           // that are not over; an activation past them is refused
	maxOpened      = 20               // provisioners that one activation opens
	maxCredentials = 100              // of one duty
	attestedFor    = 24 * time.Hour   // how long the first of two attestations counts
	owedAfter      = 2 * time.Minute  // a removal that nobody has reported is owed
	shortestEffect = time.Second      // bounds of the deadline of an attempt
	longestEffect  = 2 * time.Minute  //
	firstRetry     = 5 * time.Second  // after a failure; doubled at each
	lastRetry      = 5 * time.Minute  //
	slowAfter      = 12               // failures, then
	slowRetry      = 45 * time.Minute // for ever
)

func dutySubject(id string) string { return "duty/" + id }

func (d *Duty) clone() *Duty {
	c := *d
	c.Attested = slices.Clone(d.Attested)
	return &c
}

// An Opening names a provisioner that an activation opens, under the digest of what
// it was when that was asked for.
type Opening struct {
	Provisioner string            `json:"provisioner"`
	Kind        string            `json:"kind"`
	Digest      lockkeeper.Digest `json:"digest"`
}

// openings are the provisioners that an activation of a user, or of a run, opens, by
// name.
func (w *world) openings(user string, run *Run, role string, scope lockkeeper.Scope) []Opening {
	var out []Opening
	for _, name := range slices.Sorted(maps.Keys(w.rules.Catalog.Provisioners)) {
		p := w.rules.Catalog.Provisioners[name]
		if terms, opens := w.termsFor(p, user, run); opens && p.Opens(role, scope) {
			out = append(out, Opening{name, p.Kind(), digestOfTerms(terms)})
		}
	}
	return out
}

// digestOfTerms is equal for provisioners that do the same.
func digestOfTerms(p catalog.Provisioner) lockkeeper.Digest {
	b, err := marshal(p)
	if err != nil {
		return "" // never equal to what was asked for: fails closed
	}
	return lockkeeper.DigestOf(append([]byte("lockkeeper.provisioner.v1\n"), b...))
}

// opensMore names a provisioner that a request would open now and that it did not
// when it was asked for, or that does something else since; "" for none.
func (w *world) opensMore(r *Request) string {
	for _, o := range w.openings(r.User, r.Run, r.Role, r.Scope) {
		if o.Digest == "" || !slices.Contains(r.Opens, o) {
			return o.Provisioner
		}
	}
	return ""
}

// duties are what an activation that begins takes upon itself, or the refusal to
// open what somebody is owed the removal from.
func (w *world) duties(a Activation, now lockkeeper.Moment) ([]event, error) {
	var out []event
	opens := a.Opens
	if len(opens) > maxOpened || len(w.Duties)+len(opens) > maxDuties {
		return nil, lockkeeper.Limited.Errorf("duties_many", "%d duties to undo are open, and this would open %d more.", len(w.Duties), len(opens)).WithNext("See what is open: lockkeeper duties list")
	}
	for i, o := range opens {
		p, _ := w.termsFor(w.rules.Catalog.Provisioners[o.Provisioner], a.User, a.Run)
		if !w.opensTo(&a, p.Scope, now) {
			continue
		}
		if owed := w.owedOn(o.Provisioner, now); owed != nil {
			return nil, lockkeeper.Conflict.Errorf("revocation_owed", "%s should have lost the account %s of the provisioner %s at %s, and nobody knows that he has; until then nobody gets another one.", owed.User, owed.Account, o.Provisioner, owed.due()).
				WithNext("See why: lockkeeper duties show %s", owed.ID)
		}
		d := Duty{ID: fmt.Sprintf("o-%s-%d", strings.TrimPrefix(a.ID, "a-"), i+1), Activation: a.ID, User: a.User, Provisioner: o.Provisioner, Terms: p, Ends: a.Ends, Status: DutyTaken, Behind: a.Run.behind()}
		d.Account = "lk_" + strings.ReplaceAll(strings.TrimPrefix(d.ID, "o-"), "-", "_")
		switch { // some systems know people, not activations
		case p.Webhook != nil:
			d.Account = a.User
		case p.Azure != nil && len(p.Azure.Principals) == 1:
			d.Account = p.Azure.Principals[0].ID
		}
		d.Target = d.target()
		out = append(out, &dutyTaken{Duty: d, Revision: w.Revision.Number})
	}
	return out, nil
}

// target says which account on which system a duty is about.
func (d *Duty) target() lockkeeper.Digest {
	system := d.Provisioner
	if d.Terms.Webhook != nil {
		system += "\n" + d.Terms.Webhook.URL
	} else if a := d.Terms.Azure; a != nil {
		system += "\n" + a.Tenant + "\n" + a.Resource + "\n" + a.RoleDefinition
	}
	return lockkeeper.DigestOf([]byte("lockkeeper.target.v1\n" + d.Terms.Kind() + "\n" + system + "\n" + d.Account))
}

// due is since when, or from when, it has to be undone.
func (d *Duty) due() lockkeeper.Moment {
	if !d.Over.IsZero() && d.Over.Before(d.Ends) {
		return d.Over
	}
	return d.Ends
}

// Owed reports whether what should be away is not known to be, for too long or
// after a removal that failed.
func (d *Duty) Owed(now lockkeeper.Moment) bool {
	return d.Status == DutyOwed || d.Maybe > 0 && !now.Before(d.due().Add(owedAfter))
}

// owed is Owed for what nothing gives a right to any more: an activation may have been
// made longer since.
func (w *world) owed(d *Duty, now lockkeeper.Moment) bool {
	return d.Status == DutyOwed || d.Owed(now) && w.finished(d, now)
}

// owedOn is the oldest duty that is owed on a provisioner, or nil.
func (w *world) owedOn(provisioner string, now lockkeeper.Moment) *Duty {
	var found *Duty
	for _, d := range w.Duties {
		if d.Provisioner == provisioner && w.owed(d, now) && (found == nil || cmp.Or(d.Taken.Time().Compare(found.Taken.Time()), cmp.Compare(d.ID, found.ID)) < 0) {
			found = d
		}
	}
	return found
}

// finished reports whether nothing gives a right to what a duty is about any more:
// the activation is over, or its holder may not have it, or the provisioner is not
// what it was.
func (w *world) finished(d *Duty, now lockkeeper.Moment) bool {
	a := w.Activations[d.Activation]
	if a == nil || !w.lives(a, now) || !d.Over.IsZero() {
		return true
	}
	p, there := w.rules.Catalog.Provisioners[d.Provisioner]
	if terms, opens := w.termsFor(p, a.User, a.Run); !there || !opens || digestOfTerms(terms) != digestOfTerms(d.Terms) {
		return true
	}
	return !w.opensTo(a, p.Scope, now)
}

// opensTo reports whether what is activated opens something at a scope now: what is
// outside knows no action, so that the condition of the eligible assignment must be so
// of every action of the role there, and no deny be about any. A run must be one that
// nothing stops, and that is eligible still.
func (w *world) opensTo(a *Activation, at lockkeeper.Scope, now lockkeeper.Moment) bool {
	user, role, held := a.User, a.Role, a.Scope
	if a.Run != nil {
		return w.eligible(user, a.Run, role, held, now).Passed(now) && w.eased(true).runKnown(a.Run).Passed(now)
	}
	actions := w.rules.Access.RoleActions(role)
	for _, action := range actions {
		e := w.rules.Access.EligibleTo(role, held, catalog.Circumstance{Action: action, Scope: at, User: user, Now: now})
		if !e.Passed(now) || w.rules.Access.Check(user, action, at, now).Code == "denied_by_assignment" {
			return false
		}
	}
	return len(actions) > 0
}

// accounts are the duties by what they are about.
type accounts map[lockkeeper.Digest][]*Duty

func (w *world) accounts() accounts {
	out := accounts{}
	for _, d := range w.Duties {
		out[d.Target] = append(out[d.Target], d)
	}
	return out
}

// others are the other duties about the account of d.
func (a accounts) others(d *Duty) []*Duty {
	if len(a[d.Target]) == 1 {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(a[d.Target]), func(o *Duty) bool { return o.ID == d.ID })
}

// flying reports whether an attempt may be at work. A removal that failed may still
// happen until its deadline.
func (d *Duty) flying(now lockkeeper.Moment) bool {
	return now.Before(d.Until) && (d.Verb != "" || d.Status == DutyOwed)
}

// heir is the duty that answers for an account as well and whose activation lives,
// so that nothing is taken away; "" for none.
func (w *world) heir(others []*Duty, now lockkeeper.Moment) string {
	by := ""
	for _, o := range others {
		if !w.finished(o, now) && (by == "" || o.ID < by) {
			by = o.ID
		}
	}
	return by
}

// settled reports whether nothing that was done about a duty may still happen, so
// that what is there can be handed to an heir.
func (d *Duty) settled(now lockkeeper.Moment) bool {
	return !d.flying(now) && !now.Before(d.Unsettled)
}

// next is what has to be done about a duty now; "": nothing, or not yet. Two
// attempts about one account are never at work at once.
func (w *world) next(d *Duty, others []*Duty, now lockkeeper.Moment) string {
	if d.flying(now) || now.Before(d.Retry) || slices.ContainsFunc(others, func(o *Duty) bool { return o.flying(now) }) {
		return ""
	}
	finished := w.finished(d, now)
	switch {
	case !finished && (d.Status == DutyTaken || d.Ends.Before(w.Activations[d.Activation].Ends)) && !now.Before(d.Unsettled):
		return GrantVerb // also when the activation was made longer
	case finished && d.Maybe > 0 && w.heir(others, now) == "":
		return RevokeVerb
	}
	return ""
}

// overdueDuties writes down which duties have to be undone since now, and which are
// over without anything to do.
func (w *world) overdueDuties(now lockkeeper.Moment, most int) []event {
	var out []event
	all := w.accounts()
	for _, id := range slices.Sorted(maps.Keys(w.Duties)) {
		d := w.Duties[id]
		if len(out) >= most || !w.finished(d, now) {
			continue
		}
		switch by := w.heir(all.others(d), now); {
		case d.Maybe == 0 && !d.flying(now):
			out = append(out, &dutyEnded{ID: id, Holder: d.User, Activation: d.Activation, Provisioner: d.Provisioner, Status: dutyUndone, Reason: untouched, Outside: d.Outside, Revision: w.Revision.Number})
		case by != "" && d.settled(now):
			out = append(out, &dutyEnded{ID: id, Holder: d.User, Activation: d.Activation, Provisioner: d.Provisioner, Status: dutyUndone, Covered: by, Reason: "another activation gives it still", Revision: w.Revision.Number})
		case d.Over.IsZero():
			out = append(out, &dutyDue{ID: id, Holder: d.User, Revision: w.Revision.Number})
		}
	}
	return out
}
