package web

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
)

// writingCorp is a directory that signs people in and writes them.
var writingCorp = strings.Replace(corp, "admit: true", "admit: true\nscim: true\nscimGroups: externalId", 1)

// A scimClient is a directory's provisioning service.
type scimClient struct {
	w     *world
	token string
}

func (w *world) scimClient(directory string) *scimClient {
	w.t.Helper()
	var made api.MadeDirectoryToken
	w.must(w.people["dora"].Call(context.Background(), "POST", "/directories/"+directory+"/tokens", api.MakeDirectoryToken{Seconds: 3600}, &made))
	if made.URL != w.server.URL+"/scim/v2" || !strings.HasPrefix(made.Secret, "lkd_") {
		w.t.Fatalf("%+v", made)
	}
	w.issued = append(w.issued, made.Secret)
	return &scimClient{w, made.Secret}
}

type scimReply struct {
	status int
	header http.Header
	body   map[string]any
	raw    string
}

func (c *scimClient) ask(method, path, body string) scimReply {
	c.w.t.Helper()
	r, err := http.NewRequest(method, c.w.server.URL+"/scim/v2"+path, strings.NewReader(body))
	c.w.must(err)
	r.Header.Set("Authorization", "Bearer "+c.token)
	if body != "" {
		r.Header.Set("Content-Type", "application/scim+json; charset=utf-8")
	}
	return c.send(r)
}

