package effect

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// scans lets a worker run that reads targets all the time.
func (s *stage) scans(change func(*Options)) *Worker {
	w := s.worker(func(o *Options) {
		o.ScanEvery = 200 * time.Millisecond
		if change != nil {
			change(o)
		}
	})
	s.runs(w)
	return w
}

// drifts waits until what differs at a provisioner's target is as want says: "kind
// account", by kind.
func (s *stage) drifts(provisioner, want string) []keeper.Drift {
	s.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		changed := s.k.Changed()
		list, err := s.k.Drift(dora)
		s.must(err)
		var got []string
		for _, v := range list {
			if v.Provisioner != provisioner {
				continue
			}
			for _, d := range v.Found {
				got = append(got, d.Kind+" "+d.Account)
			}
			if strings.Join(got, ", ") == want && (want != "" || !v.At.IsZero()) {
				return v.Found
			}
		}
		if time.Now().After(deadline) {
			s.Fatalf("there differs %q, not %q\n%s", got, want, s.log.String())
		}
		select {
		case <-changed:
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// modified reports whether an activation is marked as changed outside.
func (s *stage) modified(activation string) bool {
	s.Helper()
	list, err := s.k.Activations(dora)
	s.must(err)
	for _, a := range list {
		if a.ID == activation {
			return !a.Modified.IsZero()
		}
	}
	s.Fatalf("%s is not active", activation)
	return false
}

func databaseWith(name, more string) string {
	return fmt.Sprintf("{kind: Provisioner, name: database, role: operator, scope: /projects/p/environments/e, postgresql: {roles: [%s_reading]}%s}\n", name, more)
}

func loginOf(activation string) string {
	return "lk_" + strings.TrimPrefix(activation, "a-") + "_1"
}

func dutyOf(activation string) string {
	return "o-" + strings.TrimPrefix(activation, "a-") + "-1"
}

// TestFailure15DriftPostgreSQL changes a real database past Lockkeeper: what is seen is
// told, an activation that was touched is marked for good, and what others gave is
// never taken away, whatever the provisioner says is to be done.
func TestFailure15DriftPostgreSQL(t *testing.T) {
	t.Run("alert", func(t *testing.T) {
		s := provisionedDatabase(t, "drift_alert")
		s.scans(nil)
		a := s.activate(ann, "/projects/p")
		s.until("granted")
		s.drifts("database", "")
		login := loginOf(a)
		s.exec("CREATE ROLE drift_alert_app LOGIN")
		s.exec("GRANT drift_alert_reading TO drift_alert_app")
		s.drifts("database", "assigned_outside drift_alert_app")
		s.apply(databaseWith("drift_alert", ", known: [drift_alert_app]"))
		s.drifts("database", "")
		if s.modified(a) {
			t.Error("it is marked, and nobody touched it")
		}
		for _, change := range []struct{ do, undo, says string }{
			{"GRANT pg_monitor TO " + login, "REVOKE pg_monitor FROM " + login, "it is a member of pg_monitor"},
			{"ALTER ROLE " + login + " CREATEDB", "ALTER ROLE " + login + " NOCREATEDB", "createdb"},
			{"ALTER ROLE " + login + " NOLOGIN", "ALTER ROLE " + login + " LOGIN", "it may not sign in"},
			{"GRANT " + login + " TO drift_alert_app", "REVOKE " + login + " FROM drift_alert_app", "drift_alert_app is a member of it"},
			{"REVOKE drift_alert_reading FROM " + login, "GRANT drift_alert_reading TO " + login, "it is no member of drift_alert_reading"},
			{"COMMENT ON ROLE " + login + " IS 'mine'", "COMMENT ON ROLE " + login + " IS 'lockkeeper " + dutyOf(a) + "'", "mark"},
		} {
			s.exec(change.do)
			if d := s.drifts("database", "changed "+login)[0]; !strings.Contains(d.Detail, change.says) || d.Activation != a || d.User != "ann" || d.Duty != dutyOf(a) {
				t.Errorf("%s: %+v", change.do, d)
			}
			s.exec(change.undo)
			s.drifts("database", "")
		}
		var until string
		s.must(s.admin.QueryRow(context.Background(), "SELECT rolvaliduntil::text FROM pg_roles WHERE rolname = $1", login).Scan(&until))
		s.exec("ALTER ROLE " + login + " VALID UNTIL 'infinity'")
		s.drifts("database", "changed "+login)
		s.exec("ALTER ROLE " + login + " VALID UNTIL '" + until + "'")
		s.drifts("database", "")
		if !s.modified(a) {
			t.Error("it was touched, and is not marked any more")
		}
		s.exec("DROP ROLE " + login)
		s.drifts("database", "vanished "+login)
		alerts, err := s.k.Alerts(context.Background(), dora, keeper.Thresholds{})
		s.must(err)
		if !strings.Contains(fmt.Sprint(alerts), "changed_outside") {
			t.Errorf("no alert: %v", alerts)
		}
		s.end(ann, a)
		s.until("")
		s.ahead.Add(int64(10 * time.Second))
		s.exec("CREATE ROLE " + login + " LOGIN IN ROLE drift_alert_reading")
		s.exec("COMMENT ON ROLE " + login + " IS 'lockkeeper " + dutyOf(a) + "'")
		if d := s.drifts("database", "left_over "+login)[0]; d.Activation != a || d.User != "ann" {
			t.Errorf("%+v", d)
		}
		s.exec("DROP ROLE " + login)
		s.drifts("database", "")
		s.exec("CREATE ROLE lk_alert_elsewhere LOGIN")
		s.exec("COMMENT ON ROLE lk_alert_elsewhere IS 'lockkeeper o-aaaa-1'") // idle: another Lockkeeper's, for another provisioner
		s.exec("CREATE ROLE lk_alert_unknown LOGIN IN ROLE drift_alert_reading")
		s.exec("COMMENT ON ROLE lk_alert_unknown IS 'lockkeeper o-bbbb-1'")
		s.drifts("database", "assigned_outside lk_alert_unknown")
		s.secretless("k-secret")
	})
	t.Run("repair", func(t *testing.T) {
		s := provisionedDatabase(t, "drift_repair")
		s.apply(databaseWith("drift_repair", ", drift: repair"))
		w := s.scans(nil)
		s.exec("CREATE ROLE drift_repair_app LOGIN IN ROLE drift_repair_reading")
		a := s.activate(ann, "/projects/p")
		s.until("granted")
		login := loginOf(a)
		s.exec("DROP ROLE " + login)
		s.drifts("database", "vanished "+login+", assigned_outside drift_repair_app")
		s.drifts("database", "assigned_outside drift_repair_app")
		if d := s.until("granted")[0]; d.Attempt < 2 || d.Repaired != 1 || !s.modified(a) {
			t.Errorf("%+v", d.Duty)
		}
		c := s.credential(w, a)
		s.connect(c.User, c.Password, "drift_repair")
		s.exec("ALTER ROLE " + login + " CREATEDB VALID UNTIL 'infinity'")
		s.drifts("database", "changed "+login+", assigned_outside drift_repair_app")
		s.drifts("database", "assigned_outside drift_repair_app")
		s.end(ann, a)
		s.until("")
		s.ahead.Add(int64(10 * time.Second))
		s.exec("CREATE ROLE " + login + " LOGIN IN ROLE drift_repair_reading")
		s.exec("COMMENT ON ROLE " + login + " IS 'lockkeeper " + dutyOf(a) + "'")
		s.exec("CREATE ROLE lk_repair_unknown LOGIN IN ROLE drift_repair_reading")
		s.exec("COMMENT ON ROLE lk_repair_unknown IS 'lockkeeper o-bbbb-1'")
		s.drifts("database", "assigned_outside drift_repair_app, assigned_outside lk_repair_unknown")
		s.until("")
		s.eventually(func() bool { // the duty may be taken anew only now
			got := s.logins()
			return len(got) == 1 && got[0] == "lk_repair_unknown"
		})
		s.until("")
		v, err := s.k.DutyByID(context.Background(), dora, dutyOf(a))
		if err != nil || v.Stands != "undone" || v.Attempt < 3 {
			t.Errorf("the duty was not taken anew: %v %+v", err, v)
		}
		entries, err := s.k.DutyByID(context.Background(), dora, "o-bbbb-1")
		s.want(err, "duty_missing")
		_ = entries
	})
	t.Run("revoke", func(t *testing.T) {
		s := provisionedDatabase(t, "drift_revoke")
		s.apply(databaseWith("drift_revoke", ", drift: revoke"))
		s.exec("CREATE ROLE drift_revoke_app LOGIN IN ROLE drift_revoke_reading")
		s.scans(nil)
		a := s.activate(ann, "/projects/p")
		s.until("granted")
		s.drifts("database", "assigned_outside drift_revoke_app")
		s.exec("GRANT pg_monitor TO " + loginOf(a))
		s.until("")
		if list, err := s.k.Activations(dora); err != nil || len(list) != 0 || len(s.logins()) != 0 {
			t.Errorf("it goes on: %v %+v, %v", err, list, s.logins())
		}
		s.drifts("database", "assigned_outside drift_revoke_app")
	})
	t.Run("unreadable", func(t *testing.T) {
		s := provisionedDatabase(t, "drift_blind")
		s.apply(databaseWith("drift_blind", ", drift: revoke"))
		s.scans(nil)
		a := s.activate(ann, "/projects/p")
		s.until("granted")
		s.drifts("database", "")
		s.exec("ALTER ROLE drift_blind_keeper PASSWORD 'another'")
		s.eventually(func() bool {
			list, err := s.k.Drift(dora)
			_, failing := s.k.DriftCounts()
			return err == nil && list[0].Code == "database_refused" && failing == 1
		})
		if list, err := s.k.Activations(dora); err != nil || len(list) != 1 || s.modified(a) {
			t.Errorf("something follows from what could not be read: %v %+v", err, list)
		}
		if n := strings.Count(s.log.String(), "a target cannot be read"); n != 1 {
			t.Errorf("the log says it %d times", n)
		}
		s.exec("ALTER ROLE drift_blind_keeper PASSWORD 'k-secret'")
		s.end(ann, a)
		s.until("")
	})
}

func (s *stage) eventually(is func() bool) {
	s.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.Fatal("it does not become so")
		}
	}
}

