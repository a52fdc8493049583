package keeper

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/access"
	"github.com/lockkeeper/lockkeeper/internal/gate"
)

// State is the fold of the journal: what is alive, not what has ended. It is
// changed only by applying entries, and it never reads the catalog, a clock or
// anything random. Every map says here what bounds it and what evicts from it.
type State struct {
	Size int64             `json:"size"` // entries folded
	Now  lockkeeper.Moment `json:"now"`  // instant of the last entry

	Log      Log      `json:"log"`
	Setup    Setup    `json:"setup"`
	Revision Revision `json:"revision"` // the catalog in force
	Recorded int64    `json:"recorded"` // entries after which the state was last recorded
	Epoch    Epoch    `json:"epoch"`

	// Keys that tokens are signed with, by algorithm: ES256 and RS256.
	Keys map[string]*KeyRing `json:"keys"`
	// Accounts: one per user that was invited or set up.
	Accounts map[string]*Account `json:"accounts"`
	// Sessions by id. Evicted when ended, and when expired at the next entry of
	// a session's start. At most maxSessions a user.
	Sessions map[string]*Session `json:"sessions"`
	// PersonalTokens by id. At most maxPersonalTokens a user that hold; evicted when
	// revoked, and by the sweep once they have ended.
	PersonalTokens map[string]*PersonalToken `json:"personal_tokens"`
	// Factors by id: what people show beside a password. At most maxFactors a user;
	// evicted when removed or reset.
	Factors map[string]*Factor `json:"factors"`
	// FactorSince is when the factors of a user last changed. One entry for each user
	// that ever had one.
	FactorSince map[string]lockkeeper.Moment `json:"factor_since"`
	// WaysIn is when a user last got another account of a directory that signs in as
	// him. One entry for each of whom that was so within wayInLife, or a few more.
	WaysIn map[string]lockkeeper.Moment `json:"ways_in,omitempty"`
	// Members: what directories last said, by directory and account. At most
	// maxMembers; those of whom nothing was heard for memberLife make room.
	Members map[string]*Member `json:"members"`
	// Provisioned: what directories wrote, by the directory's name. One for each that
	// ever had a token; what bounds each stands at its fields.
	Provisioned map[string]*Provisioned `json:"provisioned,omitempty"`
	// Deployments that have not ended, by id. Evicted at their end; bounded by
	// maxWaiting an environment.
	Deployments map[string]*Deployment `json:"deployments"`
	// Shared are the votes that may count for later deployments about the same thing, by
	// its digest. At most maxShared; evicted at Till, when one about it does not succeed,
	// when an incident opens, and when all its votes are taken.
	Shared map[lockkeeper.Digest]*Shared `json:"shared"`
	// Requests to activate a role that wait, by id. At most maxRequests a user
	// or stage; evicted when they are begun or closed, or time out.
	Requests map[string]*Request `json:"requests"`
	// Activations by id. At most maxActivations a user that are alive; evicted when
	// they end, and by the sweep once their time has ended them.
	Activations map[string]*Activation `json:"activations"`
	// Duties to undo outside what activations opened, by id. At most maxDuties: past
	// them no activation begins that would open more. Evicted when what they are about
	// is known to be away, or two persons attest it; an epoch evicts none.
	Duties map[string]*Duty `json:"duties"`
	// Certificates of SSH that were handed out and have not ended, by serial number. At
	// most maxCertificates; evicted by the next one once they have ended.
	Certificates map[string]HandedCertificate `json:"certificates,omitempty"`
	// Drifted is what differs at targets from what activations give, by provisioner: one
	// for each that is in the catalog or was at the last scan, of at most maxDrifts;
	// evicted when a scan finds nothing, or the provisioner gone.
	Drifted map[string][]Drift `json:"drifted,omitempty"`
	// Proposals of catalogs that weaken, by id. At most maxProposals; evicted when
	// they are decided or time out, or when another revision comes in force.
	Proposals map[string]*Proposal `json:"proposals,omitempty"`
	// PersonTokens are tokens that people hold, by jti. At most maxPersonTokens a
	// user that may still be taken; evicted by the next issue once they have expired.
	PersonTokens map[string]*PersonToken `json:"person_tokens"`
	// Tokens of CI platforms that were used, by digest of issuer and jti.
	// Evicted once no clock could take them for valid any more.
	Tokens map[lockkeeper.Digest]*TokenUse `json:"tokens"`
	// Records of artifacts by project. Evicted oldest first past maxRecords a
	// project; an evicted record makes a deployment refuse, never pass.
	Records map[string][]gate.Record `json:"records"`
	// Good is what was last deployed to each environment with success, oldest
	// first, by the environment's scope. Evicted oldest first past maxGood an
	// environment; what is evicted can no more be rolled back to.
	Good map[lockkeeper.Scope][]gate.Release `json:"good"`
	// Places is what is known of each environment that was ever deployed to or
	// reported, by its scope. An epoch forgets the stretches.
	Places map[lockkeeper.Scope]*Place `json:"places,omitempty"`
	// Designs are versions of design records that wait or count, by id. At most maxDesigns,
	// and maxDesignsOf a project; evicted when superseded, rejected or ended, and by the next
	// that is proposed once they have ended or nobody approved them.
	Designs map[string]*DesignRecord `json:"designs,omitempty"`
	// Altered are who changed gates, by environment, for as long as any coolingOff may be;
	// at most maxAlterations of one.
	Altered map[lockkeeper.Scope][]Alteration `json:"altered,omitempty"`

	// Strikes are artifacts that must not be put somewhere, by the strike's id. At most
	// maxStrikes: past it none is made, for to forget one would let in what is kept out.
	// Evicted when lifted.
	Strikes map[string]*Strike `json:"strikes,omitempty"`
	// Freed is when the last lease of each environment ended. One entry for each
	// environment that was ever deployed to.
	Freed map[lockkeeper.Scope]lockkeeper.Moment `json:"freed"`
	// Answers to idempotency keys. Evicted oldest first, after a day or past
	// maxAnswers.
	Answers map[string]Answer `json:"answers"`
	// Links are accounts that somebody else linked to a person, by account; at most
	// maxLinks. Evicted when he confirms them, or the catalog lists them no more.
	Links map[string]Link `json:"links"`
	// Campaigns that have not ended, by id. At most maxCampaigns, each of maxItems;
	// evicted when they end.
	Campaigns map[string]*Campaign `json:"campaigns"`
	// Uses are the rights that were used, by user, action and scope. At most maxUses;
	// past it, those that were used longest ago make room, and Observed moves on.
	Uses     map[string]*access.Use `json:"uses"`
	Observed lockkeeper.Moment      `json:"observed,omitzero"` // since when all uses are known; zero: none was recorded yet
	// SignedIn is when each user last signed in or used his session. At most
	// maxSignedIn; past it, who was away longest makes room.
	SignedIn map[string]lockkeeper.Moment `json:"signed_in"`

	// Evidence by project, oldest first. Past maxEvidence or maxEvidenceWeight a project
	// the oldest of the stage that keeps most there is evicted, so that no stage makes a
	// gate forget what another one said against an artifact.
	Evidence map[string][]*Kept `json:"evidence,omitempty"`

	evidence    map[string]*evidenceIndex // of Evidence, by project; derived
	records     map[string]*recordIndex   // of Records, by project; derived
	AnswerOrder []string                  `json:"answer_order"`

	// Incidents that are open, by id. At most maxIncidents; evicted when closed.
	Incidents map[string]*Incident `json:"incidents"`
	// Outside are the ended leases whose tokens have not ended. Evicted with the
	// tokens' end, and oldest first past maxResidues: those an incident does not show.
	Outside []Residue `json:"outside"`
	// Notices by id. Evicted once everybody has acknowledged them, after noticeLife,
	// and oldest first past maxNotices.
	Notices map[string]*Notice `json:"notices"`
	// Reviews that are open, by id. At most maxReviews; evicted when closed.
	Reviews map[string]*Review `json:"reviews"`
	// Broken is how often the glass was broken this quarter, by role and scope of a rule. Evicted with the
	// first of another quarter; no more than there were rules in one.
	Broken map[string]Spent `json:"broken"`
	// Recovery is the set of recovery codes in force; nil: there is none.
	Recovery *RecoverySet `json:"recovery,omitempty"`
	// Freezes that were started by hand, by id. At most maxFreezes; evicted when they
	// are ended, and by the sweep once their time is over.
	Freezes map[string]*StartedFreeze `json:"freezes,omitempty"`
	// Outbox is what is to be told outside; nil: nothing ever was. Its own maps say what
	// bounds them.
	Outbox *Outbox `json:"outbox,omitempty"`

	// Holds are the runs that platforms hold, by id. At most maxHolds; evicted by the
	// next one, holdMemory after the platform was told and the deployment has ended.
	Holds map[string]*Hold `json:"holds,omitempty"`
}

