// Package gate judges whether an ask may pass an environment: facts in, one
// explained decision out, with the moment until which it holds.
//
// It guarantees that nothing passes by accident: a gate with nothing to check
// fails, a fact that is missing never passes, every reason is given and not the
// first, no person fills two places, and the same facts at the same moment give
// the same decision. It knows no storage, no clock and no rights: who holds
// what at this moment is a fact that the caller brings, computed live.
//
// The checks of an environment, in the order in which they are shown:
//
//	initiator   who started the run is known and may start deployments here
//	stage       the environment's identity names the asking stage
//	artifacts   who vouches for the digests: another stage, or only the asker
//	freeze      no freeze covers the environment now
//	(named)     the environment's own checks, in the catalog's order
//
// All are judged every time; none is skipped because another failed.
package gate
