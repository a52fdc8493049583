package catalog

import (
	"cmp"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// A Provisioner gives whoever activates a role an account on a system that knows
// no federation, and takes it away when the activation ends. Exactly one of the
// kinds is set. Its secret is a file of its name on the server (`serve
// --provisioners`), never here.
type Provisioner struct {
	Name string `json:"name"`
	Role string `json:"role"` // whose activations open it
	// Scope is what it is about: an activation at this scope or above opens it.
	Scope      lockkeeper.Scope `json:"scope"`
	PostgreSQL *PostgreSQL      `json:"postgresql,omitempty"`
	SSH        *SSH             `json:"ssh,omitempty"`
	Webhook    *Webhook         `json:"webhook,omitempty"`
	Azure      *AzureRole       `json:"azure,omitempty"`
	Drift      string           `json:"drift,omitempty"` // what happens where the target differs from what activations give: alert (the default), repair or revoke
	Known      []string         `json:"known,omitempty"` // accounts that hold it besides, rightly: roles of PostgreSQL, or object ids of Azure
}

// What happens where a target differs from what activations give.
const (
	AlertDrift  = "alert"  // somebody is told
	RepairDrift = "repair" // what was taken away there is granted again; what Lockkeeper had granted and should be away is taken away
	RevokeDrift = "revoke" // an activation whose account was changed there ends; what Lockkeeper had granted and should be away is taken away
)

// OnDrift is what happens where the target differs.
func (p Provisioner) OnDrift() string { return cmp.Or(p.Drift, AlertDrift) }

// A PostgreSQL makes a role with a login of its own for each activation, and drops
// it at the end. The secret is the URL of the database, of a role that may create
// roles and is an administrator of the granted ones.
type PostgreSQL struct {
	Roles []string `json:"roles"` // that the login is made a member of; none that may make other logins
}

// An SSH signs certificates for public keys of whoever has activated the role. The
// secret is the private key of the authority.
type SSH struct {
	Principals []string `json:"principals"`           // whom the certificates let in as
	Lifetime   Duration `json:"lifetime,omitempty"`   // of one certificate, and never past the activation's end; default 15m, 1m to 24h
	Extensions []string `json:"extensions,omitempty"` // default: permit-pty
}

// A Webhook asks a service to grant, to revoke, and whether it is granted. The
// secret is the key that the asks are signed with: whsec_ and base64.
type Webhook struct {
	URL     string `json:"url"`               // https, or http on a loopback address
	Private bool   `json:"private,omitempty"` // it may lie on a private network; a loopback address must stand in the URL itself
}

// An AzureRole assigns a role of Azure at a resource to whoever has activated the
// role, through ARM. It has no secret: the application trusts this server's issuer
// for the subject lk:provisioner:NAME.
type AzureRole struct {
	Tenant         string           `json:"tenant"`         // id of the directory
	Client         string           `json:"client"`         // id of the application that assigns; it needs Role Based Access Control Administrator at the resource
	Resource       string           `json:"resource"`       // /subscriptions/ID, and on to a resource group or a resource
	RoleDefinition string           `json:"roleDefinition"` // id of the role; none that assigns roles itself
	Principals     []AzurePrincipal `json:"principals"`     // who is who in the directory
}

// An AzurePrincipal says which account of the directory a user has, or which service
// principal trusts the tokens of an identity: one of the two.
type AzurePrincipal struct {
	User     string `json:"user,omitempty"`
	Identity string `json:"identity,omitempty"` // PROJECT/NAME: runs of its stages that activate the role open it for this account
	ID       string `json:"id"`                 // object id; of a service principal, not of its application
}

// For is the provisioner as it concerns one user: that others come and go changes
// nothing for him.
func (p Provisioner) For(user string) Provisioner {
	return p.only(func(a AzurePrincipal) bool { return a.User == user && user != "" })
}

// ForIdentities is the provisioner as it concerns a run that may obtain some
// identities, each written PROJECT/NAME.
func (p Provisioner) ForIdentities(identities []string) Provisioner {
	return p.only(func(a AzurePrincipal) bool { return slices.Contains(identities, a.Identity) })
}

// only is what is granted, and to whom of those that it names: what happens on drift,
// and who else may hold it, says nothing about that.
func (p Provisioner) only(who func(AzurePrincipal) bool) Provisioner {
	p.Drift, p.Known = "", nil
	if p.Azure == nil {
		return p
	}
	a := *p.Azure
	a.Principals = nil
	for _, one := range p.Azure.Principals {
		if who(one) {
			a.Principals = append(a.Principals, one)
		}
	}
	p.Azure = &a
	return p
}

// DefaultCertificate is how long a certificate lasts that nobody says more of.
const DefaultCertificate = 15 * time.Minute

// CertificateLifetime is how long one certificate lasts at most.
func (s SSH) CertificateLifetime() time.Duration { return orDefault(s.Lifetime, DefaultCertificate) }

// SSHExtensions are the extensions that a certificate may have (PROTOCOL.certkeys
// of OpenSSH).
func SSHExtensions() []string {
	return []string{"permit-X11-forwarding", "permit-agent-forwarding", "permit-port-forwarding", "permit-pty", "permit-user-rc"}
}

// CertificateExtensions are the extensions of a certificate.
func (s SSH) CertificateExtensions() []string {
	if len(s.Extensions) == 0 {
		return []string{"permit-pty"}
	}
	return s.Extensions
}

// Kind is the name of the kind that is set; "" for none.
func (p Provisioner) Kind() string {
	switch {
	case p.PostgreSQL != nil:
		return "postgresql"
	case p.SSH != nil:
		return "ssh"
	case p.Webhook != nil:
		return "webhook"
	case p.Azure != nil:
		return "azure"
	}
	return ""
}

// Opens reports whether an activation of a role at a scope opens the provisioner.
func (p Provisioner) Opens(role string, scope lockkeeper.Scope) bool {
	return p.Role == role && scope.Contains(p.Scope)
}
