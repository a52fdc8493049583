package identity

import (
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/token"
)

// kubernetes reads a projected service account token that is bound to a pod
// (kubernetes.io, "Managing Service Accounts"; KEP-1205). The pod is the run and
// the job; nobody's name stands behind it, so the service account itself, by its
// UID, is the account that started it. A service account that was deleted and
// made again has the same sub and another UID.
func kubernetes(w *lockkeeper.Workload, c token.Claims, _ Issuer) error {
	unbound := lockkeeper.Unauthenticated.Errorf("claim_missing", "The token is not bound to a pod, so nothing says which run it is of.").
		WithNext("Use a projected service account token (a volume of the kind serviceAccountToken) with this server's audience.")
	k, ok, err := c.Object("kubernetes.io")
	if err != nil || !ok {
		return unbound
	}
	account, ok1, err1 := k.Object("serviceaccount")
	pod, ok2, err2 := k.Object("pod")
	if err1 != nil || err2 != nil || !ok1 || !ok2 {
		return unbound
	}
	if err := fill(k, fact, claim{"namespace", &w.Namespace, word, true}); err != nil {
		return err
	}
	if err := fill(account, fact, claim{"uid", &w.ServiceAccount, uid, true}, claim{"name", &w.ServiceAccountName, word, true}); err != nil {
		return err
	}
	if err := fill(pod, fact, claim{"uid", &w.Pod, uid, true}); err != nil {
		return err
	}
	w.Repository, w.RepositoryName = w.Namespace, w.Namespace
	w.Run, w.Job, w.Attempt = w.Pod, w.Pod, 1
	w.Actor, w.ActorName = w.ServiceAccount, lockkeeper.SignedFact(w.Namespace.Value+"/"+w.ServiceAccountName.Value)
	return nil
}

// uid is a UUID in lower case.
func uid(s string) bool {
	return len(s) == 36 && strings.Count(s, "-") == 4 && strings.Trim(s, "0123456789abcdef-") == ""
}
