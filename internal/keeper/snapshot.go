package keeper

import (
	"context"
	"fmt"
	"iter"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/journal"
)

// A start need not fold the whole journal. Every recordEvery entries the keeper
// writes the state beside the journal and its digest into the journal; a start
// takes the newest state whose digest it finds there, and folds only what came
// after. The state is a cache: if none can be believed, all is folded.
const (
	recordEvery = 10_000
	// verifyWhole is up to how many entries a start verifies the whole journal
	// before it serves. Past it the start verifies from the recorded state on, and
	// the rest while it serves; it stops if that breaks.
	verifyWhole = 100_000
	// foldVersion counts the changes in what apply means. It is raised by hand;
	// a change of the state's fields is noticed by itself.
	foldVersion = 5
	// foldBite is how many entries are decoded side by side.
	foldBite = 2048
)

// stateFormat is the state's layout and the meaning of apply: a recorded state
// of another format is passed over.
var stateFormat = sync.OnceValue(func() string {
	var b strings.Builder
	shape(&b, reflect.TypeFor[State](), map[reflect.Type]bool{})
	return fmt.Sprintf("%d-%s", foldVersion, lockkeeper.DigestOf([]byte(b.String())).Hex()[:16])
})

// shape spells a type by the names and types of its fields.
func shape(b *strings.Builder, t reflect.Type, inside map[reflect.Type]bool) {
	b.WriteString(t.String())
	if inside[t] {
		return
	}
	inside[t] = true
	switch t.Kind() {
	case reflect.Struct:
		b.WriteByte('{')
		for f := range t.Fields() {
			fmt.Fprintf(b, "%s %q ", f.Name, f.Tag.Get("json"))
			shape(b, f.Type, inside)
			b.WriteByte(';')
		}
		b.WriteByte('}')
	case reflect.Map:
		shape(b, t.Key(), inside)
		shape(b, t.Elem(), inside)
	case reflect.Pointer, reflect.Slice, reflect.Array:
		shape(b, t.Elem(), inside)
	}
}

// stateRecorded says what the state was after the first Size entries.
type stateRecorded struct {
	one
	Size   int64             `json:"size"`
	Digest lockkeeper.Digest `json:"digest"`
	Format string            `json:"format"` // of the recorded state
}

const stateSubject = "state"

func (*stateRecorded) kind() string       { return "state.recorded" }
func (*stateRecorded) subjects() []string { return []string{stateSubject} }
func (ev *stateRecorded) apply(s *State, e Entry) error {
	if ev.Size > e.Seq || ev.Size <= s.Recorded {
		return fmt.Errorf("it records the state after %d entries, after that of %d was", ev.Size, s.Recorded)
	}
	s.Recorded = ev.Size
	return nil
}

// recordState puts the digest of a state that was written into the journal.
type recordState struct {
	Size   int64
	Digest lockkeeper.Digest
}

func (recordState) name() string  { return "state.record" }
func (recordState) about() string { return stateSubject }
func (c recordState) decide(w *world, by Caller, _ lockkeeper.Moment) ([]event, any, error) {
	if !by.Keeper || c.Size <= w.Recorded || c.Size > w.Size {
		return nil, nil, nil
	}
	return []event{&stateRecorded{Size: c.Size, Digest: c.Digest, Format: stateFormat()}}, nil, nil
}

// recordedState is the newest recorded state that is there whole, and how many
// entries it is after; none is no error. What it returns stands or falls with
// the entry that names its digest, which lies behind the entries it is after.
func recordedState(ctx context.Context, r *journal.Reader, dir string) (data []byte, size int64, err error) {
	stored, err := r.Subject(ctx, stateSubject, 0, 4)
	if err != nil {
		return nil, 0, err
	}
	for _, s := range stored {
		_, body, err := readEntry(s.Data)
		ev, is := body.(*stateRecorded)
		if err != nil || !is || ev.Format != stateFormat() || ev.Size > s.Seq || ev.Size <= 0 {
			continue
		}
		data, found, err := journal.Snapshot(dir, ev.Size, ev.Digest)
		if err != nil {
			return nil, 0, err
		}
		if found {
			return data, ev.Size, nil
		}
	}
	return nil, 0, nil
}

