package web

import (
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// Directories write who is there and who is in which group (SCIM 2.0, RFC 7643 and
// RFC 7644), each with a token of its own. Of a user id, externalId, userName and
// active are kept, of a group id, externalId, displayName and members.

const scimType = "application/scim+json"

// registerScim is the table of what directories ask, and of what people do about it.
func (s *Server) registerScim(mux *http.ServeMux) {
	s.registerProvisioning()
	s.metrics.registry.MustRegister(writeEnds{s.Keeper})
	for pattern, f := range map[string]scimHandler{
		"GET /scim/v2/Users": s.scimUsers, "POST /scim/v2/Users": s.scimCreateUser,
		"GET /scim/v2/Users/{id}": s.scimUser, "PUT /scim/v2/Users/{id}": s.scimWriteUser(readUser),
		"PATCH /scim/v2/Users/{id}": s.scimWriteUser(patchUser), "DELETE /scim/v2/Users/{id}": s.scimRemoveUser,
		"GET /scim/v2/Groups": s.scimGroups, "POST /scim/v2/Groups": s.scimCreateGroup,
		"GET /scim/v2/Groups/{id}": s.scimGroup, "PUT /scim/v2/Groups/{id}": s.scimReplaceGroup,
		"PATCH /scim/v2/Groups/{id}": s.scimPatchGroup, "DELETE /scim/v2/Groups/{id}": s.scimRemoveGroup,
		"GET /scim/v2/ServiceProviderConfig": s.scimConfig,
		"GET /scim/v2/ResourceTypes":         s.scimTypes, "GET /scim/v2/ResourceTypes/{id}": s.scimTypes,
		"GET /scim/v2/Schemas": s.scimSchemas, "GET /scim/v2/Schemas/{id}": s.scimSchemas,
		"/scim/v2/": s.scimNowhere,
	} {
		mux.HandleFunc(pattern, s.scim(f))
	}
}

// A scimHandler answers a directory with a status and a body; nil is none.
type scimHandler func(r *http.Request, by keeper.Caller) (status int, body any, err error)

// scim lets a directory in and renders what it is answered.
func (s *Server) scim(f scimHandler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		status, body, err := 0, any(nil), error(nil)
		token, err := bearer(r.Header.Get("Authorization"))
		var by keeper.Caller
		if err == nil {
			by, err = s.Keeper.Writer(token, source(r.RemoteAddr))
		}
		if err == nil {
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
			status, body, err = f(r, by)
		}
		if err != nil {
			status, body = s.scimProblem(r, err)
			if status == http.StatusTooManyRequests {
				w.Header().Set("Retry-After", "1")
			}
		}
		if body == nil {
			w.WriteHeader(status)
			return
		}
		w.Header().Set("Content-Type", scimType)
		if at := locationOf(body); at != "" && status == http.StatusCreated {
			w.Header().Set("Location", at)
		}
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(body) // the caller has gone if this fails
	}
}

func locationOf(body any) string {
	o, _ := body.(map[string]any)
	meta, _ := o["meta"].(map[string]any)
	at, _ := meta["location"].(string)
	return at
}

// scimTypes of errors (RFC 7644, table 9), by our codes.
var scimErrorTypes = map[string]string{
	"scim_syntax": "invalidSyntax", "scim_value": "invalidValue", "scim_filter": "invalidFilter", "scim_path": "invalidPath", "scim_no_target": "noTarget", "scim_mutability": "mutability",
	"attribute_unfit": "invalidValue", "subject_unfit": "invalidValue", "member_unknown": "invalidValue",
	"already_provisioned": "uniqueness", "subject_fixed": "mutability",
}

