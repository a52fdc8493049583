package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A log that goes on from an older copy of itself signs other entries at
// positions that were signed before. It does so under another name: a new epoch.
// The first is named by the origin alone, every later one by the origin and its
// number, so that no two checkpoints of one name contradict each other.

// EpochOrigin is the first line of the checkpoints of an epoch.
func EpochOrigin(origin string, epoch int) string {
	if epoch <= 1 {
		return origin
	}
	return fmt.Sprintf("%s/epoch-%d", origin, epoch)
}

// epochOf is the epoch of the log origin that a checkpoint's first line names.
func epochOf(origin, line string) (int, bool) {
	if line == origin {
		return 1, true
	}
	number, ok := strings.CutPrefix(line, origin+"/epoch-")
	n, err := strconv.Atoi(number)
	return n, ok && err == nil && n > 1 && EpochOrigin(origin, n) == line
}

// checkOutside refuses a log of which there is no checkpoint outside: without it
// nobody would notice that the log lost its end. The file is written before the
// first entry is.
func (j *Journal) checkOutside() error {
	if j.Head().Size == 0 || j.Reader.outside != nil {
		return nil
	}
	file := outsidePath(j.options.Dir, j.options.Outside)
	next := "Put the file back or name it with --checkpoint."
	if beside := outsidePath(j.options.Dir, ""); j.options.Outside != "" && beside != j.options.Outside {
		if _, err := os.Stat(beside); err == nil {
			next = fmt.Sprintf("To keep it there from now on, move it: mv %s %s.", beside, file)
		}
	}
	return lockkeeper.Conflict.Errorf("checkpoint_missing", "The journal has %d entries, and no checkpoint is in the file %s, which says how many it had last.", j.Head().Size, file).
		WithNext("%s If it is lost: lockkeeper recover", next).WithField(file)
}

// A Lost end is what a checkpoint outside says of a log that came back shorter,
// or as another one.
type Lost struct {
	Known      bool      // false: there is no checkpoint outside
	Size       int64     // entries that it was signed over
	Root       tlog.Hash //
	Checkpoint []byte    //
}

// Recover lets a log go on that lost its end: it verifies what is there, leaves
// the checkpoint outside aside, and appends the batch that begin makes as the
// first of a new epoch. It refuses a log that lost nothing (Conflict
// nothing_lost), unless restored says that whoever asks knows better: an older
// copy of everything was put back, the checkpoint outside with it.
//
// A crash before the commit leaves all as it was; one between the commit and the
// writing of the checkpoint outside leaves a log that is refused, and is mended
// by recovering again, which begins one epoch more.
//
// was, if not nil, is the verifier of the log up to here, where its own signing
// key is lost and the new epoch has another; a lost key is a loss.
func Recover(ctx context.Context, o Options, was note.Verifier, restored bool, begin func(j *Journal, lost Lost) (Batch, error)) (Head, error) {
	rekeyed := was != nil
	if !rekeyed {
		was = o.Verifier
	}
	j := &Journal{options: o, lock: o.Lock, commit: commitTx}
	defer j.Close()
	db, err := openDatabase(ctx, path(o.Dir), writing)
	if err != nil {
		return Head{}, err
	}
	j.writer = db
	if j.Reader, err = OpenReader(ctx, o.Dir, o.Outside, was); err != nil {
		return Head{}, err
	}
	lost, whole, err := j.lost(ctx)
	if err != nil {
		return Head{}, err
	}
	j.Reader.outside = nil
	report, err := Verify(ctx, j.Reader, nil)
	if err != nil {
		return Head{}, err
	}
	if err := nothingBehind(ctx, db, report.Entries); err != nil {
		return Head{}, err
	}
	j.edge = report.peaks.edge()
	if j.outside, err = os.OpenFile(outsidePath(o.Dir, o.Outside), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return Head{}, unusable(outsidePath(o.Dir, o.Outside), err)
	}
	if whole && !restored && !rekeyed {
		return Head{}, lockkeeper.Conflict.Errorf("nothing_lost", "The journal has everything that its last checkpoint was signed over.").
			WithNext("Start the server. If an older copy of the whole folder was put back, the checkpoint with it: lockkeeper recover --restored")
	}
	if err := j.connect(ctx); err != nil {
		return Head{}, err
	}
	b, err := begin(j, lost)
	if err != nil {
		return Head{}, err
	}
	j.Reader.verifier = o.Verifier
	epoch, _ := epochOf(o.Origin, j.Reader.origin)
	b.Origin = EpochOrigin(o.Origin, epoch+1)
	return j.Append(ctx, b)
}

// Epoch is the number of the epoch that the log is in.
func (j *Journal) Epoch() int {
	n, _ := epochOf(j.options.Origin, j.Reader.origin)
	return n
}

// lost reads the checkpoint outside, and says whether the log continues what it
// was signed over.
func (j *Journal) lost(ctx context.Context) (lost Lost, whole bool, err error) {
	if _, ok := epochOf(j.options.Origin, j.Reader.origin); !ok {
		return Lost{}, false, lockkeeper.Conflict.Errorf("journal_of_another", "The journal in %s is %q, not %q.", j.options.Dir, j.Reader.origin, j.options.Origin)
	}
	if j.Reader.outside == nil {
		return Lost{}, false, nil
	}
	_, size, root, err := openCheckpoint(j.Reader.outside, j.Reader.verifier)
	if err != nil {
		return Lost{}, false, nil // one that cannot be believed is none
	}
	lost = Lost{Known: true, Size: size, Root: root, Checkpoint: j.Reader.outside}
	var broken *Broken
	if err := j.Reader.verifyOutside(ctx, j.Head()); errors.As(err, &broken) {
		return lost, false, nil
	} else if err != nil {
		return Lost{}, false, err
	}
	return lost, true, nil
}
