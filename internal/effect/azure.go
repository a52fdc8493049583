package effect

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// An azureRoles assigns roles of Azure through ARM
// (Microsoft.Authorization/roleAssignments, api-version 2022-04-01). It holds no
// secret: its assertion, signed with the keys of Lockkeeper's own issuer, is
// exchanged at the directory for a token of the application that trusts it
// (client credentials with a federated credential).
//
// An assignment has a name that follows from whom, what and where, so that every
// attempt is about the same one and an assignment that somebody made by hand is
// never touched. ARM itself tells other services a little later, and a token that
// somebody holds already may act for some minutes more.
type azureRoles struct {
	assertion func(e keeper.Effect, audience string) (string, error)
	reading   func(provisioner, audience string) (string, error) // for scans
	cloud     AzureCloud
}

// An AzureCloud is where a cloud of Azure answers.
type AzureCloud struct {
	Login      string // of its directory; default https://login.microsoftonline.com
	Management string // of ARM; default https://management.azure.com
}

const (
	azureAPI       = "2022-04-01"
	azureAudience  = "api://AzureADTokenExchange"
	azureTries     = 4 // of one call that is answered 429 or 503
	azureOwnPause  = time.Second
	assertionOAuth = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
)

func newAzureRoles(k *keeper.Keeper, cloud AzureCloud) *azureRoles {
	if cloud.Login == "" {
		cloud.Login = "https://login.microsoftonline.com"
	}
	if cloud.Management == "" {
		cloud.Management = "https://management.azure.com"
	}
	return &azureRoles{k.Assertion, k.ReadingAssertion, cloud}
}

// client follows nowhere: what is signed or fetched is for one address. The cloud is
// the server's own configuration, so that it may lie on a private network.
func (c AzureCloud) client() *http.Client {
	loopback := false
	for _, address := range []string{c.Login, c.Management} {
		if u, err := url.Parse(address); err == nil && loopbackHost(u.Hostname()) {
			loopback = true
		}
	}
	return outside(func(ip netip.Addr) bool {
		return reachable(ip, true, false) || loopback && ip.IsLoopback()
	})
}

// assignment is the path of the assignment of a duty.
func assignment(a Account) string {
	name := assignmentName(a.Target)
	if name == "" {
		return ""
	}
	return assignmentPathOf(a.Terms, name)
}

// digestBytes are the first 16 bytes of a digest.
func digestBytes(d lockkeeper.Digest) ([]byte, error) {
	text := d.Hex()
	b, err := hex.DecodeString(text[:min(32, len(text))])
	if err == nil && len(b) != 16 {
		err = errors.New("the digest is short")
	}
	return b, err
}

// roleAssignment is what ARM takes and gives.
type roleAssignment struct {
	Properties struct {
		RoleDefinitionID string `json:"roleDefinitionId"`
		PrincipalID      string `json:"principalId"`
		PrincipalType    string `json:"principalType"`
		Description      string `json:"description,omitempty"`
	} `json:"properties"`
}

// Grant assigns the role. An assignment of the same that somebody else made is a
// failure: it would stay when ours is taken away.
func (z *azureRoles) Grant(ctx context.Context, a Account) error {
	terms := a.Terms.Azure
	if terms == nil || len(terms.Principals) != 1 || assignment(a) == "" {
		return &Failure{"principal_unknown", "The provisioner does not say which account of the directory the user has.", true}
	}
	var ask roleAssignment
	subscription := strings.Join(strings.SplitN(terms.Resource, "/", 4)[:3], "/")
	ask.Properties.RoleDefinitionID = subscription + "/providers/Microsoft.Authorization/roleDefinitions/" + terms.RoleDefinition
	ask.Properties.PrincipalID, ask.Properties.PrincipalType = terms.Principals[0].ID, "User"
	if terms.Principals[0].Identity != "" {
		ask.Properties.PrincipalType = "ServicePrincipal"
	}
	ask.Properties.Description = "lockkeeper " + a.Provisioner
	body, err := json.Marshal(ask)
	if err != nil {
		return err
	}
	status, answer, err := z.call(ctx, http.MethodPut, a, body)
	switch {
	case err != nil:
		return err
	case status == http.StatusOK || status == http.StatusCreated:
		return nil
	case status == http.StatusConflict:
		if there, err := z.Verify(ctx, a); err != nil || there {
			return err
		}
		return &Failure{"assigned_outside", "Azure has this role assigned to this account there already, not by Lockkeeper, who could not take it away.", false}
	}
	return armFailure(status, answer)
}

// Revoke deletes the assignment; one that is not there is no error.
func (z *azureRoles) Revoke(ctx context.Context, a Account) error {
	if a.Terms.Azure == nil || assignment(a) == "" {
		return &Failure{"kind_unknown", "The provisioner is none of Azure.", true}
	}
	status, answer, err := z.call(ctx, http.MethodDelete, a, nil)
	if err != nil {
		return err
	}
	switch status {
	case http.StatusOK, http.StatusNoContent, http.StatusNotFound:
		return nil
	}
	return armFailure(status, answer)
}

// Verify reads the assignment.
func (z *azureRoles) Verify(ctx context.Context, a Account) (bool, error) {
	status, answer, err := z.call(ctx, http.MethodGet, a, nil)
	if err != nil {
		return false, err
	}
	return assignmentThere(status, answer)
}

