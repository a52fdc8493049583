package keeper

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/lockkeeper/lockkeeper"
)

// Somebody who is asked for something is told so outside, once, where a Notification of
// the catalog says so. What is told is a hint: who may decide is decided anew when he
// does, after he has signed in.
//
// What waits for whom is read off the state, again and again, and what of it nobody was
// told yet is written into the outbox; what has ended is read off the journal, from a
// cursor that stands in the outbox. So a crash loses nothing: what was not written down
// is seen again, and what was written down is sent until somebody reports that it was.
// A crash between the sending and the report sends it again, under the same id.

// An Outbox is what is to be told outside.
type Outbox struct {
	// Cursor is the entry before which the journal was looked through for what ended.
	Cursor int64 `json:"cursor"`
	// Tellings by key. At most maxTellings, to maxMessages addressees in all: what waits is put in later then, and the
	// cursor stands still. Evicted when what they are about waits no more and, of what
	// has ended, once everybody was told or given up on.
	Tellings map[string]*Telling `json:"tellings"`
	// Channels is how it went, by notification. Evicted when the catalog has it no more.
	Channels map[string]Standing `json:"channels"`
}

// A Telling is one thing that somebody is told.
type Telling struct {
	Key     string            `json:"key"`     // what it is about, and whose turn it is
	About   string            `json:"about"`   // of catalog.NotificationTopics, or test
	Subject string            `json:"subject"` // as the journal indexes it
	Text    string            `json:"text"`    // one line, at most maxToldText bytes; what people wrote stands in it
	At      lockkeeper.Moment `json:"at"`
	Past    bool              `json:"past,omitempty"` // it waits for nothing: it only was
	To      []Addressee       `json:"to"`
}

// An Addressee is who is told it by a notification: a user or, for a room, "".
type Addressee struct {
	ID       string            `json:"id"` // of the message, the same at every attempt
	Rule     string            `json:"rule"`
	User     string            `json:"user,omitempty"`
	Due      lockkeeper.Moment `json:"due"`                // not before
	Gathered bool              `json:"gathered,omitempty"` // with what else is due then
	Status   string            `json:"status,omitempty"`   // "": it is to be sent
	Attempts int               `json:"attempts,omitempty"` // that failed
	Retry    lockkeeper.Moment `json:"retry,omitzero"`
}

// What became of a message.
const (
	MessageSent   = "sent"
	MessageFailed = "failed" // given up
)

// Standing is how it goes with a notification.
type Standing struct {
	Sent   int64             `json:"sent,omitempty"`  // messages
	Lost   int64             `json:"lost,omitempty"`  // that were given up on
	Last   lockkeeper.Moment `json:"last,omitzero"`   // when one was sent last
	Failed lockkeeper.Moment `json:"failed,omitzero"` // since when sending fails; zero: it does not
	GaveUp lockkeeper.Moment `json:"gave_up,omitzero"`
	Code   string            `json:"code,omitempty"`
	Reason string            `json:"reason,omitempty"`
}

// Bounds of messages.
const (
	maxTellings   = 10_000
	maxMessages   = 50_000
	maxAddressees = 1000 // of one telling; those beyond are not told, and see it at the server
	maxQueued     = 200  // tellings of one entry
	maxToldText   = 400  // bytes
	maxGathered   = 100  // items of one message
	maxDelivered  = 200  // messages that are given out at once
	maxAttempts   = 12   // then a message is given up
	firstTold     = 10 * time.Second
	lastTold      = 30 * time.Minute
	testTopic     = "test"
)

// messagesQueued puts something into the outbox.
type messagesQueued struct {
	one
	Tellings []Telling `json:"tellings,omitempty"` // new ones, or who else is told of one that is there
	Over     []string  `json:"over,omitempty"`     // keys of what waits no more
	Cancel   []string  `json:"cancel,omitempty"`   // ids of messages that are told no more
	Cursor   int64     `json:"cursor"`
	Gone     []string  `json:"gone,omitempty"` // notifications that are no more
}

