package catalog

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// The platforms whose tokens Lockkeeper reads.
const (
	GitHub     = "github"
	GitLab     = "gitlab"
	Azure      = "azure"      // Azure DevOps
	Kubernetes = "kubernetes" // projected service account tokens
	OIDC       = "oidc"       // any other issuer, by a list of claims
)

// A platform says what the resources about it must and may have.
type platform struct {
	id             func(string) bool // an account, an organisation, a project
	idSays         string
	repository     func(string) bool
	repositorySays string
	organisation   bool // must be named
	definition     func(string) string
	events         string   // characters of an event's name; "": there are none
	algorithms     []string // what its tokens may be signed with
	optional       bool     // what the tokens say depends on the provider's claims
}

func always(s string) bool { return s != "" && len(s) <= 255 }

const (
	lowerLetters = "abcdefghijklmnopqrstuvwxyz_"
	letters      = lowerLetters + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

var platforms = map[string]platform{
	GitHub: {id: number, idSays: "plain numbers", repository: number, repositorySays: "a plain number", organisation: true, definition: pathUnfit, events: lowerLetters, algorithms: []string{"RS256", "ES256"}},
	GitLab: {id: number, idSays: "plain numbers", repository: number, repositorySays: "a plain number", organisation: true, definition: gitlabUnfit, events: lowerLetters, algorithms: []string{"RS256"}},
	Azure: {id: guid, idSays: "GUIDs in lower case", repository: always, repositorySays: "at most 255 bytes", organisation: true, definition: numberUnfit, events: letters,
		algorithms: []string{"RS256"}},
	Kubernetes: {id: guid, idSays: "the UIDs of service accounts", repository: func(s string) bool { return lockkeeper.CheckName(s) == nil }, repositorySays: "the name of a namespace", definition: absentUnfit,
		algorithms: []string{"RS256", "ES256", "ES384"}},
	OIDC: {id: always, idSays: "texts", repository: always, repositorySays: "at most 255 bytes", definition: pathUnfit, events: letters + "0123456789-.", algorithms: []string{"RS256", "ES256"}, optional: true},
}

func platformNames() []string { return []string{GitHub, GitLab, Azure, Kubernetes, OIDC} }

func number(s string) bool { return isDigits(s) && len(s) <= 20 }

func guid(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range s {
		if dash := i == 8 || i == 13 || i == 18 || i == 23; dash != (c == '-') || !dash && !strings.ContainsRune("0123456789abcdef", c) {
			return false
		}
	}
	return true
}

func numberUnfit(s string) string {
	if !number(s) {
		return "must be the number of the pipeline's definition (definitionId in its address)"
	}
	return ""
}

// gitlabUnfit takes a path in the repository, or HOST/GROUP/PROJECT//PATH of a
// definition that lies in another project: GitLab itself finds that one by its
// names, and package identity reads them so out of ci_config_ref_uri.
func gitlabUnfit(s string) string {
	place, path, elsewhere := strings.Cut(s, "//")
	if !elsewhere || place == "" {
		return pathUnfit(s)
	}
	if reason := pathUnfit(place); reason != "" {
		return reason
	}
	if strings.Count(place, "/") < 2 {
		return "names no project before //"
	}
	return pathUnfit(path)
}

func absentUnfit(s string) string {
	if s != "" {
		return "does not exist on this platform"
	}
	return ""
}

// platformOf is the platform of a provider that the catalog has, or of the
// first one where it is not known (what is wrong there is told already).
func (v *rules) platformOf(provider string) (string, platform) {
	name := v.c.Providers[provider].Platform
	if p, ok := platforms[name]; ok {
		return name, p
	}
	return GitHub, platforms[GitHub]
}

// Bounds of a provider.
const (
	maxClaims    = 32
	leastLongest = time.Minute
	mostLongest  = 24 * time.Hour
)

func (v *rules) provider(r *resource, p *Provider) {
	if _, ok := platforms[p.Platform]; !ok {
		v.add(r, "platform", "platform_unknown", "The platform "+name(p.Platform)+" is not one that Lockkeeper knows.", v.problems.suggest(p.Platform, platformNames(), "Write one of "+strings.Join(platformNames(), ", ")+"."))
		return
	}
	if reason := issuerUnfit(p.Issuer); reason != "" {
		v.add(r, "issuer", "issuer_unfit", "The issuer "+reason+".", "Write it exactly as the platform's tokens have it, such as https://token.actions.githubusercontent.com.")
	}
	if p.Audience != "" {
		v.audience(r, "audience", p.Audience)
	}
	v.within(r, "longest", p.Longest, leastLongest, mostLongest)
	for i, a := range p.Algorithms {
		if all := []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"}; !slices.Contains(all, a) {
			v.add(r, fmt.Sprintf("algorithms[%d]", i), "algorithm_unknown", "The algorithm "+name(a)+" is not one that tokens are taken with.", v.problems.suggest(a, all, "Write one of "+strings.Join(all, ", ")+"."))
		}
	}
	if p.API != "" {
		switch reason := issuerUnfit(p.API); {
		case p.Platform != Azure && p.App == nil:
			v.add(r, "api", "field_of_other_platform", "Only Azure DevOps needs a look-up, so only such a provider has an api, or one with an app.", "Take it out.")
		case reason != "":
			v.add(r, "api", "api_unfit", "The address of the platform's API "+reason+".", apiMend[p.Platform])
		}
	}
	v.app(r, p)
	v.claims(r, p)
}

