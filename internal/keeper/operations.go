package keeper

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// MakeSetupCode gives the one-time code with which the first administrator
// enters, and ends the one before; "" once he has. Only its digest is kept.
func (k *Keeper) MakeSetupCode(ctx context.Context) (string, error) {
	if k.read().Setup.Done {
		return "", nil
	}
	code := newSecret("lks_")
	_, err := do[any](ctx, k, Caller{Keeper: true}, "", makeSetupCode{secretDigest(code)})
	return code, err
}

// SetUp makes the first administrator: it consumes the code, gives the user a
// password and puts a catalog in force that makes him organisation
// administrator.
func (k *Keeper) SetUp(ctx context.Context, code, user, password string) error {
	if err := lockkeeper.CheckName(user); err != nil {
		return lockkeeper.Invalid.Errorf("user_malformed", "%v.", err)
	}
	if err := k.throttle("setup", perAccount); err != nil {
		return err
	}
	if s := k.read(); s.Setup.Done || s.Setup.Code != secretDigest(code) {
		_, err := do[any](ctx, k, Caller{}, "", completeSetup{Code: secretDigest(code), First: k.Rules()})
		return err
	}
	rules, err := firstCatalog(user)
	if err != nil {
		return err
	}
	credential, err := k.sealPassword(ctx, password)
	if err != nil {
		return err
	}
	_, err = do[any](ctx, k, Caller{}, "", completeSetup{Code: secretDigest(code), User: user, Credential: credential, First: rules})
	return err
}

// Invite gives a user of the catalog a one-time code to choose a password with.
// Until the owner has proved himself, the account then counts as the inviter.
func (k *Keeper) Invite(ctx context.Context, by Caller, user string) (string, error) {
	code := newSecret("lki_")
	_, err := do[any](ctx, k, by, "", inviteAccount{User: user, Code: secretDigest(code)})
	return code, err
}

// Enrol chooses a password with an invitation's code. It ends every session of
// the user.
func (k *Keeper) Enrol(ctx context.Context, user, code, password string) error {
	if err := k.throttle("enrol "+user, perAccount); err != nil {
		return err
	}
	if err := k.invited(user, secretDigest(code)); err != nil {
		return err
	}
	credential, err := k.sealPassword(ctx, password)
	if err != nil {
		return err
	}
	_, err = do[any](ctx, k, Caller{}, "", enrolAccount{User: user, Code: secretDigest(code), Credential: credential})
	return err
}

// invited refuses a wrong code before any password is hashed for it.
func (k *Keeper) invited(user string, code lockkeeper.Digest) error {
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	_, _, err := enrolAccount{User: user, Code: code}.decide(&w, Caller{}, lockkeeper.MomentOf(k.options.Clock()))
	return err
}

// Challenge asks the caller to prove himself: a run on a CI platform that he
// starts must fetch a token whose audience ends with what Challenge returns.
func (k *Keeper) Challenge(ctx context.Context, by Caller) (string, error) {
	c := newID("c")
	_, err := do[any](ctx, k, by, "", challengeAccount{c})
	return c, err
}

// ConfirmLinks says that the accounts that somebody linked to the caller are his, and
// returns them.
func (k *Keeper) ConfirmLinks(ctx context.Context, by Caller) ([]string, error) {
	answer, err := do[confirmed](ctx, k, by, "", confirmLinks{})
	return answer.Links, err
}

// Prove takes the run's token as the proof. It returns the user who proved
// himself.
func (k *Keeper) Prove(ctx context.Context, job lockkeeper.Workload, challenge string) (string, error) {
	p, err := do[proven](ctx, k, Caller{Workload: &job}, "", proveAccount{challenge, job})
	return p.User, err
}

// SignOut ends the caller's session.
func (k *Keeper) SignOut(ctx context.Context, by Caller) error {
	return k.EndSession(ctx, by, by.Session)
}