// behind is where the verification at a start begins.
func (k *Keeper) behind(ctx context.Context, r *journal.Reader) (int64, error) {
	if r.Head().Size <= k.options.VerifyWhole {
		return 0, nil
	}
	_, size, err := recordedState(ctx, r, k.options.Dir)
	if err != nil {
		return 0, nil // what cannot be read is named by the whole verification
	}
	return size, nil
}

// states gives n states, each the fold of the first size entries (size <= 0: of
// all): the recorded state if there is one, and the entries after it.
func (k *Keeper) states(ctx context.Context, n int, size int64) ([]*State, error) {
	data, from, err := recordedState(ctx, k.journal.Reader, k.options.Dir)
	if err != nil {
		return nil, err
	}
	if size > 0 && from > size {
		return nil, fmt.Errorf("a state is recorded after %d entries, past %d", from, size)
	}
	out := make([]*State, n)
	for i := range out {
		if out[i], err = readState(data, from); err != nil {
			return nil, err
		}
	}
	data = nil
	began := time.Now()
	for d, err := range decoded(ctx, k.journal.Entries(ctx, from, size)) {
		if err != nil {
			return nil, err
		}
		for _, s := range out {
			if err := s.apply(d.entry, d.event); err != nil {
				return nil, err
			}
		}
		if d.entry.Seq%100_000 == 99_999 {
			k.log.Info("folding the journal", "entries", d.entry.Seq+1, "of", k.journal.Head().Size, "took", time.Since(began).Round(time.Millisecond))
		}
	}
	return out, nil
}

// readState is a recorded state after size entries; no data is the state of an
// empty journal.
func readState(data []byte, size int64) (*State, error) {
	s := newState()
	if size == 0 {
		return s, nil
	}
	if err := unmarshalStrict(data, s); err != nil {
		return nil, fmt.Errorf("the recorded state after %d entries: %w", size, err)
	}
	if s.Size != size {
		return nil, fmt.Errorf("the recorded state after %d entries is that after %d", size, s.Size)
	}
	s.indexRecords()
	s.indexEvidence()
	return s, nil
}

type decodedEntry struct {
	entry Entry
	event event
	err   error
}

// decoded decodes entries on all cores and yields them in their order.
func decoded(ctx context.Context, entries iter.Seq2[journal.Entry, error]) iter.Seq2[decodedEntry, error] {
	return func(yield func(decodedEntry, error) bool) {
		bite := make([]journal.Entry, 0, foldBite)
		out := make([]decodedEntry, foldBite)
		flush := func() bool {
			var wg sync.WaitGroup
			n := min(runtime.GOMAXPROCS(0), len(bite))
			for w := range n {
				wg.Go(func() {
					for i := w; i < len(bite); i += n {
						d := &out[i]
						d.entry, d.event, d.err = readEntry(bite[i].Data)
					}
				})
			}
			wg.Wait()
			for _, d := range out[:len(bite)] {
				if !yield(d, d.err) || d.err != nil {
					return false
				}
			}
			bite = bite[:0]
			return true
		}
		for e, err := range entries {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(decodedEntry{}, err)
				return
			}
			if bite = append(bite, e); len(bite) == cap(bite) && !flush() {
				return
			}
		}
		flush()
	}
}

