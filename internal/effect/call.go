package effect

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/gate"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// A caller puts questions to services. It knows what a Call says and nothing of who
// waits for the answer: a ticket of an activation, or a check of an environment. It
// decides nothing either: what it brings is an answer, or why there is none.
type caller struct {
	reach   Reach
	secrets secrets
	assert  func(q keeper.OpenQuestion, audience string) (string, error) // Lockkeeper's own token
	later   func(q keeper.OpenQuestion) (string, error)                  // where a service answers that answers later
	bearers *bearers                                                     // tokens that hold still; nil: each attempt fetches its own
}

// askBody is the body of a question.
type askBody struct {
	Type      string    `json:"type"` // lockkeeper.question
	Timestamp time.Time `json:"timestamp"`
	Data      asked     `json:"data"`
}

type asked struct {
	Question string            `json:"question"` // the same at every attempt
	About    string            `json:"about"`
	Rule     string            `json:"rule"`
	Deadline lockkeeper.Moment `json:"deadline"`
	Ask      map[string]string `json:"ask"`
	Callback string            `json:"callback,omitempty"` // where the answer is posted to, as JSON and once
}

// ask makes one attempt and gives its outcome.
func (c *caller) ask(ctx context.Context, q keeper.OpenQuestion) keeper.QuestionOutcome {
	answer, err := c.attempt(ctx, q)
	if err == nil && q.Series != nil && q.Series.Callback {
		return keeper.QuestionOutcome{Delivered: true}
	}
	if err == nil {
		return keeper.QuestionOutcome{Answer: &answer}
	}
	o := outcomeOf(err)
	return keeper.QuestionOutcome{Missed: &keeper.Missed{Code: o.Code, Reason: o.Reason}}
}

func (c *caller) attempt(ctx context.Context, q keeper.OpenQuestion) (keeper.Reply, error) {
	resp, data, err := c.exchange(ctx, q)
	if err != nil {
		return keeper.Reply{}, err
	}
	switch s := resp.StatusCode; {
	case s >= 300 && s < 400:
		return keeper.Reply{}, &Failure{"redirect_refused", "The service leads elsewhere, and nothing is followed.", false}
	case s < 200 || s >= 500 || s == 401 || s == 403 || s == 407 || s == 408 || s == 425 || s == 429:
		return keeper.Reply{}, &Failure{"service_refused", fmt.Sprintf("The service answered with the status %d.", s), false}
	}
	if q.Series != nil && q.Series.Callback { // what it says now is no answer yet
		if resp.StatusCode > 299 {
			return keeper.Reply{}, &Failure{"service_refused", fmt.Sprintf("The service answered with the status %d.", resp.StatusCode), false}
		}
		return keeper.Reply{}, nil
	}
	return judge(q, resp.StatusCode, data)
}

// exchange asks the service. A token that was kept and that it does not take any more,
// as it was revoked or its keys changed, is fetched anew once; one that was just
// fetched is not.
func (c *caller) exchange(ctx context.Context, q keeper.OpenQuestion) (*http.Response, []byte, error) {
	for again := false; ; again = true {
		req, kept, err := c.request(ctx, q, again)
		if err != nil {
			return nil, nil, err
		}
		resp, data, err := c.send(ctx, req)
		if err != nil || resp.StatusCode != http.StatusUnauthorized || !kept || again {
			return resp, data, err
		}
	}
}

// judge holds an answer against the criteria. What cannot be decided over a good answer
// is no yes; an answer that nobody can read is none.
func judge(q keeper.OpenQuestion, status int, data []byte) (keeper.Reply, error) {
	body, unread := gate.Document(data)
	r := keeper.Reply{Status: status, Body: lockkeeper.DigestOf(data)}
	met, err := gate.Met(q.Call, status, body, q.Ask)
	switch {
	case err != nil && unread != nil:
		return r, &Failure{"answer_unfit", "The service answered what is no JSON that can be read: " + unread.Error() + ".", false}
	case err != nil:
		r.Reason = "The criteria cannot be decided over it."
		if strings.HasPrefix(err.Error(), "no such key: ") { // a name out of the criteria
			r.Reason = "It has no field " + strings.TrimPrefix(err.Error(), "no such key: ") + ", which the criteria name."
		}
	default:
		r.Met = met
	}
	return r, nil
}

