package catalog

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSecretIsSeen joins each secret from parts, so that nobody who searches
// this repository for secrets finds these.
func TestSecretIsSeen(t *testing.T) {
	for name, parts := range map[string][]string{
		"connection string":          {"Server=tcp:db.example.com,1433;Initial Catalog=app;User ID=app;", "Password=hunter2;Encrypt=True"},
		"in lower case, at the end":  {"host=db user=app ", "password=hunter2"},
		"with blanks":                {"Data Source=db; User Id = app; ", "Password = hunter2;"},
		"in quotes":                  {"user=app;", "password='hunter 2'"},
		"pwd":                        {"Driver={SQL Server};Server=db;Uid=app;", "Pwd=hunter2;"},
		"variable":                   {"DB_", "PASSWORD=hunter2"},
		"client secret":              {"client_id=1&", "client_secret=hunter22"},
		"placeholder and another":    {"Password=<here>;", "Password=hunter2"},
		"password in a URL":          {"https://", "user:hunter2@host.example.com/path"},
		"only a password in a URL":   {"redis://", ":hunter2@cache.example.com:6379/0"},
		"a URL in a sentence":        {"Clone https://", "ci:hunter2@git.example.com/app.git first."},
		"a database URL":             {"postgres://", "app:p%40ss@db/app?sslmode=verify-full"},
		"Azure DevOps":               {"mfrggzdfmztwq2lknnwg23", "tpobyxe43uov3ho6dzpiydcmrtgq2t"},
		"Azure DevOps in a sentence": {"the token mfrggzdfmztwq2lknnwg23", "tpobyxe43uov3ho6dzpiydcmrtgq2t."},
		"Azure DevOps, newer":        {strings.Repeat("aB3", 25), "xAZ", "DO4f5g"},
		"storage account":            {"DefaultEndpointsProtocol=https;AccountName=acme;", "AccountKey=", "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq==", ";EndpointSuffix=core.windows.net"},
		"service bus":                {"Endpoint=sb://acme.servicebus.windows.net/;SharedAccessKeyName=Root;", "SharedAccessKey=", "q83vEjRWeJq83vEjRWeJq83vEjRWeJq83vEjRWeJq80="},
		"shared access signature":    {"https://acme.blob.core.windows.net/c?sv=2024-11-04&se=2027-01-01&", "sig=", "q83vEjRWeJq83vEjRWeJq83vEjRWeJq83vEjRWeJq80%3D"},
		"Entra":                      {"abc8", "Q~", "dEfGhIjKlMnOpQrStUvWxYz0123456.-_"},
		"AWS id":                     {"AKIA", "IOSFODNN7EXAMPLE"},
		"AWS id with its secret":     {"AKIA", "IOSFODNN7EXAMPLE wJalrXUtnFEMI/K7MDENG/", "bPxRfiCYEXAMPLEKEY"},
		"AWS secret":                 {"wJalrXUtnFEMI/K7MDENG/", "bPxRfiCYEXAMPLEKEY"},
		"AWS secret by name":         {"aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/", "bPxRfiCYEXAMPLEKEY # of the build"},
		"signed token":               {"eyJhbGciOiJFUzI1NiJ9.", "eyJzdWIiOiIxIn0.", "c2lnbmF0dXJl"},
		"bearer":                     {"Authorization: Bearer eyJhbGciOiJFUzI1NiJ9.", "eyJzdWIiOiIxIn0.", "c2lnbmF0dXJl"},
		"encrypted token":            {"eyJhbGciOiJkaXIiLCJlbmMi", "OiJBMjU2R0NNIn0..48V1_ALb6US04U3b.5eym8TW_c8SuK0lt.XFBoMYUZodetZdvT"},
		"PEM":                        {"-----BEGIN ", "PRIVATE KEY-----"},
		"PEM, RSA":                   {"-----BEGIN RSA ", "PRIVATE KEY-----\nMIIE"},
		"OpenSSH":                    {"-----BEGIN OPENSSH ", "PRIVATE KEY-----"},
		"PGP":                        {"-----BEGIN PGP ", "PRIVATE KEY BLOCK-----"},
		"PuTTY":                      {"PuTTY-User-", "Key-File-3: ssh-ed25519"},
		"GitHub":                     {"ghp", "_0123456789abcdefghijABCDEFGHIJ012345"},
		"GitHub app":                 {"ghs", "_0123456789abcdefghijABCDEFGHIJ012345"},
		"GitHub, fine-grained":       {"github_", "pat_11ABCDEFG0abcdefghijkl_ABCDEFGHIJ"},
		"GitLab":                     {"glpat", "-abcdefghij0123456789"},
		"GitLab, longer":             {"glpat", "-abcdefghijklmnopqrstuvwxyz0.01.0w1abcdef"},
		"GitLab, capitals only":      {"glrt", "-abcdefghijXabcdefghi"},
		"GitLab job":                 {"glcbt", "-64_abcdefghij0123456789"},
		"GitLab deploy":              {"gldt", "-abcdefghij0123456789"},
		"Slack bot":                  {"xoxb", "-123456789012-abcdefghijkl"},
		"Slack app":                  {"xapp", "-1-A0123456789-1234567890123-abcdef"},
		"Slack webhook":              {"https://hooks.slack.com/", "services/T00000000/B00000000/abcdefghijklmnop"},
		"Vault":                      {"hvs", ".CAESIabcdefghijklmnopqrstuv"},
		"Lockkeeper's session":       {"lkp", "_abcdefghijklmnop_abcdefghijklmnopqrstuvwxyz234567"},
		"Lockkeeper's handle":        {"lkh", "_abcdefghijklmnopqrstuvwxyz234567"},
		"what no person chose":       {"Zk3Qp9Lx7Rt2Wm5", "Vb8Nc4Hj6Ys1Dg0FaUeOi"},
	} {
		if s := strings.Join(parts, ""); !secret(s, false) {
			t.Errorf("%s: %q does not look like a secret", name, s)
		}
	}
	// In a field of ids the shapes still count, the guesses do not.
	if guess := "Zk3Qp9Lx7Rt2Wm5" + "Vb8Nc4Hj6Ys1Dg0FaUeOi"; secret(guess, true) || !secret("glpat"+"-abcdefghij0123456789", true) {
		t.Error("ids are not judged by shapes alone")
	}
}

