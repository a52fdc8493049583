package catalog

import "maps"

// everyJudgement is judgements and those of files of their own.
func everyJudgement() map[string]judgement {
	all := judgements()
	maps.Copy(all, provisionerJudgements())
	maps.Copy(all, outsideJudgements())
	return all
}

// provisionerJudgements says which changes of a provisioner weaken.
func provisionerJudgements() map[string]judgement {
	return map[string]judgement{
		"Provisioner.Name":         {names: another},
		"Provisioner.Role":         {weaker: []edit{{"database, role: little", "database, role: forbidden", true}}},
		"Provisioner.Scope":        {weaker: []edit{{"database, role: little, scope: /projects/shop", "database, role: little, scope: /", true}}},
		"Provisioner.PostgreSQL":   {weaker: []edit{{"postgresql: {roles: [reading]}", "ssh: {principals: [ops]}", true}}},
		"Provisioner.SSH":          {none: "see Provisioner.PostgreSQL"},
		"Provisioner.Webhook":      {none: "see Provisioner.PostgreSQL"},
		"Provisioner.Azure":        {none: "see Provisioner.PostgreSQL"},
		"AzureRole.Tenant":         {weaker: []edit{{"tenant: 1", "tenant: 9", true}}},
		"AzureRole.Client":         {weaker: []edit{{"client: 2", "client: 9", true}}},
		"AzureRole.Resource":       {weaker: []edit{{"/resourceGroups/shop", "", false}}},
		"AzureRole.RoleDefinition": {weaker: []edit{{"roleDefinition: 0b", "roleDefinition: 1b", true}}},
		"AzureRole.Principals":     {weaker: []edit{{"{user: bob, id: 44444444-4444-4444-8444-444444444444}", "{user: bob, id: 44444444-4444-4444-8444-444444444444}, {user: one, id: 55555555-5555-4555-8555-555555555555}", false}}},
		"AzurePrincipal.User":      {weaker: []edit{{"[{user: bob, id: 4", "[{user: one, id: 4", true}}},
		"Provisioner.Drift":        {weaker: []edit{{`hook.example.com"}`, `hook.example.com"}, drift: repair`, true}}, not: []edit{{`hook.example.com"}`, `hook.example.com"}, drift: revoke`, false}, {`hook.example.com"}`, `hook.example.com"}, drift: alert`, false}}},
		"Provisioner.Known":        {weaker: []edit{{"postgresql: {roles: [reading]}", "postgresql: {roles: [reading]}, known: [app]", false}}},
		"AzurePrincipal.Identity":  {weaker: []edit{{"[{user: bob, id: 4", "[{identity: shop/ship, id: 4", true}}},
		"AzurePrincipal.ID":        {weaker: []edit{{"user: bob, id: 4", "user: bob, id: 6", true}}},
		"PostgreSQL.Roles":         {weaker: []edit{{"roles: [reading]", "roles: [reading, writing]", false}}},
		"SSH.Principals":           {weaker: []edit{{"principals: [ops]", "principals: [ops, root]", false}}},
		"SSH.Lifetime":             {weaker: []edit{{"lifetime: 10m", "lifetime: 20m", false}, {"lifetime: 10m, ", "", false}}},
		"SSH.Extensions":           {weaker: []edit{{"extensions: [permit-pty]", "extensions: [permit-pty, permit-port-forwarding]", false}}, not: []edit{{", extensions: [permit-pty]", "", false}}},
		"Webhook.URL":              {weaker: []edit{{"https://hook.example.com", "https://other.example.com", true}}},
		"Webhook.Private":          {weaker: []edit{{`hook.example.com"`, `hook.example.com", private: true`, false}}},
	}
}
