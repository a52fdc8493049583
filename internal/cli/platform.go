package cli

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
)

// ciPlatform fetches the CI platform's OIDC tokens for this server, fresh at
// each asking where the platform allows it.
type ciPlatform struct {
	app      *app
	file     string // a file with a token, instead of asking the platform
	suffix   string // behind the server's audience
	audience string // what the server wants; asked once
}

// token is a token of the job that this process runs in.
func (p *ciPlatform) token(ctx context.Context) (string, error) {
	if p.file != "" {
		b, err := os.ReadFile(p.file)
		if err != nil {
			return "", lockkeeper.Invalid.Errorf("token_file", "The token file cannot be read: %v.", err).WithField(p.file)
		}
		return strings.TrimSpace(string(b)), nil
	}
	if p.audience == "" {
		p.audience = os.Getenv("LOCKKEEPER_AUDIENCE") // where the catalog gives the provider one of its own
	}
	if p.audience == "" {
		var about api.About
		if err := p.app.client().Call(ctx, "GET", "/about", nil, &about); err != nil {
			return "", err
		}
		p.audience = about.Audience
	}
	address, secret := os.Getenv("ACTIONS_ID_TOKEN_REQUEST_URL"), os.Getenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
	if address == "" || secret == "" {
		return "", lockkeeper.Unauthenticated.Errorf("platform_unknown", "This is no job of a CI platform that hands out OIDC tokens.").
			WithNext("On GitHub Actions give the job `permissions: id-token: write`; elsewhere name a file with --token-file.")
	}
	return githubToken(ctx, address, secret, p.audience+p.suffix)
}

// githubToken asks GitHub's runner for a token, as its documentation for
// custom actions describes.
func githubToken(ctx context.Context, address, secret, audience string) (string, error) {
	away := func(why string) error {
		return lockkeeper.Unavailable.Errorf("platform_unreachable", "The CI platform hands out no token: %s.", why).WithNext("Run the job again.")
	}
	u, err := url.Parse(address)
	if err != nil {
		return "", away("its address is malformed")
	}
	q := u.Query()
	q.Set("audience", audience)
	u.RawQuery = q.Encode()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return "", away("its address is malformed")
	}
	req.Header.Set("Authorization", "bearer "+secret)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", away("it does not answer")
	}
	defer resp.Body.Close()
	var answer struct {
		Value string `json:"value"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&answer); err != nil || resp.StatusCode != http.StatusOK || answer.Value == "" {
		return "", away("it answers " + resp.Status)
	}
	return answer.Value, nil
}
