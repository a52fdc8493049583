package keeper

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"pgregory.net/rapid"
)

// A directoryLaw is one state of the catalog about a directory.
type directoryLaw struct {
	there, admits, listed bool // the directory; it brings users; ann lists her account
	mapping               map[string]string
	age                   time.Duration
}

func (l directoryLaw) text() string {
	text := "kind: User\nname: dora\n---\nkind: Project\nname: p\n---\nkind: Group\nname: red\n---\nkind: Group\nname: blue\n" +
		"---\n{kind: Assignment, name: administration, role: organisation-administrator, principal: 'user:dora', scope: /}\n" +
		"---\n{kind: Assignment, name: red, role: release-manager, principal: 'group:red', scope: /projects/p}\n" +
		"---\n{kind: Assignment, name: blue, role: release-manager, principal: 'group:blue', scope: /projects/p, deny: true}\n"
	if !l.there {
		return text
	}
	text = strings.Replace(text, "name: dora\n", "name: dora\nsignIns: [{directory: corp, none: true}]\n", 1)
	text += fmt.Sprintf("---\nkind: Directory\nname: corp\nplatform: dex\nissuer: https://id.example\nclient: c\nadmit: %v\ngroupAge: %s\nsession: 2h\nidle: 40m\n", l.admits, l.age)
	if len(l.mapping) > 0 {
		text += "groups:\n"
		for _, id := range []string{"g1", "g2"} {
			if here := l.mapping[id]; here != "" {
				text += fmt.Sprintf("  - {id: %s, group: %s}\n", id, here)
			}
		}
	}
	if l.listed {
		text += "---\nkind: User\nname: ann\nsignIns: [{directory: corp, subject: s-ann}]\n"
	}
	return text
}

func directoryLaws(t testing.TB) (laws []directoryLaw, rules []*Rules) {
	both := map[string]string{"g1": "red", "g2": "blue"}
	laws = []directoryLaw{
		{there: true, admits: true, listed: true, mapping: both, age: time.Hour},
		{there: true, admits: true, mapping: both, age: time.Hour},
		{there: true, listed: true, mapping: both, age: 20 * time.Minute},
		{there: true, admits: true, listed: true, mapping: map[string]string{"g1": "blue", "g2": "red"}, age: time.Hour},
		{there: true, admits: true, listed: true, age: time.Hour},
		{},
	}
	for _, l := range laws {
		rules = append(rules, mustRules(t, l.text()))
	}
	return laws, rules
}

// TestMembers lets people sign in with a directory, their groups, the catalog and
// the clock change at random, and compares who may do what, and whose sign-in
// holds, with a small model. It prints the sequence where they differ.
func TestMembers(t *testing.T) {
	laws, rules := directoryLaws(t)
	type said struct {
		groups []string
		at     lockkeeper.Moment
	}
	type signIn struct {
		user, subject string
		expires, used lockkeeper.Moment
	}
	rapid.Check(t, func(t *rapid.T) {
		c := &core{world: world{State: newState(), rules: rules[0]}}
		law, now, last, sessions := 0, began, map[string]said{}, map[string]*signIn{}
		users := map[string]string{"s-ann": "ann", "s-bob": "bob"}
		bound := func(subject string) bool {
			l := laws[law]
			return l.there && (subject == "s-ann" && l.listed || l.admits)
		}
		inGroup := func(subject, here string) (is, believed bool) {
			s, heard := last[subject]
			if !heard || !bound(subject) {
				return false, false
			}
			for _, g := range s.groups {
				if laws[law].mapping[g] == here {
					return true, now.Before(s.at.Add(laws[law].age))
				}
			}
			return false, false
		}
		holds := func(s *signIn) bool {
			return now.Before(s.expires) && now.Before(s.used.Add(40*time.Minute)) && bound(s.subject)
		}
		var story []string
		tell := func(format string, args ...any) {
			story = append(story, fmt.Sprintf("%s %s", now, fmt.Sprintf(format, args...)))
		}
		for n := range rapid.IntRange(5, 40).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				subject := rapid.SampledFrom([]string{"s-ann", "s-bob"}).Draw(t, "who")
				groups := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"g1", "g2", "g3"}), 0, 3, rapid.ID).Draw(t, "groups")
				old := time.Duration(rapid.IntRange(0, 9).Draw(t, "minutes old")) * time.Minute
				id := fmt.Sprint("s-", n)
				tell("%s signs in, in %v as of %s ago", subject, groups, old)
				s, err := c.step(Caller{}, "", startDirectorySession{Session{ID: id, Secret: "x"}, Said{Directory: "corp", Subject: subject, Name: users[subject], Groups: groups, At: now.Add(-old)}}, now)
				if err != nil {
					t.Fatal(err)
				}
				overtaken := now.Add(-old).Before(last[subject].at)
				if (s.err == nil) != (bound(subject) && !overtaken) {
					t.Fatalf("%v, bound %v, overtaken %v; %q", s.err, bound(subject), overtaken, story)
				}
				if s.err == nil {
					if got := c.Sessions[id].User; got != users[subject] {
						t.Fatalf("%s signed in as %s; %q", subject, got, story)
					}
					last[subject] = said{groups, now.Add(-old)}
					if len(laws[law].mapping) == 0 { // nobody asks for groups
						last[subject] = said{nil, now.Add(-old)}
					}
					sessions[id] = &signIn{users[subject], subject, now.Add(2 * time.Hour), now}
				}
			case 1:
				d := time.Duration(rapid.IntRange(0, 45).Draw(t, "minutes")) * time.Minute
				now = now.Add(d)
				tell("%s pass", d)
			case 2:
				law = rapid.IntRange(0, len(laws)-1).Draw(t, "law")
				tell("the law %d is in force: %+v", law, laws[law])
				var s step
				s.rules = rules[law]
				ev := revisionOf(rules[law].ofCatalog(), c.Revision.Number+1)
				if err := c.record(&s, Caller{Keeper: true}, "", "", []event{ev}, now); err != nil {
					t.Fatal(err)
				}
			case 3:
				for id, s := range sessions {
					by := Caller{User: s.user, Session: id}
					if done, err := c.step(by, "", useSession{}, now); err != nil || (done.err == nil) != holds(s) {
						t.Fatalf("%s of %s uses his session: %v %v, holds %v; %q", id, s.user, done.err, err, holds(s), story)
					} else if done.err == nil && len(done.entries) > 0 {
						s.used = now
					}
				}
				tell("all sessions are used")
			}
			for subject, user := range users {
				_, believed := inGroup(subject, "red")
				denied, _ := inGroup(subject, "blue")
				want := believed && !denied
				if got := c.rules.Access.Allowed(user, lockkeeper.ApproveDeployments, "/projects/p", now); got != want {
					t.Fatalf("%s may approve: %v, want %v; %q", user, got, want, story)
				}
			}
			for id, s := range sessions {
				if got := c.session(Caller{User: s.user, Session: id}, now) == nil; got != holds(s) {
					t.Fatalf("the session %s of %s holds: %v, want %v; %q", id, s.user, got, holds(s), story)
				}
			}
			again := rules[law].joined(c.State) // as at a start
			for _, user := range users {
				if again.Access.Allowed(user, lockkeeper.ApproveDeployments, "/projects/p", now) != c.rules.Access.Allowed(user, lockkeeper.ApproveDeployments, "/projects/p", now) {
					t.Fatalf("after a start %s may do something else; %q", user, story)
				}
			}
		}
	})
}

