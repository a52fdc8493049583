package gate

import (
	"fmt"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// unproven says why a vote's sign-in is not what an approval asks for. That is judged
// as at the vote, and does not change while the ask waits.
func (v Vote) unproven(a catalog.Approval) (why string, is bool) {
	switch age := time.Duration(a.SignedIn); {
	case age > 0 && v.SignedIn.IsZero():
		return fmt.Sprintf("takes a sign-in within %s, and nobody says when yours was", age), true
	case age > 0 && v.At.Sub(v.SignedIn) > age:
		return fmt.Sprintf("takes a sign-in within %s, and yours was at %s", age, v.SignedIn), true
	case a.Strong && !v.Strong:
		return "takes a sign-in with a second factor", true
	}
	return "", false
}

func (v Vote) mustProve(a catalog.Approval) bool {
	_, must := v.unproven(a)
	return must
}
