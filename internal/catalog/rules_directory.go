package catalog

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Bounds of a directory.
const (
	maxDirectoryGroups = 1000
	maxScopes          = 16
	maxSubject         = 255
)

func (v *rules) directory(r *resource, d *Directory) {
	if !slices.Contains(directoryPlatforms(), d.Platform) {
		v.add(r, "platform", "platform_unknown", "The platform "+name(d.Platform)+" is no directory that Lockkeeper knows.", v.problems.suggest(d.Platform, directoryPlatforms(), "Write one of "+strings.Join(directoryPlatforms(), ", ")+"."))
		return
	}
	v.directoryIssuer(r, d)
	if d.Client == "" || len(d.Client) > maxSubject || strings.ContainsFunc(d.Client, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		v.add(r, "client", "client_unfit", "The client must be 1 to 255 printable ASCII characters without blanks.", "Write the id that the directory gave Lockkeeper where it was registered.")
	}
	if len(d.Scopes) > maxScopes {
		v.bounded(r, "scopes", len(d.Scopes), maxScopes)
	}
	for i, s := range d.Scopes { // RFC 6749, section 3.3
		if s == "" || len(s) > 128 || strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '"' || c == '\\' }) {
			v.add(r, fmt.Sprintf("scopes[%d]", i), "scope_unfit", "The scope "+name(s)+" is none that OAuth has.", "Write it as the directory names it, such as groups.")
		}
	}
	for _, c := range [][2]string{{"claim", d.Claim}, {"groupClaim", d.GroupClaim}} {
		if len(c[1]) > 128 {
			v.add(r, c[0], "value_too_long", "The name of the claim has more than 128 bytes.", "Write it as it stands in the token.")
		}
	}
	if mutable := []string{"email", "preferred_username", "upn", "unique_name", "name", "nickname"}; slices.Contains(mutable, d.Claim) {
		v.add(r, "claim", "claim_changes_hands", "The claim "+d.Claim+" can come to name somebody else.", "Name one that the directory never gives again, such as sub.")
	}
	v.directoryGroups(r, d)
	v.provisioning(r, d)
	v.within(r, "groupAge", d.GroupAge, 5*time.Minute, 30*24*time.Hour)
	v.within(r, "session", d.Session, 5*time.Minute, 24*time.Hour)
	v.within(r, "idle", d.Idle, 5*time.Minute, 24*time.Hour)
}

func (v *rules) directoryIssuer(r *resource, d *Directory) {
	entra, google := d.Platform == EntraDirectory, d.Platform == GoogleDirectory
	if d.Issuer != "" || !entra && !google {
		// Some directories are at an address that ends with a slash, and their tokens
		// say so, too.
		if reason := issuerUnfit(strings.TrimSuffix(d.Issuer, "/")); reason != "" {
			v.add(r, "issuer", "issuer_unfit", "The issuer "+reason+".", "Write it exactly as the directory's settings have it under issuer, such as https://id.example.com/realms/main.")
		}
	}
	switch {
	case entra && !guid(d.Tenant):
		v.add(r, "tenant", "tenant_unfit", "A directory of Entra ID is one tenant, and its id is a GUID in lower case.", "Write the directory (tenant) id; common and organizations stand for everybody's tenant.")
	case !entra && d.Tenant != "":
		v.add(r, "tenant", "field_of_other_platform", "Only Entra ID has tenants.", "Take it out.")
	}
	switch {
	case google && (d.Domain == "" || len(d.Domain) > 253 || strings.ContainsAny(d.Domain, "@ /*") || strings.ToLower(d.Domain) != d.Domain):
		v.add(r, "domain", "domain_unfit", "Google signs everybody in who has an account there, so a Workspace domain must say whose accounts are meant.", "Write domain: example.com, in lower case.")
	case !google && d.Domain != "":
		v.add(r, "domain", "field_of_other_platform", "Only Google has Workspace domains.", "Take it out.")
	}
}

// provisioning checks how what a directory writes is understood.
func (v *rules) provisioning(r *resource, d *Directory) {
	if one := subjectAttributes(); d.ScimSubject != "" && !slices.Contains(one, d.ScimSubject) {
		v.add(r, "scimSubject", "attribute_unknown", "No account is known by the attribute "+name(d.ScimSubject)+".", v.problems.suggest(d.ScimSubject, one, "Write one of "+strings.Join(one, ", ")+"."))
	}
	switch one := groupAttributes(); {
	case d.ScimGroups != "" && !slices.Contains(one, d.ScimGroups):
		v.add(r, "scimGroups", "attribute_unknown", "No group is known by the attribute "+name(d.ScimGroups)+".", v.problems.suggest(d.ScimGroups, one, "Write one of "+strings.Join(one, ", ")+"."))
	case d.Platform == EntraDirectory && d.ScimGroups == DisplayNameAttribute:
		v.add(r, "scimGroups", "group_id_unfit", "Entra ID names groups by their object id, which it writes as externalId.", "Take it out.")
	}
	for _, f := range [][2]string{{"scimSubject", d.ScimSubject}, {"scimGroups", d.ScimGroups}} {
		if f[1] != "" && !d.Scim {
			v.add(r, f[0], "scim_missing", "The directory writes nothing.", "Add scim: true, or take it out.")
		}
	}
}

