package catalog

import (
	"cmp"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// ChangeCheck asks ServiceNow or Jira for the change that a parameter of the ask names.
// It passes while the change is in the state to be implemented, inside its planned
// window, and carries the ask's digest in a field; a title proves nothing. Exactly one
// of serviceNow and jira says whom.
type ChangeCheck struct {
	ServiceNow string `json:"serviceNow,omitempty"` // URL of the instance: https://acme.service-now.com
	// Jira is the URL of a site: https://api.atlassian.com/ex/jira/CLOUD-ID in the cloud,
	// or that of a Data Center.
	Jira       string `json:"jira,omitempty"`
	DataCenter bool   `json:"dataCenter,omitempty"` // for jira: a Data Center, which has version 2 of the API
	Parameter  string `json:"parameter"`            // of the ask, with the number of the change: CHG0030001, or the issue's key: CHG-42
	// Field of the change holds the ask's digest and nothing else: u_lockkeeper_digest,
	// or customfield_10042.
	Field string `json:"field"`
	State string `json:"state,omitempty"` // for serviceNow: its value; default "-1", Implement
	// Statuses are, for jira, the names of those of which the issue must have one;
	// default: any of the category.
	Statuses []string `json:"statuses,omitempty"`
	// Category is, for jira, the key of the category of its status: new, indeterminate
	// or done. Default: indeterminate, which is in progress, or any if statuses are named.
	Category string        `json:"category,omitempty"`
	Window   *ChangeWindow `json:"window,omitempty"`   // for jira: its planned window; default: it does not matter
	NoWindow bool          `json:"noWindow,omitempty"` // for serviceNow: its planned start and end do not matter

	Retry    Duration   `json:"retry,omitempty"`
	Validity Duration   `json:"validity,omitempty"` // how long before the release it was read at most
	Within   Duration   `json:"within,omitempty"`
	Token    *CallToken `json:"token,omitempty"`
}

// ChangeWindow names the fields of an issue with its planned start and end. They hold
// dates with times.
type ChangeWindow struct {
	Start string `json:"start"` // customfield_10050
	End   string `json:"end"`   // customfield_10051
}

const (
	implementing   = "-1"            // ServiceNow's state Implement
	indeterminate  = "indeterminate" // Jira's category In Progress
	issueKey       = `[A-Z][A-Z0-9_]{1,49}-[1-9][0-9]{0,9}`
	changeNumber   = `[A-Za-z0-9_-]{1,40}`
	serviceNowTime = `^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}$` // how its table API writes an instant, in UTC
)

// StatusCategories are the keys of Jira's.
func StatusCategories() []string { return []string{"new", indeterminate, "done"} }

func (c ChangeCheck) call() CallCheck {
	out := CallCheck{Validity: c.Validity, Within: c.Within, Service: Call{Method: "GET", Retry: c.Retry, Token: c.Token}}
	if c.Jira != "" {
		out.Service.URL, out.Service.Criteria = c.jiraURL(), c.jiraCriteria()
		out.Service.Places = []Place{{ParameterFact(c.Parameter), issueKey}}
		return out
	}
	fact := ParameterFact(c.Parameter)
	criteria := fmt.Sprintf(`size(body.result) == 1 && body.result[0].number == ask[%q] && body.result[0].%s == ask.digest && body.result[0].state == %q`, fact, c.Field, cmp.Or(c.State, implementing))
	fields := "number,state," + c.Field
	if !c.NoWindow {
		criteria += ` && body.result[0].start_date.matches("` + serviceNowTime + `") && body.result[0].end_date.matches("` + serviceNowTime + `") && body.result[0].start_date <= ask.utc && ask.utc < body.result[0].end_date`
		fields += ",start_date,end_date"
	}
	out.Service.URL = strings.TrimSuffix(c.ServiceNow, "/") + "/api/now/table/change_request?sysparm_limit=2&sysparm_query=number={" + fact + "}&sysparm_fields=" + url.QueryEscape(fields)
	out.Service.Criteria, out.Service.Places = criteria, []Place{{fact, changeNumber}}
	return out
}

func (c ChangeCheck) jiraURL() string {
	version, fields := "3", "status,"+c.Field
	if c.DataCenter {
		version = "2"
	}
	if c.Window != nil {
		fields += "," + c.Window.Start + "," + c.Window.End
	}
	return strings.TrimSuffix(c.Jira, "/") + "/rest/api/" + version + "/issue/{" + ParameterFact(c.Parameter) + "}?fields=" + url.QueryEscape(fields)
}

// jiraCriteria take the issue of that very key: an issue that was moved answers under
// its old key, too.
func (c ChangeCheck) jiraCriteria() string {
	field := "body.fields." + c.Field
	out := fmt.Sprintf(`body.key == ask[%q] && `, ParameterFact(c.Parameter))
	if c.DataCenter {
		out += field + " == ask.digest"
	} else {
		out += fmt.Sprintf(`(type(%[1]s) == string ? %[1]s == ask.digest : %[2]s)`, field, richText(field))
	}
	category := c.Category
	if category == "" && len(c.Statuses) == 0 {
		category = indeterminate
	}
	if category != "" {
		out += fmt.Sprintf(` && body.fields.status.statusCategory.key == %q`, category)
	}
	if len(c.Statuses) > 0 {
		var names []string
		for _, s := range c.Statuses {
			names = append(names, strconv.Quote(s))
		}
		out += " && body.fields.status.name in [" + strings.Join(names, ", ") + "]"
	}
	if c.Window != nil {
		out += fmt.Sprintf(" && instant(body.fields.%s) <= timestamp(ask.now) && timestamp(ask.now) < instant(body.fields.%s)", c.Window.Start, c.Window.End)
	}
	return out
}

// richText reads a field of several lines of Jira's cloud (Atlassian Document Format):
// one paragraph with one plain text, which is the digest. Text that is struck out, in a
// quotation, or beside other text, is not.
func richText(field string) string {
	text := field + ".content[0].content[0]"
	return fmt.Sprintf(`%[1]s.type == "doc" && size(%[1]s.content) == 1 && %[1]s.content[0].type == "paragraph" && size(%[1]s.content[0].content) == 1 && %[2]s.type == "text" && !has(%[2]s.marks) && %[2]s.text == ask.digest`, field, text)
}
