package keeper

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/gate"
)

// A Teller finds what nobody was told yet. It keeps nothing that a restart would miss:
// what waits is in the state, what ended in the journal, and what was told in the
// outbox. One goroutine uses it.
type Teller struct {
	k      *Keeper
	size   int64             // of the state at the last look
	looked lockkeeper.Moment // when that was
	read   int64             // the journal was read up to here; at least the cursor
	alerts []waiting         // of the last hour
	asked  lockkeeper.Moment // when the alerts were
	seen   map[string]glimpse
}

// A glimpse is whom a deployment waited for when it was looked at last.
type glimpse struct {
	stamp string
	at    lockkeeper.Moment
	waits waiting
}

// Teller makes one.
func (k *Keeper) Teller() *Teller { return &Teller{k: k, seen: map[string]glimpse{}} }

// Bounds of looking for what to tell.
const (
	tellAgain   = 15 * time.Second // what waits may change by time alone
	alertsEvery = time.Hour
	readAtOnce  = 500 // entries of one look
)

// A waiting is something that waits for some users.
type waiting struct {
	key, about, subject, text string
	waits                     func(user string) bool
	users                     []string // of those who are told, those whom it waits for; sorted
}

// A listener is a notification and whom it tells.
type listener struct {
	rule  catalog.Notification
	users []string
}

// Look writes into the outbox what waits for somebody, or has ended, and was not told.
// It reports whether there may be more.
func (t *Teller) Look(ctx context.Context) (more bool, err error) {
	now := t.k.now()
	t.k.mu.RLock()
	size, rules, box := t.k.state.Size, t.k.rules, t.k.state.Outbox
	none := len(rules.Catalog.Notifications) == 0 && (box == nil || len(box.Tellings) == 0)
	t.k.mu.RUnlock()
	if none || size == t.size && now.Before(t.looked.Add(tellAgain)) && t.read >= size {
		return false, nil
	}
	if box == nil {
		_, err := do[any](ctx, t.k, Caller{Keeper: true}, "", queueMessages{})
		return true, err
	}
	t.k.mu.RLock()
	listeners := (&world{State: t.k.state, rules: t.k.rules}).listeners(now)
	t.k.mu.RUnlock()
	found, err := t.waitings(ctx, listeners, now)
	if err != nil {
		return false, err
	}
	t.k.mu.RLock()
	c := (&world{State: t.k.state, rules: t.k.rules}).difference(listeners, found)
	t.k.mu.RUnlock()
	if c.Cursor, err = t.ended(ctx, &c, listeners, size); err != nil {
		return false, err
	}
	more = len(c.Tellings) >= maxQueued || c.Cursor < size
	if len(c.Tellings)+len(c.Over)+len(c.Cancel) > 0 || c.Cursor-c.From >= cursorEvery {
		if _, err := do[any](ctx, t.k, Caller{Keeper: true}, "", c); err != nil {
			return false, err
		}
	}
	t.size, t.looked, t.read = size, now, c.Cursor
	if slices.ContainsFunc(c.Tellings, func(x Telling) bool { return x.Past }) {
		t.k.mu.RLock()
		t.read = t.k.state.Outbox.Cursor // it stands still where there was no room
		t.k.mu.RUnlock()
	}
	return more, nil
}

// listeners are whom notifications tell now, by topic.
func (w *world) listeners(now lockkeeper.Moment) map[string][]listener {
	out := map[string][]listener{}
	for _, name := range slices.Sorted(maps.Keys(w.rules.Catalog.Notifications)) {
		l := listener{rule: w.rules.Catalog.Notifications[name]}
		l.users = w.toldUsers(l.rule, now)
		for _, topic := range l.rule.About {
			out[topic] = append(out[topic], l)
		}
	}
	return out
}

