package web

import (
	"context"
	"net/http"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/prometheus/client_golang/prometheus"
)

// registerNotifications is the table of what is told outside.
func (s *Server) registerNotifications() {
	people(s, http.MethodGet, "/notifications", "list-notifications", "Who is told what outside, and how it goes", s.notifications)
	people(s, http.MethodPost, "/notifications/{id}/test", "test-notification", "Send one message through a notification: to oneself, or into its room", s.testNotification)
}

func (s *Server) notifications(_ context.Context, by keeper.Caller, _ *Credential) (*reply[api.Notifications], error) {
	list, err := s.Keeper.Notifications(by)
	return &reply[api.Notifications]{api.Notifications{Notifications: rendered(list, renderNotification)}}, err
}

func renderNotification(v keeper.NotificationView) api.Notification {
	n := api.Notification{Name: v.Name, Title: v.Title, Via: v.Via, Channel: v.ChannelFile(), To: []string{}, Users: v.Users, About: v.About, Waiting: v.Waiting,
		Oldest: v.Oldest, Sent: v.Sent, Lost: v.Lost, Last: v.Last, Failing: v.Failed, Code: v.Code, Reason: v.Reason}
	for _, p := range v.To {
		n.To = append(n.To, p.String())
	}
	return n
}

func (s *Server) testNotification(ctx context.Context, by keeper.Caller, in *struct {
	Credential
	ID string `path:"id" maxLength:"63"`
}) (*reply[api.TestMessage], error) {
	id, err := s.Keeper.TestNotification(ctx, by, in.ID)
	return &reply[api.TestMessage]{api.TestMessage{ID: id}}, err
}

// Links in messages lead to a page that says what to run. It is the same whether what it
// names is there or not, whoever asks: it knows nobody, tells nothing and changes
// nothing, so that a scanner of mail which follows each link does no harm. To decide
// anything takes a session and a POST.
func (s *Server) registerLinks(mux *http.ServeMux) {
	mux.HandleFunc("GET /open", s.openLink)
	mux.HandleFunc("GET /open/{kind}/{id}", s.openLink)
}

// shown is the command that shows a thing, by how the journal calls its kind.
var shown = map[string]string{
	"deployment": "lockkeeper deployments show ", "request": "lockkeeper requests show ", "override": "lockkeeper override show ", "review": "lockkeeper reviews show ",
	"proposal": "lockkeeper proposals show ", "campaign": "lockkeeper campaigns show ", "notice": "lockkeeper notices list",
}

func (s *Server) openLink(w http.ResponseWriter, r *http.Request) {
	kind, id := r.PathValue("kind"), r.PathValue("id")
	p := page{Title: "Something waits for you", Lines: []string{"Sign in on the command line, and look at it there. Nothing was done by opening this page."}, Code: "lockkeeper login"}
	if run, known := shown[kind]; known && lockkeeper.CheckName(id) == nil {
		if kind != "notice" {
			run += id
		}
		p.Lines, p.Code = append(p.Lines, "Run lockkeeper login, and then:"), run
	}
	s.page(w, http.StatusOK, p)
}

// messageGauges are how it goes with what is told outside, by notification.
type messageGauges struct{ k *keeper.Keeper }

var (
	messagesSent    = prometheus.NewDesc("lockkeeper_messages_sent_total", "Messages that were sent, by notification.", []string{"notification"}, nil)
	messagesLost    = prometheus.NewDesc("lockkeeper_messages_lost_total", "Messages that were given up on, by notification.", []string{"notification"}, nil)
	messagesWaiting = prometheus.NewDesc("lockkeeper_messages_waiting", "Messages that are to be sent, those of quiet hours and digests too, by notification.", []string{"notification"}, nil)
	messagesOldest  = prometheus.NewDesc("lockkeeper_messages_oldest_seconds", "How long the oldest message that is due has waited, by notification; 0: none is.", []string{"notification"}, nil)
	messagesFailing = prometheus.NewDesc("lockkeeper_messages_failing", "1 while sending fails, by notification.", []string{"notification"}, nil)
)

func (messageGauges) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{messagesSent, messagesLost, messagesWaiting, messagesOldest, messagesFailing} {
		out <- d
	}
}

func (g messageGauges) Collect(out chan<- prometheus.Metric) {
	now := lockkeeper.MomentOf(time.Now())
	for _, v := range g.k.CountMessages() {
		gauge := func(d *prometheus.Desc, kind prometheus.ValueType, n float64) {
			out <- prometheus.MustNewConstMetric(d, kind, n, v.Name)
		}
		gauge(messagesSent, prometheus.CounterValue, float64(v.Sent))
		gauge(messagesLost, prometheus.CounterValue, float64(v.Lost))
		gauge(messagesWaiting, prometheus.GaugeValue, float64(v.Waiting))
		oldest, failing := 0.0, 0.0
		if !v.Oldest.IsZero() {
			oldest = max(0, now.Sub(v.Oldest).Seconds())
		}
		if !v.Failed.IsZero() {
			failing = 1
		}
		gauge(messagesOldest, prometheus.GaugeValue, oldest)
		gauge(messagesFailing, prometheus.GaugeValue, failing)
	}
}
