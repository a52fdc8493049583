package keeper

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/access"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// Whoever wants to take away what nobody needs must know what is used. Each
// command that was permitted leaves in its first entry on which rights it rested
// and which assignments gave them; State.Uses sums that up. Questions leave no
// entry: of an action that only reads, nothing is known.

// A used right is one that a command rested on.
type used struct {
	User   string            `json:"user"`
	Action lockkeeper.Action `json:"action"`
	Role   string            `json:"role,omitempty"` // that was activated
	Scope  lockkeeper.Scope  `json:"scope"`
	// By are the assignments that gave it, with the digests of their documents.
	By map[string]lockkeeper.Digest `json:"by,omitempty"`
}

// Bounds of what is known of use.
const (
	maxUses = 50_000
	useLife = 400 * 24 * time.Hour
	maxUsed = 100 // rights of one command that are told
)

func useKey(u used) string {
	return strings.Join([]string{u.User, string(u.Action), u.Role, string(u.Scope)}, " ")
}

// rest notes that the command that is being decided rests on a right, by the
// decision that it was permitted with. Outside of a command it notes nothing.
func (w *world) rest(user string, action lockkeeper.Action, role string, scope lockkeeper.Scope, d lockkeeper.Decision) {
	if w.uses == nil || d.Verdict != lockkeeper.Pass {
		return
	}
	for _, id := range w.restedOn(d, nil) {
		w.spend(id, w.going)
	}
	if len(*w.uses) >= maxUsed {
		return
	}
	u := used{User: user, Action: action, Role: role, Scope: scope}
	if slices.ContainsFunc(*w.uses, func(o used) bool { return useKey(o) == useKey(u) }) {
		return
	}
	for _, name := range givers(d, nil) {
		if digest := w.rules.ofCatalog().DigestOf(catalog.Key{Kind: catalog.AssignmentKind, Name: name}); digest != "" {
			if u.By == nil {
				u.By = map[string]lockkeeper.Digest{}
			}
			u.By[name] = digest
		}
	}
	*w.uses = append(*w.uses, u)
}

// givers are the assignments that a decision names as giving what it permits.
func givers(d lockkeeper.Decision, into []string) []string {
	if name, is := strings.CutPrefix(d.Subject, "assignment "); is && d.Verdict == lockkeeper.Pass && !slices.Contains(into, name) {
		into = append(into, name)
	}
	for _, b := range d.Because {
		into = givers(b, into)
	}
	return into
}

// noteUses folds what the command of an entry rested on.
func (s *State) noteUses(e Entry) {
	if len(e.Used) > 0 && s.Observed.IsZero() {
		s.Observed = e.Time // entries of earlier releases do not say it
	}
	for _, u := range e.Used {
		key := useKey(u)
		known := s.Uses[key]
		if known == nil {
			s.forgetUses(e.Time)
			known = &access.Use{User: u.User, Action: u.Action, Role: u.Role, Scope: u.Scope}
			s.Uses[key] = known
		}
		known.Note(e.Time, e.Seq, u.By)
	}
}

// forgetUses makes room for one more. What was in use while it is forgotten is not
// known in full from then on only.
func (s *State) forgetUses(now lockkeeper.Moment) {
	if len(s.Uses) < maxUses {
		return
	}
	keys := slices.SortedFunc(maps.Keys(s.Uses), func(a, b string) int {
		return cmp.Or(s.Uses[a].Last.Time().Compare(s.Uses[b].Last.Time()), cmp.Compare(a, b))
	})
	for i, key := range keys {
		last := s.Uses[key].Last
		if i >= maxUses/10 && now.Sub(last) < useLife {
			return
		}
		if s.Observed.Before(last) {
			s.Observed = last.Add(time.Millisecond)
		}
		delete(s.Uses, key)
	}
}

// noteSignIn folds that a user was there.
func (s *State) noteSignIn(user string, at lockkeeper.Moment) {
	if _, known := s.SignedIn[user]; !known && len(s.SignedIn) >= maxSignedIn {
		oldest := ""
		for u, m := range s.SignedIn {
			if o := s.SignedIn[oldest]; oldest == "" || m.Before(o) || m == o && u < oldest {
				oldest = u
			}
		}
		delete(s.SignedIn, oldest)
	}
	s.SignedIn[user] = at
}

// maxSignedIn bounds of how many users the last sign-in is known.
const maxSignedIn = 100_000
