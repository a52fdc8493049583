package effect

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

const governance = `
{kind: User, name: dora}
---
{kind: User, name: ann}
---
{kind: User, name: bob}
---
{kind: User, name: cat}
---
{kind: Assignment, name: approvers, role: access-approver, principal: user:cat, scope: /projects/p}
---
{kind: Project, name: p}
---
{kind: Environment, name: e, project: p, tier: development}
---
{kind: Role, name: operator, actions: [deployments/cancel]}
---
{kind: Assignment, name: administration, role: organisation-administrator, principal: user:dora, scope: /}
---
{kind: Assignment, name: ann, role: operator, principal: user:ann, scope: /projects/p, eligible: true}
---
{kind: Assignment, name: bob, role: operator, principal: user:bob, scope: /projects/p, eligible: true}
---
{kind: ActivationRule, name: op, role: operator, scope: /projects/p}
---
`

// A stage is a keeper under a catalog, with a folder of secrets and a clock that can
// be set forward.
type stage struct {
	*testing.T
	k       *keeper.Keeper
	dir     string
	secrets string
	ahead   atomic.Int64
	log     lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}
func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var dora, ann, bob = keeper.Caller{User: "dora"}, keeper.Caller{User: "ann"}, keeper.Caller{User: "bob"}

func staged(t *testing.T, provisioners string) *stage {
	t.Helper()
	s := &stage{T: t, dir: t.TempDir(), secrets: t.TempDir()}
	s.open()
	t.Cleanup(func() { s.k.Close() })
	ctx := context.Background()
	code, err := s.k.MakeSetupCode(ctx)
	s.must(err)
	s.must(s.k.SetUp(ctx, code, "dora", "a long password of dora"))
	s.apply(provisioners)
	return s
}

func (s *stage) open() {
	s.Helper()
	var err error
	s.k, err = keeper.Open(context.Background(), keeper.Options{Dir: s.dir, Issuer: "https://lockkeeper.example", Clock: func() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }})
	s.must(err)
}

func (s *stage) apply(provisioners string) {
	s.Helper()
	c, problems := catalog.Read([]catalog.File{{Name: "rules.yaml", Data: []byte(governance + provisioners)}})
	s.must(problems.Err())
	r, _ := s.k.Revision()
	_, err := s.k.Apply(context.Background(), dora, c, r.Number, "")
	s.must(err)
}

func (s *stage) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *stage) want(err error, code string) {
	s.Helper()
	if r := lockkeeper.RefusalOf(err); r == nil || r.Code != code {
		s.Errorf("got %v, want %s", err, code)
	}
}

func (s *stage) secret(name, text string) {
	s.Helper()
	s.must(os.WriteFile(filepath.Join(s.secrets, name), []byte(text+"\n"), 0o600))
}

func (s *stage) worker(change func(*Options)) *Worker {
	o := Options{Keeper: s.k, Secrets: s.secrets, Local: true, Longest: 6 * time.Second, Log: slog.New(slog.NewTextHandler(&s.log, nil))}
	if change != nil {
		change(&o)
	}
	return New(o)
}

// runs lets a worker run until stop is called, or the test ends.
func (s *stage) runs(w *Worker) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		w.Run(ctx)
		close(done)
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	s.Cleanup(stop)
	return stop
}

// activate begins an activation of operator and gives its id.
func (s *stage) activate(by keeper.Caller, scope lockkeeper.Scope) string {
	s.Helper()
	a, err := s.begin(by, scope)
	s.must(err)
	return a.ID
}

func (s *stage) begin(by keeper.Caller, scope lockkeeper.Scope) (keeper.Activation, error) {
	s.Helper()
	r, err := s.k.RequestActivation(context.Background(), by, "", keeper.OpenRequest{Role: "operator", Scope: scope, For: time.Hour, Reason: "why"})
	s.must(err)
	return s.k.BeginActivation(context.Background(), by, r)
}

func (s *stage) end(by keeper.Caller, activation string) {
	s.Helper()
	s.must(s.k.EndActivation(context.Background(), by, activation, ""))
}

// until waits until the duties stand as want says: "granted taken", by age.
func (s *stage) until(want string) []keeper.DutyView {
	s.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		changed := s.k.Changed()
		list, err := s.k.Duties(dora)
		s.must(err)
		var got []string
		for _, d := range list {
			got = append(got, d.Stands)
		}
		if strings.Join(got, " ") == want {
			return list
		}
		if time.Now().After(deadline) {
			s.Fatalf("duties stand at %v, not %q: %+v\n%s", got, want, list, s.log.String())
		}
		select {
		case <-changed:
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// found fails if a secret stands in the journal's folder or the log. sealed.db holds
// none of them either.
func (s *stage) secretless(secrets ...string) {
	s.Helper()
	err := filepath.WalkDir(s.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		for _, secret := range secrets {
			if bytes.Contains(data, []byte(secret)) {
				s.Errorf("%s holds a secret (invariant 11)", path)
			}
		}
		return err
	})
	s.must(err)
	for _, secret := range secrets {
		if strings.Contains(s.log.String(), secret) {
			s.Error("the log holds a secret (invariant 11)")
		}
	}
}

func webhookAt(url string) string {
	return fmt.Sprintf("{kind: Provisioner, name: hook, role: operator, scope: /projects/p/environments/e, webhook: {url: %q}}\n", url)
}

func chmod(s *stage, name string, mode os.FileMode) {
	s.Helper()
	s.must(os.Chmod(filepath.Join(s.secrets, name), mode))
}
