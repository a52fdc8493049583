package evidence

import (
	"testing"

	"github.com/lockkeeper/lockkeeper"
)

// refusal is the refusal that err must be: invalid, with a sentence and a way out.
func refusal(t testing.TB, err error) *lockkeeper.Refusal {
	t.Helper()
	r := lockkeeper.RefusalOf(err)
	if r == nil {
		t.Fatalf("not a refusal: %v", err)
	}
	if r.Kind != lockkeeper.Invalid || r.Code == "" || r.Sentence == "" || r.Next == "" {
		t.Fatalf("a refusal without a code, a sentence or a way out: %#v", r)
	}
	return r
}
