package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// outsidePath is where the checkpoint outside the database lies: in file, or
// beside the database if that is "".
func outsidePath(dir, file string) string {
	if file != "" {
		return file
	}
	return filepath.Join(dir, "checkpoint")
}

// outsideSize is what the file always has: a disk writes one sector whole or
// not at all, so the checkpoint in it is never half old and half new. Origins
// are short enough for a checkpoint to fit.
const outsideSize = 512

// keepOutside writes the head's checkpoint beside the database, padded with
// line ends.
func (j *Journal) keepOutside(h Head) error {
	if len(h.Checkpoint) > outsideSize {
		return fmt.Errorf("the checkpoint has %d bytes, more than %d", len(h.Checkpoint), outsideSize)
	}
	sector := append(bytes.Clone(h.Checkpoint), bytes.Repeat([]byte("\n"), outsideSize-len(h.Checkpoint))...)
	_, err := j.outside.WriteAt(sector, 0)
	return err
}

// beginOutside writes a checkpoint over no entries, so that a file without a
// checkpoint is never right.
func (j *Journal) beginOutside() error {
	checkpoint, err := note.Sign(&note.Note{Text: checkpointText(j.Reader.origin, 0, emptyRoot)}, j.options.Signer)
	if err != nil {
		return fmt.Errorf("sign the checkpoint: %w", err)
	}
	return j.keepOutside(Head{Checkpoint: checkpoint})
}

func readOutside(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, unusable(path, err)
	}
	return CheckpointIn(data), nil
}

// CheckpointIn is the checkpoint that a file holds, without what pads it; nil if
// it holds none.
func CheckpointIn(data []byte) []byte {
	if data = bytes.TrimRight(data, "\n\x00"); len(data) == 0 {
		return nil
	}
	return append(data, '\n')
}

// verifyOutside checks that the log is a continuation of the one that the
// checkpoint outside was signed over.
func (r *Reader) verifyOutside(ctx context.Context, head Head) error {
	if r.outside == nil {
		return nil
	}
	origin, size, root, err := openCheckpoint(r.outside, r.verifier)
	if err != nil {
		return &Broken{head.Size, fmt.Sprintf("the file checkpoint: %v", err)}
	}
	if origin != r.origin {
		return &Broken{0, fmt.Sprintf("the file checkpoint is of %q", origin)}
	}
	if size > head.Size {
		return &Broken{head.Size, fmt.Sprintf("the file checkpoint was signed over %d entries, and only %d are there", size, head.Size)}
	}
	if size == 0 {
		return nil
	}
	was, err := tlog.TreeHash(size, r.hashes(ctx))
	if err != nil {
		return err
	}
	if was != root {
		return &Broken{0, fmt.Sprintf("the first %d entries are not those that the file checkpoint was signed over", size)}
	}
	return nil
}
