package catalog

import (
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A CallCheck asks a service about an ask, again and again while the ask waits, and
// passes as long as the service says yes. No answer is no yes.
type CallCheck struct {
	// Service is the call. Its criteria see ask with the fields of check calls and, as
	// ask["parameter.NAME"], the parameters; retry, 1m by default, is the time between
	// two questions. within stands beside it and not in it.
	Service Call `json:"service"`
	// Steady is for how long the service must have said yes without a break; default:
	// one yes is enough.
	Steady *Steady `json:"steady,omitempty"`
	// Validity is how long a yes counts after which none came; default 5m, or twice
	// what the next one may take. With callback: the patience.
	Validity Duration `json:"validity,omitempty"`
	// Within is how long the service has: an ask whose check does not pass by then has
	// failed. Default and most: the patience.
	Within Duration `json:"within,omitempty"`
	// Callback lets the service answer once, later, at a signed address that the
	// question names. What it posts there is held against the criteria; a no is final.
	Callback bool `json:"callback,omitempty"`
}

// A Steady time is one without a bad answer and without a missing one.
type Steady struct {
	Answers int      `json:"answers,omitempty"` // good ones in a row; default 1, at most 100
	For     Duration `json:"for,omitempty"`     // from the first to the newest of them; default: not asked, at most 24h
}

// MetricsCheck asks a monitor for one number, and passes while it is below or above a
// bound. No number, and more than one, is no pass.
type MetricsCheck struct {
	Prometheus string `json:"prometheus"` // URL of a Prometheus or what speaks like it: https://prometheus.example.com
	Query      string `json:"query"`      // PromQL with one series or a scalar as its result
	Below      string `json:"below,omitempty"`
	Above      string `json:"above,omitempty"` // exactly one of below and above: a number such as "0.01"

	Steady   *Steady    `json:"steady,omitempty"`
	Retry    Duration   `json:"retry,omitempty"`
	Validity Duration   `json:"validity,omitempty"`
	Within   Duration   `json:"within,omitempty"`
	Token    *CallToken `json:"token,omitempty"`
}

// ChangeCheck asks ServiceNow for the change that a parameter of the ask names. It
// passes while the change is in the state to be implemented, inside its planned
// window, and carries the ask's digest in a field; a title proves nothing.
type ChangeCheck struct {
	ServiceNow string `json:"serviceNow"` // URL of the instance: https://acme.service-now.com
	Parameter  string `json:"parameter"`  // of the ask, with the number of the change: CHG0030001
	Field      string `json:"field"`      // of the change, which holds the ask's digest: u_lockkeeper_digest
	State      string `json:"state,omitempty"`
	NoWindow   bool   `json:"noWindow,omitempty"` // its planned start and end do not matter

	Retry    Duration   `json:"retry,omitempty"`
	Validity Duration   `json:"validity,omitempty"` // how long before the release it was read at most
	Within   Duration   `json:"within,omitempty"`
	Token    *CallToken `json:"token,omitempty"`
}

// Defaults and bounds of checks that ask services.
const (
	DefaultCheckRetry    = time.Minute
	DefaultCheckValidity = 5 * time.Minute
	implementing         = "-1" // ServiceNow's state Implement
	mostAnswers          = 100
	mostSteady           = 24 * time.Hour
	mostQuestions        = 5000 // of one check about one ask
)

// CheckFacts are the fields of ask in the criteria of a check's call, and the places of
// its URL: {digest}. Parameters are parameter.NAME in both. now is RFC 3339, and utc is
// the same instant as 2026-11-25 09:00:00, which sorts as text.
func CheckFacts() []string {
	return []string{"id", "digest", "action", "project", "environment", "pipeline", "stage", "repository", "run", "ref", "commit", "now", "utc"}
}

// ParameterFact is the name of a parameter among the facts of an ask.
func ParameterFact(name string) string { return "parameter." + name }

// Outside is the check as a call to a service; false if it asks none.
func (c Check) Outside() (CallCheck, bool) {
	switch {
	case c.Call != nil:
		return *c.Call, true
	case c.Metrics != nil:
		return c.Metrics.call(), true
	case c.Change != nil:
		return c.Change.call(), true
	}
	return CallCheck{}, false
}

func (m MetricsCheck) call() CallCheck {
	bound, compared := m.Below, "<"
	if bound == "" {
		bound, compared = m.Above, ">"
	}
	number, err := strconv.ParseFloat(bound, 64)
	if err != nil {
		number = math.NaN() // such a catalog is refused; nothing is below or above it
	}
	text := strconv.FormatFloat(number, 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	value := func(at string) string { return fmt.Sprintf("double(%s) %s %s", at, compared, text) }
	// NaN and the infinities are neither: a monitor that divides by nothing says nothing.
	criteria := `body.status == "success" && (body.data.resultType == "vector" ? size(body.data.result) == 1 && ` + finite("body.data.result[0].value[1]") + " && " + value("body.data.result[0].value[1]") +
		` : body.data.resultType == "scalar" && ` + finite("body.data.result[1]") + " && " + value("body.data.result[1]") + ")"
	return CallCheck{Steady: m.Steady, Validity: m.Validity, Within: m.Within,
		Service: Call{URL: strings.TrimSuffix(m.Prometheus, "/") + "/api/v1/query?query=" + url.QueryEscape(m.Query), Method: "GET", Criteria: criteria, Retry: m.Retry, Token: m.Token}}
}

func finite(at string) string { return at + `.matches("^[-+]?[0-9][0-9.eE+-]*$")` }

func (c ChangeCheck) call() CallCheck {
	state := c.State
	if state == "" {
		state = implementing
	}
	fact := ParameterFact(c.Parameter)
	criteria := fmt.Sprintf(`size(body.result) == 1 && body.result[0].number == ask[%q] && body.result[0].%s == ask.digest && body.result[0].state == %q`, fact, c.Field, state)
	fields := "number,state," + c.Field
	if !c.NoWindow {
		criteria += ` && body.result[0].start_date.matches("` + serviceNowTime + `") && body.result[0].end_date.matches("` + serviceNowTime + `") && body.result[0].start_date <= ask.utc && ask.utc < body.result[0].end_date`
		fields += ",start_date,end_date"
	}
	return CallCheck{Validity: c.Validity, Within: c.Within,
		Service: Call{URL: strings.TrimSuffix(c.ServiceNow, "/") + "/api/now/table/change_request?sysparm_limit=2&sysparm_query=number={" + fact + "}&sysparm_fields=" + url.QueryEscape(fields),
			Method: "GET", Criteria: criteria, Retry: c.Retry, Token: c.Token}}
}

// serviceNowTime is how ServiceNow's table API writes an instant, in UTC.
const serviceNowTime = `^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}$`

// Asks is the call with all that it leaves open, as it is recorded.
func (c CallCheck) Asks() Call {
	out := c.Service
	out.Retry, out.Within = Duration(orDefault(out.Retry, DefaultCheckRetry)), 0
	return out
}

// LeastValidity is the least for which a yes must count, so that the next one can come
// in time.
func (c CallCheck) LeastValidity() time.Duration {
	a := c.Asks()
	return 2 * (a.RetryEvery() + a.TimeoutLimit())
}

// ValidityLimit is how long a yes counts.
func (c CallCheck) ValidityLimit(patience time.Duration) time.Duration {
	if c.Callback {
		return orDefault(c.Validity, patience)
	}
	return orDefault(c.Validity, max(DefaultCheckValidity, c.LeastValidity()))
}

// Places are the names that a URL leaves open, in braces.
func Places(text string) []string {
	var out []string
	for {
		_, rest, found := strings.Cut(text, "{")
		if !found {
			return out
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return append(out, rest)
		}
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
		text = after
	}
}
