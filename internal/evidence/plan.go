package evidence

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
)

// Plan is what a tool says that it would do to an environment.
const Plan Kind = "plan"

// The kinds of plan.
const (
	TerraformPlan = "terraform" // terraform show -json of a saved plan
	HelmPlan      = "helm"      // rendered Kubernetes manifests
)

// Bounds of a plan.
const (
	MaxChanges = 50_000 // resources or objects of one plan
	MaxShown   = 200    // changes that are kept by address; all are counted
)

// Planned says what would change, by address, and nothing of the values. Of what a
// manifest describes it says only that it is applied: what is there already, and what
// would go, is not known of it.
type Planned struct {
	Kind string `json:"kind"` // terraform or helm
	// Digest is over every change with its values, in an order of its own, so that
	// spacing and the order of members are nothing. What the plan itself marks as
	// sensitive, and the data of a Secret, is not in it: a digest of a short secret
	// could be guessed.
	Digest   lockkeeper.Digest `json:"digest"`
	Adds     int               `json:"adds,omitempty"`
	Changes  int               `json:"changes,omitempty"`
	Destroys int               `json:"destroys,omitempty"` // without those of replacements
	Replaces int               `json:"replaces,omitempty"`
	Objects  int               `json:"objects,omitempty"` // of a manifest
	// Shown are the first MaxShown changes: destroys, replacements, changes, adds, and
	// by address.
	Shown []Change `json:"shown,omitempty"`
}

// A Change is one thing that would happen.
type Change struct {
	Action  string `json:"action"`  // destroy, replace, change, forget, add or apply
	Address string `json:"address"` // aws_db_instance.main, or apps/v1 Deployment payments/app
}

// Gone is how many things would cease to be: a replacement destroys, too.
func (p Planned) Gone() int { return p.Destroys + p.Replaces }

func (p Planned) line() string {
	if p.Kind == HelmPlan {
		return fmt.Sprintf("%s: %d objects to apply; %s", p.Kind, p.Objects, p.Digest)
	}
	return fmt.Sprintf("%s: %d to add, %d to change, %d to destroy, %d to replace; %s", p.Kind, p.Adds, p.Changes, p.Destroys, p.Replaces, p.Digest)
}

// sensitive stands in a digest for what is not in it.
const sensitive = "(sensitive)"

// A planning collects the changes of a plan.
type planning struct {
	out  Planned
	all  []Change
	sums []keyedSum
}

type keyedSum struct {
	key string
	sum [sha256.Size]byte
}

func (p *planning) count(action, address string) {
	switch action {
	case "add":
		p.out.Adds++
	case "change", "forget":
		p.out.Changes++
	case "destroy":
		p.out.Destroys++
	case "replace":
		p.out.Replaces++
	case "apply":
		p.out.Objects++
	default:
		return // nothing happens
	}
	p.all = append(p.all, Change{action, clip(address)})
}

// sum adds to the digest what is said under a key, which stands once.
func (p *planning) sum(key string, canonical []byte) {
	p.sums = append(p.sums, keyedSum{key, sha256.Sum256(canonical)})
}

// summary closes the digest.
func (p *planning) summary(format, tool string) (Summary, error) {
	slices.SortFunc(p.sums, func(a, b keyedSum) int { return cmp.Compare(a.key, b.key) })
	h := sha256.New()
	fmt.Fprintf(h, "lockkeeper.plan.v1\n%s\n", p.out.Kind)
	for i, s := range p.sums {
		if i > 0 && p.sums[i-1].key == s.key {
			return Summary{}, refuse(codeContradictory, "%.200q stands twice in the plan.", s.key)
		}
		fmt.Fprintf(h, "%q %x\n", s.key, s.sum)
	}
	p.out.Digest = lockkeeper.Digest(fmt.Sprintf("sha256:%x", h.Sum(nil)))
	rank := []string{"destroy", "replace", "change", "forget", "add", "apply"}
	slices.SortFunc(p.all, func(a, b Change) int {
		return cmp.Or(cmp.Compare(slices.Index(rank, a.Action), slices.Index(rank, b.Action)), cmp.Compare(a.Address, b.Address))
	})
	p.out.Shown = slices.Clone(p.all[:min(len(p.all), MaxShown)])
	return Summary{Format: format, Tool: tool, Plan: &p.out}, nil
}

// readPlan reads a Terraform plan as JSON, or rendered manifests as YAML. Which it is
// its content says: a manifest is never one object with resource_changes.
func readPlan(content []byte) (Summary, error) {
	if text := strings.TrimSpace(string(content[:min(len(content), 512)])); strings.HasPrefix(text, "{") {
		return readTerraform(content)
	}
	return readManifests(content)
}
