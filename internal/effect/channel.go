package effect

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// channels knows where messages go: to what the file channel@NAME says, in the folder of
// secrets, as JSON:
//
//	slack, teams:  {"url": "https://hooks…"}
//	webhook:       {"url": "https://…", "key": "whsec_…"}
//	mail:          {"url": "smtps://user:password@mail.example.com:465", "from": "lockkeeper@example.com",
//	                "to": "{user}@example.com", "addresses": {"ann": "ann.huber@example.com"}}
//
// An address is a secret: who knows that of a chat may write there. No failure names one.
type channels struct {
	secrets secrets
	reach   Reach
	address string         // of this server
	roots   *x509.CertPool // that mail servers are verified with; nil: the system's
}

// channelFile is what a file says.
type channelFile struct {
	URL       string            `json:"url"`
	Key       string            `json:"key"`       // webhook: what messages are signed with
	From      string            `json:"from"`      // mail
	To        string            `json:"to"`        // mail: the address of whoever addresses does not name, with {user} for his name
	Addresses map[string]string `json:"addresses"` // mail: by user
	Auth      string            `json:"auth"`      // mail: plain (the default) or login
}

func (c channels) file(name string) (channelFile, *url.URL, error) {
	var f channelFile
	text, err := c.secrets.of("channel@" + name)
	if err != nil {
		return f, nil, err
	}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	unfit := &Failure{"channel_unfit", "The file channel@" + name + " in the folder of secrets does not say where messages go.", true}
	if err := dec.Decode(&f); err != nil || dec.More() {
		return f, nil, unfit // not the text of err: it may hold what is in the file
	}
	u, err := url.Parse(f.URL)
	if err != nil || u.Hostname() == "" || u.Fragment != "" {
		return f, nil, unfit
	}
	return f, u, nil
}

// send sends one message.
func (c channels) send(ctx context.Context, d keeper.Delivery) error {
	f, u, err := c.file(d.Channel)
	if err != nil {
		return err
	}
	switch d.Via {
	case "mail":
		return c.mail(ctx, f, u, d)
	case "slack":
		return c.post(ctx, u, c.slack(d), nil)
	case "teams":
		return c.post(ctx, u, c.teams(d), nil)
	case "webhook":
		return c.hook(ctx, f, u, d)
	}
	return &Failure{"kind_unknown", "This release does not know this kind of channel.", true}
}

// link leads to a page of the server that says what to do. It decides nothing: whoever
// follows it, a scanner of mail too, changes nothing.
func (c channels) link(i keeper.DeliveryItem) string {
	kind, id, named := strings.Cut(i.Subject, "/")
	if !named {
		return c.address + "/open"
	}
	return c.address + "/open/" + url.PathEscape(kind) + "/" + url.PathEscape(id)
}

// headline says in a few words what a message is about.
func headline(d keeper.Delivery) string {
	if n := len(d.Items) + d.More; n > 1 {
		return fmt.Sprintf("Lockkeeper: %d things", n)
	}
	what := map[string]string{"deployments": "a deployment waits for approval", "requests": "an activation waits for approval", "overrides": "an override waits for approval",
		"reviews": "a review waits", "proposals": "a change of the rules waits", "campaigns": "a campaign asks", "notices": "a notice", "ended": "a deployment has ended", "alerts": "an alert", "test": "a test"}
	return "Lockkeeper: " + what[d.Items[0].About]
}

// post sends JSON to an address. Only https leaves this machine.
func (c channels) post(ctx context.Context, u *url.URL, body any, sign func(*http.Request, []byte)) error {
	if u.Scheme != "https" && !(u.Scheme == "http" && loopbackHost(u.Hostname())) {
		return &Failure{"address_refused", "Messages go to https addresses.", true}
	}
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(data))
	if err != nil {
		return &Failure{"channel_unfit", "The address of the channel cannot be asked.", true}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", userAgent)
	if sign != nil {
		sign(req, data)
	}
	client := outside(c.reach.admits)
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return unreachable(ctx, err)
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer)) // what they say is not for us
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return &Failure{"service_refused", fmt.Sprintf("The service answered with the status %d.", resp.StatusCode), false}
	}
	return nil
}

// hookBody is the body of a webhook, signed as Standard Webhooks says; its id is the
// message's, the same at every attempt.
type hookBody struct {
	Type      string   `json:"type"` // lockkeeper.notification
	Timestamp string   `json:"timestamp"`
	Data      hookData `json:"data"`
}

type hookData struct {
	Message      string     `json:"message"`
	Notification string     `json:"notification"`
	Items        []hookItem `json:"items"`
	More         int        `json:"more,omitempty"` // items beyond these
}

type hookItem struct {
	ID      string `json:"id"`
	About   string `json:"about"`
	Subject string `json:"subject"`
	Text    string `json:"text"`
	At      string `json:"at"`
	URL     string `json:"url"`
}

func (c channels) hook(ctx context.Context, f channelFile, u *url.URL, d keeper.Delivery) error {
	encoded, tagged := strings.CutPrefix(f.Key, webhookTag)
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || !tagged || len(key) < leastKey || len(key) > mostKey {
		return &Failure{"secret_unfit", fmt.Sprintf("The key in the file channel@%s must be %s and the base64 of %d to %d bytes.", d.Channel, webhookTag, leastKey, mostKey), true}
	}
	now := time.Now().UTC()
	body := hookBody{"lockkeeper.notification", now.Format(time.RFC3339), hookData{d.ID, d.Rule, []hookItem{}, d.More}}
	for _, i := range d.Items {
		body.Data.Items = append(body.Data.Items, hookItem{i.ID, i.About, i.Subject, i.Text, i.At.String(), c.link(i)})
	}
	return c.post(ctx, u, body, func(r *http.Request, data []byte) { signRequest(r, key, d.ID, now, data) })
}
