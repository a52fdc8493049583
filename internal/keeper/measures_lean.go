package keeper

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// Measuring reads whole quarters of a journal, and most of each entry (who asked, the
// tree of reasons) does not count. So it reads of an entry what measured looks at, and
// steps over the rest. It reads only what record wrote: compact, each member once.
// TestLean compares it with readEntry.

// lean is an entry with its time and kind, and an event with what measured needs of
// it; nil for kinds that nothing is measured by.
func lean(data []byte) (Entry, event, error) {
	var e Entry
	if e.Kind = kindOf(data); !measuredKinds[e.Kind] {
		return e, nil, nil
	}
	var at, version, body []byte
	err := eachMember(data, func(name, value []byte) bool {
		switch string(name) {
		case "time":
			at = value
		case "version":
			version = value
		case "body":
			body = value
		}
		return true
	})
	if err == nil && string(version) != "1" {
		return readEntry(data)
	}
	if err == nil {
		err = json.Unmarshal(at, &e.Time)
	}
	if err != nil {
		return e, nil, fmt.Errorf("entry of the kind %s: %w", e.Kind, err)
	}
	ev, err := leanEvent(e.Kind, body)
	return e, ev, err
}

func leanEvent(kind string, body []byte) (event, error) {
	p := picker{body: body}
	switch kind {
	case "artifact.recorded":
		return &artifactRecorded{Project: p.text("project"), Commit: p.text("commit")}, p.err
	case "deployment.opened":
		return p.opened(), p.err
	case "gate.moved":
		ev := new(gateMoved)
		p.into(ev)
		return ev, p.err
	case "deployment.approved":
		return &deploymentApproved{ID: p.text("id"), User: p.text("user")}, p.err
	case "lease.granted":
		return &leaseGranted{Deployment: p.text("deployment")}, p.err
	case "deployment.ended":
		return &deploymentEnded{ID: p.text("id"), End: End{Status: Status(p.text("end", "status")), By: p.text("end", "by")}}, p.err
	case "request.opened":
		return &requestOpened{Request: Request{ID: p.text("request", "id"), Scope: lockkeeper.Scope(p.text("request", "scope"))}}, p.err
	case "request.approved":
		return &requestApproved{ID: p.text("id"), User: p.text("user")}, p.err
	case "request.closed":
		return &requestClosed{ID: p.text("id"), Status: p.text("status"), User: p.text("user")}, p.err
	case "activation.begun":
		return &activationBegun{Activation: Activation{Request: p.text("activation", "request"), Scope: lockkeeper.Scope(p.text("activation", "scope")),
			BreakGlass: p.text("activation", "break_glass")}}, p.err
	case "override.granted":
		return &overrideGranted{Deployment: p.text("deployment")}, p.err
	case "epoch.opened":
		return new(epochOpened), nil
	}
	return nil, fmt.Errorf("nobody says what is measured of %s", kind)
}

func (p *picker) opened() *deploymentOpened {
	ev := &deploymentOpened{ID: p.text("id")}
	ask := picker{body: p.value("ask")}
	ev.Ask = lockkeeper.Ask{Action: ask.text("action"), Project: ask.text("project"), Environment: ask.text("environment"), Commit: ask.text("commit")}
	ask.each(func(a *picker) {
		ev.Ask.Artifacts = append(ev.Ask.Artifacts, lockkeeper.Artifact{Name: a.text("name"), Digest: lockkeeper.Digest(a.text("digest"))})
	}, "artifacts")
	if ask.err != nil {
		p.err = ask.err
	}
	p.each(func(check *picker) {
		if check.value("approval") != nil {
			ev.Terms = append(ev.Terms, catalog.Check{Name: check.text("name"), Approval: &catalog.Approval{}})
		}
	}, "terms")
	p.each(func(d *picker) {
		ev.Gate.Because = append(ev.Gate.Because, lockkeeper.Decision{Subject: d.text("subject"), Verdict: lockkeeper.Verdict(d.text("verdict")), Code: d.text("code")})
	}, "gate", "because")
	return ev
}

