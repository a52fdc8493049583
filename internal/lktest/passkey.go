package lktest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"

	"github.com/fxamacker/cbor/v2"
)

// A Key is an authenticator that speaks the wire format of WebAuthn (level 3). What it
// says about itself can be changed, for a test in which something is wrong.
type Key struct {
	Private []byte // scalar of P-256
	ID      []byte // of its one credential
	Counter uint32
	Origin  string // of the page that the browser shows
	RP      string // the server's name
	Flags   byte   // 1: a person was there; 4: and was verified
}

// NewKey makes a key that is used on the pages of a server.
func NewKey(origin string) (*Key, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(origin)
	if err != nil {
		return nil, err
	}
	k := &Key{ID: make([]byte, 32), Origin: origin, RP: u.Hostname(), Flags: 1 | 4}
	rand.Read(k.ID)
	k.Private, err = private.Bytes()
	return k, err
}

func text64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// client is what the browser vouches for.
func (k *Key) client(kind, options string) ([]byte, error) {
	var asked struct {
		Challenge string `json:"challenge"`
	}
	if err := json.Unmarshal([]byte(options), &asked); err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{"type": kind, "challenge": asked.Challenge, "origin": k.Origin, "crossOrigin": false})
}

// said is what the authenticator says (WebAuthn, section 6.1).
func (k *Key) said(flags byte) []byte {
	rp := sha256.Sum256([]byte(k.RP))
	k.Counter++
	return binary.BigEndian.AppendUint32(append(rp[:], k.Flags|flags), k.Counter)
}

func (k *Key) answer(response map[string]any) map[string]any {
	return map[string]any{"id": text64(k.ID), "rawId": text64(k.ID), "type": "public-key", "clientExtensionResults": map[string]any{}, "response": response}
}

// Make makes its credential for PublicKeyCredentialCreationOptionsJSON.
func (k *Key) Make(options string) (map[string]any, error) {
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), k.Private)
	if err != nil {
		return nil, err
	}
	public, err := private.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	cose, err := cbor.Marshal(map[int]any{1: 2, 3: -7, -1: 1, -2: public[1:33], -3: public[33:]}) // RFC 9053, ES256
	if err != nil {
		return nil, err
	}
	said := append(k.said(0x40), make([]byte, 16)...)
	said = append(binary.BigEndian.AppendUint16(said, uint16(len(k.ID))), k.ID...)
	object, err := cbor.Marshal(map[string]any{"fmt": "none", "attStmt": map[string]any{}, "authData": append(said, cose...)})
	if err != nil {
		return nil, err
	}
	client, err := k.client("webauthn.create", options)
	return k.answer(map[string]any{"clientDataJSON": text64(client), "attestationObject": text64(object), "transports": []string{"usb"}}), err
}

// Sign shows its credential for PublicKeyCredentialRequestOptionsJSON.
func (k *Key) Sign(options string) (map[string]any, error) {
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), k.Private)
	if err != nil {
		return nil, err
	}
	client, err := k.client("webauthn.get", options)
	if err != nil {
		return nil, err
	}
	said, sum := k.said(0), sha256.Sum256(client)
	digest := sha256.Sum256(append(bytes.Clone(said), sum[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, private, digest[:])
	return k.answer(map[string]any{"clientDataJSON": text64(client), "authenticatorData": text64(said), "signature": text64(signature)}), err
}

var passkeyPage = regexp.MustCompile(`data-ceremony="([^"]*)" data-purpose="([^"]*)" data-options="([^"]*)"`)

// Browse does what a person does with the key in a browser: he opens the address,
// enters the code of a machine if there is one, and presses the button.
func (k *Key) Browse(address, code string) error {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	client := &http.Client{Jar: jar}
	resp, err := client.Get(address)
	if err == nil && code != "" {
		resp.Body.Close()
		resp, err = client.PostForm(address, url.Values{"user_code": {code}, "go": {"on"}})
	}
	if err != nil {
		return err
	}
	page, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return err
	}
	asks := passkeyPage.FindSubmatch(page)
	if asks == nil {
		return fmt.Errorf("the page asks for nothing: %s", page)
	}
	show := k.Sign
	if string(asks[2]) == "register" {
		show = k.Make
	}
	answer, err := show(html.UnescapeString(string(asks[3])))
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string]any{"ceremony": html.UnescapeString(string(asks[1])), "answer": answer})
	if err != nil {
		return err
	}
	if resp, err = client.Post(k.Origin+"/passkeys/shown", "application/json", bytes.NewReader(body)); err != nil {
		return err
	}
	defer resp.Body.Close()
	var out struct{ Location, Code string }
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil || out.Code != "" {
		return fmt.Errorf("refused: %s %v", out.Code, err)
	}
	if strings.HasPrefix(out.Location, "http://127.0.0.1:") {
		if resp, err = client.Get(out.Location); err == nil {
			resp.Body.Close()
		}
	}
	return err
}
