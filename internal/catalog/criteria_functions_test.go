package catalog

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func holds(t interface{ Fatal(...any) }, criteria string, body any) (bool, error) {
	c, err := CompileCheckCriteria(criteria)
	if err != nil {
		t.Fatal(criteria, err)
	}
	return c.Hold(200, body, map[string]string{"now": "2026-11-25T09:00:00Z"})
}

// number takes what is a finite number, and everything else is an error.
func TestNumberOf(t *testing.T) {
	for _, v := range []any{3.0, "3", "3.0", "+3", "0.3e1", "30E-1"} {
		if met, err := holds(t, "number(body) == 3.0", v); !met || err != nil {
			t.Errorf("%v: %v", v, err)
		}
	}
	for _, v := range []any{"", " 3", "3 ", "0x3", "3_0", "1e999", "-1e999", "NaN", "Inf", "+Inf", "infinity", "３", "٣", "1.2.3", "1,2", "--3", "e3", ".", strings.Repeat("1", 65), math.NaN(), math.Inf(1), math.Inf(-1), true, []any{3.0}, map[string]any{"a": 3.0}} {
		if met, err := holds(t, "number(body) == 3.0 || number(body) != 3.0", v); met || err == nil {
			t.Errorf("%#v is a number", v)
		}
	}
	if met, err := holds(t, "number(body.x) < 1.0", map[string]any{"x": nil}); met || err == nil {
		t.Error("null is a number")
	}
}

// instant reads the ways in which services write instants, and nothing without an
// offset.
func TestInstantOf(t *testing.T) {
	for _, v := range []any{"2026-11-25T09:00:00Z", "2026-11-25T10:00:00+01:00", "2026-11-25T10:00:00.000+0100", "2026-11-25T04:00:00.000-0500", 1795597200.0, "2026-11-25T09:00:00.0000000Z"} {
		if met, err := holds(t, "instant(body) == timestamp(ask.now)", v); !met || err != nil {
			t.Errorf("%v: %v", v, err)
		}
	}
	for _, v := range []any{"", "2026-11-25", "2026-11-25 09:00:00", "2026-11-25T09:00:00", "tomorrow", 1795597200000.0, "1795597200000", math.Inf(1), true, "2026-13-25T09:00:00Z", strings.Repeat("2", 100)} {
		if met, err := holds(t, "instant(body) == timestamp(ask.now) || instant(body) != timestamp(ask.now)", v); met || err == nil {
			t.Errorf("%#v is an instant", v)
		}
	}
}

// Whatever number a monitor writes, a check of both bounds passes exactly if the number
// is between them, as Go reads it.
func TestBoundsProperty(t *testing.T) {
	between := 0
	rapid.Check(t, func(rt *rapid.T) {
		low, high := rapid.Float64Range(-1e6, 1e6).Draw(rt, "low"), rapid.Float64Range(-1e6, 1e6).Draw(rt, "high")
		m := MetricsCheck{Above: fmt.Sprint(low), Below: fmt.Sprint(high), JSON: &NumberInJSON{Number: "body.x"}}
		n := rapid.OneOf(rapid.Float64(), rapid.Float64Range(-1e6, 1e6)).Draw(rt, "n")
		var x any = n
		if rapid.Bool().Draw(rt, "text") {
			x = fmt.Sprint(n)
		}
		met, err := holds(rt, m.call().Service.Criteria, map[string]any{"x": x})
		if want := n > low && n < high; met != want || want && err != nil {
			rt.Fatalf("%v between %v and %v: %v, %v", x, low, high, met, err)
		}
		if met {
			between++
		}
	})
	if between == 0 {
		t.Error("no number was between the bounds")
	}
}

// What was written as the number of a JSON cannot take over the criteria around it.
func TestNumberStaysAnExpression(t *testing.T) {
	for _, text := range []string{"body.x) || (true", "body.x // and what follows", "body.x) < 1.0 || number(body.x", "body.x\n// x", "true || body.x"} {
		if err := bodyExpression(text); err != nil {
			continue
		}
		m := MetricsCheck{Below: "1", JSON: &NumberInJSON{Number: text}}
		c, err := CompileCheckCriteria(m.call().Service.Criteria)
		if err != nil {
			continue
		}
		if met, _ := c.Hold(200, map[string]any{"x": 2.0}, nil); met {
			t.Errorf("%q lets 2 be below 1", text)
		}
	}
}

func TestPastPlace(t *testing.T) {
	for name, want := range map[string]time.Duration{"now-5m": 5 * time.Minute, "now-168h": 168 * time.Hour, "now-1s": time.Second} {
		if d, is := PastPlace(name); !is || d != want {
			t.Errorf("%s: %s, %v", name, d, is)
		}
	}
	for _, name := range []string{"now", "now-", "now-0s", "now--5m", "now-169h", "now-1ms", "now-1500ms", "now-x", "parameter.now-5m"} {
		if _, is := PastPlace(name); is {
			t.Errorf("%s is one", name)
		}
	}
}
