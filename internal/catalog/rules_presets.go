package catalog

import (
	"fmt"
	"math"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/lockkeeper/lockkeeper"
)

// Bounds of presets and of places.
const (
	maxPlaces    = 10
	maxNumberCEL = 500 // bytes
	maxStatuses  = 10
)

var (
	azureResourceID   = regexp.MustCompile(`^/subscriptions/[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(/[A-Za-z0-9._()-]+)*$`)
	azureSubscription = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	azureName         = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9 ._/%()-]{0,199}$`)
	jiraField         = regexp.MustCompile(`^customfield_[0-9]{1,12}$`)
)

// places checks what a call says of the values in its URL.
func (v *rules) places(r *resource, at string, c Call) {
	if len(c.Places) > 0 {
		v.bounded(r, at, len(c.Places), maxPlaces)
	}
	open := Places(c.URL)
	for i, p := range c.Places {
		where := fmt.Sprintf("%s[%d]", at, i)
		switch {
		case !slices.Contains(open, p.Name):
			v.add(r, where+".name", "place_unknown", "The URL has no place {"+clip(p.Name, 60)+"}.", "Name one that stands in the URL, or leave this out.")
		case slices.ContainsFunc(c.Places[:i], func(o Place) bool { return o.Name == p.Name }):
			v.add(r, where+".name", "duplicate", "The place "+name(p.Name)+" stands there twice.", "Keep one of the two.")
		}
		if _, err := TicketPattern(p.Pattern); err != nil || p.Pattern == "" || len(p.Pattern) > maxTicketPattern {
			v.add(r, where+".pattern", "pattern_unfit", "The pattern is no RE2 pattern, or is too long.", "Write one that the whole value must match, such as [A-Z]+-[0-9]+.")
		}
	}
}

func (v *rules) metricsCheck(r *resource, at string, e *Environment, m MetricsCheck) {
	sources := 0
	for _, is := range []bool{m.Prometheus != "" || r.root.find(at).field("prometheus") != nil, m.Azure != nil, m.AzureAlerts != nil, m.JSON != nil} {
		if is {
			sources++
		}
	}
	if sources != 1 {
		v.add(r, at, "monitor_unclear", fmt.Sprintf("The check names %d monitors, and must name one.", sources), "Write exactly one of prometheus, azure, azureAlerts and json.")
		return
	}
	switch {
	case m.Azure != nil:
		v.azureMetric(r, at+".azure", *m.Azure)
	case m.AzureAlerts != nil:
		v.azureAlerts(r, at+".azureAlerts", *m.AzureAlerts)
	case m.JSON != nil:
		v.numberInJSON(r, at+".json", m)
	default:
		v.baseURL(r, at+".prometheus", m.Prometheus)
		if strings.TrimSpace(m.Query) == "" || len(m.Query) > maxQuery {
			v.add(r, at+".query", "query_unfit", fmt.Sprintf("A query has 1 to %d bytes.", maxQuery), "Write PromQL that gives one number.")
		}
	}
	if m.Query != "" && m.Prometheus == "" {
		v.add(r, at+".query", "query_unfit", "A query is for prometheus.", "Leave query out.")
	}
	v.numberBounds(r, at, m)
	v.preset(r, at, e, m.call())
}

// numberBounds checks what the number is held against. Alerts have none.
func (v *rules) numberBounds(r *resource, at string, m MetricsCheck) {
	switch {
	case m.AzureAlerts != nil && (m.Below != "" || m.Above != "" || m.Each):
		v.add(r, at, "bound_unfit", "Alerts are no number: none may be active.", "Leave below, above and each out.")
		return
	case m.AzureAlerts == nil && m.Below == "" && m.Above == "":
		v.add(r, at, "bound_missing", "The number is held against nothing.", "Write below, or above, or both.")
	}
	var read [2]float64
	for i, f := range []struct{ field, text string }{{"above", m.Above}, {"below", m.Below}} {
		n, err := strconv.ParseFloat(f.text, 64)
		if read[i] = n; f.text != "" && (err != nil || math.IsNaN(n) || math.Abs(n) > 1e15 || strings.ContainsAny(f.text, "xXpP_")) {
			v.add(r, at+"."+f.field, "number_unfit", name(f.text)+" is no number.", `Write one such as "0.01".`)
			return
		}
	}
	if m.Above != "" && m.Below != "" && read[0] >= read[1] {
		v.add(r, at, "bounds_cross", fmt.Sprintf("No number is above %s and below %s.", m.Above, m.Below), "Let above be less than below.")
	}
}

func (v *rules) azureMetric(r *resource, at string, a AzureMetric) {
	v.azureID(r, at+".resource", a.Resource)
	for field, text := range map[string]string{"metric": a.Metric, "namespace": a.Namespace} {
		if (text != "" || field == "metric") && !azureName.MatchString(text) {
			v.add(r, at+"."+field, "name_unfit", name(text)+" is no name of a metric or a namespace.", "Write it as Azure's REST API does, such as Http5xx.")
		}
	}
	if a.Aggregation != "" && !slices.Contains(Aggregations(), a.Aggregation) {
		v.add(r, at+".aggregation", "aggregation_unknown", "Azure aggregates to "+strings.Join(Aggregations(), ", ")+", and not to "+name(a.Aggregation)+".", "Write one of them.")
	}
	if len(a.Filter) > maxQuery || strings.ContainsFunc(a.Filter, func(c rune) bool { return c < ' ' || c > '~' || c == '{' || c == '}' }) {
		v.add(r, at+".filter", "filter_unfit", fmt.Sprintf("A filter has at most %d printable ASCII characters, and no braces.", maxQuery), "Write one such as Instance eq 'a'.")
	}
	v.length(r, at, "over", a.Over, time.Minute, 24*time.Hour)
	if a.over()%time.Second != 0 {
		v.add(r, at+".over", "duration_out_of_bounds", "The time is no whole number of seconds.", "Write minutes, such as 5m.")
	}
	if a.Endpoint != "" {
		v.baseURL(r, at+".endpoint", a.Endpoint)
	}
}

func (v *rules) azureAlerts(r *resource, at string, a AzureAlerts) {
	if !azureSubscription.MatchString(a.Subscription) {
		v.add(r, at+".subscription", "subscription_unfit", name(a.Subscription)+" is no id of a subscription.", "Write one such as 6f1c0c2e-3f49-4b36-9b8a-2f6f0e2f3a11.")
	}
	if a.ResourceGroup != "" && !azureName.MatchString(a.ResourceGroup) {
		v.add(r, at+".resourceGroup", "name_unfit", name(a.ResourceGroup)+" is no name of a resource group.", "Write it as Azure does.")
	}
	for field, text := range map[string]string{"resource": a.Resource, "rule": a.Rule} {
		if text != "" {
			v.azureID(r, at+"."+field, text)
		}
	}
	for i, s := range a.Severities {
		if !slices.Contains(Severities(), s) {
			v.add(r, fmt.Sprintf("%s.severities[%d]", at, i), "severity_unknown", name(s)+" is no severity.", "Write some of "+strings.Join(Severities(), ", ")+".")
		}
	}
	if a.Endpoint != "" {
		v.baseURL(r, at+".endpoint", a.Endpoint)
	}
}

// azureID refuses what could lead to another path than that of a resource.
func (v *rules) azureID(r *resource, at, id string) {
	dots := slices.ContainsFunc(strings.Split(strings.TrimPrefix(id, "/"), "/"), func(s string) bool { return strings.Trim(s, ".") == "" })
	if !azureResourceID.MatchString(id) || len(id) > maxQuery || dots {
		v.add(r, at, "resource_unfit", name(clip(id, 80))+" is no id of a resource.", "Write one such as /subscriptions/ID/resourceGroups/payments/providers/Microsoft.Web/sites/payments.")
	}
}

func (v *rules) numberInJSON(r *resource, at string, m MetricsCheck) {
	j := *m.JSON
	facts := CheckFacts()
	for _, p := range Places(j.URL) {
		if _, past := PastPlace(p); past || parameterPlace(p) {
			facts = append(facts, p)
		}
	}
	v.callURL(r, at+".url", j.URL, facts)
	fit := true
	for field, text := range map[string]string{"number": j.Number, "time": j.Time} {
		if text == "" && field == "time" {
			continue
		}
		if err := bodyExpression(text); err != nil {
			fit = false
			v.add(r, at+"."+field, "expression_unfit", "The expression does not compile: "+clip(err.Error(), 300)+".", "Write CEL over body, such as body.data[0].value.")
		}
	}
	if j.Time == "" && r.root.find(at).field("fresh") != nil {
		v.add(r, at+".fresh", "fresh_unfit", "Nothing says when the number was taken.", "Add time, or leave fresh out.")
	}
	v.length(r, at, "fresh", j.Fresh, 10*time.Second, 24*time.Hour)
	if _, err := CompileCheckCriteria(m.jsonCriteria(j)); fit && err != nil && (m.Above != "" || m.Below != "") {
		v.criteriaUnfit(r, at+".number", err)
	}
}

// bodyExpression refuses what is no expression by itself, or looks at no body.
func bodyExpression(text string) error {
	if strings.TrimSpace(text) == "" || len(text) > maxNumberCEL {
		return fmt.Errorf("it must have 1 to %d bytes", maxNumberCEL)
	}
	env, err := criteriaEnvironment()
	if err != nil {
		return err
	}
	checked, issues := env.Compile(text)
	if issues.Err() != nil {
		first := issues.Errors()[0]
		return fmt.Errorf("at column %d: %s", first.Location.Column()+1, clip(first.Message, 160))
	}
	used, err := criteriaVariables(checked.NativeRep().Expr(), CheckFacts())
	if err == nil && !slices.Contains(used, bodyVariable) {
		err = fmt.Errorf("it says nothing about body, so every answer would be the same")
	}
	return err
}

func (v *rules) changeCheck(r *resource, at string, e *Environment, c ChangeCheck) {
	jira, now := r.root.find(at).field("jira") != nil, r.root.find(at).field("serviceNow") != nil
	if jira == now {
		v.add(r, at, "change_unclear", "The check must name one system of changes.", "Write exactly one of serviceNow and jira.")
		return
	}
	if c.Parameter == "" || lockkeeper.CheckParameters(map[string]string{c.Parameter: "x"}) != nil {
		v.add(r, at+".parameter", "parameter_unfit", name(c.Parameter)+" is no name of a parameter.", "Write one such as change, and deploy with --parameter change=CHG0030001.")
	}
	if jira {
		v.jiraChange(r, at, c)
	} else {
		v.serviceNowChange(r, at, c)
	}
	v.preset(r, at, e, c.call())
}

func (v *rules) serviceNowChange(r *resource, at string, c ChangeCheck) {
	v.baseURL(r, at+".serviceNow", c.ServiceNow)
	word := func(text string) bool {
		return text != "" && len(text) <= maxField && !strings.ContainsFunc(text, func(c rune) bool { return c != '_' && (c < 'a' || c > 'z') && (c < '0' || c > '9') }) && (text[0] < '0' || text[0] > '9')
	}
	if !word(c.Field) || slices.Contains([]string{"number", "state", "start_date", "end_date", "short_description", "description"}, c.Field) {
		v.add(r, at+".field", "field_unfit", name(c.Field)+" is no field of its own for the digest.", "Write one such as u_lockkeeper_digest, which people do not write into.")
	}
	if len(c.State) > maxField || strings.ContainsFunc(c.State, func(c rune) bool { return c < ' ' || c > '~' || c == '"' || c == '\\' }) {
		v.add(r, at+".state", "state_unfit", name(c.State)+" is no state of a change.", `Write its value as the table says it, such as "-1".`)
	}
	if c.DataCenter || len(c.Statuses) > 0 || c.Category != "" || c.Window != nil {
		v.add(r, at, "change_unfit", "dataCenter, statuses, category and window are Jira's.", "Leave them out, or write jira in the place of serviceNow.")
	}
}

func (v *rules) jiraChange(r *resource, at string, c ChangeCheck) {
	v.baseURL(r, at+".jira", c.Jira)
	if u, err := url.Parse(c.Jira); err == nil && strings.HasSuffix(strings.ToLower(u.Hostname()), ".atlassian.net") {
		v.add(r, at+".jira", "url_unfit", "A site of the cloud takes no token of OAuth at this address.", "Write https://api.atlassian.com/ex/jira/CLOUD-ID, with the id that the site shows at /_edge/tenant_info.")
	}
	fields := map[string]string{"field": c.Field}
	if c.Window != nil {
		fields["window.start"], fields["window.end"] = c.Window.Start, c.Window.End
	}
	for at2, text := range fields {
		if !jiraField.MatchString(text) {
			v.add(r, at+"."+at2, "field_unfit", name(text)+" is no id of a field of its own.", "Write one such as customfield_10042: names are not unique in Jira, and whoever has a project may make a second field of the same name.")
		}
	}
	if c.Window != nil && (c.Window.Start == c.Window.End || c.Window.Start == c.Field || c.Window.End == c.Field) {
		v.add(r, at+".window", "field_unfit", "Two of the fields are the same.", "Write the ids of three fields.")
	}
	if c.Category != "" && !slices.Contains(StatusCategories(), c.Category) {
		v.add(r, at+".category", "category_unknown", "Jira has no category "+name(c.Category)+".", "Write one of "+strings.Join(StatusCategories(), ", ")+".")
	}
	if len(c.Statuses) > 0 {
		v.bounded(r, at+".statuses", len(c.Statuses), maxStatuses)
	}
	for i, s := range c.Statuses {
		if strings.TrimSpace(s) != s || s == "" || len(s) > maxField || strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) || c == '"' || c == '\\' }) {
			v.add(r, fmt.Sprintf("%s.statuses[%d]", at, i), "state_unfit", name(s)+" is no name of a status.", "Write it as the account that asks is shown it.")
		}
	}
	if c.State != "" || c.NoWindow {
		v.add(r, at, "change_unfit", "state and noWindow are ServiceNow's.", "Write statuses or category, and leave window out where it does not matter.")
	}
}