// What a directory said is asked for at a past instant as it was then.
func TestPastMembers(t *testing.T) {
	ctx := context.Background()
	var clock atomic.Int64
	start := time.Now().Add(-300 * time.Hour).Truncate(time.Second)
	options := Options{Clock: func() time.Time { return start.Add(time.Duration(clock.Load())) }}
	k, dir := started(t, options)
	dora := Caller{User: "dora"}
	laws, _ := directoryLaws(t)
	revision, _ := k.Revision()
	_, err := k.Apply(ctx, dora, readRules(t, laws[0].text()), revision.Number, "")
	must(t, err)
	at := map[string]lockkeeper.Moment{"before": k.now()}
	later := func(d time.Duration) { clock.Add(int64(d)) }
	later(time.Minute)
	signIn := func(groups ...string) {
		t.Helper()
		_, _, err := k.SignInBy(ctx, Said{Directory: "corp", Subject: "s-ann", Groups: groups, At: k.now()})
		must(t, err)
	}
	signIn("g1")
	later(time.Minute)
	at["red"] = k.now()
	later(time.Minute)
	signIn("g1", "g2")
	later(time.Minute)
	at["blue too"] = k.now()
	later(time.Minute)
	signIn("g1")
	at["red again"] = k.now()
	later(59*time.Minute + 59*time.Second)
	at["nearly too old"] = k.now()
	later(2 * time.Second)
	at["too old"] = k.now()
	want := map[string]bool{"before": false, "red": true, "blue too": false, "red again": true, "nearly too old": true, "too old": false}
	for range 2 {
		for name, instant := range at {
			p, err := k.Past(ctx, dora, instant)
			must(t, err)
			if got := p.Can("ann", lockkeeper.ApproveDeployments, "/projects/p").Passed(instant); got != want[name] {
				t.Errorf("%s: %v", name, got)
			}
		}
		must(t, k.Close())
		if k, err = openKeeper(ctx, dir, options); err != nil {
			t.Fatal(err)
		}
	}
	k.Close()
}

// A name that somebody wishes for is his only if it was nobody's.
func FuzzFreeName(f *testing.F) {
	for _, s := range []string{"ann@example.com", "dora", "", "..", "A B", "\x00", "ä@x", "corp"} {
		f.Add(s)
	}
	c, problems := catalog.Read([]catalog.File{{Name: "x.yaml", Data: []byte("kind: User\nname: dora\n---\nkind: User\nname: eve\nperson: mallory\n")}})
	if err := problems.Err(); err != nil {
		f.Fatal(err)
	}
	rules, err := compileRules(documentsOf(c))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, wish string) {
		w := &world{State: newState(), rules: rules}
		w.Members["corp s-1"] = &Member{Directory: "corp", Subject: "s-1", User: "taken"}
		w.Accounts["local"] = &Account{User: "local"}
		name := w.freeName("corp", Said{Subject: "s-2", Name: wish})
		if err := lockkeeper.CheckName(name); err != nil || slices.Contains([]string{"dora", "eve", "mallory", "taken", "local"}, name) {
			t.Errorf("%q becomes %q: %v", wish, name, err)
		}
	})
}
