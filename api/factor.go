package api

import "github.com/lockkeeper/lockkeeper"

// FactorNeeded says that a password was right and does not suffice.
type FactorNeeded struct {
	Ticket  string   `json:"ticket" doc:"what finishes the sign-in, together with a factor; for five minutes and five tries"`
	Factors []string `json:"factors" doc:"what the user can show: totp, passkey"`
}

// FinishSignIn shows a code of an authenticator app.
type FinishSignIn struct {
	Ticket string `json:"ticket" maxLength:"100"`
	Code   string `json:"code" maxLength:"20"`
}

// Code is one of an authenticator app.
type Code struct {
	Code string `json:"code" maxLength:"20"`
}

// BeginFactor begins to register a factor.
type BeginFactor struct {
	Name string `json:"name" maxLength:"63" doc:"one's own word for it"`
}

// BegunTOTP is the secret of an authenticator app. It holds once a code was shown.
type BegunTOTP struct {
	ID     string `json:"id"`
	Secret string `json:"secret" doc:"base32; shown once"`
	URI    string `json:"uri" doc:"otpauth address, as apps read it; shown once"`
}

// Factor is what a person shows beside a password, or again while he is signed in.
type Factor struct {
	ID    string            `json:"id"`
	Kind  string            `json:"kind" enum:"totp,passkey"`
	Name  string            `json:"name"`
	Since lockkeeper.Moment `json:"since"`
}

// Factors are those of one user.
type Factors struct {
	User    string            `json:"user"`
	Since   lockkeeper.Moment `json:"since,omitzero" doc:"when they last changed"`
	Factors []Factor          `json:"factors"`
}

// ResetFactors takes all factors of somebody away.
type ResetFactors struct {
	Reason string `json:"reason" maxLength:"1000"`
}

// BeginPasskey begins to register or to show a passkey in a browser: in one on this
// machine, which brings the answer to a loopback port, or with a code in one elsewhere.
type BeginPasskey struct {
	Purpose   string `json:"purpose" enum:"register,step-up,sign-in"`
	Name      string `json:"name,omitempty" maxLength:"63" doc:"register: one's own word for it"`
	Ticket    string `json:"ticket,omitempty" maxLength:"100" doc:"sign-in: of the password that was right"`
	Port      int    `json:"port,omitempty" minimum:"0" maximum:"65535" doc:"loopback port that waits; none: a browser elsewhere"`
	State     string `json:"state,omitempty" maxLength:"100" doc:"what the browser brings back to the port beside the code"`
	Challenge string `json:"challenge" maxLength:"100" doc:"SHA-256 of a secret, base64url (RFC 7636): only who knows it finishes"`
}

// BegunPasskey is where the browser goes.
type BegunPasskey struct {
	ID        string `json:"id" doc:"what a machine without a browser asks with, together with the secret"`
	Address   string `json:"address"`
	UserCode  string `json:"user_code,omitempty" doc:"what the person enters there"`
	ExpiresIn int    `json:"expires_in" doc:"seconds"`
	Interval  int    `json:"interval" doc:"seconds between two questions"`
}

// FinishPasskey ends what was begun, once the passkey was shown.
type FinishPasskey struct {
	Code     string `json:"code,omitempty" maxLength:"100" doc:"what the browser brought to the port"`
	ID       string `json:"id,omitempty" maxLength:"100" doc:"or what was begun, without a browser here"`
	Verifier string `json:"verifier" maxLength:"128" doc:"what the challenge was made of"`
}

// FinishedPasskey is what came of it: a factor, a session, or, for a step-up,
// neither.
type FinishedPasskey struct {
	Factor  *Factor  `json:"factor,omitempty"`
	Session *Session `json:"session,omitempty"`
}
