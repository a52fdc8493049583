package gate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// Bounds of an answer's JSON.
const (
	maxAnswerDepth  = 16
	maxAnswerValues = 10_000
)

// Document reads an answer as JSON: nil and no error if it is empty. What two readers
// could read in two ways, a member that stands there twice or text that is no UTF-8, is
// an error, and so is what is nested too deep.
func Document(data []byte) (any, error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, nil
	}
	if !utf8.Valid(data) {
		return nil, errors.New("it is not UTF-8")
	}
	r := reader{Decoder: json.NewDecoder(bytes.NewReader(data))}
	v, err := r.value(0)
	if err != nil {
		return nil, err
	}
	if _, err := r.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows it")
	}
	return v, nil
}

type reader struct {
	*json.Decoder
	values int
}

func (r *reader) value(depth int) (any, error) {
	if r.values++; depth > maxAnswerDepth || r.values > maxAnswerValues {
		return nil, fmt.Errorf("it is nested deeper than %d, or has more than %d values", maxAnswerDepth, maxAnswerValues)
	}
	t, err := r.Token()
	if err != nil {
		return nil, errors.New("it is no JSON")
	}
	switch t {
	case json.Delim('{'):
		out := map[string]any{}
		for r.More() {
			k, err := r.Token()
			name, is := k.(string)
			if err != nil || !is {
				return nil, errors.New("it is no JSON")
			}
			if _, twice := out[name]; twice {
				return nil, errors.New("a member stands there twice")
			}
			if out[name], err = r.value(depth + 1); err != nil {
				return nil, err
			}
		}
		return out, r.close()
	case json.Delim('['):
		out := []any{}
		for r.More() {
			v, err := r.value(depth + 1)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		return out, r.close()
	}
	if _, is := t.(json.Delim); is {
		return nil, errors.New("it is no JSON")
	}
	return t, nil
}

func (r *reader) close() error {
	if _, err := r.Token(); err != nil {
		return errors.New("it is no JSON")
	}
	return nil
}
