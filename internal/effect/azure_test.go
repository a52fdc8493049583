package effect

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Facts of the published examples of roleAssignments, api-version 2022-04-01.
const (
	azureSubscription = "/subscriptions/a925f2f7-5c63-4b7b-8799-25a5f97bc3b2"
	azureGroup        = azureSubscription + "/resourceGroups/testrg"
	azureDefinition   = "0b5fe924-9a61-425c-96af-cfe6e287ca2d"
	azureUser         = "ce2ce14e-85d7-4629-bdbc-454d0519d987"
	azureTenant       = "11111111-1111-4111-8111-111111111111"
	azureApplication  = "22222222-2222-4222-8222-222222222222"
)

var azureProvisioner = fmt.Sprintf("{kind: Provisioner, name: cloud, role: operator, scope: /projects/p/environments/e, azure: {tenant: %s, client: %s, resource: %s, roleDefinition: %s, principals: [{user: ann, id: %s}]}}\n",
	azureTenant, azureApplication, azureGroup, azureDefinition, azureUser)

// A fakeCloud speaks as the directory's token endpoint and ARM do in their documentation, for
// the roleAssignments of one resource group.
type fakeCloud struct {
	*httptest.Server
	t      *testing.T
	keys   func() []byte
	mu     sync.Mutex
	has    map[string]roleAssignment // by name
	how    map[string][]string       // by method: what the next calls meet
	tokens int
	wrong  []string
	scopes map[string]string // of what was assigned by hand, by name
	hidden map[string]bool   // that lists do not show
	kind   string            // of the principal that is expected; "": User
}

func clouded(t *testing.T) *fakeCloud {
	c := &fakeCloud{t: t, has: map[string]roleAssignment{}, how: map[string][]string{}, scopes: map[string]string{}, hidden: map[string]bool{}}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

func (c *fakeCloud) next(method string, how ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.how[method] = how
}

func (c *fakeCloud) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.has)
}

var assignmentPath = regexp.MustCompile("^" + azureGroup + "/providers/Microsoft.Authorization/roleAssignments/([0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12})$")

func (c *fakeCloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.URL.Path == "/"+azureTenant+"/oauth2/v2.0/token" {
		c.directory(w, r)
		return
	}
	if r.Method == http.MethodGet && r.URL.Path == azureGroup+"/providers/Microsoft.Authorization/roleAssignments" {
		c.list(w, r)
		return
	}
	name := assignmentPath.FindStringSubmatch(r.URL.Path)
	if name == nil || r.URL.RawQuery != "api-version=2022-04-01" || !c.bearer(r) {
		c.wrong = append(c.wrong, r.Method+" "+r.URL.String())
		armError(w, http.StatusUnauthorized, "AuthenticationFailed")
		return
	}
	how := ""
	if list := c.how[r.Method]; len(list) > 0 {
		how, c.how[r.Method] = list[0], list[1:]
	}
	switch how {
	case "throttled":
		w.Header().Set("Retry-After", "1")
		armError(w, http.StatusTooManyRequests, "TooManyRequests")
		return
	case "throttled for long":
		w.Header().Set("Retry-After", "300")
		armError(w, http.StatusTooManyRequests, "TooManyRequests")
		return
	case "exists":
		armError(w, http.StatusConflict, "RoleAssignmentExists")
		return
	case "gone":
		armError(w, http.StatusNotFound, "ResourceGroupNotFound")
		return
	case "fails":
		armError(w, http.StatusInternalServerError, "InternalServerError")
		return
	}
	c.arm(w, r, name[1])

}

