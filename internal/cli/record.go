package cli

import (
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/spf13/cobra"
)

func (a *app) recordCommand() *cobra.Command {
	return withCommands(&cobra.Command{Use: "record", Short: "Design records: add, list, show, approve, reject, end"},
		a.addRecordCommand(), a.listRecordsCommand(), a.showRecordCommand(), a.decideRecordCommand(true), a.decideRecordCommand(false), a.endRecordCommand())
}

// maxDocument bounds a document that is digested, in bytes.
const maxDocument = 1 << 30

func (a *app) addRecordCommand() *cobra.Command {
	var in api.ProposeRecord
	var project, environment, until, file string
	c := &cobra.Command{Use: "add --kind KIND --project P --until WHEN --file FILE --summary TEXT", Short: "Ask for approval of a threat model, a design review or the like", Args: cobra.NoArgs,
		Example: "  lockkeeper record add --kind threat-model --project payments --environment production --until 2027-06-01 --file threats.pdf --summary 'card data stays in the vault'",
		Long: `The document is read for its digest and stays where it is. Persons of the groups that the checks
name approve it, nobody who wrote it; it counts from then until its end, or until the check takes it no
more. A new version takes the place of the one before when it is approved, not before.`}
	c.Flags().StringVar(&in.Kind, "kind", "", "threat-model, security-design-review, or another that a check asks for")
	c.Flags().StringVar(&project, "project", "", "project")
	c.Flags().StringVar(&environment, "environment", "", "environment; default: all of the project")
	c.Flags().StringVar(&until, "until", "", "when it counts no more: 2027-06-01, or an instant")
	c.Flags().StringVar(&file, "file", "", "the document")
	c.Flags().StringVar(&in.Link, "link", "", "https address at which approvers can read it; nobody else fetches it")
	c.Flags().StringVar(&in.Summary, "summary", "", "what was found and decided")
	for _, f := range []string{"kind", "project", "until", "file", "summary"} {
		if err := c.MarkFlagRequired(f); err != nil {
			panic(err)
		}
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		if in.Scope = lockkeeper.ProjectScope(project); environment != "" {
			in.Scope = lockkeeper.EnvironmentScope(project, environment)
		}
		var err error
		if in.Until, err = endOf(until); err != nil {
			return err
		}
		if err := digestOf(file, &in); err != nil {
			return err
		}
		client, err := a.person()
		if err != nil {
			return err
		}
		var out api.DesignRecord
		if err := client.Call(c.Context(), "POST", "/records", in, &out, "Idempotency-Key", randomText()); err != nil {
			return err
		}
		return a.print(out, func(w io.Writer) {
			printRecord(w, out)
			fmt.Fprintf(w, "Approvers run: lockkeeper record approve %s\n", out.ID)
		})
	}
	return c
}

// endOf reads a day, of which the beginning in UTC is meant, or an instant.
func endOf(text string) (lockkeeper.Moment, error) {
	if m, is := dayOrInstant(text); is {
		return m, nil
	}
	return lockkeeper.Moment{}, lockkeeper.Invalid.Errorf("until_malformed", "%.40q is no day and no instant.", text).WithNext("Write 2027-06-01 or 2027-06-01T12:00:00Z.").WithField("--until")
}

// digestOf fills in what is recorded of a document.
func digestOf(file string, in *api.ProposeRecord) error {
	unreadable := func(err error) error {
		return lockkeeper.Invalid.Errorf("document_missing", "The document cannot be read: %v.", err).WithNext("Name a file that is there: --file threats.pdf").WithField(file)
	}
	info, err := os.Stat(file)
	if err != nil {
		return unreadable(err)
	}
	if !info.Mode().IsRegular() || info.Size() == 0 || info.Size() > maxDocument {
		return lockkeeper.Invalid.Errorf("document_unfit", "The document is no file of 1 to %d bytes.", maxDocument).WithNext("Name the document itself.").WithField(file)
	}
	sum, err := digestFile(file)
	if err != nil {
		return unreadable(err)
	}
	in.Document, in.Size, in.Content = filepath.Base(file), info.Size(), lockkeeper.Digest("sha256:"+sum)
	return nil
}

func printRecord(w io.Writer, r api.DesignRecord) {
	fmt.Fprintf(w, "%s  %s  %s of %s by %s, until %s\n", r.ID, r.Status, r.Kind, r.Scope, r.Author, r.Until)
	fmt.Fprintf(w, "  document  %s (%d bytes, %s)\n", printable(r.Document), r.Size, r.Content)
	if r.Link != "" {
		fmt.Fprintf(w, "  link      %s\n", printable(r.Link))
	}
	fmt.Fprintf(w, "  summary   %s\n", printable(r.Summary))
	for _, v := range r.Votes {
		fmt.Fprintf(w, "  ✓ %s at %s", v.User, v.At)
		if v.Comment != "" {
			fmt.Fprintf(w, ": %s", printable(v.Comment))
		}
		fmt.Fprintln(w)
	}
	for _, c := range r.Checks {
		switch {
		case c.Ends != nil:
			fmt.Fprintf(w, "  check %s of %s takes it until %s\n", c.Check, c.Environment, *c.Ends)
		default:
			fmt.Fprintf(w, "  check %s of %s asks %d of %s to approve it, until %s\n", c.Check, c.Environment, c.Needed, strings.Join(c.Groups, ", "), r.Deadline)
		}
	}
}