// scimProblem renders an error as RFC 7644, section 3.12, has it.
func (s *Server) scimProblem(r *http.Request, err error) (int, any) {
	p := s.problem(r.Context(), err)
	status := p.Status
	switch kind := scimErrorTypes[p.Code]; {
	case p.Code == "body_large":
		status = http.StatusRequestEntityTooLarge
	case p.Code == "scim_unsupported":
		status = http.StatusNotImplemented
	case kind == "uniqueness":
		status = http.StatusConflict
	case kind != "":
		status = http.StatusBadRequest
	}
	out := map[string]any{"schemas": []string{errorSchema}, "status": strconv.Itoa(status), "detail": strings.TrimSpace(p.Detail + " " + p.Next)}
	if kind := scimErrorTypes[p.Code]; kind != "" {
		out["scimType"] = kind
	}
	return status, out
}

// written reads the body of a request.
func written(r *http.Request) ([]byte, error) {
	if t := r.Header.Get("Content-Type"); t != "" {
		if media, _, err := mime.ParseMediaType(t); err != nil || media != scimType && media != "application/json" {
			return nil, errSyntax("The body is %s or application/json.", scimType)
		}
	}
	body, err := io.ReadAll(r.Body)
	if errors.As(err, new(*http.MaxBytesError)) {
		return nil, lockkeeper.Invalid.Errorf("body_large", "The body has more than %d bytes.", maxBody).WithNext("Write members in several steps.")
	}
	if err != nil {
		return nil, errSyntax("The body ends too soon.")
	}
	return body, nil
}

// resourceID is the id in a request's address.
func resourceID(r *http.Request) (string, error) {
	id := r.PathValue("id")
	if lockkeeper.CheckName(id) != nil {
		return "", lockkeeper.NotFound.Errorf("resource_missing", "There is no such resource.")
	}
	return id, nil
}

func (s *Server) scimUsers(r *http.Request, by keeper.Caller) (int, any, error) {
	matches, err := matchesOf(r, userSchema, map[string]string{"id": "id", "externalid": "externalId", "username": "userName", "active": "active"})
	if err != nil {
		return 0, nil, err
	}
	start, page, err := pageOf(r)
	if err != nil {
		return 0, nil, err
	}
	list, total, err := s.Keeper.ProvisionedUsers(r.Context(), by, matches, page)
	if err != nil {
		return 0, nil, err
	}
	resources := make([]any, 0, len(list))
	for _, u := range list {
		resources = append(resources, chosen(r, s.renderUser(u)))
	}
	return http.StatusOK, listOf(resources, total, start), nil
}

func (s *Server) scimUser(r *http.Request, by keeper.Caller) (int, any, error) {
	id, err := resourceID(r)
	if err != nil {
		return 0, nil, err
	}
	list, _, err := s.Keeper.ProvisionedUsers(r.Context(), by, []keeper.Match{{Attribute: "id", Value: id}}, keeper.Page{Limit: 1})
	if err == nil && len(list) == 0 {
		err = lockkeeper.NotFound.Errorf("resource_missing", "There is no such user.")
	}
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, chosen(r, s.renderUser(list[0])), nil
}

func (s *Server) scimCreateUser(r *http.Request, by keeper.Caller) (int, any, error) {
	body, err := written(r)
	if err != nil {
		return 0, nil, err
	}
	write, err := readUser(body)
	if err != nil {
		return 0, nil, err
	}
	u, err := s.Keeper.CreateUser(r.Context(), by, write)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, chosen(r, s.renderUser(u)), nil
}

func (s *Server) scimWriteUser(read func([]byte) (keeper.UserWrite, error)) scimHandler {
	return func(r *http.Request, by keeper.Caller) (int, any, error) {
		id, err := resourceID(r)
		if err != nil {
			return 0, nil, err
		}
		body, err := written(r)
		if err != nil {
			return 0, nil, err
		}
		write, err := read(body)
		if err != nil {
			return 0, nil, err
		}
		u, err := s.Keeper.ChangeUser(r.Context(), by, id, write)
		if err != nil {
			return 0, nil, err
		}
		return http.StatusOK, chosen(r, s.renderUser(u)), nil
	}
}