func (c *scimClient) send(r *http.Request) scimReply {
	c.w.t.Helper()
	resp, err := http.DefaultClient.Do(r)
	c.w.must(err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	c.w.must(err)
	out := scimReply{status: resp.StatusCode, header: resp.Header, raw: string(b)}
	if len(b) > 0 {
		if err := json.Unmarshal(b, &out.body); err != nil {
			c.w.t.Fatalf("%s %s: %v %s", r.Method, r.URL, err, b)
		}
		if out.header.Get("Content-Type") != scimType {
			c.w.t.Errorf("%s %s answers with %s", r.Method, r.URL, out.header.Get("Content-Type"))
		}
	}
	return out
}

// want asks and checks the status.
func (c *scimClient) want(status int, method, path, body string) scimReply {
	c.w.t.Helper()
	got := c.ask(method, path, body)
	if got.status != status {
		c.w.t.Fatalf("%s %s %s: %d %s, want %d", method, path, body, got.status, got.raw, status)
	}
	return got
}

func (r scimReply) id() string {
	id, _ := r.body["id"].(string)
	return id
}

func (r scimReply) found(t *testing.T) []map[string]any {
	t.Helper()
	list, is := r.body["Resources"].([]any)
	if !is || int(r.body["itemsPerPage"].(float64)) != len(list) {
		t.Fatalf("no list: %s", r.raw)
	}
	var out []map[string]any
	for _, x := range list {
		out = append(out, x.(map[string]any))
	}
	return out
}

func filtered(path, filter string) string { return path + "?filter=" + url.QueryEscape(filter) }

// membersOfGroup are those that a group has now.
func (c *scimClient) membersOfGroup(id string) string {
	c.w.t.Helper()
	var out []string
	list, _ := c.want(200, "GET", "/Groups/"+id, "").body["members"].([]any)
	for _, m := range list {
		out = append(out, m.(map[string]any)["value"].(string))
	}
	return strings.Join(out, " ")
}

// TestScimAsEntraWrites plays what Entra ID's provisioning service sends: a test of
// the connection, look-ups before each write, Add, Replace and Remove, booleans as
// texts, members to be removed in the value.
func TestScimAsEntraWrites(t *testing.T) {
	w, ctx := newWorld(t), context.Background()
	w.directory(writingCorp)
	c := w.scimClient("corp")
	if n := len(c.want(200, "GET", filtered("/Users", `userName eq "26f8c2f1-9d0b-4ad1-b5f5-9d6e0a2a9c11"`), "").found(t)); n != 0 {
		t.Errorf("%d users", n)
	}
	created := c.want(201, "POST", "/Users", `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User","urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"],
		"externalId":"id-ann","userName":"anna@example.com","active":true,"displayName":"Anna Example","emails":[{"primary":true,"type":"work","value":"anna@example.com"}],
		"meta":{"resourceType":"User"},"name":{"formatted":"Anna Example","familyName":"Example","givenName":"Anna"},"roles":[],"title":null,
		"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"employeeNumber":"17","manager":"x"}}`)
	anna := created.id()
	if created.header.Get("Location") != w.server.URL+"/scim/v2/Users/"+anna || created.body["userName"] != "anna@example.com" || created.body["active"] != true || created.body["emails"] != nil || created.body["name"] != nil {
		t.Errorf("%s", created.raw)
	}
	for _, filter := range []string{`userName eq "ANNA@example.com"`, `externalId eq "id-ann"`, `id eq "` + anna + `" and active eq true`, `urn:ietf:params:scim:schemas:core:2.0:User:userName Eq "anna@example.com"`, `active eq "True"`} {
		if list := c.want(200, "GET", filtered("/Users", filter), "").found(t); len(list) != 1 || list[0]["id"] != anna {
			t.Errorf("%s: %v", filter, list)
		}
	}
	group := c.want(201, "POST", "/Groups", `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:Group","http://schemas.microsoft.com/2006/11/ResourceManagement/ADSCIM/2.0/Group"],
		"externalId":"g-managers","displayName":"Managers","meta":{"resourceType":"Group"}}`).id()
	if list := c.want(200, "GET", filtered("/Groups", `displayName eq "managers"`)+"&excludedAttributes=members", "").found(t); len(list) != 1 || list[0]["members"] != nil || list[0]["externalId"] != "g-managers" {
		t.Errorf("%v", list)
	}
	_, client := w.signedIn("anna@example.com")
	may := func() bool {
		t.Helper()
		var can api.Can
		w.must(client.Call(ctx, "GET", "/can?user=anna&action=deployments/approve&scope=/projects/payments", nil, &can))
		return can.Decision.Verdict == lockkeeper.Pass
	}
	if may() {
		t.Error("her token says that she is in the group, and the directory writes who is")
	}
	patch := func(status int, path, operations string) scimReply {
		t.Helper()
		return c.want(status, "PATCH", path, `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[`+operations+`]}`)
	}
	members := func(want string) {
		t.Helper()
		if got := c.membersOfGroup(group); got != want {
			t.Errorf("members are %q, not %q", got, want)
		}
		if may() != (want == anna) {
			t.Errorf("she may: %v", may())
		}
	}
	patch(204, "/Groups/"+group, `{"op":"Add","path":"members","value":[{"$ref":null,"value":"`+anna+`"}]}`)
	members(anna)
	if list := c.want(200, "GET", filtered("/Groups", `id eq "`+group+`" and members eq "`+anna+`"`), "").found(t); len(list) != 1 {
		t.Errorf("%v", list)
	}
	patch(204, "/Groups/"+group, `{"op":"Remove","path":"members","value":[{"$ref":null,"value":"`+anna+`"}]}`)
	members("")
	patch(204, "/Groups/"+group, `{"op":"Add","path":"members","value":{"value":"`+anna+`"}}`)
	patch(204, "/Groups/"+group, `{"op":"remove","path":"members[value eq \"`+anna+`\"]"}`)
	members("")
	patch(204, "/Groups/"+group, `{"op":"Add","path":"members","value":[{"value":"`+anna+`"}]},{"op":"Replace","path":"displayName","value":"All managers"}`)
	members(anna)
	patch(200, "/Users/"+anna, `{"op":"Replace","path":"displayName","value":"A. Example"},{"op":"Add","path":"emails[type eq \"work\"].value","value":"a@example.com"},{"op":"Add","path":"name.familyName","value":"E"},
		{"op":"Replace","path":"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department","value":"X"},{"op":"Replace","path":"userName","value":"anna.e@example.com"}`)
	off := patch(200, "/Users/"+anna, `{"op":"Replace","path":"active","value":"False"}`)
	if off.body["active"] != false || off.body["userName"] != "anna.e@example.com" {
		t.Errorf("%s", off.raw)
	}
	if err := client.Call(ctx, "GET", "/sessions", nil, nil); code(err) != "session_unknown" {
		t.Errorf("her session: %v", err)
	}
	terminal := w.terminal()
	if _, err := terminal.redeem(terminal.signIn(terminal.address(""), "anna@example.com")); code(err) != "account_away" {
		t.Errorf("she signs in: %v", err)
	}
	patch(200, "/Users/"+anna, `{"op":"Replace","value":{"active":"True","name.givenName":"Anna"}}`)
	if s, back := w.signedIn("anna@example.com"); s.User != "anna" {
		t.Errorf("she is back as %s", s.User)
	} else {
		client = back
	}
	members(anna)
	c.want(204, "DELETE", "/Users/"+anna, "")
	c.want(404, "GET", "/Users/"+anna, "")
	if got := c.membersOfGroup(group); got != "" {
		t.Errorf("members: %s", got)
	}
	if err := client.Call(ctx, "GET", "/sessions", nil, nil); code(err) != "session_unknown" {
		t.Errorf("her session: %v", err)
	}
	// The same account comes back under another id, as the same user.
	again := c.want(201, "POST", "/Users", `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"externalId":"id-ann","userName":"anna@example.com"}`)
	if s, _ := w.signedIn("anna@example.com"); s.User != "anna" || again.id() == anna {
		t.Errorf("%s %s", s.User, again.raw)
	}
	c.want(204, "DELETE", "/Groups/"+group, "")
	c.want(404, "DELETE", "/Groups/"+group, "")
}

// TestScimAsOktaWrites plays what Okta sends: PUT of whole users, switching off
// without a path, groups that are pushed by their names.
func TestScimAsOktaWrites(t *testing.T) {
	w, ctx := newWorld(t), context.Background()
	w.directory(strings.NewReplacer("scimGroups: externalId", "scimGroups: displayName", "id: g-managers", "id: Managers").Replace(writingCorp))
	c := w.scimClient("corp")
	list := c.want(200, "GET", "/Users?startIndex=1&count=2", "")
	if list.body["totalResults"] != 0.0 || list.body["startIndex"] != 1.0 || len(list.found(t)) != 0 {
		t.Errorf("%s", list.raw)
	}
	ids := map[string]string{}
	for _, user := range []string{"eve", "ann", "zoe"} {
		body := fmt.Sprintf(`{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"%[1]s@example.com","name":{"givenName":"%[1]s","familyName":"X"},"emails":[{"primary":true,"value":"%[1]s@example.com","type":"work"}],
			"displayName":"%[1]s X","locale":"en-US","externalId":"id-%[1]s","groups":[],"password":"1mz050nq","active":true}`, user)
		ids[user] = c.want(201, "POST", "/Users", body).id()
		if refused := c.want(409, "POST", "/Users", body); refused.body["scimType"] != "uniqueness" || refused.body["status"] != "409" {
			t.Errorf("%s", refused.raw)
		}
	}
	page := c.want(200, "GET", "/Users?startIndex=2&count=2", "")
	paged := map[any]bool{}
	for _, u := range append(c.want(200, "GET", "/Users?startIndex=1&count=1", "").found(t), page.found(t)...) {
		paged[u["id"]] = true
	}
	if got := page.found(t); page.body["totalResults"] != 3.0 || page.body["startIndex"] != 2.0 || len(got) != 2 || len(paged) != 3 || !paged[ids["zoe"]] { // two that came in one millisecond come in any order
		t.Errorf("%s", page.raw)
	}
	c.want(200, "PUT", "/Users/"+ids["zoe"], `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"id":"`+ids["zoe"]+`","userName":"zoe.new@example.com","name":{"givenName":"Zoe"},"active":true,"meta":{"resourceType":"User"}}`)
	if got := c.want(200, "GET", "/Users/"+ids["zoe"], ""); got.body["userName"] != "zoe.new@example.com" || got.body["externalId"] != "id-zoe" {
		t.Errorf("%s", got.raw)
	}
	group := c.want(201, "POST", "/Groups", `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:Group"],"displayName":"Managers","members":[{"value":"`+ids["eve"]+`","display":"eve@example.com"}]}`).id()
	may := func(user string) bool {
		t.Helper()
		var can api.Can
		w.must(w.people["dora"].Call(ctx, "GET", "/can?user="+user+"&action=deployments/approve&scope=/projects/payments", nil, &can))
		return can.Decision.Verdict == lockkeeper.Pass
	}
	if !may("eve") || may("zoe") {
		t.Errorf("eve %v, zoe %v", may("eve"), may("zoe"))
	}
	c.want(204, "PATCH", "/Groups/"+group, `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[{"op":"remove","path":"members[value eq \"`+ids["eve"]+`\"]"},{"op":"add","path":"members","value":[{"value":"`+ids["zoe"]+`","display":"zoe@example.com"}]}]}`)
	if may("eve") || !may("zoe") {
		t.Errorf("eve %v, zoe %v", may("eve"), may("zoe"))
	}
	c.want(204, "PATCH", "/Groups/"+group, `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[{"op":"replace","path":"members","value":[{"value":"`+ids["eve"]+`"},{"value":"`+ids["zoe"]+`"}]}]}`)
	if !may("eve") || !may("zoe") {
		t.Errorf("eve %v, zoe %v", may("eve"), may("zoe"))
	}
	c.want(200, "PUT", "/Groups/"+group, `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:Group"],"id":"`+group+`","displayName":"Managers","members":[{"value":"`+ids["zoe"]+`"}]}`)
	if may("eve") || !may("zoe") {
		t.Errorf("eve %v, zoe %v", may("eve"), may("zoe"))
	}
	_, eve := w.signedIn("eve@example.com")
	c.want(200, "PATCH", "/Users/"+ids["eve"], `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[{"op":"replace","value":{"active":false}}]}`)
	if err := eve.Call(ctx, "GET", "/sessions", nil, nil); code(err) != "session_unknown" {
		t.Errorf("eve, whom the catalog lists, is there still: %v", err)
	}
	// A renamed group is the catalog's no more.
	c.want(204, "PATCH", "/Groups/"+group, `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[{"op":"replace","value":{"id":"`+group+`","displayName":"Others"}}]}`)
	if may("zoe") {
		t.Error("zoe may still")
	}
	c.want(204, "PATCH", "/Groups/"+group, `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[{"op":"remove","path":"members"}]}`)
	if got := c.membersOfGroup(group); got != "" {
		t.Errorf("members: %s", got)
	}
	var list2 api.WritingDirectories
	w.must(w.people["dora"].Call(ctx, "GET", "/directories/written", nil, &list2))
	if d := list2.Directories[0]; d.Users != 3 || d.Off != 1 || d.Groups != 1 || len(d.Tokens) != 1 || d.Tokens[0].By != "dora" || d.Believed.IsZero() {
		t.Errorf("%+v", d)
	}
}

func TestScimSaysWhatItIs(t *testing.T) {
	w := newWorld(t)
	w.directory(writingCorp)
	c := w.scimClient("corp")
	if got := c.want(200, "GET", "/ServiceProviderConfig", ""); got.body["patch"].(map[string]any)["supported"] != true || got.body["bulk"].(map[string]any)["supported"] != false {
		t.Errorf("%s", got.raw)
	}
	for _, path := range []string{"/ResourceTypes", "/Schemas"} {
		for _, one := range c.want(200, "GET", path, "").found(t) {
			if got := c.want(200, "GET", path+"/"+one["id"].(string), ""); got.body["name"] != one["name"] {
				t.Errorf("%s", got.raw)
			}
		}
	}
	c.want(404, "GET", "/Schemas/urn:x", "")
	c.want(501, "POST", "/Bulk", "{}")
	c.want(501, "GET", "/Me", "")
	c.want(404, "GET", "/Nothing", "")
	c.want(404, "POST", "/Users/u-x", "{}")
	// What is asked for comes, and what is not asked for does not; id always comes.
	c.want(201, "POST", "/Users", `{"userName":"ann@example.com","externalId":"id-ann"}`)
	got := c.want(200, "GET", "/Users?attributes=userName,urn:ietf:params:scim:schemas:core:2.0:User:active", "").found(t)[0]
	if len(got) != 4 || got["userName"] == nil || got["active"] == nil || got["id"] == nil || got["schemas"] == nil {
		t.Errorf("%v", got)
	}
	if got := c.want(200, "GET", "/Users?excludedAttributes=id,meta,externalid", "").found(t)[0]; got["id"] == nil || got["meta"] != nil || got["externalId"] != nil {
		t.Errorf("%v", got)
	}
}

// TestScimRefuses sends what nobody should.
func TestScimRefuses(t *testing.T) {
	w, ctx := newWorld(t), context.Background()
	w.directory(writingCorp + strings.NewReplacer("name: corp", "name: other", "ISSUER", "https://other.example.com", "id: g-managers", "id: g-x", "\nkind: User\nname: eve\nsignIns: [{directory: corp, subject: id-eve}]\n", "\n{kind: User, name: zed, signIns: [{directory: corp, none: true}]}\n", "admit: true\n", "").Replace(writingCorp))
	c, other := w.scimClient("corp"), w.scimClient("other")
	patch := func(operations string) string {
		return `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[` + operations + `]}`
	}
	user := c.want(201, "POST", "/Users", `{"userName":"ann@example.com","externalId":"id-ann"}`).id()
	group := c.want(201, "POST", "/Groups", `{"displayName":"g","externalId":"g-managers","members":[{"value":"`+user+`"}]}`).id()
	foreign := other.want(201, "POST", "/Users", `{"userName":"ann@example.com","externalId":"id-ann"}`).id()
	size := w.keeper.Size()
	for _, test := range []struct {
		status             int
		kind               string
		method, path, body string
	}{
		{400, "invalidSyntax", "POST", "/Users", ``},
		{400, "invalidSyntax", "POST", "/Users", `[]`},
		{400, "invalidSyntax", "POST", "/Users", `{"userName":"a","externalId":"b"} {}`},
		{400, "invalidSyntax", "POST", "/Users", strings.Repeat(`{"a":`, 100_000)},
		{400, "invalidSyntax", "POST", "/Users", `{"userName":"a","externalId":"b","active":true,"Active":false}`},
		{400, "invalidSyntax", "POST", "/Users", `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:Group"],"userName":"a","externalId":"b"}`},
		{400, "invalidValue", "POST", "/Users", `{"externalId":"b"}`},
		{400, "invalidValue", "POST", "/Users", `{"userName":"a"}`},
		{400, "invalidValue", "POST", "/Users", `{"userName":"a","externalId":""}`},
		{400, "invalidValue", "POST", "/Users", `{"userName":"a","externalId":17}`},
		{400, "invalidValue", "POST", "/Users", `{"userName":"a","externalId":"b\u0000"}`},
		{400, "invalidValue", "POST", "/Users", "{\"userName\":\"a\",\"externalId\":\"b\xff\"}"},
		{400, "invalidValue", "POST", "/Users", `{"userName":"a","externalId":"` + strings.Repeat("b", 256) + `"}`},
		{400, "invalidValue", "POST", "/Users", `{"userName":"a","externalId":"b","active":"no"}`},
		{400, "invalidValue", "POST", "/Users", `{"userName":"a","externalId":"b","active":0}`},
		{413, "", "POST", "/Users", `{"userName":"` + strings.Repeat("a", 1<<20) + `"}`},
		{409, "uniqueness", "POST", "/Users", `{"userName":"Ann@Example.com","externalId":"another"}`},
		{409, "uniqueness", "POST", "/Users", `{"userName":"another","externalId":"id-ann"}`},
		{400, "mutability", "PATCH", "/Users/" + user, patch(`{"op":"replace","path":"externalId","value":"id-eve"}`)},
		{400, "mutability", "PUT", "/Users/" + user, `{"userName":"ann@example.com","externalId":"id-eve"}`},
		{400, "mutability", "PATCH", "/Users/" + user, patch(`{"op":"remove","path":"active"}`)},
		{400, "mutability", "PATCH", "/Users/" + user, patch(`{"op":"replace","path":"active","value":null}`)},
		{400, "invalidPath", "PATCH", "/Users/" + user, patch(`{"op":"replace","path":"active.x","value":false}`)},
		{400, "invalidPath", "PATCH", "/Users/" + user, patch(`{"op":"replace","path":"active[value eq \"x\"]","value":false}`)},
		{400, "invalidPath", "PATCH", "/Users/" + user, patch(`{"op":"replace","path":"urn:ietf:params:scim:schemas:core:2.0:Person:active","value":false}`)},
		{400, "invalidPath", "PATCH", "/Users/" + user, patch(`{"op":"replace","value":{"urn:ietf:params:scim:schemas:core:2.0:User":{"active":false}}}`)},
		{400, "invalidPath", "PATCH", "/Users/" + user, patch(`{"op":"replace","path":"a b","value":false}`)},
		{400, "invalidPath", "PATCH", "/Users/" + user, patch(`{"op":"replace","path":"emails[type eq","value":false}`)},
		{400, "invalidPath", "PATCH", "/Users/" + user, patch(`{"op":"replace","path":"` + strings.Repeat("a", 2000) + `","value":false}`)},
		{400, "noTarget", "PATCH", "/Users/" + user, patch(`{"op":"remove"}`)},
		{400, "invalidSyntax", "PATCH", "/Users/" + user, patch(`{"op":"move","path":"active","value":false}`)},
		{400, "invalidSyntax", "PATCH", "/Users/" + user, patch(`{"path":"active","value":false}`)},
		{400, "invalidSyntax", "PATCH", "/Users/" + user, patch(``)},
		{400, "invalidSyntax", "PATCH", "/Users/" + user, patch(strings.TrimSuffix(strings.Repeat(`{"op":"add","path":"x","value":1},`, 1001), ","))},
		{400, "invalidSyntax", "PATCH", "/Users/" + user, `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"active":false}`},
		{400, "invalidValue", "PATCH", "/Users/" + user, patch(`{"op":"replace","path":"active","value":"of"}`)},
		{400, "invalidValue", "PATCH", "/Users/" + user, patch(`{"op":"replace","value":"active"}`)},
		{400, "invalidValue", "POST", "/Groups", `{"displayName":"h","members":[{"value":"u-nobody"}]}`},
		{400, "invalidValue", "POST", "/Groups", `{"displayName":"h","members":[{"value":"` + foreign + `"}]}`},
		{400, "invalidValue", "POST", "/Groups", `{"displayName":"h","members":[{"value":"` + group + `","type":"Group"}]}`},
		{400, "invalidValue", "POST", "/Groups", `{"displayName":"h","members":["` + user + `"]}`},
		{400, "invalidValue", "POST", "/Groups", `{"members":[]}`},
		{409, "uniqueness", "POST", "/Groups", `{"displayName":"h","externalId":"g-managers"}`},
		{400, "invalidPath", "PATCH", "/Groups/" + group, patch(`{"op":"remove","path":"members[value sw \"u\"]"}`)},
		{400, "invalidPath", "PATCH", "/Groups/" + group, patch(`{"op":"remove","path":"members[value eq \"a\"].display"}`)},
		{400, "invalidPath", "PATCH", "/Groups/" + group, patch(`{"op":"remove","path":"members.value"}`)},
		{400, "invalidPath", "PATCH", "/Groups/" + group, patch(`{"op":"add","path":"members[value eq \"a\"]","value":[]}`)},
		{400, "invalidValue", "PATCH", "/Groups/" + group, patch(`{"op":"replace","path":"members"}`)},
		{400, "invalidFilter", "GET", filtered("/Users", `userName sw "a"`), ""},
		{400, "invalidFilter", "GET", filtered("/Users", `emails[type eq "work"].value eq "a"`), ""},
		{400, "invalidFilter", "GET", filtered("/Users", `password eq "a"`), ""},
		{400, "invalidFilter", "GET", filtered("/Users", `userName eq "a" or id eq "b"`), ""},
		{400, "invalidFilter", "GET", filtered("/Users", `userName eq "a`), ""},
		{400, "invalidFilter", "GET", filtered("/Users", strings.Repeat("(", 5000)), ""},
		{400, "invalidFilter", "GET", filtered("/Users", strings.TrimSuffix(strings.Repeat(`id eq "a" and `, 11), " and ")), ""},
		{400, "invalidValue", "GET", "/Users?count=many", ""},
		{400, "invalidValue", "GET", "/Users?startIndex=99999999999999999999", ""},
		{404, "", "GET", "/Users/" + foreign, ""},
		{404, "", "PATCH", "/Users/" + foreign, patch(`{"op":"replace","path":"active","value":false}`)},
		{404, "", "DELETE", "/Users/" + foreign, ""},
		{404, "", "DELETE", "/Users/" + group, ""},
		{404, "", "DELETE", "/Groups/" + user, ""},
		{404, "", "GET", "/Users/..%2f..%2fapi", ""},
	} {
		got := c.ask(test.method, test.path, test.body)
		kind, _ := got.body["scimType"].(string)
		if got.status != test.status || kind != test.kind || got.body["status"] != fmt.Sprint(test.status) || got.body["detail"] == "" {
			t.Errorf("%s %s %.120s: %d %s", test.method, test.path, test.body, got.status, got.raw)
		}
	}
	if got := c.want(200, "GET", "/Users/"+user, ""); got.body["active"] != true || c.membersOfGroup(group) != user {
		t.Errorf("a refusal changed something: %s", got.raw)
	}
	if n := w.keeper.Size() - size; n > 10 {
		t.Errorf("%d entries of refusals", n)
	}
	if got := c.want(200, "GET", "/Users?count=-5&startIndex=-3", ""); got.body["totalResults"] != 1.0 || len(got.found(t)) != 0 {
		t.Errorf("%s", got.raw)
	}
	if got := c.want(200, "GET", "/Users?count=100000", ""); len(got.found(t)) != 1 {
		t.Errorf("%s", got.raw)
	}
	r, err := http.NewRequest("POST", w.server.URL+"/scim/v2/Users", bytes.NewReader([]byte("<user/>")))
	w.must(err)
	r.Header.Set("Authorization", "Bearer "+c.token)
	r.Header.Set("Content-Type", "text/xml")
	if got := c.send(r); got.status != 400 {
		t.Errorf("%d %s", got.status, got.raw)
	}
	// A directory's token opens nothing else, and nothing else opens this.
	if err := (api.Client{Server: w.server.URL, Bearer: c.token}).Call(ctx, "GET", "/sessions", nil, nil); lockkeeper.KindOf(err) != lockkeeper.Unauthenticated {
		t.Errorf("the token opens the API: %v", err)
	}
	for _, token := range []string{"", w.people["dora"].Bearer, c.token + "x", c.token[:len(c.token)-1], "lkd_", "lkd_x_y", strings.Replace(c.token, "lkd_", "lkp_", 1)} {
		stranger := &scimClient{w, token}
		if got := stranger.ask("GET", "/ServiceProviderConfig", ""); got.status != 401 || got.header.Get("WWW-Authenticate") == "" || got.body["status"] != "401" {
			t.Errorf("%q: %d %s", token, got.status, got.raw)
		}
	}
	// What is taken away, and a directory that writes no more, opens nothing.
	var list api.WritingDirectories
	w.must(w.people["dora"].Call(ctx, "GET", "/directories/written", nil, &list))
	for _, d := range list.Directories {
		if d.Name == "other" {
			w.must(w.people["dora"].Call(ctx, "DELETE", "/directories/other/tokens/"+d.Tokens[0].ID, nil, nil))
		}
	}
	other.want(401, "GET", "/Users", "")
	resp, err := http.Get(w.server.URL + "/metrics")
	w.must(err)
	defer resp.Body.Close()
	metrics, err := io.ReadAll(resp.Body)
	w.must(err)
	for _, line := range []string{`lockkeeper_directory_token_end_seconds{directory="corp"} 1.`, `lockkeeper_requests_total{route="PATCH /scim/v2/Users/{id}",status="400"}`, `lockkeeper_refusals_total{code="scim_path"}`} {
		if !strings.Contains(string(metrics), line) {
			t.Errorf("no %s", line)
		}
	}
	w.applied(strings.ReplaceAll(strings.ReplaceAll(writingCorp, "scim: true\nscimGroups: externalId\n", ""), "ISSUER", "https://id.example.com"))
	c.want(403, "GET", "/Users", "")
	if err := w.people["ann"].Call(ctx, "GET", "/directories/written", nil, nil); code(err) != "not_granted" {
		t.Errorf("anybody sees the tokens: %v", err)
	}
}

// At Entra ID an account is known by its object id: a user written under another
// name would switch nobody off, and is refused.
func TestScimEntraSubject(t *testing.T) {
	w := newWorld(t)
	w.applied("\n---\n{kind: Directory, name: entra, platform: entra, tenant: 0e7a0b1c-0000-4000-8000-000000000001, client: c, scim: true}\n")
	c := w.scimClient("entra")
	if got := c.want(400, "POST", "/Users", `{"userName":"ann@example.com","externalId":"ann"}`); got.body["scimType"] != "invalidValue" || !strings.Contains(got.body["detail"].(string), "oid") {
		t.Errorf("%s", got.raw)
	}
	c.want(201, "POST", "/Users", `{"userName":"ann@example.com","externalId":"0e7a0b1c-0000-4000-8000-000000000009"}`)
}

func FuzzScimFilter(f *testing.F) {
	for _, s := range []string{`userName eq "a"`, `id eq "a" and active eq true`, `members[value eq "x"]`, `a.b eq "\""`, `urn:ietf:params:scim:schemas:core:2.0:User:userName eq "a"`, `(a eq "b")`, `a  EQ  "b"  AND c eq FALSE`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		terms, err := readFilter(s, userSchema)
		if err != nil {
			return
		}
		if len(terms) == 0 || len(terms) > maxTerms {
			t.Fatalf("%q has %d comparisons", s, len(terms))
		}
		var parts []string
		for _, x := range terms {
			value, err := json.Marshal(x.value)
			if err != nil {
				t.Fatal(err)
			}
			parts = append(parts, x.attribute+" eq "+string(value))
		}
		again, err := readFilter(strings.Join(parts, " and "), userSchema)
		if len(strings.Join(parts, " and ")) > maxFilter {
			return
		}
		if err != nil || fmt.Sprint(again) != fmt.Sprint(terms) {
			t.Errorf("%q is %q, and that %q: %v", s, terms, again, err)
		}
	})
}

