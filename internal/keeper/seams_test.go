package keeper

import (
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// 1: quarantine × proposals.
func TestSeam01QuarantineMakesAlone(t *testing.T) {
	text := incidentRules("principal: user:dora", "principal: user:dora\nscope: /\n---\nkind: Assignment\nname: second\nrole: organisation-administrator\nprincipal: user:cat")
	c := respondingCore(t, text)
	weaker := mustRules(t, strings.Replace(text, "count: 1, groups: [managers]", "count: 1, groups: [managers, security]", 1))
	apply := func(next *Rules, id string) applied {
		s, err := c.core.step(Caller{User: "dora"}, "", applyCatalog{Rules: next, ID: id, Base: c.Revision.Number}, began.Add(time.Minute))
		must(t, err)
		must(t, s.err)
		return s.answer.(applied)
	}
	if a := apply(weaker, "p-1"); a.Proposal == "" {
		t.Fatal("dora weakens alone before")
	}
	must(t, c.user("dora", openIncident{ID: "i-1", Title: "x", Quarantine: quarantines(t, "user:cat")}, time.Minute))
	if a := apply(weaker, "p-2"); a.Proposal == "" {
		t.Errorf("dora quarantines the other administrator, and weakens alone: revision %d", a.Revision)
	}
	gone := strings.Replace(text, "---\nkind: Assignment\nname: second\nrole: organisation-administrator\nprincipal: user:cat\nscope: /\n", "", 1)
	if gone == text {
		t.Fatal("text")
	}
	if a := apply(mustRules(t, gone), "p-3"); a.Proposal == "" {
		t.Errorf("and takes her away for good: revision %d", a.Revision)
	}
}

// 2: the other way round, the second person is eligible and quarantined.
func TestSeam02QuarantinedEligibleSecondBlocks(t *testing.T) {
	text := incidentRules("principal: user:dora", "principal: user:dora\nscope: /\n---\nkind: Assignment\nname: second\neligible: true\nrole: organisation-administrator\nprincipal: user:cat") +
		"---\n{kind: ActivationRule, name: admins, role: organisation-administrator, scope: /}\n"
	c := respondingCore(t, text)
	weaker := mustRules(t, strings.Replace(text, "count: 1, groups: [managers]", "count: 1, groups: [managers, security]", 1))
	must(t, c.user("rita", openIncident{ID: "i-1", Title: "x", Quarantine: quarantines(t, "user:cat")}, time.Minute))
	s, err := c.core.step(Caller{User: "dora"}, "", applyCatalog{Rules: weaker, ID: "p-1", Base: c.Revision.Number}, began.Add(2*time.Minute))
	must(t, err)
	must(t, s.err)
	if a := s.answer.(applied); a.Proposal != "" {
		t.Errorf("it waits for cat, who is quarantined: %s", a.Proposal)
	}
}

// 3: conditions × provisioners.
func TestSeam03ConditionAndProvisioner(t *testing.T) {
	for name, cond := range map[string]string{"place": `environment == "e"`, "time": `now < timestamp("2026-11-02T09:10:00Z")`, "never": `user == "nobody"`} {
		text := strings.Replace(accessRules, "principal: group:engineers, scope: /projects/p, eligible: true}", "principal: group:engineers, scope: /projects/p, eligible: true, condition: '"+cond+"'}", 1)
		c := &core{world: world{State: newState(), rules: mustRules(t, unmarked(strings.Replace(text, "<deny>", provisioned, 1)))}}
		do := func(by string, cmd command, at time.Duration) error {
			s, err := c.step(Caller{User: by, Keeper: by == ""}, "", cmd, began.Add(at))
			must(t, err)
			return s.err
		}
		must(t, do("", firstEntry{}, 0))
		must(t, do("ann", openRequest{ID: "r-1", Role: "operator", Scope: "/projects/p/environments/f", For: time.Hour, Reason: "why"}, 0))
		must(t, do("bob", decideRequest{Request: "r-1", Approve: true, Digest: c.Requests["r-1"].Digest}, 0))
		if err := do("ann", beginActivation{"r-1", "a-1"}, 0); err != nil {
			continue
		}
		at := began.Add(20 * time.Minute)
		if d := c.check("ann", lockkeeper.StartDeployments, "/projects/p/environments/f", at); d.Passed(at) {
			t.Fatal("the condition is not judged")
		}
		for _, d := range c.Duties {
			if v := c.next(d, nil, at); v == GrantVerb {
				t.Errorf("%s: the condition (%s) gives ann nothing at f, and the provisioner %s is granted to her", name, cond, d.Provisioner)
			}
		}
	}
}

// 4: conditions × person tokens.
func TestSeam04TierAndIdentity(t *testing.T) {
	text := strings.Replace(accessRules+forPeople, "name: users, role: user, principal: group:engineers, scope: /projects/p, eligible: true}", `name: users, role: user, principal: group:engineers, scope: /projects/p, eligible: true, condition: 'tier != "development"'}`, 1)
	c := &core{world: world{State: newState(), rules: mustRules(t, unmarked(text))}}
	do := func(cmd command) error {
		s, err := c.step(Caller{User: "ann"}, "", cmd, began)
		must(t, err)
		return s.err
	}
	must(t, do(openRequest{ID: "r-1", Role: "user", Scope: "/projects/p", For: time.Hour, Reason: "why"}))
	must(t, do(beginActivation{"r-1", "a-1"}))
	if err := do(issueToken{"t-1", "p", "console", console}); err == nil {
		t.Errorf("the condition leaves out the tier development, and ann has a token of its identity")
	}
}

// 5: separation of use × run-bound activation.
func TestSeam05SeparationAndRun(t *testing.T) {
	for _, sep := range []string{"", dutyApart} {
		text := strings.Replace(rulesWith("<more>", migration+sep), "patience: 2h\n", "patience: 2h\nactivation: migrator\n", 1)
		c := respondingCore(t, strings.Replace(text, "<x>", "", 1)+"---\n{kind: User, name: rita}\n---\n{kind: User, name: rob}\n---\n{kind: User, name: rita-2, person: rita}\n")
		must(t, c.record(c.job("1", "10", "", "1001", 0), 0))
		j := c.job("1", "11", "production", "1001", 0)
		must(t, c.as(Caller{Workload: &j}, openRunRequest{ID: "r-1", Job: j, Role: "migrator", Scope: "/projects/payments/environments/production", For: 20 * time.Minute, Reason: "m", Handle: HandleDigest("h")}, 0))
		must(t, c.user("cat", decideRequest{Request: "r-1", Approve: true, Digest: c.Requests["r-1"].Digest}, 0))
		must(t, c.as(Caller{Holder: "r-1"}, beginActivation{"r-1", "a-1"}, 0))
		must(t, c.open("d-a", c.job("1", "11", "production", "1001", 0), "production", 0))
		must(t, c.approve("bob", "d-a", 0))
		err := c.approve("cat", "d-a", 0)
		if err == nil {
			err = c.claim("d-a", c.job("1", "11", "production", "1001", 0), 0)
		}
		if sep != "" && err == nil {
			t.Errorf("cat approved what the job activated, and the deployment: %v", err)
		}
	}
}

// 6: separation × trim, × extension.
func TestSeam06SeparationTrimExtension(t *testing.T) {
	for _, how := range []string{"plain", "trim", "extension"} {
		rules := dutyRules(t, dutyApart)
		if how == "trim" {
			rules = mustRules(t, strings.Replace(rulesWith("<latest>", "checks: [{name: two, approval: {count: 2, groups: [managers, on-duty]}}]\n", "<more>", dutyMore+dutyApart), "{name: d, approval: {count: 1, groups: [deciders]}}", "{name: d, approval: {count: 2, groups: [deciders]}}", 1))
		}
		c := &core{world: world{State: newState(), rules: rules}}
		do := func(by Caller, cmd command, at time.Duration) error {
			s, err := c.step(by, "", cmd, began.Add(at))
			must(t, err)
			return s.err
		}
		job := workload(1, "1", "10", "test", "1004", "push", 1, began)
		must(t, do(Caller{Workload: &job}, openDeployment{ID: "d-1", Job: job, Environment: "test", Artifacts: []lockkeeper.Artifact{app}, Handle: HandleDigest("h")}, 0))
		must(t, do(Caller{User: "fay"}, openRequest{ID: "r-1", Role: "release-manager", Scope: "/projects/payments", For: time.Hour, Reason: "why"}, 0))
		switch how {
		case "plain":
			must(t, do(Caller{User: "bob"}, decideRequest{Request: "r-1", Approve: true, Digest: c.Requests["r-1"].Digest}, 0))
		case "extension":
			must(t, do(Caller{User: "cat"}, decideRequest{Request: "r-1", Approve: true, Digest: c.Requests["r-1"].Digest}, 0))
		case "trim":
			must(t, do(Caller{User: "bob"}, decideRequest{Request: "r-1", Approve: true, Digest: c.Requests["r-1"].Digest}, 0))
			must(t, do(Caller{User: "cat"}, decideRequest{Request: "r-1", Approve: true, Digest: c.Requests["r-1"].Digest, For: 30 * time.Minute}, 0))
		}
		must(t, do(Caller{User: "fay"}, beginActivation{"r-1", "a-1"}, 0))
		at := time.Minute
		if how == "extension" {
			must(t, do(Caller{User: "fay"}, extendActivation{ID: "r-2", Activation: "a-1", For: time.Hour, Reason: "x"}, 0))
			must(t, do(Caller{User: "bob"}, decideRequest{Request: "r-2", Approve: true, Digest: c.Requests["r-2"].Digest}, 0))
			must(t, do(Caller{User: "fay"}, beginActivation{"r-2", "a-2"}, 0))
			job2 := workload(3, "2", "10", "test", "1004", "push", 1, began.Add(70*time.Minute))
			at = 70 * time.Minute
			must(t, do(Caller{Workload: &job2}, openDeployment{ID: "d-1b", Job: job2, Environment: "test", Artifacts: []lockkeeper.Artifact{app}, Handle: HandleDigest("h")}, at))
		}
		id := map[bool]string{true: "d-1b", false: "d-1"}[how == "extension"]
		must(t, do(Caller{User: "fay"}, vote{Deployment: id, Approve: true, Digest: c.Deployments[id].Digest}, at))
		if err := do(Caller{User: "bob"}, vote{Deployment: id, Approve: true, Digest: c.Deployments[id].Digest}, at); err == nil {
			t.Errorf("%s: bob approved fay's activation, and votes beside her; approvers %v", how, c.Activations["a-1"].Approvers)
		}
	}
}
