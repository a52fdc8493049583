package effect

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/gate"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/lockkeeper/lockkeeper/internal/lktest"
)

const (
	azureSite = "/subscriptions/1f3fa6d2-851c-4a91-9087-1a050f3a9c38/resourceGroups/payments/providers/Microsoft.Web/sites/payments"
	issue     = "CHG-42"
)

// presetChecks are one of each preset, towards one service.
func presetChecks(service string) string {
	return strings.ReplaceAll(strings.Join([]string{
		`{name: cloud, change: {jira: "S/ex/jira/1", parameter: change, field: customfield_10042, window: {start: customfield_1, end: customfield_2}}}`,
		`{name: center, change: {jira: "S", dataCenter: true, parameter: change, field: customfield_10042, statuses: [Ready, "Übergeben"]}}`,
		`{name: both, change: {jira: "S", parameter: change, field: customfield_10042, statuses: [Ready], category: done}}`,
		`{name: azure, metrics: {azure: {resource: ` + azureSite + `, metric: Http5xx, aggregation: Total, namespace: Microsoft.Web/sites, filter: "Instance eq 'a b'", over: 10m, endpoint: "S"}, below: "5"}}`,
		`{name: azures, metrics: {azure: {resource: ` + azureSite + `, metric: CpuTime, endpoint: "S"}, each: true, above: "1", below: "5"}}`,
		`{name: alerts, metrics: {azureAlerts: {subscription: 1f3fa6d2-851c-4a91-9087-1a050f3a9c38, resourceGroup: payments, severities: [Sev0, Sev1], endpoint: "S"}}}`,
		`{name: json, metrics: {json: {url: "S/load?since={now-5m}", number: "body.load[0].value", time: body.at, fresh: 2m}, above: "-1", below: "5"}}`,
		`{name: list, metrics: {json: {url: "S/load", number: "body.loads"}, each: true, below: "5"}}`,
		`{name: series, metrics: {prometheus: "S", query: up, each: true, above: "0.5"}}`,
	}, ", "), `"S`, `"`+service)
}

// preset opens an ask about an issue and gives the questions of its checks.
func presetQuestions(t *testing.T, service, about string) map[string]keeper.OpenQuestion {
	t.Helper()
	s := staged(t, fmt.Sprintf(deploying, presetChecks(service)))
	s.deploys(map[string]string{"change": about})
	out := map[string]keeper.OpenQuestion{}
	for _, q := range s.k.Questions() {
		out[q.Rule] = s.k.WithFacts(q)
	}
	return out
}

// What each preset asks is what the systems document.
func TestPresetsAsk(t *testing.T) {
	questions := presetQuestions(t, "https://s.example", issue)
	ago := func(d time.Duration) string {
		now, err := time.Parse(time.RFC3339, questions["azure"].Ask["now"])
		if err != nil {
			t.Fatal(err)
		}
		return url.QueryEscape(now.Add(-d).Format(time.RFC3339))
	}
	for rule, want := range map[string]string{
		"cloud":  "/ex/jira/1/rest/api/3/issue/CHG-42?fields=status%2Ccustomfield_10042%2Ccustomfield_1%2Ccustomfield_2",
		"center": "/rest/api/2/issue/CHG-42?fields=status%2Ccustomfield_10042",
		"azure": azureSite + "/providers/Microsoft.Insights/metrics?api-version=2023-10-01&timespan=" + ago(10*time.Minute) + "/" + ago(0) +
			"&interval=FULL&metricnames=Http5xx&aggregation=Total&metricnamespace=Microsoft.Web%2Fsites&$filter=Instance%20eq%20%27a%20b%27",
		"alerts": "/subscriptions/1f3fa6d2-851c-4a91-9087-1a050f3a9c38/providers/Microsoft.AlertsManagement/alerts?api-version=2019-03-01&monitorCondition=Fired&timeRange=30d&pageCount=50&targetResourceGroup=payments",
		"json":   "/load?since=" + ago(5*time.Minute),
		"series": "/api/v1/query?query=up",
	} {
		if got, err := (&caller{}).address(questions[rule]); err != nil || got != "https://s.example"+want {
			t.Errorf("%s asks %s (%v), want %s", rule, got, err, want)
		}
	}
}

