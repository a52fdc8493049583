package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// A shell is one that completes what is typed, and how it is told to.
type shell struct {
	name, now, always string
	script            func(root *cobra.Command, w io.Writer) error
}

func shells() []shell {
	return []shell{
		{"bash", "source <(lockkeeper completion bash)", "lockkeeper completion bash > /etc/bash_completion.d/lockkeeper",
			func(root *cobra.Command, w io.Writer) error { return root.GenBashCompletionV2(w, true) }},
		{"zsh", "source <(lockkeeper completion zsh)", `lockkeeper completion zsh > "${fpath[1]}/_lockkeeper"`, (*cobra.Command).GenZshCompletion},
		{"fish", "lockkeeper completion fish | source", "lockkeeper completion fish > ~/.config/fish/completions/lockkeeper.fish",
			func(root *cobra.Command, w io.Writer) error { return root.GenFishCompletion(w, true) }},
		{"powershell", "lockkeeper completion powershell | Out-String | Invoke-Expression", "lockkeeper completion powershell >> $PROFILE", (*cobra.Command).GenPowerShellCompletionWithDesc},
	}
}

func (a *app) completionCommand() *cobra.Command {
	parent := &cobra.Command{Use: "completion", Short: "Print the script with which a shell completes commands and flags"}
	for _, s := range shells() {
		parent.AddCommand(&cobra.Command{Use: s.name, Short: "Print the completion script for " + s.name, Args: cobra.NoArgs,
			Long:    fmt.Sprintf("In this shell: %s\nIn every new one: %s", s.now, s.always),
			Example: "  " + s.always,
			RunE: func(c *cobra.Command, _ []string) error {
				var script strings.Builder
				if err := s.script(c.Root(), &script); err != nil {
					return err
				}
				return a.print(map[string]string{"shell": s.name, "script": script.String()}, func(w io.Writer) { io.WriteString(w, script.String()) })
			}})
	}
	return parent
}

// helpCommand refuses what there is no help about: the library's own prints the
// root's help and takes it for a success.
func (a *app) helpCommand() *cobra.Command {
	return &cobra.Command{Use: "help [COMMAND…]", Short: "Print the help of a command", Example: "  lockkeeper help\n  lockkeeper help journal verify",
		RunE: func(c *cobra.Command, args []string) error {
			about, rest, err := c.Root().Find(args)
			if err != nil {
				return err
			}
			if len(rest) > 0 && about.HasSubCommands() {
				return unknownCommand(about, rest[0])
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		}}
}
