package catalog

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
)

// groupCycles reports each cycle of groups once, at the membership that closes
// it.
func (v *rules) groupCycles() {
	const (
		open = 1
		done = 2
	)
	state := map[string]int{}
	var path []string
	var visit func(g string)
	visit = func(g string) {
		state[g] = open
		path = append(path, g)
		for i, inner := range v.c.Groups[g].Groups {
			switch state[inner] {
			case open:
				cycle := append(slices.Clone(path[slices.Index(path, inner):]), inner)
				v.add(v.known[Key{Kind: GroupKind, Name: g}], fmt.Sprintf("groups[%d]", i), "group_cycle",
					"The groups contain each other: "+shorten(cycle)+".", "Take one of these memberships out.")
			case 0:
				if _, ok := v.c.Groups[inner]; ok {
					visit(inner)
				}
			}
		}
		path = path[:len(path)-1]
		state[g] = done
	}
	for _, g := range slices.Sorted(maps.Keys(v.c.Groups)) {
		if state[g] == 0 {
			visit(g)
		}
	}
}

// shorten joins the names of a chain, leaving out the middle of a long one.
func shorten(chain []string) string {
	if len(chain) > 12 {
		chain = slices.Concat(chain[:6], []string{fmt.Sprintf("(%d more)", len(chain)-12)}, chain[len(chain)-6:])
	}
	return strings.Join(chain, " → ")
}

// platformIDs refuses one platform account in two users.
func (v *rules) platformIDs(admitted []*resource) {
	owner := map[PlatformID]*resource{}
	for _, r := range admitted {
		u, ok := r.value.(*User)
		if !ok {
			continue
		}
		for i, id := range u.IDs {
			if first, taken := owner[id]; taken {
				v.add(r, fmt.Sprintf("ids[%d].id", i), "platform_id_taken", fmt.Sprintf("The account %s at %s already belongs to %s (%s).", name(id.ID), name(id.Provider), first.key, first.where()), "Leave it with the one user whose account it is.")
				continue
			}
			owner[id] = r
		}
	}
}

// persons refuses a person that leads on to another one: one human being would
// count as two.
func (v *rules) persons(admitted []*resource) {
	for _, r := range admitted {
		u, ok := r.value.(*User)
		if !ok || u.Person == "" {
			continue
		}
		if other, ok := v.c.Users[string(u.Person)]; ok && other.Who() != u.Person {
			v.add(r, "person", "person_chain", fmt.Sprintf("The person %s is also a user, and that user's person is %s: one human being would count as two.", u.Person, name(string(other.Person))), "Give both users the same person.")
		}
	}
}

// providers refuses two providers that the same token would fit.
func (v *rules) providers(admitted []*resource) {
	first := map[[2]string]*resource{}
	for _, r := range admitted {
		p, ok := r.value.(*Provider)
		if !ok || p.Issuer == "" {
			continue
		}
		key := [2]string{p.Issuer, p.Audience}
		if other, dup := first[key]; dup {
			v.add(r, "issuer", "provider_duplicate", fmt.Sprintf("The issuer and the audience are those of %s (%s) too, so nothing says which of the two a token is of.", other.key, other.where()), "Keep one of the two, or give each its own audience.")
			continue
		}
		first[key] = r
	}
}

// A trustKey is what two stages of one definition must share to be mistaken for
// each other. selfHosted is no part of it: a stage that admits self-hosted
// runners admits the platform's too.
type trustKey struct {
	repository
	definition, environment, called, stage, account, rule, event, ref string
}

// maxCombinations bounds the memory that the comparison of all stages takes.
const maxCombinations = 500_000

// ambiguousStages refuses two stages that one job could be of, in one pipeline
// or in two over the same definition.
func (v *rules) ambiguousStages(admitted []*resource) {
	first := map[trustKey]string{}
	for _, r := range admitted {
		p, ok := r.value.(*Pipeline)
		if !ok || len(p.Stages) > maxStages {
			continue
		}
		for i, s := range p.Stages {
			if len(s.Trust.Events) > maxEvents || len(s.Trust.Refs) > maxRefs {
				continue
			}
			if len(first)+len(s.Trust.Events)*len(s.Trust.Refs) > maxCombinations {
				v.add(r, fmt.Sprintf("stages[%d].trust", i), "too_many_entries", fmt.Sprintf("All trust rules together have more than %d combinations of event and ref.", maxCombinations), "List fewer refs.")
				return
			}
			v.ambiguousStage(r, p, i, first)
		}
	}
}

func (v *rules) ambiguousStage(r *resource, p *Pipeline, i int, first map[trustKey]string) {
	t, me := p.Stages[i].Trust, fmt.Sprintf("stage %s of %s", p.Stages[i].Name, r.key)
	reported := false
	for _, event := range orNone(t.Events) {
		for _, ref := range orNone(t.Refs) {
			k := trustKey{repository{p.Provider, p.Organisation, p.Repository}, p.TeamProject + "/" + p.Definition, t.Environment, t.Called, t.Stage, t.ServiceAccount, t.Rule, event, ref}
			other, taken := first[k]
			if !taken {
				first[k] = me
				continue
			}
			if reported || len(v.problems.list) == maxKept {
				continue
			}
			reported = true
			v.add(r, fmt.Sprintf("stages[%d].trust", i), "stage_ambiguous",
				fmt.Sprintf("A job of event %s on %s could be %s or %s: no signed fact tells them apart.", name(event), name(ref), other, me),
				"Give each its own platform environment under trust.environment, or different events or refs.")
		}
	}
}

