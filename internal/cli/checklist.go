package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
)

const checklistHelp = "\n\nWhere a security review has a checklist, each item is answered with --answer ITEM=yes, or ITEM=yes:COMMENT.\nAn approval that leaves one out, or says no to one, does not count as the review."

// answersOf reads ITEM=yes|no[:COMMENT] as answers to what the deployment asks. Where
// an item is asked in two wordings, of now and of when the ask was opened, the answer
// is to both.
func answersOf(given []string, asked []api.ChecklistItem) ([]api.ReviewAnswer, error) {
	var out []api.ReviewAnswer
	for _, s := range given {
		item, rest, cut := strings.Cut(s, "=")
		word, comment, _ := strings.Cut(rest, ":")
		if !cut || word != "yes" && word != "no" {
			return nil, lockkeeper.Invalid.Errorf("answer_malformed", "The answer %.80q is no ITEM=yes or ITEM=no.", s).WithNext("Write it as --answer data=yes, or with a comment as --answer data=yes:COMMENT.")
		}
		before := len(out)
		for _, q := range asked {
			if q.Item == item {
				out = append(out, api.ReviewAnswer{Item: item, Ask: q.Ask, Yes: word == "yes", Comment: comment})
			}
		}
		if len(out) == before {
			return nil, lockkeeper.Invalid.Errorf("item_unknown", "Nothing asks for an answer to %.63q.", item).WithNext("It asks for: %s.", itemsOf(asked))
		}
	}
	return out, nil
}

func itemsOf(asked []api.ChecklistItem) string {
	var out []string
	for _, q := range asked {
		out = append(out, q.Item)
	}
	if len(out) == 0 {
		return "no answer at all"
	}
	return strings.Join(out, ", ")
}

func printAnswers(w io.Writer, list []api.ReviewAnswer) {
	for _, a := range list {
		word := "no"
		if a.Yes {
			word = "yes"
		}
		fmt.Fprintf(w, "            %s: %s %s\n", a.Item, word, printable(a.Comment))
	}
}
