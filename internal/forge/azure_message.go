package forge

import (
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
)

// A Check is one evaluation of an "Invoke REST API" check of Azure DevOps, by the ids
// under which the service waits for its answer. They are ids and no secrets.
type Check struct {
	Project  string `json:"project"` // id of the team project
	Hub      string `json:"hub"`
	Plan     string `json:"plan"`
	Job      string `json:"job"`
	Task     string `json:"task"`
	Timeline string `json:"timeline"`
}

// An AzureMessage is what the headers of a check say, as its configuration fills them in.
type AzureMessage struct {
	Asking
	Access string // the job access token of the evaluation: a secret
	Polled bool   // the check takes the answer from the response, and asks again
}

// AzureSent reports whether a request carries the password of the service connection,
// which Azure DevOps sends as basic authentication whoever the user is. It takes the same
// time whatever differs.
func AzureSent(secret, authorization string) bool {
	kind, text, _ := strings.Cut(authorization, " ")
	plain, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	_, password, ok := strings.Cut(string(plain), ":")
	return strings.EqualFold(kind, "Basic") && err == nil && ok && secret != "" && subtle.ConstantTimeCompare([]byte(password), []byte(secret)) == 1
}

// AzureAsking reads the headers of a check (learn.microsoft.com, "Invoke Azure Function /
// REST API checks"), and those that our own set-up adds to them: BuildId, RepositoryId,
// Environment, Completion and StageAttempt. Its PlanUrl must be api's own address: no
// call ever goes to the one that a message names. organisation is the id of the one that
// the provider is of, for the headers do not say it.
func AzureAsking(api, organisation string, head http.Header) (m AzureMessage, err error) {
	malformed := func(what string) error { return &Problem{"message_malformed", "The message's " + what, true} }
	if !sameOrganisation(api, head.Get("PlanUrl")) {
		return m, malformed("PlanUrl is not the organisation that the provider's api names.")
	}
	c := Check{Hub: strings.ToLower(head.Get("HubName"))}
	for _, one := range []struct {
		to   *string
		name string
	}{{&c.Project, "ProjectId"}, {&c.Plan, "PlanId"}, {&c.Job, "JobId"}, {&c.Task, "TaskInstanceId"}, {&c.Timeline, "TimelineId"}} {
		if *one.to = strings.ToLower(head.Get(one.name)); !guid(*one.to) {
			return m, malformed("" + one.name + " is no GUID.")
		}
	}
	run, repository, environment, access := head.Get("BuildId"), head.Get("RepositoryId"), head.Get("Environment"), head.Get("AuthToken")
	switch {
	case c.Hub == "" || len(c.Hub) > 20 || strings.Trim(c.Hub, "abcdefghijklmnopqrstuvwxyz") != "":
		return m, malformed("HubName is none.")
	case run == "" || len(run) > 19 || run[0] == '0' || strings.Trim(run, "0123456789") != "":
		return m, malformed("BuildId is no number of a run.")
	case !wordFit(repository):
		return m, malformed("RepositoryId is missing, or has characters that no id has.")
	case !wordFit(environment):
		return m, malformed("Environment is missing: it names one of the catalog, as PROJECT/ENVIRONMENT.")
	case !accessFit(access):
		return m, malformed("AuthToken is missing or malformed.")
	}
	m = AzureMessage{Asking: Asking{Organisation: organisation, Repository: repository, Place: c.Project, Run: run, Environment: environment, Mark: c.Plan + "/" + c.Job + "/" + c.Task, Check: c}, Access: access}
	completion, attempt := head.Get("Completion"), head.Get("StageAttempt")
	switch {
	case completion == "" || strings.EqualFold(completion, "Callback"):
		return m, nil
	case !strings.EqualFold(completion, "ApiResponse"):
		return AzureMessage{}, malformed("Completion is neither Callback nor ApiResponse.")
	case attempt == "" || len(attempt) > 5 || strings.Trim(attempt, "0123456789") != "":
		return AzureMessage{}, malformed("StageAttempt is no number, and without it one evaluation cannot be told from the next attempt.")
	}
	// Each evaluation has ids of its own: what stays is the attempt of the stage.
	m.Polled, m.Mark = true, "attempt "+attempt
	return m, nil
}

// sameOrganisation reports whether a collection's address is the API that the catalog
// names. Of the public service both spellings are one organisation.
func sameOrganisation(api, collection string) bool {
	one, two := organisationOf(api), organisationOf(collection)
	return one != "" && one == two
}

// organisationOf is the plain spelling of a collection's address, or "" for what is none.
func organisationOf(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.Opaque != "" || u.RawQuery != "" || u.Fragment != "" || len(s) > 255 {
		return ""
	}
	host, path := strings.ToLower(u.Host), strings.Trim(strings.ToLower(u.EscapedPath()), "/")
	if name, old := strings.CutSuffix(host, ".visualstudio.com"); old && (path == "" || path == "defaultcollection") {
		host, path = "dev.azure.com", name
	}
	return u.Scheme + "://" + host + "/" + path
}

func guid(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range s {
		if dash := i == 8 || i == 13 || i == 18 || i == 23; dash != (c == '-') || !dash && !strings.ContainsRune("0123456789abcdef", c) {
			return false
		}
	}
	return true
}

// wordFit reports whether a text can be an id or a name: printable, and of one line.
func wordFit(s string) bool {
	return s != "" && len(s) <= 255 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

func accessFit(s string) bool {
	return s != "" && len(s) <= 16<<10 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}
