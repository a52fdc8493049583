package keeper

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/lockkeeper/lockkeeper"
)

// A Caller is who asks: a person's session, a workload, or the keeper itself.
type Caller struct {
	User     string               `json:"user,omitempty"`
	Session  string               `json:"session,omitempty"`
	Token    string               `json:"token,omitempty"` // the personal token that he came with, in the place of a session
	Workload *lockkeeper.Workload `json:"workload,omitempty"`
	// Holder is the deployment whose handle the caller proved to have. It may
	// read and end that deployment, nothing else.
	Holder string `json:"holder,omitempty"`
	Keeper bool   `json:"keeper,omitempty"` // the keeper's own clock
	// Directory is one that writes who is there, and DirectoryToken the id of what it
	// showed. It may write about itself, nothing else.
	Directory      string `json:"directory,omitempty"`
	DirectoryToken string `json:"directory_token,omitempty"`
}

// String names the caller for people.
func (c Caller) String() string {
	switch {
	case c.User != "" && c.Token != "":
		return "user " + c.User + " with the token " + c.Token
	case c.User != "":
		return "user " + c.User
	case c.Workload != nil:
		return fmt.Sprintf("job %s of run %s on %s", c.Workload.Job.Value, c.Workload.Run.Value, c.Workload.Provider)
	case c.Holder != "":
		return "holder of " + c.Holder
	case c.Keeper:
		return "keeper"
	case c.Directory != "":
		return "directory " + c.Directory
	}
	return "somebody unknown"
}

// id is the caller as idempotency keys and coalesced refusals are kept by.
func (c Caller) id() string {
	if c.Workload != nil {
		return "job:" + string(c.Workload.JobKey())
	}
	return c.String()
}

// source is whom a caller's refusals are counted against: a person, or all jobs of
// a repository, since whoever has one may start as many as he likes.
func (c Caller) source() string {
	if c.Workload != nil {
		return "repository:" + c.Workload.Issuer + " " + c.Workload.Repository.Value
	}
	c.Token = "" // the tokens of a person are the person's
	return c.String()
}

// An Entry is one record of the journal.
type Entry struct {
	Seq     int64             `json:"seq"`
	Time    lockkeeper.Moment `json:"time"`
	Kind    string            `json:"kind"`
	Version int               `json:"version"`
	By      Caller            `json:"by"`
	Key     string            `json:"key,omitempty"`    // idempotency key, on the first entry of its command
	Sum     lockkeeper.Digest `json:"sum,omitempty"`    // digest of the command that came with Key
	Answer  json.RawMessage   `json:"answer,omitempty"` // what was answered to the command that came with Key
	Used    []used            `json:"used,omitempty"`   // rights that the command rested on, on its first entry
	Spent   []spend           `json:"spent,omitempty"`  // uses of activations that the command made, on its first entry
	Body    json.RawMessage   `json:"body"`
}

// subjects are what the journal finds the entry by: what its event is about, and the
// activations that its command used.
func (e Entry) subjects(ev event) []string {
	out := ev.subjects()
	for _, x := range e.Spent {
		if about := activationSubject(x.Activation); !slices.Contains(out, about) {
			out = append(out[:len(out):len(out)], about)
		}
	}
	return out
}

// An event is the body of an entry: what happened, and how the state changes by
// it. apply reads only the entry and the state.
type event interface {
	kind() string
	version() int
	apply(s *State, e Entry) error
	// subjects names what the entry is about, for the journal's index.
	subjects() []string
}

// record renders an event as the bytes that are stored and hashed: the entry as
// encoding/json would write it, without reading the body a second time.
func record(e Entry, ev event) ([]byte, Entry, error) {
	body, err := marshal(ev)
	if err != nil {
		return nil, e, err
	}
	e.Kind, e.Version, e.Body = ev.kind(), ev.version(), body
	bare := e
	bare.Body = json.RawMessage("0")
	data, err := marshal(bare)
	if err != nil {
		return nil, e, err
	}
	return append(data[:len(data)-len("0}")], append(body, '}')...), e, nil
}

// marshal is encoding/json without the escaping that is meant for HTML.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// readEntry decodes the stored bytes of an entry and its body. An unknown kind,
// version or member is an error: it was written by a newer release, and to pass
// over it would be to fold another history.
func readEntry(data []byte) (Entry, event, error) {
	var e Entry
	if err := unmarshalStrict(data, &e); err != nil {
		return e, nil, fmt.Errorf("entry: %w", err)
	}
	make, ok := eventKinds[fmt.Sprintf("%s/%d", e.Kind, e.Version)]
	if !ok {
		return e, nil, fmt.Errorf("entry %d is of the kind %s version %d, which this release does not know", e.Seq, e.Kind, e.Version)
	}
	ev := make()
	if err := unmarshalStrict(e.Body, ev); err != nil {
		return e, nil, fmt.Errorf("entry %d (%s): %w", e.Seq, e.Kind, err)
	}
	return e, ev, nil
}

func unmarshalStrict(data []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	return dec.Decode(v)
}
