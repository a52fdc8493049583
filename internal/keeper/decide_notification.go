package keeper

import (
	"fmt"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/gate"
)

// queueMessages writes down what is to be told. What it says was read off the state
// beside the writer, so that it counts only as far as it still fits: nothing twice, by
// rules that are there, and no entry of the journal passed over.
type queueMessages struct {
	From     int64 // the cursor that Cursor was read from
	Cursor   int64
	Tellings []Telling // without ids and instants
	Over     []string
	Cancel   []string
}

func (queueMessages) name() string  { return "messages.queue" }
func (queueMessages) about() string { return "messages" }

func (c queueMessages) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	if !by.Keeper {
		return nil, nil, errKeeperOnly()
	}
	box := w.Outbox
	if box == nil { // from now on: what ended before is told nobody
		return []event{&messagesQueued{Cursor: w.Size}}, nil, nil
	}
	if c.From != box.Cursor || c.Cursor < c.From || c.Cursor > w.Size {
		return nil, nil, lockkeeper.Conflict.Errorf("messages_moved", "The outbox stands at %d, and not at %d.", box.Cursor, c.From)
	}
	ev := &messagesQueued{Cursor: c.Cursor, Over: slices.DeleteFunc(slices.Clone(c.Over), func(key string) bool { return box.Tellings[key] == nil }), Cancel: c.Cancel}
	room, places := maxTellings-len(box.Tellings)+len(ev.Over), maxMessages
	for key, t := range box.Tellings {
		if !slices.Contains(ev.Over, key) {
			places -= len(t.To)
		}
	}
	for _, t := range c.Tellings {
		was := box.Tellings[t.Key]
		if slices.Contains(ev.Over, t.Key) || slices.ContainsFunc(ev.Tellings, func(o Telling) bool { return o.Key == t.Key }) {
			continue
		}
		if was == nil && room <= 0 || places < len(t.To) {
			if t.Past { // what ended is read again once there is room
				ev.Cursor = box.Cursor
			}
			continue
		}
		if t = w.addressed(t, was, now); len(t.To) == 0 {
			continue
		}
		if was == nil {
			room--
		}
		places -= len(t.To)
		ev.Tellings = append(ev.Tellings, t)
	}
	if ev.Cursor == box.Cursor { // all of what ended, or nothing: the next look reads it again
		ev.Tellings = slices.DeleteFunc(ev.Tellings, func(t Telling) bool { return t.Past && t.About != testTopic })
	}
	for name := range box.Channels {
		if _, there := w.rules.Catalog.Notifications[name]; !there {
			ev.Gone = append(ev.Gone, name)
		}
	}
	slices.Sort(ev.Gone)
	if len(ev.Tellings)+len(ev.Over)+len(ev.Cancel)+len(ev.Gone) == 0 && ev.Cursor-box.Cursor < cursorEvery {
		return nil, nil, nil
	}
	return []event{ev}, nil, nil
}

// cursorEvery is after how many entries the cursor is written down though there is
// nothing to tell, so that a start has not much to read.
const cursorEvery = 1000

// addressed gives a telling to those who do not have it yet, with ids and instants.
func (w *world) addressed(t Telling, was *Telling, now lockkeeper.Moment) Telling {
	var to []Addressee
	have := 0
	if was != nil {
		have = len(was.To)
	}
	for _, a := range t.To {
		rule, there := w.rules.Catalog.Notifications[a.Rule]
		if !there || rule.Each() != (a.User != "") || have+len(to) >= maxAddressees {
			continue
		}
		same := func(o Addressee) bool { return o.Rule == a.Rule && o.User == a.User }
		if was != nil && slices.ContainsFunc(was.To, same) || slices.ContainsFunc(to, same) {
			continue
		}
		a.Due, a.Gathered = gate.ToldAt(rule, t.About, now)
		a.ID = messageID(t.Key, a.Rule, a.User, w.Size)
		to = append(to, a)
	}
	t.To, t.At, t.Text = to, now, oneLine(t.Text, maxToldText)
	return t
}

// messageID is the id of one message: another one for what waits again later.
func messageID(key, rule, user string, size int64) string {
	return "m-" + lockkeeper.DigestOf([]byte(fmt.Sprintf("lockkeeper.message.v1\n%s\n%s\n%s\n%d", key, rule, user, size))).Hex()[:26]
}

func errKeeperOnly() error {
	return lockkeeper.Forbidden.Errorf("keeper_only", "Only the server itself writes down what is told.")
}

