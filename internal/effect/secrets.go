package effect

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// secrets is a folder with one file for each provisioner, and those of the calls.
type secrets struct{ dir string }

// maxSecret bounds a secret, in bytes.
const maxSecret = 64 << 10

// of reads the secret of a provisioner anew at each use, so that it can be changed
// while the server runs. Failures name the file and nothing that is in it.
func (s secrets) of(provisioner string) (string, error) {
	if s.dir == "" {
		return "", &Failure{"secret_missing", "The server was started without --provisioners, so it knows no secret of any.", true}
	}
	if provisioner == "" || strings.ContainsAny(provisioner, `/\`) || provisioner[0] == '.' {
		return "", &Failure{"secret_missing", "No file can have the name of this provisioner.", true}
	}
	file := filepath.Join(s.dir, provisioner)
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", &Failure{"secret_missing", "The server has no file " + provisioner + " in its folder of secrets.", true}
	case err != nil:
		return "", &Failure{"secret_unfit", "The file " + provisioner + " in the folder of secrets cannot be read.", true}
	case !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0:
		return "", &Failure{"secret_unfit", "Others than the server's account can read the file " + provisioner + " in its folder of secrets, or it is no file.", true}
	}
	f, err := os.Open(file)
	if err != nil {
		return "", &Failure{"secret_unfit", "The file " + provisioner + " in the folder of secrets cannot be read.", true}
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if text := strings.TrimSpace(string(data)); err == nil && text != "" && len(data) <= maxSecret {
		return text, nil
	}
	return "", &Failure{"secret_unfit", "The file " + provisioner + " in the folder of secrets is empty or too large.", true}
}
