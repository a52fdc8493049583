package effect

import (
	"context"
	"errors"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"golang.org/x/crypto/ssh"
)

// Credential gives the holder of an activation a new password for the database that
// it opened; the one before is worth nothing from then on. provisioner may be "" if
// the activation opened one database only. The keeper records it first: a crash in
// between has handed out nothing.
func (w *Worker) Credential(ctx context.Context, by keeper.Caller, activation, provisioner string) (keeper.Credential, error) {
	h, err := w.Keeper.HandCredential(ctx, by, activation, provisioner, "postgresql", "")
	if err != nil {
		return keeper.Credential{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, w.Longest)
	defer cancel()
	l, err := w.database.password(ctx, Account{h.Duty})
	if err != nil {
		return keeper.Credential{}, handingFailed(err)
	}
	l.Provisioner, l.Until = h.Duty.Provisioner, h.Until
	return l, nil
}

// Certificate signs the public key of an activation's holder for the hosts that it
// opened, in the format of authorized_keys.
func (w *Worker) Certificate(ctx context.Context, by keeper.Caller, activation, provisioner, publicKey string) (keeper.Certificate, error) {
	key, err := personalKey(publicKey)
	if err != nil {
		return keeper.Certificate{}, err
	}
	h, err := w.Keeper.HandCredential(ctx, by, activation, provisioner, "ssh", ssh.FingerprintSHA256(key))
	if err != nil {
		return keeper.Certificate{}, err
	}
	signed, err := w.ssh.certificate(h, key, time.Now())
	if err != nil {
		return keeper.Certificate{}, handingFailed(err)
	}
	return keeper.Certificate{Provisioner: h.Duty.Provisioner, Certificate: string(signed), Principals: h.Duty.Terms.SSH.Principals, Serial: h.Serial, Until: h.Until}, nil
}

// handingFailed says why there is no credential, for the holder's eyes.
func handingFailed(err error) error {
	if lockkeeper.RefusalOf(err) != nil {
		return err
	}
	r := lockkeeper.Unavailable.Errorf("credential_failed", "The credential could not be made.").WithNext("Ask again; if it stays so, ask whoever runs the server.")
	var f *Failure
	if errors.As(err, &f) {
		return lockkeeper.Unavailable.Errorf(f.Code, "The credential could not be made: %s", f.Reason).WithNext("%s", r.Next)
	}
	return r.WithCause(err)
}