// An issue is asked for by its key and by nothing else: no value leads to another
// issue, another path or another query.
func TestJiraKeys(t *testing.T) {
	questions := presetQuestions(t, "https://s.example", issue)
	q := questions["cloud"]
	for _, key := range []string{"", "..", "../CHG-1", "CHG-1/../CHG-2", "CHG-1/comment", "CHG-1?fields=x", "CHG-1&x=y", "CHG-1#x", "CHG-1%2f..%2fCHG-2", "CHG-1%00", "CHG-1\n", "\nCHG-1", " CHG-1", "chg-1", "ＣＨＧ-1", "СHG-1" /* a Cyrillic letter */, "CHG\u20111", "CHG-１",
		"CHG-0", "CHG-01", "CHG-", "-1", "10042", "CHG-12345678901", strings.Repeat("A", 60) + "-1", "CHG-1,CHG-2", "{digest}", `CHG-1"`, `CHG-1\`} {
		q.Ask["parameter.change"] = key
		if got, err := (&caller{}).address(q); err == nil {
			t.Errorf("%q is asked for at %s", key, got)
		}
		if o := (&caller{reach: reach(t, home...)}).ask(context.Background(), q); o.Missed == nil || o.Missed.Code != "place_unfit" {
			t.Errorf("%q: %+v", key, o)
		}
	}
	for _, key := range []string{"CHG-1", "A1-1", "AB_C-1234567890"} {
		q.Ask["parameter.change"] = key
		if got, err := (&caller{}).address(q); err != nil || !strings.Contains(got, "/issue/"+key+"?") {
			t.Errorf("%q: %s, %v", key, got, err)
		}
	}
}

// said holds one answer against the criteria of a question.
func answering(t *testing.T, q keeper.OpenQuestion, body string) bool {
	t.Helper()
	read, err := gate.Document([]byte(body))
	if err != nil {
		return false
	}
	met, err := gate.Met(q.Call, 200, read, q.Ask)
	return met && err == nil
}

type changes map[string]string

// with is a body with some of its text changed.
func (c changes) with(body string) string {
	for from, to := range c {
		if !strings.Contains(body, from) {
			panic("nothing to change: " + from)
		}
		body = strings.ReplaceAll(body, from, to)
	}
	return body
}

// What Jira answers about an issue: only the whole answer is a yes.
func TestJiraAnswers(t *testing.T) {
	questions := presetQuestions(t, "https://s.example", issue)
	digest := questions["cloud"].Ask["digest"]
	rich := fmt.Sprintf(`{"type": "doc", "version": 1, "content": [{"type": "paragraph", "content": [{"type": "text", "text": %q}]}]}`, digest)
	body := func(field string) string {
		return `{"id": "1", "key": "CHG-42", "self": "https://s", "fields": {"customfield_10042": ` + field + `, "customfield_1": "2026-11-20T09:00:00.000+0100", "customfield_2": "2099-11-25T09:00:00.000+0000",
			"status": {"name": "Ready", "id": "3", "statusCategory": {"id": 4, "key": "indeterminate", "name": "In Progress"}}}}`
	}
	plain := fmt.Sprintf("%q", digest)
	for i, c := range []struct {
		rule, field string
		change      changes
		met         bool
	}{
		{"cloud", plain, nil, true}, {"cloud", rich, nil, true}, {"center", plain, nil, true}, {"center", rich, nil, false},
		{"both", plain, nil, false}, {"both", plain, changes{"indeterminate": "done"}, true}, {"both", plain, changes{"indeterminate": "done", "Ready": "Closed"}, false},
		{"center", plain, changes{"indeterminate": "new"}, true}, {"center", plain, changes{"Ready": "Übergeben"}, true}, {"center", plain, changes{"Ready": "U\u0308bergeben"}, false}, {"center", plain, changes{"Ready": "ready"}, false}, {"center", plain, changes{"Ready": "Rеady"}, false},
		{"cloud", plain, changes{"indeterminate": "new"}, false}, {"cloud", plain, changes{"indeterminate": "done"}, false}, {"cloud", plain, changes{`"key": "indeterminate"`: `"key": null`}, false},
		{"cloud", plain, changes{`"key": "CHG-42"`: `"key": "CHG-43"`}, false}, {"cloud", plain, changes{`"key": "CHG-42", `: ""}, false}, {"cloud", plain, changes{`"CHG-42"`: `"chg-42"`}, false},
		{"cloud", plain, changes{digest: digest + " "}, false}, {"cloud", plain, changes{digest: strings.ToUpper(digest)}, false}, {"cloud", plain, changes{digest: "approved: " + digest}, false}, {"cloud", `""`, nil, false}, {"cloud", "null", nil, false}, {"cloud", "[" + plain + "]", nil, false}, {"cloud", "5", nil, false},
		{"cloud", rich, changes{`"type": "text", "text"`: `"type": "text", "marks": [{"type": "strike"}], "text"`}, false}, {"cloud", rich, changes{digest: digest[:20]}, false}, {"cloud", rich, changes{`"paragraph"`: `"blockquote"`}, false},
		{"cloud", rich, changes{`{"type": "text"`: `{"type": "text", "text": "not "}, {"type": "text"`}, false}, {"cloud", rich, changes{`"content": [{"type": "paragraph"`: `"content": [{"type": "rule"}, {"type": "paragraph"`}, false}, {"cloud", rich, changes{`"type": "text"`: `"type": "mention"`}, false},
		{"cloud", plain, changes{"2026-11-20": "2099-11-20"}, false}, {"cloud", plain, changes{"2099-11-25": "2026-11-20"}, false}, {"cloud", plain, changes{`"2099-11-25T09:00:00.000+0000"`: `"2099-11-25"`}, false}, {"cloud", plain, changes{`"2099-11-25T09:00:00.000+0000"`: "null"}, false},
	} {
		if got := answering(t, questions[c.rule], c.change.with(body(c.field))); got != c.met {
			t.Errorf("%d: %s takes %s changed by %v: %v", i, c.rule, c.field, c.change, got)
		}
	}
	for _, text := range []string{"", "{}", "[]", "null", `{"errorMessages": ["Issue does not exist or you do not have permission to see it."], "errors": {}}`, body(plain) + "x", strings.Replace(body(plain), `"key": "CHG-42"`, `"key": "CHG-43", "key": "CHG-42"`, 1)} {
		if answering(t, questions["cloud"], text) {
			t.Errorf("%s is a yes", text)
		}
	}
}

// What Azure Monitor answers about a metric: one data point of now, or nothing.
func TestAzureMetricAnswers(t *testing.T) {
	questions := presetQuestions(t, "https://s.example", issue)
	now, err := time.Parse(time.RFC3339, questions["azure"].Ask["now"])
	if err != nil {
		t.Fatal(err)
	}
	at := func(d time.Duration) string { return now.Add(d).Format(time.RFC3339) }
	series := func(aggregation, value string) string {
		return fmt.Sprintf(`{"metadatavalues": [], "data": [{"timeStamp": %q, %q: %s}]}`, at(-5*time.Minute), aggregation, value)
	}
	body := func(metric string, series ...string) string {
		return fmt.Sprintf(`{"cost": 9, "timespan": "x", "interval": "FULL", "value": [{"id": "x", "type": "Microsoft.Insights/metrics", "name": {"value": %q, "localizedValue": "x"}, "unit": "Count", "timeseries": [%s], "errorCode": "Success"}], "namespace": "n"}`, metric, strings.Join(series, ", "))
	}
	total := func(v string) string { return series("total", v) }
	for i, c := range []struct {
		rule, body string
		met        bool
	}{
		{"azure", body("Http5xx", total("0")), true}, {"azure", body("Http5xx", total("4.9")), true}, {"azure", body("Http5xx", total("5")), false}, {"azure", body("Http4xx", total("0")), false},
		{"azure", body("Http5xx"), false}, {"azure", body("Http5xx", total("0"), total("0")), false}, {"azure", body("Http5xx", total("null")), false}, {"azure", body("Http5xx", total(`"NaN"`)), false}, {"azure", body("Http5xx", total("-1e999")), false}, {"azure", body("Http5xx", total("-1e308")), true},
		{"azure", body("Http5xx", series("average", "0")), false}, {"azure", body("Http5xx", `{"data": []}`), false}, {"azure", body("Http5xx", fmt.Sprintf(`{"data": [{"timeStamp": %q}]}`, at(-5*time.Minute))), false},
		{"azure", body("Http5xx", changes{at(-5 * time.Minute): at(-13 * time.Minute)}.with(total("0"))), false}, {"azure", body("Http5xx", changes{at(-5 * time.Minute): at(time.Minute)}.with(total("0"))), false}, {"azure", body("Http5xx", changes{at(-5 * time.Minute): "yesterday"}.with(total("0"))), false},
		{"azure", changes{`"Success"`: `"Throttled"`}.with(body("Http5xx", total("0"))), false}, {"azure", changes{`"timeseries": [`: `"timeseries": {}, "x": [`}.with(body("Http5xx", total("0"))), false},
		{"azure", `{"value": []}`, false}, {"azure", `{"error": {"code": "AuthorizationFailed"}}`, false},
		{"azures", body("CpuTime", series("average", "2")), true}, {"azures", body("CpuTime", series("average", "2"), series("average", "3")), true}, {"azures", body("CpuTime", series("average", "2"), series("average", "5")), false}, {"azures", body("CpuTime", series("average", "1")), false}, {"azures", body("CpuTime"), false},
		{"azures", changes{`"timeseries": [`: `"timeseries": {}, "x": [`}.with(body("CpuTime", series("average", "2"))), false},
	} {
		if got := answering(t, questions[c.rule], c.body); got != c.met {
			t.Errorf("%d: %s takes %s: %v", i, c.rule, c.body, got)
		}
	}
}

// What Azure answers about alerts: none that is active, and nothing more to read.
func TestAzureAlertsAnswers(t *testing.T) {
	q := presetQuestions(t, "https://s.example", issue)["alerts"]
	alert := func(severity, state, condition string) string {
		return fmt.Sprintf(`{"name": "a", "properties": {"essentials": {"severity": %q, "alertState": %q, "monitorCondition": %q}}}`, severity, state, condition)
	}
	list := func(alerts ...string) string { return `{"value": [` + strings.Join(alerts, ", ") + `]}` }
	for i, c := range []struct {
		body string
		met  bool
	}{
		{list(), true}, {`{"value": [], "nextLink": null}`, true}, {`{"value": [], "nextLink": ""}`, true}, {`{"value": [], "nextLink": "https://management.azure.com/x"}`, false},
		{list(alert("Sev0", "New", "Fired")), false}, {list(alert("Sev1", "Acknowledged", "Fired")), false}, {list(alert("Sev2", "New", "Fired")), true}, {list(alert("Sev0", "Closed", "Fired")), true}, {list(alert("Sev0", "New", "Resolved")), true},
		{list(alert("Sev3", "New", "Fired"), alert("Sev0", "New", "Fired")), false}, {list(alert("", "", "")), false}, {list(alert("sev2", "New", "Fired")), false}, {list(`{}`), false}, {list(`null`), false}, {`{"value": {}}`, false}, {`{"value": null}`, false}, {`{}`, false}, {`[]`, false}, {"", false},
	} {
		if got := answering(t, q, c.body); got != c.met {
			t.Errorf("%d: %s: %v", i, c.body, got)
		}
	}
}

// What any service answers as JSON, and what several series are worth.
func TestNumberAnswers(t *testing.T) {
	questions := presetQuestions(t, "https://s.example", issue)
	now, err := time.Parse(time.RFC3339, questions["json"].Ask["now"])
	if err != nil {
		t.Fatal(err)
	}
	number := func(value, at string) string { return `{"load": [{"value": ` + value + `}], "at": ` + at + `}` }
	text := func(d time.Duration) string { return `"` + now.Add(d).Format(time.RFC3339) + `"` }
	vector := func(values ...string) string {
		var out []string
		for _, v := range values {
			out = append(out, `{"metric": {}, "value": [1.5, `+v+`]}`)
		}
		return `{"status": "success", "data": {"resultType": "vector", "result": [` + strings.Join(out, ", ") + `]}}`
	}
	for i, c := range []struct {
		rule, body string
		met        bool
	}{
		{"json", number("0", text(0)), true}, {"json", number(`"4.5"`, text(-119*time.Second)), true}, {"json", number("1", fmt.Sprint(now.Unix())), true}, {"json", number("5", text(0)), false}, {"json", number("-1", text(0)), false},
		{"json", number("1", text(-121*time.Second)), false}, {"json", number("1", text(2*time.Minute)), false}, {"json", number("1", "null"), false}, {"json", number("1", fmt.Sprint(now.UnixMilli())), false},
		{"json", number("1e999", text(0)), false}, {"json", number(`"1e999"`, text(0)), false}, {"json", number(`"-1e999"`, text(0)), false}, {"json", number(`"NaN"`, text(0)), false}, {"json", number("null", text(0)), false}, {"json", number("true", text(0)), false}, {"json", number("[1]", text(0)), false}, {"json", number(`"٣"`, text(0)), false},
		{"json", `{"load": [], "at": ` + text(0) + `}`, false}, {"json", `{"at": ` + text(0) + `}`, false},
		{"list", `{"loads": [1, 2, "3"]}`, true}, {"list", `{"loads": [1, 5]}`, false}, {"list", `{"loads": []}`, false}, {"list", `{"loads": 1}`, false}, {"list", `{"loads": {"1": 1}}`, false}, {"list", `{"loads": {}}`, false}, {"list", `{"loads": [1, null]}`, false}, {"list", `{"loads": "111"}`, false},
		{"series", vector(`"1"`), true}, {"series", vector(`"1"`, `"2"`), true}, {"series", vector(`"1"`, `"0"`), false}, {"series", vector(`"1"`, `"NaN"`), false}, {"series", vector(), false}, {"series", vector(`"1"`, `"+Inf"`), false},
	} {
		if got := answering(t, questions[c.rule], c.body); got != c.met {
			t.Errorf("%d: %s takes %s: %v", i, c.rule, c.body, got)
		}
	}
}

// Whatever a service answers to a preset, it costs a bounded time and passes nothing.
func TestPresetsHostile(t *testing.T) {
	s := hostile(t)
	questions := presetQuestions(t, s.URL, issue)
	for rule, q := range questions {
		for path, code := range map[string]string{"/metadata": "redirect_refused", "/endless": "answer_unfit", "/deep": "answer_unfit", "/million": "answer_unfit", "/many": "answer_unfit", "/bomb": "answer_unfit"} {
			q.Call.URL = s.URL + path
			q.Call.Places = nil
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			o := (&caller{reach: reach(t, home...)}).ask(ctx, q)
			cancel()
			if o.Missed == nil || o.Missed.Code != code {
				t.Errorf("%s at %s: %+v", rule, path, o)
			}
		}
	}
	big := strings.TrimSuffix(strings.Repeat(`{"a":1},`, 3000), ",") // many, and within the bounds of an answer
	for rule, body := range map[string]string{"alerts": `{"value": [` + big + `]}`, "azures": `{"value": [{"name": {"value": "CpuTime"}, "timeseries": [` + big + `]}]}`, "list": `{"loads": [` + big + `]}`, "series": `{"status": "success", "data": {"resultType": "vector", "result": [` + big + `]}}`} {
		begun := time.Now()
		if answering(t, questions[rule], body) || time.Since(begun) > 2*time.Second {
			t.Errorf("%s: a yes, or %s", rule, time.Since(begun))
		}
	}
}

// A change of Jira is asked with a token that a client is given, and read over HTTP.
func TestJiraOverHTTP(t *testing.T) {
	d := deskOf(t)
	s := staged(t, fmt.Sprintf(deploying, fmt.Sprintf(`{name: change, change: {jira: %q, parameter: change, field: customfield_7, retry: 5s, within: 2h, token: {tokenURL: %q, client: lk, secret: true}}}`, d.URL+"/ex/jira/1", d.URL+"/token")))
	s.secret("call@p@checked@change.secret", "a secret of the client")
	d.answers(`404 {"errorMessages": ["Issue does not exist or you do not have permission to see it."]}`)
	s.asker(reach(t, home...))
	id := s.deploys(map[string]string{"change": issue})
	s.gated(id, "call_bad")
	v, err := s.k.Deployment(context.Background(), dora, id)
	s.must(err)
	d.answers(fmt.Sprintf(`{"key": "CHG-42", "fields": {"customfield_7": %q, "status": {"name": "x", "statusCategory": {"key": "indeterminate"}}}}`, v.Digest))
	s.gated(id, "call_good")
	req, _ := d.last(t)
	if req.Method != "GET" || req.URL.Path != "/ex/jira/1/rest/api/3/issue/CHG-42" || req.Header.Get("Authorization") != "Bearer given-by-the-desk" {
		t.Errorf("%s %s %v", req.Method, req.URL, req.Header)
	}
	s.secretless("a secret of the client", "given-by-the-desk")
}

// A run that GitHub holds waits for a service, and GitHub is told yes only once the
// service has said so.
func TestHoldWaitsOnMetrics(t *testing.T) {
	d := deskOf(t)
	d.answers(`{"load": 9}`)
	g := lktest.NewGitHubAPI(t)
	s := staged(t, fmt.Sprintf(strings.Replace(heldRules, "checks: [", fmt.Sprintf("checks: [{name: load, metrics: {json: {url: %q, number: body.load}, below: \"5\", retry: 5s, within: 2h}}, ", d.URL+"/load?commit={commit}"), 1), g.URL))
	s.secret("app@github.key", string(g.Key))
	s.secret("app@github.secret", g.Secret)
	s.recorded(g)
	s.asker(reach(t, home...))
	s.holding()
	s.note("501")
	v := s.waiting()
	s.approve(v)
	if said := s.gated(v.ID, "call_bad"); !strings.Contains(said, "criteria_unmet") {
		t.Error(said)
	}
	if n := len(g.Reviews(true)); n > 0 {
		t.Errorf("it was told %d times before", n)
	}
	d.answers(`{"load": 1}`)
	s.comes("the answer", func() bool { return len(g.Reviews(true)) == 1 })
	if a := g.Reviews(true)[0]; a.State != "approved" || a.Environment != "production" {
		t.Errorf("told %+v", a)
	}
	if req, _ := d.last(t); req.URL.Query().Get("commit") != g.Commit {
		t.Errorf("asked at %s", req.URL)
	}
}
