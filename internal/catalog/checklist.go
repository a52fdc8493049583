package catalog

import (
	"fmt"
	"strings"

	"github.com/lockkeeper/lockkeeper"
)

// A ChecklistItem is one item of a security review's checklist.
type ChecklistItem struct {
	Item string `json:"item"` // its name, by which it is answered: data
	Ask  string `json:"ask"`  // what yes stands for, in a sentence: No new personal data leaves the cluster. At most 500 bytes
}

// Bounds of a checklist.
const (
	maxQuestions = 32
	maxQuestion  = 500
)

// checklist refuses one that nobody could answer, or whose answers would mean two
// things: an item has one name in an environment, over all its approvals.
func (v *rules) checklist(r *resource, at string, e *Environment, a Approval) {
	if len(a.Checklist) == 0 {
		return
	}
	if a.Review == "" {
		v.add(r, at, "checklist_unfit", "A checklist is of a security review.", "Add review: "+SecurityReview+", or say with instructions what an approver should look at.")
	}
	if len(a.Checklist) > maxQuestions {
		v.bounded(r, at, len(a.Checklist), maxQuestions)
		return
	}
	for i, q := range a.Checklist {
		one := fmt.Sprintf("%s[%d]", at, i)
		if err := lockkeeper.CheckName(q.Item); err != nil {
			v.add(r, one+".item", "name_unfit", "The name of the item is unfit: "+clip(err.Error(), 200)+".", "Choose a name such as data, and answer it: lockkeeper approve ID --answer data=yes")
		}
		if strings.TrimSpace(q.Ask) == "" || len(q.Ask) > maxQuestion {
			v.add(r, one+".ask", "question_unfit", fmt.Sprintf("The item has %d bytes of text; it must have 1 to %d.", len(strings.TrimSpace(q.Ask)), maxQuestion), "Say in a sentence what yes stands for.")
		}
		n := 0
		for _, c := range e.Checks {
			if c.Approval == nil {
				continue
			}
			for _, o := range c.Approval.Checklist {
				if o.Item == q.Item {
					n++
				}
			}
		}
		if n > 1 {
			v.add(r, one+".item", "duplicate", "Two items of the checklists of "+e.Name+" have the name "+name(q.Item)+".", "Give each a name of its own.")
		}
	}
}

// reviewItems lists, item by item, what an approval's checklist asks.
func (a Approval) reviewItems() []string {
	var out []string
	for _, q := range a.Checklist {
		out = append(out, q.Item+": "+q.Ask)
	}
	return out
}
