package evidence

// A Signer is somebody whose signature is believed: by a public key, or, without a
// key of its own, by what a Sigstore certificate authority certified.
type Signer struct {
	Name string
	Key  string // PEM of a public key: Ed25519, ECDSA P-256 or P-384, RSA of 2048 bits or more; "": keyless

	Issuer  string // of the identity token behind the certificate, exact
	Subject string // SAN of the certificate, exact
	Root    []byte // trusted root of Sigstore, as its JSON
}
