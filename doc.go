// Package lockkeeper holds the nouns of the product: scopes, actions,
// principals, workloads, the ask of a deployment and its digest, decisions that
// explain themselves, and the kinds of error.
//
// It guarantees that a value built by its constructors is well formed, and that
// equal asks have equal digests on every machine and in every release. It knows
// nothing of storage, transport, catalogs or time: everything here is a value.
package lockkeeper
