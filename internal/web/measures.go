package web

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/prometheus/client_golang/prometheus"
)

func (s *Server) registerMeasures() {
	route(s, http.MethodGet, "/measures", "measures", "How changes reach the environments: lead time, frequency, failures, time to restore, waiting, approving", s.measures)
}

type askMeasures struct {
	Credential
	Since       string `query:"since" maxLength:"40" doc:"where the window begins, as 2026-11-01T00:00:00Z; default: 30 days before until"`
	Until       string `query:"until" maxLength:"40" doc:"where it ends, and what does not belong to it; default: now"`
	Project     string `query:"project" maxLength:"63"`
	Environment string `query:"environment" maxLength:"63"`
	Hasty       int    `query:"hasty" minimum:"1" maximum:"3600" default:"10" doc:"an approval given within so many seconds of the opening counts as hasty"`
	Persons     bool   `query:"persons" doc:"tell of single persons, too; it takes journal/export at /"`
}

// measures answers with what the journal says of a window.
func (s *Server) measures(ctx context.Context, in *askMeasures) (*reply[api.Measures], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	q := keeper.MeasureQuery{Project: in.Project, Environment: in.Environment, Hasty: time.Duration(in.Hasty) * time.Second, Persons: in.Persons}
	for _, f := range []struct {
		name, text string
		to         *lockkeeper.Moment
	}{{"since", in.Since, &q.Since}, {"until", in.Until, &q.Until}} {
		if f.text == "" {
			continue
		}
		if err := f.to.UnmarshalText([]byte(f.text)); err != nil || f.to.IsZero() {
			return nil, lockkeeper.Invalid.Errorf("moment_malformed", "%.40q is no instant.", f.text).WithNext("Write it as 2026-11-24T21:00:00Z.").WithField(f.name)
		}
	}
	m, err := s.Keeper.Measures(ctx, by, q)
	if err != nil {
		return nil, err
	}
	return &reply[api.Measures]{measuresOf(m)}, nil
}

func measuresOf(m keeper.Measures) api.Measures {
	out := api.Measures{Since: m.Since, Until: m.Until, From: m.From, Scope: m.Scope, Hasty: m.Hasty.Seconds(),
		Environments: []api.MeasuredEnvironment{}, Exceptions: []api.MeasuredException{}}
	weeks := m.To.Sub(m.From).Hours() / (7 * 24)
	if m.To.Sub(m.From) < 24*time.Hour {
		weeks = 0 // too little to tell of a week
	}
	for _, e := range m.Environments {
		one := api.MeasuredEnvironment{Project: e.Scope.Project(), Name: e.Scope.Environment(), Scope: e.Scope, Lead: spreadOf(e.Lead),
			Successes: e.Successes, PerWeek: share(float64(e.Successes), weeks), Days: e.Days, Failures: e.Failures, TakenBack: e.TakenBack,
			FailureShare: share(float64(e.Failed()), float64(e.Changes())), Restore: spreadOf(e.Restore),
			Rollbacks: e.Rollbacks, RollbacksFail: e.RollbacksFailed, Waiting: spreadOf(e.Waiting), Abandoned: spreadOf(e.Abandoned),
			Ends: e.Statuses, Checks: []api.CheckTime{}, Votes: votesOf(e.Votes), Prompts: e.Prompts,
			PerVoter: share(float64(e.Prompts), float64(e.Votes.Voters)), Weeks: weeksOf(e.Weeks), BrokenSince: e.Broken}
		for _, c := range e.Checks {
			one.Checks = append(one.Checks, api.CheckTime{Name: c.Name, Held: spreadOf(c.Held), Alone: c.Alone.Seconds(), Flaps: c.Flaps, Prompts: c.Prompts})
		}
		out.Environments = append(out.Environments, one)
	}
	for _, x := range m.Exceptions {
		kind := map[bool]string{true: "break_glass", false: "override"}[x.Kind == keeper.MeasuredGlass]
		out.Exceptions = append(out.Exceptions, api.MeasuredException{Kind: kind, Scope: x.Scope, Count: x.Count})
	}
	for _, p := range m.Persons {
		out.Persons = append(out.Persons, api.MeasuredPerson{Person: p.Name, Votes: votesOf(p.Votes), Access: p.Access,
			PerWeek: share(float64(p.Votes.Approvals), weeks), Weeks: weeksOf(p.Weeks)})
	}
	return out
}

// share is n of so many; nil where there are none to be a share of.
func share(n, of float64) *float64 {
	if of <= 0 {
		return nil
	}
	n /= of
	return &n
}

