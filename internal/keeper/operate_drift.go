package keeper

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// Scans lists the targets that workers are to read, by provisioner.
func (k *Keeper) Scans() []Scan {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	return w.scans(now)
}

// ReportScan records what a worker saw at a target, as far as it differs from what the
// journal says and from what was reported before.
func (k *Keeper) ReportScan(ctx context.Context, s Scan, seen []Seen) error {
	past, err := k.pastOf(ctx, s, seen)
	if err != nil {
		return err
	}
	c := driftReport{Provisioner: s.Provisioner, Began: s.Began, Attempts: map[string]int{}, Seen: seen, Past: past}
	for _, d := range s.Duties {
		c.Attempts[d.ID] = d.Attempt
	}
	if _, err := do[any](ctx, k, Caller{Keeper: true}, "", c); err != nil {
		return err
	}
	k.scanned.Store(s.Provisioner, Scanned{At: s.Began})
	return nil
}

// ScanFailed notes that a target could not be read, and why. Nothing follows from it:
// what is not known to differ is not mended. It reports whether that is new.
func (k *Keeper) ScanFailed(s Scan, o Outcome) bool {
	was, _ := k.scanned.Load(s.Provisioner)
	last, _ := was.(Scanned)
	k.scanned.Store(s.Provisioner, Scanned{At: last.At, Failed: s.Began, Code: o.Code, Reason: clipped(o.Reason)})
	return last.Code != o.Code
}

// Scanned is how a server's worker last read a target. It is known to that server only,
// and forgotten when it ends.
type Scanned struct {
	At     lockkeeper.Moment // when that last went well
	Failed lockkeeper.Moment // when it failed since; zero: it did not
	Code   string
	Reason string
}

// Bounds of looking for duties that are over.
const (
	maxPastAsked = 50    // things that bear our mark, of one scan
	maxPastRead  = 5_000 // entries
)

// pastOf finds, in the journal, the duties that were about what bears our mark: by the
// id that the mark names, or by what it is about.
func (k *Keeper) pastOf(ctx context.Context, s Scan, seen []Seen) (map[int]pastDuty, error) {
	out := map[int]pastDuty{}
	targets := map[lockkeeper.Digest]string{}
	asked := 0
	for _, x := range seen {
		if x.Kind == LeftOver && x.Duty == "" {
			targets[x.Target] = ""
		}
	}
	if err := k.takenFor(ctx, targets); err != nil {
		return nil, err
	}
	for i, x := range seen {
		id := cmp.Or(x.Duty, targets[x.Target])
		if x.Kind != LeftOver || !strings.HasPrefix(id, "o-") || lockkeeper.CheckName(id) != nil {
			continue
		}
		if asked++; asked > maxPastAsked {
			break
		}
		v, err := k.endedDuty(ctx, id)
		if err != nil {
			return nil, err
		}
		if v.End != nil && v.Provisioner == s.Provisioner && (x.Target == v.Target || x.Target == "" && x.Account == v.Account) {
			out[i] = pastDuty{v.Duty, v.End.At}
		}
	}
	return out, nil
}

// takenFor fills in the newest duty about each target.
func (k *Keeper) takenFor(ctx context.Context, targets map[lockkeeper.Digest]string) error {
	missing, read := len(targets), 0
	if missing == 0 {
		return nil
	}
	return k.backwards(ctx, dutiesAbout, k.now(), func(_ Entry, body event) bool {
		if ev, is := body.(*dutyTaken); is {
			if id, asked := targets[ev.Duty.Target]; asked && id == "" {
				targets[ev.Duty.Target] = ev.Duty.ID
				missing--
			}
		}
		read++
		return missing > 0 && read < maxPastRead
	})
}

// A DriftView is how a provisioner's target stands against what activations give.
type DriftView struct {
	Provisioner string
	Kind        string
	Scope       lockkeeper.Scope
	Action      string // alert, repair or revoke
	Visible     bool   // a target of this kind can be read
	Scanned
	Found []Drift
}

// Drift lists the provisioners that the caller may see, and what differs at each.
func (k *Keeper) Drift(by Caller) ([]DriftView, error) {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	if by.User == "" {
		return nil, errPersonNeeded()
	}
	out := []DriftView{}
	for _, name := range slices.Sorted(maps.Keys(w.rules.Catalog.Provisioners)) {
		p := w.rules.Catalog.Provisioners[name]
		if !w.maySee(by, p.Scope, now) {
			continue
		}
		v := DriftView{Provisioner: name, Kind: p.Kind(), Scope: p.Scope, Action: p.OnDrift(), Visible: p.SSH == nil, Found: slices.Clone(w.Drifted[name])}
		if last, is := k.scanned.Load(name); is {
			v.Scanned = last.(Scanned)
		}
		out = append(out, v)
	}
	return out, nil
}

// DriftCounts says how many drifts of each kind there are, and how many targets could
// not be read when that was last tried, for metrics.
func (k *Keeper) DriftCounts() (kinds map[string]int, failing int) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	kinds = map[string]int{}
	for _, kind := range DriftKinds() {
		kinds[kind] = 0
	}
	for _, list := range k.state.Drifted {
		for _, d := range list {
			kinds[d.Kind]++
		}
	}
	for name := range k.rules.Catalog.Provisioners {
		if last, is := k.scanned.Load(name); is && last.(Scanned).Code != "" {
			failing++
		}
	}
	return kinds, failing
}

// readingLife is how long an assertion for reading is taken.
const readingLife = time.Minute

// ReadingAssertion is a token that proves to a target's identity provider that
// Lockkeeper asks, to read what a provisioner of the catalog in force has there. Its
// subject is the same as that of Assertion: targets know one application.
func (k *Keeper) ReadingAssertion(provisioner, audience string) (string, error) {
	now := k.now()
	k.mu.RLock()
	_, there := k.rules.Catalog.Provisioners[provisioner]
	k.mu.RUnlock()
	if !there {
		return "", lockkeeper.Conflict.Errorf("effect_stale", "There is no provisioner %.40s.", provisioner)
	}
	return k.mint(audience, map[string]any{"iss": k.options.Issuer, "sub": "lk:provisioner:" + provisioner, "aud": audience, "jti": newID("t"),
		"iat": now.Time().Unix(), "nbf": now.Time().Unix(), "exp": now.Add(readingLife).Time().Unix()})
}
