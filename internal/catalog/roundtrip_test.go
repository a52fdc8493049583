package catalog

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/lockkeeper/lockkeeper"
)

var compared = cmp.Options{
	cmp.AllowUnexported(Catalog{}, repository{}, candidate{}),
	cmp.Comparer(func(a, b *program) bool { return (a == nil) == (b == nil) }),
	cmp.Comparer(func(a, b lockkeeper.Moment) bool { return a.String() == b.String() }),
}

// sameAgain compiles the documents of c in another order and compares.
func sameAgain(fatalf func(string, ...any), c *Catalog, seed uint64) {
	var documents [][]byte
	for _, d := range c.Documents() {
		if lockkeeper.DigestOf(d.Data) != d.Digest {
			fatalf("the digest of %s is not of its data", d.Key)
		}
		documents = append(documents, d.Data)
	}
	rand.New(rand.NewPCG(seed, 1)).Shuffle(len(documents), func(i, j int) { documents[i], documents[j] = documents[j], documents[i] })
	again, err := Compile(documents)
	if err != nil {
		fatalf("Compile refuses what Read accepted: %v", err)
	}
	if again.Digest() != c.Digest() {
		fatalf("the digest changed from %s to %s", c.Digest(), again.Digest())
	}
	if d := cmp.Diff(c, again, compared); d != "" {
		fatalf("Compile made another catalog (-read +compiled):\n%s", d)
	}
	if changes := Diff(c, again); len(changes) > 0 {
		fatalf("Diff finds %v", changes)
	}
}

func TestCompileOfBase(t *testing.T) {
	sameAgain(t.Fatalf, mustRead(t, base(t)), 1)
}

// drawDocuments writes a random catalog that obeys every rule.
func drawDocuments(t *rapid.T) string {
	b := new(strings.Builder)
	title := rapid.StringOfN(rapid.RuneFrom([]rune("aB 1:#-'\"\\{é😀\n")), 0, 8, -1)
	doc := func(format string, args ...any) { fmt.Fprintf(b, "---\n"+format+"\n", args...) }
	projects, users := rapid.IntRange(1, 3).Draw(t, "projects"), rapid.IntRange(2, 6).Draw(t, "users")
	doc("{kind: Provider, name: ci, platform: github, issuer: 'https://ci.example.com'}")
	var list []string
	for i := range users {
		doc("kind: User\nname: u%d\ntitle: %q\noff: %v\nids:\n  - {provider: ci, id: %d}", i, title.Draw(t, "title"), rapid.Bool().Draw(t, "off") && i > 1, 1000+i)
		list = append(list, fmt.Sprint("u", i))
	}
	doc("kind: Group\nname: all\nusers: [%s]", strings.Join(list, ", "))
	doc("kind: Group\nname: outer\ngroups: [all]")
	doc("kind: Role\nname: own\nactions: %s", rapid.SampledFrom([]string{`["*"]`, `["*/read", deployments/start]`}).Draw(t, "actions"))
	for p := range projects {
		doc("kind: Project\nname: p%d", p)
		doc("kind: Pipeline\nname: release\nproject: p%d\nprovider: ci\norganisation: 7\nrepository: %d\ndefinition: a/b.yml\nstages:\n- {name: build, trust: {events: [push], refs: [refs/heads/main]}}\n- {name: deploy, trust: {environment: e, events: [push], refs: [refs/heads/main, refs/tags/v1], selfHosted: %v}}", p, p, rapid.Bool().Draw(t, "hosted"))
		doc("kind: Environment\nname: e\nproject: p%d\npersons: {write: 3}\ntier: %s\nlease: %s\nchecks: [{name: c, approval: {count: %d, groups: [outer], review: security, timeout: 2h, checklist: [{item: data, ask: No data leaves}]}}, {name: b, branches: {allowed: [refs/heads/main]}}%s]", p, rapid.SampledFrom([]string{"production", "development"}).Draw(t, "tier"), time.Duration(rapid.Int64Range(int64(time.Second), int64(maxLease)).Draw(t, "lease")), rapid.IntRange(1, 2).Draw(t, "count"),
			rapid.SampledFrom([]string{"", ", {name: x, expression: {rule: 'ask.attempt == 1'}}, {name: l, lock: {mode: sequential}}", ", {name: h, hours: {zone: UTC, windows: [{days: [monday], from: '01:00', to: '02:00'}]}}"}).Draw(t, "more"))
		if rapid.Bool().Draw(t, "identity") {
			doc("kind: Identity\nname: i\nproject: p%d\nenvironment: e\naudiences: [a]\nstages: [release/deploy]", p)
		}
		if rapid.Bool().Draw(t, "freeze") {
			doc("kind: Freeze\nname: f%d\nscope: /projects/p%d\nfrom: 2026-12-20T00:00:00.%03d+01:00\nuntil: 2027-01-04T00:00:00Z\nreason: r", p, p, rapid.IntRange(0, 999).Draw(t, "ms"))
		}
		if rapid.Bool().Draw(t, "recurring") {
			doc("kind: FreezeRule\nname: r%d\nscope: /projects/p%d\nlongest: 1h\nalone: %v", p, p, rapid.Bool().Draw(t, "alone"))
			doc("kind: Freeze\nname: w%d\nscope: /projects/p%d\nreason: r\nzone: Australia/Lord_Howe\nexcept: ['2026-12-25']\nexempt: [all]\ninFlight: abort\nsoft: %v\nwindows: [{days: [friday], from: '18:00', to: '08:00', nights: 3}, {monthDays: [1, last]}, {dates: ['02-29']}]", p, p, rapid.Bool().Draw(t, "soft"))
			doc("kind: Environment\nname: o\nproject: p%d\ntier: development\nchecks: [{name: d, delay: {for: 1m}, soft: true}]\noverride: {count: 3, groups: [all], weak: %v, reviewers: {groups: [outer]}}", p, rapid.Bool().Draw(t, "weak"))
		}
		if rapid.Bool().Draw(t, "notification") {
			doc("kind: Notification\nname: n%d\nvia: %s\nchannel: post\nto: [user:u0, group:all]\nabout: [deployments, alerts]\nurgent: [alerts]\nquiet: {zone: Europe/Zurich, windows: [{days: [sunday]}]}\ndigest: %s", p, rapid.SampledFrom([]string{"mail", "slack"}).Draw(t, "via"), rapid.SampledFrom([]string{"{every: 30m}", "{at: ['08:00'], zone: UTC}"}).Draw(t, "digest"))
		}
		if rapid.Bool().Draw(t, "provisioner") {
			doc("kind: Provisioner\nname: q%d\nrole: own\nscope: /projects/p%d\n%s", p, p, rapid.SampledFrom([]string{"postgresql: {roles: [a b, c]}\ndrift: repair\nknown: [app, 'two words']", "ssh: {principals: [ops], lifetime: 2m, extensions: [permit-pty]}", "webhook: {url: 'https://h.example.com/x', private: true}",
				"azure: {tenant: 11111111-1111-4111-8111-111111111111, client: 22222222-2222-4222-8222-222222222222, resource: /subscriptions/33333333-3333-4333-8333-333333333333, roleDefinition: 0b5fe924-9a61-425c-96af-cfe6e287ca2d, principals: [{user: u0, id: 44444444-4444-4444-8444-444444444444}]}"}).Draw(t, "system"))
		}
		doc("kind: Assignment\nname: a%d\nrole: own\nprincipal: %s\nscope: /projects/p%d/environments/e\ndeny: %v", p, rapid.SampledFrom([]string{"user:u0", "group:outer"}).Draw(t, "principal"), p, rapid.Bool().Draw(t, "deny"))
	}
	return b.String()
}

func TestCompileIsRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := drawDocuments(t)
		c, problems := Read([]File{{"x.yaml", []byte(text)}})
		if err := problems.Err(); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		sameAgain(t.Fatalf, c, rapid.Uint64().Draw(t, "order"))
	})
}

func TestJSONMeansTheSame(t *testing.T) {
	c := mustRead(t, base(t))
	var b bytes.Buffer
	for _, d := range c.Documents() {
		b.Write(append(d.Data, '\n'))
	}
	if again := mustRead(t, File{"x.json", b.Bytes()}); again.Digest() != c.Digest() {
		t.Error("the JSON of a catalog is another catalog")
	}
	if again := mustRead(t, File{"x.json", append([]byte("\xef\xbb\xbf"), bytes.ReplaceAll(b.Bytes(), []byte("\n"), []byte("\r\n"))...)}); again.Digest() != c.Digest() {
		t.Error("a byte order mark or line ends make another catalog")
	}
	crlf := bytes.ReplaceAll(base(t).Data, []byte("\n"), []byte("\r\n"))
	if again := mustRead(t, File{"x.yaml", crlf}); again.Digest() != c.Digest() {
		t.Error("line ends make another catalog")
	}
}

// TestGoldenDigest fails when the canonical form of a document changes: then
// journals that were written before would no longer mean the same. Never
// rewrite these; add a new format beside the old one.
func TestGoldenDigest(t *testing.T) {
	const want = "sha256:fb3ee80f7142150a086a132961e98893ff0901d817d0bb2c74d3080d75580a13"
	if got := mustRead(t, base(t)).Digest(); got != want {
		t.Errorf("the digest of base.yaml is %s, want %s", got, want)
	}
}

