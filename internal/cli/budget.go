package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/access"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// budgetsOf are the budgets of persons of a catalog that are exceeded, or of which
// the documents alone do not know.
func budgetsOf(c *catalog.Catalog) []access.Budget {
	list := access.New(c).Budgets(lockkeeper.MomentOf(time.Now()))
	return append([]access.Budget{}, slices.DeleteFunc(list, func(b access.Budget) bool { return !b.Exceeded() && len(b.Open) == 0 })...)
}

func exceeded(list []access.Budget) bool {
	return slices.ContainsFunc(list, access.Budget.Exceeded)
}

func printBudgets(w io.Writer, list []access.Budget) {
	for _, b := range list {
		if b.Exceeded() {
			fmt.Fprintf(w, "! beyond its budget: %s\n", printable(b.String()))
		} else {
			fmt.Fprintf(w, "? budget of %s (%s: %d): %d persons by the documents, and a directory says who is in %s; apply counts them.\n", b.Environment, b.Of, b.Budget, b.Persons, strings.Join(b.Open, ", "))
		}
	}
}