// apiMend says, by platform, what its API's address is.
var apiMend = map[string]string{
	GitHub: "Write https://api.github.com, or https://HOST/api/v3 of a server of your own.",
	GitLab: "Write https://HOST/api/v4, or leave it out: then it is below the issuer.",
	Azure:  "Write https://dev.azure.com/ORGANISATION.",
}

// claims checks the list that says which claim carries which fact.
func (v *rules) claims(r *resource, p *Provider) {
	if p.Platform != OIDC {
		if len(p.Claims) > 0 {
			v.add(r, "claims", "field_of_other_platform", "The claims of "+p.Platform+" are known; only the platform oidc lists them.", "Take the list out.")
		}
		return
	}
	if len(p.Claims) > maxClaims {
		v.bounded(r, "claims", len(p.Claims), maxClaims)
	}
	first := map[string]bool{}
	for i, c := range p.Claims {
		at := fmt.Sprintf("claims[%d]", i)
		if !slices.Contains(MappableFacts(), c.Fact) {
			v.add(r, at+".fact", "fact_unknown", "There is no fact "+name(c.Fact)+" to fill from a claim.", v.problems.suggest(c.Fact, MappableFacts(), "The facts are "+strings.Join(MappableFacts(), ", ")+"."))
		} else if first[c.Fact] {
			v.add(r, at+".fact", "duplicate_fact", "The fact "+c.Fact+" is filled already.", "Keep one of the two.")
		}
		first[c.Fact] = true
		if c.Claim == "" || len(c.Claim) > 128 {
			v.add(r, at+".claim", "field_missing", "The claim that carries "+name(c.Fact)+" has no fit name.", "Write the claim's name as it stands in the token.")
		}
		v.claimOfSubject(r, at, c)
	}
	for _, needed := range []string{"repository", "run", "job", "actor"} {
		if !first[needed] {
			v.add(r, "claims", "fact_missing", "No claim carries the fact "+needed+".", "Add {fact: "+needed+", claim: NAME}: without it nothing says which "+needed+" a token is of, and sub is made of names that can change hands.")
		}
	}
}

// MappableFacts are the facts of a record that a provider of the platform oidc
// may fill from claims.
func MappableFacts() []string {
	return []string{"organisation", "organisation_name", "project", "project_name", "repository", "repository_name", "pipeline", "pipeline_name", "run", "stage", "job",
		"event", "ref", "ref_type", "ref_protected", "commit", "environment", "environment_protected", "definition_path", "definition_ref", "definition_commit",
		"actor", "actor_name", "subject"}
}

// Fills reports whether tokens of the provider can carry a fact.
func (p Provider) fills(fact string) bool {
	return slices.ContainsFunc(p.Claims, func(c Claim) bool { return c.Fact == fact })
}

// platformID checks an id of a CI platform. A name in the place of an id would
// hand the rights to whoever takes the name next.
func (v *rules) platformID(r *resource, path, provider, id string) {
	_, p := v.platformOf(provider)
	switch {
	case id == "":
		v.add(r, path, "field_missing", "The field "+path+" is missing.", "Write the immutable id that the platform gave.")
	case !p.id(id):
		v.add(r, path, "id_unfit", "The field "+path+" is "+name(id)+", and the platform's ids are "+p.idSays+".", "Write the immutable id, not the name: names can change hands.")
	}
}