// arm does what is asked. A call that "happens" answers with an error all the same.
func (c *fakeCloud) arm(w http.ResponseWriter, r *http.Request, name string) {
	was, there := c.has[name]
	status := http.StatusOK
	switch r.Method {
	case http.MethodPut:
		data, _ := io.ReadAll(r.Body)
		var ask roleAssignment
		if err := json.Unmarshal(data, &ask); err != nil || ask.Properties.RoleDefinitionID != azureSubscription+"/providers/Microsoft.Authorization/roleDefinitions/"+azureDefinition || ask.Properties.PrincipalID != azureUser || ask.Properties.PrincipalType != cmp.Or(c.kind, "User") {
			c.wrong = append(c.wrong, string(data))
		}
		c.has[name], was = ask, ask
		if !there {
			status = http.StatusCreated
		}
	case http.MethodDelete:
		delete(c.has, name)
		if !there {
			w.WriteHeader(http.StatusNoContent)
			return
		}
	case http.MethodGet:
		if !there {
			armError(w, http.StatusNotFound, "RoleAssignmentNotFound")
			return
		}
	}
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"properties": map[string]any{"roleDefinitionId": "/providers/Microsoft.Authorization/roleDefinitions/" + azureDefinition, "principalId": was.Properties.PrincipalID, "principalType": "User", "scope": azureGroup},
		"id": r.URL.Path, "type": "Microsoft.Authorization/roleAssignments", "name": name})
}

// bearer reports whether a call shows a token that the directory gave.
func (c *fakeCloud) bearer(r *http.Request) bool {
	var n int
	_, err := fmt.Sscanf(r.Header.Get("Authorization"), "Bearer token-%d", &n)
	return err == nil && n >= 1 && n <= c.tokens
}

// list answers as ARM does to roleAssignments?$filter=atScope(): what is assigned at the
// resource and above, in pages of one.
func (c *fakeCloud) list(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if q.Get("api-version") != "2022-04-01" || q.Get("$filter") != "atScope()" || !c.bearer(r) {
		c.wrong = append(c.wrong, "list "+r.URL.String())
		armError(w, http.StatusUnauthorized, "AuthenticationFailed")
		return
	}
	at := 0
	fmt.Sscan(q.Get("$skipToken"), &at)
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(c.has)), func(n string) bool { return c.hidden[n] })
	page := map[string]any{"value": []any{}}
	if at < len(names) {
		name := names[at]
		scope := cmp.Or(c.scopes[name], azureGroup)
		page["value"] = []any{map[string]any{"properties": map[string]any{"roleDefinitionId": azureSubscription + "/providers/Microsoft.Authorization/roleDefinitions/" + azureDefinition,
			"principalId": c.has[name].Properties.PrincipalID, "principalType": "User", "scope": scope},
			"id": scope + "/providers/Microsoft.Authorization/roleAssignments/" + name, "type": "Microsoft.Authorization/roleAssignments", "name": name}}
		if at+1 < len(names) {
			page["nextLink"] = fmt.Sprintf("%s%s?api-version=2022-04-01&$filter=atScope()&$skipToken=%d", c.URL, r.URL.Path, at+1)
		}
	}
	json.NewEncoder(w).Encode(page)
}

// put assigns the role by hand, under a name.
func (c *fakeCloud) put(name, principal, scope string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var a roleAssignment
	a.Properties.PrincipalID = principal
	c.has[name], c.scopes[name] = a, scope
}

func (c *fakeCloud) drop(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.has, name)
}

func (c *fakeCloud) hide(name string, yes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hidden[name] = yes
}

// ours is the name of what is assigned under one of Lockkeeper's names; "" for none.
func (c *fakeCloud) ours() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name := range c.has {
		if assignmentPath.MatchString(azureGroup + "/providers/Microsoft.Authorization/roleAssignments/" + name) {
			return name
		}
	}
	return ""
}

func armError(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{"code": code, "message": "not-to-be-seen"}})
}

