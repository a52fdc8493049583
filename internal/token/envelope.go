package token

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"

	"github.com/lockkeeper/lockkeeper"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
)

// A ReceiptKey signs DSSE envelopes with Ed25519.
type ReceiptKey struct{ private ed25519.PrivateKey }

// NewReceiptKey makes a key.
func NewReceiptKey(rand io.Reader) (*ReceiptKey, error) {
	_, private, err := ed25519.GenerateKey(rand)
	return &ReceiptKey{private}, err
}

// ParseReceiptKey reads what MarshalBinary wrote.
func ParseReceiptKey(data []byte) (*ReceiptKey, error) {
	if len(data) != ed25519.SeedSize {
		return nil, fmt.Errorf("the key has %d bytes, not %d", len(data), ed25519.SeedSize)
	}
	return &ReceiptKey{ed25519.NewKeyFromSeed(data)}, nil
}

// MarshalBinary is the private key's seed.
func (k *ReceiptKey) MarshalBinary() ([]byte, error) { return k.private.Seed(), nil }

// Public is the public key in base64.
func (k *ReceiptKey) Public() string {
	return base64.StdEncoding.EncodeToString(k.private.Public().(ed25519.PublicKey))
}

// receiptVerifier is one side or both of a receipt key, as the DSSE library
// wants it.
type receiptVerifier struct {
	public  ed25519.PublicKey
	private ed25519.PrivateKey
}

func (v receiptVerifier) Sign(_ context.Context, data []byte) ([]byte, error) {
	return ed25519.Sign(v.private, data), nil
}
func (v receiptVerifier) Verify(_ context.Context, data, sig []byte) error {
	if !ed25519.Verify(v.public, data, sig) {
		return fmt.Errorf("the signature does not hold")
	}
	return nil
}
func (v receiptVerifier) KeyID() (string, error) {
	return string(lockkeeper.DigestOf(v.public)), nil
}
func (v receiptVerifier) Public() crypto.PublicKey { return v.public }

// maxEnvelope bounds an envelope.
const maxEnvelope = 16 << 20

// SignEnvelope signs a payload as a DSSE envelope (DSSE v1).
func SignEnvelope(payloadType string, payload []byte, k *ReceiptKey) ([]byte, error) {
	signer, err := dsse.NewEnvelopeSigner(receiptVerifier{k.private.Public().(ed25519.PublicKey), k.private})
	if err != nil {
		return nil, err
	}
	env, err := signer.SignPayload(context.Background(), payloadType, payload)
	if err != nil {
		return nil, err
	}
	return json.Marshal(env)
}

// OpenEnvelope checks the signature of an envelope by the base64 Ed25519 key
// public, and returns what it holds. An envelope with other members, or with
// more than one signature, is refused.
func OpenEnvelope(data []byte, public string) (payloadType string, payload []byte, err error) {
	if len(data) > maxEnvelope {
		return "", nil, fmt.Errorf("it has more than %d bytes", maxEnvelope)
	}
	key, err := base64.StdEncoding.Strict().DecodeString(public)
	if err != nil || len(key) != ed25519.PublicKeySize {
		return "", nil, fmt.Errorf("the receipt key is no Ed25519 key")
	}
	members, err := object(data)
	if err != nil {
		return "", nil, err
	}
	for name := range members {
		if name != "payloadType" && name != "payload" && name != "signatures" {
			return "", nil, fmt.Errorf("it has the member %.40q", name)
		}
	}
	var env dsse.Envelope
	if err := json.Unmarshal(data, &env); err != nil || len(env.Signatures) != 1 {
		return "", nil, fmt.Errorf("it is no envelope with one signature")
	}
	for _, part := range []string{env.Payload, env.Signatures[0].Sig} {
		if _, err := base64.StdEncoding.Strict().DecodeString(part); err != nil {
			return "", nil, fmt.Errorf("it is not spelled in canonical base64")
		}
	}
	verifier, err := dsse.NewEnvelopeVerifier(receiptVerifier{public: key})
	if err != nil {
		return "", nil, err
	}
	if _, err := verifier.Verify(context.Background(), &env); err != nil {
		return "", nil, err
	}
	payload, err = env.DecodeB64Payload()
	return env.PayloadType, payload, err
}
