package web

import (
	"context"
	"net/http"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/prometheus/client_golang/prometheus"
)

// compilePatience is how long the policies of one catalog may take to compile.
const compilePatience = time.Minute

func (s *Server) registerPolicies() {
	route(s, http.MethodGet, "/deployments/{id}/policy-inputs", "policy-inputs", "What the policies of a waiting deployment see now", s.policyInputs)
}

func (s *Server) policyInputs(ctx context.Context, in *struct {
	Credential
	ID    string `path:"id" maxLength:"40"`
	Check string `query:"check" maxLength:"63" doc:"only this one"`
}) (*reply[api.PolicyInputs], error) {
	by, err := s.reader(ctx, in.Authorization, in.ID)
	if err != nil {
		return nil, err
	}
	list, err := s.Keeper.PolicyInputs(by, in.ID, in.Check)
	out := api.PolicyInputs{Inputs: []api.PolicyInput{}}
	for _, i := range list {
		out.Inputs = append(out.Inputs, api.PolicyInput{Check: i.Check, Policy: i.Policy, Digest: i.Digest, Facts: i.Facts, Input: i.Input})
	}
	return &reply[api.PolicyInputs]{out}, err
}

// policiesFit refuses a catalog with a policy that does not compile. A catalog that is in
// force was asked once: a later release of what evaluates policies may take it no more,
// and then its checks pass nothing and say so, but the server starts.
func (s *Server) policiesFit(ctx context.Context, c *catalog.Catalog) error {
	if len(c.Policies) == 0 {
		return nil
	}
	if s.Policies == nil {
		return lockkeeper.Unavailable.Errorf("policies_unavailable", "This server evaluates no policies, and the catalog has some.").WithNext("Leave them out.")
	}
	ctx, cancel := context.WithTimeout(ctx, compilePatience)
	defer cancel()
	return s.Policies(ctx, c).Err()
}

// policyGauges count what policies said of what waits.
func policyGauges(k *keeper.Keeper) []prometheus.Collector {
	gauge := func(name, help string, of func(lockkeeper.Verdict) bool) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			n := 0
			for verdict, count := range k.Ruled() {
				if of(verdict) {
					n += count
				}
			}
			return float64(n)
		})
	}
	return []prometheus.Collector{
		gauge("lockkeeper_policy_rulings", "What policies said last of deployments that wait.", func(lockkeeper.Verdict) bool { return true }),
		gauge("lockkeeper_policy_rulings_refused", "Of them, those that say no, or not yet.", func(v lockkeeper.Verdict) bool { return v == lockkeeper.Fail || v == lockkeeper.Wait }),
		gauge("lockkeeper_policy_rulings_error", "Of them, those without a verdict.", func(v lockkeeper.Verdict) bool { return v == lockkeeper.Error }),
	}
}
