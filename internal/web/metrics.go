package web

import (
	"net/http"
	"strconv"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are what the server counts. No label holds what a caller chose.
type metrics struct {
	registry  *prometheus.Registry
	requests  *prometheus.CounterVec
	latency   *prometheus.HistogramVec
	refusals  *prometheus.CounterVec
	exchanges prometheus.Counter
}

func newMetrics(k *keeper.Keeper) *metrics {
	m := &metrics{registry: prometheus.NewRegistry(),
		requests:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lockkeeper_requests_total", Help: "Requests by route and status."}, []string{"route", "status"}),
		latency:   prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "lockkeeper_request_seconds", Help: "How long requests took.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16)}, []string{"route"}),
		refusals:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lockkeeper_refusals_total", Help: "Refusals by reason code."}, []string{"code"}),
		exchanges: prometheus.NewCounter(prometheus.CounterOpts{Name: "lockkeeper_tokens_total", Help: "Tokens handed out."}),
	}
	entries := prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "lockkeeper_journal_entries_total", Help: "Entries in the journal."},
		func() float64 { return float64(k.Size()) })
	m.registry.MustRegister(dutyGauges{k}, driftGauges{k})
	gauge := func(name, help string, n func(waiting, active int) int) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(n(k.Privileged())) }))
	}
	gauge("lockkeeper_requests_waiting", "Requests to activate a role that wait.", func(waiting, _ int) int { return waiting })
	gauge("lockkeeper_activations", "Activations that are alive.", func(_, active int) int { return active })
	m.registry.MustRegister(questionGauges(k)...)
	m.registry.MustRegister(policyGauges(k)...)
	m.registry.MustRegister(holdGauges(k)...)
	m.registry.MustRegister(m.requests, m.latency, m.refusals, m.exchanges, entries)
	m.registry.MustRegister(newAlertGauge(k))
	m.registry.MustRegister(debts(k)...)
	m.registry.MustRegister(freezeGauges(k)...)
	m.registry.MustRegister(measureMetrics{k})
	m.registry.MustRegister(messageGauges{k})
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}
func (m *metrics) request(route string, status int, took time.Duration) {
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	m.latency.WithLabelValues(route).Observe(took.Seconds())
}
func (m *metrics) refusal(code string) { m.refusals.WithLabelValues(code).Inc() }
func (m *metrics) exchanged()          { m.exchanges.Inc() }

// dutyGauges count what is opened outside, by how it stands. What stands at
// revocation_owed is what to raise an alarm over.
type dutyGauges struct{ k *keeper.Keeper }

var dutiesDesc = prometheus.NewDesc("lockkeeper_duties", "Duties to undo what activations opened outside, by status.", []string{"status"}, nil)

func (dutyGauges) Describe(ch chan<- *prometheus.Desc) { ch <- dutiesDesc }
func (g dutyGauges) Collect(ch chan<- prometheus.Metric) {
	for status, n := range g.k.DutyCounts() {
		ch <- prometheus.MustNewConstMetric(dutiesDesc, prometheus.GaugeValue, float64(n), status)
	}
}
