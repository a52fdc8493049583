package forge

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Bounds of one call of a platform's API.
const (
	maxAnswer = 8 << 20
	patience  = 15 * time.Second
)

// following nothing: a token goes to the address that the catalog names, and nowhere else.
var direct = &http.Client{Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// A call is one call of a platform's API.
type call struct {
	method, address string
	head            map[string]string // who calls, and what else the platform wants to see
	body, into      any               // JSON; nil: none
}

// send makes one call and decodes its answer. The status is 0 where there was none.
func send(ctx context.Context, client *http.Client, c call) (int, error) {
	if client == nil {
		client = direct
	}
	var content io.Reader
	if c.body != nil {
		b, err := json.Marshal(c.body)
		if err != nil {
			return 0, err
		}
		content = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, c.method, c.address, content)
	if err != nil {
		return 0, &Problem{"address_unfit", "The platform's address cannot be asked.", true}
	}
	req.Header.Set("User-Agent", "lockkeeper")
	if c.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, value := range c.head {
		req.Header.Set(name, value)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, &Problem{"platform_unreachable", "The platform cannot be reached.", false}
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil || len(answer) > maxAnswer {
		return resp.StatusCode, &Problem{"answer_malformed", "The platform's answer breaks off, or is too long.", false}
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return resp.StatusCode, &Problem{"platform_refused", fmt.Sprintf("The platform answered with the status %d.", resp.StatusCode), resp.StatusCode == http.StatusUnprocessableEntity}
	}
	if c.into != nil && json.Unmarshal(answer, c.into) != nil {
		return resp.StatusCode, &Problem{"answer_malformed", "The platform's answer is no JSON of the documented shape.", false}
	}
	return resp.StatusCode, nil
}
