package journal

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/lockkeeper/lockkeeper"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
)

// A keyring signs and verifies the checkpoints of a test.
type keyring struct {
	signer   note.Signer
	verifier note.Verifier
}

func newKeyring(t testing.TB) keyring {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, "test")
	must(t, err)
	var k keyring
	k.signer, err = note.NewSigner(skey)
	must(t, err)
	k.verifier, err = note.NewVerifier(vkey)
	must(t, err)
	return k
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (k keyring) open(t testing.TB, dir string) (*Journal, error) {
	t.Helper()
	j, err := Open(context.Background(), Options{Dir: dir, Origin: "test", Signer: k.signer, Verifier: k.verifier})
	if err == nil {
		t.Cleanup(func() { j.Close() })
	}
	return j, err
}

func (k keyring) mustOpen(t testing.TB, dir string) *Journal {
	t.Helper()
	j, err := k.open(t, dir)
	must(t, err)
	return j
}

func entryData(seq int64) []byte {
	return fmt.Appendf(nil, `{"seq":%d,"time":"2026-01-01T00:00:%02d.000Z","kind":"test","body":"entry %d"}`, seq, min(seq, 59), seq)
}

func batch(size int64, n int) Batch {
	b := Batch{Size: size}
	for i := range int64(n) {
		b.Records = append(b.Records, Record{Data: entryData(size + i), Subjects: []string{"all", fmt.Sprintf("parity/%d", (size+i)%2)}})
	}
	return b
}

func grow(t testing.TB, j *Journal, sizes ...int) {
	t.Helper()
	for _, n := range sizes {
		_, err := j.Append(context.Background(), batch(j.Head().Size, n))
		must(t, err)
	}
}

func code(err error) string {
	if r := lockkeeper.RefusalOf(err); r != nil {
		return r.Code
	}
	return fmt.Sprint(err)
}

func TestAppendAndRead(t *testing.T) {
	ctx := context.Background()
	k, dir := newKeyring(t), t.TempDir()
	j := k.mustOpen(t, dir)
	grow(t, j, 1, 3, 64)
	if _, err := j.Append(ctx, batch(5, 1)); code(err) != "journal_moved" {
		t.Errorf("a batch decided elsewhere: %v", err)
	}
	if h, err := j.Append(ctx, Batch{Size: 68}); err != nil || h.Size != 68 {
		t.Errorf("an empty batch: %v", err)
	}
	document := []byte("a document")
	b := batch(68, 1)
	b.Documents = []Document{{lockkeeper.DigestOf(document), document}, {lockkeeper.DigestOf(document), document}}
	_, err := j.Append(ctx, b)
	must(t, err)
	wrong := batch(69, 1)
	wrong.Documents = []Document{{lockkeeper.DigestOf([]byte("x")), document}}
	if _, err := j.Append(ctx, wrong); err == nil || j.Head().Size != 69 {
		t.Errorf("a document under another digest: %v at %d", err, j.Head().Size)
	}
	must(t, j.Close())
	j = k.mustOpen(t, dir)
	if j.Head().Size != 69 {
		t.Fatalf("after opening again there are %d entries", j.Head().Size)
	}
	n := int64(0)
	for e, err := range j.Entries(ctx, 0, 0) {
		must(t, err)
		if e.Seq != n || !bytes.Equal(e.Data, entryData(n)) {
			t.Fatalf("entry %d reads %s", n, e.Data)
		}
		n++
	}
	if n != 69 {
		t.Errorf("%d entries were read", n)
	}
	odd, err := j.Subject(ctx, "parity/1", 10, 3)
	must(t, err)
	if len(odd) != 3 || odd[0].Seq != 9 || odd[2].Seq != 5 {
		t.Errorf("newest first before 10: %v", odd)
	}
	all, err := j.SubjectAll(ctx, "all")
	must(t, err)
	if len(all) != 69 || all[0].Seq != 0 {
		t.Errorf("%d entries about all", len(all))
	}
	if got, err := j.Document(ctx, lockkeeper.DigestOf(document)); err != nil || !bytes.Equal(got, document) {
		t.Errorf("the document: %v", err)
	}
	if _, err := j.Document(ctx, lockkeeper.DigestOf([]byte("none"))); lockkeeper.KindOf(err) != lockkeeper.NotFound {
		t.Error(err)
	}
	if _, err := j.Entry(ctx, 69); lockkeeper.KindOf(err) != lockkeeper.NotFound {
		t.Error(err)
	}
}