// Whatever is written, it is read the same each time, a path without part names one
// attribute, and what may be a member's id is that of a comparison.
func FuzzScimPatch(f *testing.F) {
	for _, s := range []string{`{"op":"Replace","path":"active","value":"False"}`, `{"op":"replace","value":{"active":false}}`, `{"op":"remove","path":"members[value eq \"x\"]"}`,
		`{"op":"Remove","path":"members","value":[{"$ref":null,"value":"x"}]}`, `{"op":"add","path":"members","value":{"value":"x"}}`, `{"op":"add","path":"emails[type eq \"work\"].value","value":1}`,
		`{"op":"replace","path":"urn:ietf:params:scim:schemas:core:2.0:User:active","value":false}`, `{"op":"remove","path":"members"}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		body := []byte(`{"schemas":["` + patchSchema + `"],"Operations":[` + s + `]}`)
		u, err := patchUser(body)
		if again, err2 := patchUser(body); (err == nil) != (err2 == nil) || inJSON(t, u) != inJSON(t, again) {
			t.Errorf("%q is read twice: %+v %v, %+v %v", s, u, err, again, err2)
		}
		// What a plain reading takes for somebody who is off is never passed over.
		var plain []struct {
			Op    string
			Path  string
			Value any
		}
		if json.Unmarshal([]byte("["+s+"]"), &plain) == nil && err == nil && len(plain) == 1 && plain[0].Path == "active" && plain[0].Value == false && (u.Active == nil || *u.Active) {
			t.Errorf("%q switches nobody off", s)
		}
		g, err := patchGroup(body)
		if err == nil {
			for _, m := range g.Members {
				if m.Op != "add" && m.Op != "remove" && m.Op != "replace" {
					t.Errorf("%q: %+v", s, m)
				}
			}
		}
		if p, err := readPath(s, groupSchema); err == nil && p.member != nil && p.attribute != "members" {
			t.Errorf("%q: %+v", s, p)
		}
	})
}

func inJSON(t *testing.T, v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestScimAtOnce lets a directory write from several sides while people sign in and
// somebody looks: what was written is there in the end, and whoever is off is out.
func TestScimAtOnce(t *testing.T) {
	w := newWorld(t)
	w.directory(writingCorp)
	c := w.scimClient("corp")
	group := c.want(201, "POST", "/Groups", `{"displayName":"Managers","externalId":"g-managers"}`).id()
	eve := c.want(201, "POST", "/Users", `{"userName":"eve@example.com","externalId":"id-eve"}`).id()
	w.signedIn("eve@example.com")
	var all sync.WaitGroup
	for side := range 4 {
		all.Go(func() {
			for n := range 6 {
				id := c.ask("POST", "/Users", fmt.Sprintf(`{"userName":"u%d-%d","externalId":"x%[1]d-%[2]d"}`, side, n)).id()
				add := c.ask("PATCH", "/Groups/"+group, `{"schemas":["`+patchSchema+`"],"Operations":[{"op":"add","path":"members","value":[{"value":"`+id+`"}]}]}`)
				if list := c.ask("GET", "/Users?count=5", ""); id == "" || add.status != 204 || list.status != 200 {
					t.Errorf("%q %d %d", id, add.status, list.status)
				}
			}
		})
	}
	all.Go(func() {
		for _, active := range []string{"false", "true", "false"} {
			if got := c.ask("PATCH", "/Users/"+eve, `{"schemas":["`+patchSchema+`"],"Operations":[{"op":"replace","path":"active","value":`+active+`}]}`); got.status != 200 {
				t.Errorf("%d %s", got.status, got.raw)
			}
		}
	})
	all.Wait()
	if members := strings.Fields(c.membersOfGroup(group)); len(members) != 24 {
		t.Errorf("%d members", len(members))
	}
	var list api.Sessions
	w.must(w.people["dora"].Call(context.Background(), "GET", "/sessions?user=eve", nil, &list))
	if len(list.Sessions) != 0 {
		t.Errorf("eve is signed in: %+v", list)
	}
}
