package cli

import (
	"context"
	"log/slog"

	"github.com/lockkeeper/lockkeeper/internal/effect"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/lockkeeper/lockkeeper/internal/web"
)

// hold lets a worker read the runs that platforms hold, and answer for them, while the
// server runs, and gives what ends it.
func (o serveOptions) hold(ctx context.Context, k *keeper.Keeper, options *web.Options, log *slog.Logger) (finish func()) {
	worker := effect.NewHoldWorker(k, o.systems, log)
	options.AppSecret = worker.Secret
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		worker.Run(ctx)
		close(done)
	}()
	return func() {
		cancel()
		<-done
	}
}
