// Package token makes and checks signed things: the CI platforms' OIDC tokens,
// Lockkeeper's own tokens, and receipts. It knows formats and keys, not people.
//
// It guarantees that only one spelling of a token is read (compact JWS, canonical
// base64url, JSON without duplicate members), that the algorithm is one of those
// the caller allows and fits the key, and that a claim is found only under its
// exact name. JOSE libraries are laxer than that by default, so a strict front
// stands before the one used here. It never fetches anything: jku, x5u, jwk and
// x5c are refused. It does not judge issuers, audiences or times.
package token