// Every proof at every size holds for an independent implementation of RFC
// 6962, and no changed one does.
func TestProofs(t *testing.T) {
	ctx := context.Background()
	k := newKeyring(t)
	j := k.mustOpen(t, t.TempDir())
	roots, checkpoints := [][]byte{nil}, [][]byte{nil}
	for size := int64(1); size <= 70; size++ {
		grow(t, j, 1)
		root := j.Head().Root
		roots, checkpoints = append(roots, root[:]), append(checkpoints, j.Head().Checkpoint)
		for seq := int64(0); seq < size; seq += 1 + size/9 {
			p, err := j.Prove(ctx, seq)
			must(t, err)
			must(t, p.Verify(k.verifier))
			leaf := rfc6962.DefaultHasher.HashLeaf(entryData(seq))
			if err := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(seq), uint64(size), leaf, p.Hashes, root[:]); err != nil {
				t.Fatalf("entry %d of %d: %v", seq, size, err)
			}
		}
		for old := int64(1); old <= size; old += 1 + size/9 {
			c, err := j.ProveContinuation(ctx, checkpoints[old])
			must(t, err)
			if from, to, err := c.Verify(k.verifier); err != nil || from != old || to != size {
				t.Fatalf("%d to %d: %d to %d, %v", old, size, from, to, err)
			}
			if err := proof.VerifyConsistency(rfc6962.DefaultHasher, uint64(old), uint64(size), c.Hashes, roots[old], root[:]); err != nil {
				t.Fatalf("%d to %d: %v", old, size, err)
			}
		}
	}
	p, err := j.Prove(ctx, 41)
	must(t, err)
	for i := range p.Entry {
		q := p
		q.Entry = bytes.Clone(p.Entry)
		q.Entry[i] ^= 1
		if q.Verify(k.verifier) == nil {
			t.Fatalf("the proof holds with byte %d of the entry flipped", i)
		}
	}
	for i := range p.Checkpoint {
		q := p
		q.Checkpoint = bytes.Clone(p.Checkpoint)
		q.Checkpoint[i] ^= 1
		if q.Verify(k.verifier) == nil {
			t.Fatalf("the proof holds with byte %d of the checkpoint flipped", i)
		}
	}
	for change, q := range map[string]Proof{"seq": {p.Seq + 1, p.Entry, p.Hashes, p.Checkpoint}, "negative": {-1, p.Entry, p.Hashes, p.Checkpoint},
		"short": {p.Seq, p.Entry, p.Hashes[1:], p.Checkpoint}, "none": {p.Seq, p.Entry, nil, p.Checkpoint}} {
		if q.Verify(k.verifier) == nil {
			t.Errorf("%s: the proof holds", change)
		}
	}
	if p.Verify(newKeyring(t).verifier) == nil {
		t.Error("the proof holds for another signer")
	}
}

// tampered copies a journal and changes the copy by SQL, without the triggers.
func tampered(t *testing.T, dir string, change func(*sql.DB)) string {
	t.Helper()
	into := filepath.Join(t.TempDir(), "copy")
	must(t, os.CopyFS(into, os.DirFS(dir)))
	db, err := sql.Open("sqlite", path(into))
	must(t, err)
	defer db.Close()
	for _, trigger := range []string{"entry_stays", "entry_remains", "document_stays"} {
		_, err := db.Exec("DROP TRIGGER " + trigger)
		must(t, err)
	}
	change(db)
	return into
}

func (k keyring) verify(dir string) error {
	ctx := context.Background()
	r, err := OpenReader(ctx, dir, "", k.verifier)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = Verify(ctx, r, nil)
	return err
}

func brokenSeq(err error) int64 {
	var b *Broken
	if errors.As(err, &b) {
		return b.Seq
	}
	return -1
}

