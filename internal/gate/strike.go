package gate

import (
	"fmt"

	"github.com/lockkeeper/lockkeeper"
)

// A Strike says that an artifact must not be put into an environment any more, whatever
// vouches for it and whether it was good there before. No override waives it and no mode
// lets it through: it stands with what artifacts need.
type Strike struct {
	ID     string
	Digest lockkeeper.Digest
	By     string // the user
	At     lockkeeper.Moment
	Reason string
}

func (f Facts) struck(a lockkeeper.Artifact) (Strike, bool) {
	for _, s := range f.Struck {
		if s.Digest == a.Digest {
			return s, true
		}
	}
	return Strike{}, false
}

func (s Strike) against(a lockkeeper.Artifact, d lockkeeper.Decision) lockkeeper.Decision {
	d.Verdict, d.Code = lockkeeper.Fail, "artifact_struck"
	d.Sentence = fmt.Sprintf("%s was struck by %s at %s: %s", a.Name, s.By, s.At, s.Reason)
	d.Next = fmt.Sprintf("Deploy other artifacts. If it was struck by mistake, another person lifts it: lockkeeper strike lift %s", s.ID)
	return d
}
