package cli

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/gate"
)

// lintOf is what of a catalog is no mistake in one document and cannot be meant.
func lintOf(c *catalog.Catalog) []gate.Lint {
	lint := gate.Look(c, lockkeeper.MomentOf(time.Now()))
	if lint == nil {
		lint = []gate.Lint{}
	}
	return lint
}

func printLint(w io.Writer, lint []gate.Lint) {
	for _, l := range lint {
		what := "doubtful"
		if l.Never {
			what = "impassable"
		}
		fmt.Fprintf(w, "! %s: %s\n", what, printable(l.String()))
	}
}

// impassable reports whether there is an environment that nobody can pass.
func impassable(lint []gate.Lint) bool {
	return slices.ContainsFunc(lint, func(l gate.Lint) bool { return l.Never })
}
