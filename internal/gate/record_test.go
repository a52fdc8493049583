package gate

import (
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"pgregory.net/rapid"
)

// TestInvariant10Age: whatever was recorded when, by which run, the artifact is
// vouched for exactly while a record is younger than the environment admits, by
// its clock up to the release, and the pass ends when the record does that
// vouches.
func TestInvariant10Age(t *testing.T) {
	vouched, refused := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		f := facts()
		f.Ask.Run = "1"
		record := f.Records[0]
		f.Records = nil
		limit := rapid.IntRange(0, 40).Draw(rt, "limit") // minutes; 0: the default
		f.Environment.RecordAge = catalog.Duration(limit) * catalog.Duration(time.Minute)
		if limit == 0 {
			limit = 30 * 24 * 60
		}
		if shorter := rapid.IntRange(0, 40).Draw(rt, "demanded at the opening"); shorter > 0 && shorter < limit {
			limit, f.RecordAge = shorter, time.Duration(shorter)*time.Minute
		}
		age := rapid.IntRange(0, 60).Draw(rt, "oldest") // in minutes, at the instant up to which ages count
		best := -1                                      // the age of what vouches
		own := false
		for range rapid.IntRange(0, 4).Draw(rt, "records") {
			r := record
			r.At, r.Run = now.Add(-time.Duration(age)*time.Minute), rapid.SampledFrom([]string{"1", "2", "3"}).Draw(rt, "run")
			f.Records = append(f.Records, r)
			if age < limit && (r.Run == "1" || !own) {
				best, own = age, own || r.Run == "1"
			}
			age = rapid.IntRange(0, age).Draw(rt, "next")
		}
		at := now
		if released := rapid.Bool().Draw(rt, "released"); released {
			f.Released, at = now, now.Add(time.Duration(rapid.IntRange(0, 100).Draw(rt, "since"))*time.Minute)
		}
		d := artifacts(f, at)
		switch ends := now.Add(time.Duration(limit-best) * time.Minute); {
		case best < 0:
			code := "artifact_claimed"
			if len(f.Records) > 0 {
				code = "artifact_stale"
			}
			if d.Verdict != lockkeeper.Fail || d.Code != code || d.Next == "" {
				rt.Fatalf("nothing vouches, and the gate says %s %s", d.Verdict, d.Code)
			}
			refused++
		case d.Verdict != lockkeeper.Pass:
			rt.Fatalf("a record of %d minutes vouches for %d, and the gate says %s: %s", best, limit, d.Code, d.Sentence)
		case f.Released.IsZero() && (d.Until == nil || *d.Until != ends || d.Passed(ends) || !d.Passed(ends.Add(-time.Millisecond))):
			rt.Fatalf("the pass holds until %v, want %v", d.Until, ends)
		case !f.Released.IsZero() && d.Until != nil:
			rt.Fatalf("a record grows too old after the release: %v", d.Until)
		default:
			vouched++
		}
	})
	if !t.Failed() && (vouched == 0 || refused == 0) {
		t.Errorf("%d vouched for, %d refused: one never happened", vouched, refused)
	}
}

// TestInvariant10Subject: a record speaks for one digest of one commit in one
// pipeline. What is fresh and of anything else vouches for nothing, and what is
// of this and too old says so.
func TestInvariant10Subject(t *testing.T) {
	for name, change := range map[string]func(*Record){
		"another digest":     func(r *Record) { r.Artifact.Digest = lockkeeper.DigestOf([]byte("other")) },
		"another name":       func(r *Record) { r.Artifact.Name = "other" },
		"another commit":     func(r *Record) { r.Commit = "d" },
		"another repository": func(r *Record) { r.Repository = "2" },
		"another pipeline":   func(r *Record) { r.Pipeline = "other" },
		"the deploying one":  func(r *Record) { r.Stage = "deploy" },
		"too old":            func(r *Record) { r.At = now.Add(-catalog.DefaultRecordAge) },
	} {
		f := facts()
		change(&f.Records[0])
		code := "artifact_claimed"
		if name == "too old" {
			code = "artifact_stale"
		}
		d := want(t, name, Judge(f, now), "artifacts", lockkeeper.Fail, code)
		if code == "artifact_stale" && !strings.Contains(d.Next, "Build it again") {
			t.Errorf("the way out is %q", d.Next)
		}
		// Beside the right one it changes nothing.
		f.Records = append(f.Records, facts().Records...)
		want(t, name+", beside the right one", Judge(f, now), "artifacts", lockkeeper.Pass, "passed")
		f.Records[1].At = now.Add(-catalog.DefaultRecordAge)
		want(t, name+", beside one too old", Judge(f, now), "artifacts", lockkeeper.Fail, "artifact_stale")
		// Before production nobody has to vouch, and nothing is said to be vouched for.
		f.Environment.Tier = catalog.Preproduction
		if d := artifacts(f, now); d.Verdict != lockkeeper.Pass || d.Because[0].Code != "artifact_stale" {
			t.Errorf("%s, before production: %+v", name, d)
		}
	}
	f := facts()
	f.Records[0].At = now.Add(-catalog.DefaultRecordAge + time.Millisecond)
	want(t, "a millisecond before it is too old", Judge(f, now), "artifacts", lockkeeper.Pass, "passed")
	f.Ask.Action, f.Good = lockkeeper.RollbackAction, []Release{{Deployment: "d-1", Artifacts: f.Ask.Artifacts}}
	f.Records[0].At = now.Add(-catalog.DefaultRecordAge)
	if d := want(t, "a rollback", Judge(f, now), "artifacts", lockkeeper.Pass, "passed"); d.Until == nil || *d.Until != f.Deadline {
		t.Errorf("a rollback waits for a record's age: %v", d.Until)
	}
}

// Whoever made an artifact approves it neither by a record that is too old to
// vouch nor by the one that vouches in its place.
func TestBuildersOfOldRecords(t *testing.T) {
	f := facts()
	f.Ask.Run = "1"
	f.Records[0].At, f.Records[0].Persons = now.Add(-catalog.DefaultRecordAge), []lockkeeper.Person{"bob"}
	f.Records = append(f.Records, facts().Records[0])
	f.Records[1].Run, f.Records[1].Persons = "2", []lockkeeper.Person{"cat"}
	for _, user := range []string{"bob", "cat"} {
		if d := Admissible(f, vote(user, "g"), now); d.Code != "own_change" {
			t.Errorf("%s: %s", user, d.Code)
		}
	}
	if d := Admissible(f, vote("dan", "g"), now); d.Verdict != lockkeeper.Pass {
		t.Errorf("dan: %s", d.Sentence)
	}
}