// Bounds of the state.
const (
	maxSessions = 20      // live sessions of one user; the oldest gives way
	maxWaiting  = 200     // deployments of one environment that have not ended
	maxRecords  = 20_000  // artifact records of one project
	maxGood     = 20      // releases of one environment that can be rolled back to
	maxAnswers  = 100_000 // idempotency keys remembered
)

// Log names the journal and the public keys that vouch for what leaves it.
type Log struct {
	Origin        string `json:"origin"`         // first line of every checkpoint
	CheckpointKey string `json:"checkpoint_key"` // note verifier key
	ReceiptKey    string `json:"receipt_key"`    // base64 Ed25519 public key
	TokenKey      string `json:"token_key"`      // id of the first ES256 key
}

// An Epoch is what the log went through since it was first begun. The zero value
// is the first epoch.
type Epoch struct {
	Number int               `json:"number,omitempty"` // from 2: how often the log began anew from an older copy
	Since  lockkeeper.Moment `json:"since,omitzero"`   // nothing that a CI platform issued before counts
	// Held is the one user who may sign in, until he has confirmed that what the
	// older copy allows is still right; "": everybody.
	Held string `json:"held,omitempty"`
}

// A KeyRing is the keys of one algorithm, by their ids.
type KeyRing struct {
	Active  string            `json:"active"` // signs
	Next    string            `json:"next"`   // published ahead, signs after the next rotation
	Since   lockkeeper.Moment `json:"since"`  // when Next was published
	Retired []RetiredKey      `json:"retired,omitempty"`
}

