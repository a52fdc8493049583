package catalog

import (
	"cmp"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MetricsCheck asks a monitor for one number, and passes while it is above one bound,
// below one, or between the two; or it asks Azure for alerts, and passes while none is
// active. No number, and more than one, is no pass. Exactly one of prometheus, azure,
// azureAlerts and json says which monitor it is.
type MetricsCheck struct {
	Prometheus  string        `json:"prometheus,omitempty"` // URL of a Prometheus or what speaks like it: https://prometheus.example.com
	Query       string        `json:"query,omitempty"`      // for prometheus: PromQL with one series or a scalar as its result
	Azure       *AzureMetric  `json:"azure,omitempty"`
	AzureAlerts *AzureAlerts  `json:"azureAlerts,omitempty"`
	JSON        *NumberInJSON `json:"json,omitempty"`
	Below       string        `json:"below,omitempty"`
	Above       string        `json:"above,omitempty"` // at least one of below and above: a number such as "0.01"
	// Each takes several series, or for json a list, each of which must be within the
	// bounds. Without it more than one is no pass; none never is.
	Each bool `json:"each,omitempty"`

	Steady   *Steady    `json:"steady,omitempty"`
	Retry    Duration   `json:"retry,omitempty"`
	Validity Duration   `json:"validity,omitempty"`
	Within   Duration   `json:"within,omitempty"`
	Token    *CallToken `json:"token,omitempty"`
}

// AzureMetric is one number of Azure Monitor's metrics: an aggregation over the time
// until now.
type AzureMetric struct {
	Resource    string   `json:"resource"`              // its id: /subscriptions/…/providers/Microsoft.Web/sites/payments
	Metric      string   `json:"metric"`                // as the REST API calls it: Http5xx
	Namespace   string   `json:"namespace,omitempty"`   // of the metric, where it is not the resource's own
	Aggregation string   `json:"aggregation,omitempty"` // Average, Minimum, Maximum, Total or Count; default Average
	Filter      string   `json:"filter,omitempty"`      // over dimensions: Instance eq 'a'
	Over        Duration `json:"over,omitempty"`        // the time until now; default 5m, 1m to 24h
	Endpoint    string   `json:"endpoint,omitempty"`    // of Azure's Resource Manager; default https://management.azure.com
}

// AzureAlerts are the alerts of a subscription: one that is fired and that nobody
// closed is no pass, unless it is of another severity.
type AzureAlerts struct {
	Subscription  string   `json:"subscription"`            // its id
	ResourceGroup string   `json:"resourceGroup,omitempty"` // of what the alerts are about; default: any
	Resource      string   `json:"resource,omitempty"`      // the id of what they are about; default: any
	Rule          string   `json:"rule,omitempty"`          // the id of the rule that fires them; default: any
	Severities    []string `json:"severities,omitempty"`    // that hold up: Sev0 to Sev4; default: all
	Endpoint      string   `json:"endpoint,omitempty"`      // of Azure's Resource Manager; default https://management.azure.com
}

// NumberInJSON is a number in the JSON that a service answers to a GET.
type NumberInJSON struct {
	URL    string `json:"url"`            // with places, as that of a call: https://monitor.example.com/load?since={now-5m}
	Number string `json:"number"`         // CEL over body: body.data[0].value; text that is a number counts as one
	Time   string `json:"time,omitempty"` // CEL over body: when the number was taken, RFC 3339 or seconds since 1970
	// Fresh is how old the number may be; it takes time. Default 5m where time is
	// given, 10s to 24h; without time nobody knows.
	Fresh Duration `json:"fresh,omitempty"`
}

const (
	azureManagement   = "https://management.azure.com"
	azureMetricsAPI   = "2023-10-01"
	azureAlertsAPI    = "2019-03-01"
	defaultMetricOver = 5 * time.Minute
	defaultFresh      = 5 * time.Minute
	clockSkew         = time.Minute // by which a monitor's clock may be ahead
)

// Aggregations are those of Azure Monitor.
func Aggregations() []string { return []string{"Average", "Minimum", "Maximum", "Total", "Count"} }

// Severities are those of Azure's alerts.
func Severities() []string { return []string{"Sev0", "Sev1", "Sev2", "Sev3", "Sev4"} }

func (m MetricsCheck) call() CallCheck {
	c := CallCheck{Steady: m.Steady, Validity: m.Validity, Within: m.Within, Service: Call{Method: "GET", Retry: m.Retry, Token: m.Token}}
	switch {
	case m.Azure != nil:
		c.Service.URL, c.Service.Criteria = m.Azure.url(), m.azureCriteria(*m.Azure)
	case m.AzureAlerts != nil:
		c.Service.URL, c.Service.Criteria = m.AzureAlerts.url(), m.AzureAlerts.criteria()
	case m.JSON != nil:
		c.Service.URL, c.Service.Criteria = m.JSON.URL, m.jsonCriteria(*m.JSON)
	default:
		c.Service.URL, c.Service.Criteria = strings.TrimSuffix(m.Prometheus, "/")+"/api/v1/query?query="+url.QueryEscape(m.Query), m.prometheusCriteria()
	}
	return c
}

// bounds holds what an expression gives against the bounds.
func (m MetricsCheck) bounds(number string) string {
	var out []string
	for _, b := range []struct{ bound, compared string }{{m.Above, ">"}, {m.Below, "<"}} {
		if b.bound != "" {
			out = append(out, fmt.Sprintf("%s %s %s", number, b.compared, literal(b.bound)))
		}
	}
	if len(out) == 0 {
		return "false" // such a catalog is refused
	}
	return strings.Join(out, " && ")
}

// literal is a bound as a double of CEL.
func literal(bound string) string {
	number, err := strconv.ParseFloat(bound, 64)
	if err != nil {
		number = math.NaN() // such a catalog is refused; nothing is below or above it
	}
	text := strconv.FormatFloat(number, 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return text
}

// prometheusCriteria take one series or a scalar. NaN and the infinities are neither
// below nor above: a monitor that divides by nothing says nothing.
func (m MetricsCheck) prometheusCriteria() string {
	held := func(at string) string {
		return at + `.matches("^[-+]?[0-9][0-9.eE+-]*$") && ` + m.bounds("double("+at+")")
	}
	if m.Each {
		return `body.status == "success" && body.data.resultType == "vector" && size(body.data.result) > 0 && body.data.result.all(s, ` + held("s.value[1]") + ")"
	}
	return `body.status == "success" && (body.data.resultType == "vector" ? size(body.data.result) == 1 && ` + held("body.data.result[0].value[1]") +
		` : body.data.resultType == "scalar" && ` + held("body.data.result[1]") + ")"
}

func (a AzureMetric) over() time.Duration { return orDefault(a.Over, defaultMetricOver) }

func (a AzureMetric) aggregation() string { return cmp.Or(a.Aggregation, "Average") }

// url asks for one data point of the whole time (interval FULL).
func (a AzureMetric) url() string {
	query := "api-version=" + azureMetricsAPI + "&timespan={now-" + a.over().String() + "}/{now}&interval=FULL&metricnames=" + url.QueryEscape(a.Metric) + "&aggregation=" + a.aggregation()
	if a.Namespace != "" {
		query += "&metricnamespace=" + url.QueryEscape(a.Namespace)
	}
	if a.Filter != "" {
		query += "&$filter=" + strings.ReplaceAll(url.QueryEscape(a.Filter), "+", "%20")
	}
	return endpoint(a.Endpoint) + a.Resource + "/providers/Microsoft.Insights/metrics?" + query
}

func endpoint(text string) string {
	return strings.TrimSuffix(cmp.Or(text, azureManagement), "/")
}

// azureCriteria take one data point of each series, of the time that was asked for:
// an answer of before is none.
func (m MetricsCheck) azureCriteria(a AzureMetric) string {
	count := "size(body.value[0].timeseries) == 1"
	if m.Each {
		count = "size(body.value[0].timeseries) > 0"
	}
	return fmt.Sprintf(`size(body.value) == 1 && body.value[0].name.value == %q && (!has(body.value[0].errorCode) || body.value[0].errorCode == "Success") && type(body.value[0].timeseries) == list && %s && `+
		`body.value[0].timeseries.all(s, size(s.data) == 1 && instant(s.data[0].timeStamp) >= timestamp(ask.now) - duration(%q) && instant(s.data[0].timeStamp) <= timestamp(ask.now) && %s)`,
		a.Metric, count, (a.over() + 2*clockSkew).String(), m.bounds("number(s.data[0]."+strings.ToLower(a.aggregation())+")"))
}

// url asks for the alerts that are fired, of the longest time that Azure tells of.
func (a AzureAlerts) url() string {
	query := "api-version=" + azureAlertsAPI + "&monitorCondition=Fired&timeRange=30d&pageCount=50"
	for _, f := range [][2]string{{"targetResourceGroup", a.ResourceGroup}, {"targetResource", a.Resource}, {"alertRule", a.Rule}} {
		if f[1] != "" {
			query += "&" + f[0] + "=" + url.QueryEscape(f[1])
		}
	}
	return endpoint(a.Endpoint) + "/subscriptions/" + a.Subscription + "/providers/Microsoft.AlertsManagement/alerts?" + query
}

// criteria take a whole list in which no alert is active. What says nothing that is
// known of its condition, state and severity is one.
func (a AzureAlerts) criteria() string {
	passes := `a.properties.essentials.monitorCondition == "Resolved" || a.properties.essentials.alertState == "Closed"`
	var others []string
	for _, s := range Severities() {
		if len(a.Severities) > 0 && !slices.Contains(a.Severities, s) {
			others = append(others, strconv.Quote(s))
		}
	}
	if len(others) > 0 {
		passes += " || a.properties.essentials.severity in [" + strings.Join(others, ", ") + "]"
	}
	return `type(body.value) == list && (!has(body.nextLink) || body.nextLink == null || body.nextLink == "") && body.value.all(a, ` + passes + ")"
}

// jsonCriteria hold the number of a service. A line ends what was written by others, so
// that a comment in it hides nothing.
func (m MetricsCheck) jsonCriteria(j NumberInJSON) string {
	number := "(" + j.Number + "\n)"
	out := m.bounds("number(" + number + ")")
	if m.Each {
		out = "type" + number + " == list && size" + number + " > 0 && " + number + ".all(n, " + m.bounds("number(n)") + ")"
	}
	if j.Time != "" {
		at := "instant((" + j.Time + "\n))"
		out += fmt.Sprintf(" && %s >= timestamp(ask.now) - duration(%q) && %s <= timestamp(ask.now) + duration(%q)", at, orDefault(j.Fresh, defaultFresh).String(), at, clockSkew.String())
	}
	return out
}