func TestCompileRefuses(t *testing.T) {
	for name, documents := range map[string][]string{
		"not_canonical":      {`{"name":"a","kind":"Project"}`},
		"unknown_field":      {`{"colour":"red","kind":"Project","name":"a"}`},
		"duplicate_resource": {`{"kind":"Project","name":"a"}`, `{"kind":"Project","name":"a"}`},
		"unknown_project":    {`{"kind":"Environment","name":"a","project":"b","tier":"development"}`},
		"name_unfit":         {`{"kind":"Project","name":"A"}`},
		"not_a_resource":     {`[]`},
	} {
		var data [][]byte
		for _, d := range documents {
			data = append(data, []byte(d))
		}
		c, err := Compile(data)
		if c != nil || err == nil || !strings.Contains(err.Error(), "["+name+"]") || lockkeeper.KindOf(err) != lockkeeper.Invalid {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
	if c, err := Compile(nil); err != nil || len(c.Documents()) != 0 || len(c.Roles) != len(BuiltInRoles()) {
		t.Errorf("no documents: %v, %v", c, err)
	}
}

// TestCompileIsLenient reads what a journal may hold and a person may not write
// any more.
func TestCompileIsLenient(t *testing.T) {
	c, err := Compile([][]byte{
		[]byte(`{"actions":["catalog/read"],"kind":"Role","name":"reader"}`),
		[]byte(`{"kind":"Project","name":"a","title":"ghp_0123456789abcdefghijABCDEFGHIJ012345"}`)})
	if err != nil || len(c.Roles["reader"].Actions) != 1 {
		t.Errorf("%v, %v", c, err)
	}
	// Stages that nothing tells apart, an organisation left out, checks that never
	// pass, a lifetime beyond the heartbeat.
	documents := []string{`{"kind":"Project","name":"p"}`,
		`{"claims":[{"claim":"o","fact":"organisation"},{"claim":"r","fact":"repository"},{"claim":"n","fact":"run"},{"claim":"j","fact":"job"},{"claim":"u","fact":"actor"}],"issuer":"https://x.example.com","kind":"Provider","name":"any","platform":"oidc"}`,
		`{"kind":"Pipeline","name":"l","project":"p","provider":"any","repository":"r","stages":[{"name":"s","trust":{}}]}`,
		`{"checks":[{"branches":{"allowed":["refs/heads/main"]},"name":"b"},{"name":"t","template":{"allowed":[{"path":"a/b/c","refs":["refs/heads/main"]}]}}],"kind":"Environment","name":"e","project":"p","tier":"preproduction"}`,
		`{"audiences":["a"],"environment":"e","kind":"Identity","lifetime":"6m","name":"i","project":"p","stages":["l/s"]}`}
	var data [][]byte
	for _, d := range documents {
		data = append(data, []byte(d))
	}
	if _, err := Compile(data); err != nil {
		t.Error(err)
	}
	if _, problems := Read([]File{{"x.json", []byte(strings.Join(documents, "\n"))}}); len(problems) != 5 {
		t.Errorf("written anew it has %d problems, want 5: %v", len(problems), problems)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("kind: Project\nname: a\n"), false)
	f.Add([]byte("kind: User\nname: a\nids: [{provider: p, id: 1}]\n---\n{kind: Provider, name: p, platform: github, issuer: 'https://x.example.com'}\n"), false)
	f.Add([]byte("a: &a [*a]\n"), false)
	f.Add([]byte("--- |\n x\n...\n---\n? a\n: b\n"), false)
	f.Add([]byte(`{"kind":"Group","name":"g","groups":["g"]}`), true)
	f.Add(base(f).Data, false)
	f.Fuzz(func(t *testing.T, data []byte, asJSON bool) {
		name := "x.yaml"
		if asJSON {
			name = "x.json"
		}
		// A timer, not a check afterwards: an endless read must show its stack.
		stop := time.AfterFunc(20*time.Second, func() { panic("the read takes too long") })
		c, problems := Read([]File{{name, data}})
		stop.Stop()
		if (c == nil) == (len(problems) == 0) {
			t.Fatalf("catalog %v, problems %v", c != nil, problems)
		}
		for _, p := range problems {
			if p.Code == "" || p.Sentence == "" || p.File == "" {
				t.Errorf("an empty problem: %+v", p)
			}
		}
		if c != nil {
			sameAgain(t.Fatalf, c, 1)
		}
	})
}

func FuzzCompile(f *testing.F) {
	for _, d := range mustRead(f, base(f)).Documents() {
		f.Add(d.Data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := Compile([][]byte{data}); err == nil {
			sameAgain(t.Fatalf, c, 1)
		}
	})
}
