package keeper

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// rule gives, under other rules than then, the rulings that a claim of an ask needs and
// that nobody recorded, over what was known. It returns what the gate calls the checks
// whose ruling cannot be given. Under the rules of then all that counted is recorded.
func (h *hindsight) rule(d *Deployment, now lockkeeper.Moment) (unruled []string) {
	if d == nil || !h.given {
		return nil
	}
	f, err := h.world().facts(d, now)
	if err != nil {
		return nil // it is not decided by policies
	}
	for _, c := range d.policyChecks(f.Environment) {
		view := f.PolicyView(c, now)
		missing, key, err := f.MissingRuling(c, view, now)
		if c.Shadow || err == nil && !missing {
			continue
		}
		if err != nil || !h.ruleOne(d, c, openRuling(d.ID, c, view, key, now)) {
			unruled = append(unruled, "check "+c.Name)
		}
	}
	return unruled
}

// ruleOne evaluates one policy of the given rules and notes what it says at the ask, and
// reports whether it says anything.
func (h *hindsight) ruleOne(d *Deployment, c catalog.Check, o OpenRuling) bool {
	p, known := h.rules.Catalog.Policies[c.Policy.Name]
	if !known || h.evaluate == nil || string(h.rules.Catalog.PolicyOf(p.Name)) != c.Policy.Digest || o.Input == nil {
		return false
	}
	said := h.evaluate(string(p.Rego), o.Input)
	if said.Verdict == lockkeeper.Error {
		return false
	}
	o.Ruling.Verdict, o.Ruling.Code, o.Ruling.Sentences, o.Ruling.More, o.Ruling.Evaluator = said.Verdict, said.Code, said.Sentences, said.More, said.Evaluator
	(&policyJudged{ID: d.ID, Ruling: o.Ruling}).on(d)
	return true
}

// claimed is the ask of a claim that was granted or refused; nil: it is about something
// else.
func (h *hindsight) claimed(ev event, r repetition) *Deployment {
	switch ev := ev.(type) {
	case *leaseGranted:
		return h.state.Deployments[ev.Deployment]
	case *refusalMade:
		if ev.Command == (claimLease{}).name() && len(r.rests) > 0 {
			return h.state.Deployments[r.rests[len(r.rests)-1]]
		}
	}
	return nil
}

// unanswered is why nothing tells how a decision would be: it hangs only on answers of
// services, if some are missing, and on the checks whose policies gave no ruling. "": it
// hangs on something that is known.
func unanswered(refusal *lockkeeper.Refusal, missing bool, unruled []string) string {
	if refusal == nil || refusal.Decision == nil {
		return ""
	}
	why := ""
	var hangs func(d lockkeeper.Decision) bool
	hangs = func(d lockkeeper.Decision) bool {
		found := false
		for _, b := range d.Because {
			switch {
			case b.Verdict == lockkeeper.Pass || b.Code == "lock_later":
				continue
			case missing && b.Code == "call_not_asked":
				why = cmp.Or(why, "outside")
			case slices.Contains(unruled, b.Subject):
				why = "policy"
			case len(b.Because) == 0 || !hangs(b):
				return false
			}
			found = true
		}
		return found
	}
	if !hangs(*refusal.Decision) {
		return ""
	}
	return why
}

// ruleAgain evaluates a policy once more that was evaluated then: over what the journal
// says was known, it must have seen the very same, and say the same of it. What gave no
// verdict then did so because of the machine, or will again.
func (h *hindsight) ruleAgain(e Entry, ev *policyJudged) {
	then := ev.Ruling
	if then.Verdict == lockkeeper.Error || h.evaluate == nil {
		return
	}
	h.out.Decided++
	w, d := h.world(), h.state.Deployments[ev.ID]
	differs := func(code, sentence string) {
		h.out.Refused++
		if len(h.out.Differs) < h.most {
			h.out.Differs = append(h.out.Differs, Differing{Seq: e.Seq, At: e.Time, Kind: e.Kind, By: e.By.String(), About: ev.subjects(), Answer: AgainRefused, Code: code, Sentence: sentence})
		} else {
			h.out.Left++
		}
	}
	f, err := w.facts(d, then.At)
	if err != nil {
		h.out.Unknowable["error"]++
		return
	}
	i := slices.IndexFunc(d.policyChecks(f.Environment), func(c catalog.Check) bool {
		key, err := f.PolicyView(c, then.At).Key()
		return c.Name == then.Check && c.Policy.Digest == string(then.Policy) && err == nil && key == then.Facts
	})
	if i < 0 {
		differs("policy_saw_other", fmt.Sprintf("The policy of the check %s saw something else than the journal says was known.", then.Check))
		return
	}
	c := d.policyChecks(f.Environment)[i]
	input, err := f.PolicyView(c, then.At).Input(then.At)
	p, known := h.rules.Catalog.Policies[c.Policy.Name]
	switch {
	case err != nil || lockkeeper.DigestOf(input) != then.Input:
		differs("policy_saw_other", fmt.Sprintf("The policy of the check %s saw something else than the journal says was known.", then.Check))
		return
	case !known || h.rules.Catalog.PolicyOf(p.Name) != then.Policy: // one that the ask was opened under
		h.out.Unknowable["policy"]++
		return
	}
	now := then
	said := h.evaluate(string(p.Rego), input)
	now.Verdict, now.Code, now.Sentence, now.Sentences, now.More = said.Verdict, said.Code, "", said.Sentences, said.More
	switch {
	case now.Same(then):
		h.out.Same++
	case said.Evaluator != then.Evaluator || said.Verdict == lockkeeper.Error:
		h.out.Unknowable["evaluator"]++
	default:
		differs("policy_says_other", fmt.Sprintf("The policy of the check %s says something else of what it saw then.", then.Check))
	}
}