// Every byte of every entry, node, head and checkpoint counts.
func TestEveryByteCounts(t *testing.T) {
	ctx := context.Background()
	k, dir := newKeyring(t), t.TempDir()
	j := k.mustOpen(t, dir)
	grow(t, j, 1, 2, 4)
	must(t, j.Close())
	must(t, k.verify(dir))
	tampered(t, dir, func(db *sql.DB) {
		r := &Reader{db: db, verifier: k.verifier, origin: "test"}
		must(t, r.refresh(ctx))
		check := func() error {
			if err := r.refresh(ctx); err != nil {
				return err
			}
			_, err := Verify(ctx, r, nil)
			return err
		}
		must(t, check())
		flip := func(table, column, where string, seq int64) {
			var data []byte
			must(t, db.QueryRow("SELECT "+column+" FROM "+table+" WHERE "+where).Scan(&data))
			for i := range data {
				changed := bytes.Clone(data)
				changed[i] ^= 1 << (i % 8)
				_, err := db.Exec("UPDATE "+table+" SET "+column+" = $1 WHERE "+where, changed)
				must(t, err)
				err = check()
				if at := brokenSeq(err); at < 0 || seq >= 0 && at != seq {
					t.Fatalf("%s.%s %s byte %d: %v", table, column, where, i, err)
				}
			}
			_, err := db.Exec("UPDATE "+table+" SET "+column+" = $1 WHERE "+where, data)
			must(t, err)
		}
		for seq := range int64(7) {
			flip("entry", "data", fmt.Sprintf("seq = %d", seq), seq)
			flip("entry", "hashes", fmt.Sprintf("seq = %d", seq), seq)
		}
		flip("head", "root", "id = 1", -1)
		flip("head", "checkpoint", "id = 1", -1)
		must(t, check())
	})
}