func spreadOf(s keeper.MeasuredSpread) api.Spread {
	if s.Count == 0 {
		return api.Spread{}
	}
	p50, p90, most := s.P50.Seconds(), s.P90.Seconds(), s.Max.Seconds()
	return api.Spread{Count: s.Count, P50: &p50, P90: &p90, Max: &most}
}

func votesOf(v keeper.MeasuredVotes) api.MeasuredVotes {
	return api.MeasuredVotes{Approvals: v.Approvals, Rejections: v.Rejections, Voters: v.Voters, Hasty: v.Hasty, Decision: spreadOf(v.Decision)}
}

func weeksOf(list []keeper.MeasuredWeek) []api.MeasuredWeek {
	out := []api.MeasuredWeek{}
	for _, w := range list {
		year, n := w.From.Time().ISOWeek()
		out = append(out, api.MeasuredWeek{Week: fmt.Sprintf("%04d-W%02d", year, n), From: w.From, Whole: w.Whole, Successes: w.Successes, Failures: w.Failures, Approvals: w.Approvals})
	}
	return out
}

// measureMetrics give the keeper's counts to whoever scrapes. Their labels are names
// of the catalog: projects, environments, checks; the keeper bounds how many there are.
type measureMetrics struct{ k *keeper.Keeper }

type metricOf struct {
	desc    *prometheus.Desc
	seconds bool
	labels  func(keeper.MeasuredCount) []string
}

var measureDescs = func() map[keeper.MeasuredKind]metricOf {
	place := func(c keeper.MeasuredCount) []string { return []string{c.Scope.Project(), c.Scope.Environment()} }
	check := func(c keeper.MeasuredCount) []string { return append(place(c), c.Check) }
	status := func(c keeper.MeasuredCount) []string { return append(place(c), c.Status) }
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("lockkeeper_"+name, help+" Since the server started.", append([]string{"project", "environment"}, labels...), nil)
	}
	return map[keeper.MeasuredKind]metricOf{
		keeper.MeasuredEnds:     {desc("deployments_ended_total", "Deployments by how they ended.", "status"), false, status},
		keeper.MeasuredLead:     {desc("deployment_lead_seconds", "From the first record of a commit's artifact to its first success."), true, place},
		keeper.MeasuredTaken:    {desc("deployments_taken_back_total", "Successes that a rollback took back within a day."), false, place},
		keeper.MeasuredRestore:  {desc("deployment_restore_seconds", "From the first failure to the next success."), true, place},
		keeper.MeasuredWait:     {desc("gate_wait_seconds", "From the opening of an ask until it was let through."), true, place},
		keeper.MeasuredHeld:     {desc("check_held_seconds", "For how long a check held up an ask.", "check"), true, check},
		keeper.MeasuredFlaps:    {desc("check_flaps_total", "Times that a check held up an ask that it had let pass before.", "check"), false, check},
		keeper.MeasuredPrompts:  {desc("approval_prompts_total", "Times that an approval check began to ask people.", "check"), false, check},
		keeper.MeasuredVote:     {desc("approval_decision_seconds", "From the opening of an ask to a person's vote.", "verdict"), true, status},
		keeper.MeasuredGlass:    {desc("glass_broken_total", "Activations that nobody approved; without environment: above it."), false, place},
		keeper.MeasuredOverride: {desc("overrides_total", "Overrides that were granted: soft checks of an ask waived."), false, place},
	}
}()

var measureDropped = prometheus.NewDesc("lockkeeper_measures_dropped_total", "Samples that were not counted, to bound the number of series.", nil, nil)

func (measureMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range measureDescs {
		ch <- m.desc
	}
	ch <- measureDropped
}

func (g measureMetrics) Collect(ch chan<- prometheus.Metric) {
	counts, dropped := g.k.MeasureCounts()
	for _, c := range counts {
		m, known := measureDescs[c.Kind]
		switch {
		case !known:
		case m.seconds:
			buckets := map[float64]uint64{}
			for i, bound := range keeper.MeasuredBuckets {
				buckets[bound] = c.Buckets[i]
			}
			ch <- prometheus.MustNewConstHistogram(m.desc, c.N, c.Seconds, buckets, m.labels(c)...)
		default:
			ch <- prometheus.MustNewConstMetric(m.desc, prometheus.CounterValue, float64(c.N), m.labels(c)...)
		}
	}
	ch <- prometheus.MustNewConstMetric(measureDropped, prometheus.CounterValue, float64(dropped))
}
