package web

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
)

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
