package keeper

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/journal"
	"github.com/lockkeeper/lockkeeper/internal/token"
	"golang.org/x/mod/sumdb/note"
)

// keys are what vouches for what leaves the keeper: a key each for checkpoints,
// tokens and receipts. They rest in the sealed store.
type keys struct {
	checkpoint note.Signer
	verifier   note.Verifier
	vkey       string
	token      *token.SigningKey // the first ES256 key; the ring says which signs
	receipt    *token.ReceiptKey
}

const keyKind = "key"

// openKeys reads the keys of the sealed store, and makes those that are not there
// if fresh says that nothing was signed with them yet.
func openKeys(ctx context.Context, s *journal.Sealed, origin string, fresh bool) (keys, error) {
	var k keys
	if !fresh {
		if _, err := s.Get(ctx, keyKind, "checkpoint"); lockkeeper.KindOf(err) == lockkeeper.NotFound {
			return k, lockkeeper.Conflict.Errorf("keys_missing", "There is a journal, and the sealed store (sealed.db) does not hold the key that it is signed with.").
				WithNext("Put sealed.db and sealed.key back from a back-up. If they are lost: lockkeeper recover --lost-keys")
		}
	}
	skey, err := sealedKey(ctx, s, "checkpoint", func() ([]byte, error) {
		skey, vkey, err := note.GenerateKey(rand.Reader, origin)
		return []byte(skey + "\n" + vkey), err
	})
	if err != nil {
		return k, err
	}
	var private string
	if _, err := fmt.Sscanf(string(skey), "%s\n%s", &private, &k.vkey); err != nil {
		return k, fmt.Errorf("the sealed checkpoint key: %w", err)
	}
	if k.checkpoint, err = note.NewSigner(private); err != nil {
		return k, fmt.Errorf("the sealed checkpoint key: %w", err)
	}
	if k.verifier, err = note.NewVerifier(k.vkey); err != nil {
		return k, fmt.Errorf("the sealed checkpoint key: %w", err)
	}
	raw, err := sealedKey(ctx, s, "token", func() ([]byte, error) {
		key, err := token.NewSigningKey(rand.Reader, token.ES256)
		if err != nil {
			return nil, err
		}
		return key.MarshalBinary()
	})
	if err != nil {
		return k, err
	}
	if k.token, err = token.ParseSigningKey(raw); err != nil {
		return k, fmt.Errorf("the sealed token key: %w", err)
	}
	raw, err = sealedKey(ctx, s, "receipt", func() ([]byte, error) {
		key, err := token.NewReceiptKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		return key.MarshalBinary()
	})
	if err != nil {
		return k, err
	}
	if k.receipt, err = token.ParseReceiptKey(raw); err != nil {
		return k, fmt.Errorf("the sealed receipt key: %w", err)
	}
	return k, nil
}

// sealedKey reads a key of the sealed store, or makes it. A crash between the
// two leaves a key that nothing names yet.
func sealedKey(ctx context.Context, s *journal.Sealed, id string, make func() ([]byte, error)) ([]byte, error) {
	value, err := s.Get(ctx, keyKind, id)
	if err == nil || lockkeeper.KindOf(err) != lockkeeper.NotFound {
		return value, err
	}
	if value, err = make(); err != nil {
		return nil, err
	}
	return value, s.Put(ctx, keyKind, id, value)
}

// log names the public halves, as entry 0 records them.
func (k keys) log(origin string) Log {
	return Log{Origin: origin, CheckpointKey: k.vkey, ReceiptKey: k.receipt.Public(), TokenKey: k.token.ID()}
}

// Trust is what somebody outside needs to verify receipts, checkpoints and
// proofs without asking the server again.
type Trust struct {
	Origin        string `json:"origin"`
	CheckpointKey string `json:"checkpoint_key"` // note verifier key
	ReceiptKey    string `json:"receipt_key"`    // base64 Ed25519 public key
}

// Trust is the public keys that vouch for what leaves this keeper.
func (k *Keeper) Trust() Trust {
	return Trust{k.options.Origin, k.keys.vkey, k.keys.receipt.Public()}
}

// Verifier checks the checkpoints of a Trust.
func (t Trust) Verifier() (note.Verifier, error) {
	v, err := note.NewVerifier(t.CheckpointKey)
	if err != nil {
		return nil, lockkeeper.Invalid.Errorf("trust_malformed", "The checkpoint key is no verifier key.").WithNext("Fetch the keys again: lockkeeper keys").WithCause(err)
	}
	if v.Name() != t.Origin {
		return nil, errors.New("the checkpoint key is of another log")
	}
	return v, nil
}
