package gate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// An Answer is what a reviewer said to one item of a checklist. It keeps the text that
// was answered: a yes to one wording is none to another.
type Answer struct {
	Item    string `json:"item"`
	Ask     string `json:"ask"` // the item's text, as the reviewer saw it
	Yes     bool   `json:"yes"`
	Comment string `json:"comment,omitempty"`
}

// leavesOpen says which items of an approval's checklist a vote does not answer with
// yes; "": none. An item that is answered twice counts only if both are yes.
func (v Vote) leavesOpen(a catalog.Approval) string {
	var none, no []string
	for _, q := range a.Checklist {
		about := func(x Answer) bool { return x.Item == q.Item && x.Ask == q.Ask }
		switch {
		case !slices.ContainsFunc(v.Answers, about):
			none = append(none, q.Item)
		case slices.ContainsFunc(v.Answers, func(x Answer) bool { return about(x) && !x.Yes }):
			no = append(no, q.Item)
		}
	}
	var out []string
	if len(none) > 0 {
		out = append(out, "has no answer to "+strings.Join(none, ", "))
	}
	if len(no) > 0 {
		out = append(out, "has a no to "+strings.Join(no, ", "))
	}
	return strings.Join(out, " and ")
}

// unanswered refuses a vote that would count nowhere, because of what it leaves open.
func unanswered(d lockkeeper.Decision, open []string) lockkeeper.Decision {
	d.Verdict, d.Code = lockkeeper.Fail, "checklist_open"
	d.Sentence = "It would not count: " + strings.Join(open, "; ") + "."
	d.Next = "Answer each item: lockkeeper approve ID --answer ITEM=yes:COMMENT. If one is no, say so: lockkeeper reject ID"
	return d
}

// checklist says what a reviewer must answer.
func checklist(a catalog.Approval) string {
	var items []string
	for _, q := range a.Checklist {
		items = append(items, q.Item)
	}
	if len(items) == 0 {
		return ""
	}
	return fmt.Sprintf(" Each answers with yes: %s.", strings.Join(items, ", "))
}
