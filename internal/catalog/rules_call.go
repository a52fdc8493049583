package catalog

import (
	"fmt"
	"net/textproto"
	"slices"
	"strings"
	"time"
)

// Bounds of a call.
const (
	maxHeaders     = 10
	maxHeaderValue = 200 // bytes
	maxAttempts    = 100 // of one question
	maxCallText    = 255 // bytes of an audience, a client, a scope
	maxActUses     = 1000
)

// ownHeaders are those that Lockkeeper or its HTTP client sets, or that authenticate.
var ownHeaders = []string{"Authorization", "Proxy-Authorization", "Cookie", "Host", "Content-Type", "Content-Length", "Transfer-Encoding", "Connection", "Upgrade", "Te", "Trailer",
	"Expect", "User-Agent", "Accept-Encoding", "Proxy-Connection", "Keep-Alive", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host"}

// uses checks how many uses an activation has, and what it is bound to.
func (v *rules) uses(r *resource, rule *ActivationRule) {
	if rule.Uses < 0 || rule.Uses > maxActUses {
		v.add(r, "uses", "count_out_of_bounds", fmt.Sprintf("The count of uses is %d; it must be from 1 to %d.", rule.Uses, maxActUses), "Say how often an activation may be used, or leave the field out.")
	}
	if rule.Bound != "" && rule.Bound != BoundToSession {
		v.add(r, "bound", "bound_unknown", "An activation can not be bound to "+name(rule.Bound)+".", "Write "+BoundToSession+", or leave the field out.")
	}
}

func (v *rules) ticketCall(r *resource, rule *ActivationRule) {
	t := rule.TicketCall
	if t == nil {
		return
	}
	if rule.Ticket == "" {
		v.add(r, "ticketCall", "ticket_missing", "The rule asks a service about a ticket, and asks nobody for one.", "Say with ticket which numbers it may have, such as CHG[0-9]{7}.")
	}
	v.call(r, "ticketCall.call", t.Call)
	if t.WhenAway == nil {
		return
	}
	at := "ticketCall.whenAway"
	v.approval(r, at, &Environment{Patience: Duration(rule.PatienceLimit())}, Check{Name: "ticket", Approval: t.WhenAway})
	if a := t.WhenAway; a.Review != "" || a.Escalate != nil || a.Timeout != 0 || a.Validity != 0 || a.Once || len(a.Checklist) > 0 {
		v.add(r, at, "approval_unfit", "Those who decide when the service is away have count, groups, instructions, signedIn and strong, and nothing else.", "Leave the rest out.")
	}
}

// call checks a call that stands at a path.
func (v *rules) call(r *resource, at string, c Call) {
	v.callURL(r, at+".url", c.URL, []string{"ticket", "digest"})
	if _, err := CompileCriteria(c.Criteria); err != nil {
		v.criteriaUnfit(r, at+".criteria", err)
	}
	v.length(r, at, "within", c.Within, 10*time.Second, time.Hour)
	if c.WithinLimit() > maxAttempts*c.RetryEvery() {
		v.add(r, at+".retry", "retry_unfit", fmt.Sprintf("Asking every %s for %s makes more than %d attempts.", c.RetryEvery(), c.WithinLimit(), maxAttempts), "Ask less often, or for a shorter time.")
	}
	v.anyCall(r, at, c)
}

func (v *rules) criteriaUnfit(r *resource, at string, err error) {
	v.add(r, at, "criteria_unfit", "The criteria do not compile: "+clip(err.Error(), 300)+".", "Write CEL over status, body and ask, such as body.state == \"approved\".")
}

// anyCall checks what calls of every kind have.
func (v *rules) anyCall(r *resource, at string, c Call) {
	if c.Method != "" && c.Method != "POST" && c.Method != "GET" {
		v.add(r, at+".method", "method_unknown", "The method is "+name(c.Method)+".", "Write POST or GET, or leave it out.")
	}
	v.headers(r, at+".headers", c.Headers)
	v.places(r, at+".places", c)
	v.length(r, at, "timeout", c.Timeout, time.Second, 30*time.Second)
	v.length(r, at, "retry", c.Retry, 5*time.Second, 10*time.Minute)
	if c.Token != nil {
		v.callToken(r, at+".token", *c.Token)
	}
}

// length checks a length of time that stands at a path below the document, where it
// stands there.
func (v *rules) length(r *resource, at, field string, d Duration, bounds ...time.Duration) {
	if r.root.find(at).field(field) == nil {
		return
	}
	if t := time.Duration(d); t < bounds[0] || t > bounds[1] {
		v.add(r, at+"."+field, "duration_out_of_bounds", fmt.Sprintf("The field %s is %s; it must be from %s to %s.", field, t, bounds[0], bounds[1]), "Choose a length within these, or leave the field out for the default.")
	}
}

// callURL refuses what could lead elsewhere than the host that is written there.
func (v *rules) callURL(r *resource, at, text string, facts []string) {
	path, query, asked := strings.Cut(text, "?")
	host := path
	if _, rest, found := strings.Cut(path, "://"); found {
		host, _, _ = strings.Cut(rest, "/")
	}
	reason := issuerUnfit(strings.TrimSuffix(withoutPlaces(path, facts), "/"))
	switch {
	case reason != "":
	case strings.ContainsAny(host, "{}"):
		reason = "leaves its host open"
	case asked && (query == "" || strings.ContainsAny(query, " #?\\\"<>")):
		reason = "has no plain query"
	case strings.ContainsAny(withoutPlaces(text, facts), "{}"):
		reason = "has other places than {" + strings.Join(facts, "}, {") + "}"
	}
	if reason != "" {
		v.add(r, at, "url_unfit", "The URL "+reason+".", "Write one such as https://tickets.example.com/api/{ticket}.")
	}
}

func (v *rules) headers(r *resource, at string, list []Header) {
	if len(list) > 0 {
		v.bounded(r, at, len(list), maxHeaders)
	}
	var seen []string
	for i, h := range list {
		canonical := textproto.CanonicalMIMEHeaderKey(h.Name)
		where := fmt.Sprintf("%s[%d]", at, i)
		plain := h.Name != "" && len(h.Name) <= 60 && !strings.ContainsFunc(h.Name, func(c rune) bool {
			return c != '-' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z')
		})
		switch {
		case !plain:
			v.add(r, where+".name", "header_unfit", "A header's name is of letters, digits and hyphens.", "Write one such as Accept.")
		case slices.Contains(ownHeaders, canonical) || strings.HasPrefix(canonical, "Webhook-") || strings.HasPrefix(canonical, "Lockkeeper-") || strings.Contains(canonical, "Auth") || strings.Contains(canonical, "Token") || strings.Contains(canonical, "Key"):
			v.add(r, where+".name", "header_unfit", "The header "+name(h.Name)+" is set by Lockkeeper itself, or authenticates.", "Leave it out; say with token and signed how the call proves itself.")
		case slices.Contains(seen, canonical):
			v.add(r, where+".name", "duplicate", "The header "+name(h.Name)+" stands there twice.", "Keep one of the two.")
		case len(h.Value) > maxHeaderValue || strings.ContainsFunc(h.Value, func(c rune) bool { return c < ' ' || c > '~' }):
			v.add(r, where+".value", "header_unfit", fmt.Sprintf("A header's value has at most %d printable ASCII characters.", maxHeaderValue), "Shorten it.")
		}
		seen = append(seen, canonical)
	}
}

func (v *rules) callToken(r *resource, at string, t CallToken) {
	for field, text := range map[string]string{"audience": t.Audience, "client": t.Client, "scope": t.Scope} {
		if len(text) > maxCallText || strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c > '~' }) {
			v.add(r, at+"."+field, "text_unfit", fmt.Sprintf("It has at most %d printable ASCII characters.", maxCallText), "Write it as the service spells it.")
		}
	}
	if t.TokenURL != "" {
		if reason := issuerUnfit(t.TokenURL); reason != "" {
			v.add(r, at+".tokenURL", "url_unfit", "The URL "+reason+".", "Write one such as https://login.example.com/oauth2/token.")
		}
	}
	switch {
	case t.TokenURL == "" && (t.Client != "" || t.Scope != "" || t.Secret):
		v.add(r, at, "token_unfit", "A client, a scope and a secret are shown at a tokenURL, and there is none.", "Add tokenURL, or leave them out.")
	case t.TokenURL != "" && t.Client == "":
		v.add(r, at+".client", "token_unfit", "Nobody says as which client the token is fetched.", "Add client.")
	case t.Secret == (t.Audience != ""):
		v.add(r, at, "token_unfit", "The call must prove itself in one way: with a token of Lockkeeper's own, which has an audience, or with a secret.", "Write one of audience and secret: true.")
	}
}

