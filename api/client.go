package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// A Client calls one server. The zero HTTP client is http.DefaultClient.
type Client struct {
	Server string // https://lockkeeper.example.com
	Bearer string // a session's secret, a handle, or a CI platform's token
	Access string // Azure DevOps: the job's own access token, for a look-up of its run
	HTTP   *http.Client
}

// With is the client with another bearer.
func (c Client) With(bearer string) Client { c.Bearer = bearer; return c }

// patient gives up on a server that takes a request and never answers; the
// longest answer that one makes wait for takes a minute.
var patient = &http.Client{Timeout: 100 * time.Second}

// maxReply bounds what is read of a reply.
const maxReply = 64 << 20

// Call sends a request to path below /api/v1 and decodes the reply into out
// (nil: none is wanted). A problem comes back as the *lockkeeper.Refusal that it
// was made from, an unreachable server as Unavailable server_unreachable.
func (c Client) Call(ctx context.Context, method, path string, in, out any, headers ...string) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.Server, "/")+"/api/v1"+path, body)
	if err != nil {
		return lockkeeper.Invalid.Errorf("server_malformed", "The server's address %q is malformed: %v.", c.Server, err).WithNext("Give it as https://HOST.")
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return c.Do(req, out)
}

// Do sends a request with the client's bearer and decodes the reply.
func (c Client) Do(req *http.Request, out any) error {
	if c.Bearer != "" {
		req.Header.Set("Authorization", "Bearer "+c.Bearer)
	}
	if c.Access != "" {
		req.Header.Set("Lockkeeper-Access-Token", c.Access)
	}
	client := c.HTTP
	if client == nil {
		client = patient
	}
	resp, err := client.Do(req)
	if err != nil {
		return lockkeeper.Unavailable.Errorf("server_unreachable", "The server %s cannot be reached: %v.", c.Server, errors.Unwrap(err)).
			WithNext("Check the address and whether it runs: lockkeeper serve").WithCause(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err != nil {
		return lockkeeper.Unavailable.Errorf("server_unreachable", "The reply of %s broke off: %v.", c.Server, err).WithNext("Ask again.").WithCause(err)
	}
	if resp.StatusCode >= 300 {
		p := Problem{Status: resp.StatusCode, Detail: fmt.Sprintf("The server answered %s.", resp.Status)}
		if json.Unmarshal(data, &p) != nil {
			p.Detail = fmt.Sprintf("%s answered %s, and not as Lockkeeper does.", c.Server, resp.Status)
		}
		p.Status = resp.StatusCode
		return p.Refusal()
	}
	if out == nil {
		return nil
	}
	if raw, ok := out.(*[]byte); ok {
		*raw = data
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return lockkeeper.Unavailable.Errorf("reply_malformed", "The reply of %s is not of this API.", c.Server).WithNext("Check the server's address.").WithCause(err)
	}
	return nil
}

// Deployment reads one deployment; with seen not "", it waits up to wait until
// what it shows differs from that.
func (c Client) Deployment(ctx context.Context, id, seen string, wait time.Duration) (Deployment, error) {
	q := ""
	if seen != "" {
		q = "?seen=" + url.QueryEscape(seen) + "&wait=" + strconv.Itoa(int(wait.Seconds()))
	}
	var d Deployment
	err := c.Call(ctx, http.MethodGet, "/deployments/"+url.PathEscape(id)+q, nil, &d)
	return d, err
}
