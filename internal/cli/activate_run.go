package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/spf13/cobra"
)

// activateArgs takes a role, and a command after --.
func activateArgs(c *cobra.Command, args []string) error {
	if n := c.ArgsLenAtDash(); n >= 0 {
		return cobra.ExactArgs(1)(c, args[:n])
	}
	return cobra.ExactArgs(1)(c, args)
}

// openedWithin is how long a job waits until what it activated is granted outside.
const openedWithin = 2 * time.Minute

// whileActive begins what a job asked for, and waits until it is granted outside. With a
// command it runs that, and ends the activation with it, however it ends: a job that
// dies in between has the role until the activation's own end.
func (a *app) whileActive(ctx context.Context, client api.Client, r api.Request, timeout time.Duration, command []string) (err error) {
	active, err := a.begin(ctx, client, r, timeout)
	if err != nil {
		return err
	}
	if len(command) > 0 {
		defer func() {
			ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
			defer cancel()
			if failed := client.Call(ending, "POST", "/requests/"+pathEscape(r.ID)+"/end", nil, nil); failed != nil {
				fmt.Fprintf(a.err, "The end of %s could not be told; it ends by itself at %s: %v\n", active.ID, active.Ends, failed)
			}
		}()
	}
	if active, err = a.granted(ctx, client, r.ID, active); err != nil {
		return err
	}
	if len(command) == 0 {
		return a.print(active, func(w io.Writer) { printActivation(w, active) })
	}
	fmt.Fprintf(a.err, "%s has activated %s at %s until %s.\n", active.User, active.Role, active.Scope, active.Ends)
	code, err := (&driver{app: a}).execute(command, os.Environ(), nil)
	if err == nil && code != 0 {
		err = &exitError{code: code}
	}
	return err
}

// granted asks until everything that an activation opens is granted. To begin again
// what has begun gives the same activation.
func (a *app) granted(ctx context.Context, client api.Client, request string, active api.Activation) (api.Activation, error) {
	waiting, cancel := context.WithTimeout(ctx, openedWithin)
	defer cancel()
	for {
		missing := api.Opening{}
		for _, o := range active.Opens {
			if o.Status != "granted" {
				missing = o
			}
		}
		if missing.Provisioner == "" {
			return active, nil
		}
		select {
		case <-waiting.Done():
			why := "no worker has granted it"
			if missing.Code != "" {
				why = fmt.Sprintf("%s [%s]", missing.Reason, missing.Code)
			}
			return active, lockkeeper.Unavailable.Errorf("not_granted_yet", "The provisioner %s has not granted what the job activated: %s", missing.Provisioner, why).WithNext("It is tried again while the activation lasts; see: lockkeeper duties list")
		case <-time.After(300 * time.Millisecond):
		}
		var next api.Activation
		if err := client.Call(ctx, "POST", "/requests/"+pathEscape(request)+"/begin", nil, &next); err != nil {
			return active, err
		}
		active = next
	}
}
