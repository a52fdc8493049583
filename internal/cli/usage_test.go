package cli

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// play runs the command line in this process.
func play(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	a := &app{in: strings.NewReader(""), out: &out, err: &err}
	code = a.run(context.Background(), args)
	return code, out.String(), err.String()
}

// everyCommand is the whole tree, the root first.
func everyCommand() []*cobra.Command {
	all := []*cobra.Command{(&app{}).root()}
	for i := 0; i < len(all); i++ {
		all = append(all, all[i].Commands()...)
	}
	return all
}

func wordsOf(c *cobra.Command) []string { return strings.Fields(c.CommandPath())[1:] }

// Every parent refuses a word that is none of its commands, and what has no
// action of its own refuses to be called bare.
func TestParents(t *testing.T) {
	parents := 0
	for _, c := range everyCommand() {
		if !c.HasSubCommands() {
			continue
		}
		parents++
		words := wordsOf(c)
		for _, flags := range [][]string{nil, {"--nope"}} {
			args := slices.Concat(words, []string{"elephant"}, flags)
			if code, out, err := play(t, args...); code != 2 || out != "" || !strings.Contains(err, `no command "elephant". [usage]`) {
				t.Errorf("%v: exit %d, %q, %q", args, code, out, err)
			}
		}
		if c.Annotations["parent"] == "" {
			continue
		}
		if code, out, err := play(t, words...); code != 2 || out != "" || !strings.Contains(err, "Available Commands:") || !strings.Contains(err, "needs a command. [usage]") {
			t.Errorf("%v bare: exit %d, %q, %q", words, code, out, err)
		}
	}
	if parents < 10 {
		t.Errorf("only %d parents", parents)
	}
}
