package keeper

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"testing"
)

var updateRecorded = flag.Bool("update", false, "write testdata/recorded.state.json anew")

// TestRecorded folds a journal that an earlier release wrote: the story of `make
// demo`, as `journal export` gives it. Every entry must be written again as the
// bytes that were hashed, and the fold must give all that it gave then; members
// that are new may come beside it. A change that makes this red breaks every
// journal that is in use: add a version of the entry instead.
func TestRecorded(t *testing.T) {
	lines, err := os.ReadFile("testdata/recorded.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	s := newState()
	var states []json.RawMessage // before what is alive is cleared, and at the end
	keep := func() {
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		states = append(states, b)
	}
	for line := range bytes.Lines(lines) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		e, ev, err := readEntry(line)
		if err != nil {
			t.Fatal(err)
		}
		if again, _, err := record(e, ev); err != nil || !bytes.Equal(again, line) {
			t.Errorf("entry %d (%s) was\n%s\nand is written as\n%s %v", e.Seq, e.Kind, line, again, err)
		}
		if _, is := ev.(*epochOpened); is {
			keep()
		}
		if err := s.apply(e, ev); err != nil {
			t.Fatal(err)
		}
	}
	if s.Size < 50 {
		t.Fatalf("only %d entries", s.Size)
	}
	keep()
	folded, err := json.MarshalIndent(states, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	const file = "testdata/recorded.state.json"
	if *updateRecorded {
		if err := os.WriteFile(file, append(folded, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	then, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var want, got any
	for data, v := range map[string]*any{string(then): &want, string(folded): &got} {
		if err := json.Unmarshal([]byte(data), v); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range missing("states", want, got) {
		t.Error(m)
	}
}

// missing lists what of want is not in got, which may have more members.
func missing(at string, want, got any) []string {
	switch want := want.(type) {
	case map[string]any:
		have, is := got.(map[string]any)
		if !is {
			return []string{fmt.Sprintf("%s is %v", at, got)}
		}
		var out []string
		for name, v := range want {
			out = append(out, missing(at+"."+name, v, have[name])...)
		}
		slices.Sort(out)
		return out
	case []any:
		have, is := got.([]any)
		if !is || len(have) != len(want) {
			return []string{fmt.Sprintf("%s is %v, not %v", at, got, want)}
		}
		var out []string
		for i := range want {
			out = append(out, missing(fmt.Sprintf("%s[%d]", at, i), want[i], have[i])...)
		}
		return out
	}
	if want != got {
		return []string{fmt.Sprintf("%s is %v, not %v", at, got, want)}
	}
	return nil
}