// assignmentThere is what ARM answers about one assignment.
func assignmentThere(status int, answer []byte) (bool, error) {
	switch status {
	case http.StatusOK:
		return true, nil
	case http.StatusNotFound:
		var known struct {
			Error struct {
				Code string `json:"code"`
			} `json:"error"`
		}
		// A subscription that is not found says nothing about what is assigned in it.
		if err := json.Unmarshal(answer, &known); err != nil || known.Error.Code != "RoleAssignmentNotFound" {
			return false, armFailure(status, answer)
		}
		return false, nil
	}
	return false, armFailure(status, answer)
}

// armFailure tells the code that ARM gives, and none of its text: that may name
// whatever was asked.
func armFailure(status int, answer []byte) error {
	var known struct {
		Error struct {
			Code string `json:"code"`
		} `json:"error"`
	}
	text := fmt.Sprintf("Azure answered with the status %d", status)
	if json.Unmarshal(answer, &known) == nil && plainCode(known.Error.Code) {
		text += " (" + known.Error.Code + ")"
	}
	return &Failure{"azure_refused", text + ".", false}
}

func plainCode(s string) bool {
	return s != "" && len(s) <= 100 && !strings.ContainsFunc(s, func(c rune) bool {
		return (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_'
	})
}

// call asks ARM about the assignment.
func (z *azureRoles) call(ctx context.Context, method string, a Account, body []byte) (int, []byte, error) {
	bearer, err := z.token(ctx, a, func() (string, error) { return z.assertion(keeper.Effect{Duty: a.Duty}, azureAudience) })
	if err != nil {
		return 0, nil, err
	}
	return z.arm(ctx, method, z.cloud.Management+assignment(a)+"?api-version="+azureAPI, bearer, body)
}

// arm makes one call of ARM.
func (z *azureRoles) arm(ctx context.Context, method, address, bearer string, body []byte) (int, []byte, error) {
	return z.patiently(ctx, func() (*http.Request, error) {
		req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Authorization", "Bearer "+bearer)
		if body != nil {
			req.Header.Set("Content-Type", "application/json")
		}
		return req, nil
	})
}

// token exchanges our assertion for the application's token.
func (z *azureRoles) token(ctx context.Context, a Account, made func() (string, error)) (string, error) {
	assertion, err := made()
	if err != nil {
		return "", &Failure{"assertion_missing", "Lockkeeper made no assertion for the directory.", true}
	}
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {a.Terms.Azure.Client}, "scope": {"https://management.azure.com/.default"}, "client_assertion_type": {assertionOAuth}, "client_assertion": {assertion}}
	status, answer, err := z.patiently(ctx, func() (*http.Request, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, z.cloud.Login+"/"+a.Terms.Azure.Tenant+"/oauth2/v2.0/token", strings.NewReader(form.Encode()))
		if err == nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		return req, err
	})
	if err != nil {
		return "", err
	}
	var got struct {
		Token string `json:"access_token"`
		Code  string `json:"error"`
		Codes []int  `json:"error_codes"`
	}
	if err := json.Unmarshal(answer, &got); err == nil && status == http.StatusOK && got.Token != "" {
		return got.Token, nil
	}
	text := fmt.Sprintf("The directory does not let Lockkeeper in: status %d", status)
	if plainCode(got.Code) {
		text += ", " + got.Code
	}
	for _, c := range got.Codes[:min(3, len(got.Codes))] {
		text += fmt.Sprintf(", AADSTS%d", c)
	}
	return "", &Failure{"directory_refused", text + ".", true}
}

// patiently makes a call, and again where the other side asks to be left alone for a
// while that ends in time.
func (z *azureRoles) patiently(ctx context.Context, ask func() (*http.Request, error)) (int, []byte, error) {
	client := z.cloud.client()
	defer client.CloseIdleConnections()
	for try := 1; ; try++ {
		req, err := ask()
		if err != nil {
			return 0, nil, err
		}
		resp, err := client.Do(req)
		if err != nil {
			return 0, nil, unreachable(ctx, err)
		}
		answer, err := io.ReadAll(io.LimitReader(resp.Body, maxPage))
		resp.Body.Close()
		if err != nil {
			return 0, nil, unreachable(ctx, err)
		}
		if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusServiceUnavailable {
			return resp.StatusCode, answer, nil
		}
		wait := retryAfter(resp.Header.Get("Retry-After"))
		if deadline, bounded := ctx.Deadline(); try == azureTries || bounded && time.Until(deadline) < wait {
			return 0, nil, &Failure{"throttled", fmt.Sprintf("Azure asks to be left alone for %s.", wait), false}
		}
		select {
		case <-ctx.Done():
			return 0, nil, ctx.Err()
		case <-time.After(wait):
		}
	}
}

// retryAfter reads Retry-After in seconds (RFC 9110, section 10.2.3), which is what
// Azure sends.
func retryAfter(header string) time.Duration {
	n, err := strconv.Atoi(header)
	if err != nil || n < 0 || n > 3600 {
		return azureOwnPause
	}
	return time.Duration(n) * time.Second
}
