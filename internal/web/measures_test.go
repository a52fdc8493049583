package web

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
)

// TestMeasureMetrics plays a deployment to its end and scrapes: every number has its
// labels, none a person, and the API tells the same.
func TestMeasureMetrics(t *testing.T) {
	a := newArena(t)
	j := a.job("push", "production")
	d := a.running(j, handle)
	a.must(a.client(handle).Call(context.Background(), "POST", "/deployments/"+d.ID+"/end", api.EndDeployment{ExitCode: 1}, nil))
	text := a.metrics()
	place := `project="payments"`
	for _, line := range []string{`lockkeeper_deployments_ended_total{environment="production",` + place + `,status="failed"} 1`,
		`lockkeeper_gate_wait_seconds_count{environment="production",` + place + `} 1`, `lockkeeper_gate_wait_seconds_bucket{environment="production",` + place + `,le="+Inf"} 1`,
		`lockkeeper_approval_decision_seconds_count{environment="production",` + place + `,verdict="approve"} 2`, `lockkeeper_approval_prompts_total{check="`} {
		if !strings.Contains(text, line) {
			t.Errorf("no %s", line)
		}
	}
	for line := range strings.Lines(text) {
		for _, who := range []string{`"bob"`, `"cat"`, `"dora"`} {
			if strings.Contains(line, who) {
				t.Errorf("somebody is named: %s", line)
			}
		}
	}
	var m api.Measures
	a.must(a.people["dora"].Call(context.Background(), "GET", "/measures?project=payments&environment=production&persons=true", nil, &m))
	if e := m.Environments[0]; e.Failures != 1 || e.FailureShare == nil || *e.FailureShare != 1 || e.BrokenSince.IsZero() || e.Votes.Voters != 2 || len(m.Persons) != 2 || e.Ends["failed"] != 1 {
		t.Errorf("%+v", m)
	}
}

// TestMeasures asks over the wire, scrapes, and writes every parameter wrongly.
func TestMeasures(t *testing.T) {
	a := newArena(t)
	ctx := context.Background()
	raw := a.metrics()
	if !strings.Contains(raw, "lockkeeper_measures_dropped_total 0") {
		t.Errorf("%s", raw)
	}
	var m api.Measures
	if err := a.people["dora"].Call(ctx, "GET", "/measures", nil, &m); err != nil {
		t.Fatal(err)
	}
	if len(m.Environments) == 0 || m.Persons != nil || m.Environments[0].Lead.P50 != nil || m.Environments[0].FailureShare != nil || m.Hasty != 10 || m.Since.Before(m.Until) != true {
		t.Errorf("%+v", m)
	}
	for field, values := range map[string][]string{"since": {"yesterday", "2026-11-02", "1700000000", "-1d", strings.Repeat("9", 41), "2026-11-02T00:00:00Z\x00", "0001-01-01T00:00:00Z"}, "until": {"2999-01-01T00:00:00Z"},
		"hasty": {"0", "3601", "x", "-1"}, "persons": {"maybe"}, "project": {"../etc", "A b", strings.Repeat("p", 64)}, "environment": {"test"}} {
		for _, v := range values {
			err := a.people["dora"].Call(ctx, "GET", "/measures?"+url.Values{field: {v}}.Encode(), nil, &m)
			if lockkeeper.KindOf(err) != lockkeeper.Invalid {
				t.Errorf("%s=%q: %v", field, v, err)
			}
		}
	}
	if err := a.client("lkp_nothing").Call(ctx, "GET", "/measures", nil, &m); lockkeeper.KindOf(err) != lockkeeper.Unauthenticated {
		t.Errorf("nobody: %v", err)
	}
}
