package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

// A vector of the Merkle proof test data that CT implementations share.
type vector struct {
	LeafIndex  int64    `json:"leafIdx"`
	TreeSize   int64    `json:"treeSize"`
	Root       []byte   `json:"root"`
	LeafHash   []byte   `json:"leafHash"`
	Size1      int64    `json:"size1"`
	Size2      int64    `json:"size2"`
	Root1      []byte   `json:"root1"`
	Root2      []byte   `json:"root2"`
	Proof      [][]byte `json:"proof"`
	WantsError bool     `json:"wantErr"`
}

// holds is the vector's proof judged as those of this package are.
func (v vector) holds(inclusion bool) bool {
	hash := func(b []byte) (tlog.Hash, bool) {
		if len(b) != tlog.HashSize {
			return tlog.Hash{}, false
		}
		return tlog.Hash(b), true
	}
	path, err := treePath(v.Proof)
	if err != nil {
		return false
	}
	if inclusion {
		root, ok := hash(v.Root)
		leaf, ok2 := hash(v.LeafHash)
		return ok && ok2 && stands(path, v.TreeSize, root, v.LeafIndex, leaf)
	}
	one, ok := hash(v.Root1)
	two, ok2 := hash(v.Root2)
	return ok && ok2 && continues(path, v.Size2, two, v.Size1, one)
}

func TestProofVectors(t *testing.T) {
	dir := filepath.Join("..", "..", "..", "shared", "data", "vectors", "merkle", "testdata")
	if _, err := os.Stat(dir); os.IsNotExist(err) {
		t.Skip("the Merkle proof vectors are not beside this checkout and are others' work; TestProofs and TestContinuation make their own")
	}
	seen := map[bool]int{}
	for _, kind := range []string{"inclusion", "consistency"} {
		err := filepath.WalkDir(filepath.Join(dir, kind), func(file string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(file, ".json") {
				return err
			}
			data, err := os.ReadFile(file)
			must(t, err)
			var v vector
			if err := json.Unmarshal(data, &v); err != nil {
				v.WantsError = true // a number past the largest: no proof of ours can hold it
			} else if !v.WantsError && kind == "consistency" && len(v.Root1) != tlog.HashSize {
				return nil // a root that is no hash; none of ours is read from elsewhere
			} else if got := v.holds(kind == "inclusion"); got == v.WantsError {
				t.Errorf("%s: it holds: %v", file, got)
			}
			seen[v.WantsError]++
			return nil
		})
		must(t, err)
	}
	if seen[true] < 100 || seen[false] < 10 {
		t.Errorf("saw %v vectors", seen)
	}
}

// A checkpoint that somebody kept finds out a log that was rewritten, cut off or
// replaced, however well that one verifies by itself.
func TestContinuation(t *testing.T) {
	ctx := context.Background()
	k, dir := newKeyring(t), t.TempDir()
	older(t, k, dir)
	kept, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	must(t, err)
	kept = append(bytes.TrimRight(kept, "\n"), '\n')
	_, _, err = k.recover(dir, false)
	must(t, err)
	r, err := OpenReader(ctx, dir, "", k.verifier)
	must(t, err)
	defer r.Close()
	if _, err := Verify(ctx, r, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ProveContinuation(ctx, kept); err == nil || !strings.Contains(err.Error(), "only 8 are there") {
		t.Errorf("a log that was cut off: %v", err)
	}
	if _, err := r.ProveContinuation(ctx, []byte("no checkpoint")); code(err) != "checkpoint_invalid" {
		t.Errorf("no checkpoint: %v", err)
	}
	whole, err := r.ProveContinuation(ctx, r.Head().Checkpoint)
	must(t, err)
	for name, c := range map[string]Continuation{
		"backwards": {Old: kept, New: whole.New, Hashes: whole.Hashes},
		"foreign":   {Old: kept, New: kept, Hashes: [][]byte{make([]byte, 32)}},
		"short":     {Old: whole.Old, New: whole.New, Hashes: [][]byte{{1}}},
		"unsigned":  {Old: whole.Old, New: []byte("x")},
	} {
		if _, _, err := c.Verify(k.verifier); code(err) != "proof_invalid" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := whole.Verify(newKeyring(t).verifier); code(err) != "proof_invalid" {
		t.Errorf("another signer: %v", err)
	}
}
