package web

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/lockkeeper/lockkeeper/internal/token"
	"github.com/prometheus/client_golang/prometheus"
)

// registerProvisioners is the table of what stands on systems that know no federation.
func (s *Server) registerProvisioners() {
	route(s, http.MethodGet, "/provisioners/drift", "provisioner-drift", "What differs at targets from what activations give", s.drift)
	route(s, http.MethodGet, "/provisioners/{id}/krl", "ssh-revoked", "The certificates that hosts must take no more: a Key Revocation List of OpenSSH, for anybody", s.revokedCertificates)
}

func (s *Server) drift(_ context.Context, in *Credential) (*reply[api.DriftTargets], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	list, err := s.Keeper.Drift(by)
	out := api.DriftTargets{Targets: []api.DriftTarget{}}
	for _, v := range list {
		t := api.DriftTarget{Provisioner: v.Provisioner, Kind: v.Kind, Scope: v.Scope, Action: v.Action, Visible: v.Visible, Scanned: v.At, Failed: v.Failed, Code: v.Code, Reason: v.Reason, Found: []api.Drift{}}
		for _, d := range v.Found {
			t.Found = append(t.Found, api.Drift(d))
		}
		out.Targets = append(out.Targets, t)
	}
	return &reply[api.DriftTargets]{out}, err
}

// revocations remembers the lists for a moment: hosts ask in a herd. It has at most one
// for each provisioner that makes certificates.
type revocations struct {
	mu   sync.Mutex
	made map[string]madeList
}

type madeList struct {
	at   time.Time
	data []byte
}

const revocationsPause = time.Second

// krlReply is a Key Revocation List.
type krlReply struct {
	Type  string `header:"Content-Type"`
	Cache string `header:"Cache-Control"`
	Body  []byte `contentType:"application/octet-stream"`
}

func (s *Server) revokedCertificates(_ context.Context, in *struct {
	ID string `path:"id" maxLength:"63"`
}) (*krlReply, error) {
	out := &krlReply{Type: "application/octet-stream", Cache: "no-cache"}
	r := &s.revocations
	r.mu.Lock()
	defer r.mu.Unlock()
	if last, is := r.made[in.ID]; is && time.Since(last.at) < revocationsPause {
		out.Body = last.data
		return out, nil
	}
	delete(r.made, in.ID)
	serials, version, at, err := s.Keeper.RevokedCertificates(in.ID)
	if err != nil {
		return nil, err
	}
	out.Body = token.KRL(version, at.Time(), "lockkeeper "+in.ID, serials)
	if r.made == nil {
		r.made = map[string]madeList{}
	}
	r.made[in.ID] = madeList{time.Now(), out.Body}
	return out, nil
}

// driftGauges count what differs at targets, and the targets that cannot be read.
type driftGauges struct{ k *keeper.Keeper }

var (
	driftDesc   = prometheus.NewDesc("lockkeeper_drift", "What differs at provisioners' targets from what activations give, by kind.", []string{"kind"}, nil)
	failingDesc = prometheus.NewDesc("lockkeeper_drift_unread", "Provisioners whose targets this server could not read when it last tried.", nil, nil)
)

func (driftGauges) Describe(ch chan<- *prometheus.Desc) { ch <- driftDesc; ch <- failingDesc }
func (g driftGauges) Collect(ch chan<- prometheus.Metric) {
	kinds, failing := g.k.DriftCounts()
	for kind, n := range kinds {
		ch <- prometheus.MustNewConstMetric(driftDesc, prometheus.GaugeValue, float64(n), kind)
	}
	ch <- prometheus.MustNewConstMetric(failingDesc, prometheus.GaugeValue, float64(failing))
}