func (w *weakening) uses(a, b ActivationRule) {
	w.when(a.Uses > 0 && (b.Uses == 0 || b.Uses > a.Uses), "an activation may be used more often than %d times", a.Uses)
	w.when(a.Bound != "" && a.Bound != b.Bound, "an activation counts in other sessions than the one that began it")
	w.ticketCall(a.TicketCall, b.TicketCall)
}

func (w *weakening) ticketCall(a, b *TicketCall) {
	if a == nil {
		return
	}
	if b == nil {
		w.when(true, "no service is asked about the ticket any more")
		return
	}
	w.call("about the ticket", a.Call, b.Call)
	switch {
	case b.WhenAway == nil:
	case a.WhenAway == nil:
		w.when(true, "persons decide when the service that knows the tickets is away")
	default:
		w.checks([]Check{{Name: "whenAway", Approval: a.WhenAway}}, []Check{{Name: "whenAway", Approval: b.WhenAway}})
	}
}

// call reports that somebody else is asked, or that other answers are taken.
func (w *weakening) call(about string, a, b Call) {
	w.when(a.URL != b.URL || a.Verb() != b.Verb() || !slices.Equal(a.Headers, b.Headers) || !slices.Equal(a.Places, b.Places), "another service is asked %s, or in another way", about)
	w.when(a.Criteria != b.Criteria, "other answers %s are taken", about)
	w.when(a.Signed && !b.Signed, "what is asked %s is signed no more", about)
	w.when(b.Token != nil && (a.Token == nil || *a.Token != *b.Token), "what is asked %s proves itself in another way", about)
}
