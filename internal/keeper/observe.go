package keeper

import "github.com/lockkeeper/lockkeeper/internal/catalog"

// heldTo is the environment as a deployment is held to it. One that was opened while
// its environment enforced is held to that, though it only observes by now: a change
// never helps an ask that is open. One that was opened while it observed is held to
// what it enforces as soon as it does.
func (d *Deployment) heldTo(env catalog.Environment) catalog.Environment {
	if env.Observes() && !d.Observed {
		env.Mode = catalog.EnforceMode
	}
	return env
}
