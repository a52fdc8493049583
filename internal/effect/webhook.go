package effect

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// A webhook asks a service over HTTP. Each ask is a POST of JSON, signed as
// Standard Webhooks says (https://www.standardwebhooks.com): the header
// webhook-signature is "v1," and the base64 of HMAC-SHA256 over
// webhook-id "." webhook-timestamp "." body, under the key that follows "whsec_"
// in base64. Any status 200 to 299 is yes; the answer to a verify is
// {"granted": true or false}.
//
// What the service does after it has answered, or after the deadline that the ask
// names, is its own affair: it must not.
type webhook struct {
	secrets secrets
	local   bool
}

func newWebhook(s secrets, local bool) *webhook { return &webhook{s, local} }

// webhookAsk is the body of an ask.
type webhookAsk struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      askData   `json:"data"`
}

type askData struct {
	Duty        string            `json:"duty"`
	Provisioner string            `json:"provisioner"`
	Activation  string            `json:"activation"`
	Account     string            `json:"account"` // the user of Lockkeeper
	Role        string            `json:"role"`
	Scope       lockkeeper.Scope  `json:"scope"`
	Ends        lockkeeper.Moment `json:"ends"`
	Deadline    lockkeeper.Moment `json:"deadline"` // nothing may be done about this ask later
	Attempt     int               `json:"attempt"`
}

// Bounds of a webhook.
const (
	maxAnswer  = 64 << 10
	leastKey   = 24 // bytes, as Standard Webhooks says
	mostKey    = 64
	userAgent  = "lockkeeper"
	webhookTag = "whsec_"
)

func (h *webhook) Grant(ctx context.Context, a Account) error {
	_, err := h.ask(ctx, keeper.GrantVerb, a)
	return err
}

func (h *webhook) Revoke(ctx context.Context, a Account) error {
	_, err := h.ask(ctx, keeper.RevokeVerb, a)
	return err
}

func (h *webhook) Verify(ctx context.Context, a Account) (bool, error) {
	data, err := h.ask(ctx, "verify", a)
	if err != nil {
		return false, err
	}
	var answer struct {
		Granted *bool `json:"granted"`
	}
	if err := json.Unmarshal(data, &answer); err != nil || answer.Granted == nil {
		return false, &Failure{"answer_unfit", `The service did not answer {"granted": true} or {"granted": false}.`, false}
	}
	return *answer.Granted, nil
}

// ask sends one signed ask and reads the answer.
func (h *webhook) ask(ctx context.Context, verb string, a Account) ([]byte, error) {
	if a.Terms.Webhook == nil {
		return nil, &Failure{"kind_unknown", "The provisioner is no webhook.", true}
	}
	key, err := h.secrets.signingKey(a.Provisioner)
	if err != nil {
		return nil, err
	}
	address := a.Terms.Webhook.URL
	client, err := h.client(address, a.Terms.Webhook.Private)
	if err != nil {
		return nil, err
	}
	defer client.CloseIdleConnections()
	now := time.Now().UTC()
	body, err := json.Marshal(webhookAsk{"lockkeeper." + verb, now.Truncate(time.Millisecond), askData{a.ID, a.Provisioner, a.Activation, a.Account, a.Terms.Role, a.Terms.Scope, a.Ends, a.Until, a.Attempt}})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return nil, &Failure{"url_unfit", "The provisioner's URL cannot be asked.", true}
	}
	id := fmt.Sprintf("%s.%s.%d", a.ID, verb, a.Attempt)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", userAgent)
	signRequest(req, key, id, now, body)
	resp, err := client.Do(req)
	if err != nil {
		return nil, unreachable(ctx, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return nil, &Failure{"service_refused", fmt.Sprintf("The service answered with the status %d.", resp.StatusCode), false}
	case err != nil:
		return nil, unreachable(ctx, err)
	case len(data) > maxAnswer:
		return nil, &Failure{"answer_unfit", fmt.Sprintf("The service answered more than %d bytes.", maxAnswer), false}
	}
	return data, nil
}

func sign(key []byte, id, stamp string, body []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + stamp + "."))
	mac.Write(body)
	return mac.Sum(nil)
}

// signingKey is the key in a file, as Standard Webhooks writes it.
func (s secrets) signingKey(name string) ([]byte, error) {
	text, err := s.of(name)
	if err != nil {
		return nil, err
	}
	encoded, tagged := strings.CutPrefix(text, webhookTag)
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || !tagged || len(key) < leastKey || len(key) > mostKey {
		return nil, &Failure{"secret_unfit", fmt.Sprintf("The file %s must hold %s and the base64 of %d to %d bytes.", name, webhookTag, leastKey, mostKey), true}
	}
	return key, nil
}

// client reaches one URL: without a proxy, without following anywhere else, and only
// at addresses that the terms allow, whatever its name resolves to.
func (h *webhook) client(address string, private bool) (*http.Client, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, &Failure{"url_unfit", "The provisioner's URL cannot be asked.", true}
	}
	loopback := loopbackHost(u.Hostname())
	if loopback && !h.local || u.Scheme != "https" && !loopback {
		return nil, &Failure{"address_refused", "Webhooks go to https addresses, and to this machine itself only from a server that nobody else reaches.", true}
	}
	return outside(func(ip netip.Addr) bool { return reachable(ip, private, loopback) }), nil
}

// reachable says which addresses a webhook may go to. Those of a link, where clouds
// answer with a machine's own credentials, are none.
func reachable(ip netip.Addr, private, loopback bool) bool {
	if loopback {
		return ip.IsLoopback()
	}
	return public(ip) || private && !never(ip) && (ip.IsPrivate() || sharedRange.Contains(ip))
}