// waitings is everything that waits, as far as anybody is told of it, with whom of those
// it waits for.
func (t *Teller) waitings(ctx context.Context, listeners map[string][]listener, now lockkeeper.Moment) ([]waiting, error) {
	var out []waiting
	if len(listeners[catalog.AboutDeployments])+len(listeners[catalog.AboutOverrides]) > 0 {
		out = append(out, t.deployments(listeners, now)...)
	}
	if len(listeners[catalog.AboutAlerts]) > 0 && !now.Before(t.asked.Add(alertsEvery)) {
		list, err := t.k.CheckedAlerts(ctx)
		if err != nil {
			return nil, err
		}
		t.alerts, t.asked = nil, now
		for _, a := range list {
			if a.Severity == "high" && a.Kind != "channel_failing" {
				t.alerts = append(t.alerts, alertWaiting(a))
			}
		}
	}
	t.k.mu.RLock()
	defer t.k.mu.RUnlock()
	w := &world{State: t.k.state, rules: t.k.rules}
	return append(out, w.waitings(listeners, t.alerts, now)...), nil
}

// waitings is everything that waits but for what is about deployments.
func (w *world) waitings(listeners map[string][]listener, alerts []waiting, now lockkeeper.Moment) []waiting {
	var out []waiting
	for _, of := range []struct {
		topic string
		list  func(now lockkeeper.Moment) []waiting
	}{
		{catalog.AboutRequests, w.waitingRequests}, {catalog.AboutReviews, w.waitingReviews}, {catalog.AboutProposals, w.waitingProposals},
		{catalog.AboutCampaigns, w.waitingCampaigns}, {catalog.AboutNotices, w.waitingNotices},
		{catalog.AboutAlerts, func(now lockkeeper.Moment) []waiting { return w.waitingAlerts(alerts, now) }},
	} {
		if len(listeners[of.topic]) == 0 {
			continue
		}
		for _, x := range of.list(now) {
			x.users = waitsFor(x, listeners[of.topic])
			out = append(out, x)
		}
	}
	return out
}

// waitsFor are the users of listeners whom something waits for.
func waitsFor(x waiting, listeners []listener) []string {
	asked := map[string]bool{}
	var out []string
	for _, l := range listeners {
		for _, u := range l.users {
			if !asked[u] && x.waits(u) {
				out = append(out, u)
			}
			asked[u] = true
		}
	}
	slices.Sort(out)
	return out
}

// deployments looks at each deployment for itself, so that nobody waits for all of them.
func (t *Teller) deployments(listeners map[string][]listener, now lockkeeper.Moment) []waiting {
	t.k.mu.RLock()
	ids := slices.Sorted(maps.Keys(t.k.state.Deployments))
	t.k.mu.RUnlock()
	var out []waiting
	alive := map[string]bool{}
	for _, id := range ids {
		alive[id] = true
		out = append(out, t.deployment(id, listeners, now)...)
	}
	maps.DeleteFunc(t.seen, func(id string, _ glimpse) bool { return !alive[id] })
	return out
}

func (t *Teller) deployment(id string, listeners map[string][]listener, now lockkeeper.Moment) []waiting {
	t.k.mu.RLock()
	defer t.k.mu.RUnlock()
	w := &world{State: t.k.state, rules: t.k.rules}
	d := w.Deployments[id]
	if d == nil || d.Status != Waiting || !now.Before(w.deadline(d)) {
		return nil
	}
	var out []waiting
	stamp := fmt.Sprint(d.Moves, len(d.Votes), len(d.Delegated), len(d.Taken), len(w.Shared), w.Revision.Number, len(listeners[catalog.AboutDeployments]))
	g, known := t.seen[id]
	if !known || g.stamp != stamp || !now.Before(g.at.Add(2*tellAgain)) {
		g = glimpse{stamp: stamp, at: now}
		if len(listeners[catalog.AboutDeployments]) > 0 {
			g.waits = w.waitingDeployment(d, now)
		}
		if g.waits.waits != nil {
			g.waits.users, g.waits.waits = waitsFor(g.waits, listeners[catalog.AboutDeployments]), nil
		}
		t.seen[id] = g
	}
	if g.waits.key != "" {
		out = append(out, g.waits)
	}
	if len(listeners[catalog.AboutOverrides]) == 0 {
		return out
	}
	for _, o := range d.Overrides {
		if x, waits := w.waitingOverride(d, o, now); waits {
			x.users = waitsFor(x, listeners[catalog.AboutOverrides])
			out = append(out, x)
		}
	}
	return out
}

