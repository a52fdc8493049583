package lockkeeper

import (
	"encoding/json"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Two decisions are equal exactly if they are spelled equally.
func TestDecisionEqual(t *testing.T) {
	word := rapid.SampledFrom([]string{"", "a", "b"})
	var decision func(depth int) *rapid.Generator[Decision]
	decision = func(depth int) *rapid.Generator[Decision] {
		return rapid.Custom(func(t *rapid.T) Decision {
			d := Decision{Subject: word.Draw(t, "subject"), Verdict: rapid.SampledFrom([]Verdict{Pass, Fail}).Draw(t, "verdict"),
				Code: word.Draw(t, "code"), Sentence: word.Draw(t, "sentence"), Next: word.Draw(t, "next")}
			if rapid.Bool().Draw(t, "ends") {
				m := MomentOf(time.Unix(int64(rapid.IntRange(0, 1).Draw(t, "until")), 0))
				d.Until = &m
			}
			for range rapid.IntRange(0, depth).Draw(t, "reasons") {
				d.Because = append(d.Because, decision(depth-1).Draw(t, "reason"))
			}
			return d
		})
	}
	rapid.Check(t, func(t *rapid.T) {
		a := decision(2).Draw(t, "a")
		b := decision(2).Draw(t, "b")
		if rapid.Bool().Draw(t, "near") { // the same but for one field
			b = a
			switch rapid.IntRange(0, 6).Draw(t, "field") {
			case 0:
				b.Subject += "x"
			case 1:
				b.Verdict = Wait
			case 2:
				b.Code += "x"
			case 3:
				b.Sentence += "x"
			case 4:
				b.Next += "x"
			case 5:
				if a.Until != nil {
					m := *a.Until // the same moment elsewhere in memory
					b.Until = &m
				}
			case 6:
				b.Because = append(append([]Decision{}, a.Because...), a)
			}
		}
		one, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		two, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		if a.Equal(b) != (string(one) == string(two)) {
			t.Errorf("%s and %s: Equal says %v", one, two, a.Equal(b))
		}
	})
}