func (v *rules) pipeline(r *resource, p *Pipeline) {
	which, platform := v.platformOf(p.Provider)
	provider := v.c.Providers[p.Provider]
	if v.reference(r, "provider", Key{Kind: ProviderKind, Name: p.Provider}) {
		switch fills := provider.fills("organisation"); {
		case platform.organisation || fills && p.Organisation != "":
			v.platformID(r, "organisation", p.Provider, p.Organisation)
		case fills && v.written:
			v.add(r, "organisation", "field_missing", "The field organisation is missing: tokens of "+name(p.Provider)+" name one, so no job would be of this pipeline.", "Write the immutable id that the platform gave, or take the claim out of the provider.")
		case p.Organisation != "":
			mend := "Take it out."
			if which == OIDC {
				mend = "Take it out, or fill the fact organisation from a claim of the provider."
			}
			v.add(r, "organisation", "field_of_other_platform", "Tokens of "+name(p.Provider)+" name no organisation, so no job would be of this pipeline.", mend)
		}
		switch {
		case p.Repository == "":
			v.add(r, "repository", "field_missing", "The field repository is missing.", "Write the immutable id that the platform gave; on Kubernetes the namespace.")
		case !platform.repository(p.Repository):
			v.add(r, "repository", "id_unfit", "The field repository is "+name(p.Repository)+", and must be "+platform.repositorySays+".", "Write the immutable id, not the name: names can change hands.")
		}
		if which == Azure && !guid(p.TeamProject) {
			v.add(r, "teamProject", "id_unfit", "The team project is "+name(p.TeamProject)+", and must be a GUID in lower case.", "Write the id of the team project: az devops project show --query id")
		} else if which != Azure && p.TeamProject != "" {
			v.add(r, "teamProject", "field_of_other_platform", "Only Azure DevOps has team projects.", "Take it out.")
		}
	}
	if reason := platform.definition(p.Definition); reason != "" && !(platform.optional && p.Definition == "" && !provider.fills("definition_path")) {
		v.add(r, "definition", "definition_unfit", "The definition "+strings.TrimPrefix(reason, "path ")+".", definitionMend[which])
	}
	v.bounded(r, "stages", len(p.Stages), maxStages)
	first := map[string]bool{}
	for i, s := range p.Stages {
		at := fmt.Sprintf("stages[%d]", i)
		if err := lockkeeper.CheckName(s.Name); err != nil {
			v.add(r, at+".name", "name_unfit", "The name of a stage is unfit: "+clip(err.Error(), 200)+".", "Choose a name such as deploy.")
		} else if first[s.Name] {
			v.add(r, at+".name", "duplicate_stage", "The stage "+s.Name+" is already defined in this pipeline.", "Keep one of the two, or rename this one.")
		}
		first[s.Name] = true
		v.trust(r, at+".trust", which, provider, s.Trust)
		v.oneOf(r, at+".evidence", s.Evidence, EvidenceKinds()...)
		v.stageRunning(r, at, p.Project, s)
	}
}

// definitionMend says, by platform, how to write the definition.
var definitionMend = map[string]string{
	GitHub:     "Write the path in the repository, such as .github/workflows/release.yml.",
	GitLab:     "Write the path in the repository, such as .gitlab-ci.yml; or, of one that lies in another project, HOST/GROUP/PROJECT//PATH.",
	Azure:      "Write the definition's number.",
	Kubernetes: "Take it out.",
	OIDC:       "Write the path in the repository, as the provider's claim has it.",
}

