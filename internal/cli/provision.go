package cli

import (
	"context"
	"net/url"
	"os"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/effect"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/lockkeeper/lockkeeper/internal/web"
)

// work lets a worker change systems outside while the server runs, and gives what
// ends it. Without a folder of secrets it grants nothing; what the journal says has
// to be undone it fails to undo, and says so.
func (o serveOptions) work(ctx context.Context, k *keeper.Keeper, options *web.Options) (finish func(), err error) {
	if o.systems != "" {
		info, err := os.Stat(o.systems)
		if err != nil || !info.IsDir() {
			return nil, lockkeeper.Invalid.Errorf("provisioners_unfit", "%s is no folder that can be read.", o.systems).WithNext("Name the folder that holds a file for each provisioner of the catalog.").WithField(o.systems)
		}
		if info.Mode().Perm()&0o022 != 0 {
			return nil, lockkeeper.Invalid.Errorf("folder_open_to_others", "Others than this account can write to %s (mode %04o), which holds the provisioners' secrets.", o.systems, info.Mode().Perm()).
				WithNext("Close it: chmod 700 %s", o.systems).WithField(o.systems)
		}
	}
	u, err := url.Parse(options.URL)
	local := err == nil && !options.Exposed && (u.Hostname() == "localhost" || u.Hostname() == "127.0.0.1" || u.Hostname() == "::1")
	worker := effect.New(effect.Options{Keeper: k, Secrets: o.systems, Local: local, Log: options.Log})
	if o.systems != "" {
		options.Credentials = worker
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		worker.Run(ctx)
		close(done)
	}()
	return func() {
		cancel()
		<-done
	}, nil
}
