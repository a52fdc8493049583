package journal

import (
	"context"
	"crypto/rand"
	"fmt"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

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
	}
}
