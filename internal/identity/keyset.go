package identity

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/token"
)

// keys are what is known of one issuer. A fetch runs beside the callers: those
// whose key is known never wait for it, and those who must wait share one.
type keys struct {
	mu      sync.Mutex
	set     token.KeySet
	got     lockkeeper.Moment // when the set was fetched; zero: never
	tried   lockkeeper.Moment // when the last fetch was begun
	running chan struct{}     // closed when the fetch that runs ends; nil: none runs
	failure error             // of the last fetch; nil if it went well
}

// keySet is the issuer's key set, fetched when there is none, when it is old,
// or when it lacks the key; at most once in fetchPause. A bad signature under a
// key that is known never causes a fetch, and an issuer that answers slowly
// holds up only those whose key is not known yet, and whoever comes first after
// a long silence: a key that the issuer took back in that time must not open
// anything. Once a fetch has failed, nobody waits for the next.
func (v *Verifier) keySet(ctx context.Context, issuer, kid string, now lockkeeper.Moment) (token.KeySet, error) {
	k, err := v.keysOf(issuer)
	if err != nil {
		return token.KeySet{}, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	known := k.usable(now) && k.set.Has(kid)
	old := now.Sub(k.got) >= freshKeys
	if (!known || old) && k.running == nil && (k.tried.IsZero() || now.Sub(k.tried) >= fetchPause) {
		k.tried, k.running = now, make(chan struct{})
		// One caller's impatience must not fail the fetch for the others.
		go v.refresh(context.WithoutCancel(ctx), issuer, k, now)
	}
	aged := now.Sub(k.got) >= agedKeys && k.failure == nil
	if known && !aged {
		return k.set, nil
	}
	if running := k.running; running != nil {
		k.mu.Unlock()
		select {
		case <-running:
		case <-ctx.Done():
		}
		k.mu.Lock()
	}
	switch {
	case !k.usable(now):
		return token.KeySet{}, away(issuer, k.failure)
	case !k.set.Has(kid) && (k.failure != nil || ctx.Err() != nil):
		return token.KeySet{}, away(issuer, cmp.Or(k.failure, ctx.Err())) // the key may be new; nobody can say
	}
	return k.set, nil
}

func (k *keys) usable(now lockkeeper.Moment) bool {
	return !k.got.IsZero() && now.Sub(k.got) < staleKeys
}

// refresh fetches the key set. What it cannot have leaves the last good set.
func (v *Verifier) refresh(ctx context.Context, issuer string, k *keys, now lockkeeper.Moment) {
	set, err := v.fetch(ctx, issuer)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failure = err; err == nil {
		k.set, k.got = set, now
	} else {
		v.log.Warn("the key set of an issuer cannot be had", "issuer", issuer, "last", k.got, "until", k.got.Add(staleKeys), "error", err)
	}
	close(k.running)
	k.running = nil
}

func away(issuer string, cause error) error {
	if cause == nil {
		cause = errors.New("not fetched yet")
	}
	return lockkeeper.Unavailable.Errorf("issuer_unreachable", "The key set of %s cannot be had: %v.", issuer, cause).
		WithNext("Check that this server reaches the issuer; ask again in %s.", fetchPause).WithCause(cause)
}

func (v *Verifier) keysOf(issuer string) (*keys, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	k := v.issuers[issuer]
	if k == nil {
		if len(v.issuers) >= maxIssuers {
			return nil, lockkeeper.Unavailable.Errorf("issuers_crowded", "More than %d issuers were configured since the start.", maxIssuers).WithNext("Start the server again.")
		}
		k = &keys{}
		v.issuers[issuer] = k
	}
	return k, nil
}

// fetch reads the issuer's discovery document and its key set. The document
// must name exactly the issuer (OpenID Connect Discovery 1.0, section 4.3), and
// the key set must lie on https, or on the issuer's own origin when that is a
// loopback address.
func (v *Verifier) fetch(ctx context.Context, issuer string) (token.KeySet, error) {
	base, err := url.Parse(issuer)
	if err != nil || base.Scheme != "https" && !(base.Scheme == "http" && loopback(base.Hostname())) {
		return token.KeySet{}, fmt.Errorf("the issuer is neither https nor http on a loopback address")
	}
	data, err := v.get(ctx, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return token.KeySet{}, err
	}
	var doc struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return token.KeySet{}, fmt.Errorf("its discovery document is no JSON object")
	}
	if doc.Issuer != issuer {
		return token.KeySet{}, fmt.Errorf("its discovery document is of another issuer")
	}
	at, err := url.Parse(doc.Keys)
	if err != nil || at.User != nil || at.Scheme != "https" && (at.Scheme != base.Scheme || at.Host != base.Host) {
		return token.KeySet{}, fmt.Errorf("its jwks_uri is neither https nor on its own address")
	}
	if data, err = v.get(ctx, doc.Keys); err != nil {
		return token.KeySet{}, err
	}
	set, err := token.ParseKeySet(data)
	if err != nil {
		return token.KeySet{}, err
	}
	if set.Len() == 0 {
		return token.KeySet{}, fmt.Errorf("its key set has no usable key")
	}
	return set, nil
}

func (v *Verifier) get(ctx context.Context, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("its address is malformed")
	}
	req.Header.Set("Accept", "application/json")
	resp, err := v.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("it does not answer: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers %s", resp.Status)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, token.MaxKeySet+1))
	if err != nil {
		return nil, fmt.Errorf("its answer breaks off: %w", err)
	}
	if len(data) > token.MaxKeySet {
		return nil, fmt.Errorf("its answer has more than %d bytes", token.MaxKeySet)
	}
	return data, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