// TestFailure15DriftAzure assigns and deletes past Lockkeeper, and lets the list be
// behind: what it shows as gone or left over is read by its name first.
func TestFailure15DriftAzure(t *testing.T) {
	for _, action := range []string{"alert", "repair", "revoke"} {
		t.Run(action, func(t *testing.T) {
			t.Parallel()
			c := clouded(t)
			s := staged(t, strings.Replace(azureProvisioner, "azure: {", "drift: "+action+", azure: {", 1))
			c.keys = func() []byte {
				set, err := s.k.KeySet()
				if err != nil {
					t.Error(err)
				}
				return set
			}
			c.put("11111111-0000-4000-8000-000000000001", "99999999-0000-4000-8000-000000000001", azureGroup) // another's
			c.put("11111111-0000-4000-8000-000000000002", "99999999-0000-4000-8000-000000000002", azureSubscription)
			s.scans(func(o *Options) { o.Azure, o.Longest = AzureCloud{c.URL, c.URL}, 4*time.Second })
			a := s.activate(ann, "/projects/p")
			s.until("granted")
			const outside = "assigned_outside 99999999-0000-4000-8000-000000000001"
			s.drifts("cloud", outside)
			ours := c.ours()
			c.hide(ours, true) // the list is behind
			s.ahead.Add(int64(6 * time.Minute))
			s.settled()
			if s.modified(a) {
				t.Error("a list that is behind marks an activation")
			}
			c.hide(ours, false)
			c.drop(ours)
			switch action {
			case "alert":
				s.drifts("cloud", "vanished "+azureUser+", "+outside)
				s.end(ann, a)
				s.until("")
			case "repair":
				s.drifts("cloud", "vanished "+azureUser+", "+outside)
				s.drifts("cloud", outside)
				if c.ours() != ours || !s.modified(a) {
					t.Error("it is not assigned again, or not marked")
				}
				s.end(ann, a)
				s.until("")
			case "revoke":
				s.until("")
				if list, err := s.k.Activations(dora); err != nil || len(list) != 0 {
					t.Errorf("%v %+v", err, list)
				}
			}
			s.drifts("cloud", outside)
			s.ahead.Add(int64(10 * time.Second))
			c.put(ours, azureUser, azureGroup)
			if action == "alert" {
				s.drifts("cloud", "left_over "+azureUser+", "+outside)
			} else {
				s.eventually(func() bool { return c.ours() == "" })
				s.until("")
				s.drifts("cloud", outside)
			}
			if c.wrong != nil {
				t.Errorf("wrongly asked: %v", c.wrong)
			}
			s.secretless("token-1", "not-to-be-seen")
		})
	}
}