// difference is what has to be written down so that the outbox says what waits: at most
// maxQueued tellings of it.
func (w *world) difference(listeners map[string][]listener, found []waiting) queueMessages {
	box := w.Outbox
	c := queueMessages{From: box.Cursor, Cursor: box.Cursor}
	waits := map[string]waiting{}
	for _, x := range found {
		waits[x.key] = x
	}
	for _, key := range slices.Sorted(maps.Keys(box.Tellings)) {
		was := box.Tellings[key]
		x, still := waits[key]
		if !was.Past && !still {
			c.Over = append(c.Over, key)
			continue
		}
		for _, a := range was.To {
			rule, there := w.rules.Catalog.Notifications[a.Rule]
			wanted := there && (was.Past || rule.Tells(was.About) && (a.User == "" && len(x.users) > 0 || slices.Contains(x.users, a.User)))
			if a.Status == "" && !wanted {
				c.Cancel = append(c.Cancel, a.ID)
			}
		}
	}
	for _, x := range found {
		if to := addressees(x, listeners[x.about], box.Tellings[x.key]); len(to) > 0 && len(c.Tellings) < maxQueued {
			c.Tellings = append(c.Tellings, Telling{Key: x.key, About: x.about, Subject: x.subject, Text: x.text, To: to})
		}
	}
	return c
}

// addressees are those of listeners whom something waits for, and who do not have it.
func addressees(x waiting, listeners []listener, was *Telling) []Addressee {
	var out []Addressee
	add := func(a Addressee) {
		if was == nil || !slices.ContainsFunc(was.To, func(o Addressee) bool { return o.Rule == a.Rule && o.User == a.User }) {
			out = append(out, a)
		}
	}
	for _, l := range listeners {
		for _, u := range l.users {
			if _, concerned := slices.BinarySearch(x.users, u); !concerned {
				continue
			}
			if !l.rule.Each() {
				add(Addressee{Rule: l.rule.Name})
				break
			}
			add(Addressee{Rule: l.rule.Name, User: u})
		}
	}
	return out[:min(len(out), maxAddressees)]
}

// ended adds the deployments that have ended since the cursor, and gives where it stands
// then.
func (t *Teller) ended(ctx context.Context, c *queueMessages, listeners map[string][]listener, size int64) (int64, error) {
	at := max(t.read, c.From)
	if len(listeners[catalog.AboutEnded]) == 0 {
		return size, nil
	}
	to := min(size, at+readAtOnce)
	for stored, err := range t.k.journal.Entries(ctx, at, to) {
		if err != nil {
			return at, err
		}
		e, body, err := readEntry(stored.Data)
		if err != nil {
			return at, err
		}
		if ev, is := body.(*deploymentEnded); is {
			if len(c.Tellings) >= maxQueued {
				return at, nil
			}
			x, err := t.endedDeployment(ctx, ev)
			if err != nil {
				return at, err
			}
			if to := addressees(x, listeners[catalog.AboutEnded], nil); len(to) > 0 {
				c.Tellings = append(c.Tellings, Telling{Key: x.key, About: x.about, Subject: x.subject, Text: x.text, Past: true, To: to})
			}
		}
		at = e.Seq + 1
	}
	return at, nil
}

func (t *Teller) endedDeployment(ctx context.Context, ev *deploymentEnded) (waiting, error) {
	d, err := t.k.find(ctx, ev.ID)
	if err != nil {
		return waiting{}, err
	}
	x := waiting{key: "ended/" + d.ID, about: catalog.AboutEnded, subject: deploymentSubject(d.ID)}
	x.text = fmt.Sprintf("%s to %s of %s has ended: %s.", d.ID, d.Ask.Environment, d.Ask.Project, ev.End.Status)
	if ev.End.Reason != "" {
		x.text += " " + ev.End.Reason
	}
	c := t.k.Rules().Catalog
	for _, o := range d.Initiators {
		if u, known := c.UserOf(o.Provider, o.Account); known && !slices.Contains(x.users, u.Name) {
			x.users = append(x.users, u.Name)
		}
	}
	slices.Sort(x.users)
	return x, nil
}

