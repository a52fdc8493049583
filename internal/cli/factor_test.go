package cli

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/lktest"
)

// authenticator is an app (totp SECRET STEPS): it prints the code of a secret, so many
// steps from now.
func authenticator() {
	secret, err := base32.StdEncoding.DecodeString(os.Args[1])
	if err != nil {
		screen{}.Fatal(err)
	}
	steps, err := strconv.ParseInt(os.Args[2], 10, 64)
	if err != nil {
		screen{}.Fatal(err)
	}
	mac := hmac.New(sha1.New, secret)
	binary.Write(mac, binary.BigEndian, time.Now().Unix()/30+steps)
	sum := mac.Sum(nil)
	fmt.Printf("%06d\n", binary.BigEndian.Uint32(sum[sum[19]&15:])&(1<<31-1)%1e6)
}

// touchKey is a browser (BROWSER=touch-key) with a security key, which rests in the
// file KEY_FILE. With USER_CODE it enters that code first.
func touchKey() {
	address, file := os.Args[1], os.Getenv("KEY_FILE")
	origin, _, _ := strings.Cut(address, "/passkeys")
	k, err := lktest.NewKey(origin)
	if data, missing := os.ReadFile(file); err == nil && missing == nil {
		err = json.Unmarshal(data, k)
	}
	if err == nil {
		err = k.Browse(address, os.Getenv("USER_CODE"))
	}
	if err != nil {
		screen{}.Fatal(err)
	}
	data, err := json.Marshal(k)
	if err == nil {
		err = os.WriteFile(file, data, 0o600)
	}
	if err != nil {
		screen{}.Fatal(err)
	}
}

// A password and a code come one after the other.
func TestFirstLine(t *testing.T) {
	in := strings.NewReader("the password\r\n123456\nrest")
	for _, want := range []string{"the password", "123456", "rest", ""} {
		if got, err := firstLine(in); got != want || err != nil {
			t.Errorf("%q %v, want %q", got, err, want)
		}
	}
	if long, err := firstLine(strings.NewReader(strings.Repeat("x", 9999))); len(long) != 4096 || err != nil {
		t.Errorf("%d bytes, %v", len(long), err)
	}
}
