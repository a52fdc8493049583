package cli

import (
	"fmt"
	"io"
	"net/url"
	"strings"
	"text/template"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/spf13/cobra"
)

// A trusted identity is what the other side must be told.
type trusted struct {
	Issuer   string `json:"issuer"`
	Host     string `json:"issuer_host"`
	Subject  string `json:"subject"`
	Audience string `json:"audience"`
	Identity string `json:"identity"`
	Project  string `json:"project"`
	JWKS     string `json:"jwks_uri"`
}

// A cloud is one kind of target.
type cloud struct {
	audience func([]string) string
	says     string
	text     string
}

func withPrefix(prefixes ...string) func([]string) string {
	return func(list []string) string {
		for _, a := range list {
			for _, p := range prefixes {
				if strings.HasPrefix(a, p) {
					return a
				}
			}
		}
		return ""
	}
}

var clouds = map[string]cloud{
	"azure": {withPrefix("api://AzureADTokenExchange"), "api://AzureADTokenExchange", `# Microsoft Entra ID: a federated credential of the application or managed identity.
# It matches issuer, subject and audience exactly; RS256 is signed for this audience.
# A new credential may take minutes until it is known everywhere (AADSTS70021).
az identity federated-credential create --resource-group GROUP --identity-name NAME \
  --name lockkeeper-{{.Project}}-{{.Identity}} \
  --issuer '{{.Issuer}}' \
  --subject '{{.Subject}}' \
  --audiences '{{.Audience}}'
`},
	"aws": {withPrefix("sts.amazonaws.com"), "sts.amazonaws.com", `# AWS IAM: an identity provider, once, and the trust policy of the role.
aws iam create-open-id-connect-provider --url '{{.Issuer}}' --client-id-list '{{.Audience}}'
cat > trust.json <<'EOF'
{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity",
  "Principal": {"Federated": "arn:aws:iam::ACCOUNT:oidc-provider/{{.Host}}"},
  "Condition": {"StringEquals": {"{{.Host}}:sub": "{{.Subject}}", "{{.Host}}:aud": "{{.Audience}}"}}}]}
EOF
aws iam update-assume-role-policy --role-name ROLE --policy-document file://trust.json
# In the job: AWS_ROLE_ARN=arn:aws:iam::ACCOUNT:role/ROLE; Lockkeeper sets AWS_WEB_IDENTITY_TOKEN_FILE.
`},
	"gcp": {withPrefix("https://iam.googleapis.com/", "//iam.googleapis.com/"), "https://iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER",
		`# Google Cloud: a provider of a workload identity pool, and what the subject may act as.
gcloud iam workload-identity-pools providers create-oidc PROVIDER --location=global --workload-identity-pool=POOL \
  --issuer-uri='{{.Issuer}}' --allowed-audiences='{{.Audience}}' \
  --attribute-mapping='google.subject=assertion.sub' \
  --attribute-condition="assertion.sub == '{{.Subject}}'"
gcloud iam service-accounts add-iam-policy-binding ACCOUNT@PROJECT.iam.gserviceaccount.com --role=roles/iam.workloadIdentityUser \
  --member='principal://iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/subject/{{.Subject}}'
`},
	"vault": {func(list []string) string {
		if len(list) == 0 {
			return ""
		}
		return list[0]
	}, "any", `# HashiCorp Vault or OpenBao: the JWT method, and a role bound to this one subject.
vault auth enable -path=lockkeeper jwt
vault write auth/lockkeeper/config oidc_discovery_url='{{.Issuer}}' jwt_supported_algs=ES256
vault write auth/lockkeeper/role/{{.Identity}} role_type=jwt user_claim=sub \
  bound_subject='{{.Subject}}' bound_audiences='{{.Audience}}' \
  token_policies=POLICY token_ttl=15m token_max_ttl=15m
`},
}