func (*messagesQueued) kind() string { return "messages.queued" }
func (ev *messagesQueued) subjects() []string {
	out := []string{"messages"}
	for _, t := range ev.Tellings {
		if !slices.Contains(out, t.Subject) && t.Subject != "" {
			out = append(out, t.Subject)
		}
	}
	return out
}
func (ev *messagesQueued) apply(s *State, e Entry) error {
	o := s.outbox()
	if ev.Cursor < o.Cursor || ev.Cursor > e.Seq {
		return fmt.Errorf("the cursor of messages goes from %d to %d", o.Cursor, ev.Cursor)
	}
	o.Cursor = ev.Cursor
	for _, key := range ev.Over {
		delete(o.Tellings, key)
	}
	for _, name := range ev.Gone {
		delete(o.Channels, name)
	}
	for key, t := range o.Tellings {
		if slices.ContainsFunc(t.To, func(a Addressee) bool { return slices.Contains(ev.Cancel, a.ID) }) {
			to := slices.DeleteFunc(slices.Clone(t.To), func(a Addressee) bool { return slices.Contains(ev.Cancel, a.ID) })
			o.replace(key, t, to)
		}
	}
	for _, t := range ev.Tellings {
		was := o.Tellings[t.Key]
		if was == nil {
			n := t
			n.At = e.Time
			n.To = slices.Clone(t.To)
			o.Tellings[t.Key] = &n
			continue
		}
		n := *was
		n.To = slices.Concat(was.To, t.To)
		o.Tellings[t.Key] = &n
	}
	return nil
}

// replace puts other addressees into a telling. One that was, with nobody left to tell,
// goes.
func (o *Outbox) replace(key string, t *Telling, to []Addressee) {
	n := *t
	if n.To = to; n.Past && !slices.ContainsFunc(to, func(a Addressee) bool { return a.Status == "" }) {
		delete(o.Tellings, key)
		return
	}
	o.Tellings[key] = &n
}

// messagesTold is what became of messages: of all that one look at a channel sent.
type messagesTold struct {
	one
	Told []Told `json:"told"`
}

// Told is what became of one delivery.
type Told struct {
	Rule   string            `json:"rule"`
	IDs    []string          `json:"ids"`
	Status string            `json:"status,omitempty"` // "": it failed, and is tried again
	Code   string            `json:"code,omitempty"`
	Reason string            `json:"reason,omitempty"`
	Retry  lockkeeper.Moment `json:"retry,omitzero"`
}

func (*messagesTold) kind() string       { return "messages.told" }
func (*messagesTold) subjects() []string { return []string{"messages"} }
func (ev *messagesTold) apply(s *State, e Entry) error {
	o := s.outbox()
	at := map[string]string{} // key of the telling by the id of a message
	for key, t := range o.Tellings {
		for _, a := range t.To {
			at[a.ID] = key
		}
	}
	for _, told := range ev.Told {
		for _, id := range told.IDs {
			if t := o.Tellings[at[id]]; t != nil {
				o.replace(at[id], t, told.on(t.To, id))
			}
		}
		c := o.Channels[told.Rule]
		switch told.Status {
		case MessageSent:
			c = Standing{Sent: c.Sent + int64(len(told.IDs)), Lost: c.Lost, Last: e.Time}
		default:
			c.Code, c.Reason = told.Code, told.Reason
			if c.Failed.IsZero() {
				c.Failed = e.Time
			}
			if told.Status == MessageFailed {
				c.Lost, c.GaveUp = c.Lost+int64(len(told.IDs)), e.Time
			}
		}
		o.Channels[told.Rule] = c
	}
	return nil
}

// on is what became of the message id of addressees.
func (t Told) on(to []Addressee, id string) []Addressee {
	out := slices.Clone(to)
	for i := range out {
		if out[i].ID != id || out[i].Status != "" {
			continue
		}
		if out[i].Status = t.Status; t.Status != MessageSent {
			out[i].Attempts++
			out[i].Retry = t.Retry
		}
	}
	return out
}

// outbox is the outbox, made at the first use: most servers tell nobody.
func (s *State) outbox() *Outbox {
	if s.Outbox == nil {
		s.Outbox = &Outbox{Tellings: map[string]*Telling{}, Channels: map[string]Standing{}}
	}
	return s.Outbox
}

// oneLine is a text without what could break a line, hide something, or turn the
// direction of what follows, cut to a number of bytes.
func oneLine(text string, most int) string {
	text = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, "?"), func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Co, r)
	}), " ")
	if len(text) <= most {
		return text
	}
	cut := most - len("…")
	for cut > 0 && text[cut]&0xC0 == 0x80 {
		cut--
	}
	return text[:cut] + "…"
}
