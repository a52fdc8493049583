package keeper

import (
	"maps"
	"slices"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/gate"
)

// A recordIndex finds the records of a digest among those of a project.
type recordIndex struct {
	gone     int                         // records that were evicted
	byDigest map[lockkeeper.Digest][]int // places, counted from the first record ever
}

// addRecord adds a record to those of a project and evicts the oldest past the
// bound.
func (s *State) addRecord(project string, r gate.Record) {
	x := s.records[project]
	if x == nil {
		x = &recordIndex{byDigest: map[lockkeeper.Digest][]int{}}
		s.records[project] = x
	}
	list := append(s.Records[project], r)
	x.byDigest[r.Artifact.Digest] = append(x.byDigest[r.Artifact.Digest], x.gone+len(list)-1)
	for len(list) > maxRecords {
		oldest := list[0].Artifact.Digest
		if x.byDigest[oldest] = x.byDigest[oldest][1:]; len(x.byDigest[oldest]) == 0 {
			delete(x.byDigest, oldest)
		}
		list = list[1:]
		x.gone++
	}
	s.Records[project] = list
}

// indexRecords makes the index of a state that was read.
func (s *State) indexRecords() {
	for project, list := range s.Records {
		s.Records[project] = nil
		for _, r := range list {
			s.addRecord(project, r)
		}
	}
}

// recordsOf lists the records of an ask's digests in its project, oldest first.
func (s *State) recordsOf(ask lockkeeper.Ask) []gate.Record {
	x := s.records[ask.Project]
	if x == nil {
		return nil
	}
	places := map[int]bool{}
	for _, a := range ask.Artifacts {
		for _, i := range x.byDigest[a.Digest] {
			places[i] = true
		}
	}
	var out []gate.Record
	for _, i := range slices.Sorted(maps.Keys(places)) {
		out = append(out, s.Records[ask.Project][i-x.gone])
	}
	return out
}
