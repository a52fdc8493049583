package cli

import (
	"bytes"
	"context"
	"regexp"
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

// Every command that is shown says in a line what it does, and shows how.
func TestEveryCommandHasAnExample(t *testing.T) {
	all := everyCommand()
	for _, c := range all {
		if c.Hidden {
			continue
		}
		if c.Short == "" {
			t.Errorf("%s has no Short", c.CommandPath())
		}
		if c.Example == "" {
			t.Errorf("%s has no Example", c.CommandPath())
		}
		shown := false
		for line := range strings.Lines(c.Example) {
			shown = shows(t, c, line) || shown
		}
		if !shown {
			t.Errorf("no example of %s runs it:\n%s", c.CommandPath(), c.Example)
		}
	}
	for _, name := range []string{"completion", "help"} {
		if !slices.ContainsFunc(all, func(c *cobra.Command) bool { return c.Name() == name }) {
			t.Errorf("the tree that was walked has no %s", name)
		}
	}
}

var ran = regexp.MustCompile(`\blockkeeper((?: [a-z][a-z-]*)*)(.*)`)

// shows reports whether a line of an example runs c or a command below it, and
// checks that the flags in it exist.
func shows(t *testing.T, c *cobra.Command, line string) bool {
	found := ran.FindStringSubmatch(strings.TrimSpace(line))
	if found == nil {
		return false
	}
	about, _, err := c.Root().Find(strings.Fields(found[1]))
	if err != nil {
		t.Errorf("%s: %q: %v", c.CommandPath(), line, err)
		return false
	}
	ours, _, _ := strings.Cut(found[2], " -- ")
	for _, flag := range regexp.MustCompile(` --([a-z-]+)`).FindAllStringSubmatch(ours, -1) {
		if about.Flag(flag[1]) == nil && flag[1] != "help" {
			t.Errorf("%s: %q: %s has no flag --%s", c.CommandPath(), line, about.CommandPath(), flag[1])
		}
	}
	return strings.HasPrefix(about.CommandPath()+" ", c.CommandPath()+" ")
}
