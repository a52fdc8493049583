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

// send makes one call and decodes its answer. The status is 0 where there was none.
func send(ctx context.Context, client *http.Client, method, address, token string, body, into any) (int, error) {
	if client == nil {
		client = direct
	}
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return 0, err
		}
		content = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, address, content)
	if err != nil {
		return 0, &Problem{"address_unfit", "The platform's address cannot be asked.", true}
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Accept", "application/vnd.github+json")
	req.Header.Set("X-GitHub-Api-Version", "2022-11-28")
	req.Header.Set("User-Agent", "lockkeeper")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
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
	if into != nil && json.Unmarshal(answer, into) != nil {
		return resp.StatusCode, &Problem{"answer_malformed", "The platform's answer is no JSON of the documented shape.", false}
	}
	return resp.StatusCode, nil
}
