package catalog

import "testing"

func TestOfAnyAsk(t *testing.T) {
	for _, c := range []struct {
		url, criteria string
		is            bool
	}{
		{"https://x.example/", "body.x == 1", true}, {"https://x.example/{environment}?since={now-5m}&to={now}", "instant(body.at) < timestamp(ask.now)", true}, {"https://x.example/{project}", `ask.environment == body.x`, true},
		{"https://x.example/{commit}", "body.x == 1", false}, {"https://x.example/{parameter.x}", "body.x == 1", false}, {"https://x.example/", "body.x == ask.digest", false}, {"https://x.example/", `body.x == ask["digest"]`, false},
		{"https://x.example/", `body.x == ask["now"]`, false}, {"https://x.example/", `ask.exists(k, ask[k] == body.x)`, false}, {"https://x.example/", `body.x == ask.now || body.y == ask.id`, false}, {"https://x.example/", `[ask].exists(a, a.digest == body.x)`, false},
	} {
		check := CallCheck{Service: Call{URL: c.url, Method: "GET", Criteria: c.criteria}}
		if got := check.OfAnyAsk(); got != c.is {
			t.Errorf("%s %s: %v", c.url, c.criteria, got)
		}
		check.Service.Method = ""
		if check.OfAnyAsk() {
			t.Error("what is posted tells of the ask")
		}
	}
	later := CallCheck{Callback: true, Service: Call{URL: "https://x.example", Method: "GET", Criteria: "body.x == 1"}}
	if later.OfAnyAsk() {
		t.Error("what is answered later is about one ask")
	}
}
