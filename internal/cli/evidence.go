package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/evidence"
	"github.com/spf13/cobra"
)

func (a *app) evidenceCommand() *cobra.Command {
	return withCommands(&cobra.Command{Use: "evidence", Short: "What tools say about artifacts: tests, scans, SBOMs, vulnerabilities, attestations"},
		a.evidenceAddCommand(), a.evidenceListCommand(), a.evidenceReadCommand())
}

const kindsOfEvidence = "KIND is tests (JUnit XML), coverage (Cobertura, JaCoCo, LCOV, Go), scan (SARIF), sbom (CycloneDX, SPDX),\nvulnerabilities (CycloneDX, Trivy, Grype, OSV), vex (OpenVEX, CycloneDX, CSAF) or attestation (DSSE, Sigstore bundle).\nNAME tells several of a kind apart; without it, it is main."

func (a *app) evidenceAddCommand() *cobra.Command {
	var tokenFile string
	var artifacts []string
	var record bool
	c := &cobra.Command{Use: "add KIND[:NAME]=FILE… --artifact NAME=sha256:HEX|PATH", Short: "Bring evidence about artifacts, from the stage that made it", Args: cobra.MinimumNArgs(1),
		Example: "  lockkeeper evidence add tests:unit=junit.xml coverage=cover.out sbom=sbom.cdx.json --artifact app=app.tar\n  lockkeeper evidence add attestation=provenance.sigstore.json --artifact app=app.tar --record",
		Long:    "Brings what documents say about artifacts, all of them or none. The stage must be one that the catalog lets\nbring it: evidence: [tests, …].\n\n" + kindsOfEvidence,
		RunE: func(c *cobra.Command, args []string) error {
			body := api.AddEvidence{Record: record}
			for _, s := range args {
				d, err := documentOf(s)
				if err != nil {
					return err
				}
				body.Evidence = append(body.Evidence, d)
			}
			r, err := a.bring(c.Context(), tokenFile, artifacts, body)
			if err != nil {
				return err
			}
			return a.print(r, func(w io.Writer) {
				for _, e := range r.Evidence {
					fmt.Fprintf(w, "%s: %s %s of %s: %s\n", e.ID, e.Kind, e.Name, namesOf(e.Artifacts), e.Line)
				}
			})
		}}
	c.Flags().StringArrayVar(&artifacts, "artifact", nil, "what it is about, as NAME=sha256:HEX or NAME=PATH; may be repeated")
	c.Flags().BoolVar(&record, "record", false, "vouch for the artifacts, too (as artifact record), with the same token")
	c.Flags().StringVar(&tokenFile, "token-file", "", "file with the CI platform's token, where it cannot be asked for one")
	if err := c.MarkFlagRequired("artifact"); err != nil {
		panic(err)
	}
	return c
}

// bring sends documents about artifacts, with the token of the job that runs this.
func (a *app) bring(ctx context.Context, tokenFile string, artifacts []string, body api.AddEvidence) (api.EvidenceAdded, error) {
	var r api.EvidenceAdded
	list, err := artifactsOf(artifacts)
	if err != nil {
		return r, err
	}
	body.Artifacts = list.Artifacts
	ci := ciPlatform{app: a, file: tokenFile}
	key := randomText()
	err = retry(ctx, func() error {
		client, err := ci.client(ctx)
		if err != nil {
			return err
		}
		return client.Call(ctx, "POST", "/evidence", body, &r, "Idempotency-Key", key)
	})
	return r, err
}

func namesOf(list []lockkeeper.Artifact) string {
	var out []string
	for _, x := range list {
		out = append(out, x.Name)
	}
	return strings.Join(out, ", ")
}

