package web

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/prometheus/client_golang/prometheus"
)

// registerReview is the table of what is looked at from time to time.
func (s *Server) registerReview() {
	route(s, http.MethodGet, "/access/recommendations", "recommendations", "What could be made smaller without taking what was used", s.recommendations)
	route(s, http.MethodGet, "/access/alerts", "alerts", "What somebody should look at: who may do what, and does not", s.alerts)
}

func (s *Server) recommendations(ctx context.Context, in *struct {
	Credential
	Days   int `query:"days" minimum:"1" maximum:"365" default:"90" doc:"how many days back use is looked at"`
	Seldom int `query:"seldom" minimum:"0" maximum:"7" default:"4" doc:"up to how many days of use are seldom"`
}) (*reply[api.Recommendations], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	a, err := s.Keeper.Recommend(ctx, by, in.Days, in.Seldom)
	if err != nil {
		return nil, err
	}
	out := api.Recommendations{At: a.At, Revision: a.Revision, From: a.From, Observed: a.Observed, Recommendations: []api.Recommendation{}, Skipped: a.Skipped}
	for _, m := range a.List {
		r := api.Recommendation{Kind: m.Kind, Role: m.Role, Principal: m.Principal, Scope: m.Scope, Sentence: m.Sentence, Next: m.Next,
			Actions: append([]lockkeeper.Action{}, m.Actions...), Unobserved: append([]lockkeeper.Action{}, m.Unobserved...),
			Evidence: api.Evidence{Since: m.Evidence.Since, Days: m.Evidence.Days, Count: m.Evidence.Count, Last: m.Evidence.Last,
				Entries: append([]int64{}, m.Evidence.Seqs...), By: append([]string{}, m.Evidence.By...)}}
		if e := m.Edit; e.Key.Name != "" {
			r.Edit = &api.Edit{Kind: string(e.Key.Kind), Name: e.Key.Name, Was: e.Was, Remove: e.Remove, Eligible: e.Eligible, Actions: e.Actions}
		}
		out.Recommendations = append(out.Recommendations, r)
	}
	return &reply[api.Recommendations]{out}, nil
}

func (s *Server) alerts(ctx context.Context, in *struct {
	Credential
	Administrators int `query:"administrators" minimum:"1" maximum:"1000" default:"3" doc:"persons who always administer the organisation: more, and more than the share, are too many"`
	Share          int `query:"share" minimum:"1" maximum:"100" default:"10" doc:"percent of all persons"`
	Unused         int `query:"unused" minimum:"1" maximum:"365" default:"90" doc:"days without use"`
	Stale          int `query:"stale" minimum:"1" maximum:"365" default:"90" doc:"days without a sign-in"`
	Often          int `query:"often" minimum:"1" maximum:"10000" default:"20" doc:"activations of one role by one user within the window"`
	Window         int `query:"window" minimum:"1" maximum:"365" default:"30" doc:"days"`
}) (*reply[api.Alerts], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	list, err := s.Keeper.Alerts(ctx, by, keeper.Thresholds{Administrators: in.Administrators, Share: in.Share, Unused: in.Unused, Stale: in.Stale, Often: in.Often, Window: in.Window})
	out := api.Alerts{Alerts: []api.Alert{}}
	for _, a := range list {
		out.Alerts = append(out.Alerts, api.Alert{Kind: a.Kind, Severity: a.Severity, Subject: a.Subject, Sentence: a.Sentence, Next: a.Next, Evidence: append([]string{}, a.Evidence...)})
	}
	return &reply[api.Alerts]{out}, err
}

// alertGauge is how many alerts of each kind there are. They are counted once in
// alertPause at most, however often somebody scrapes.
type alertGauge struct {
	keeper *keeper.Keeper
	desc   *prometheus.Desc

	mu      sync.Mutex
	counted time.Time
	counts  map[string]int
}

const alertPause = 5 * time.Minute

func newAlertGauge(k *keeper.Keeper) *alertGauge {
	return &alertGauge{keeper: k, desc: prometheus.NewDesc("lockkeeper_access_alerts", "What somebody should look at, by kind; lockkeeper access alerts names it.", []string{"kind"}, nil)}
}

// Describe says which metric it is.
func (g *alertGauge) Describe(to chan<- *prometheus.Desc) { to <- g.desc }

// Collect gives the counts; none, while they cannot be told.
func (g *alertGauge) Collect(to chan<- prometheus.Metric) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if time.Since(g.counted) >= alertPause {
		g.counted, g.counts = time.Now(), nil
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if counts, err := g.keeper.CountAlerts(ctx); err == nil {
			g.counts = counts
		}
	}
	for kind, n := range g.counts {
		to <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, float64(n), kind)
	}
}

// confirmLinks is a person's word that accounts are his.
func (s *Server) confirmLinks(ctx context.Context, in *Credential) (*reply[api.Confirmed], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	links, err := s.Keeper.ConfirmLinks(ctx, by)
	return &reply[api.Confirmed]{api.Confirmed{Links: append([]string{}, links...)}}, err
}
