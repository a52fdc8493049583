package catalog

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// A Freeze stops deployments at a scope and below it for a time, or again and again.
type Freeze struct {
	Name  string           `json:"name"`
	Scope lockkeeper.Scope `json:"scope"` // a project, an environment, a pipeline or its stage, an identity; / for all
	// From and Until bound it, half-open: frozen before until. Without windows a freeze
	// has both; with windows either may be left out.
	From    lockkeeper.Moment `json:"from,omitzero"`
	Until   lockkeeper.Moment `json:"until,omitzero"`
	Reason  string            `json:"reason"`
	Actions []string          `json:"actions,omitempty"` // deploy, rollback; tokens: those that people take of an identity; default: deploy and rollback
	Callers []string          `json:"callers,omitempty"` // people, automation; default: both

	// Windows make it recur: it then stops in them only, in the local time of zone.
	Windows []FreezeWindow `json:"windows,omitempty"`
	Zone    string         `json:"zone,omitempty"`   // IANA: Europe/Zurich; of windows and except
	Except  []string       `json:"except,omitempty"` // local dates on which no window begins: 2026-12-25
	// Exempt are groups whose members it does not stop, where everybody who started
	// the run is one of them and automation has no part in it.
	Exempt []string `json:"exempt,omitempty"`
	// InFlight is what happens to what runs already: finish (the default) lets it end,
	// noTokens gives it no token while the freeze lasts, nor one that lasts into it,
	// and abort takes its lease when the freeze begins.
	InFlight string `json:"inFlight,omitempty"`
	Soft     bool   `json:"soft,omitempty"` // an override of the environment may waive it
}

// A FreezeWindow begins on chosen days by the clock on the wall and lasts some
// nights. Exactly one of days, monthDays and dates chooses.
type FreezeWindow struct {
	Days      []string `json:"days,omitempty"`      // every week: monday … sunday
	MonthDays []string `json:"monthDays,omitempty"` // every month: 1 … 31, where the month has it; last
	Dates     []string `json:"dates,omitempty"`     // every year: "12-24"; "02-29" in leap years only
	From      string   `json:"from,omitempty"`      // when it begins; default 00:00
	To        string   `json:"to,omitempty"`        // when it ends, without To; default 24:00
	// Nights is how many midnights lie between; default 0, or 1 where to is not after
	// from; at most 31. Friday 18:00 to Monday 08:00 has 3.
	Nights int `json:"nights,omitempty"`
}

// The callers that a freeze tells apart: runs that a person started, and runs
// in which automation has a part.
const (
	PeopleCaller     = "people"
	AutomationCaller = "automation"
)

// TokensAction is what a freeze calls taking an identity's tokens as a person.
const TokensAction = "tokens"

// What a freeze does to what runs already.
const (
	InFlightFinish   = "finish"
	InFlightNoTokens = "noTokens"
	InFlightAbort    = "abort"
)

// Bounds of freezes.
const (
	maxFreezeWindows = 32
	maxNights        = 31
	maxExempt        = 32
)

// Stops reports whether the freeze stops an action by a caller, in its time.
func (f Freeze) Stops(action, caller string) bool {
	if action == lockkeeper.RedeployAction {
		action = lockkeeper.DeployAction // what stops a deployment stops one more of the same
	}
	stops := slices.Contains(f.Actions, action) || len(f.Actions) == 0 && action != TokensAction
	return stops && (len(f.Callers) == 0 || slices.Contains(f.Callers, caller))
}

// Running is what the freeze does to what runs already.
func (f Freeze) Running() string {
	if f.InFlight == "" {
		return InFlightFinish
	}
	return f.InFlight
}

// Span is the window's clock in minutes after the midnight with which its first day
// begins: from, and to, which is later.
func (w FreezeWindow) Span() (from, to int, ok bool) {
	from, okFrom := 0, true
	if w.From != "" {
		from, okFrom = ClockMinutes(w.From)
	}
	to, okTo := 24*60, true
	if w.To != "" {
		to, okTo = ClockMinutes(w.To)
	}
	nights := w.Nights
	if nights == 0 && to <= from {
		nights = 1
	}
	return from, to + nights*24*60, okFrom && okTo && from < 24*60 && nights >= 0 && nights <= maxNights
}

