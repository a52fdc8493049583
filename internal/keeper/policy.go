package keeper

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/gate"
)

// A check of an environment may name a policy in Rego. No decision evaluates it: a worker
// does, over what the gate knows, and comes back with a ruling. It is recorded only if
// what the policy saw is what is known at that moment; and at the gate it counts only
// while that stays so. So nothing has to be told that evidence has come or the catalog
// has changed: the ruling of before is about something else then (docs/design/0024).

// maxRulings bounds the rulings of one ask; the oldest give way. rulingsOfOne bounds
// those of one check and policy.
const (
	maxRulings   = 100
	rulingsOfOne = 2
)

// rulingSkew is for how long after the instant that a policy saw its ruling is taken.
const rulingSkew = time.Minute

// policyJudged is a ruling on a waiting ask.
type policyJudged struct {
	one
	ID       string            `json:"id"`     // of the deployment
	Digest   lockkeeper.Digest `json:"digest"` // of its ask
	Ruling   gate.Ruling       `json:"ruling"`
	Revision int               `json:"revision"`
}

func (*policyJudged) kind() string          { return "policy.judged" }
func (ev *policyJudged) subjects() []string { return []string{deploymentSubject(ev.ID)} }
func (ev *policyJudged) apply(s *State, _ Entry) error {
	d := s.Deployments[ev.ID]
	if d == nil {
		return fmt.Errorf("the deployment %s is not open", ev.ID)
	}
	ev.on(d)
	return nil
}

// on puts the ruling behind the others, in the place of those that it makes idle.
func (ev *policyJudged) on(d *Deployment) {
	r, of := ev.Ruling, 0
	var out []gate.Ruling
	for i := len(d.Rulings) - 1; i >= 0; i-- {
		o := d.Rulings[i]
		if o.Check == r.Check && o.Policy == r.Policy {
			if of++; o.Facts == r.Facts || of >= rulingsOfOne {
				continue
			}
		}
		if len(out) < maxRulings-1 {
			out = append(out, o)
		}
	}
	slices.Reverse(out)
	d.Rulings = append(out, r)
}

// reportRuling brings what came of evaluating a policy.
type reportRuling struct {
	Deployment string
	Ruling     gate.Ruling
}

func (reportRuling) name() string    { return "policy.report" }
func (c reportRuling) about() string { return deploymentSubject(c.Deployment) }

func (c reportRuling) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	if !by.Keeper {
		return nil, nil, lockkeeper.Forbidden.Errorf("ruling_not_yours", "Only the server's own worker says what came of a policy.")
	}
	d := w.Deployments[c.Deployment]
	if d == nil || d.Status != Waiting || w.overdue(d, now) {
		return nil, nil, lockkeeper.Conflict.Errorf("ruling_over", "The deployment %s waits for nothing any more.", c.Deployment)
	}
	r := c.Ruling
	if !slices.Contains([]lockkeeper.Verdict{lockkeeper.Pass, lockkeeper.Fail, lockkeeper.Wait, lockkeeper.Error}, r.Verdict) || now.Before(r.At) || !now.Before(r.At.Add(rulingSkew)) {
		return nil, nil, lockkeeper.Invalid.Errorf("ruling_malformed", "A ruling has a verdict, and is of now.")
	}
	f, err := w.facts(d, now)
	if err != nil {
		return nil, nil, err
	}
	for _, check := range d.policyChecks(f.Environment) {
		if check.Name != r.Check || check.Policy.Digest != string(r.Policy) {
			continue
		}
		due, key, err := f.DueRuling(check, f.PolicyView(check, now), now)
		if err != nil || key != r.Facts {
			continue
		}
		if !due { // two servers on one journal evaluate both
			return nil, nil, nil
		}
		was := slices.IndexFunc(d.Rulings, func(o gate.Ruling) bool { return o.Verdict == lockkeeper.Error && o.Same(r) })
		if r.Verdict == lockkeeper.Error && was >= 0 {
			return nil, nil, nil // as before
		}
		return []event{&policyJudged{ID: d.ID, Digest: d.Digest, Ruling: r, Revision: w.Revision.Number}}, nil, nil
	}
	return nil, nil, lockkeeper.Conflict.Errorf("ruling_late", "The policy of the check %.63s saw what is not known any more.", r.Check).WithNext("Nothing: it is evaluated anew.")
}

// policyChecks are the checks of an ask that name policies: those of its environment now,
// and those that it was opened under.
func (d *Deployment) policyChecks(env catalog.Environment) []catalog.Check {
	var out []catalog.Check
	for _, c := range slices.Concat(env.Checks, d.Terms) {
		if c.Policy == nil || c.Policy.Digest == "" || slices.ContainsFunc(out, func(o catalog.Check) bool { return o.Name == c.Name && *o.Policy == *c.Policy }) {
			continue
		}
		out = append(out, c)
	}
	return out
}

// An OpenRuling is a policy that is to be evaluated, over its input.
type OpenRuling struct {
	Deployment string
	Policy     string      // its name
	Ruling     gate.Ruling // what is known of it: everything but the verdict
	Input      []byte      // nil: what the policy would see is too large
}

// Key tells apart what is to be evaluated, for a worker that remembers what it tried.
func (o OpenRuling) Key() string {
	return o.Deployment + "\n" + o.Ruling.Check + "\n" + string(o.Ruling.Policy) + "\n" + string(o.Ruling.Facts)
}