// settled waits until two more scans have been made.
func (s *stage) settled() {
	s.Helper()
	for range 2 {
		before, err := s.k.Drift(dora)
		s.must(err)
		s.eventually(func() bool {
			now, err := s.k.Drift(dora)
			return err == nil && before[0].At.Before(now[0].At)
		})
	}
}

// TestFailure15DriftWebhook asks a service about what it should have granted.
func TestFailure15DriftWebhook(t *testing.T) {
	h := serviced(t)
	s := staged(t, webhookAt(h.URL))
	s.secret("hook", hookSecret)
	s.scans(nil)
	a := s.activate(ann, "/projects/p")
	s.until("granted")
	s.drifts("hook", "")
	h.forget()
	s.drifts("hook", "vanished ann")
	if !s.modified(a) {
		t.Error("it is not marked")
	}
	s.apply(strings.Replace(webhookAt(h.URL), "webhook:", "drift: repair, webhook:", 1))
	s.drifts("hook", "")
	if h.count() != 1 {
		t.Error("it is not granted again")
	}
	s.end(ann, a)
	s.until("")
}

// A list that goes on elsewhere, that has no end, or that is none, is not believed, and
// nothing of ours goes there.
func TestAzureListRefused(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("our token goes elsewhere") }))
	t.Cleanup(elsewhere.Close)
	var answer atomic.Value
	list := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/"+azureTenant+"/oauth2/v2.0/token" {
			json.NewEncoder(w).Encode(map[string]any{"access_token": "t"})
			return
		}
		fmt.Fprint(w, answer.Load())
	}))
	t.Cleanup(list.Close)
	s := staged(t, azureProvisioner)
	z := newAzureRoles(s.k, AzureCloud{list.URL, list.URL})
	for text, code := range map[string]string{`{"value":[],"nextLink":"` + elsewhere.URL + `/x"}`: "answer_unfit", `{"value":[],"nextLink":"` + list.URL + `/more"}`: "target_large", `{}`: "answer_unfit", `[]`: "answer_unfit"} {
		answer.Store(text)
		_, err := z.Scan(context.Background(), s.k.Scans()[0])
		if f, is := err.(*Failure); !is || f.Code != code {
			t.Errorf("%s: %v, want %s", text, err, code)
		}
	}
}
