package web

import (
	"net/http"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/forge"
)

// gitlabMessage reads what a webhook of GitLab tells. It comes again when GitLab is not
// answered in time, and of one held job there are two kinds: they are one asking.
func gitlabMessage(secret string, head http.Header, body []byte) (a forge.Asking, asks bool, err error) {
	if !forge.GitLabProven(secret, head, body, time.Now()) {
		return a, false, lockkeeper.Unauthenticated.Errorf("signature_wrong", "The message does not prove the webhook's secret.").
			WithNext("Write the same token, or signing token, into the webhook and into the server's file; a signed message is taken for five minutes.")
	}
	if a, asks, err = forge.GitLabAsking(head.Get("X-Gitlab-Event"), body); err != nil {
		err = lockkeeper.Invalid.Errorf("message_malformed", "The message names no job that is held.").WithCause(err)
	}
	return a, asks, err
}
