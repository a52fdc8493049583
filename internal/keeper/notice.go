package keeper

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// A notice tells people what happened that concerns them. It is made in the same
// decision as what it is about, and stands before it in the journal; each of them
// sees it until he has acknowledged it. To carry it outside is a worker's task.

// A Notice is for some users.
type Notice struct {
	ID      string            `json:"id"`
	About   string            `json:"about"`   // break-glass, incident, recovery
	Subject string            `json:"subject"` // what it is about, as the journal indexes it
	Text    string            `json:"text"`
	At      lockkeeper.Moment `json:"at"`
	For     []string          `json:"for"`            // users who have not acknowledged it, sorted
	More    int               `json:"more,omitempty"` // users whom it concerns beyond maxConcerned
}

// Bounds of notices.
const (
	maxConcerned = 1000 // users of one notice
	maxNotices   = 2000 // at once; the oldest gives way
	noticeLife   = 30 * 24 * time.Hour
)

func noticeSubject(id string) string { return "notice/" + id }

// noticeMade tells users.
type noticeMade struct {
	one
	Notice Notice `json:"notice"`
}

func (*noticeMade) kind() string { return "notice.made" }
func (ev *noticeMade) subjects() []string {
	return []string{noticeSubject(ev.Notice.ID), ev.Notice.Subject}
}
func (ev *noticeMade) apply(s *State, e Entry) error {
	if s.Notices[ev.Notice.ID] != nil {
		return fmt.Errorf("the notice %s was made before", ev.Notice.ID)
	}
	oldest := ""
	for id, n := range s.Notices {
		if e.Time.Sub(n.At) >= noticeLife {
			delete(s.Notices, id)
		} else if o := s.Notices[oldest]; o == nil || n.At.Before(o.At) || n.At == o.At && id < oldest {
			oldest = id
		}
	}
	if len(s.Notices) >= maxNotices {
		delete(s.Notices, oldest)
	}
	n := ev.Notice
	n.At = e.Time
	s.Notices[n.ID] = &n
	return nil
}

// noticeSeen is one user's word that he knows.
type noticeSeen struct {
	one
	ID   string `json:"id"`
	User string `json:"user"`
}

func (*noticeSeen) kind() string          { return "notice.seen" }
func (ev *noticeSeen) subjects() []string { return []string{noticeSubject(ev.ID)} }
func (ev *noticeSeen) apply(s *State, _ Entry) error {
	old := s.Notices[ev.ID]
	if old == nil {
		return nil // it gave way
	}
	n := *old
	n.For = slices.DeleteFunc(slices.Clone(n.For), func(u string) bool { return u == ev.User })
	if s.Notices[n.ID] = &n; len(n.For) == 0 {
		delete(s.Notices, n.ID)
	}
	return nil
}

// notice is a notice for users; nil: there is nobody.
func notice(id, about, subject, text string, users []string) []event {
	slices.Sort(users)
	users = slices.Compact(users)
	if len(users) == 0 {
		return nil
	}
	n := Notice{ID: "n-" + id, About: about, Subject: subject, Text: text, For: users[:min(len(users), maxConcerned)]}
	n.More = len(users) - len(n.For)
	return []event{&noticeMade{Notice: n}}
}

// acknowledge takes a notice off the caller's list.
type acknowledge struct {
	Notice string `json:"notice"`
}

func (acknowledge) name() string    { return "notice.acknowledge" }
func (c acknowledge) about() string { return "notices" }
func (c acknowledge) decide(w *world, by Caller, _ lockkeeper.Moment) ([]event, any, error) {
	if by.User == "" {
		return nil, nil, errPersonNeeded()
	}
	n := w.Notices[c.Notice]
	if n == nil || !slices.Contains(n.For, by.User) {
		return nil, nil, lockkeeper.NotFound.Errorf("notice_missing", "There is no notice %.80q that waits for you.", c.Notice).WithNext("List them: lockkeeper notices list")
	}
	return []event{&noticeSeen{ID: n.ID, User: by.User}}, opened{n.ID}, nil
}

// Acknowledge takes a notice off the caller's list.
func (k *Keeper) Acknowledge(ctx context.Context, by Caller, id string) error {
	_, err := do[opened](ctx, k, by, "", acknowledge{id})
	return err
}

// Notices lists what the caller was told and has not acknowledged, newest first.
func (k *Keeper) Notices(by Caller) ([]Notice, error) {
	if by.User == "" {
		return nil, errPersonNeeded()
	}
	if by.Token != "" { // they are told to the person
		return nil, errTokenMayNot(acknowledge{})
	}
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	out := []Notice{}
	for _, n := range k.state.Notices {
		if slices.Contains(n.For, by.User) && now.Sub(n.At) < noticeLife {
			out = append(out, *n)
		}
	}
	slices.SortFunc(out, func(a, b Notice) int {
		return cmp.Or(b.At.Time().Compare(a.At.Time()), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}