// EndSession ends a sign-in of the caller or, with accounts/revoke, of somebody
// else.
func (k *Keeper) EndSession(ctx context.Context, by Caller, id string) error {
	_, err := do[any](ctx, k, by, "", endSession{id})
	return err
}

// Sessions lists the sign-ins of a user that hold now, or everybody's (""), the
// newest first. Those of others take accounts/read.
func (k *Keeper) Sessions(by Caller, user string) ([]Session, error) {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	if user != by.User || user == "" || by.Token != "" {
		if _, err := w.may(by, lockkeeper.ReadAccounts, lockkeeper.Root, now); err != nil {
			return nil, err
		}
	}
	out := []Session{}
	for _, s := range w.Sessions {
		if (user == "" || s.User == user) && w.sessionOver(s, now) == "" {
			listed := *s
			listed.Secret = ""
			out = append(out, listed)
		}
	}
	slices.SortFunc(out, func(a, b Session) int {
		return cmp.Or(b.Started.Time().Compare(a.Started.Time()), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

// An Applied catalog is the answer to Apply.
type Applied = applied

// Apply puts a catalog in force if base is still the number of the revision in
// force. An equal catalog changes nothing.
func (k *Keeper) Apply(ctx context.Context, by Caller, c *catalog.Catalog, base int, message string) (Applied, error) {
	rules, err := compileRules(documentsOf(c))
	if err != nil {
		return Applied{}, lockkeeper.Invalid.Errorf("catalog_invalid", "The catalog does not compile: %v", err)
	}
	return do[applied](ctx, k, by, "", applyCatalog{Base: base, Message: message, Rules: rules, Issuer: k.options.Issuer, ID: newID("p")})
}

// Recorded is the answer to RecordArtifacts.
type Recorded = recorded

// RecordArtifacts lets the stage that the job is of vouch for digests. key, if
// not "", makes a retry give the same answer.
func (k *Keeper) RecordArtifacts(ctx context.Context, job lockkeeper.Workload, key string, artifacts []lockkeeper.Artifact) (Recorded, error) {
	return do[recorded](ctx, k, Caller{Workload: &job}, key, recordArtifacts{job, artifacts})
}

// OpenDeployment is what a job asks for.
type OpenDeployment struct {
	Action      string // deploy, rollback or redeploy; "": deploy
	Project     string // "": the job's own
	Environment string
	Artifacts   []lockkeeper.Artifact
	Parameters  map[string]string
	Handle      lockkeeper.Digest // HandleDigest of the secret that the job made
	Detached    bool              // another job of the same stage and run will claim it, with the same handle
	Plans       []lockkeeper.Plan // that the job will carry out
}

// Open opens a deployment for the stage that the job is of, and returns its id.
// key, if not "", makes a retry give the same deployment.
func (k *Keeper) OpenDeployment(ctx context.Context, job lockkeeper.Workload, key string, o OpenDeployment) (string, error) {
	if _, err := lockkeeper.ParseDigest(string(o.Handle)); err != nil {
		return "", lockkeeper.Invalid.Errorf("handle_malformed", "The handle's digest is malformed: %v.", err).WithField("handle")
	}
	answer, err := do[opened](ctx, k, Caller{Workload: &job}, key, openDeployment{ID: newID("d"), Job: job, Action: o.Action, Project: o.Project,
		Environment: o.Environment, Artifacts: o.Artifacts, Parameters: o.Parameters, Handle: o.Handle, Detached: o.Detached, Plans: o.Plans})
	return answer.ID, err
}

// Vote approves or rejects the ask with the digest that the voter saw.
func (k *Keeper) Vote(ctx context.Context, by Caller, id string, approve bool, digest lockkeeper.Digest, comment string) error {
	return k.Answer(ctx, by, id, ReviewBallot{Approve: approve, Digest: digest, Comment: comment})
}

// Claim re-verifies the gate and grants the lease to the job that shows handle, and
// the plans that were approved, as it has them now.
// It refuses with Conflict while the gate waits, and the refusal's decision says
// for what.
func (k *Keeper) Claim(ctx context.Context, job lockkeeper.Workload, id, handle string, plans ...lockkeeper.Plan) error {
	_, err := do[opened](ctx, k, Caller{Workload: &job}, "", claimLease{Deployment: id, Lease: newID("l"), Job: job, Handle: HandleDigest(handle), Plans: plans})
	return err
}

// Delegate hands the caller's place at the gate of one deployment over to
// another user. It holds while the caller himself could fill it.
func (k *Keeper) Delegate(ctx context.Context, by Caller, id, to, comment string) error {
	_, err := do[opened](ctx, k, by, "", delegate{id, to, comment})
	return err
}

// Withdraw takes the caller's approval back, as long as the deployment has not
// ended; one that runs and does not stand without it loses its lease.
func (k *Keeper) Withdraw(ctx context.Context, by Caller, id, comment string) error {
	_, err := do[opened](ctx, k, by, "", withdrawApproval{id, comment})
	return err
}

// RevokeLease takes the lease of a running deployment away.
func (k *Keeper) RevokeLease(ctx context.Context, by Caller, id, reason string) error {
	_, err := do[opened](ctx, k, by, "", revokeLease{id, reason})
	return err
}

// Renew is the heartbeat of the job that holds the lease. It returns when the
// lease ends if no other beat follows.
func (k *Keeper) Renew(ctx context.Context, id, handle string) (lockkeeper.Moment, error) {
	by, err := k.Holder(ctx, id, handle)
	if err != nil {
		return lockkeeper.Moment{}, err
	}
	r, err := do[renewed](ctx, k, by, "", renewLease{id, HandleDigest(handle)})
	return r.Ends, err
}

// A Token is what an exchange hands out.
type Token struct {
	JWT     string
	Expires lockkeeper.Moment
	Life    time.Duration
}

// Exchange hands out a token for the identity of the deployment's lease. The
// decision is durable before the token is signed.
func (k *Keeper) Exchange(ctx context.Context, job lockkeeper.Workload, id, handle, audience string) (Token, error) {
	g, err := do[granted](ctx, k, Caller{Workload: &job}, "", grantToken{Deployment: id, ID: newID("t"), Job: job, Handle: HandleDigest(handle), Audience: audience})
	if err != nil {
		return Token{}, err
	}
	artifacts := map[string]string{}
	for _, a := range g.Ask.Artifacts {
		artifacts[a.Name] = string(a.Digest)
	}
	jwt, err := k.mint(g.Audience, map[string]any{
		"iss": k.options.Issuer, "sub": g.Subject, "aud": g.Audience, "jti": g.ID,
		"iat": g.At.Time().Unix(), "nbf": g.At.Time().Unix(), "exp": g.Expires.Time().Unix(),
		"deployment": g.Deployment, "project": g.Ask.Project, "environment": g.Ask.Environment, "pipeline": g.Ask.Pipeline,
		"stage": g.Ask.Stage, "commit": g.Ask.Commit, "artifacts": artifacts, "ask": string(g.Digest), "catalog_revision": g.Revision,
	})
	if err != nil {
		return Token{}, err
	}
	return Token{jwt, g.Expires, g.Expires.Sub(g.At)}, nil
}

// End is the job's own word on how the deployment went. It ends the lease.
func (k *Keeper) End(ctx context.Context, by Caller, id string, exitCode int) error {
	_, err := do[opened](ctx, k, by, "", endDeployment{id, exitCode})
	return err
}

// Cancel ends a deployment and its lease.
func (k *Keeper) Cancel(ctx context.Context, by Caller, id, reason string) error {
	_, err := do[opened](ctx, k, by, "", cancelDeployment{id, reason})
	return err
}

// HandleDigest is the digest under which a handle is known. The job sends it
// with the ask, and the handle itself only where it must prove to have it.
func HandleDigest(handle string) lockkeeper.Digest { return lockkeeper.HandleDigest(handle) }