// tend runs beside the writer until ctx ends: it verifies what the start left
// out, and from then on records the state every now and then.
func (k *Keeper) tend(ctx context.Context) {
	verified := make(chan error, 1)
	go func() { verified <- k.journal.VerifyBehind(ctx) }()
	defer func() {
		if verified != nil {
			<-verified
		}
	}()
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	var failed int64 // entries at which the state could not be recorded last
	for {
		select {
		case <-ctx.Done():
			return
		case err := <-verified:
			verified = nil
			if err != nil {
				if ctx.Err() == nil {
					k.fail(fmt.Errorf("the journal's older part: %w", err))
				}
				return
			}
			continue
		case <-tick.C:
		}
		k.endCampaigns(ctx)
		k.lookAtGates(ctx)
		size, recorded := k.follow()
		if verified != nil || size-max(recorded, failed) < k.options.RecordEvery {
			continue
		}
		if err := k.recordState(ctx); err != nil && ctx.Err() == nil {
			k.log.Error("the state was not recorded; the next start will take longer", "error", err)
			failed = size
		}
	}
}

// A trail is a third state, which follows the committed one a little behind: it
// is written down without anybody waiting for that.
type trail struct {
	writing sync.Mutex // one at a time follows and writes

	// Under the keeper's mu.
	state *State
	ahead []committed // not applied to state yet; at most what a sweep's time brings
}

// committed is an entry that readers see.
type committed struct {
	entry Entry
	event event
}

// follow brings the trail up to what readers see, and says after how many entries
// it stands, and after how many the state was recorded last.
func (k *Keeper) follow() (size, recorded int64) {
	k.trail.writing.Lock()
	defer k.trail.writing.Unlock()
	s := k.catchUp()
	return s.Size, s.Recorded
}

func (k *Keeper) catchUp() *State {
	k.mu.Lock()
	s, ahead := k.trail.state, k.trail.ahead
	k.trail.ahead = nil
	k.mu.Unlock()
	for _, c := range ahead {
		if err := s.apply(c.entry, c.event); err != nil {
			k.fail(err) // readers' state took the same entry
			break
		}
	}
	return s
}

// recordState writes the state of now and puts its digest into the journal. If
// nothing happened since that was done last, it does nothing.
func (k *Keeper) recordState(ctx context.Context) error {
	k.trail.writing.Lock()
	defer k.trail.writing.Unlock()
	s := k.catchUp()
	if s.Size <= s.Recorded+1 { // the entry that says so is the last
		return nil
	}
	data, err := marshal(s)
	if err != nil {
		return err
	}
	if err := journal.SaveSnapshot(k.options.Dir, s.Size, data); err != nil {
		return err
	}
	_, err = do[any](ctx, k, Caller{Keeper: true}, "", recordState{s.Size, lockkeeper.DigestOf(data)})
	return err
}

// Refold folds the whole journal anew and compares the state with each recorded
// one of this release's format. A difference is a *journal.Broken: the entries
// are as they were signed, and this release does not read out of them what the
// one before it did. It returns how many recorded states it compared. progress
// may be nil.
func Refold(ctx context.Context, r *journal.Reader, progress func(done, total int64)) (compared int, err error) {
	want := map[int64]*stateRecorded{}
	stored, err := r.SubjectAll(ctx, stateSubject)
	if err != nil {
		return 0, err
	}
	for _, s := range stored {
		_, body, err := readEntry(s.Data)
		if ev, is := body.(*stateRecorded); err == nil && is && ev.Format == stateFormat() {
			want[ev.Size] = ev
		}
	}
	total, s := r.Head().Size, newState()
	for d, err := range decoded(ctx, r.Entries(ctx, 0, 0)) {
		if err == nil {
			err = s.apply(d.entry, d.event)
		}
		if err != nil {
			return compared, &journal.Broken{Seq: s.Size, What: err.Error()}
		}
		if progress != nil && s.Size%4096 == 0 {
			progress(s.Size, total)
		}
		if ev := want[s.Size]; ev != nil {
			digest, err := s.Digest()
			if err != nil {
				return compared, err
			}
			if digest != ev.Digest {
				return compared, &journal.Broken{Seq: s.Size, What: fmt.Sprintf("the state after %d entries was recorded as %s and comes out as %s", s.Size, ev.Digest, digest)}
			}
			compared++
		}
	}
	return compared, nil
}
