package keeper

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// A Delivery is one message that is due: what is told together to one user, or in one
// room.
type Delivery struct {
	ID       string // the same at every attempt
	Rule     string // the notification
	Via      string // mail, slack, teams or webhook
	Channel  string // the server knows where it leads
	User     string // "": the room
	Gathered bool
	Items    []DeliveryItem // the oldest first; at most maxGathered
	More     int            // beyond them
	all      []string
}

// IDs are the messages that the delivery is about, those beyond Items too.
func (d Delivery) IDs() []string { return d.all }

// A DeliveryItem is one thing that is told.
type DeliveryItem struct {
	ID      string
	About   string
	Subject string
	Text    string
	At      lockkeeper.Moment
}

// Deliveries are the messages that are due, the oldest first, at most maxDelivered of
// one notification, so that one that fails holds up no other.
func (k *Keeper) Deliveries() []Delivery {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	return (&world{State: k.state, rules: k.rules}).deliveries(now)
}

func (w *world) deliveries(now lockkeeper.Moment) []Delivery {
	if w.Outbox == nil {
		return nil
	}
	found := map[string]*Delivery{}
	for _, key := range slices.Sorted(maps.Keys(w.Outbox.Tellings)) {
		t := w.Outbox.Tellings[key]
		for _, a := range t.To {
			rule, there := w.rules.Catalog.Notifications[a.Rule]
			if a.Status != "" || now.Before(a.Due) || now.Before(a.Retry) || !there {
				continue
			}
			id := a.ID
			if a.Gathered { // what is due then is all there: later things are due later
				id = messageID("gathered", a.Rule, a.User, a.Due.Time().UnixMilli())
			}
			d := found[id]
			if d == nil {
				d = &Delivery{ID: id, Rule: rule.Name, Via: rule.Via, Channel: rule.ChannelFile(), User: a.User, Gathered: a.Gathered}
				found[id] = d
			}
			d.Items = append(d.Items, DeliveryItem{a.ID, t.About, t.Subject, t.Text, t.At})
		}
	}
	return firstOf(found)
}

func firstOf(found map[string]*Delivery) []Delivery {
	var out []Delivery
	for _, d := range found {
		slices.SortFunc(d.Items, func(a, b DeliveryItem) int {
			return cmp.Or(a.At.Time().Compare(b.At.Time()), cmp.Compare(a.ID, b.ID))
		})
		for _, i := range d.Items {
			d.all = append(d.all, i.ID)
		}
		d.More = max(0, len(d.Items)-maxGathered)
		d.Items = d.Items[:min(len(d.Items), maxGathered)]
		out = append(out, *d)
	}
	slices.SortFunc(out, func(a, b Delivery) int {
		return cmp.Or(a.Items[0].At.Time().Compare(b.Items[0].At.Time()), cmp.Compare(a.ID, b.ID))
	})
	of := map[string]int{}
	return slices.DeleteFunc(out, func(d Delivery) bool {
		of[d.Rule]++
		return of[d.Rule] > maxDelivered
	})
}

// ReportDeliveries writes down what became of deliveries. Reporting twice is no error.
func (k *Keeper) ReportDeliveries(ctx context.Context, outcomes []DeliveryOutcome) error {
	_, err := do[any](ctx, k, Caller{Keeper: true}, "", reportMessages{outcomes})
	return err
}

// Address is where the server is reached, without a slash at its end: links lead there.
func (k *Keeper) Address() string { return k.options.Issuer }

// A NotificationView is a notification of the catalog, and how it goes with it.
type NotificationView struct {
	catalog.Notification
	Standing
	Users   int               // whom it tells now
	Waiting int               // messages that are to be sent
	Oldest  lockkeeper.Moment // since when the oldest of those that are due waits; zero: none is
}

// Notifications lists the notifications by name. It takes access/read at /.
func (k *Keeper) Notifications(by Caller) ([]NotificationView, error) {
	if err := k.mayReadAccess(by); err != nil {
		return nil, err
	}
	return k.CountMessages(), nil
}

// CountMessages is how it goes with each notification, for metrics.
func (k *Keeper) CountMessages() []NotificationView {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := &world{State: k.state, rules: k.rules}
	views := map[string]*NotificationView{}
	for name, n := range w.rules.Catalog.Notifications {
		v := &NotificationView{Notification: n, Users: len(w.toldUsers(n, now))}
		if w.Outbox != nil {
			v.Standing = w.Outbox.Channels[name]
		}
		views[name] = v
	}
	if w.Outbox != nil {
		for _, t := range w.Outbox.Tellings {
			for _, a := range t.To {
				if v := views[a.Rule]; v != nil && a.Status == "" {
					v.Waiting++
					if !now.Before(a.Due) && (v.Oldest.IsZero() || a.Due.Before(v.Oldest)) {
						v.Oldest = a.Due
					}
				}
			}
		}
	}
	out := []NotificationView{}
	for _, name := range slices.Sorted(maps.Keys(views)) {
		out = append(out, *views[name])
	}
	return out
}

// TestNotification puts one message of a notification into the outbox, for the caller or
// its room, and gives its id. It takes access/write at /.
func (k *Keeper) TestNotification(ctx context.Context, by Caller, name string) (string, error) {
	answer, err := do[opened](ctx, k, by, "", testChannel{ID: newID("t"), Notification: name})
	return answer.ID, err
}
