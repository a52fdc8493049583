package effect

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// azureSettles is how long a list of ARM may miss what was just assigned: what was
// granted more lately is not looked for.
const azureSettles = 5 * time.Minute

// listedAssignment is one of the assignments that ARM lists.
type listedAssignment struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Properties struct {
		RoleDefinitionID string `json:"roleDefinitionId"`
		PrincipalID      string `json:"principalId"`
		PrincipalType    string `json:"principalType"`
		Scope            string `json:"scope"`
	} `json:"properties"`
}

// Scan lists the assignments of the role at the resource itself
// (roleAssignments?$filter=atScope(), api-version 2022-04-01). What is assigned above
// it, and to the members of groups, is not looked for: that holds for more than this
// resource. A list may be behind, so that what it shows as gone, or as left over, is
// read by its name before it is told.
func (z *azureRoles) Scan(ctx context.Context, s keeper.Scan) ([]keeper.Seen, error) {
	var like keeper.Duty
	like.Provisioner, like.Terms = s.Provisioner, s.Terms
	bearer, err := z.token(ctx, Account{like}, func() (string, error) { return z.reading(s.Provisioner, azureAudience) })
	if err != nil {
		return nil, err
	}
	list, err := z.list(ctx, s.Terms, bearer)
	if err != nil {
		return nil, err
	}
	names := map[string]listedAssignment{}
	for _, a := range list {
		names[strings.ToLower(a.Name)] = a
	}
	var seen []keeper.Seen
	ours, asked := map[string]bool{}, 0
	for _, d := range s.Duties {
		name := assignmentName(d.Target)
		_, there := names[name]
		if ours[name] = true; there || s.Began.Before(d.Until.Add(azureSettles)) {
			continue
		}
		if asked++; asked > maxAsked {
			break
		}
		if there, err = z.there(ctx, s.Terms, bearer, name); err != nil {
			return nil, err
		} else if !there {
			seen = append(seen, keeper.Seen{Kind: keeper.Vanished, Account: d.Account, Duty: d.ID, Detail: "The role is not assigned any more."})
		}
	}
	for _, a := range list {
		name, principal := strings.ToLower(a.Name), a.Properties.PrincipalID
		target := s.Targets[principal]
		switch {
		case ours[name]:
		case target != "" && assignmentName(target) == name:
			if asked++; asked > maxAsked {
				return seen, nil
			}
			there, err := z.there(ctx, s.Terms, bearer, name)
			if err != nil {
				return nil, err
			}
			if there {
				seen = append(seen, keeper.Seen{Kind: keeper.LeftOver, Account: principal, Target: target})
			}
		default:
			seen = append(seen, keeper.Seen{Kind: keeper.AssignedOutside, Account: principal, Detail: fmt.Sprintf("The assignment %.40s, to a %.40s.", a.Name, a.Properties.PrincipalType)})
		}
	}
	return seen, nil
}

// list reads the assignments of the terms' role at the terms' resource, page by page.
func (z *azureRoles) list(ctx context.Context, terms keeper.Terms, bearer string) ([]listedAssignment, error) {
	resource := terms.Azure.Resource
	next := z.cloud.Management + resource + "/providers/Microsoft.Authorization/roleAssignments?api-version=" + azureAPI + "&$filter=atScope()"
	var out []listedAssignment
	for range maxPages {
		status, answer, err := z.arm(ctx, http.MethodGet, next, bearer, nil)
		if err != nil {
			return nil, err
		}
		var page struct {
			Value    *[]listedAssignment `json:"value"`
			NextLink string              `json:"nextLink"`
		}
		switch {
		case status != http.StatusOK:
			return nil, armFailure(status, answer)
		case json.Unmarshal(answer, &page) != nil || page.Value == nil:
			return nil, &Failure{"answer_unfit", "Azure answered something else than a list of assignments.", true}
		}
		for _, a := range *page.Value {
			if strings.EqualFold(a.Properties.Scope, resource) && strings.HasSuffix(strings.ToLower(a.Properties.RoleDefinitionID), "/"+terms.Azure.RoleDefinition) {
				out = append(out, a)
			}
		}
		switch next = page.NextLink; {
		case next == "":
			return out, nil
		case !strings.HasPrefix(next, z.cloud.Management+"/"):
			return nil, &Failure{"answer_unfit", "Azure's list goes on at another address.", true} // where our token must not go
		}
	}
	return nil, &Failure{"target_large", fmt.Sprintf("The list of assignments has more than %d pages.", maxPages), true}
}

// there reads one assignment by its name.
func (z *azureRoles) there(ctx context.Context, terms keeper.Terms, bearer, name string) (bool, error) {
	status, answer, err := z.arm(ctx, http.MethodGet, z.cloud.Management+assignmentPathOf(terms, name)+"?api-version="+azureAPI, bearer, nil)
	if err != nil {
		return false, err
	}
	return assignmentThere(status, answer)
}

func assignmentPathOf(terms keeper.Terms, name string) string {
	return terms.Azure.Resource + "/providers/Microsoft.Authorization/roleAssignments/" + name
}

// assignmentName is a UUID of version 8 (RFC 9562) out of a target's digest; "" for
// what is none.
func assignmentName(target lockkeeper.Digest) string {
	b, err := digestBytes(target)
	if err != nil {
		return ""
	}
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