// BeginsOn reports whether the window begins on a date, which is taken as it stands:
// the zone of day says nothing.
func (w FreezeWindow) BeginsOn(day time.Time) bool {
	switch {
	case len(w.Days) > 0:
		return slices.Contains(w.Days, Weekdays()[(int(day.Weekday())+6)%7])
	case len(w.MonthDays) > 0:
		last := day.AddDate(0, 0, 1).Day() == 1
		return slices.Contains(w.MonthDays, strconv.Itoa(day.Day())) || last && slices.Contains(w.MonthDays, "last")
	}
	return slices.Contains(w.Dates, day.Format("01-02"))
}

func (v *rules) freeze(r *resource, f *Freeze) {
	v.scope(r, f.Scope)
	v.freezeEnds(r, f)
	if strings.TrimSpace(f.Reason) == "" {
		v.add(r, "reason", "reason_missing", "The freeze "+f.Name+" has no reason.", "Say why, for those whom it stops.")
	}
	v.oneOf(r, "actions", f.Actions, lockkeeper.DeployAction, lockkeeper.RollbackAction, TokensAction)
	v.oneOf(r, "callers", f.Callers, PeopleCaller, AutomationCaller)
	if f.InFlight != "" {
		v.oneOf(r, "inFlight", []string{f.InFlight}, InFlightFinish, InFlightNoTokens, InFlightAbort)
	}
	if len(f.Exempt) > maxExempt {
		v.bounded(r, "exempt", len(f.Exempt), maxExempt)
	}
	for i, g := range f.Exempt {
		v.reference(r, fmt.Sprintf("exempt[%d]", i), Key{Kind: GroupKind, Name: g})
	}
	v.freezeWindows(r, f)
}

// freezeEnds checks the instants that bound a freeze.
func (v *rules) freezeEnds(r *resource, f *Freeze) {
	for _, path := range []string{"from", "until"} {
		if r.root.field(path) == nil && len(f.Windows) == 0 {
			v.add(r, path, "field_missing", "The field "+path+" is missing: a freeze without windows has both ends.", "Write an instant such as 2027-12-20T00:00:00Z, or add windows.")
			return
		}
	}
	v.moments(r, "from", f.From)
	v.moments(r, "until", f.Until)
	if !f.Until.IsZero() && !f.From.Before(f.Until) {
		v.add(r, "until", "end_before_start", "The freeze "+f.Name+" ends before it starts, or at that moment.", "Set until after from; it holds up to until, without it.")
	}
}

func (v *rules) freezeWindows(r *resource, f *Freeze) {
	if len(f.Windows) == 0 {
		for path, set := range map[string]bool{"zone": f.Zone != "", "except": len(f.Except) > 0} {
			if set {
				v.add(r, path, "windows_missing", "The field "+path+" is for windows, and the freeze has none.", "Add windows, or take it out.")
			}
		}
		return
	}
	v.zone(r, "zone", f.Zone)
	v.bounded(r, "windows", len(f.Windows), maxFreezeWindows)
	for i, w := range f.Windows {
		v.freezeWindow(r, fmt.Sprintf("windows[%d]", i), w)
	}
	v.dates(r, "except", f.Except)
}

