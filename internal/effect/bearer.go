package effect

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// bearers are the tokens that services of tokens gave, until shortly before they end.
// They are kept in memory and nowhere else. A token is kept for one check, one client
// and one secret, so that no check has that of another, and a secret that was changed
// is shown at once. The zero value holds none.
type bearers struct {
	mu  sync.Mutex
	all map[string]bearer
}

type bearer struct {
	token string
	until time.Time
}

// Bounds of what is kept. What says nothing of its end is not kept.
const (
	maxBearers    = 1000
	bearerMargin  = 30 * time.Second // before its end from which a token is not shown any more
	longestBearer = time.Hour
)

func (b *bearers) get(key string, now time.Time) (string, bool) {
	if b == nil {
		return "", false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	kept, is := b.all[key]
	return kept.token, is && now.Before(kept.until)
}

// put keeps a token that lasts so long from now on.
func (b *bearers) put(key, token string, lasts time.Duration, now time.Time) {
	lasts = min(lasts, longestBearer) - bearerMargin
	if b == nil || lasts <= 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for k, kept := range b.all {
		if !now.Before(kept.until) {
			delete(b.all, k)
		}
	}
	if b.all == nil {
		b.all = map[string]bearer{}
	}
	if len(b.all) < maxBearers {
		b.all[key] = bearer{token, now.Add(lasts)}
	}
}

func (b *bearers) drop(key string) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.all, key)
}

// bearer is the token of the call: Lockkeeper's own, or one that a client is given for
// it or for a secret (RFC 6749, section 4.4; RFC 7523, section 2.2). What was given is
// shown again until it ends, unless fresh; Lockkeeper's own is made for each attempt.
func (c *caller) bearer(ctx context.Context, q keeper.OpenQuestion, fresh bool) (token string, kept bool, err error) {
	t := q.Call.Token
	own, secret := "", ""
	if t.Secret {
		secret, err = c.secrets.of(secretFile(q, "secret"))
	} else if own, err = c.assert(q, t.Audience); err != nil {
		err = &Failure{"assertion_missing", "Lockkeeper made no token for the service.", true}
	}
	if err != nil || t.TokenURL == "" {
		return own, false, err
	}
	if err := checkScheme(t.TokenURL); err != nil {
		return "", false, err
	}
	key := lockkeeper.DigestOf([]byte(strings.Join([]string{secretFile(q, "secret"), t.TokenURL, t.Client, t.Scope, t.Audience, secret}, "\n"))).Hex()
	if fresh {
		c.bearers.drop(key)
	} else if token, kept = c.bearers.get(key, time.Now()); kept {
		return token, true, nil
	}
	asked := time.Now()
	token, lasts, err := c.fetchBearer(ctx, q, own, secret)
	if err == nil {
		c.bearers.put(key, token, lasts, asked)
	}
	return token, false, err
}

// fetchBearer asks a service of tokens, through the dialer of all calls.
func (c *caller) fetchBearer(ctx context.Context, q keeper.OpenQuestion, own, secret string) (token string, lasts time.Duration, err error) {
	t := q.Call.Token
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {t.Client}}
	if t.Scope != "" {
		form.Set("scope", t.Scope)
	}
	if t.Secret {
		form.Set("client_secret", secret)
	} else {
		form.Set("client_assertion_type", assertionOAuth)
		form.Set("client_assertion", own)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.TokenURL, strings.NewReader(form.Encode()))
	if err != nil {
		return "", 0, &Failure{"url_unfit", "The tokenURL of the call cannot be asked.", true}
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", userAgent)
	resp, data, err := c.send(ctx, req)
	if err != nil {
		return "", 0, err
	}
	var got struct {
		Token string          `json:"access_token"`
		Type  string          `json:"token_type"`
		Lasts json.RawMessage `json:"expires_in"`
	}
	if err := json.Unmarshal(data, &got); err != nil || resp.StatusCode != http.StatusOK || !strings.EqualFold(got.Type, "Bearer") || !bearerText(got.Token) {
		return "", 0, &Failure{"token_refused", fmt.Sprintf("The service of tokens gives none: status %d.", resp.StatusCode), true}
	}
	return got.Token, seconds(got.Lasts), nil
}

// seconds reads expires_in, which some write as text; nothing else is a length of time.
func seconds(raw json.RawMessage) time.Duration {
	n, err := strconv.ParseUint(strings.Trim(string(raw), `"`), 10, 31)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}
