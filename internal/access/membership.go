package access

import (
	"math"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// A Membership is what a directory said about a user: in which groups of the
// catalog he is, and until when that is believed.
type Membership struct {
	User   string
	Groups []string
	Until  lockkeeper.Moment // half-open
}

// With is the index together with what directories said; x stays as it is. From
// Until on a membership grants nothing more. What is denied to its group stays
// denied: that nobody has said it again is no reason to let somebody through.
// Users and groups that the index does not have are left out.
func (x *Index) With(said []Membership) *Index {
	if len(said) == 0 {
		return x
	}
	y := *x
	y.rows, y.direct = slices.Clone(x.rows), slices.Clone(x.direct)
	y.known, y.until = x.rows, make([]int64, len(x.direct))
	for i := range y.until {
		y.until[i] = math.MinInt64
	}
	for _, m := range said {
		user, known := y.users[m.User]
		if !known {
			continue
		}
		row, _ := y.row(user)
		if until := millis(m.Until); y.until[user] == math.MinInt64 || until < y.until[user] {
			y.until[user] = until // of several, the soonest
		}
		for _, name := range m.Groups {
			g, known := y.numbers[name]
			if !known || slices.Contains(y.direct[user], g) {
				continue
			}
			y.direct[user] = append(slices.Clone(y.direct[user]), g)
			slices.Sort(y.direct[user])
			y.spread(row, g)
		}
	}
	return &y
}

// believed is the groups of a user that grant at now: those that the catalog puts
// him in, and those that a directory said he is in and that is believed still.
func (x *Index) believed(user int32, now int64) set {
	if x.until == nil || now < x.until[user] {
		groups, _ := x.row(user)
		return groups
	}
	return x.known[int(user)*x.wide+1 : (int(user)+1)*x.wide]
}

// saidUntil is when a group of a user grants nothing more, because only a
// directory said that he is in it; zero: the catalog says so.
func (x *Index) saidUntil(user, group int32) lockkeeper.Moment {
	if x.until == nil || user < 0 || group < 0 || set(x.known[int(user)*x.wide+1:(int(user)+1)*x.wide]).has(group) {
		return lockkeeper.Moment{}
	}
	return lockkeeper.MomentOf(time.UnixMilli(x.until[user]))
}
