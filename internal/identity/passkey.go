package identity

import (
	"crypto/sha256"
	"encoding/json"
	"net"
	"net/url"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/lockkeeper/lockkeeper"
)

// Passkeys checks what people's authenticators sign in a browser (Web Authentication
// level 3). It keeps nothing: what a ceremony began with, and what a passkey is
// checked with, are texts that the caller keeps.
type Passkeys struct{ rp *webauthn.WebAuthn }

// NewPasskeys checks for a server that browsers reach under an address. Browsers make
// passkeys for names only: an address with a number is refused with passkeys_unfit.
func NewPasskeys(address string) (*Passkeys, error) {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || net.ParseIP(u.Hostname()) != nil {
		return nil, lockkeeper.Unavailable.Errorf("passkeys_unfit", "Browsers make passkeys for servers with a name, and this one is reached at %s.", address).
			WithNext("Reach it under a name (serve --url; to try it out, http://localhost:8420), or use an authenticator app: lockkeeper factors totp")
	}
	rp, err := webauthn.New(&webauthn.Config{RPID: u.Hostname(), RPDisplayName: "Lockkeeper", RPOrigins: []string{u.Scheme + "://" + u.Host},
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{ResidentKey: protocol.ResidentKeyRequirementDiscouraged,
			UserVerification: protocol.VerificationPreferred}})
	if err != nil {
		return nil, err
	}
	return &Passkeys{rp}, nil
}

// A holder is a user as the library sees one. Its handle is a digest: it stands on
// authenticators, and names nobody there.
type holder struct {
	name string
	own  []webauthn.Credential
}

func (h holder) WebAuthnID() []byte {
	sum := sha256.Sum256([]byte("lockkeeper.passkey.v1\n" + h.name))
	return sum[:]
}
func (h holder) WebAuthnName() string                       { return h.name }
func (h holder) WebAuthnDisplayName() string                { return h.name }
func (h holder) WebAuthnCredentials() []webauthn.Credential { return h.own }

func holderOf(user string, own [][]byte) (holder, error) {
	h := holder{name: user}
	for _, data := range own {
		var c webauthn.Credential
		if err := json.Unmarshal(data, &c); err != nil {
			return h, err
		}
		h.own = append(h.own, c)
	}
	return h, nil
}

// A Ceremony is what a browser is asked, and what its answer is checked against.
type Ceremony struct {
	Options json.RawMessage // for the browser: PublicKeyCredential…OptionsFromJSON
	Begun   []byte          // kept at the server
}

func ceremony(options any, begun *webauthn.SessionData, err error) (Ceremony, error) {
	if err != nil {
		return Ceremony{}, err
	}
	var c Ceremony
	if c.Options, err = json.Marshal(options); err == nil {
		c.Begun, err = json.Marshal(begun)
	}
	return c, err
}

// Register begins to make a passkey for a user who has some already.
func (p *Passkeys) Register(user string, own [][]byte) (Ceremony, error) {
	h, err := holderOf(user, own)
	if err != nil {
		return Ceremony{}, err
	}
	var known []protocol.CredentialDescriptor
	for _, c := range h.own {
		known = append(known, c.Descriptor())
	}
	creation, begun, err := p.rp.BeginRegistration(h, webauthn.WithExclusions(known))
	if err != nil {
		return Ceremony{}, err
	}
	return ceremony(creation.Response, begun, nil)
}

// A NewPasskey is one that was made.
type NewPasskey struct {
	ID      []byte // of the credential
	Counter int64
	Data    []byte // what its signatures are checked with
}

// Registered checks the browser's answer to Register.
func (p *Passkeys) Registered(user string, begun, answer []byte) (NewPasskey, error) {
	session, err := sessionOf(begun)
	if err != nil {
		return NewPasskey{}, err
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(answer)
	if err != nil {
		return NewPasskey{}, errPasskey(err)
	}
	c, err := p.rp.CreateCredential(holder{name: user}, session, parsed)
	if err != nil {
		return NewPasskey{}, errPasskey(err)
	}
	data, err := json.Marshal(c)
	return NewPasskey{c.ID, int64(c.Authenticator.SignCount), data}, err
}

// Show begins to ask a user for one of his passkeys.
func (p *Passkeys) Show(user string, own [][]byte) (Ceremony, error) {
	h, err := holderOf(user, own)
	if err != nil {
		return Ceremony{}, err
	}
	assertion, begun, err := p.rp.BeginLogin(h)
	if err != nil {
		return Ceremony{}, err
	}
	return ceremony(assertion.Response, begun, nil)
}

// Shown checks the browser's answer to Show, and gives which of the passkeys it is of
// and its counter.
func (p *Passkeys) Shown(user string, own [][]byte, begun, answer []byte) (index int, counter int64, err error) {
	h, err := holderOf(user, own)
	if err != nil {
		return 0, 0, err
	}
	session, err := sessionOf(begun)
	if err != nil {
		return 0, 0, err
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(answer)
	if err != nil {
		return 0, 0, errPasskey(err)
	}
	c, err := p.rp.ValidateLogin(h, session, parsed)
	if err != nil {
		return 0, 0, errPasskey(err)
	}
	for i, o := range h.own {
		if string(o.ID) == string(c.ID) {
			return i, int64(parsed.Response.AuthenticatorData.Counter), nil
		}
	}
	return 0, 0, errPasskey(nil)
}

func sessionOf(begun []byte) (webauthn.SessionData, error) {
	var s webauthn.SessionData
	err := json.Unmarshal(begun, &s)
	return s, err
}

func errPasskey(cause error) error {
	return lockkeeper.Unauthenticated.Errorf("passkey_wrong", "This is not what the passkey should sign.").WithNext("Begin anew.").WithCause(cause)
}
