package keeper

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/gate"
)

// TestRecordsOf compares the index of the records with a look at them all, past
// the bound and after the state was read back.
func TestRecordsOf(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 9))
	digest := func() lockkeeper.Digest { return lockkeeper.DigestOf(fmt.Append(nil, r.IntN(3000))) }
	s := newState()
	check := func(s *State) {
		t.Helper()
		found := 0
		for range 200 {
			ask := lockkeeper.Ask{Project: []string{"p", "q", "none"}[r.IntN(3)], Artifacts: []lockkeeper.Artifact{{Name: "a", Digest: digest()}, {Name: "b", Digest: digest()}}}
			var want []gate.Record
			for _, rec := range s.Records[ask.Project] {
				if rec.Artifact.Digest == ask.Artifacts[0].Digest || rec.Artifact.Digest == ask.Artifacts[1].Digest {
					want = append(want, rec)
				}
			}
			if got := s.recordsOf(ask); !reflect.DeepEqual(got, want) {
				t.Fatalf("%d records, want %d", len(got), len(want))
			}
			found += len(want)
		}
		if found < 100 {
			t.Errorf("only %d records were found", found)
		}
	}
	for i := range maxRecords + 5000 {
		s.addRecord([]string{"p", "p", "p", "p", "p", "p", "p", "p", "p", "q"}[r.IntN(10)], gate.Record{Artifact: lockkeeper.Artifact{Name: "a", Digest: digest()}, Run: fmt.Sprint(i)})
	}
	if len(s.Records["p"]) != maxRecords {
		t.Fatalf("%d records are kept", len(s.Records["p"]))
	}
	check(s)
	s.Size = 1
	data, err := marshal(s)
	must(t, err)
	read, err := readState(data, 1)
	must(t, err)
	check(read)
}
