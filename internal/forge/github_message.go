package forge

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
)

// GitHubSigned reports whether X-Hub-Signature-256 is that of the body under the secret
// of the application (docs.github.com, "Validating webhook deliveries"). It takes the
// same time whatever differs.
func GitHubSigned(secret, header string, body []byte) bool {
	given, ok := strings.CutPrefix(header, "sha256=")
	sum, err := hex.DecodeString(given)
	if !ok || err != nil || secret == "" {
		return false
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return hmac.Equal(sum, mac.Sum(nil))
}

// githubRule is what is read of a deployment_protection_rule message.
type githubRule struct {
	Action      string `json:"action"`
	Environment string `json:"environment"`
	Callback    string `json:"deployment_callback_url"`
	Deployment  struct {
		ID int64 `json:"id"`
	} `json:"deployment"`
	Repository struct {
		ID       int64  `json:"id"`
		FullName string `json:"full_name"`
		Owner    struct {
			ID int64 `json:"id"`
		} `json:"owner"`
	} `json:"repository"`
	Installation struct {
		ID int64 `json:"id"`
	} `json:"installation"`
}

// GitHubAsking reads a deployment_protection_rule message whose action is requested.
// Another action is no asking, and no error. The address to answer to is not used: of it
// only the run's number is read, and it must be of the repository that the message is of.
func GitHubAsking(body []byte) (a Asking, asks bool, err error) {
	var m githubRule
	if json.Unmarshal(body, &m) != nil {
		return a, false, &Problem{"message_malformed", "The message is no JSON of a deployment protection rule.", true}
	}
	if m.Action != "requested" {
		return a, false, nil
	}
	a = Asking{Organisation: id(m.Repository.Owner.ID), Repository: id(m.Repository.ID), Place: m.Repository.FullName, Run: runOf(m.Callback, m.Repository.FullName),
		Environment: m.Environment, Installation: id(m.Installation.ID), Mark: id(m.Deployment.ID)}
	if a.Organisation == "" || a.Repository == "" || a.Run == "" || a.Installation == "" || a.Mark == "" || !placeFit(a.Place) || a.Environment == "" || len(a.Environment) > 255 {
		return a, false, &Problem{"message_malformed", "The message does not name repository, run, environment, deployment and installation.", true}
	}
	return a, true, nil
}

// id is a number of the platform's, or "" where there is none.
func id(n int64) string {
	if n <= 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// placeFit reports whether a repository can be called so: owner/name, of the characters
// that GitHub takes.
func placeFit(s string) bool {
	owner, name, ok := strings.Cut(s, "/")
	fit := func(s string) bool {
		return s != "" && s != "." && s != ".." && len(s) <= 100 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") == ""
	}
	return ok && fit(owner) && fit(name)
}

// runOf reads the run's number out of …/repos/OWNER/NAME/actions/runs/RUN/deployment_protection_rule.
func runOf(callback, place string) string {
	u, err := url.Parse(callback)
	if err != nil {
		return ""
	}
	_, rest, ok := strings.Cut(u.Path, "/repos/"+place+"/actions/runs/")
	run, end, ok2 := strings.Cut(rest, "/")
	n, err := strconv.ParseInt(run, 10, 64)
	if !ok || !ok2 || end != "deployment_protection_rule" || err != nil || id(n) != run {
		return ""
	}
	return run
}
