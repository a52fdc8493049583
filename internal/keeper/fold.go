package keeper

import (
	"context"
	"fmt"
)

// fold reads the entries about a subject from the journal, for what is in memory no
// more. Those for which keep says so are applied to a state that starts empty; keep
// takes out of the others what it needs.
func (k *Keeper) fold(ctx context.Context, subject string, keep func(s *State, e Entry, body event) bool) (*State, error) {
	stored, err := k.journal.SubjectAll(ctx, subject)
	if err != nil {
		return nil, err
	}
	s := newState()
	for _, x := range stored {
		e, body, err := readEntry(x.Data)
		if err != nil {
			return nil, err
		}
		if !keep(s, e, body) {
			continue
		}
		if err := body.apply(s, e); err != nil {
			return nil, fmt.Errorf("entry %d: %w", e.Seq, err)
		}
	}
	return s, nil
}
