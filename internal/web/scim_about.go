package web

import (
	"net/http"
	"slices"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// scimConfig says what is supported (RFC 7643, section 5).
func (s *Server) scimConfig(*http.Request, keeper.Caller) (int, any, error) {
	no := map[string]any{"supported": false}
	return http.StatusOK, map[string]any{"schemas": []string{configSchema}, "patch": map[string]any{"supported": true},
		"bulk": map[string]any{"supported": false, "maxOperations": 0, "maxPayloadSize": 0}, "filter": map[string]any{"supported": true, "maxResults": maxPage},
		"changePassword": no, "sort": no, "etag": no,
		"authenticationSchemes": []any{map[string]any{"type": "oauthbearertoken", "name": "Bearer token", "description": "A token of the directory: lockkeeper directories scim-token NAME", "primary": true}},
		"meta":                  map[string]any{"resourceType": "ServiceProviderConfig", "location": s.URL + "/scim/v2/ServiceProviderConfig"}}, nil
}

// oneOf answers with a list of what there is, or with the one that the address names.
func oneOf(r *http.Request, all []map[string]any) (int, any, error) {
	id := r.PathValue("id")
	if id == "" {
		list := make([]any, 0, len(all))
		for _, one := range all {
			list = append(list, one)
		}
		return http.StatusOK, listOf(list, len(list), 1), nil
	}
	if i := slices.IndexFunc(all, func(one map[string]any) bool { return one["id"] == id }); i >= 0 {
		return http.StatusOK, all[i], nil
	}
	return 0, nil, lockkeeper.NotFound.Errorf("resource_missing", "There is no such resource.")
}

// scimTypes are the types of resources (RFC 7643, section 6).
func (s *Server) scimTypes(r *http.Request, _ keeper.Caller) (int, any, error) {
	resource := func(name, endpoint, schema string) map[string]any {
		return map[string]any{"schemas": []string{typeSchema}, "id": name, "name": name, "endpoint": endpoint, "schema": schema,
			"meta": map[string]any{"resourceType": "ResourceType", "location": s.URL + "/scim/v2/ResourceTypes/" + name}}
	}
	return oneOf(r, []map[string]any{resource("User", "/Users", userSchema), resource("Group", "/Groups", groupSchema)})
}

// scimSchemas are the attributes that are kept (RFC 7643, section 7).
func (s *Server) scimSchemas(r *http.Request, _ keeper.Caller) (int, any, error) {
	attribute := func(name, kind, mutability, uniqueness string, required, exact bool) map[string]any {
		return map[string]any{"name": name, "type": kind, "multiValued": false, "required": required, "caseExact": exact, "mutability": mutability, "returned": "default", "uniqueness": uniqueness}
	}
	members := attribute("members", "complex", "readWrite", "none", false, false)
	members["multiValued"], members["subAttributes"] = true, []any{attribute("value", "string", "immutable", "none", true, true),
		attribute("type", "string", "immutable", "none", false, false), attribute("$ref", "reference", "immutable", "none", false, true)}
	schema := func(id, name string, attributes ...any) map[string]any {
		return map[string]any{"schemas": []string{schemaSchema}, "id": id, "name": name, "attributes": attributes,
			"meta": map[string]any{"resourceType": "Schema", "location": s.URL + "/scim/v2/Schemas/" + id}}
	}
	external := attribute("externalId", "string", "readWrite", "none", false, true)
	return oneOf(r, []map[string]any{
		schema(userSchema, "User", attribute("userName", "string", "readWrite", "server", true, false), external, attribute("active", "boolean", "readWrite", "none", false, false)),
		schema(groupSchema, "Group", attribute("displayName", "string", "readWrite", "none", true, false), external, members),
	})
}