// A picker takes members out of an object. Its first mistake stays.
type picker struct {
	body []byte
	err  error
}

// value is the member at a path; nil if there is none.
func (p *picker) value(path ...string) []byte {
	at := p.body
	for _, step := range path {
		var found []byte
		err := eachMember(at, func(name, value []byte) bool {
			if string(name) == step {
				found = value
			}
			return found == nil
		})
		if err != nil && p.err == nil {
			p.err = err
		}
		if at = found; at == nil {
			return nil
		}
	}
	return at
}

func (p *picker) into(v any, path ...string) {
	if raw := p.value(path...); raw != nil {
		if err := json.Unmarshal(raw, v); err != nil && p.err == nil {
			p.err = err
		}
	}
}

func (p *picker) text(path ...string) string {
	raw := p.value(path...)
	if n := len(raw); n >= 2 && raw[0] == '"' && bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : n-1])
	}
	var s string
	p.into(&s, path...)
	return s
}

// each gives every object of the list at a path.
func (p *picker) each(f func(*picker), path ...string) {
	list := p.value(path...)
	if len(list) == 0 || list[0] != '[' {
		return
	}
	for i := 1; i < len(list) && list[i] != ']'; {
		end := skip(list, i)
		if end < 0 {
			p.err = errNotWhole
			return
		}
		one := picker{body: list[i:end]}
		f(&one)
		if one.err != nil {
			p.err = one.err
		}
		if end < len(list) && list[end] == ',' {
			end++
		}
		i = end
	}
}

var errNotWhole = fmt.Errorf("this is no whole JSON value as the journal writes them")

// eachMember gives every member of a compact object: its name, of which none needs an
// escape, and its value, until f has had enough.
func eachMember(data []byte, f func(name, value []byte) bool) error {
	if len(data) < 2 || data[0] != '{' {
		return errNotWhole
	}
	for i := 1; i < len(data) && data[i] != '}'; {
		colon := skip(data, i)
		if colon < 0 || data[i] != '"' || colon >= len(data) || data[colon] != ':' {
			return errNotWhole
		}
		end := skip(data, colon+1)
		if end < 0 || end >= len(data) {
			return errNotWhole
		}
		if !f(data[i+1:colon-1], data[colon+1:end]) {
			return nil
		}
		if i = end; data[i] == ',' {
			i++
		}
	}
	return nil
}

// skip is where the value that begins at i ends; -1 if it does not.
func skip(data []byte, i int) int {
	depth := 0
	for ; i < len(data); i++ {
		switch data[i] {
		case '"':
			if i = closing(data, i); i < 0 {
				return -1
			}
		case '{', '[':
			depth++
			continue
		case '}', ']':
			depth--
		case ',', ':':
			continue
		default: // a number, true, false or null
			for i+1 < len(data) && bytes.IndexByte(literalEnds, data[i+1]) < 0 {
				i++
			}
		}
		if depth < 0 {
			return -1
		}
		if depth == 0 {
			return i + 1
		}
	}
	return -1
}

var literalEnds = []byte(",]}")

// closing is where the string that begins at i has its closing quote.
func closing(data []byte, i int) int {
	for i++; i < len(data); i++ {
		n := bytes.IndexByte(data[i:], '"')
		if n < 0 {
			return -1
		}
		i += n
		back := 0
		for data[i-1-back] == '\\' {
			back++
		}
		if back%2 == 0 {
			return i
		}
	}
	return -1
}

// leanInstant is the instant of a stored entry.
func (k *Keeper) leanInstant(ctx context.Context, seq int64) (lockkeeper.Moment, error) {
	var at lockkeeper.Moment
	stored, err := k.journal.Entry(ctx, seq)
	if err != nil {
		return at, err
	}
	p := picker{body: stored.Data}
	p.into(&at, "time")
	return at, p.err
}