// waitingDeployment is the approvals that a deployment waits for now, and who would fill
// a place of them. Its key names whose turn it is: at the next turn others are told.
func (w *world) waitingDeployment(d *Deployment, now lockkeeper.Moment) waiting {
	f, err := w.facts(d, now)
	if err != nil {
		return waiting{}
	}
	asks := []gate.Facts{f}
	if then, differs := gate.Under(f, d.Terms); differs {
		then.Votes = w.ballots(d, then, now)
		asks = append(asks, then)
	}
	turn := turnOf(asks, now)
	if len(turn) == 0 {
		return waiting{}
	}
	scope := lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment)
	x := waiting{key: strings.Join(append([]string{catalog.AboutDeployments, d.ID}, turn...), "/"), about: catalog.AboutDeployments, subject: deploymentSubject(d.ID)}
	x.text = fmt.Sprintf("%s waits for approval (%s): %s/%s to %s of %s, at commit %.12s", d.ID, strings.Join(turn, ", "), d.Ask.Pipeline, d.Ask.Stage, d.Ask.Environment, d.Ask.Project, d.Ask.Commit)
	x.waits = func(user string) bool {
		return slices.ContainsFunc(asks, func(f gate.Facts) bool {
			b := w.ballot(d, f, w.voteNow(user, d.Digest, now), now)
			b.Right = w.eventually(user, lockkeeper.ApproveDeployments, scope, b.Right, now)
			return len(b.Groups) > 0 && fills(f, b, now)
		})
	}
	return x
}

// voteNow is the vote that a user could give now, after he has shown what is asked for.
func (w *world) voteNow(user string, digest lockkeeper.Digest, now lockkeeper.Moment) Vote {
	return Vote{User: user, Approve: true, Digest: digest, At: now, Persons: w.persons(user), SignedIn: now, Strong: true}
}

// eventually is a right that a user has, or could activate.
func (w *world) eventually(user string, action lockkeeper.Action, scope lockkeeper.Scope, has lockkeeper.Decision, now lockkeeper.Moment) lockkeeper.Decision {
	if !has.Passed(now) && w.could(user, action, scope, now) {
		has = lockkeeper.Decision{Subject: has.Subject, Verdict: lockkeeper.Pass, Code: "activatable"}
	}
	return has
}

