// Package identity turns a credential into proven claims: it verifies the OIDC
// tokens of CI platforms and normalises them into the closed record of a
// workload.
//
// It guarantees that only configured issuers are ever contacted, that a token
// has exactly the issuer and the one audience asked for, is in its times and not
// made to live long, and that every value of the record is signed by the
// platform or marked absent. An issuer that is away is Unavailable, never
// Unauthenticated. It does not know which stage a workload is of, whether a
// token was used before, or what anybody may do.
package identity
