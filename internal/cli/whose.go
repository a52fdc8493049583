package cli

import (
	"net/url"

	"github.com/spf13/cobra"
)

// whose adds to a command that lists things of a user the flags that say of whom, and
// gives the path of the list that they ask for.
func whose(c *cobra.Command, path string) func() string {
	var user string
	var all bool
	c.Flags().StringVar(&user, "user", "", "whose")
	c.Flags().BoolVar(&all, "all", false, "everybody's")
	return func() string {
		q := url.Values{}
		if user != "" {
			q.Set("user", user)
		}
		if all {
			q.Set("all", "true")
		}
		return path + "?" + q.Encode()
	}
}
