package effect

import (
	"context"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// A mortal provisioner lets its worker die at a point: it says so, and comes back
// only when the worker has been told to end.
type mortal struct {
	Provisioner
	at    string
	dying chan struct{}
}

func (m *mortal) die(ctx context.Context, at string) error {
	if m.at != at {
		return nil
	}
	m.at = ""
	close(m.dying)
	<-ctx.Done()
	return ctx.Err()
}

func (m *mortal) Grant(ctx context.Context, a Account) error {
	if err := m.die(ctx, "before the grant"); err != nil {
		return err
	}
	if err := m.Provisioner.Grant(ctx, a); err != nil {
		return err
	}
	return m.die(ctx, "after the grant")
}

func (m *mortal) Revoke(ctx context.Context, a Account) error {
	if err := m.die(ctx, "before the removal"); err != nil {
		return err
	}
	if err := m.Provisioner.Revoke(ctx, a); err != nil {
		return err
	}
	return m.die(ctx, "after the removal")
}

func (m *mortal) Verify(ctx context.Context, a Account) (bool, error) {
	there, err := m.Provisioner.Verify(ctx, a)
	if err == nil {
		err = m.die(ctx, "after the reading")
	}
	return there, err
}

// TestFailure13CrashMatrix kills worker and server between each pair of steps. Whatever was
// done by then, everything is undone after the restart, and by nothing else than
// what the journal says.
func TestFailure13CrashMatrix(t *testing.T) {
	for _, at := range []string{"before anything", "before the grant", "after the grant", "granted", "over", "before the removal", "after the removal", "after the reading"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			h := serviced(t)
			s := staged(t, webhookAt(h.URL))
			s.secret("hook", hookSecret)
			m := &mortal{Provisioner: newWebhook(secrets{s.secrets}, true), at: at, dying: make(chan struct{})}
			stop := func() {}
			if at != "before anything" {
				stop = s.runs(s.worker(func(o *Options) { o.Provisioners, o.Longest = map[string]Provisioner{"webhook": m}, 20*time.Second }))
			}
			a := s.activate(ann, "/projects/p")
			switch at {
			case "before anything":
			case "before the grant", "after the grant":
				<-m.dying
			default:
				s.until("granted")
				if at == "over" {
					stop()
				}
				if at != "granted" {
					s.end(ann, a)
				}
				if at != "granted" && at != "over" {
					<-m.dying
				}
			}
			stop()
			s.must(s.k.Close())
			s.open()
			if list, err := s.k.Duties(dora); err != nil || len(list) != 1 {
				t.Fatalf("the duty is not in the journal: %v %+v", err, list)
			}
			s.ahead.Add(int64(2 * time.Hour)) // the activation is over by arithmetic
			s.runs(s.worker(nil))
			s.until("")
			if h.count() != 0 {
				t.Error("something is left (invariant 12)")
			}
		})
	}
}

// A worker that comes back late reports to nobody, and the one that took over
// decides what is so.
func TestLateReport(t *testing.T) {
	h := serviced(t)
	s := staged(t, webhookAt(h.URL))
	s.secret("hook", hookSecret)
	a := s.activate(ann, "/projects/p")
	ctx := context.Background()
	late, err := s.k.BeginEffect(ctx, s.k.Effects()[0], time.Minute)
	s.must(err)
	if len(s.k.Effects()) != 0 {
		t.Fatal("two may set about it")
	}
	_, err = s.k.BeginEffect(ctx, keeper.Effect{Duty: late.Duty, Verb: keeper.GrantVerb}, time.Minute)
	s.want(err, "effect_stale")
	s.ahead.Add(int64(90 * time.Second)) // its deadline is past
	s.runs(s.worker(nil))
	s.until("granted")
	s.want(s.k.EndEffect(ctx, late, keeper.Outcome{Code: "target_failed", Untouched: true}), "effect_stale")
	s.end(ann, a)
	s.until("")
	s.want(s.k.EndEffect(ctx, late, keeper.Outcome{}), "duty_over")
	if h.count() != 0 {
		t.Error("something is left")
	}
}