func (a *app) trustCommand() *cobra.Command {
	var identity string
	c := &cobra.Command{Use: "trust azure|aws|gcp|vault --identity PROJECT/NAME", Short: "Print what to configure on the other side, so that it takes an identity's tokens", Args: cobra.ExactArgs(1),
		Example: "  lockkeeper trust azure --identity payments/payments-production", ValidArgs: []string{"azure", "aws", "gcp", "vault"}}
	c.Flags().StringVar(&identity, "identity", "", "the identity, as PROJECT/NAME")
	c.MarkFlagRequired("identity")
	c.RunE = func(c *cobra.Command, args []string) error {
		kind, known := clouds[args[0]]
		if !known {
			return lockkeeper.Invalid.Errorf("usage", "There are no instructions for %.40q.", args[0]).WithNext("Name azure, aws, gcp or vault.")
		}
		t, err := a.trusted(c, identity, kind)
		if err != nil {
			return err
		}
		return a.print(t, func(w io.Writer) {
			template.Must(template.New("").Parse(kind.text)).Execute(w, t) // the texts are constants, the values checked names
			if strings.HasPrefix(t.Issuer, "http://") {
				fmt.Fprintln(w, "# This server's address is a loopback one: no cloud can fetch its keys. Serve it under https first.")
			}
		})
	}
	return c
}

func (a *app) trusted(c *cobra.Command, identity string, kind cloud) (trusted, error) {
	project, name, ok := strings.Cut(identity, "/")
	if !ok {
		return trusted{}, lockkeeper.Invalid.Errorf("usage", "The identity %.80q is not PROJECT/NAME.", identity)
	}
	live, _, err := a.liveCatalog(c)
	if err != nil {
		return trusted{}, err
	}
	var about api.About
	if err := a.client().Call(c.Context(), "GET", "/about", nil, &about); err != nil {
		return trusted{}, err
	}
	id, found := live.Identities[lockkeeper.IdentityScope(project, name)]
	if !found {
		return trusted{}, lockkeeper.NotFound.Errorf("identity_unknown", "The catalog has no identity %.80q.", identity).WithNext("Name one of: %s.", identitiesOf(live))
	}
	audience := kind.audience(id.Audiences)
	if audience == "" {
		return trusted{}, lockkeeper.Conflict.Errorf("audience_missing", "The identity %s hands out no token with an audience that this target takes.", identity).
			WithNext("Add the audience %s to the identity.", kind.says)
	}
	u, err := url.Parse(about.Issuer)
	if err != nil {
		return trusted{}, err
	}
	return trusted{about.Issuer, u.Host + u.Path, keeper.SubjectOf(project, id.Environment, name), audience, name, project, about.Issuer + "/.well-known/jwks.json"}, nil
}

func identitiesOf(c *catalog.Catalog) string {
	var names []string
	for _, d := range c.Documents() {
		if d.Key.Kind == catalog.IdentityKind {
			names = append(names, d.Key.Project+"/"+d.Key.Name)
		}
	}
	if len(names) == 0 {
		return "it has none"
	}
	return strings.Join(names, ", ")
}

func (a *app) rotateCommand() *cobra.Command {
	var body api.Rotate
	c := &cobra.Command{Use: "rotate", Short: "Sign tokens with the next key, and publish another next", Args: cobra.NoArgs, Example: "  lockkeeper keys rotate --algorithm ES256 --reason 'yearly'\n  lockkeeper keys rotate --algorithm RS256 --emergency --reason 'the disk was copied'",
		Long: "The next key has been published for a day at least, so that targets know it already; the old one stays published until\nevery token that it signed has ended. With --emergency neither is waited for: tokens that the old key signed are refused\nas soon as targets fetch the key set again. Keys rotate by themselves every 90 days."}
	c.Flags().StringVar(&body.Algorithm, "algorithm", "ES256", "ES256 or RS256")
	c.Flags().BoolVar(&body.Emergency, "emergency", false, "the active key is in somebody else's hands")
	c.Flags().StringVar(&body.Reason, "reason", "", "why, for the journal")
	c.RunE = func(c *cobra.Command, _ []string) error {
		client, err := a.person()
		if err != nil {
			return err
		}
		var r api.Rotated
		if err := client.Call(c.Context(), "POST", "/keys/rotate", body, &r); err != nil {
			return err
		}
		return a.print(r, func(w io.Writer) {
			fmt.Fprintf(w, "%s tokens are signed with %s; %s is published as the next key.\n", body.Algorithm, r.Active, r.Next)
		})
	}
	return c
}