func subjectAttributes() []string { return []string{ExternalIDAttribute, UserNameAttribute} }
func groupAttributes() []string   { return []string{ExternalIDAttribute, DisplayNameAttribute} }

func (v *rules) directoryGroups(r *resource, d *Directory) {
	if len(d.Groups) > maxDirectoryGroups {
		v.bounded(r, "groups", len(d.Groups), maxDirectoryGroups)
	}
	if d.Platform == GoogleDirectory && len(d.Groups) > 0 && d.GroupClaim == "" && !d.Scim {
		v.add(r, "groups", "groups_unsaid", "The tokens of Google name no groups.", "List members in groups of the catalog.")
	}
	seen := map[DirectoryGroup]bool{}
	for i, g := range d.Groups {
		at := fmt.Sprintf("groups[%d]", i)
		v.reference(r, at+".group", Key{Kind: GroupKind, Name: g.Group})
		switch {
		case g.ID == "" || len(g.ID) > maxSubject:
			v.add(r, at+".id", "field_missing", "The group of the directory has no fit id.", "Write it as the directory's tokens have it; at Entra ID that is the object id.")
		case d.Platform == EntraDirectory && !guid(g.ID):
			v.add(r, at+".id", "group_id_unfit", "Entra ID names groups by their object id, a GUID in lower case.", "Write the object id: a name can be given to another group.")
		case seen[g]:
			v.add(r, at, "duplicate_value", "This group is listed already.", "Keep one of the two.")
		}
		seen[g] = true
	}
}

// signIns checks a user's accounts at directories.
func (v *rules) signIns(r *resource, u *User) {
	for i, s := range u.SignIns {
		at := fmt.Sprintf("signIns[%d]", i)
		if !v.reference(r, at+".directory", Key{Kind: DirectoryKind, Name: s.Directory}) {
			continue
		}
		if s.None {
			if s.Subject != "" {
				v.add(r, at+".none", "sign_in_unfit", "The user has an account there or has none.", "Leave subject or none out.")
			}
			continue
		}
		if s.Subject == "" || len(s.Subject) > maxSubject || strings.ContainsFunc(s.Subject, func(c rune) bool { return c < ' ' || c == 0x7f }) {
			v.add(r, at+".subject", "subject_unfit", "The account of the user at the directory has no fit name.", "Write what the directory calls it for ever: its sub, at Entra ID its object id. A sign-in that is refused prints it.")
		} else if u.Automation {
			v.add(r, at, "automation_signs_in", "Automation never signs in.", "Take the sign-in out, or automation: true.")
		}
	}
}

// admitting refuses a directory that could bring in, as somebody new, whom the catalog
// knows already: what one of the two starts, the other could approve.
func (v *rules) admitting(admitted []*resource) {
	var first *resource
	for _, r := range admitted {
		d, is := r.value.(*Directory)
		if !is || !d.Admit {
			continue
		}
		if first != nil {
			v.add(r, "admit", "admit_twice", fmt.Sprintf("%s admits people already (%s): somebody with an account at both would be two persons.", first.key, first.where()), "Let one directory admit people, and list users of the other.")
			continue
		}
		first = r
		var missing []string
		for _, o := range admitted {
			u, is := o.value.(*User)
			if is && !u.Automation && !slices.ContainsFunc(u.SignIns, func(s SignIn) bool { return s.Directory == d.Name }) {
				missing = append(missing, u.Name)
			}
		}
		if len(missing) > 0 {
			v.add(r, "admit", "admit_unlisted", fmt.Sprintf("The directory would bring these in as somebody new, and what they start they could approve: %s.", clip(strings.Join(missing, ", "), 200)),
				"List the account of each under signIns: {directory: "+d.Name+", subject: …}, or that he has none there: {directory: "+d.Name+", none: true}.")
		}
	}
}

// directories refuses what makes two accounts one or one account two: two
// directories with the same issuer and client, and an account of two users.
func (v *rules) directories(admitted []*resource) {
	first, owner := map[[2]string]*resource{}, map[SignIn]*resource{}
	for _, r := range admitted {
		switch value := r.value.(type) {
		case *Directory:
			key := [2]string{value.IssuerURL(), value.Client}
			if other, dup := first[key]; dup && key[0] != "" {
				v.add(r, "issuer", "directory_duplicate", fmt.Sprintf("Issuer and client are those of %s (%s) too.", other.key, other.where()), "Keep one of the two.")
			}
			first[key] = r
		case *User:
			for i, s := range value.SignIns {
				if s.None {
					continue
				}
				if other, taken := owner[s]; taken {
					v.add(r, fmt.Sprintf("signIns[%d].subject", i), "sign_in_taken", fmt.Sprintf("The account %s at %s already belongs to %s (%s).", name(s.Subject), name(s.Directory), other.key, other.where()), "Leave it with the one user whose account it is.")
					continue
				}
				owner[s] = r
			}
		}
	}
}
