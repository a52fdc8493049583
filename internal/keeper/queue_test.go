package keeper

import (
	"testing"
	"time"
)

// TestQueuePlaces says the place of asks that only wait for the lock, and estimates by
// the median of what is known; nothing of one that waits for people.
func TestQueuePlaces(t *testing.T) {
	c := deployCore(t, rulesWith("<latest>", "checks: [{name: one, lock: {mode: sequential}}]\n"))
	must(t, c.record(c.job("1", "10", "", "1001", 0), 0))
	at := func(id string, now time.Duration) *QueuePlace { return c.view(c.Deployments[id], began.Add(now)).Queue }
	now := time.Duration(0)
	for n, took := range []time.Duration{10 * time.Second, 40 * time.Second, 20 * time.Second, 30 * time.Second} {
		id := string(rune('a' + n))
		j := c.job("2"+id, "11"+id, "test", "1001", now)
		must(t, c.open("d-"+id, j, "test", now))
		if q := at("d-"+id, now); q.Place != 1 || n == 0 && (q.Of != 0 || !q.Start.IsZero()) || n > 0 && q.Start != began.Add(now) {
			t.Errorf("d-%s has the place %+v", id, q)
		}
		must(t, c.claim("d-"+id, j, now))
		if at("d-"+id, now) != nil {
			t.Errorf("d-%s runs and has a place", id)
		}
		now += took
		must(t, c.finish("d-"+id, n%2, now))
	}
	j := c.job("3", "31", "test", "1001", now)
	must(t, c.open("d-x", j, "test", now))
	must(t, c.claim("d-x", j, now))
	must(t, c.open("d-y", c.job("4", "41", "test", "1001", now), "test", now))
	must(t, c.open("d-z", c.job("5", "51", "test", "1001", now), "test", now))
	for id, want := range map[string]QueuePlace{"d-y": {1, began.Add(now + 20*time.Second), 20 * time.Second, 4}, "d-z": {2, began.Add(now + 40*time.Second), 20 * time.Second, 4}} {
		if q := at(id, now+time.Second); *q != want {
			t.Errorf("%s has the place %+v, want %+v", id, *q, want)
		}
	}
	must(t, c.open("d-p", c.job("6", "61", "production", "1001", now), "production", now))
	if q := at("d-p", now); q != nil {
		t.Errorf("what waits for people has the place %+v", q)
	}
}