// A RetiredKey signs nothing more and is published until the tokens that it
// signed have ended and every cache has forgotten it.
type RetiredKey struct {
	ID    string            `json:"id"`
	Until lockkeeper.Moment `json:"until"`
}

// published lists the keys that targets must know at now.
func (r *KeyRing) published(now lockkeeper.Moment) []string {
	out := []string{r.Active, r.Next}
	for _, k := range r.Retired {
		if now.Before(k.Until) {
			out = append(out, k.ID)
		}
	}
	return out
}

// Setup is how the first administrator enters.
type Setup struct {
	Code lockkeeper.Digest `json:"code,omitempty"` // digest of the one-time code in force
	Done bool              `json:"done"`
}

// A Revision is a catalog in force.
type Revision struct {
	Number    int                 `json:"number"` // 0: none yet
	Digest    lockkeeper.Digest   `json:"digest,omitempty"`
	Documents []lockkeeper.Digest `json:"documents,omitempty"`
	Seq       int64               `json:"seq"` // of the entry that applied it
}

// An Account is how a user signs in locally.
type Account struct {
	User       string              `json:"user"`
	Credential string              `json:"credential,omitempty"` // id of the sealed row with the password's hash
	Maker      string              `json:"maker,omitempty"`      // the user whose invitation made or reset the credential
	Behind     []lockkeeper.Person `json:"behind,omitempty"`     // who may have been that user then, in a session that recovery codes started
	Proven     bool                `json:"proven"`               // the owner has proved himself since
	Once       bool                `json:"once,omitempty"`       // he had proved himself with an earlier credential
	Invitation *Invitation         `json:"invitation,omitempty"`
	Challenge  *Challenge          `json:"challenge,omitempty"`
	Since      lockkeeper.Moment   `json:"since,omitzero"`
	// Makers are others who have reset the account's factors since: it counts as each
	// of them until its owner has proved himself.
	Makers []string `json:"makers,omitempty"`
	// First is who made its first credential; "": its owner, at the set-up.
	First string `json:"first,omitempty"`
}

// An Invitation is a one-time code that lets a user choose a password.
type Invitation struct {
	Code    lockkeeper.Digest   `json:"code"`
	By      string              `json:"by"`
	Behind  []lockkeeper.Person `json:"behind,omitempty"` // who may have been By, in a session that recovery codes started
	Expires lockkeeper.Moment   `json:"expires"`
}

// A Challenge asks a user to prove himself by a run on a CI platform that he
// starts: its token's audience must carry the challenge.
type Challenge struct {
	Value   string            `json:"value"`
	Expires lockkeeper.Moment `json:"expires"`
}

// A Session is a person's sign-in. Only the digest of its secret is kept.
type Session struct {
	ID      string            `json:"id"`
	User    string            `json:"user"`
	Secret  lockkeeper.Digest `json:"secret"`
	Started lockkeeper.Moment `json:"started"`
	Expires lockkeeper.Moment `json:"expires"`

	Directory     string              `json:"directory,omitempty"`    // that vouched for the person; "": a password of Lockkeeper's own
	Subject       string              `json:"subject,omitempty"`      // the account there
	Source        string              `json:"source,omitempty"`       // what the directory was then (catalog.Directory.Source)
	Authenticated lockkeeper.Moment   `json:"authenticated,omitzero"` // when the person last showed a credential; zero: when it started
	Strong        bool                `json:"strong,omitempty"`       // with more than a password
	Used          lockkeeper.Moment   `json:"used,omitzero"`          // when its use was last written down
	Recovery      string              `json:"recovery,omitempty"`     // recovery codes started it: the review that is owed for it
	Behind        []lockkeeper.Person `json:"behind,omitempty"`       // whose codes these were: the user may be any of them
	Idle          time.Duration       `json:"idle,omitempty"`         // for how long it holds unused, in nanoseconds; 0: as long as it lasts
	Factor        string              `json:"factor,omitempty"`       // that was shown last in it
}