func TestTornJournals(t *testing.T) {
	k, dir := newKeyring(t), t.TempDir()
	j := k.mustOpen(t, dir)
	grow(t, j, 5)
	short := t.TempDir()
	must(t, os.CopyFS(filepath.Join(short, "db"), os.DirFS(dir)))
	grow(t, j, 5)
	must(t, j.Close())
	exec := func(statements ...string) func(*sql.DB) {
		return func(db *sql.DB) {
			for _, s := range statements {
				_, err := db.Exec(s)
				must(t, err)
			}
		}
	}
	for name, c := range map[string]struct {
		change func(*sql.DB)
		seq    int64
	}{
		"a missing entry":           {exec("DELETE FROM entry WHERE seq = 4"), 4},
		"a missing end":             {exec("DELETE FROM entry WHERE seq >= 7"), 7},
		"two swapped":               {exec("UPDATE entry SET seq = 100 WHERE seq = 2", "UPDATE entry SET seq = 2 WHERE seq = 3", "UPDATE entry SET seq = 3 WHERE seq = 100"), 2},
		"entries behind the head":   {exec(`INSERT INTO entry VALUES (10, x'7b7d', x'00')`), 10},
		"a head without its log":    {exec("DELETE FROM entry"), 0},
		"a log without its head":    {exec("DELETE FROM head"), 0},
		"a longer head":             {exec("UPDATE head SET size = 11"), 10},
		"a document of other bytes": {exec("INSERT INTO document VALUES ('sha256:00', x'00')"), 0},
		"no entries at all":         {exec("DROP TABLE entry"), -1},
	} {
		at := tampered(t, dir, c.change)
		_, err := k.open(t, at)
		if err == nil || c.seq >= 0 && brokenSeq(err) != c.seq {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := newKeyring(t).open(t, dir); brokenSeq(err) != 9 {
		t.Errorf("another signer: %v", err)
	}
	if _, err := Open(context.Background(), Options{Dir: dir, Origin: "other", Signer: k.signer, Verifier: k.verifier}); code(err) != "journal_of_another" {
		t.Errorf("another origin: %v", err)
	}
	// An older database under the newer checkpoint: the log has lost its end.
	for _, name := range []string{"journal.db", "journal.db-wal", "journal.db-shm"} {
		data, err := os.ReadFile(filepath.Join(short, "db", name))
		if err == nil {
			must(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
		}
	}
	if _, err := k.open(t, dir); brokenSeq(err) != 5 {
		t.Errorf("an older database: %v", err)
	}
}

// Flipped bytes of the file itself are caught, or leave the log as it was.
func TestFlippedFile(t *testing.T) {
	ctx := context.Background()
	k, dir := newKeyring(t), t.TempDir()
	j := k.mustOpen(t, dir)
	grow(t, j, 40)
	head := j.Head()
	must(t, j.Close())
	good, err := os.ReadFile(path(dir))
	must(t, err)
	caught := 0
	for i := 0; i < len(good); i += 211 {
		data := bytes.Clone(good)
		data[i] ^= 0x10
		must(t, os.WriteFile(path(dir), data, 0o600))
		r, err := OpenReader(ctx, dir, "", k.verifier)
		if err == nil {
			_, err = Verify(ctx, r, nil)
			if err == nil && r.Head().Root != head.Root {
				t.Fatalf("byte %d: another log verifies", i)
			}
			r.Close()
		}
		if err != nil {
			caught++
		}
	}
	if caught < 20 {
		t.Errorf("only %d flips were caught", caught)
	}
	must(t, os.WriteFile(path(dir), good[:len(good)/2], 0o600))
	if _, err := k.open(t, dir); err == nil {
		t.Error("half a file opens")
	}
}

// A commit that fails, and one that fails but happened.
func TestUnknownCommit(t *testing.T) {
	ctx := context.Background()
	for _, happened := range []bool{false, true} {
		k, dir := newKeyring(t), t.TempDir()
		j := k.mustOpen(t, dir)
		grow(t, j, 3)
		good := j.commit
		j.commit = func(ctx context.Context, c *sql.Conn) error {
			if happened {
				must(t, good(ctx, c))
			}
			return errors.New("the disk is gone")
		}
		if _, err := j.Append(ctx, batch(3, 2)); !errors.Is(err, ErrUnknown) {
			t.Fatalf("happened %v: %v", happened, err)
		}
		j.commit = good
		if _, err := j.Append(ctx, batch(3, 2)); !errors.Is(err, ErrUnknown) {
			t.Errorf("happened %v: an append before settling: %v", happened, err)
		}
		head, err := j.Settle(ctx)
		must(t, err)
		if want := map[bool]int64{false: 3, true: 5}[happened]; head.Size != want {
			t.Errorf("happened %v: settled at %d", happened, head.Size)
		}
		grow(t, j, 4)
		must(t, j.Close())
		k.mustOpen(t, dir)
	}
}

func TestFullDisk(t *testing.T) {
	t.Run("page limit", func(t *testing.T) {
		k := newKeyring(t)
		j := k.mustOpen(t, t.TempDir())
		grow(t, j, 10)
		_, err := j.conn.ExecContext(context.Background(), "PRAGMA max_page_count = 1")
		must(t, err)
		fill(t, j)
		_, err = j.conn.ExecContext(context.Background(), "PRAGMA max_page_count = 1000000")
		must(t, err)
		grow(t, j, 10)
	})
	t.Run("tmpfs", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "small")
		must(t, os.Mkdir(dir, 0o700))
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=3m"); err != nil {
			t.Skipf("a small disk cannot be mounted here (%v); the page limit stands for it", err)
		}
		defer syscall.Unmount(dir, syscall.MNT_DETACH)
		k := newKeyring(t)
		j := k.mustOpen(t, dir)
		ballast := filepath.Join(dir, "ballast")
		must(t, os.WriteFile(ballast, make([]byte, 1<<20), 0o600))
		fill(t, j)
		must(t, os.Remove(ballast))
		if j.unknown {
			_, err := j.Settle(context.Background())
			must(t, err)
		}
		size := j.Head().Size
		grow(t, j, 1)
		must(t, j.Close())
		if j = k.mustOpen(t, dir); j.Head().Size != size+1 {
			t.Errorf("%d entries, not %d", j.Head().Size, size+1)
		}
		must(t, j.Close())
		must(t, syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
		if _, err := k.open(t, dir); code(err) != "folder_unusable" {
			t.Errorf("a folder that cannot be written: %v", err)
		}
	})
}

// fill appends until the disk is full, and checks that nothing is half done.
func fill(t *testing.T, j *Journal) {
	t.Helper()
	ctx := context.Background()
	for range 2000 {
		size := j.Head().Size
		b := batch(size, 8)
		for i := range b.Records {
			b.Records[i].Data = append(bytes.TrimSuffix(b.Records[i].Data, []byte("}")), fmt.Appendf(nil, `,"pad":"%02000d"}`, i)...)
		}
		_, err := j.Append(ctx, b)
		if err == nil {
			continue
		}
		if code(err) != "disk_full" && !errors.Is(err, ErrUnknown) {
			t.Fatalf("a full disk gives %v", err)
		}
		if j.Head().Size != size {
			t.Error("the head moved")
		}
		return
	}
	t.Fatal("the disk never got full")
}

func TestFolders(t *testing.T) {
	k, dir := newKeyring(t), t.TempDir()
	k.mustOpen(t, dir)
	if _, err := k.open(t, dir); code(err) != "folder_in_use" {
		t.Errorf("a second server: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	if _, err := k.open(t, filepath.Join(file, "data")); code(err) != "folder_unusable" {
		t.Errorf("a folder below a file: %v", err)
	}
	if _, err := OpenReader(context.Background(), t.TempDir(), "", k.verifier); code(err) != "journal_missing" {
		t.Errorf("an empty folder: %v", err)
	}
	must(t, os.WriteFile(path(filepath.Dir(file)), []byte("this is no database, and long enough to be taken for one if nobody looks at it closely, again and again and again"), 0o600))
	if _, err := k.open(t, filepath.Dir(file)); err == nil {
		t.Error("a file that is no database opens")
	}
}

func TestReadersBesideTheWriter(t *testing.T) {
	ctx := context.Background()
	k, dir := newKeyring(t), t.TempDir()
	j := k.mustOpen(t, dir)
	grow(t, j, 1)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 10 {
				if err := k.verify(dir); err != nil {
					t.Error(err)
				}
				n := int64(0)
				for e, err := range j.Entries(ctx, 0, 0) {
					if err != nil || e.Seq != n {
						t.Error(e.Seq, err)
					}
					n++
				}
				if _, err := j.Prove(ctx, 0); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 60 {
		grow(t, j, 3)
	}
	wg.Wait()
}

func TestSealed(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	s, err := OpenSealed(ctx, dir)
	must(t, err)
	must(t, s.Put(ctx, "password", "a", []byte("the very secret value")))
	must(t, s.Put(ctx, "password", "b", []byte("another")))
	got, err := s.Get(ctx, "password", "a")
	if err != nil || string(got) != "the very secret value" {
		t.Fatal(string(got), err)
	}
	_, err = s.db.Exec(`UPDATE sealed SET value = (SELECT value FROM sealed WHERE id = 'a') WHERE id = 'b'`)
	must(t, err)
	if _, err := s.Get(ctx, "password", "b"); err == nil {
		t.Error("a row in another's place opens")
	}
	must(t, s.Delete(ctx, "password", "b"))
	if _, err := s.Get(ctx, "password", "b"); lockkeeper.KindOf(err) != lockkeeper.NotFound {
		t.Error(err)
	}
	must(t, s.Close())
	for _, name := range []string{"sealed.db", "sealed.db-wal"} {
		if data, err := os.ReadFile(filepath.Join(dir, name)); err == nil && bytes.Contains(data, []byte("very secret")) {
			t.Errorf("%s holds the value in the clear", name)
		}
	}
	key := filepath.Join(dir, "sealed.key")
	raw, err := os.ReadFile(key)
	must(t, err)
	refused := func(what string) {
		t.Helper()
		if s, err := OpenSealed(ctx, dir); code(err) != "sealing_key_unfit" {
			t.Errorf("%s: %v", what, err)
			if err == nil {
				s.Close()
			}
		}
	}
	must(t, os.Chmod(key, 0o640))
	refused("a key that others read")
	must(t, os.Chmod(key, 0o600))
	must(t, os.WriteFile(key, raw[:31], 0o600))
	refused("a short key")
	must(t, os.Remove(key))
	refused("a missing key")
	must(t, os.WriteFile(key, bytes.Repeat([]byte{1}, 32), 0o600))
	s, err = OpenSealed(ctx, dir)
	must(t, err)
	defer s.Close()
	if _, err := s.Get(ctx, "password", "a"); err == nil {
		t.Error("the value opens with another key")
	}
}