// Rulings lists what policies are to be evaluated now. They are looked for deployment by
// deployment, so that no decision waits for it.
func (k *Keeper) Rulings() []OpenRuling {
	k.mu.RLock()
	var ids []string
	for id, d := range k.state.Deployments {
		env := k.rules.Catalog.Environments[lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment)]
		if d.Status == Waiting && len(d.policyChecks(env)) > 0 {
			ids = append(ids, id)
		}
	}
	k.mu.RUnlock()
	slices.Sort(ids)
	var out []OpenRuling
	for _, id := range ids {
		out = append(out, k.rulingsOf(id)...)
	}
	return out
}

func (k *Keeper) rulingsOf(id string) []OpenRuling {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	d := k.state.Deployments[id]
	w := world{State: k.state, rules: k.rules}
	if d == nil || d.Status != Waiting || w.overdue(d, now) {
		return nil
	}
	f, err := w.facts(d, now)
	if err != nil {
		return nil
	}
	var out []OpenRuling
	for _, c := range d.policyChecks(f.Environment) {
		view := f.PolicyView(c, now)
		if due, key, err := f.DueRuling(c, view, now); err == nil && due {
			out = append(out, openRuling(d.ID, c, view, key, now))
		}
	}
	return out
}

func openRuling(id string, c catalog.Check, view gate.PolicyView, key lockkeeper.Digest, now lockkeeper.Moment) OpenRuling {
	o := OpenRuling{Deployment: id, Policy: c.Policy.Name, Ruling: gate.Ruling{Check: c.Name, Policy: lockkeeper.Digest(c.Policy.Digest), Facts: key, At: now}}
	if input, err := view.Input(now); err == nil {
		o.Input, o.Ruling.Input = input, lockkeeper.DigestOf(input)
	}
	return o
}

// PolicyText is the text of a policy, by the digest of its document: of now, or of when
// an ask was opened.
func (k *Keeper) PolicyText(ctx context.Context, policy lockkeeper.Digest) (string, error) {
	k.mu.RLock()
	c := k.rules.Catalog
	k.mu.RUnlock()
	for name, p := range c.Policies {
		if c.PolicyOf(name) == policy {
			return string(p.Rego), nil
		}
	}
	data, err := k.journal.Document(ctx, policy)
	if err != nil {
		return "", err
	}
	then, err := catalog.Compile([][]byte{data})
	if err != nil {
		return "", err
	}
	for _, p := range then.Policies {
		return string(p.Rego), nil
	}
	return "", fmt.Errorf("the document %s is no policy", policy)
}

// ReportRuling brings what came of a policy. A ruling about what is not known any more is
// a Conflict and changes nothing.
func (k *Keeper) ReportRuling(ctx context.Context, o OpenRuling) error {
	o.Ruling.Sentence = clipped(o.Ruling.Sentence)
	_, err := do[any](ctx, k, Caller{Keeper: true}, "", reportRuling{o.Deployment, o.Ruling})
	return err
}

// A PolicyInput is what a policy sees of a deployment.
type PolicyInput struct {
	Check  string
	Policy string
	Digest lockkeeper.Digest // of the policy's document
	Facts  lockkeeper.Digest
	Input  []byte // JSON
}

// PolicyInputs is what the policies of a deployment that waits see now; check "" asks for
// all of its environment. It takes deployments/read there, or the deployment's handle.
func (k *Keeper) PolicyInputs(by Caller, id, check string) ([]PolicyInput, error) {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	d, err := w.alive(id)
	if err != nil {
		return nil, err
	}
	if by.Holder != d.ID {
		if _, err := w.may(by, lockkeeper.ReadDeployments, lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment), now); err != nil {
			return nil, err
		}
	}
	f, err := w.facts(d, now)
	if err != nil {
		return nil, err
	}
	var out []PolicyInput
	for _, c := range d.policyChecks(f.Environment) {
		if check != "" && c.Name != check {
			continue
		}
		view := f.PolicyView(c, now)
		key, err := view.Key()
		if err != nil {
			return nil, err
		}
		input, err := view.Input(now)
		if err != nil {
			return nil, err
		}
		out = append(out, PolicyInput{c.Name, c.Policy.Name, lockkeeper.Digest(c.Policy.Digest), key, input})
	}
	if len(out) == 0 {
		return nil, lockkeeper.NotFound.Errorf("policy_none", "No check of %s%s names a policy.", d.Ask.Environment, strings.TrimSuffix(" called "+check, " called ")).WithNext("See its checks: lockkeeper deployments show %s", id)
	}
	return out, nil
}

// Ruled counts the last rulings of each check and policy about what waits, by verdict.
func (k *Keeper) Ruled() map[lockkeeper.Verdict]int {
	k.mu.RLock()
	defer k.mu.RUnlock()
	out := map[lockkeeper.Verdict]int{}
	for _, d := range k.state.Deployments {
		if d.Status != Waiting {
			continue
		}
		for i, r := range d.Rulings {
			if !slices.ContainsFunc(d.Rulings[i+1:], func(o gate.Ruling) bool { return o.Check == r.Check && o.Policy == r.Policy }) {
				out[r.Verdict]++
			}
		}
	}
	return out
}