// A DeliveryOutcome is what became of a delivery: a Code says that it failed.
type DeliveryOutcome struct {
	Rule   string
	IDs    []string // of its items
	Code   string
	Reason string
	Spread float64 // 0 to 1: where in its interval the next attempt lies
}

// reportMessages writes down what became of deliveries.
type reportMessages struct{ Outcomes []DeliveryOutcome }

func (reportMessages) name() string  { return "messages.report" }
func (reportMessages) about() string { return "messages" }

func (c reportMessages) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	if !by.Keeper {
		return nil, nil, errKeeperOnly()
	}
	attempts := map[string]int{}
	if w.Outbox != nil {
		for _, t := range w.Outbox.Tellings {
			for _, a := range t.To {
				if a.Status == "" {
					attempts[a.ID] = a.Attempts
				}
			}
		}
	}
	ev := &messagesTold{}
	for _, o := range c.Outcomes {
		told := Told{Rule: o.Rule, Status: MessageSent, Code: o.Code, Reason: clipped(o.Reason)}
		failed := 0
		for _, id := range o.IDs {
			if n, waits := attempts[id]; waits {
				told.IDs, failed = append(told.IDs, id), max(failed, n)
				delete(attempts, id)
			}
		}
		if len(told.IDs) == 0 {
			continue // another one has reported it, or it is told no more
		}
		if o.Code != "" {
			told.Status, told.Retry = "", now.Add(toldAgain(failed, o.Spread))
			if failed+1 >= maxAttempts {
				told.Status, told.Retry = MessageFailed, lockkeeper.Moment{}
			}
		}
		ev.Told = append(ev.Told, told)
	}
	if len(ev.Told) == 0 {
		return nil, nil, nil
	}
	return []event{ev}, nil, nil
}

// toldAgain is how long to wait after so many failures before.
func toldAgain(failures int, spread float64) time.Duration {
	pause := min(firstTold<<min(failures, 20), lastTold)
	return pause + time.Duration(float64(pause)*min(max(spread, 0), 1)/4)
}

// testChannel sends one message through a notification, to the caller or into its room.
type testChannel struct {
	ID           string
	Notification string
}

func (testChannel) name() string    { return "notification.test" }
func (c testChannel) about() string { return "messages" }

func (c testChannel) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	if _, err := w.may(by, lockkeeper.WriteAccess, lockkeeper.Root, now); err != nil {
		return nil, nil, err
	}
	rule, there := w.rules.Catalog.Notifications[c.Notification]
	if !there {
		return nil, nil, lockkeeper.NotFound.Errorf("notification_missing", "There is no notification %.63q.", c.Notification).WithNext("List them: lockkeeper notifications list")
	}
	if w.Outbox != nil && len(w.Outbox.Tellings) >= maxTellings {
		return nil, nil, lockkeeper.Limited.Errorf("messages_many", "%d things wait to be told.", len(w.Outbox.Tellings)).WithNext("See which channel fails: lockkeeper notifications list")
	}
	to := Addressee{ID: messageID(c.ID, rule.Name, by.User, w.Size), Rule: rule.Name, Due: now}
	if rule.Each() {
		to.User = by.User
	}
	cursor := w.Size
	if w.Outbox != nil {
		cursor = w.Outbox.Cursor
	}
	t := Telling{Key: "test/" + c.ID, About: testTopic, Subject: "user/" + by.User, Text: by.User + " tries out the notification " + rule.Name + ". There is nothing to do.", At: now, Past: true, To: []Addressee{to}}
	return []event{&messagesQueued{Tellings: []Telling{t}, Cursor: cursor}}, opened{to.ID}, nil
}

// users are the users whom a notification tells, sorted.
func (w *world) toldUsers(n catalog.Notification, now lockkeeper.Moment) []string {
	var out []string
	for _, p := range n.To {
		if p.Kind == lockkeeper.UserPrincipal {
			out = append(out, p.Name)
			continue
		}
		for _, u := range w.rules.Access.Holders(p.Name) {
			if _, in := w.rules.Access.InGroup(u, p.Name, now); in {
				out = append(out, u)
			}
		}
	}
	slices.Sort(out)
	return slices.DeleteFunc(slices.Compact(out), func(u string) bool {
		user, known := w.rules.Catalog.Users[u]
		return !known || user.Off || user.Automation || w.quarantined(u) != nil
	})
}
