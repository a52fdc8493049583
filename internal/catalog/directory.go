package catalog

import (
	"cmp"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// A Directory is an identity provider of the organisation: it signs people in with
// OpenID Connect, and says in which of its groups they are.
type Directory struct {
	Name     string `json:"name"`
	Title    string `json:"title,omitempty"`  // what people read where they choose one
	Platform string `json:"platform"`         // entra, google, okta, keycloak, dex or oidc
	Issuer   string `json:"issuer,omitempty"` // exact; https, or http on a loopback address; entra and google have one by themselves
	Tenant   string `json:"tenant,omitempty"` // entra: the id of the tenant; no tenant stands for several
	Domain   string `json:"domain,omitempty"` // google: the Workspace domain; accounts of others are refused
	Client   string `json:"client"`           // id under which the directory knows Lockkeeper
	// Scopes are asked for besides openid; default: profile, and groups on okta, dex
	// and oidc.
	Scopes []string `json:"scopes,omitempty"`
	// Claim is what names the account for ever; default sub, entra oid.
	Claim      string           `json:"claim,omitempty"`
	GroupClaim string           `json:"groupClaim,omitempty"` // where its groups stand; default groups
	Groups     []DirectoryGroup `json:"groups,omitempty"`     // which of its groups are groups here; its others are not looked at
	// GroupAge is how long it is believed that somebody is in a group, from when the
	// directory said so; default 12h, 5m to 720h.
	GroupAge Duration `json:"groupAge,omitempty"`
	// Admit lets everybody in whom it signs in, as a user who holds nothing but what
	// his groups give him. Without it, only users who list an account at it. One
	// directory may, and every user must list his account at it, or that he has none:
	// or else one person could come in as two.
	Admit   bool     `json:"admit,omitempty"`
	Session Duration `json:"session,omitempty"` // longest sign-in; default 12h, 5m to 24h
	Idle    Duration `json:"idle,omitempty"`    // a sign-in that is not used this long ends; default 4h, 5m to 24h
	// Scim lets the directory write who is there and in which groups (SCIM 2.0), with
	// a token of its own. It is believed until it says otherwise, and whom it switches
	// off is off.
	Scim        bool   `json:"scim,omitempty"`
	ScimSubject string `json:"scimSubject,omitempty"` // the attribute that names an account as its sign-ins do: externalId, the default, or userName
	ScimGroups  string `json:"scimGroups,omitempty"`  // the attribute that the ids in groups are: externalId, the default on entra, or displayName, elsewhere
}

// A DirectoryGroup makes the members of a directory's group members of a group.
type DirectoryGroup struct {
	ID    string `json:"id"`    // as the directory's tokens have it; at entra the object id
	Group string `json:"group"` // the group of the catalog that its members are in
}

// The platforms of directories.
const (
	EntraDirectory    = "entra"
	GoogleDirectory   = "google"
	OktaDirectory     = "okta"
	KeycloakDirectory = "keycloak"
	DexDirectory      = "dex"
	OIDCDirectory     = "oidc"
)

// Defaults of a Directory.
const (
	DefaultSession  = 12 * time.Hour
	DefaultIdle     = 4 * time.Hour
	DefaultGroupAge = 12 * time.Hour
)

// A preset is what the directories of one platform have in common.
type preset struct {
	scopes []string // asked for besides openid
	claim  string   // names the account for ever
}

var presets = map[string]preset{
	EntraDirectory:    {[]string{"profile"}, "oid"}, // sub differs from client to client there
	GoogleDirectory:   {[]string{"profile"}, "sub"}, // has no groups in its tokens
	OktaDirectory:     {[]string{"profile", "groups"}, "sub"},
	KeycloakDirectory: {[]string{"profile"}, "sub"}, // a mapper of the client adds groups, no scope
	DexDirectory:      {[]string{"profile", "groups"}, "sub"},
	OIDCDirectory:     {[]string{"profile", "groups"}, "sub"},
}

func directoryPlatforms() []string {
	return []string{EntraDirectory, GoogleDirectory, OktaDirectory, KeycloakDirectory, DexDirectory, OIDCDirectory}
}

// IssuerURL is the exact iss of the directory's tokens, and where its settings are
// found.
func (d Directory) IssuerURL() string {
	switch {
	case d.Platform == EntraDirectory && d.Issuer == "":
		return "https://login.microsoftonline.com/" + d.Tenant + "/v2.0"
	case d.Platform == GoogleDirectory && d.Issuer == "":
		return "https://accounts.google.com"
	}
	return d.Issuer
}

// Source stands for what makes the directory the one that it is: issuer, client, and
// the claim that names an account. The name alone may come to mean another one.
func (d Directory) Source() string {
	return lockkeeper.DigestOf(fmt.Appendf(nil, "lockkeeper.directory.v1\n%q %q %q", d.IssuerURL(), d.Client, d.SubjectClaim())).Hex()[:24]
}

// AskedScopes are the scopes that a sign-in asks for.
func (d Directory) AskedScopes() []string {
	more := d.Scopes
	if len(more) == 0 {
		more = presets[d.Platform].scopes
	}
	return append([]string{"openid"}, more...)
}

// SubjectClaim is the claim that names an account for ever.
func (d Directory) SubjectClaim() string {
	if d.Claim != "" {
		return d.Claim
	}
	return presets[d.Platform].claim
}

// ClaimOfGroups is the claim in which groups stand; "" where the directory's
// groups are not looked at.
func (d Directory) ClaimOfGroups() string {
	switch {
	case len(d.Groups) == 0:
		return ""
	case d.GroupClaim != "":
		return d.GroupClaim
	}
	return "groups"
}

// LongestSession is how long one sign-in lasts at most.
func (d Directory) LongestSession() time.Duration { return orDefault(d.Session, DefaultSession) }

// IdleLimit is how long a sign-in lasts that is not used.
func (d Directory) IdleLimit() time.Duration {
	return min(orDefault(d.Idle, DefaultIdle), d.LongestSession())
}

// GroupLimit is how long it is believed that somebody is in a group.
func (d Directory) GroupLimit() time.Duration { return orDefault(d.GroupAge, DefaultGroupAge) }

// The attributes by which what a directory writes is known.
const (
	ExternalIDAttribute  = "externalId"
	UserNameAttribute    = "userName"
	DisplayNameAttribute = "displayName"
)

// AttributeOfSubject is the attribute of a user that a directory writes which is
// what its sign-ins call the account.
func (d Directory) AttributeOfSubject() string {
	return cmp.Or(d.ScimSubject, ExternalIDAttribute)
}

// AttributeOfGroups is the attribute of a group that a directory writes which
// stands under groups as its id.
func (d Directory) AttributeOfGroups() string {
	if d.ScimGroups == "" && d.Platform != EntraDirectory {
		return DisplayNameAttribute // its tokens have names, too
	}
	return cmp.Or(d.ScimGroups, ExternalIDAttribute)
}

// SubjectUnfit says why a directory that writes users cannot call an account so;
// "": it can. What never signs in as anybody would switch nobody off.
func (d Directory) SubjectUnfit(subject string) string {
	switch {
	case subject == "" || len(subject) > maxSubject || strings.ContainsFunc(subject, func(c rune) bool { return c < ' ' || c == 0x7f }):
		return "has 1 to 255 bytes"
	case d.Platform == EntraDirectory && d.SubjectClaim() == "oid" && !guid(subject):
		return "is the object id, a GUID in lower case"
	}
	return ""
}

// SignsIn is the user who lists an account at a directory among his own.
func (c *Catalog) SignsIn(directory, subject string) (User, bool) {
	u, ok := c.Users[c.bySignIn[SignIn{Directory: directory, Subject: subject}]]
	return u, ok
}

// Open reports whether a directory says who is in a group, or in a group within it:
// the catalog alone cannot tell who its members are.
func (c *Catalog) Open(group string) bool {
	mapped := map[string]bool{}
	for _, d := range c.Directories {
		for _, g := range d.Groups {
			mapped[g.Group] = true
		}
	}
	seen, queue := map[string]bool{}, []string{group}
	for ; len(queue) > 0 && len(mapped) > 0; queue = queue[1:] {
		g := queue[0]
		if mapped[g] {
			return true
		}
		if !seen[g] {
			seen[g] = true
			queue = append(queue, c.Groups[g].Groups...)
		}
	}
	return false
}

// Joined is the catalog with users whom directories brought, and without those of
// its own whom directories switched off; else the catalog's own users stay who they
// are. Documents and digest stay those of the catalog: what a directory says is no
// document of it.
func (c *Catalog) Joined(brought []User, off []string) *Catalog {
	if len(brought) == 0 && len(off) == 0 {
		return c
	}
	joined := *c
	joined.Users = maps.Clone(c.Users)
	for _, u := range brought {
		if _, own := c.Users[u.Name]; !own {
			joined.Users[u.Name] = u
		}
	}
	for _, name := range off {
		if u, own := c.Users[name]; own {
			u.Off = true
			joined.Users[name] = u
		}
	}
	return &joined
}
