package web

import (
	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/prometheus/client_golang/prometheus"
)

// holdGauges count the runs that platforms hold, and the answers that they were not told.
func holdGauges(k *keeper.Keeper) []prometheus.Collector {
	return []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "lockkeeper_holds", Help: "Runs that platforms hold until the gate passes."},
			func() float64 { open, _ := k.HoldCounts(); return float64(open) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "lockkeeper_holds_untold", Help: "Held runs that are decided, whose platform was not told yet."},
			func() float64 { _, untold := k.HoldCounts(); return float64(untold) }),
	}
}
