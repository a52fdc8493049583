package api

import "github.com/lockkeeper/lockkeeper"

// Directory is an identity provider that signs people in.
type Directory struct {
	Name     string `json:"name"`
	Title    string `json:"title"`
	Platform string `json:"platform"`
}

// Directories are those of the catalog in force.
type Directories struct {
	Directories []Directory `json:"directories"`
}

// RedeemSignIn turns the code of a sign-in into a session.
type RedeemSignIn struct {
	Code     string `json:"code" maxLength:"100"`
	Verifier string `json:"verifier" maxLength:"128" doc:"what the challenge was made of (RFC 7636)"`
}

// BeginDevice begins a sign-in for a machine without a browser.
type BeginDevice struct {
	Anew bool `json:"anew,omitempty" doc:"the person must show a credential now"`
}

// DeviceSignIn is what the machine shows, and what it asks with (RFC 8628, section
// 3.2).
type DeviceSignIn struct {
	DeviceCode      string `json:"device_code" doc:"secret of the machine"`
	UserCode        string `json:"user_code" doc:"what the person enters"`
	VerificationURI string `json:"verification_uri" doc:"where"`
	ExpiresIn       int    `json:"expires_in" doc:"seconds"`
	Interval        int    `json:"interval" doc:"seconds between two questions"`
}

// RedeemDevice asks whether the sign-in was confirmed.
type RedeemDevice struct {
	DeviceCode string `json:"device_code" maxLength:"100"`
}

// SignedIn is a sign-in that holds.
type SignedIn struct {
	ID            string            `json:"id"`
	User          string            `json:"user"`
	Directory     string            `json:"directory,omitempty" doc:"that vouched for the person; none: a password of Lockkeeper's own"`
	Started       lockkeeper.Moment `json:"started"`
	Authenticated lockkeeper.Moment `json:"authenticated,omitzero" doc:"when the person last showed a credential; none: the directory does not say"`
	Strong        bool              `json:"strong" doc:"with more than a password"`
	Used          lockkeeper.Moment `json:"used,omitzero" doc:"about when it was last used"`
	Expires       lockkeeper.Moment `json:"expires"`
	Current       bool              `json:"current" doc:"the one that asks"`
}

// Sessions are sign-ins that hold.
type Sessions struct {
	Sessions []SignedIn `json:"sessions"`
}
