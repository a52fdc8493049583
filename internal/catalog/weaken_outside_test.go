package catalog

func outsideJudgements() map[string]judgement {
	return map[string]judgement{
		"Check.Call":    {weaker: []edit{{`call: {service: {url: "https://service.example.com/k", criteria: body.fine == true, retry: 20s}, steady: {answers: 5, for: 4m}, within: 5h}`, "delay: {for: 10m}", true}}},
		"Check.Metrics": {weaker: []edit{{`metrics: {prometheus: "https://prometheus.example.com", query: up, above: "0.5"}`, "delay: {for: 10m}", true}}},
		"Check.Change":  {weaker: []edit{{`change: {serviceNow: "https://acme.service-now.com", parameter: change, field: u_digest, state: "-2", retry: 31s, validity: 12m, within: 3h, token: {audience: snow}}`, "delay: {for: 10m}", true}}},

		"CallCheck.Service": {weaker: []edit{{"service.example.com/k", "other.example.com/k", true}, {"body.fine == true, retry: 20s", "body.fine != false, retry: 20s", true},
			{"retry: 20s}, steady", "retry: 10s}, steady", true}, {"retry: 20s}, steady", "retry: 30s}, steady", true}}},
		"CallCheck.Steady":   {weaker: []edit{{", steady: {answers: 5, for: 4m}", "", false}}},
		"CallCheck.Validity": {weaker: []edit{{"validity: 10m, within: 1h", "validity: 20m, within: 1h", false}}},
		"CallCheck.Within":   {weaker: []edit{{", within: 1h", ", within: 2h", false}, {", within: 1h", "", false}}},
		"CallCheck.Callback": {weaker: []edit{{"criteria: body.fine == true}, callback: true", "criteria: body.fine == true}", true}}},
		"Steady.Answers":     {weaker: []edit{{"{answers: 5, for: 4m}", "{answers: 4, for: 4m}", false}, {"{answers: 5, for: 4m}", "{for: 4m}", false}}},
		"Steady.For":         {weaker: []edit{{"{answers: 5, for: 4m}", "{answers: 5, for: 3m}", false}, {"{answers: 5, for: 4m}", "{answers: 5}", false}}},

		"MetricsCheck.Prometheus": {weaker: []edit{{`prometheus.example.com", query: up, below`, `other.example.com", query: up, below`, true}}},
		"MetricsCheck.Query":      {weaker: []edit{{"query: up, below", "query: down, below", true}}},
		"MetricsCheck.Below":      {weaker: []edit{{`below: "0.5"`, `below: "0.6"`, true}}},
		"MetricsCheck.Above":      {weaker: []edit{{`above: "0.5"`, `above: "0.4"`, true}}},
		"MetricsCheck.Steady":     {weaker: []edit{{"steady: {answers: 2}, ", "", false}}},
		"MetricsCheck.Retry":      {weaker: []edit{{"retry: 30s", "retry: 20s", true}}},
		"MetricsCheck.Validity":   {weaker: []edit{{"validity: 11m", "validity: 12m", false}}},
		"MetricsCheck.Within":     {weaker: []edit{{"within: 2h", "within: 3h", false}}},
		"MetricsCheck.Token":      {weaker: []edit{{"audience: prom", "audience: other", true}}},

		"ChangeCheck.ServiceNow": {weaker: []edit{{"acme.service-now.com", "other.service-now.com", true}}},
		"ChangeCheck.Parameter":  {weaker: []edit{{"parameter: change, field", "parameter: other, field", true}}},
		"ChangeCheck.Field":      {weaker: []edit{{"field: u_digest", "field: u_other", true}}},
		"ChangeCheck.State":      {weaker: []edit{{`state: "-2"`, `state: "-1"`, true}}},
		"ChangeCheck.NoWindow":   {weaker: []edit{{`state: "-2"`, `state: "-2", noWindow: true`, true}}},
		"ChangeCheck.Retry":      {none: "how often one asks changes no answer where nothing is steady", not: []edit{{"retry: 31s", "retry: 32s", false}}},
		"ChangeCheck.Validity":   {weaker: []edit{{"validity: 12m", "validity: 13m", false}}},
		"ChangeCheck.Within":     {weaker: []edit{{"within: 3h", "within: 4h", false}}},
		"ChangeCheck.Token":      {weaker: []edit{{"audience: snow", "audience: other", true}}},

		"Call.Places": {weaker: []edit{{`places: [{name: parameter.q, pattern: "Q[0-9]+"}], `, "", true}}},
		"Place.Name":  {weaker: []edit{{`/{parameter.q}", places: [{name: parameter.q,`, `/{parameter.r}", places: [{name: parameter.r,`, true}}}, "Place.Pattern": {weaker: []edit{{`"Q[0-9]+"`, `"Q[0-9]*"`, true}}},

		"MetricsCheck.Azure":       {weaker: []edit{{"metrics: {azure: {resource: /subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/g, metric: Http5xx, namespace: spaced, aggregation: Total, filter: A eq 'b', over: 6m, endpoint: \"https://azure.example.com\"}", `metrics: {prometheus: "https://prometheus.example.com", query: up`, true}}},
		"MetricsCheck.AzureAlerts": {none: "it has fields of its own"}, "MetricsCheck.JSON": {none: "it has fields of its own"},
		"MetricsCheck.Each":    {weaker: []edit{{"each: true, ", "", true}}},
		"AzureMetric.Resource": {weaker: []edit{{"resourceGroups/g,", "resourceGroups/h,", true}}}, "AzureMetric.Metric": {weaker: []edit{{"Http5xx", "Http4xx", true}}}, "AzureMetric.Namespace": {weaker: []edit{{"namespace: spaced, ", "", true}}},
		"AzureMetric.Aggregation": {weaker: []edit{{"aggregation: Total, ", "", true}}}, "AzureMetric.Filter": {weaker: []edit{{"A eq 'b'", "A eq 'c'", true}}}, "AzureMetric.Over": {weaker: []edit{{"over: 6m", "over: 5m", true}}},
		"AzureMetric.Endpoint":     {weaker: []edit{{`, endpoint: "https://azure.example.com"`, "", true}}},
		"AzureAlerts.Subscription": {weaker: []edit{{"subscription: 00000000-0000-0000-0000-000000000002", "subscription: 00000000-0000-0000-0000-000000000003", true}}}, "AzureAlerts.ResourceGroup": {weaker: []edit{{"resourceGroup: alerting, ", "", true}}},
		"AzureAlerts.Resource": {weaker: []edit{{"0002/r,", "0002/s,", true}}}, "AzureAlerts.Rule": {weaker: []edit{{"0002/x,", "0002/y,", true}}}, "AzureAlerts.Severities": {weaker: []edit{{"[Sev0, Sev1]", "[Sev0]", true}}},
		"AzureAlerts.Endpoint": {weaker: []edit{{`, endpoint: "https://arm.example.com"`, "", true}}},
		"NumberInJSON.URL":     {weaker: []edit{{"https://json.example.com", "https://json2.example.com", true}}}, "NumberInJSON.Number": {weaker: []edit{{"body.load", "body.heat", true}}}, "NumberInJSON.Time": {weaker: []edit{{", time: body.at, fresh: 7m", "", true}}},
		"NumberInJSON.Fresh": {weaker: []edit{{"fresh: 7m", "fresh: 8m", true}}},

		"ChangeCheck.Jira":       {weaker: []edit{{`"https://jira.example.com",`, `"https://jiro.example.com",`, true}}},
		"ChangeCheck.DataCenter": {weaker: []edit{{"dataCenter: true, ", "", true}}}, "ChangeCheck.Statuses": {weaker: []edit{{"statuses: [Ready], ", "", true}}}, "ChangeCheck.Category": {weaker: []edit{{"category: done, ", "", true}}},
		"ChangeCheck.Window": {weaker: []edit{{", window: {start: customfield_2, end: customfield_3}", "", true}}}, "ChangeWindow.Start": {weaker: []edit{{"start: customfield_2", "start: customfield_5", true}}},
		"ChangeWindow.End": {weaker: []edit{{"end: customfield_3", "end: customfield_5", true}}},
	}
}
