package catalog

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Bounds of a provisioner.
const (
	maxGrantedRoles  = 32
	maxPrincipals    = 32
	maxIdentifier    = 63 // bytes of a name in PostgreSQL
	maxPrincipalName = 64

	maxAzurePrincipals = 500
	maxKnown           = 500
)

// worseThanRoles are roles of PostgreSQL through which one reaches the machine
// under the database, where nothing that was taken away stays away.
var worseThanRoles = []string{"pg_execute_server_program", "pg_read_server_files", "pg_write_server_files"}

func (v *rules) provisioner(r *resource, p *Provisioner) {
	v.reference(r, "role", Key{Kind: RoleKind, Name: p.Role})
	v.scope(r, p.Scope)
	kinds := 0
	if p.PostgreSQL != nil {
		kinds++
		v.postgreSQL(r, *p.PostgreSQL)
	}
	if p.SSH != nil {
		kinds++
		v.ssh(r, *p.SSH)
	}
	if p.Webhook != nil {
		kinds++
		if reason := issuerUnfit(p.Webhook.URL); reason != "" {
			v.add(r, "webhook.url", "url_unfit", "The URL "+reason+".", "Write one such as https://hooks.example.com/lockkeeper.")
		}
	}
	if p.Azure != nil {
		kinds++
		v.azureRole(r, *p.Azure)
	}
	v.drift(r, p)
	if kinds != 1 {
		v.add(r, "name", "provisioner_unfit", fmt.Sprintf("The provisioner %s is of %d kinds; it must be of exactly one.", name(p.Name), kinds), "Write one of postgresql, ssh, webhook and azure.")
	}
}

// drift checks what is said about what targets hold besides.
func (v *rules) drift(r *resource, p *Provisioner) {
	actions := []string{AlertDrift, RepairDrift, RevokeDrift}
	switch {
	case p.Drift == "":
	case p.SSH != nil:
		v.add(r, "drift", "drift_unseen", "Of certificates nothing can be seen at a host, so that nothing can be done about it.", "Leave drift out.")
	case !slices.Contains(actions, p.Drift):
		v.add(r, "drift", "value_unknown", name(p.Drift)+" is none of "+strings.Join(actions, ", ")+".", v.problems.suggest(p.Drift, actions, "Write one of them."))
	}
	if len(p.Known) == 0 {
		return
	}
	v.bounded(r, "known", len(p.Known), maxKnown)
	for i, account := range p.Known {
		at := fmt.Sprintf("known[%d]", i)
		switch {
		case p.PostgreSQL == nil && p.Azure == nil:
			v.add(r, at, "drift_unseen", "Who else holds it can be seen of PostgreSQL and of Azure only.", "Leave known out.")
		case p.Azure != nil && !directoryID.MatchString(account):
			v.add(r, at, "id_unfit", name(account)+" is no id such as Azure has.", "Write the object id of the account in the directory.")
		case account == "" || len(account) > maxIdentifier || strings.HasPrefix(account, "lk_"):
			v.add(r, at, "name_unfit", fmt.Sprintf("A role of PostgreSQL has a name of 1 to %d bytes, and those that begin with lk_ are Lockkeeper's own.", maxIdentifier), "Write its name as the database spells it.")
		}
	}
}

func (v *rules) postgreSQL(r *resource, p PostgreSQL) {
	v.bounded(r, "postgresql.roles", len(p.Roles), maxGrantedRoles)
	for i, role := range p.Roles {
		at := fmt.Sprintf("postgresql.roles[%d]", i)
		switch {
		case role == "" || len(role) > maxIdentifier || strings.ContainsFunc(role, func(c rune) bool { return c < ' ' || c == 0x7f }):
			v.add(r, at, "name_unfit", fmt.Sprintf("A role of PostgreSQL has a name of 1 to %d bytes.", maxIdentifier), "Write its name as the database spells it.")
		case slices.Contains(worseThanRoles, role):
			v.add(r, at, "role_unfit", "The role "+role+" leads to the machine under the database, where nothing that was granted can be taken back.", "Grant another role.")
		case strings.HasPrefix(role, "lk_"):
			v.add(r, at, "role_unfit", "Names that begin with lk_ are those of the logins that Lockkeeper makes.", "Grant another role.")
		}
	}
}

func (v *rules) ssh(r *resource, s SSH) {
	v.bounded(r, "ssh.principals", len(s.Principals), maxPrincipals)
	for i, p := range s.Principals {
		if p == "" || len(p) > maxPrincipalName || strings.ContainsFunc(p, func(c rune) bool { return c <= ' ' || c >= 0x7f || strings.ContainsRune(`,"\*?!`, c) }) {
			v.add(r, fmt.Sprintf("ssh.principals[%d]", i), "name_unfit", fmt.Sprintf("A principal is 1 to %d printable ASCII characters, without blanks, commas, quotes and wildcards.", maxPrincipalName), "Write the name that the host's account lists.")
		}
	}
	v.within(r, "ssh.lifetime", s.Lifetime, time.Minute, 24*time.Hour)
	v.oneOf(r, "ssh.extensions", s.Extensions, SSHExtensions()...)
}

