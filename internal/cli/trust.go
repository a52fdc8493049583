package cli

import (
	"fmt"
	"io"
	"net/url"
	"slices"
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
	Issuer    string `json:"issuer"`
	Host      string `json:"issuer_host"`
	Subject   string `json:"subject"`
	Audience  string `json:"audience"`
	Algorithm string `json:"algorithm"` // that tokens for the audience are signed with
	Identity  string `json:"identity"`
	Project   string `json:"project"`
	JWKS      string `json:"jwks_uri"`
}

// A cloud is one kind of target.
type cloud struct {
	takes    func(audience string) bool // what its tokens may be for
	says     string                     // the same, for a person
	variable string                     // from which its SDKs take the token by themselves; "": from none
	text     string
}

// azureAudience begins the audiences of Microsoft Entra ID in every cloud: those
// of the sovereign ones go on with USGov or China. The signer goes by the same.
const azureAudience = "api://AzureADTokenExchange"

func isAzure(audience string) bool { return strings.HasPrefix(audience, azureAudience) }

func isAWS(audience string) bool {
	return audience == "sts.amazonaws.com" || audience == "sts.amazonaws.com.cn"
}

func isGoogle(audience string) bool {
	_, is := googlePool(audience)
	return is
}

// tokenVariable is the variable in which a cloud's SDK looks for a token of this
// audience; "" if there is none.
func tokenVariable(audience string) string {
	for _, c := range clouds {
		if c.variable != "" && c.takes(audience) {
			return c.variable
		}
	}
	return ""
}

// audience is the one of list that the target takes: the first, but one that is
// a cloud's only if there is no other.
func (c cloud) audience(list []string) string {
	fits := slices.DeleteFunc(slices.Clone(list), func(a string) bool { return !c.takes(a) })
	if c.variable == "" {
		if i := slices.IndexFunc(fits, func(a string) bool { return tokenVariable(a) == "" }); i >= 0 {
			return fits[i]
		}
	}
	if len(fits) == 0 {
		return ""
	}
	return fits[0]
}

var clouds = map[string]cloud{
	"azure": {isAzure, azureAudience, "AZURE_FEDERATED_TOKEN_FILE", `# Microsoft Entra ID: a federated credential of the application or managed identity.
# It matches issuer, subject and audience exactly.
# A new credential may take minutes until it is known everywhere (AADSTS70021).
az identity federated-credential create --resource-group GROUP --identity-name NAME \
  --name lockkeeper-{{.Project}}-{{.Identity}} \
  --issuer '{{.Issuer}}' \
  --subject '{{.Subject}}' \
  --audiences '{{.Audience}}'
`},
	"aws": {isAWS, "sts.amazonaws.com", "AWS_WEB_IDENTITY_TOKEN_FILE", `# AWS IAM: an identity provider, once, and the trust policy of the role.
aws iam create-open-id-connect-provider --url '{{.Issuer}}' --client-id-list '{{.Audience}}'
cat > trust.json <<'EOF'
{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity",
  "Principal": {"Federated": "arn:aws:iam::ACCOUNT:oidc-provider/{{.Host}}"},
  "Condition": {"StringEquals": {"{{.Host}}:sub": "{{.Subject}}", "{{.Host}}:aud": "{{.Audience}}"}}}]}
EOF
aws iam update-assume-role-policy --role-name ROLE --policy-document file://trust.json
# In the job: AWS_ROLE_ARN=arn:aws:iam::ACCOUNT:role/ROLE; Lockkeeper sets AWS_WEB_IDENTITY_TOKEN_FILE.
`},
	"gcp": {isGoogle, "https://iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER", "GOOGLE_APPLICATION_CREDENTIALS",
		`# Google Cloud: a provider of a workload identity pool, and what the subject may act as.
gcloud iam workload-identity-pools providers create-oidc PROVIDER --location=global --workload-identity-pool=POOL \
  --issuer-uri='{{.Issuer}}' --allowed-audiences='{{.Audience}}' \
  --attribute-mapping='google.subject=assertion.sub' \
  --attribute-condition="assertion.sub == '{{.Subject}}'"
gcloud iam service-accounts add-iam-policy-binding ACCOUNT@PROJECT.iam.gserviceaccount.com --role=roles/iam.workloadIdentityUser \
  --member='principal://iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/subject/{{.Subject}}'
`},
	"vault": {func(string) bool { return true }, "of your choice", "", `# HashiCorp Vault or OpenBao: the JWT method, and a role bound to this one subject.
vault auth enable -path=lockkeeper jwt
vault write auth/lockkeeper/config oidc_discovery_url='{{.Issuer}}' jwt_supported_algs={{.Algorithm}}
vault write auth/lockkeeper/role/{{.Identity}} role_type=jwt user_claim=sub \
  bound_subject='{{.Subject}}' bound_audiences='{{.Audience}}' \
  token_policies=POLICY token_ttl=15m token_max_ttl=15m
`},
}

