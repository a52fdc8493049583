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
	fixed    string // a token in hand
	suffix   string // behind the server's audience
	audience string // what the server wants; asked once
}

// client is the API client that shows a token of the job that this process runs
// in and, on Azure DevOps, the job's access token for a look-up of its run.
func (p *ciPlatform) client(ctx context.Context) (api.Client, error) {
	token, err := p.token(ctx)
	c := p.app.client().With(token)
	c.Access = p.access()
	return c, err
}

func (p *ciPlatform) access() string {
	if os.Getenv("SYSTEM_OIDCREQUESTURI") == "" {
		return ""
	}
	return os.Getenv("SYSTEM_ACCESSTOKEN")
}

// token is a token of the job that this process runs in.
func (p *ciPlatform) token(ctx context.Context) (string, error) {
	if p.fixed != "" {
		return p.fixed, nil
	}
	if address := os.Getenv("SYSTEM_OIDCREQUESTURI"); address != "" && p.file == "" {
		return azureToken(ctx, address, os.Getenv("SYSTEM_ACCESSTOKEN"))
	}
	if token := os.Getenv("LOCKKEEPER_ID_TOKEN"); token != "" && p.file == "" {
		return token, nil // GitLab puts it there: id_tokens: {LOCKKEEPER_ID_TOKEN: {aud: …}}
	}
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
			WithNext("On GitHub Actions give the job `permissions: id-token: write`; on GitLab declare id_tokens: {LOCKKEEPER_ID_TOKEN: {aud: %s}}; on Azure Pipelines map SYSTEM_ACCESSTOKEN: $(System.AccessToken); elsewhere name a file with --token-file.", p.audience)
	}
	return githubToken(ctx, address, secret, p.audience+p.suffix)
}

func platformAway(why string) error {
	return lockkeeper.Unavailable.Errorf("platform_unreachable", "The CI platform hands out no token: %s.", why).WithNext("Run the job again.")
}

// githubToken asks GitHub's runner for a token, as its documentation for
// custom actions describes.
func githubToken(ctx context.Context, address, secret, audience string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", platformAway("its address is malformed")
	}
	q := u.Query()
	q.Set("audience", audience)
	u.RawQuery = q.Encode()
	return platformToken(ctx, http.MethodGet, u.String(), secret, "value")
}

// azureToken asks Azure Pipelines for the pipeline's own token (Oidctoken -
// Create, api-version 7.1). Its audience cannot be chosen.
func azureToken(ctx context.Context, address, access string) (string, error) {
	if access == "" {
		return "", lockkeeper.Unauthenticated.Errorf("access_token_missing", "The job has no access token, so Azure Pipelines hands out no OIDC token.").
			WithNext("Map it in the step: env: {SYSTEM_ACCESSTOKEN: $(System.AccessToken)}")
	}
	u, err := url.Parse(address)
	if err != nil {
		return "", platformAway("its address is malformed")
	}
	q := u.Query()
	q.Set("api-version", "7.1")
	u.RawQuery = q.Encode()
	return platformToken(ctx, http.MethodPost, u.String(), access, "oidcToken")
}

// platformToken asks a platform for a token and reads it from one field of the
// answer.
func platformToken(ctx context.Context, method, address, secret, field string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, address, nil)
	if err != nil {
		return "", platformAway("its address is malformed")
	}
	req.Header.Set("Authorization", "bearer "+secret)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", platformAway("it does not answer")
	}
	defer resp.Body.Close()
	var answer map[string]any
	err = json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&answer)
	token, _ := answer[field].(string)
	if err != nil || resp.StatusCode != http.StatusOK || token == "" {
		return "", platformAway("it answers " + resp.Status)
	}
	return token, nil
}