// orNone is a list with one empty entry where there is none.
func orNone(list []string) []string {
	if len(list) == 0 {
		return []string{""}
	}
	return list
}

// identityPairs refuses two identities for one environment.
func (v *rules) identityPairs(admitted []*resource) {
	first := map[lockkeeper.Scope]*resource{}
	for _, r := range admitted {
		id, ok := r.value.(*Identity)
		if !ok || id.Environment == "" {
			continue
		}
		env := lockkeeper.EnvironmentScope(id.Project, id.Environment)
		if other, dup := first[env]; dup {
			v.add(r, "environment", "environment_with_two_identities", fmt.Sprintf("The environment %s already has %s (%s).", name(id.Environment), other.key, other.where()), "Keep one identity for each environment.")
			continue
		}
		first[env] = r
	}
}

// approvers refuses a gate that nobody could ever pass: a check that asks for
// more persons than its groups have, or checks that together do, since one
// person never fills two places.
func (v *rules) approvers(admitted []*resource) {
	for _, r := range admitted {
		e, ok := r.value.(*Environment)
		if !ok || len(e.Checks) > maxChecks {
			continue
		}
		said := map[int]bool{} // checks that are refused already
		for _, action := range e.Paths() {
			for _, when := range e.Conditions() {
				v.approversOf(r, e, func(c Check) bool { return c.Asked(action) && (c.When == "" || c.When == when) }, said)
			}
		}
	}
}

// approversOf is approvers for the checks that some asks meet together.
func (v *rules) approversOf(r *resource, e *Environment, meets func(Check) bool, said map[int]bool) {
	skipped := func(c Check) bool { return c.Shadow || !meets(c) }
	total, fine := 0, true
	for _, c := range e.Checks {
		if skipped(c) {
			continue
		}
		if c.Approval == nil || c.Approval.Count < 1 || c.Approval.Count > maxApprovals {
			fine = false
			continue
		}
		total += c.Approval.Count
	}
	var counts []int
	var persons [][]lockkeeper.Person
	for i, c := range e.Checks {
		if c.Approval == nil || skipped(c) {
			continue
		}
		list := v.personsIn(c.Approval.Asks(), total)
		if slices.ContainsFunc(c.Approval.Asks(), v.c.Open) {
			for len(list) < total { // whom a directory will name
				list = append(list, lockkeeper.Person(fmt.Sprintf("directory/%d", len(list))))
			}
		}
		counts, persons = append(counts, c.Approval.Count), append(persons, list)
		if len(c.Approval.Groups) > 0 && c.Approval.Count <= maxApprovals && len(list) < c.Approval.Count {
			if fine = false; said[i] {
				continue
			}
			said[i] = true
			v.add(r, fmt.Sprintf("checks[%d].approval.count", i), "approvals_impossible",
				fmt.Sprintf("The check %s needs %d to approve, and only %d in its groups could.", name(c.Name), c.Approval.Count, len(list)),
				"Lower the count or add people; users that are off, automation and second accounts of one person do not count.")
		}
	}
	if fine && !said[-1] && !satisfiable(counts, persons) {
		said[-1] = true
		v.add(r, "checks", "approvals_impossible", fmt.Sprintf("The checks of %s together need %d persons, and their groups do not have so many: one person never fills two places.", e.Name, total),
			"Lower a count or add people to the groups.")
	}
}

// personsIn lists distinct persons who could approve out of the groups, sorted,
// and stops at limit.
func (v *rules) personsIn(groups []string, limit int) []lockkeeper.Person {
	seen, found := map[string]bool{}, map[lockkeeper.Person]bool{}
	queue := slices.Clone(groups)
	for len(queue) > 0 && len(found) < limit {
		g := queue[0]
		queue = queue[1:]
		if seen[g] {
			continue
		}
		seen[g] = true
		for _, name := range v.c.Groups[g].Users {
			if u, ok := v.c.Users[name]; ok && !u.Off && !u.Automation {
				if found[u.Who()] = true; len(found) >= limit {
					break
				}
			}
		}
		queue = append(queue, v.c.Groups[g].Groups...)
	}
	return slices.Sorted(maps.Keys(found))
}

// satisfiable reports whether distinct persons can fill all places: a maximum
// bipartite matching of places to persons.
func satisfiable(counts []int, persons [][]lockkeeper.Person) bool {
	taken := map[lockkeeper.Person]int{} // person → the check whose place he fills
	for check := range counts {
		for range counts[check] {
			seen := map[lockkeeper.Person]bool{}
			var place func(check int) bool
			place = func(check int) bool {
				for _, p := range persons[check] {
					if seen[p] {
						continue
					}
					seen[p] = true
					if holder, held := taken[p]; !held || place(holder) {
						taken[p] = check
						return true
					}
				}
				return false
			}
			if !place(check) {
				return false
			}
		}
	}
	return true
}