// assigners are roles of Azure that assign roles: what their holder assigns would
// outlive the activation.
var assigners = map[string]string{"8e3af657-a8ff-443c-a75c-2fe8c4bcb635": "Owner", "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9": "User Access Administrator",
	"f58310d9-a9f6-439a-9e8d-f62e7b41a168": "Role Based Access Control Administrator"}

var (
	directoryID   = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	azureResource = regexp.MustCompile(`^/subscriptions/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(/[A-Za-z0-9_().-]*[A-Za-z0-9_()-])*$`)
)

func (v *rules) azureRole(r *resource, a AzureRole) {
	for path, id := range map[string]string{"tenant": a.Tenant, "client": a.Client, "roleDefinition": a.RoleDefinition} {
		if !directoryID.MatchString(id) {
			v.add(r, "azure."+path, "id_unfit", name(id)+" is no id such as Azure has.", "Write it in lower case: 0b5fe924-9a61-425c-96af-cfe6e287ca2d.")
		}
	}
	if role := assigners[a.RoleDefinition]; role != "" {
		v.add(r, "azure.roleDefinition", "role_unfit", "The role "+role+" assigns roles itself: what its holder assigns would outlive the activation.", "Choose a smaller role.")
	}
	if len(a.Resource) > 1024 || !azureResource.MatchString(a.Resource) {
		v.add(r, "azure.resource", "resource_unfit", name(a.Resource)+" is no resource of Azure.", "Write /subscriptions/ID, and on to a resource group or a resource.")
	}
	v.bounded(r, "azure.principals", len(a.Principals), maxAzurePrincipals)
	seen := map[string]bool{}
	for i, p := range a.Principals {
		at := fmt.Sprintf("azure.principals[%d]", i)
		project, identity, _ := strings.Cut(p.Identity, "/")
		switch {
		case p.Identity == "":
			v.reference(r, at+".user", Key{Kind: UserKind, Name: p.User})
		case p.User != "" || project == "" || identity == "":
			v.add(r, at, "principal_unfit", "An account is a user's, or that of an identity written PROJECT/NAME, and not both.", "Write user: NAME or identity: PROJECT/NAME.")
		default:
			v.reference(r, at+".identity", Key{Kind: IdentityKind, Project: project, Name: identity})
		}
		switch {
		case !directoryID.MatchString(p.ID):
			v.add(r, at+".id", "id_unfit", name(p.ID)+" is no id such as Azure has.", "Write the object id of the user, or of the service principal, in the directory.")
		case seen["user "+p.User+" "+p.Identity] || seen[p.ID]:
			v.add(r, at, "duplicate", "Two entries name the same user, identity or account.", "Give each one account, and each account one of them.")
		}
		seen["user "+p.User+" "+p.Identity], seen[p.ID] = true, true
	}
}

func (w *weakening) provisioner(a Provisioner, was bool, b Provisioner) {
	if !was || a.Kind() != b.Kind() {
		w.when(true, "whoever activates %s at %s or above gets an account on a system (%s)", b.Role, b.Scope, b.Kind())
		return
	}
	w.when(a.Role != b.Role || a.Scope != b.Scope, "it is opened by activations of %s at %s or above", b.Role, b.Scope)
	w.when(a.OnDrift() != b.OnDrift() && b.OnDrift() != RevokeDrift, "on drift it is to %s instead of %s", b.OnDrift(), a.OnDrift())
	w.more("%s may hold it besides, and nobody is told", a.Known, b.Known)
	switch {
	case a.PostgreSQL != nil && b.PostgreSQL != nil:
		w.more("its logins are members of %s", a.PostgreSQL.Roles, b.PostgreSQL.Roles)
	case a.SSH != nil && b.SSH != nil:
		w.more("its certificates let in as %s", a.SSH.Principals, b.SSH.Principals)
		w.more("its certificates have the extension %s", a.SSH.CertificateExtensions(), b.SSH.CertificateExtensions())
		w.when(b.SSH.CertificateLifetime() > a.SSH.CertificateLifetime(), "its certificates last %s instead of %s", b.SSH.CertificateLifetime(), a.SSH.CertificateLifetime())
	case a.Webhook != nil && b.Webhook != nil:
		w.when(a.Webhook.URL != b.Webhook.URL, "somebody else is asked")
		w.when(b.Webhook.Private && !a.Webhook.Private, "it may lie on a private network")
	case a.Azure != nil && b.Azure != nil:
		w.azureRole(*a.Azure, *b.Azure)
	}
}

func (w *weakening) azureRole(a, b AzureRole) {
	w.when(a.Tenant != b.Tenant || a.Client != b.Client, "another application assigns, in %s", b.Tenant)
	w.when(a.Resource != b.Resource && !strings.HasPrefix(b.Resource, a.Resource+"/"), "it is about %s instead of %s", b.Resource, a.Resource)
	w.when(a.RoleDefinition != b.RoleDefinition, "another role is assigned: %s", b.RoleDefinition)
	for _, p := range b.Principals {
		w.when(!slices.Contains(a.Principals, p), "%s has the account %s of the directory", cmp.Or(p.User, p.Identity), p.ID)
	}
}
