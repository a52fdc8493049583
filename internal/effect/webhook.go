package effect

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
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
	key, err := h.key(a.Provisioner)
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
	stamp := strconv.FormatInt(now.Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", userAgent)
	req.Header.Set("webhook-id", id)
	req.Header.Set("webhook-timestamp", stamp)
	req.Header.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(sign(key, id, stamp, body)))
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

func (h *webhook) key(provisioner string) ([]byte, error) {
	text, err := h.secrets.of(provisioner)
	if err != nil {
		return nil, err
	}
	encoded, tagged := strings.CutPrefix(text, webhookTag)
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || !tagged || len(key) < leastKey || len(key) > mostKey {
		return nil, &Failure{"secret_unfit", fmt.Sprintf("The file %s must hold %s and the base64 of %d to %d bytes.", provisioner, webhookTag, leastKey, mostKey), true}
	}
	return key, nil
}

// errAddress refuses an address before anything is sent there.
var errAddress = errors.New("the address is not one that a webhook may go to")

// client reaches one URL: without a proxy, without following anywhere else, and only
// at addresses that the terms allow, whatever its name resolves to.
func (h *webhook) client(address string, private bool) (*http.Client, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, &Failure{"url_unfit", "The provisioner's URL cannot be asked.", true}
	}
	loopback := u.Hostname() == "localhost"
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil {
		loopback = ip.Unmap().IsLoopback()
	}
	if loopback && !h.local || u.Scheme != "https" && !loopback {
		return nil, &Failure{"address_refused", "Webhooks go to https addresses, and to this machine itself only from a server that nobody else reaches.", true}
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second, Control: func(_, at string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(at)
		if err != nil || !reachable(to.Addr().Unmap(), private, loopback) {
			return errAddress
		}
		return nil
	}}
	transport := &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: 10 * time.Second, MaxResponseHeaderBytes: maxAnswer}
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, nil
}

// Addresses that are no private ones by name and lead there all the same: what
// providers use behind their own translation (RFC 6598), and IPv4 inside of IPv6
// (RFC 6052, RFC 3056).
var (
	sharedRange = netip.MustParsePrefix("100.64.0.0/10")
	translated  = []netip.Prefix{netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("2002::/16")}
)

// reachable says which addresses a webhook may go to. Those of a link, where clouds
// answer with a machine's own credentials, are none.
func reachable(ip netip.Addr, private, loopback bool) bool {
	switch {
	case loopback:
		return ip.IsLoopback()
	case !ip.IsGlobalUnicast(): // none, multicast, of a link, loopback
		return false
	case ip.IsPrivate() || sharedRange.Contains(ip):
		return private
	}
	return !slices.ContainsFunc(translated, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// unreachable tells apart what certainly never left us.
func unreachable(ctx context.Context, err error) error {
	var op *net.OpError
	switch {
	case errors.Is(err, errAddress):
		return &Failure{"address_refused", "The name of the service leads to an address that a webhook may not go to.", true}
	case errors.As(err, &op) && op.Op == "dial":
		return &Failure{"service_unreachable", "The service cannot be reached.", true}
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return &Failure{"service_unreachable", "The service broke off, or its certificate is not taken.", false}
}