// trust checks a trust rule against what the platform's tokens can say: a field
// that no token of it carries would refuse everybody.
func (v *rules) trust(r *resource, at, which string, provider Provider, t Trust) {
	p := platforms[which]
	v.trustEvents(r, at, p, p.events != "" && (!p.optional || provider.fills("event")), t)
	v.trustRefs(r, at, p.events != "" && (!p.optional || provider.fills("ref")), t)
	for _, f := range []struct {
		field, value string
		fits         bool
		limit        int
	}{
		{"environment", t.Environment, which == GitHub || which == GitLab || provider.fills("environment"), 255},
		{"called", t.Called, which == GitHub, 255},
		{"stage", t.Stage, which == Azure || provider.fills("stage"), 255},
		{"serviceAccount", t.ServiceAccount, which == Kubernetes, 36},
	} {
		switch {
		case f.value != "" && !f.fits:
			v.add(r, at+"."+f.field, "field_of_other_platform", "Tokens of the platform "+which+" carry nothing to compare "+f.field+" with, so the rule would refuse everybody.", "Take the field out.")
		case len(f.value) > f.limit:
			v.add(r, at+"."+f.field, "value_too_long", fmt.Sprintf("The value of %s has more than %d bytes.", f.field, f.limit), "Write its name as the platform does.")
		}
	}
	if v.written && which == Azure && t.Stage == "" {
		v.add(r, at+".stage", "stage_missing", "Nothing says which stage of the definition this is, so every stage of a run would be it, the build too.",
			"Name it as the definition does, stage: Deploy; a definition without stages has the one stage __default.")
	}
	if t.SelfHosted && which != GitHub && which != GitLab {
		v.add(r, at+".selfHosted", "field_of_other_platform", "Tokens of the platform "+which+" do not tell whose runner it is.", "Take the field out.")
	}
	if which == Kubernetes && !guid(t.ServiceAccount) {
		v.add(r, at+".serviceAccount", "id_unfit", "The service account is "+name(t.ServiceAccount)+", and must be named by its UID.", "Write the UID: kubectl get serviceaccount NAME -o jsonpath={.metadata.uid}. A name can be given to another account.")
	}
	if t.Called != "" && (pathUnfit(t.Called) != "" || strings.Count(t.Called, "/") < 2) {
		v.add(r, at+".called", "called_unfit", "The called definition must be OWNER/REPOSITORY/PATH, without @ and a ref.", "Write for instance acme/delivery/.github/workflows/deploy.yml.")
	}
	if t.Rule != "" {
		v.expression(r, at+".rule", jobVariable, t.Rule)
	}
}

func (v *rules) trustEvents(r *resource, at string, p platform, said bool, t Trust) {
	switch {
	case !said && len(t.Events) > 0:
		v.add(r, at+".events", "field_of_other_platform", "Tokens of this provider name no event, so the rule would refuse everybody.", "Take the list out.")
	case said && len(t.Events) == 0:
		v.add(r, at+".events", "events_missing", "The trust rule admits no event.", "List the events that may start the stage, such as push or workflow_dispatch.")
	case len(t.Events) > maxEvents:
		v.bounded(r, at+".events", len(t.Events), maxEvents)
	}
	for i, e := range t.Events {
		if !said {
			return
		}
		if e == "" || len(e) > 64 || strings.Trim(e, p.events) != "" {
			v.add(r, fmt.Sprintf("%s.events[%d]", at, i), "event_unfit", name(e)+" is no event's name.", "Name each event as the platform does, such as push; there are no wildcards.")
		}
	}
}

func (v *rules) trustRefs(r *resource, at string, said bool, t Trust) {
	switch {
	case !said && len(t.Refs) > 0:
		v.add(r, at+".refs", "field_of_other_platform", "Tokens of this provider name no ref, so the rule would refuse everybody.", "Take the list out.")
	case said && len(t.Refs) == 0:
		v.add(r, at+".refs", "refs_missing", "The trust rule admits no ref.", "List the full refs that the stage may run on, such as refs/heads/main.")
	case len(t.Refs) > maxRefs:
		v.bounded(r, at+".refs", len(t.Refs), maxRefs)
	}
	for i, ref := range t.Refs {
		v.ref(r, fmt.Sprintf("%s.refs[%d]", at, i), ref)
	}
}

// expression compiles a rule and keeps it for the catalog.
func (v *rules) expression(r *resource, path, variable, text string) {
	p, err := compileRule(variable, text)
	if err != nil {
		v.add(r, path, "expression_unfit", "The expression does not compile: "+clip(err.Error(), 300)+".", "Write a CEL expression over "+variable+" that is true or false; docs/catalog.md shows some.")
		return
	}
	v.c.programs[programKey(variable, text)] = p
	if variable == jobVariable && v.written {
		v.trustRule(r, path, p.root)
	}
}
