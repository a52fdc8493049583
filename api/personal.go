package api

import "github.com/lockkeeper/lockkeeper"

// MakeToken makes a personal token.
type MakeToken struct {
	Name    string           `json:"name" maxLength:"63" doc:"one's own word for it"`
	Actions []string         `json:"actions" minItems:"1" maxItems:"100" doc:"what it may do: actions, or patterns such as */read, which stand for the actions of now"`
	Scope   lockkeeper.Scope `json:"scope" maxLength:"600" doc:"where, and below"`
	Seconds int64            `json:"seconds" minimum:"60" maximum:"31622400" doc:"how long it holds; 366 days at most"`
}

// PersonalToken is a token of a person's, without its secret.
type PersonalToken struct {
	ID      string              `json:"id"`
	Name    string              `json:"name"`
	User    string              `json:"user"`
	Actions []lockkeeper.Action `json:"actions" doc:"it never does more than its user may at that moment"`
	Scope   lockkeeper.Scope    `json:"scope"`
	Made    lockkeeper.Moment   `json:"made"`
	Expires lockkeeper.Moment   `json:"expires"`
	Used    lockkeeper.Moment   `json:"used,omitzero" doc:"when it was last used, to the hour"`
}

// MadeToken is a new token.
type MadeToken struct {
	PersonalToken
	Secret string `json:"secret" doc:"bearer token; shown once"`
}

// PersonalTokens are tokens that hold.
type PersonalTokens struct {
	Tokens []PersonalToken `json:"tokens"`
}
