// Package lktest is the test kit: real servers in the place of what stands
// outside. Tests and the demo import it, nothing else.
package lktest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// An Issuer is an OIDC issuer in the place of a CI platform: discovery, key set
// and signed tokens as GitHub Actions makes them, on a loopback address.
type Issuer struct {
	URL        string
	Discovered atomic.Int64 // discovery documents served
	Fetched    atomic.Int64 // key sets served
	// Hanging tells of each request that an issuer who hangs has taken.
	Hanging chan struct{}

	server *http.Server
	mu     sync.Mutex
	down   bool
	hang   chan struct{} // closed when the issuer hangs no more; nil: it does not
	key    crypto.Signer
	alg    jose.SignatureAlgorithm
	kid    string
	count  int
	jobs   map[string]GitHubJob
}

// StartIssuer starts an issuer on a loopback address ("127.0.0.1:0" for any
// port). It signs RS256, as GitHub does.
func StartIssuer(address string) (*Issuer, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	i := &Issuer{URL: "http://" + l.Addr().String(), jobs: map[string]GitHubJob{}, Hanging: make(chan struct{}, 64)}
	if err := i.Rotate(jose.RS256); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", i.up(func(w http.ResponseWriter, _ *http.Request) {
		i.Discovered.Add(1)
		json.NewEncoder(w).Encode(map[string]any{"issuer": i.URL, "jwks_uri": i.URL + "/jwks", "id_token_signing_alg_values_supported": []string{"RS256"}})
	}))
	// Azure DevOps has one issuer for each organisation and one key set for all.
	mux.HandleFunc("GET /{org}/.well-known/openid-configuration", i.up(func(w http.ResponseWriter, r *http.Request) {
		i.Discovered.Add(1)
		json.NewEncoder(w).Encode(map[string]any{"issuer": i.URL + "/" + r.PathValue("org"), "jwks_uri": i.URL + "/jwks"})
	}))
	mux.HandleFunc("GET /jwks", i.up(func(w http.ResponseWriter, _ *http.Request) {
		i.Fetched.Add(1)
		w.Write(i.KeySet())
	}))
	mux.HandleFunc("GET /token", i.up(i.jobToken))
	i.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go i.server.Serve(l)
	return i, nil
}

// NewIssuer starts an issuer that ends with the test.
func NewIssuer(t testing.TB) *Issuer {
	t.Helper()
	i, err := StartIssuer("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { i.Close() })
	return i
}

// Close ends the issuer.
func (i *Issuer) Close() error { return i.server.Close() }

func (i *Issuer) up(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		down, hang := i.down, i.hang
		i.mu.Unlock()
		if hang != nil {
			i.Hanging <- struct{}{}
			select {
			case <-hang:
			case <-r.Context().Done():
				return
			}
		}
		if down {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		h(w, r)
	}
}

// SetDown makes the issuer answer 503 to everything, or not.
func (i *Issuer) SetDown(down bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.down = down
}

// Hang makes the issuer take requests and answer none, until release is called.
func (i *Issuer) Hang() (release func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	hang := make(chan struct{})
	i.hang = hang
	return sync.OnceFunc(func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.hang = nil
		close(hang)
	})
}

// Rotate replaces the signing key by a new one for RS256 or ES256.
func (i *Issuer) Rotate(alg jose.SignatureAlgorithm) error {
	var key crypto.Signer
	var err error
	switch alg {
	case jose.RS256:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case jose.ES256:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	default:
		err = errors.New("RS256 or ES256")
	}
	if err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.count++
	i.key, i.alg, i.kid = key, alg, fmt.Sprintf("key-%d", i.count)
	return nil
}

// KeySet is the JWKS that the issuer publishes.
func (i *Issuer) KeySet() []byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	b, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: i.key.Public(), KeyID: i.kid, Algorithm: string(i.alg), Use: "sig"}}})
	if err != nil {
		panic(err) // a key that was just made always marshals
	}
	return b
}

// Token signs claims with the issuer's key.
func (i *Issuer) Token(claims map[string]any) string {
	payload, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	return i.Sign(payload, nil)
}

// Sign signs any bytes with the issuer's key, under its header with the members
// of more added or replaced.
func (i *Issuer) Sign(payload []byte, more map[string]any) string {
	i.mu.Lock()
	defer i.mu.Unlock()
	options := (&jose.SignerOptions{}).WithType("JWT")
	for name, value := range more {
		options = options.WithHeader(jose.HeaderKey(name), value)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: i.alg, Key: jose.JSONWebKey{Key: i.key, KeyID: i.kid}}, options)
	if err != nil {
		panic(err)
	}
	signed, err := s.Sign(payload)
	if err != nil {
		panic(err)
	}
	raw, err := signed.CompactSerialize()
	if err != nil {
		panic(err)
	}
	return raw
}

