package gate

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// MaxPolicyInput is how many bytes a policy's input has at most.
const MaxPolicyInput = 4 << 20

// policyErrorPause is after which time a policy that gave no verdict is asked again.
const policyErrorPause = time.Minute

// A Ruling is what came of evaluating a policy over what a gate knew at an instant.
type Ruling struct {
	Check     string             `json:"check"`
	Policy    lockkeeper.Digest  `json:"policy"`    // of the policy's document
	Facts     lockkeeper.Digest  `json:"facts"`     // of what was known, without the time and without what pieces of evidence say, which never changes
	Input     lockkeeper.Digest  `json:"input"`     // of all that the policy saw
	At        lockkeeper.Moment  `json:"at"`        // the time that it saw
	Evaluator string             `json:"evaluator"` // with its version: opa/1.22.2
	Verdict   lockkeeper.Verdict `json:"verdict"`
	Code      string             `json:"code"`
	Sentence  string             `json:"sentence,omitempty"`  // why there is no verdict
	Sentences []string           `json:"sentences,omitempty"` // what the policy says against it
	More      int                `json:"more,omitempty"`      // sentences that are not among these
}

// Same reports whether two rulings say the same, whenever they were made.
func (r Ruling) Same(o Ruling) bool {
	r.At, o.At, r.Input, o.Input = lockkeeper.Moment{}, lockkeeper.Moment{}, "", ""
	a, errA := json.Marshal(r)
	b, errB := json.Marshal(o)
	return errA == nil && errB == nil && string(a) == string(b)
}

// policies judges the checks that name a policy. A ruling counts only while what the
// policy saw is what is known now: so each pass is one of now, whatever has come, gone,
// or grown old since.
func policies(f Facts, now lockkeeper.Moment) []lockkeeper.Decision {
	var out []lockkeeper.Decision
	for _, c := range f.Environment.Checks {
		if c.Policy != nil {
			out = append(out, ruled(f, c, now))
		}
	}
	return out
}

func ruled(f Facts, c catalog.Check, now lockkeeper.Moment) lockkeeper.Decision {
	d := lockkeeper.Decision{Subject: "check " + c.Name, Verdict: lockkeeper.Wait, Code: "policy_unjudged", Next: "Wait; it is evaluated by itself."}
	p := *c.Policy
	if p.Digest == "" {
		d.Verdict, d.Code, d.Sentence, d.Next = lockkeeper.Error, "policy_unknown", fmt.Sprintf("There is no policy %s.", p.Name), "Add it to the catalog."
		return d
	}
	view := f.PolicyView(c, now)
	key, err := view.Key()
	if err != nil {
		d.Verdict, d.Code, d.Sentence, d.Next = lockkeeper.Error, "policy_input_broken", "What the policy would see cannot be written down.", "Ask again."
		return d
	}
	r, found := lastRuling(f.Rulings, c.Name, lockkeeper.Digest(p.Digest), key)
	switch {
	case !found && lastRuled(f.Rulings, c.Name):
		d.Sentence = fmt.Sprintf("What the policy %s is evaluated over has changed, and it is about to be evaluated anew.", p.Name)
	case !found:
		d.Sentence = fmt.Sprintf("The policy %s is about to be evaluated.", p.Name)
	case r.Verdict == lockkeeper.Error:
		d.Verdict, d.Code, d.Sentence = lockkeeper.Error, r.Code, fmt.Sprintf("The policy %s gave no verdict at %s: %s", p.Name, r.At, r.Sentence)
		d.Next = "Mend the policy: see what it was given with lockkeeper policy input, and try it with lockkeeper policy eval. It is evaluated again every minute."
	case !now.Before(r.At.Add(p.ValidityLimit())):
		d.Code, d.Sentence = "policy_stale", fmt.Sprintf("The policy %s was evaluated at %s, which counts for %s; it is about to be evaluated anew.", p.Name, r.At, p.ValidityLimit())
	case r.Verdict == lockkeeper.Pass:
		until := r.At.Add(p.ValidityLimit())
		d = passed(c, "policy_passed", "The policy %s passed at %s.", p.Name, r.At)
		d.Until = earlier(&until, view.ends)
	default:
		d.Verdict, d.Code = r.Verdict, r.Code
		d.Sentence = fmt.Sprintf("The policy %s says: %s", p.Name, r.says())
		d.Next = "Mend what it says, and bring new evidence or ask again; what it saw: lockkeeper policy input"
	}
	return d
}

func (r Ruling) says() string {
	out := strings.Join(r.Sentences, " ")
	if r.More > 0 {
		out += fmt.Sprintf(" (and %d more)", r.More)
	}
	return out
}

// lastRuling is the newest ruling about exactly this.
func lastRuling(list []Ruling, check string, policy, facts lockkeeper.Digest) (Ruling, bool) {
	for i := len(list) - 1; i >= 0; i-- {
		if r := list[i]; r.Check == check && r.Policy == policy && r.Facts == facts {
			return r, true
		}
	}
	return Ruling{}, false
}

func lastRuled(list []Ruling, check string) bool {
	for _, r := range list {
		if r.Check == check {
			return true
		}
	}
	return false
}

// MissingRuling reports whether there is no ruling on a check's policy, over this view of
// the facts, that counts at now.
func (f Facts) MissingRuling(c catalog.Check, view PolicyView, now lockkeeper.Moment) (missing bool, key lockkeeper.Digest, err error) {
	if key, err = view.Key(); err != nil {
		return false, "", err
	}
	r, found := lastRuling(f.Rulings, c.Name, lockkeeper.Digest(c.Policy.Digest), key)
	return !found || r.Verdict == lockkeeper.Error || !now.Before(r.At.Add(c.Policy.ValidityLimit())), key, nil
}

// DueRuling reports whether a check's policy is to be evaluated now, over this view of
// the facts: there is no ruling about it, that one has come to three quarters of its
// time, or it is an error and old enough to try again.
func (f Facts) DueRuling(c catalog.Check, view PolicyView, now lockkeeper.Moment) (due bool, key lockkeeper.Digest, err error) {
	if key, err = view.Key(); err != nil {
		return false, "", err
	}
	r, found := lastRuling(f.Rulings, c.Name, lockkeeper.Digest(c.Policy.Digest), key)
	switch {
	case !found:
		return true, key, nil
	case r.Verdict == lockkeeper.Error:
		return !now.Before(r.At.Add(policyErrorPause)), key, nil
	}
	return !now.Before(r.At.Add(c.Policy.ValidityLimit() / 4 * 3)), key, nil
}
