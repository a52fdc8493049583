// Package gate judges whether an ask may pass an environment: facts in, one
// explained decision out, with the moment until which it holds.
//
// It guarantees that nothing passes by accident: a gate with nothing to check
// fails, a fact that is missing never passes, every reason is given and not the
// first, no person fills two places, and the same facts at the same moment give
// the same decision. It knows no storage, no clock and no rights: who holds
// what at this moment is a fact that the caller brings, computed live.
//
// The checks of an environment, in the order in which they are shown, and in
// which the first that is not passed gives the verdict its code:
//
//	initiator   who started the run is known and may start deployments here
//	stage       the environment's identity names the asking stage
//	artifacts   who vouches for the digests: another stage, not too long ago, or
//	            only the asker; a rollback names what was deployed here with success
//	demands     production has what production must have, or a live waiver
//	static      branches, template, expression: what the ask itself says
//	evidence    tests, scan, sbom, vulnerabilities, provenance, attestation: what
//	            stages brought about the artifacts
//	promotion   where else the artifacts must have run, for how long
//	record      what people wrote and approved about the design, and has not ended
//	approval    approvals, all together; some only after others
//	freeze      no freeze that stops this action by this caller covers the environment
//	time        delay, hours
//	outside     call, metrics, change: what services say, all of them at one instant
//	policy      what policies in Rego say, each over what is known now
//	patience    the ask has not waited too long
//	lock        the environment is free and it is this ask's turn
//
// Inside a kind the order is the catalog's. All but the lock are judged every
// time; none is skipped because another failed. The lock is looked at only when
// everything else has passed, so that it is never held, nor a place in its queue
// kept, while an ask waits for a person or a window.
//
// Every pass has an end: the moment until which it holds by itself, at the
// latest the end of the ask's patience.
package gate