// A GitHubJob is one job of a run, as GitHub's token describes it. Zero fields
// get the values of a job that started well.
type GitHubJob struct {
	Owner, OwnerID, Repository, RepositoryID string
	Workflow                                 string // path of the definition
	Run, Job                                 string
	Attempt                                  int
	Event, Ref, Commit, WorkflowCommit       string
	Environment                              string // "": the job names none
	Actor, ActorID                           string
	Runner                                   string
	Audience                                 string
	Now                                      time.Time // default: the clock
	More                                     map[string]any
}

// Claims are the full claims of the job's token, with a fresh jti.
func (i *Issuer) Claims(j GitHubJob) map[string]any {
	def := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	for _, d := range []struct {
		to *string
		v  string
	}{
		{&j.Owner, "acme"}, {&j.OwnerID, "7001"}, {&j.Repository, "payments"}, {&j.RepositoryID, "8001"},
		{&j.Workflow, ".github/workflows/release.yml"}, {&j.Run, "9001"}, {&j.Job, "5001"}, {&j.Event, "push"}, {&j.Ref, "refs/heads/main"},
		{&j.Commit, "1111111111111111111111111111111111111111"}, {&j.Actor, "ann"}, {&j.ActorID, "1001"}, {&j.Runner, "github-hosted"},
	} {
		def(d.to, d.v)
	}
	def(&j.WorkflowCommit, j.Commit)
	if j.Attempt == 0 {
		j.Attempt = 1
	}
	if j.Now.IsZero() {
		j.Now = time.Now()
	}
	kind := "branch"
	if len(j.Ref) > 10 && j.Ref[:10] == "refs/tags/" {
		kind = "tag"
	}
	full := j.Owner + "/" + j.Repository
	ref := full + "/" + j.Workflow + "@" + j.Ref
	c := map[string]any{
		"iss": i.URL, "aud": j.Audience, "jti": randomHex(), "iat": j.Now.Unix(), "nbf": j.Now.Unix() - 600, "exp": j.Now.Unix() + 300,
		"sub": "repo:" + full + ":ref:" + j.Ref, "repository": full, "repository_id": j.RepositoryID, "repository_owner": j.Owner,
		"repository_owner_id": j.OwnerID, "run_id": j.Run, "run_number": "17", "run_attempt": strconv.Itoa(j.Attempt), "check_run_id": j.Job,
		"event_name": j.Event, "ref": j.Ref, "ref_type": kind, "sha": j.Commit, "workflow": "release", "workflow_ref": ref, "workflow_sha": j.WorkflowCommit,
		"job_workflow_ref": ref, "job_workflow_sha": j.WorkflowCommit, "runner_environment": j.Runner, "actor": j.Actor, "actor_id": j.ActorID,
		"repository_visibility": "private", "base_ref": "", "head_ref": "",
	}
	if j.Environment != "" {
		c["environment"] = j.Environment
	}
	maps.Copy(c, j.More)
	return c
}

// JobToken is a fresh token of the job.
func (i *Issuer) JobToken(j GitHubJob) string { return i.Token(i.Claims(j)) }

// Job registers a job and returns what its runner offers it: the two variables
// with which it asks for tokens itself.
func (i *Issuer) Job(j GitHubJob) []string {
	secret := randomHex()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.jobs[secret] = j
	return []string{"ACTIONS_ID_TOKEN_REQUEST_URL=" + i.URL + "/token?api-version=2.0", "ACTIONS_ID_TOKEN_REQUEST_TOKEN=" + secret}
}

func (i *Issuer) jobToken(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	j, ok := i.jobs[trimBearer(r.Header.Get("Authorization"))]
	i.mu.Unlock()
	if !ok {
		http.Error(w, "unknown job", http.StatusUnauthorized)
		return
	}
	if a := r.URL.Query().Get("audience"); a != "" {
		j.Audience = a
	}
	json.NewEncoder(w).Encode(map[string]any{"count": 1, "value": i.JobToken(j)})
}

func trimBearer(h string) string {
	if len(h) > 7 && (h[:7] == "bearer " || h[:7] == "Bearer ") {
		return h[7:]
	}
	return ""
}

func randomHex() string {
	b := make([]byte, 16)
	rand.Read(b)
	return hex.EncodeToString(b)
}
