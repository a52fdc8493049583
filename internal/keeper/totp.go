package keeper

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/url"
	"time"
)

// Codes of authenticator apps: RFC 6238 with what every app takes, HMAC-SHA-1, six
// digits and steps of thirty seconds. It is done here and by no library because a
// code is taken once, so that one must learn which step it is of, and the libraries
// only say that it is right.
const (
	totpStep   = 30 * time.Second
	totpDrift  = 1  // steps before and after that are taken, for clocks that differ
	totpSecret = 20 // bytes (RFC 4226, section 4)
)

var totpEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// totpCode is the code of a step (RFC 4226, section 5.3).
func totpCode(secret []byte, step int64) string {
	var counter [8]byte
	binary.BigEndian.PutUint64(counter[:], uint64(step))
	mac := hmac.New(sha1.New, secret)
	mac.Write(counter[:])
	sum := mac.Sum(nil)
	at := sum[len(sum)-1] & 0xf
	return fmt.Sprintf("%06d", (binary.BigEndian.Uint32(sum[at:])&0x7fffffff)%1_000_000)
}

// totpMatch finds the step around now that a code is of. It compares all of them,
// each in constant time.
func totpMatch(secret []byte, code string, now time.Time) (step int64, ok bool) {
	current := now.Unix() / int64(totpStep/time.Second)
	for s := current - totpDrift; s <= current+totpDrift; s++ {
		if subtle.ConstantTimeCompare([]byte(totpCode(secret, s)), []byte(code)) == 1 {
			step, ok = s, true
		}
	}
	return step, ok
}

// totpURI is what an app reads as a QR code.
func totpURI(issuer, user string, secret []byte) string {
	q := url.Values{"secret": {totpEncoding.EncodeToString(secret)}, "issuer": {issuer}, "algorithm": {"SHA1"}, "digits": {"6"}, "period": {"30"}}
	return (&url.URL{Scheme: "otpauth", Host: "totp", Path: "/" + issuer + ":" + user, RawQuery: q.Encode()}).String()
}