// documentOf reads KIND[:NAME]=FILE.
func documentOf(s string) (api.Document, error) {
	left, path, ok := strings.Cut(s, "=")
	kind, name, _ := strings.Cut(left, ":")
	if !ok || path == "" || !slices.Contains(catalog.EvidenceKinds(), kind) {
		return api.Document{}, lockkeeper.Invalid.Errorf("evidence_malformed", "The argument %.80q is no KIND=FILE.", s).
			WithNext("Write it as %s=FILE, or with a name as tests:unit=junit.xml.", strings.Join(catalog.EvidenceKinds(), "=FILE, ")).WithField(s)
	}
	content, err := readBounded(path, evidence.MaxDocument)
	return api.Document{Kind: kind, Name: name, Content: content}, err
}

func (a *app) evidenceListCommand() *cobra.Command {
	var project, digest, kind string
	c := &cobra.Command{Use: "list --project P", Short: "List what was brought about artifacts of a project, newest first", Args: cobra.NoArgs,
		Example: "  lockkeeper evidence list --project payments --digest sha256:2c26…\n  lockkeeper evidence list --project payments --kind vulnerabilities --output json",
		RunE: func(c *cobra.Command, _ []string) error {
			q := url.Values{"project": {project}}
			for name, v := range map[string]string{"digest": digest, "kind": kind} {
				if v != "" {
					q.Set(name, v)
				}
			}
			var r api.EvidenceList
			client, err := a.person()
			if err != nil {
				return err
			}
			if err := client.Call(c.Context(), "GET", "/evidence?"+q.Encode(), nil, &r); err != nil {
				return err
			}
			return a.print(r, func(w io.Writer) {
				t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				for _, e := range r.Evidence {
					fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s/%s\t%s\t%s\n", e.ID, e.Kind, e.Name, namesOf(e.Artifacts), e.Pipeline, e.Stage, e.At, e.Line)
				}
				t.Flush()
			})
		}}
	c.Flags().StringVar(&project, "project", "", "the project")
	c.Flags().StringVar(&digest, "digest", "", "only about this artifact: sha256:HEX")
	c.Flags().StringVar(&kind, "kind", "", "only of this kind: "+strings.Join(catalog.EvidenceKinds(), ", "))
	if err := c.MarkFlagRequired("project"); err != nil {
		panic(err)
	}
	return c
}

func (a *app) evidenceReadCommand() *cobra.Command {
	var keys []string
	c := &cobra.Command{Use: "read KIND=FILE…", Short: "Show what documents say, as a gate would see it; needs no server", Args: cobra.MinimumNArgs(1),
		Example: "  lockkeeper evidence read tests=junit.xml vulnerabilities=grype.json\n  lockkeeper evidence read attestation=provenance.dsse.json --key ci=ci.pub",
		Long:    "Reads documents as the server does, and says what it would take from them, or why it would refuse them.\n\n" + kindsOfEvidence,
		RunE: func(_ *cobra.Command, args []string) error {
			var signers []evidence.Signer
			for _, s := range keys {
				name, path, ok := strings.Cut(s, "=")
				if !ok {
					return lockkeeper.Invalid.Errorf("key_malformed", "The key %.80q is no NAME=FILE.", s).WithNext("Write --key ci=ci.pub.")
				}
				b, err := readBounded(path, 1<<16)
				if err != nil {
					return err
				}
				signers = append(signers, evidence.Signer{Name: name, Key: string(b)})
			}
			var out []evidence.Summary
			for _, s := range args {
				d, err := documentOf(s)
				if err != nil {
					return err
				}
				one, err := evidence.Read(evidence.Kind(d.Kind), d.Content, signers)
				if r := lockkeeper.RefusalOf(err); r != nil {
					return r.WithField(strings.TrimSuffix(s+": "+r.Field, ": "))
				}
				if err != nil {
					return err
				}
				out = append(out, one)
			}
			return a.print(out, func(w io.Writer) {
				for i, s := range out {
					fmt.Fprintf(w, "%s: %s %s: %s\n", args[i], s.Format, cmp.Or(s.Tool, "of no named tool"), s.Line())
				}
			})
		}}
	c.Flags().StringArrayVar(&keys, "key", nil, "NAME=FILE of a public key (PEM) that may have signed; may be repeated")
	return c
}
