// Package evidence reads what tools say about an artifact: test results,
// coverage, code scans, bills of materials, vulnerability reports, VEX, and signed
// attestations.
//
// It guarantees that a document is read whole and strictly or refused with the
// place that is wrong, that reading takes bounded time and memory whatever the
// document says, that nothing empty counts as something, and that a signature is
// believed only of a signer that the caller named. It does not know who brought a
// document, nor what an environment demands: that is the gate's.
package evidence
