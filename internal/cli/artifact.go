package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/spf13/cobra"
)

func (a *app) artifactCommand() *cobra.Command {
	var tokenFile string
	record := &cobra.Command{Use: "record NAME=sha256:HEX|PATH…", Short: "Vouch for artifacts, from the stage that built them", Args: cobra.MinimumNArgs(1),
		Example: "  lockkeeper artifact record app=sha256:2c26…\n  lockkeeper artifact record app=app.tar site=dist/",
		RunE: func(c *cobra.Command, args []string) error {
			body, err := artifactsOf(args)
			if err != nil {
				return err
			}
			ci := ciPlatform{app: a, file: tokenFile}
			key := randomText()
			var r api.Recorded
			err = retry(c.Context(), func() error {
				client, err := ci.client(c.Context())
				if err != nil {
					return err
				}
				return client.Call(c.Context(), "POST", "/artifacts", body, &r, "Idempotency-Key", key)
			})
			if err != nil {
				return err
			}
			return a.print(r, func(w io.Writer) {
				for _, x := range r.Artifacts {
					fmt.Fprintf(w, "%s/%s vouches for %s %s\n", r.Pipeline, r.Stage, x.Name, x.Digest)
				}
			})
		}}
	record.Flags().StringVar(&tokenFile, "token-file", "", "file with the CI platform's token, where it cannot be asked for one")
	digest := &cobra.Command{Use: "digest NAME=PATH…", Short: "Print the digests of files and folders; needs no server", Args: cobra.MinimumNArgs(1), Example: "  lockkeeper artifact digest app=app.tar site=dist/",
		Long: "The digest of a file is the SHA-256 of its bytes. That of a folder is the SHA-256 of a list with a line\nfor each file below it: its SHA-256, x if it may be executed or -, and its path. Links are refused.",
		RunE: func(_ *cobra.Command, args []string) error {
			list, err := artifactsOf(args)
			if err != nil {
				return err
			}
			return a.print(list, func(w io.Writer) {
				for _, x := range list.Artifacts {
					fmt.Fprintf(w, "%s=%s\n", x.Name, x.Digest)
				}
			})
		}}
	return withCommands(&cobra.Command{Use: "artifact", Short: "Digests and records of artifacts"}, record, digest)
}

func artifactsOf(args []string) (api.Artifacts, error) {
	var out api.Artifacts
	for _, s := range args {
		x, err := artifactOf(s)
		if err != nil {
			return out, err
		}
		out.Artifacts = append(out.Artifacts, x)
	}
	return out, nil
}

// artifactOf reads NAME=sha256:HEX, or hashes the file or folder of NAME=PATH.
func artifactOf(s string) (lockkeeper.Artifact, error) {
	name, what, ok := strings.Cut(s, "=")
	if !ok || strings.HasPrefix(what, "sha256:") {
		x, err := lockkeeper.ParseArtifact(s)
		if err != nil {
			return x, lockkeeper.Invalid.Errorf("artifact_malformed", "%v.", err).WithNext("Write it as NAME=sha256:HEX or NAME=PATH.")
		}
		return x, nil
	}
	x := lockkeeper.Artifact{Name: name}
	if err := lockkeeper.CheckName(name); err != nil {
		return x, lockkeeper.Invalid.Errorf("artifact_malformed", "The artifact %.80q: %v.", s, err).WithNext("Write it as NAME=PATH.")
	}
	var err error
	if x.Digest, err = digestPath(what); err != nil {
		return x, lockkeeper.Invalid.Errorf("artifact_unreadable", "The artifact %s cannot be hashed: %v.", name, err).WithField(what)
	}
	return x, nil
}

func digestPath(path string) (lockkeeper.Digest, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		sum, err := digestFile(path)
		return lockkeeper.Digest("sha256:" + sum), err
	}
	var lines []string
	err = filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if !d.Type().IsRegular() {
			return fmt.Errorf("%s is no plain file", name)
		}
		relative, err := filepath.Rel(path, name)
		if err != nil {
			return err
		}
		if strings.ContainsAny(relative, "\n\r") {
			return fmt.Errorf("%q has a line end in its name", name)
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		mark := "-"
		if info.Mode()&0o100 != 0 {
			mark = "x"
		}
		sum, err := digestFile(name)
		lines = append(lines, fmt.Sprintf("%s %s %s\n", sum, mark, filepath.ToSlash(relative)))
		return err
	})
	if err != nil {
		return "", err
	}
	if len(lines) == 0 {
		return "", fmt.Errorf("%s has no file in it", path)
	}
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[67:], b[67:]) })
	return lockkeeper.DigestOf([]byte("lockkeeper.folder.v1\n" + strings.Join(lines, ""))), nil
}

func digestFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
