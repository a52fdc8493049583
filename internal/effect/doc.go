// Package effect holds the workers: what Lockkeeper changes outside, on systems
// that know no federation.
//
// A worker asks the keeper what is to be done, records that it sets about it, does
// it within its deadline, and reports the outcome. It decides nothing and knows
// nothing that the keeper does not tell it: whether a worker lives, dies between any
// two steps, or comes back late, what may have been granted has a duty in the
// journal, and another worker undoes it.
//
// A system outside is a Provisioner: Grant, Revoke and Verify, each of them
// idempotent and each bounded by its context. Secrets are files that only the
// server's account can read; no error, log line or report holds any of them.
package effect
