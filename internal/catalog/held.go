package catalog

import "strings"

// Held environments. A CI platform can hold a run before one of its environments and
// ask an application of somebody else's whether to let it through. Where Lockkeeper is
// that application, the platform's asking opens the deployment, and what is behind it is
// read from the platform's API with the application's own key. An environment takes its
// asks either that way or from jobs, never both: two ways in would be two gates.

// publicAPI is where the public service of a platform has its API.
var publicAPI = map[string]string{GitHub: "https://api.github.com"}

// gitlabAPI is where every GitLab server has its API, below the address that its tokens
// name as their issuer.
const gitlabAPI = "/api/v4"

// APIURL is where the platform's API is: what the provider says, the public service, or
// on gitlab the server that issues the tokens.
func (p Provider) APIURL() string {
	if p.API != "" {
		return p.API
	}
	if p.Platform == GitLab {
		return strings.TrimSuffix(p.Issuer, "/") + gitlabAPI
	}
	return publicAPI[p.Platform]
}

// Holds reports whether the provider's platform can hold runs for Lockkeeper.
func (p Provider) Holds() bool { return p.App != nil }

func (v *rules) app(r *resource, p *Provider) {
	if p.App == nil {
		return
	}
	switch p.Platform {
	case GitHub:
		if !number(p.App.ID) {
			v.add(r, "app.id", "id_unfit", "The application is "+name(p.App.ID)+", and must be a plain number.", "Write the App ID as the App's page has it.")
		}
	case Azure: // its checks are configured with the environment and have no id
		if p.App.ID != "" {
			v.add(r, "app.id", "field_of_other_platform", "On Azure DevOps Lockkeeper is a check and has no id.", "Write app: {}.")
		}
		if p.API == "" {
			v.add(r, "api", "field_missing", "Runs that Azure DevOps holds are read from its API, and the provider has no api.", "Write https://dev.azure.com/ORGANISATION.")
		}
	case GitLab:
		if !number(p.App.ID) {
			v.add(r, "app.id", "id_unfit", "The account is "+name(p.App.ID)+", and must be a plain number.", "Write the id of the account that the access token is of: GET /user with the token tells it.")
		}
	default:
		v.add(r, "app", "field_of_other_platform", "Lockkeeper is no application on the platform "+p.Platform+".", "Take it out; only github, gitlab and azure have one.")
	}
}

func (v *rules) heldBy(r *resource, e *Environment) {
	if e.HeldBy == "" || !v.reference(r, "heldBy", Key{Kind: ProviderKind, Name: e.HeldBy}) {
		return
	}
	if !v.c.Providers[e.HeldBy].Holds() {
		v.add(r, "heldBy", "hold_impossible", "The provider "+name(e.HeldBy)+" has no app, so its platform cannot hold runs for Lockkeeper.", "Give the provider an app, or take heldBy out: the jobs ask then.")
	}
	for i, c := range e.Checks {
		if c.Template != nil {
			v.add(r, "heldBy", "template_unknowable", "The check "+name(e.Checks[i].Name)+" asks in which reusable definition the job runs, and a platform that holds a run does not say so.", "Take the check out, or heldBy.")
		}
	}
	if e.Activation != "" {
		v.add(r, "heldBy", "activation_impossible", "The job must have activated "+name(e.Activation)+" before it asks, and a job that is held has not begun.", "Take activation out, or heldBy.")
	}
}

func (w *weakening) app(a, b *App) {
	switch {
	case b == nil || a != nil && *a == *b:
	case b.ID == "":
		w.when(true, "what is read of runs that the platform holds is believed")
	default:
		w.when(true, "what the application %s reads is believed", b.ID)
	}
}

func (w *weakening) heldBy(a, b string) {
	w.when(a != b && b != "", "what is behind an ask is read from the platform of %s, and no job proves it", b)
	w.when(a != "" && b == "", "%s need not hold its runs before it any more", a)
}
