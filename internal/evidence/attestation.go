package evidence

import (
	"encoding/base64"
	"slices"
	"strings"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/lockkeeper/lockkeeper"
)

const attestationFormats = "DSSE envelopes and Sigstore bundles 0.1 to 0.3 of in-toto statements v0.1 and v1"

const statementType = "application/vnd.in-toto+json"

// maxSignatures bounds the signatures of an envelope.
const maxSignatures = 16

// readAttestation reads a signed in-toto statement. Nothing of the statement is
// believed before a signature of a given signer is found good.
func readAttestation(content []byte, signers []Signer) (Summary, error) {
	if !isJSON(content) {
		return Summary{}, unknownFormat(Attestation, "it is not JSON", attestationFormats)
	}
	c, err := newCursor(content)
	if err != nil {
		return Summary{}, err
	}
	members, err := c.members()
	if err != nil {
		return Summary{}, err
	}
	if len(signers) == 0 {
		return Summary{}, refuse(codeUnsigned, "No signer is named whose signature would be believed.").WithNext("Name the signer in the catalog.")
	}
	_, payload := members["payload"]
	_, bare := members["predicateType"]
	switch {
	case strings.HasPrefix(members["mediaType"], bundleType):
		return readBundle(content, signers)
	case payload:
		return readEnvelope(c, signers)
	case bare:
		return Summary{}, refuse(codeUnsigned, "The statement is not signed.").WithNext("Bring it in a DSSE envelope or a Sigstore bundle.")
	}
	return Summary{}, unknownFormat(Attestation, "it has neither a payload nor a media type of Sigstore", attestationFormats)
}

// An envelope of DSSE v1.0.
type envelope struct {
	kind       string
	payload    []byte
	signatures [][]byte
}

func readEnvelope(c *cursor, signers []Signer) (Summary, error) {
	e := envelope{}
	err := c.object(func(key string) error {
		switch key {
		case "payloadType":
			return c.short(&e.kind)
		case "payload":
			return c.base64(&e.payload)
		case "signatures":
			return c.array(func() error {
				if len(e.signatures) >= maxSignatures {
					return c.fail(codeTooLarge, "The envelope has more than %d signatures.", maxSignatures)
				}
				var sig []byte
				err := c.object(func(key string) error {
					if key == "sig" {
						return c.base64(&sig)
					}
					return nil // keyid is an unauthenticated hint: every key is tried
				})
				e.signatures = append(e.signatures, sig)
				return err
			})
		}
		return nil
	})
	if err != nil {
		return Summary{}, err
	}
	by, err := e.signedBy(signers)
	if err != nil {
		return Summary{}, err
	}
	return statement("dsse", e.kind, e.payload, by)
}

// base64 reads a text in the standard or the URL-safe alphabet, as DSSE allows both.
func (c *cursor) base64(into *[]byte) error {
	var s string
	start := c.pos
	if err := c.text(&s); err != nil {
		return err
	}
	encoding := base64.StdEncoding
	if strings.ContainsAny(s, "-_") {
		encoding = base64.URLEncoding
	}
	b, err := encoding.Strict().DecodeString(s)
	if err != nil || strings.ContainsAny(s, "\r\n") {
		c.pos = start
		return c.fail(codeUnreadable, "This is not base64.")
	}
	*into = b
	return nil
}

// signedBy are the signers with keys of their own whose signature is good.
func (e envelope) signedBy(signers []Signer) ([]SignedBy, error) {
	message := dsse.PAE(e.kind, e.payload)
	var by []SignedBy
	for _, s := range signers {
		if s.Key == "" {
			continue // keyless signatures come in bundles, with their certificate
		}
		id, err := s.Identity()
		if err != nil {
			return nil, err
		}
		key, err := parseKey(s.Key)
		if err != nil {
			return nil, s.unfit(err.Error())
		}
		if slices.ContainsFunc(e.signatures, func(sig []byte) bool { return signed(key, message, sig) }) {
			by = append(by, SignedBy{Signer: s.Name, Key: id})
		}
	}
	if len(by) == 0 {
		return nil, unbelieved(signers, "")
	}
	return by, nil
}

// unbelieved says that no signature is good.
func unbelieved(signers []Signer, why string) error {
	var names []string
	for _, s := range signers {
		names = append(names, s.Name)
	}
	if why != "" {
		why = " (" + clip(why) + ")"
	}
	return refuse(codeUnsigned, "No signature is good of %s%s.", clip(strings.Join(names, ", ")), why).
		WithNext("Sign it with a signer of the catalog, and bring it unchanged.")
}

// statement reads an in-toto statement whose signature was found good.
func statement(format, kind string, payload []byte, by []SignedBy) (Summary, error) {
	if kind != statementType {
		return Summary{}, unknownFormat(Attestation, "what is signed is "+clip(kind)+", not an in-toto statement", attestationFormats)
	}
	payload, err := plain(payload)
	if err != nil {
		return Summary{}, err
	}
	c, err := newCursor(payload)
	if err != nil {
		return Summary{}, err
	}
	out := &Attested{Signers: by}
	s := Summary{Format: format, Attestation: out}
	version, predicate := "", -1
	err = c.object(func(key string) error {
		switch key {
		case "_type":
			return c.text(&version)
		case "predicateType":
			return c.short(&out.PredicateType)
		case "subject":
			return c.array(func() error { return subject(c, &s.Subjects) })
		case "predicate":
			if c.peek() != '{' {
				return c.wrong("an object")
			}
			predicate = c.pos
		}
		return nil
	})
	if err != nil {
		return Summary{}, err
	}
	switch {
	case version != "https://in-toto.io/Statement/v1" && version != "https://in-toto.io/Statement/v0.1":
		return Summary{}, unknownFormat(Attestation, "its statement is of the type "+clip(version), attestationFormats)
	case out.PredicateType == "":
		return Summary{}, refuse(codeUnreadable, "The statement has no predicateType.").WithField("$.predicateType")
	case len(s.Subjects) == 0:
		return Summary{}, refuse(codeSubject, "The statement names no subject by SHA-256 digest.").WithField("$.subject").
			WithNext("Attest to the artifact's SHA-256 digest.")
	case predicate < 0:
		return Summary{}, refuse(codeUnreadable, "The statement has no predicate.").WithField("$.predicate")
	}
	if err := out.predicate(c, predicate); err != nil {
		return Summary{}, err
	}
	s.Made = by[0].At
	return s, nil
}

// subject reads a subject. Its other digests are not read; one that says sha256 must
// be one.
func subject(c *cursor, into *[]lockkeeper.Digest) error {
	if len(*into) >= MaxSubjects {
		return c.fail(codeTooLarge, "The statement has more than %d subjects.", MaxSubjects)
	}
	return c.object(func(key string) error {
		if key != "digest" {
			return nil
		}
		return c.object(func(key string) error {
			if key != "sha256" {
				return nil
			}
			var hex string
			start := c.pos
			if err := c.text(&hex); err != nil {
				return err
			}
			d, err := lockkeeper.ParseDigest("sha256:" + hex)
			if err != nil {
				c.pos = start
				return c.fail(codeSubject, "The digest %.80q must have 64 lower-case hexadecimal digits.", hex)
			}
			*into = append(*into, d)
			return nil
		})
	})
}