func (v *rules) freezeWindow(r *resource, path string, w FreezeWindow) {
	kinds := 0
	for _, n := range []int{len(w.Days), len(w.MonthDays), len(w.Dates)} {
		kinds += min(n, 1)
	}
	if kinds != 1 {
		v.add(r, path, "window_unfit", "The window says on which days it begins in no way, or in several.", "Write one of days: [friday], monthDays: [1, last] and dates: [\"12-24\"].")
	}
	v.oneOf(r, path+".days", w.Days, Weekdays()...)
	for i, d := range w.MonthDays {
		if n, err := strconv.Atoi(d); d != "last" && (err != nil || n < 1 || n > 31 || strconv.Itoa(n) != d) {
			v.add(r, fmt.Sprintf("%s.monthDays[%d]", path, i), "day_unfit", name(d)+" is no day of a month.", "Write 1 to 31, or last.")
		}
	}
	for i, d := range w.Dates {
		if _, err := time.Parse(time.DateOnly, "2024-"+d); err != nil || len(d) != 5 {
			v.add(r, fmt.Sprintf("%s.dates[%d]", path, i), "date_unfit", name(d)+" is no day of a year.", "Write it in quotes, as \"12-24\".")
		}
	}
	for _, n := range []int{len(w.Days), len(w.MonthDays), len(w.Dates)} {
		if n > 366 {
			v.bounded(r, path, n, 366)
		}
	}
	if from, ok := ClockMinutes(w.From); w.From != "" && (!ok || from == 24*60) {
		v.add(r, path+".from", "clock_unfit", name(w.From)+" is no time of day.", "Write it as 18:00.")
	}
	if to, ok := ClockMinutes(w.To); w.To != "" && (!ok || to == 0 && w.Nights == 0) {
		v.add(r, path+".to", "clock_unfit", name(w.To)+" is no end of a window.", "Write it as 08:00; 24:00 is the end of the day.")
	}
	if w.Nights < 0 || w.Nights > maxNights {
		v.add(r, path+".nights", "count_out_of_bounds", fmt.Sprintf("The window lasts %d nights; it must be from 0 to %d.", w.Nights, maxNights), "Choose a number within these.")
	}
}

// zone refuses a time zone that the machine could not judge by.
func (v *rules) zone(r *resource, path, zone string) {
	if zone == "" || zone == "Local" {
		v.add(r, path, "zone_unknown", "A time zone is missing.", "Write a name of the IANA data base such as Europe/Zurich, or UTC.")
	} else if _, err := time.LoadLocation(zone); err != nil {
		v.add(r, path, "zone_unknown", "There is no time zone "+name(zone)+".", "Write a name of the IANA data base such as Europe/Zurich, or UTC.")
	}
}

func (v *rules) dates(r *resource, path string, list []string) {
	if len(list) > maxExcept {
		v.bounded(r, path, len(list), maxExcept)
	}
	for i, d := range list {
		if t, err := time.Parse(time.DateOnly, d); err != nil || t.Year() < 1970 {
			v.add(r, fmt.Sprintf("%s[%d]", path, i), "date_unfit", name(d)+" is no date.", "Write it in quotes, as \"2026-12-25\".")
		}
	}
}

func (w *weakening) freeze(a, b Freeze, is bool) {
	if !is {
		w.when(true, "the freeze is gone")
		return
	}
	w.when(a.From.Before(b.From) || !b.Until.IsZero() && (a.Until.IsZero() || b.Until.Before(a.Until)), "the freeze is shorter")
	w.when(a.Scope != b.Scope && !b.Scope.Contains(a.Scope), "the freeze covers another scope")
	for _, action := range []string{lockkeeper.DeployAction, lockkeeper.RollbackAction, TokensAction} {
		for _, caller := range []string{PeopleCaller, AutomationCaller} {
			w.when(a.Stops(action, caller) && !b.Stops(action, caller), "the freeze no longer stops %s by %s", action, caller)
		}
	}
	w.freezeWindows(a, b)
	w.more("the freeze does not stop members of %s", a.Exempt, b.Exempt)
	rank := map[string]int{InFlightNoTokens: 1, InFlightAbort: 2}
	w.when(rank[b.Running()] < rank[a.Running()], "what runs already is treated as %s instead of %s", b.Running(), a.Running())
	w.when(b.Soft && !a.Soft, "an override may waive the freeze")
}