// directory takes an assertion as the federated credential of the application says.
func (c *fakeCloud) directory(w http.ResponseWriter, r *http.Request) {
	refuse := func(why string) {
		c.wrong = append(c.wrong, why)
		w.WriteHeader(http.StatusUnauthorized)
		json.NewEncoder(w).Encode(map[string]any{"error": "invalid_client", "error_codes": []int{700213}, "error_description": "not-to-be-seen"})
	}
	if r.FormValue("grant_type") != "client_credentials" || r.FormValue("client_id") != azureApplication || r.FormValue("scope") != "https://management.azure.com/.default" ||
		r.FormValue("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
		refuse("form " + r.Form.Encode())
		return
	}
	jws, err := jose.ParseSignedCompact(r.FormValue("client_assertion"), []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		refuse(err.Error())
		return
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(c.keys(), &set); err != nil {
		c.t.Error(err)
	}
	keys := set.Key(jws.Signatures[0].Header.KeyID)
	if len(keys) != 1 {
		refuse("the key is not published")
		return
	}
	payload, err := jws.Verify(keys[0])
	var claims struct {
		Iss, Sub, Aud, JTI string
		Exp, Iat           int64
	}
	if err != nil || json.Unmarshal(payload, &claims) != nil || claims.Iss != "https://lockkeeper.example" || claims.Sub != "lk:provisioner:cloud" || claims.Aud != azureAudience || claims.JTI == "" || claims.Exp-claims.Iat > 600 {
		refuse(string(payload))
		return
	}
	c.tokens++
	json.NewEncoder(w).Encode(map[string]any{"token_type": "Bearer", "expires_in": 3599, "access_token": fmt.Sprintf("token-%d", c.tokens)})
}

func azureStage(t *testing.T) (*fakeCloud, *stage) {
	c := clouded(t)
	s := staged(t, azureProvisioner)
	c.keys = func() []byte {
		set, err := s.k.KeySet()
		if err != nil {
			t.Error(err)
		}
		return set
	}
	s.runs(s.worker(func(o *Options) { o.Azure, o.Longest = AzureCloud{c.URL, c.URL}, 4*time.Second }))
	return c, s
}

// TestAzure assigns a role for as long as the activation lives, as the published
// examples have it, whatever the cloud answers in between.
func TestAzure(t *testing.T) {
	for _, test := range []struct {
		name, method string
		how          []string
		failed       string // what the grant fails with first
		owed         string // what the removal fails with first
	}{
		{name: "well"},
		{name: "throttled", method: http.MethodPut, how: []string{"throttled"}},
		{name: "throttled for long", method: http.MethodPut, how: []string{"throttled for long"}, failed: "throttled"},
		{name: "assigned by hand", method: http.MethodPut, how: []string{"exists"}, failed: "assigned_outside"},
		{name: "delete fails", method: http.MethodDelete, how: []string{"fails"}, owed: "azure_refused"},
		{name: "the group is gone", method: http.MethodGet, how: []string{"gone"}, owed: "azure_refused"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c, s := azureStage(t)
			c.next(test.method, test.how...)
			a := s.activate(ann, "/projects/p")
			if test.failed != "" {
				s.failed(test.failed)
				s.ahead.Add(int64(20 * time.Second))
			}
			s.until("granted")
			if c.count() != 1 {
				t.Error("nothing is assigned")
			}
			s.end(ann, a)
			if test.owed != "" {
				if d := s.until("revocation_owed")[0]; d.Code != test.owed {
					t.Errorf("%+v", d)
				}
				s.ahead.Add(int64(time.Minute))
			}
			s.until("")
			if c.count() != 0 || len(c.wrong) > 0 {
				t.Errorf("%d assignments are left; wrongly asked: %v", c.count(), c.wrong)
			}
			s.secretless("token-1", "not-to-be-seen")
		})
	}
}

// Two activations of one person are one assignment, and bob, whom the provisioner
// does not name, gets none.
func TestAzureCounts(t *testing.T) {
	c, s := azureStage(t)
	a, b := s.activate(ann, "/projects/p"), s.activate(ann, "/projects/p/environments/e")
	s.until("granted granted")
	s.end(ann, a)
	s.until("granted")
	if c.count() != 1 {
		t.Error("the first end took it away")
	}
	s.end(ann, b)
	s.until("")
	other := s.activate(bob, "/projects/p")
	s.failed("principal_unknown")
	s.end(bob, other)
	s.until("")
	if c.count() != 0 || len(c.wrong) > 0 {
		t.Errorf("%d assignments are left; wrongly asked: %v", c.count(), c.wrong)
	}
}

// A directory that trusts somebody else lets nobody in, and nothing of its text is
// kept.
func TestAzureDirectoryRefuses(t *testing.T) {
	c, s := azureStage(t)
	c.keys = func() []byte { return []byte(`{"keys":[]}`) }
	a := s.activate(ann, "/projects/p")
	s.failed("directory_refused")
	list, err := s.k.Duties(dora)
	if err != nil || !strings.Contains(list[0].Reason, "invalid_client, AADSTS700213") {
		t.Errorf("%v %+v", err, list)
	}
	s.end(ann, a)
	s.until("")
	s.secretless("not-to-be-seen")
}
