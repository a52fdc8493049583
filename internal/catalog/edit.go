package catalog

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/lockkeeper/lockkeeper"
)

// DigestOf is the digest of the document of a key; "" if there is none.
func (c *Catalog) DigestOf(k Key) lockkeeper.Digest {
	if i, found := slices.BinarySearchFunc(c.documents, k, func(d Document, k Key) int { return d.Key.Compare(k) }); found {
		return c.documents[i].Digest
	}
	return ""
}

// An Edit makes one document smaller: it removes it, or it changes one field of it.
type Edit struct {
	Key Key               `json:"-"`
	Was lockkeeper.Digest `json:"was"` // of the document that it is about; it changes no other

	Remove   bool                       `json:"remove,omitempty"`
	Eligible bool                       `json:"eligible,omitempty"` // an assignment that held becomes one that may be activated
	Actions  []lockkeeper.ActionPattern `json:"actions,omitempty"`  // of a role, in the place of those that it has
}

// Edited is the catalog with the edits made, compiled anew.
func (c *Catalog) Edited(edits []Edit) (*Catalog, error) {
	by := map[Key]Edit{}
	for _, e := range edits {
		if c.DigestOf(e.Key) != e.Was {
			return nil, lockkeeper.Conflict.Errorf("document_differs", "%s is another one than the change was made for.", e.Key)
		}
		by[e.Key] = e
	}
	var documents [][]byte
	for _, d := range c.documents {
		e, changes := by[d.Key]
		if !changes {
			documents = append(documents, d.Data)
			continue
		}
		if e.Remove {
			continue
		}
		data, err := e.apply(d.Data)
		if err != nil {
			return nil, err
		}
		documents = append(documents, data)
	}
	return Compile(documents)
}

// apply makes the edit in a canonical document.
func (e Edit) apply(data []byte) ([]byte, error) {
	fields := map[string]any{}
	if err := json.Unmarshal(data, &fields); err != nil {
		return nil, fmt.Errorf("%s: %w", e.Key, err)
	}
	if e.Eligible {
		fields["eligible"] = true
	}
	if len(e.Actions) > 0 {
		fields["actions"] = e.Actions
	}
	return lockkeeper.Canonical(fields)
}