// freezeWindows reports times that are no longer frozen: those of windows that read
// differently, too, since what they cover is not compared.
func (w *weakening) freezeWindows(a, b Freeze) {
	if len(b.Windows) == 0 {
		return
	}
	w.when(len(a.Windows) == 0, "the freeze holds in windows only")
	w.more("the freeze no longer holds %s", freezeWindows(b), freezeWindows(a))
	if len(a.Windows) > 0 {
		w.more("on %s no window of the freeze begins", a.Except, b.Except)
	}
}

// freezeWindows spells the windows, each for one of its days.
func freezeWindows(f Freeze) []string {
	var out []string
	for _, win := range f.Windows {
		from, to, _ := win.Span()
		for _, d := range slices.Concat(win.Days, win.MonthDays, win.Dates) {
			out = append(out, fmt.Sprintf("from %s %02d:%02d for %d minutes by the clock in %s", d, from/60, from%60, to-from, f.Zone))
		}
	}
	return out
}

// FreezesOver lists the freezes whose scope contains any of the scopes, whatever
// their time, sorted by name.
func (c *Catalog) FreezesOver(scopes ...lockkeeper.Scope) []Freeze {
	var out []Freeze
	for _, s := range scopes {
		for _, f := range c.FreezesAt(s) {
			if !slices.ContainsFunc(out, func(o Freeze) bool { return o.Name == f.Name }) {
				out = append(out, f)
			}
		}
	}
	slices.SortFunc(out, func(a, b Freeze) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// A FreezeRule says how freezes hold that people start by hand (lockkeeper freeze
// start) at its scope and below. Of all rules that touch one the strictest counts.
type FreezeRule struct {
	Name    string           `json:"name"`
	Scope   lockkeeper.Scope `json:"scope"`
	Longest Duration         `json:"longest,omitempty"` // how long one may last; default 72h, 1m to 720h
	Alone   bool             `json:"alone,omitempty"`   // whoever started one may end it before its time; without, that takes another person
}

// Defaults and bounds of a FreezeRule.
const (
	DefaultFreeze = 72 * time.Hour
	mostFreeze    = 30 * 24 * time.Hour
)

// LongestFreeze is how long a freeze under the rule may last.
func (f FreezeRule) LongestFreeze() time.Duration { return orDefault(f.Longest, DefaultFreeze) }

// FreezeRuleAt is what all rules that touch a scope say of a freeze there: without
// one, as long as by default, and not to be ended alone. Alone needs a rule there or
// above, and none that touches it which does not say so.
func (c *Catalog) FreezeRuleAt(scope lockkeeper.Scope) FreezeRule {
	var out FreezeRule
	first, above, apart := true, false, false
	for _, f := range c.FreezeRules {
		if !f.Scope.Contains(scope) && !scope.Contains(f.Scope) {
			continue
		}
		if first || f.LongestFreeze() < out.LongestFreeze() {
			out.Longest = Duration(f.LongestFreeze())
		}
		first = false
		above = above || f.Scope.Contains(scope) && f.Alone
		apart = apart || !f.Alone
	}
	out.Alone = above && !apart
	return out
}

func (v *rules) freezeRule(r *resource, f *FreezeRule) {
	v.scope(r, f.Scope)
	v.within(r, "longest", f.Longest, time.Minute, mostFreeze)
}

func (w *weakening) freezeRule(a FreezeRule, was bool, b FreezeRule, is bool) {
	switch {
	case !is:
		w.when(!a.Alone, "the rule for freezes at %s is gone", a.Scope)
		return
	case !was:
		w.when(b.Alone, "whoever starts a freeze at %s may end it alone", b.Scope)
		return
	}
	w.when(a.Scope != b.Scope && (b.Alone || !b.Scope.Contains(a.Scope)), "the rule covers other freezes than those at %s", a.Scope)
	w.when(b.LongestFreeze() < a.LongestFreeze(), "a freeze may last %s instead of %s", b.LongestFreeze(), a.LongestFreeze())
	w.when(b.Alone && !a.Alone, "whoever starts a freeze at %s may end it alone", b.Scope)
}
