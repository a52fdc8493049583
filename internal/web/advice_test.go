package web

import (
	"fmt"
	"strings"
	"testing"

	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// Every kind of alert is a gauge, also where there is none, and no scrape names
// anybody.
func TestAlertMetric(t *testing.T) {
	a := newArena(t)
	text := a.metrics()
	for _, kind := range keeper.AlertKinds() {
		if !strings.Contains(text, fmt.Sprintf("lockkeeper_access_alerts{kind=%q} ", kind)) {
			t.Errorf("no %s", kind)
		}
	}
	if !strings.Contains(text, `lockkeeper_access_alerts{kind="standing_privileged"} `) || strings.Contains(text, "dora") {
		t.Errorf("%s", text)
	}
}