func (s *Server) scimRemoveUser(r *http.Request, by keeper.Caller) (int, any, error) {
	id, err := resourceID(r)
	if err == nil {
		err = s.Keeper.RemoveUser(r.Context(), by, id)
	}
	return http.StatusNoContent, nil, err
}

func (s *Server) scimGroups(r *http.Request, by keeper.Caller) (int, any, error) {
	matches, err := matchesOf(r, groupSchema, map[string]string{"id": "id", "externalid": "externalId", "displayname": "displayName", "members": "members", "members.value": "members"})
	if err != nil {
		return 0, nil, err
	}
	start, page, err := pageOf(r)
	if err != nil {
		return 0, nil, err
	}
	list, total, err := s.Keeper.ProvisionedGroups(by, matches, page)
	if err != nil {
		return 0, nil, err
	}
	resources := make([]any, 0, len(list))
	for _, g := range list {
		resources = append(resources, chosen(r, s.renderGroup(g)))
	}
	return http.StatusOK, listOf(resources, total, start), nil
}

func (s *Server) scimGroup(r *http.Request, by keeper.Caller) (int, any, error) {
	id, err := resourceID(r)
	if err != nil {
		return 0, nil, err
	}
	list, _, err := s.Keeper.ProvisionedGroups(by, []keeper.Match{{Attribute: "id", Value: id}}, keeper.Page{Limit: 1})
	if err == nil && len(list) == 0 {
		err = lockkeeper.NotFound.Errorf("resource_missing", "There is no such group.")
	}
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, chosen(r, s.renderGroup(list[0])), nil
}

func (s *Server) scimCreateGroup(r *http.Request, by keeper.Caller) (int, any, error) {
	body, err := written(r)
	if err != nil {
		return 0, nil, err
	}
	write, err := readGroup(body)
	if err != nil {
		return 0, nil, err
	}
	g, err := s.Keeper.CreateGroup(r.Context(), by, write)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, chosen(r, s.renderGroup(g)), nil
}

// scimReplaceGroup puts a whole group in the place of one: a group that is written
// without members has none.
func (s *Server) scimReplaceGroup(r *http.Request, by keeper.Caller) (int, any, error) {
	g, err := s.changeGroup(r, by, func(body []byte) (keeper.GroupWrite, error) {
		w, err := readGroup(body)
		if len(w.Members) == 0 {
			w.Members = []keeper.MemberStep{{Op: keeper.ReplaceMembers}}
		}
		return w, err
	})
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, chosen(r, s.renderGroup(g)), nil
}

// scimPatchGroup answers without a body: a group may have very many members.
func (s *Server) scimPatchGroup(r *http.Request, by keeper.Caller) (int, any, error) {
	_, err := s.changeGroup(r, by, patchGroup)
	return http.StatusNoContent, nil, err
}

func (s *Server) changeGroup(r *http.Request, by keeper.Caller, read func([]byte) (keeper.GroupWrite, error)) (keeper.ProvisionedGroup, error) {
	id, err := resourceID(r)
	if err != nil {
		return keeper.ProvisionedGroup{}, err
	}
	body, err := written(r)
	if err != nil {
		return keeper.ProvisionedGroup{}, err
	}
	write, err := read(body)
	if err != nil {
		return keeper.ProvisionedGroup{}, err
	}
	return s.Keeper.ChangeGroup(r.Context(), by, id, write)
}

func (s *Server) scimRemoveGroup(r *http.Request, by keeper.Caller) (int, any, error) {
	id, err := resourceID(r)
	if err == nil {
		err = s.Keeper.RemoveGroup(r.Context(), by, id)
	}
	return http.StatusNoContent, nil, err
}

// scimNowhere answers what is not there. What RFC 7644 names and nobody needs here
// is said to be missing.
func (s *Server) scimNowhere(r *http.Request, _ keeper.Caller) (int, any, error) {
	switch what, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/scim/v2/"), "/"); what {
	case "Bulk", "Me", ".search":
		return 0, nil, lockkeeper.Invalid.Errorf("scim_unsupported", "This is not supported: see /scim/v2/ServiceProviderConfig.")
	}
	return 0, nil, lockkeeper.NotFound.Errorf("route_unknown", "There is nothing at this address, or it does not take this method.")
}

