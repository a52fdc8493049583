package api

import "github.com/lockkeeper/lockkeeper"

// Notification is one of the catalog, and how it goes with it.
type Notification struct {
	Name    string            `json:"name"`
	Title   string            `json:"title,omitempty"`
	Via     string            `json:"via"`
	Channel string            `json:"channel" doc:"name of the server's file channel@NAME"`
	To      []string          `json:"to"`
	Users   int               `json:"users" doc:"whom it tells now"`
	About   []string          `json:"about"`
	Waiting int               `json:"waiting" doc:"messages that are to be sent"`
	Oldest  lockkeeper.Moment `json:"oldest,omitzero" doc:"since when the oldest of those that are due waits"`
	Sent    int64             `json:"sent"`
	Lost    int64             `json:"lost" doc:"messages that were given up on"`
	Last    lockkeeper.Moment `json:"last,omitzero" doc:"when one was sent last"`
	Failing lockkeeper.Moment `json:"failing,omitzero" doc:"since when sending fails"`
	Code    string            `json:"code,omitempty"`
	Reason  string            `json:"reason,omitempty"`
}

// Notifications are those of the catalog, by name.
type Notifications struct {
	Notifications []Notification `json:"notifications"`
}

// TestMessage is a message that was put into the outbox.
type TestMessage struct {
	ID string `json:"id"`
}
