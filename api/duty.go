package api

import "github.com/lockkeeper/lockkeeper"

// Opening is a provisioner that an activation opens.
type Opening struct {
	Provisioner string `json:"provisioner"`
	Kind        string `json:"kind" doc:"postgresql, ssh, webhook or azure"`
	Status      string `json:"status,omitempty" doc:"of what has begun just now: taken, until it is granted"`
	Code        string `json:"code,omitempty" doc:"why it could not be granted yet"`
	Reason      string `json:"reason,omitempty"`
}

// Duty is to undo outside what an activation opened there.
type Duty struct {
	ID          string            `json:"id"`
	Activation  string            `json:"activation"`
	User        string            `json:"user"`
	Provisioner string            `json:"provisioner"`
	Kind        string            `json:"kind"`
	Scope       lockkeeper.Scope  `json:"scope"`
	Account     string            `json:"account" doc:"what stands for the activation on the system"`
	Status      string            `json:"status" enum:"taken,granted,revoked,revocation_owed,undone,force_closed"`
	Taken       lockkeeper.Moment `json:"taken"`
	Ends        lockkeeper.Moment `json:"ends" doc:"when the activation ends by itself"`
	Over        lockkeeper.Moment `json:"over,omitzero" doc:"since when it has to be undone"`
	Attempts    int               `json:"attempts"`
	Failures    int               `json:"failures" doc:"attempts that failed since the last one that went well"`
	Code        string            `json:"code,omitempty" doc:"why the last one failed"`
	Reason      string            `json:"reason,omitempty"`
	Retry       lockkeeper.Moment `json:"retry,omitzero" doc:"when it is tried again"`
	Credentials int               `json:"credentials" doc:"how many were handed out"`
	Outside     lockkeeper.Moment `json:"outside,omitzero" doc:"until when a certificate that was handed out lives, whatever is undone"`
	Attested    []Attestation     `json:"attested" doc:"who says that it was removed by hand"`
	Ended       lockkeeper.Moment `json:"ended,omitzero"`
	Covered     string            `json:"covered,omitempty" doc:"the duty that answers for the account since"`
}

// Duties are duties.
type Duties struct {
	Duties []Duty `json:"duties"`
}

// Attestation is a person's word that what is owed was removed by hand.
type Attestation struct {
	User    string            `json:"user"`
	At      lockkeeper.Moment `json:"at"`
	Comment string            `json:"comment"`
}

// Attest gives one's word that what is owed was removed by hand.
type Attest struct {
	Comment string `json:"comment" doc:"how it was removed, and how one knows" maxLength:"2000"`
}

// Attested says what became of a duty by an attestation.
type Attested struct {
	ID     string `json:"id"`
	Closed bool   `json:"closed" doc:"it was the second person's word, and the duty is over"`
}

// AskCredential asks for a login to the database that an activation opened.
type AskCredential struct {
	Provisioner string `json:"provisioner,omitempty" doc:"needed if the activation opened several" maxLength:"63"`
}

// Credential is a login to a database.
type Credential struct {
	Provisioner string            `json:"provisioner"`
	Host        string            `json:"host" doc:"or the folder of a socket"`
	Port        int               `json:"port"`
	Database    string            `json:"database"`
	User        string            `json:"user"`
	Password    string            `json:"password" doc:"shown once; the one before is worth nothing from now on"`
	Until       lockkeeper.Moment `json:"until" doc:"it is worth nothing later"`
}

// AskCertificate asks for a certificate for one's public key.
type AskCertificate struct {
	Provisioner string `json:"provisioner,omitempty" doc:"needed if the activation opened several" maxLength:"63"`
	PublicKey   string `json:"public_key" doc:"in the format of authorized_keys" maxLength:"16384"`
}

// Certificate is a signed public key of SSH.
type Certificate struct {
	Provisioner string            `json:"provisioner"`
	Certificate string            `json:"certificate" doc:"in the format of authorized_keys"`
	Principals  []string          `json:"principals"`
	Serial      uint64            `json:"serial"`
	Until       lockkeeper.Moment `json:"until"`
}