// turnOf names the approvals whose turn it is and that are missing, sorted.
func turnOf(asks []gate.Facts, now lockkeeper.Moment) []string {
	var out []string
	for _, f := range asks {
		for _, d := range gate.Approvals(f, now) {
			if d.Code == "approvals_missing" {
				out = append(out, strings.TrimPrefix(d.Subject, "check "))
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// fills reports whether a vote would fill a place of what is missing.
func fills(f gate.Facts, v gate.Vote, now lockkeeper.Moment) bool {
	if _, err := taken(f, v, true, false, now); err != nil {
		return false
	}
	before := gate.Approvals(f, now)
	f.Votes = append(slices.Clone(f.Votes), v)
	for i, d := range gate.Approvals(f, now) {
		if before[i].Code == "approvals_missing" && (d.Code != before[i].Code || d.Sentence != before[i].Sentence) {
			return true
		}
	}
	return false
}

func (w *world) waitingOverride(d *Deployment, o Override, now lockkeeper.Moment) (waiting, bool) {
	f, err := w.facts(d, now)
	if err != nil || o.Status(now) != "waiting" || f.Environment.Override == nil || o.Terms != w.overrideTerms(d.Ask, o.Waives) {
		return waiting{}, false
	}
	g := w.overrideFacts(d, f, o, now)
	own := *d
	own.Delegated = nil
	scope := lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment)
	x := waiting{key: catalog.AboutOverrides + "/" + o.ID, about: catalog.AboutOverrides, subject: overrideSubject(o.ID)}
	x.text = fmt.Sprintf("%s asks to waive %s of %s to %s of %s (%s): %s", o.User, strings.Join(o.Waives, ", "), d.ID, d.Ask.Environment, d.Ask.Project, o.Incident, o.Reason)
	x.waits = func(user string) bool {
		b := w.ballot(&own, g, w.voteNow(user, o.Digest, now), now)
		b.Right = w.eventually(user, lockkeeper.ApproveDeployments, scope, b.Right, now)
		return fills(g, b, now)
	}
	return x, true
}

func (w *world) waitingRequests(now lockkeeper.Moment) []waiting {
	var out []waiting
	for _, id := range slices.Sorted(maps.Keys(w.Requests)) {
		r := w.Requests[id]
		d := w.demandsOn(r.Role, r.Scope)
		asks := []gate.Facts{w.requestFacts(r, d.approvals, now)}
		if then, differs := gate.Under(gate.Facts{Environment: catalog.Environment{Checks: d.terms()}}, r.Terms); differs {
			asks = append(asks, w.requestFacts(r, then.Environment.Checks, now))
		}
		turn := turnOf(asks, now)
		if len(turn) == 0 || !now.Before(d.deadline(r)) {
			continue
		}
		x := waiting{key: strings.Join(append([]string{catalog.AboutRequests, r.ID}, turn...), "/"), about: catalog.AboutRequests, subject: requestSubject(r.ID)}
		x.text = fmt.Sprintf("%s asks to activate %s at %s for %s (%s): %s", r.User, r.Role, r.Scope, r.For, strings.Join(turn, ", "), r.Reason)
		x.waits = func(user string) bool {
			return slices.ContainsFunc(asks, func(f gate.Facts) bool {
				b := w.requestBallot(r, f.Environment.Checks, w.voteNow(user, r.Digest, now), now)
				b.Right = w.eventually(user, lockkeeper.ApproveActivations, r.Scope, b.Right, now)
				return fills(f, b, now)
			})
		}
		out = append(out, x)
	}
	return out
}

func (w *world) waitingReviews(now lockkeeper.Moment) []waiting {
	var out []waiting
	for _, id := range slices.Sorted(maps.Keys(w.Reviews)) {
		r := w.Reviews[id]
		x := waiting{key: catalog.AboutReviews + "/" + r.ID, about: catalog.AboutReviews, subject: reviewSubject(r.ID)}
		x.text = fmt.Sprintf("%s waits for your review until %s: %s by %s at %s: %s", r.ID, r.Due, r.About, r.User, r.Scope, r.Reason)
		var reviewers []string
		asked := false
		x.waits = func(user string) bool {
			if !asked { // only if anybody is told
				reviewers, asked = w.reviewView(*r, now).Reviewers, true
			}
			return slices.Contains(reviewers, user)
		}
		out = append(out, x)
	}
	return out
}

// waitingProposals are told to whoever may write all of what they change, and is another
// person. Whether he gains by it is seen when he decides.
func (w *world) waitingProposals(now lockkeeper.Moment) []waiting {
	var out []waiting
	for _, id := range slices.Sorted(maps.Keys(w.Proposals)) {
		p := w.Proposals[id]
		if !now.Before(p.Deadline) {
			continue
		}
		x := waiting{key: catalog.AboutProposals + "/" + p.ID, about: catalog.AboutProposals, subject: proposalSubject(p.ID)}
		x.text = fmt.Sprintf("%s proposes a change of the rules that weakens: %s. %s", p.User, strings.Join(p.Weakens, "; "), p.Message)
		proposer := w.everybody(p.User, p.Persons)
		x.waits = func(user string) bool {
			return user != p.User && !shared(w.persons(user), proposer) && !slices.ContainsFunc(p.Changes, func(ch ChangedDocument) bool {
				key := catalog.Key{Kind: ch.Kind, Project: ch.Project, Name: ch.Name}
				return !w.could(user, writeAction[ch.Kind], w.rules.Catalog.ScopeOf(key), now)
			})
		}
		out = append(out, x)
	}
	return out
}

func (w *world) waitingCampaigns(now lockkeeper.Moment) []waiting {
	var out []waiting
	for _, id := range slices.Sorted(maps.Keys(w.Campaigns)) {
		c := w.Campaigns[id]
		open := slices.ContainsFunc(c.Items, func(i ReviewItem) bool { return i.Verdict == "" })
		if !open || !now.Before(c.Deadline) {
			continue
		}
		x := waiting{key: catalog.AboutCampaigns + "/" + c.ID, about: catalog.AboutCampaigns, subject: campaignSubject(c.ID)}
		x.text = fmt.Sprintf("The campaign %s (%s) asks whether assignments at %s are still needed, until %s.", c.ID, c.Title, c.Scope, c.Deadline)
		x.waits = func(user string) bool { return len(w.reviews(c, user, now)) > 0 }
		out = append(out, x)
	}
	return out
}

func (w *world) waitingNotices(now lockkeeper.Moment) []waiting {
	var out []waiting
	for _, id := range slices.Sorted(maps.Keys(w.Notices)) {
		n := w.Notices[id]
		if now.Sub(n.At) >= noticeLife {
			continue
		}
		x := waiting{key: catalog.AboutNotices + "/" + n.ID, about: catalog.AboutNotices, subject: noticeSubject(n.ID), text: n.About + ": " + n.Text}
		x.waits = func(user string) bool { return slices.Contains(n.For, user) }
		out = append(out, x)
	}
	return out
}

// waitingAlerts are told to whoever may read who may do what.
func (w *world) waitingAlerts(alerts []waiting, now lockkeeper.Moment) []waiting {
	out := slices.Concat(alerts, w.failingChannels())
	for i := range out {
		out[i].waits = func(user string) bool { return w.allowed(user, lockkeeper.ReadAccess, lockkeeper.Root, now) }
	}
	return out
}

// failingChannels are notifications that have given up on something, and do still fail.
func (w *world) failingChannels() []waiting {
	if w.Outbox == nil {
		return nil
	}
	var out []waiting
	for _, name := range slices.Sorted(maps.Keys(w.Outbox.Channels)) {
		if a, fails := channelAlert(name, w.Outbox.Channels[name]); fails {
			out = append(out, alertWaiting(a))
		}
	}
	return out
}

// channelAlert is the alert that a notification does not reach anybody.
func channelAlert(name string, s Standing) (Alert, bool) {
	if s.GaveUp.IsZero() {
		return Alert{}, false
	}
	return Alert{Kind: "channel_failing", Severity: alertKinds["channel_failing"], Subject: "notification " + name,
		Sentence: fmt.Sprintf("The notification %s fails since %s, and messages were given up on: %s", name, s.Failed, s.Reason),
		Next:     "Mend the channel, and try it: lockkeeper notifications test " + name, Evidence: []string{fmt.Sprintf("%d messages were given up on", s.Lost)}}, true
}

// channels are notifications that reach nobody.
func (w *watch) channels() {
	for _, name := range slices.Sorted(maps.Keys(w.survey.channels)) {
		if a, fails := channelAlert(name, w.survey.channels[name]); fails {
			w.add(a)
		}
	}
}

func alertWaiting(a Alert) waiting {
	return waiting{key: fmt.Sprintf("%s/%s/%s", catalog.AboutAlerts, a.Kind, lockkeeper.DigestOf([]byte(a.Subject)).Hex()[:16]), about: catalog.AboutAlerts,
		subject: "alerts", text: fmt.Sprintf("%s: %s %s", a.Kind, a.Sentence, a.Next)}
}

// CheckedAlerts are the alerts with the default thresholds, for what the server itself
// does about them.
func (k *Keeper) CheckedAlerts(ctx context.Context) ([]Alert, error) {
	t, err := Thresholds{}.filled()
	if err != nil {
		return nil, err
	}
	return k.alerts(ctx, t)
}