// matchesOf reads the filter of a request.
func matchesOf(r *http.Request, schema string, attributes map[string]string) ([]keeper.Match, error) {
	filter := r.URL.Query().Get("filter")
	if filter == "" {
		return nil, nil
	}
	terms, err := readFilter(filter, schema)
	if err != nil {
		return nil, err
	}
	var out []keeper.Match
	for _, t := range terms {
		attribute, known := attributes[t.attribute]
		if !known {
			return nil, errFilter("%.60s cannot be asked for.", t.attribute)
		}
		if attribute == "active" {
			t.value = strings.ToLower(t.value)
		}
		out = append(out, keeper.Match{Attribute: attribute, Value: t.value})
	}
	return out, nil
}

// pageOf reads startIndex, which begins at 1, and count (RFC 7644, section 3.4.2.4).
func pageOf(r *http.Request) (start int, page keeper.Page, err error) {
	start, page.Limit = 1, defaultPage
	for name, into := range map[string]*int{"startIndex": &start, "count": &page.Limit} {
		if v := r.URL.Query().Get(name); v != "" {
			if *into, err = strconv.Atoi(v); err != nil {
				return 0, page, errValue(name, "%s is a number.", name)
			}
		}
	}
	start, page.Limit = max(start, 1), min(max(page.Limit, 0), maxPage)
	page.Skip = start - 1
	return start, page, nil
}

func listOf(resources []any, total, start int) map[string]any {
	return map[string]any{"schemas": []string{listSchema}, "totalResults": total, "startIndex": start, "itemsPerPage": len(resources), "Resources": resources}
}

func (s *Server) renderUser(u keeper.ProvisionedUser) map[string]any {
	out := map[string]any{"schemas": []string{userSchema}, "id": u.ID, "userName": u.UserName, "active": !u.Off,
		"meta": map[string]any{"resourceType": "User", "created": u.Created, "lastModified": cmp.Or(u.Changed, u.Created), "location": s.URL + "/scim/v2/Users/" + u.ID}}
	if u.External != "" {
		out["externalId"] = u.External
	}
	return out
}

func (s *Server) renderGroup(g keeper.ProvisionedGroup) map[string]any {
	members := make([]any, 0, len(g.Members))
	for _, id := range g.Members {
		members = append(members, map[string]any{"value": id, "type": "User", "$ref": s.URL + "/scim/v2/Users/" + id})
	}
	out := map[string]any{"schemas": []string{groupSchema}, "id": g.ID, "displayName": g.Name, "members": members,
		"meta": map[string]any{"resourceType": "Group", "created": g.Created, "lastModified": cmp.Or(g.Changed, g.Created), "location": s.URL + "/scim/v2/Groups/" + g.ID}}
	if g.External != "" {
		out["externalId"] = g.External
	}
	return out
}

// chosen is a resource with the attributes that the request asks for; id and schemas
// always stay (RFC 7644, section 3.9).
func chosen(r *http.Request, resource map[string]any) map[string]any {
	only, without := attributesOf(r, "attributes"), attributesOf(r, "excludedAttributes")
	for name := range resource {
		low := strings.ToLower(name)
		if low != "id" && low != "schemas" && (without[low] || len(only) > 0 && !only[low]) {
			delete(resource, name)
		}
	}
	return resource
}

func attributesOf(r *http.Request, parameter string) map[string]bool {
	out := map[string]bool{}
	for name := range strings.SplitSeq(r.URL.Query().Get(parameter), ",") {
		for _, schema := range []string{userSchema, groupSchema} {
			name, _ = cutFold(strings.TrimSpace(name), schema+":")
		}
		if whole, _, _ := strings.Cut(name, "."); whole != "" {
			out[strings.ToLower(whole)] = true
		}
	}
	return out
}