func TestNoSecretIsSeen(t *testing.T) {
	for _, s := range []string{
		// Digests, ids, commits.
		"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
		"sha512:" + strings.Repeat("0123456789abcdef", 8),
		"app=sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
		"docker://alpine:3.20@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
		"ghcr.io/acme/app:1.2@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
		"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b", "9F86D081884C7D659A2FEAA0C55AD015A3BF4F1B", "d41d8cd98f00b204e9800998ecf8427e",
		"11111111-2222-3333-4444-555555555555", "8A1B2C3D-4E5F-6071-8293-A4B5C6D7E8F9", "{8a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9}",
		"4711", "12345678901234567890", "d-abcdefghijklmnop", "arn:aws:iam::123456789012:role/Deploy", "AROAIOSFODNN7EXAMPLE:session", "AIDAIOSFODNN7EXAMPLE",
		"/subscriptions/8a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9/resourceGroups/Production-WestEurope-01/providers/Microsoft.Storage/storageAccounts/acme",
		// Addresses.
		"https://token.actions.githubusercontent.com", "https://ci.example.com:8443/realms/acme@work", "https://user@host.example.com", "ssh://git@github.com:22/acme/app.git",
		"git@github.com:acme/app.git", "api://AzureADTokenExchange", "https://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
		"https://vstoken.dev.azure.com/11111111-2222-3333-4444-555555555555", "ari:cloud:bitbucket::workspace/8a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9", "https://[::1]:8080/a@b", "http://127.0.0.1:8080",
		"https://acme.example.com/?q=design&by=ann", "https://${USER}:${PASSWORD}@git.example.com", "https://x-access-token:$TOKEN@github.com/acme/app", "https://user:***@host",
		// Placeholders of connection strings.
		"Server=db;Password=<from the vault>;", "Server=db;Password=${DB_PASSWORD};", "Server=db;Password=$(DbPassword);", "Server=db;Password=$DB_PASSWORD", "Password=***;", "Password={password};", "Password=%PASSWORD%;",
		"Password=…;", "Persist Security Info=False;Trusted_Connection=True;Password=;", "AccountKey=<key>;", "SharedAccessKeyName=RootManageSharedAccessKey", "AccountKey=", "sig=…",
		// Rules and refs.
		`ask.parameters["password"] == "changed"`, `ask.parameters.password=="changed"`, `ask.parameters.client_secret != "none"`, `job.ref_protected == "true" && job.attempt == 1`,
		`ask.parameters["change"].matches("^(CHG[0-9]{7})$")`, "refs/heads/fix/password-reset", "refs/heads/feature/JIRA-1234_Rotate-The-Client-Secrets-Of-2026", "acme/delivery/.github/workflows/deploy.yml",
		"/p:Pwd=/tmp", "cd $PWD",
		// Names.
		"NetCore1ESPool-Publishing-Internal", "CI_COMMIT_REF_SLUG-k8s-integration-exec-legacy", "qt5-runtime-Windows-x86_64-mingw81", "Production-WestEurope2-Payments-Deployment", "glrt-production-runners-of-payments",
		"gldt-deployment-tools", "xoxo", "eyJ", "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz", strings.Repeat("a2", 26), "payments-production-europe-west-blue-green-canary-second",
		// Prose.
		"Rotate the password: it is older than a year.", "The password is kept in the vault; see https://wiki.example.com/Passwords.", "Wait for the key = the canary; the secret key: ask the security team.",
		"Look at the canary first, then at the error budget of https://grafana.example.com/d/abc123/payments?orgId=1&from=now-6h.", "password = ask the team", "-----BEGIN CERTIFICATE-----", "-----BEGIN PUBLIC KEY-----",
		"Nobody is here.", "Das Passwort steht im Tresor.", "パスワードは金庫にあります。",
	} {
		if secret(s, false) {
			t.Errorf("%q looks like a secret", s)
		}
	}
}

// Real pipeline definitions hold no secrets, but passwords that are given as
// such; nothing else in them may look like one.
func TestNoSecretIsSeenInPipelines(t *testing.T) {
	root := "../../../shared/data/pipelines"
	if _, err := os.Stat(root); err != nil {
		t.Skip("the real pipeline definitions are not beside this checkout; their licences differ, so none is copied here")
	}
	lines, given := 0, 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "yml") && !strings.HasSuffix(path, "yaml") {
			return err
		}
		data, err := os.ReadFile(path)
		for line := range strings.Lines(string(data)) {
			line = strings.TrimSpace(line)
			lines++
			switch {
			case givenSecret(line):
				given++
			case secret(line, false):
				t.Errorf("%s: %.200q looks like a secret", filepath.Base(path), line)
			}
		}
		return err
	})
	if err != nil || lines < 10_000 || given > lines/1000 {
		t.Errorf("%d lines, %d with a secret given as one: %v", lines, given, err)
	}
}