// request is the question as HTTP: addressed, proved, signed. kept says that its token
// was fetched for an earlier one; fresh, that none such will do.
func (c *caller) request(ctx context.Context, q keeper.OpenQuestion, fresh bool) (req *http.Request, kept bool, err error) {
	address, err := c.address(q)
	if err != nil {
		return nil, false, err
	}
	var body []byte
	now := time.Now().UTC()
	if q.Call.Verb() == http.MethodPost {
		about := asked{q.ID, q.About, q.Rule, q.Deadline, q.Ask, ""}
		if q.Series != nil && q.Series.Callback {
			if about.Callback, err = c.later(q); err != nil {
				return nil, false, &Failure{"callback_missing", "Lockkeeper made no address for the answer.", false}
			}
		}
		if body, err = json.Marshal(askBody{"lockkeeper.question", now.Truncate(time.Millisecond), about}); err != nil {
			return nil, false, err
		}
	}
	req, err = http.NewRequestWithContext(ctx, q.Call.Verb(), address, bytes.NewReader(body))
	if err != nil {
		return nil, false, &Failure{"url_unfit", "The URL of the call cannot be asked.", true}
	}
	req.Header.Set("Accept", "application/json")
	for _, h := range q.Call.Headers {
		req.Header.Set(h.Name, h.Value)
	}
	req.Header.Set("User-Agent", userAgent)
	req.Header.Set("Lockkeeper-Question", q.ID)
	req.Header.Set("Lockkeeper-Ask-Digest", q.Ask["digest"])
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if q.Call.Signed {
		key, err := c.secrets.signingKey(secretFile(q, "key"))
		if err != nil {
			return nil, false, err
		}
		signRequest(req, key, q.ID, now, body)
	}
	if q.Call.Token != nil {
		var bearer string
		if bearer, kept, err = c.bearer(ctx, q, fresh); err != nil {
			return nil, false, err
		}
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	return req, kept, nil
}

// secretFile is the name of a file that belongs to the call of a rule, or of a check of
// an environment. No provisioner can be called so, and no rule names a file itself; a
// check has those of its environment alone, as its name is only unique there.
func secretFile(q keeper.OpenQuestion, what string) string {
	rule := q.Rule
	if q.Series != nil {
		rule = q.Ask["project"] + "@" + q.Ask["environment"] + "@" + q.Rule // no name has an @
	}
	return "call@" + rule + "." + what
}

// address is the URL with the facts of the ask in their places. They are escaped, so
// that none of them leads to another path or host.
func (c *caller) address(q keeper.OpenQuestion) (string, error) {
	address, missing := gate.Address(q.Call, q.Ask)
	if missing != "" {
		return "", &Failure{unfitCode(missing), "The " + missing + " of the ask is not there, or cannot stand in an address.", true}
	}
	return address, checkScheme(address)
}

func unfitCode(place string) string {
	if place == "ticket" {
		return "ticket_unfit"
	}
	return "place_unfit"
}

// checkScheme refuses what would go over a network in the clear.
func checkScheme(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return &Failure{"url_unfit", "The URL of the call cannot be asked.", true}
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !loopbackHost(u.Hostname())) {
		return &Failure{"address_refused", "Calls go to https addresses, and in the clear to this machine itself only.", true}
	}
	return nil
}

// send makes one exchange and reads the answer, which is bounded.
func (c *caller) send(ctx context.Context, req *http.Request) (*http.Response, []byte, error) {
	client := outside(c.reach.admits)
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return nil, nil, unreachable(ctx, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, nil, unreachable(ctx, err)
	case len(data) > maxAnswer:
		return nil, nil, &Failure{"answer_unfit", fmt.Sprintf("The service answered more than %d bytes.", maxAnswer), false}
	}
	return resp, data, nil
}

// bearerText reports whether a token can stand in a header (RFC 6750, section 2.1).
func bearerText(s string) bool {
	return s != "" && len(s) <= 16<<10 && !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c >= 0x7f })
}

// signRequest signs as Standard Webhooks says.
func signRequest(req *http.Request, key []byte, id string, now time.Time, body []byte) {
	stamp := strconv.FormatInt(now.Unix(), 10)
	req.Header.Set("webhook-id", id)
	req.Header.Set("webhook-timestamp", stamp)
	req.Header.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(sign(key, id, stamp, body)))
}