func (a *app) trustCommand() *cobra.Command {
	var identity, audience string
	c := &cobra.Command{Use: "trust azure|aws|gcp|vault --identity PROJECT/NAME", Short: "Print what to configure on the other side, so that it takes an identity's tokens", Args: cobra.ExactArgs(1),
		Example: "  lockkeeper trust azure --identity payments/payments-production\n  lockkeeper trust vault --identity payments/payments-production --audience https://vault.example.com", ValidArgs: []string{"azure", "aws", "gcp", "vault"}}
	c.Flags().StringVar(&identity, "identity", "", "the identity, as PROJECT/NAME")
	c.Flags().StringVar(&audience, "audience", "", "which of the identity's audiences; default: the first that the target takes")
	c.MarkFlagRequired("identity")
	c.RunE = func(c *cobra.Command, args []string) error {
		kind, known := clouds[args[0]]
		if !known {
			return lockkeeper.Invalid.Errorf("usage", "There are no instructions for %.40q.", args[0]).WithNext("Name azure, aws, gcp or vault.")
		}
		t, err := a.trusted(c, identity, audience, kind)
		if err != nil {
			return err
		}
		return a.print(t, func(w io.Writer) {
			template.Must(template.New("").Parse(kind.text)).Execute(w, t) // the texts are constants, the values checked names
			fmt.Fprintf(w, "# Tokens for the audience %s are signed with %s.\n", t.Audience, t.Algorithm)
			if strings.HasPrefix(t.Issuer, "http://") {
				fmt.Fprintln(w, "# This server's address is a loopback one: no cloud can fetch its keys. Serve it under https first.")
			}
		})
	}
	return c
}

func (a *app) trusted(c *cobra.Command, identity, wanted string, kind cloud) (trusted, error) {
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
	offered := id.Audiences
	if wanted != "" {
		offered = slices.DeleteFunc(slices.Clone(offered), func(a string) bool { return a != wanted })
	}
	audience := kind.audience(offered)
	switch {
	case wanted != "" && audience == "":
		return trusted{}, lockkeeper.Invalid.Errorf("audience_not_admitted", "The identity %s hands out no token for %.100q that this target takes.", identity, wanted).
			WithNext("Name one of: %s.", strings.Join(id.Audiences, ", "))
	case audience == "":
		return trusted{}, lockkeeper.Conflict.Errorf("audience_missing", "The identity %s hands out no token with an audience that this target takes.", identity).
			WithNext("Add the audience %s to the identity.", kind.says)
	}
	u, err := url.Parse(about.Issuer)
	if err != nil {
		return trusted{}, err
	}
	return trusted{about.Issuer, u.Host + u.Path, keeper.SubjectOf(project, id.Environment, name), audience, keeper.AlgorithmFor(audience), name, project, about.Issuer + "/.well-known/jwks.json"}, nil
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
