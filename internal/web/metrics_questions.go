package web

import (
	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/prometheus/client_golang/prometheus"
)

// questionGauges count what services are being asked, and of how much of that the last
// attempt brought no answer.
func questionGauges(k *keeper.Keeper) []prometheus.Collector {
	open := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "lockkeeper_questions", Help: "Questions to services outside that wait for an answer."},
		func() float64 { return float64(len(k.Questions())) })
	missed := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "lockkeeper_questions_missed", Help: "Questions that wait, of which an attempt brought no answer."},
		func() float64 {
			n := 0
			for _, q := range k.Questions() {
				if q.Away() {
					n++
				}
			}
			return float64(n)
		})
	return []prometheus.Collector{open, missed}
}
