package journal

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

// BenchmarkAppend appends batches of entries of 450 bytes. Its floor writes the
// same bytes to the end of a file and syncs it, once for each batch.
func BenchmarkAppend(b *testing.B) {
	skey, vkey, _ := note.GenerateKey(rand.Reader, "test")
	signer, _ := note.NewSigner(skey)
	verifier, _ := note.NewVerifier(vkey)
	for _, n := range []int{1, 64, 512} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			ctx := context.Background()
			j, err := Open(ctx, Options{Dir: b.TempDir(), Origin: "test", Signer: signer, Verifier: verifier})
			if err != nil {
				b.Fatal(err)
			}
			defer j.Close()
			for b.Loop() {
				var batch Batch
				batch.Size = j.Head().Size
				for i := range n {
					batch.Records = append(batch.Records, Record{Data: fmt.Appendf(nil, `{"seq":%d,"time":"2026-01-01T00:00:00.000Z","kind":"x","pad":"%0400d"}`, batch.Size+int64(i), i), Subjects: []string{fmt.Sprintf("d/%d", i), "all"}})
				}
				if _, err := j.Append(ctx, batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "records/s")
		})
		b.Run(fmt.Sprintf("%d/floor", n), func(b *testing.B) {
			f, err := os.Create(filepath.Join(b.TempDir(), "floor"))
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			data := bytes.Repeat([]byte("x"), 450*n)
			for b.Loop() {
				if _, err := f.Write(data); err != nil {
					b.Fatal(err)
				}
				if err := f.Sync(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
