package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/effect"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/spf13/cobra"
)

// tell lets a notifier tell people outside what waits for them while the server runs, and
// gives what ends it.
func (o serveOptions) tell(ctx context.Context, k *keeper.Keeper, log *slog.Logger) (finish func(), err error) {
	reach, err := effect.ParseReach(o.reach)
	if err != nil {
		return nil, lockkeeper.Invalid.Errorf("reach_unfit", "Messages cannot be let go there: %v.", err).WithNext("Name networks as --reach 10.1.0.0/16, or leave it out: they go to the public internet only.")
	}
	notifier := effect.NewNotifier(effect.NotifierOptions{Keeper: k, Secrets: o.systems, Reach: reach, Log: log})
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		notifier.Run(ctx)
		close(done)
	}()
	return func() {
		cancel()
		<-done
	}, nil
}

func (a *app) notificationsCommand() *cobra.Command {
	list := &cobra.Command{Use: "list", Short: "List who is told what outside, and how it goes", Args: cobra.NoArgs, Example: "  lockkeeper notifications list",
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.person()
			if err != nil {
				return err
			}
			var out api.Notifications
			if err := client.Call(c.Context(), "GET", "/notifications", nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				for _, n := range out.Notifications {
					printNotification(w, n)
				}
				if len(out.Notifications) == 0 {
					fmt.Fprintln(w, "Nobody is told anything outside: the catalog has no Notification.")
				}
			})
		}}
	return withCommands(&cobra.Command{Use: "notifications", Short: "Who is told what outside, by mail and in chats: list, test"}, list, a.testNotificationCommand())
}

func printNotification(w io.Writer, n api.Notification) {
	fmt.Fprintf(w, "%s  %s through channel@%s, to %s (%d users), about %s\n", n.Name, n.Via, n.Channel, strings.Join(n.To, ", "), n.Users, strings.Join(n.About, ", "))
	fmt.Fprintf(w, "  %d sent, %d waiting, %d given up\n", n.Sent, n.Waiting, n.Lost)
	if !n.Failing.IsZero() {
		fmt.Fprintf(w, "  fails since %s: %s [%s]\n", n.Failing, printable(n.Reason), n.Code)
	}
}

// testPatience is how long a test waits for what became of its message.
const testPatience = 30 * time.Second

func (a *app) testNotificationCommand() *cobra.Command {
	return &cobra.Command{Use: "test NOTIFICATION", Short: "Send one message through a notification, and say what became of it: to you, or into its room", Args: cobra.ExactArgs(1), Example: "  lockkeeper notifications test payments-leads",
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.person()
			if err != nil {
				return err
			}
			before, err := notificationNow(c.Context(), client, args[0])
			if err != nil {
				return err
			}
			var sent api.TestMessage
			if err := client.Call(c.Context(), "POST", "/notifications/"+pathEscape(args[0])+"/test", nil, &sent); err != nil {
				return err
			}
			n := before
			for end := time.Now().Add(testPatience); n.Sent == before.Sent && n.Failing == before.Failing && time.Now().Before(end); {
				select {
				case <-c.Context().Done():
					return c.Context().Err()
				case <-time.After(200 * time.Millisecond):
				}
				if n, err = notificationNow(c.Context(), client, args[0]); err != nil {
					return err
				}
			}
			if n.Sent == before.Sent {
				return lockkeeper.Unavailable.Errorf("message_waits", "The message %s was not sent yet: %s [%s]", sent.ID, orText(n.Reason, "nobody has tried"), orText(n.Code, "waiting")).
					WithNext("Mend the server's file channel@%s; the message is sent as soon as that goes.", n.Channel)
			}
			return a.print(sent, func(w io.Writer) { fmt.Fprintf(w, "Sent: %s\n", sent.ID) })
		}}
}

func orText(s, other string) string {
	if s == "" {
		return other
	}
	return printable(s)
}

// notificationNow is one notification as it stands; an unknown one is left to the test
// to refuse.
func notificationNow(ctx context.Context, client api.Client, name string) (api.Notification, error) {
	var out api.Notifications
	err := client.Call(ctx, "GET", "/notifications", nil, &out)
	for _, n := range out.Notifications {
		if n.Name == name {
			return n, err
		}
	}
	return api.Notification{}, err
}
