package access

import (
	"cmp"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// A Membership is what a directory said about a user: in which groups of the
// catalog he is, and until when that is believed.
type Membership struct {
	User   string
	Groups []string
	Until  lockkeeper.Moment // half-open; zero: it only denies
}

// ends is Until in milliseconds since 1970, past which every moment lies that is
// asked about; never that of the zero moment, which stands for what has no end.
func (m Membership) ends() int64 { return max(millis(m.Until), 1) }

// A tier is the groups of a user that are believed before an instant.
type tier struct {
	until int64 // milliseconds since 1970, left out
	row   set   // the catalog's, and those of every membership that is believed as long or longer
}

// With is the index together with what directories said; x stays as it is. From
// Until on a membership grants nothing more. What is denied to its group stays
// denied: that nobody has said it again is no reason to let somebody through. Of
// several memberships of a user each counts until its own end. Users and groups
// that the index does not have are left out.
func (x *Index) With(said []Membership) *Index {
	if len(said) == 0 {
		return x
	}
	y := *x
	y.rows, y.direct = slices.Clone(x.rows), slices.Clone(x.direct)
	y.known, y.tiers = x.rows, make([][]tier, len(x.direct))
	longest := slices.Clone(said)
	slices.SortStableFunc(longest, func(a, b Membership) int { return cmp.Compare(b.ends(), a.ends()) })
	for _, m := range longest {
		user, known := y.users[m.User]
		if !known {
			continue
		}
		row, _ := y.row(user)
		for _, name := range m.Groups {
			g, known := y.numbers[name]
			if !known || slices.Contains(y.direct[user], g) {
				continue
			}
			y.direct[user] = append(slices.Clone(y.direct[user]), g)
			slices.Sort(y.direct[user])
			y.spread(row, g)
		}
		tiers := y.tiers[user]
		if last := len(tiers) - 1; last >= 0 && tiers[last].until == m.ends() {
			tiers = tiers[:last]
		}
		y.tiers[user] = append(tiers, tier{m.ends(), slices.Clone(row)})
	}
	return &y
}

// Believing is the index in which everything that directories said is believed, however
// old it is: for questions of who could do something once he has signed in again.
func (x *Index) Believing() *Index {
	if x.tiers == nil {
		return x
	}
	y := *x
	y.known, y.tiers = nil, nil
	return &y
}

// believed is the groups of a user that grant at now: those that the catalog puts
// him in, and those that a directory said he is in and that is believed still.
func (x *Index) believed(user int32, now int64) set {
	if x.tiers == nil {
		groups, _ := x.row(user)
		return groups
	}
	for tiers := x.tiers[user]; len(tiers) > 0; tiers = tiers[:len(tiers)-1] {
		if last := tiers[len(tiers)-1]; now < last.until { // the soonest has most
			return last.row
		}
	}
	return x.catalogRow(user)
}

func (x *Index) catalogRow(user int32) set {
	return x.known[int(user)*x.wide+1 : (int(user)+1)*x.wide]
}

// saidUntil is when a group of a user grants nothing more, because only a
// directory said that he is in it; zero: the catalog says so.
func (x *Index) saidUntil(user, group int32) lockkeeper.Moment {
	if x.tiers == nil || user < 0 || group < 0 || x.catalogRow(user).has(group) {
		return lockkeeper.Moment{}
	}
	for _, t := range x.tiers[user] { // the latest first
		if t.row.has(group) {
			return lockkeeper.MomentOf(time.UnixMilli(t.until))
		}
	}
	return lockkeeper.Moment{}
}

// Lies reports whether the user is in the group, also where only a directory said so
// and is believed no more.
func (x *Index) Lies(user, group string) bool {
	n, known := x.numbers[group]
	m, listed := x.users[user]
	if !known || !listed {
		return false
	}
	in, _ := x.row(m)
	return in.has(n)
}
