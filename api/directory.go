package api

import "github.com/lockkeeper/lockkeeper"

// WritingDirectories is what the directories of the catalog in force write.
type WritingDirectories struct {
	Directories []WritingDirectory `json:"directories"`
}

// WritingDirectory is a directory, and what it wrote with SCIM.
type WritingDirectory struct {
	Name     string            `json:"name"`
	Platform string            `json:"platform"`
	Writes   bool              `json:"writes" doc:"the catalog lets it write (scim: true)"`
	Tokens   []DirectoryToken  `json:"tokens" doc:"with which it may write now, the one that ends last, last"`
	Users    int               `json:"users" doc:"that it wrote and has not deleted"`
	Off      int               `json:"off" doc:"accounts that it switched off or deleted"`
	Groups   int               `json:"groups" doc:"that it wrote"`
	Believed lockkeeper.Moment `json:"believed,omitzero" doc:"until when what it wrote about groups grants, if it gets no other token"`
}

// DirectoryToken is one with which a directory may write.
type DirectoryToken struct {
	ID      string            `json:"id"`
	By      string            `json:"by" doc:"who made it"`
	Since   lockkeeper.Moment `json:"since"`
	Expires lockkeeper.Moment `json:"expires"`
}

// MakeDirectoryToken asks for a token.
type MakeDirectoryToken struct {
	Seconds int64 `json:"seconds" minimum:"3600" maximum:"31622400" doc:"how long it lasts"`
}

// MadeDirectoryToken is a new token.
type MadeDirectoryToken struct {
	DirectoryToken
	Secret string `json:"secret" doc:"bearer token for the directory; shown once"`
	URL    string `json:"url" doc:"where the directory writes: its SCIM base URL"`
}