// A TokenUse binds a CI platform's token to the one thing that it opened.
type TokenUse struct {
	For     string            `json:"for"`    // "deployment/d-…", "artifacts", "proof"
	Job     lockkeeper.Digest `json:"job"`    // key of the job it came from
	Handle  lockkeeper.Digest `json:"handle"` // digest of the handle it must come again with
	Expires lockkeeper.Moment `json:"expires"`
}

// An Answer is what was answered to a command that came with a key.
type Answer struct {
	Sum  lockkeeper.Digest `json:"sum"`
	JSON json.RawMessage   `json:"json"`
	At   lockkeeper.Moment `json:"at"`
}

func newState() *State {
	return &State{
		Keys: map[string]*KeyRing{}, Accounts: map[string]*Account{}, Sessions: map[string]*Session{}, Members: map[string]*Member{},
		Shared:      map[lockkeeper.Digest]*Shared{},
		Deployments: map[string]*Deployment{}, Tokens: map[lockkeeper.Digest]*TokenUse{},
		Records: map[string][]gate.Record{}, Evidence: map[string][]*Kept{}, evidence: map[string]*evidenceIndex{}, Answers: map[string]Answer{},
		Requests: map[string]*Request{}, Activations: map[string]*Activation{}, PersonTokens: map[string]*PersonToken{},
		Duties: map[string]*Duty{},
		Good:   map[lockkeeper.Scope][]gate.Release{}, Freed: map[lockkeeper.Scope]lockkeeper.Moment{},
		PersonalTokens: map[string]*PersonalToken{},
		Places:         map[lockkeeper.Scope]*Place{},
		Factors:        map[string]*Factor{}, FactorSince: map[string]lockkeeper.Moment{},
		Links: map[string]Link{}, Campaigns: map[string]*Campaign{}, Uses: map[string]*access.Use{}, SignedIn: map[string]lockkeeper.Moment{},
		records: map[string]*recordIndex{},

		Incidents: map[string]*Incident{}, Notices: map[string]*Notice{}, Reviews: map[string]*Review{}, Broken: map[string]Spent{},
		Proposals: map[string]*Proposal{},
		Drifted:   map[string][]Drift{}, Certificates: map[string]HandedCertificate{},
		Freezes: map[string]*StartedFreeze{},
		Holds:   map[string]*Hold{},
	}
}

// apply folds one entry. It is the only thing that changes a state.
func (s *State) apply(e Entry, ev event) error {
	if e.Seq != s.Size {
		return fmt.Errorf("entry %d does not follow %d entries", e.Seq, s.Size)
	}
	if e.Time.Before(s.Now) {
		return fmt.Errorf("entry %d is of %s, before the entry before it", e.Seq, e.Time)
	}
	if err := ev.apply(s, e); err != nil {
		return fmt.Errorf("entry %d (%s): %w", e.Seq, e.Kind, err)
	}
	s.noteUses(e)
	s.noteSpends(e)
	s.Size, s.Now = e.Seq+1, e.Time
	if e.Key != "" {
		s.remember(e)
	}
	return nil
}

func (s *State) remember(e Entry) {
	if _, known := s.Answers[e.Key]; !known {
		s.AnswerOrder = append(s.AnswerOrder, e.Key)
	}
	s.Answers[e.Key] = Answer{Sum: e.Sum, JSON: e.Answer, At: e.Time}
	for len(s.AnswerOrder) > 0 {
		oldest := s.AnswerOrder[0]
		if len(s.AnswerOrder) <= maxAnswers && s.Now.Sub(s.Answers[oldest].At) < answerLife {
			return
		}
		delete(s.Answers, oldest)
		s.AnswerOrder = s.AnswerOrder[1:]
	}
}

// bindToken remembers that a CI platform's token was used, and forgets those
// that nobody could take for valid any more.
func (s *State) bindToken(id lockkeeper.Digest, use TokenUse, now lockkeeper.Moment) {
	if id == "" {
		return // no token opened it: a platform holds the run
	}
	if len(s.Tokens) >= 1024 && len(s.Tokens)&(len(s.Tokens)-1) == 0 {
		for k, u := range s.Tokens {
			if !now.Before(u.Expires) {
				delete(s.Tokens, k)
			}
		}
	}
	s.Tokens[id] = &use
}

// Digest is SHA-256 over the whole state, equal on every machine that folded
// the same journal.
func (s *State) Digest() (lockkeeper.Digest, error) {
	b, err := marshal(s) // encoding/json sorts the keys of maps
	if err != nil {
		return "", err
	}
	return lockkeeper.DigestOf(b), nil
}
