package forge

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// signingPrefix begins a signing token of GitLab's webhooks. Behind it stands the key, in
// base64.
const signingPrefix = "whsec_"

// messageAge is how old a signed message may be, or how far ahead.
const messageAge = 5 * time.Minute

// GitLabProven reports whether a message proves with its head that whoever sent it knows
// the webhook's secret. A secret that begins with whsec_ is a signing token: then only a
// signature counts, over id, time and body, as in Standard Webhooks, and not an old one.
// Any other is the secret token, which GitLab sends as it is. It takes the same time
// whatever differs.
func GitLabProven(secret string, head http.Header, body []byte, now time.Time) bool {
	if secret == "" {
		return false
	}
	encoded, signs := strings.CutPrefix(secret, signingPrefix)
	if !signs {
		want, given := sha256.Sum256([]byte(secret)), sha256.Sum256([]byte(head.Get("X-Gitlab-Token")))
		return subtle.ConstantTimeCompare(want[:], given[:]) == 1
	}
	key, err := base64.StdEncoding.DecodeString(encoded)
	id, stamp := head.Get("webhook-id"), head.Get("webhook-timestamp")
	seconds, bad := strconv.ParseInt(stamp, 10, 64)
	if err != nil || len(key) < 24 || bad != nil || id == "" || now.Sub(time.Unix(seconds, 0)).Abs() > messageAge {
		return false
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + stamp + "."))
	mac.Write(body)
	want, proven := mac.Sum(nil), false
	for _, one := range strings.Fields(head.Get("webhook-signature")) { // several while a token is changed
		given, is := strings.CutPrefix(one, "v1,")
		sum, err := base64.StdEncoding.DecodeString(given)
		proven = is && err == nil && hmac.Equal(want, sum) || proven
	}
	return proven
}

// gitlabMessage is what is read of a deployment's or a job's message (docs.gitlab.com,
// "Webhook events").
type gitlabMessage struct {
	Kind string `json:"object_kind"`

	Status      string          `json:"status"`        // of a deployment
	Deployable  int64           `json:"deployable_id"` // its job
	Environment json.RawMessage `json:"environment"`   // of a deployment its name, of a job an object or null

	JobStatus string `json:"build_status"`
	Job       int64  `json:"build_id"`
	ProjectID int64  `json:"project_id"` // of a job
	Project   struct {
		ID   int64  `json:"id"`
		Path string `json:"path_with_namespace"`
	} `json:"project"`
}

// GitLabAsking reads a message of the event that X-Gitlab-Event names. A deployment that
// is blocked asks, and so does a job that became manual and names an environment: servers
// that send no message of a blocked deployment send that one, and others both. So what an
// asking is known by is the job, and which pipeline it is of is read from the API.
// Whether it is held is not asked here: a manual job may wait for a button only.
func GitLabAsking(event string, body []byte) (a Asking, asks bool, err error) {
	if event != "Deployment Hook" && event != "Job Hook" {
		return a, false, nil
	}
	malformed := func(what string) (Asking, bool, error) {
		return Asking{}, false, &Problem{"message_malformed", what, true}
	}
	var m gitlabMessage
	if json.Unmarshal(body, &m) != nil {
		return malformed("The message is no JSON of a deployment or a job.")
	}
	var job int64
	var environment string
	switch {
	case event == "Deployment Hook" && m.Kind == "deployment" && m.Status == "blocked":
		if json.Unmarshal(m.Environment, &environment) != nil {
			return malformed("The message does not name the environment.")
		}
		job = m.Deployable
	case event == "Job Hook" && m.Kind == "build" && m.JobStatus == "manual":
		var named struct{ Name, Action string }
		if len(m.Environment) > 0 && json.Unmarshal(m.Environment, &named) != nil {
			return malformed("The message's environment is none.")
		}
		if named.Name == "" || named.Action != "" && named.Action != "start" {
			return a, false, nil // nothing is deployed
		}
		if m.ProjectID != m.Project.ID {
			return malformed("The message is of two projects.")
		}
		environment, job = named.Name, m.Job
	default:
		return a, false, nil
	}
	a = Asking{Repository: id(m.Project.ID), Place: m.Project.Path, Environment: environment, Mark: id(job)}
	if a.Repository == "" || a.Mark == "" || !pathFit(a.Place) || environment == "" || len(environment) > 255 {
		return malformed("The message does not name project, job and environment.")
	}
	return a, true, nil
}

// pathFit reports whether a project can be called so: groups and their subgroups, and the
// project, of the characters that GitLab takes.
func pathFit(s string) bool {
	parts := strings.Split(s, "/")
	for _, p := range parts {
		if p == "" || p == "." || p == ".." || len(p) > 255 || strings.Trim(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._+") != "" {
			return false
		}
	}
	return len(parts) >= 2 && len(s) <= 1024
}
