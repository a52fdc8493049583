package catalog

import (
	"os"
	"strings"
	"testing"
)

// The page about GitHub shows rules that are good.
func TestGitHubPage(t *testing.T) {
	data, err := os.ReadFile("../../docs/integrations/github.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "```yaml\n")
	text, _, found := strings.Cut(rest, "```")
	text = "kind: Project\nname: payments\n---\n" + strings.ReplaceAll("\n"+text, "\n   ", "\n")
	c, problems := Read([]File{{"github.md", []byte(text)}})
	if !found || c == nil || c.Environments["/projects/payments/environments/live"].HeldBy != "github" || c.Providers["github"].APIURL() != "https://api.github.com" {
		t.Error(problems)
	}
}

// So does the page about GitLab; its API is below the issuer, or where the provider says.
func TestGitLabPage(t *testing.T) {
	data, err := os.ReadFile("../../docs/integrations/gitlab.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "```yaml\n")
	text, _, found := strings.Cut(rest, "```")
	text = "kind: Project\nname: payments\n---\n" + strings.ReplaceAll("\n"+text, "\n   ", "\n")
	c, problems := Read([]File{{"gitlab.md", []byte(text)}})
	if !found || c == nil || c.Environments["/projects/payments/environments/production"].HeldBy != "gitlab" || c.Providers["gitlab"].APIURL() != "https://gitlab.com/api/v4" {
		t.Fatal(problems)
	}
	if got := (Provider{Platform: GitLab, Issuer: "https://lab.example.com", API: "https://api.lab.example.com/v4"}).APIURL(); got != "https://api.lab.example.com/v4" {
		t.Errorf("the API of the provider is %s", got)
	}
}

// So does the page about Azure.
func TestAzurePage(t *testing.T) {
	data, err := os.ReadFile("../../docs/integrations/azure.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "```yaml\n")
	text, _, found := strings.Cut(rest, "```")
	c, problems := Read([]File{{"azure.md", []byte("kind: Project\nname: payments\n---\n" + strings.ReplaceAll("\n"+text, "\n   ", "\n"))}})
	if !found || c == nil || c.Environments["/projects/payments/environments/live"].HeldBy != "azure" || !c.Providers["azure"].Holds() {
		t.Error(problems)
	}
}