func (a *app) listRecordsCommand() *cobra.Command {
	var project string
	c := &cobra.Command{Use: "list", Short: "List design records that wait for approvals or count", Args: cobra.NoArgs, Example: "  lockkeeper record list --project payments"}
	c.Flags().StringVar(&project, "project", "", "of this project only")
	c.RunE = func(c *cobra.Command, _ []string) error {
		client, err := a.person()
		if err != nil {
			return err
		}
		var out api.DesignRecords
		path := "/records"
		if project != "" {
			path += "?project=" + url.QueryEscape(project)
		}
		if err := client.Call(c.Context(), "GET", path, nil, &out); err != nil {
			return err
		}
		return a.print(out, func(w io.Writer) {
			for _, r := range out.Records {
				fmt.Fprintf(w, "%s  %-9s  %s of %s by %s, until %s\n    %s\n", r.ID, r.Status, r.Kind, r.Scope, r.Author, r.Until, printable(r.Summary))
			}
			if len(out.Records) == 0 {
				fmt.Fprintln(w, "No design record that you may see waits or counts. Add one: lockkeeper record add")
			}
		})
	}
	return c
}

// seenRecord fetches a design record.
func (a *app) seenRecord(c *cobra.Command, id string) (api.Client, api.DesignRecord, error) {
	var r api.DesignRecord
	client, err := a.person()
	if err == nil {
		err = client.Call(c.Context(), "GET", "/records/"+pathEscape(id), nil, &r)
	}
	return client, r, err
}

func (a *app) showRecordCommand() *cobra.Command {
	return &cobra.Command{Use: "show ID", Short: "Show a design record and how it stands with the checks that ask for it", Args: cobra.ExactArgs(1), Example: "  lockkeeper record show r-…",
		RunE: func(c *cobra.Command, args []string) error {
			_, r, err := a.seenRecord(c, args[0])
			if err != nil {
				return err
			}
			return a.print(r, func(w io.Writer) { printRecord(w, r) })
		}}
}

func (a *app) decideRecordCommand(approve bool) *cobra.Command {
	verb, short := "reject", "Reject a design record"
	if approve {
		verb, short = "approve", "Approve a design record that somebody else wrote"
	}
	var in api.DecideRecord
	var digest, file string
	c := &cobra.Command{Use: verb + " ID", Short: short, Args: cobra.ExactArgs(1), Example: "  lockkeeper record " + verb + " r-… --file threats.pdf --comment 'page 4 covers the queue'"}
	c.Flags().StringVar(&in.Comment, "comment", "", "what you looked at")
	c.Flags().StringVar(&digest, "digest", "", "of the record that you saw; default: what it is now, which is shown")
	c.Flags().StringVar(&file, "file", "", "the document that you read: refused if the record is about another")
	c.RunE = func(c *cobra.Command, args []string) error {
		client, r, err := a.seenRecord(c, args[0])
		if err != nil {
			return err
		}
		if in.Digest = lockkeeper.Digest(digest); digest == "" {
			in.Digest = r.Digest
		}
		if file != "" {
			var read api.ProposeRecord
			if err := digestOf(file, &read); err != nil {
				return err
			}
			if read.Content != r.Content {
				return lockkeeper.Conflict.Errorf("document_differs", "%s is %s, and the record %s is about %s.", file, read.Content, r.ID, r.Content).WithNext("Read the document that the record is about, or reject it.").WithField(file)
			}
		}
		if err := client.Call(c.Context(), "POST", "/records/"+pathEscape(args[0])+"/"+verb, in, nil); err != nil {
			return err
		}
		if !approve {
			return a.print(map[string]string{"id": args[0]}, func(w io.Writer) { fmt.Fprintln(w, "Rejected.") })
		}
		if _, r, err = a.seenRecord(c, args[0]); err != nil {
			return err
		}
		return a.print(r, func(w io.Writer) { printRecord(w, r) })
	}
	return c
}

func (a *app) endRecordCommand() *cobra.Command {
	var in api.EndRecord
	c := &cobra.Command{Use: "end ID --reason WHY", Short: "Take a design record out before its end", Args: cobra.ExactArgs(1), Example: "  lockkeeper record end r-… --reason 'the queue was replaced'"}
	c.Flags().StringVar(&in.Reason, "reason", "", "why")
	if err := c.MarkFlagRequired("reason"); err != nil {
		panic(err)
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		client, err := a.person()
		if err != nil {
			return err
		}
		if err := client.Call(c.Context(), "POST", "/records/"+pathEscape(args[0])+"/end", in, nil); err != nil {
			return err
		}
		return a.print(map[string]string{"id": args[0]}, func(w io.Writer) { fmt.Fprintln(w, "Ended.") })
	}
	return c
}
