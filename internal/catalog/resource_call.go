package catalog

import (
	"slices"
	"strings"
	"time"
)

// A Call asks a service over HTTP something that a decision waits for. It is made
// beside the decision, and what the service answers is held against the criteria.
// No answer, one that is no JSON, and a server's error (429, 500 and above, 401, 403)
// are asked again; whatever has not answered in time counts as away.
type Call struct {
	// URL is where the call goes: https, or http on a loopback address. {ticket} and
	// {digest} in its path or query stand for those of the ask.
	URL     string   `json:"url"`
	Method  string   `json:"method,omitempty"`  // POST, with the question as JSON, or GET, without a body; default POST
	Headers []Header `json:"headers,omitempty"` // sent besides; none that authenticates
	// Places say which form values have that stand in the URL: a value of another form
	// is asked about by nobody.
	Places []Place `json:"places,omitempty"`
	// Criteria is CEL over status, body and ask that must be true of the answer. body
	// is its JSON; ask has id, digest, user, role, scope, reason, ticket. Unless it
	// names status, that must be 200 to 299.
	Criteria string     `json:"criteria"`
	Timeout  Duration   `json:"timeout,omitempty"` // of one attempt; default 10s, 1s to 30s
	Retry    Duration   `json:"retry,omitempty"`   // between two attempts; default 15s, 5s to 10m
	Within   Duration   `json:"within,omitempty"`  // from the first attempt on: what has not answered by then is away; default 2m, 10s to 1h
	Signed   bool       `json:"signed,omitempty"`  // sign it as Standard Webhooks says; the key is a file on the server
	Token    *CallToken `json:"token,omitempty"`   // a bearer token; none: the call has none
}

// A Header is one line of a request.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// A Place is one of the names that a URL leaves open.
type Place struct {
	Name    string `json:"name"`    // parameter.change
	Pattern string `json:"pattern"` // that the whole value must match (RE2): "[A-Z]+-[0-9]+"
}

// A CallToken is the bearer token of a call: Lockkeeper's own for an audience, or one
// that Lockkeeper fetches with OAuth client credentials. No password stands here.
type CallToken struct {
	Audience string `json:"audience,omitempty"` // of Lockkeeper's own token
	// TokenURL is where it is shown to get another one (RFC 7523); none: it is the
	// bearer itself.
	TokenURL string `json:"tokenURL,omitempty"`
	Client   string `json:"client,omitempty"` // id of the client, at a tokenURL
	Scope    string `json:"scope,omitempty"`  // that is asked for, at a tokenURL
	// Secret says that the client shows a secret in the place of Lockkeeper's own
	// token; it is a file on the server.
	Secret bool `json:"secret,omitempty"`
}

// A TicketCall asks a service whether the ticket of a request is a good one.
type TicketCall struct {
	Call Call `json:"call"`
	// WhenAway are the persons who decide when the service did not answer in time;
	// none: the request fails. They approve once it is away, and not before.
	WhenAway *Approval `json:"whenAway,omitempty"`
}

// Defaults of a Call.
const (
	DefaultCallTimeout = 10 * time.Second
	DefaultCallRetry   = 15 * time.Second
	DefaultCallWithin  = 2 * time.Minute
)

// TimeoutLimit is how long one attempt lasts at most.
func (c Call) TimeoutLimit() time.Duration { return orDefault(c.Timeout, DefaultCallTimeout) }

// RetryEvery is the time between two attempts.
func (c Call) RetryEvery() time.Duration { return orDefault(c.Retry, DefaultCallRetry) }

// WithinLimit is how long the service has to answer.
func (c Call) WithinLimit() time.Duration { return orDefault(c.Within, DefaultCallWithin) }

// Verb is the method of the request.
func (c Call) Verb() string {
	if c.Method == "" {
		return "POST"
	}
	return c.Method
}

// Equal reports whether two calls ask the same of the same service, and take the same
// for an answer.
func (c Call) Equal(o Call) bool {
	same := c.Token == o.Token || c.Token != nil && o.Token != nil && *c.Token == *o.Token
	return same && c.URL == o.URL && c.Verb() == o.Verb() && slices.Equal(c.Headers, o.Headers) && slices.Equal(c.Places, o.Places) && c.Criteria == o.Criteria && c.Signed == o.Signed &&
		c.TimeoutLimit() == o.TimeoutLimit() && c.RetryEvery() == o.RetryEvery() && c.WithinLimit() == o.WithinLimit()
}

// The places of a Call's URL that stand for facts of the ask.
const (
	TicketPlace = "{ticket}"
	DigestPlace = "{digest}"
)

// withoutPlaces is a URL with something plain in the places of facts.
func withoutPlaces(url string, facts []string) string {
	for _, f := range facts {
		url = strings.ReplaceAll(url, "{"+f+"}", "x")
	}
	return url
}
