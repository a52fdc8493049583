package web

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/identity"
	"github.com/lockkeeper/lockkeeper/internal/journal"
	"github.com/lockkeeper/lockkeeper/internal/lktest"
	"github.com/lockkeeper/lockkeeper/internal/token"
	"golang.org/x/mod/sumdb/note"
)

// BenchmarkExchange measures one token exchange over HTTP, each with a fresh CI
// token and durably journaled before it is answered. Its two floors are what the
// signatures alone cost on all cores (verify a CI token, sign one of ours), and
// what those and one group commit of as many entries cost without anything else.
func BenchmarkExchange(b *testing.B) {
	for _, alg := range []jose.SignatureAlgorithm{jose.RS256, jose.ES256} {
		for _, clients := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("%s/%d-clients", alg, clients), func(b *testing.B) { benchExchange(b, alg, clients) })
		}
		b.Run(fmt.Sprintf("%s/signatures", alg), func(b *testing.B) { benchSignatures(b, alg) })
		b.Run(fmt.Sprintf("%s/floor", alg), func(b *testing.B) { benchFloor(b, alg) })
	}
}

func benchExchange(b *testing.B, alg jose.SignatureAlgorithm, clients int) {
	w := newWorld(b)
	w.must(w.issuer.Rotate(alg))
	w.server.Config.Handler = New(Options{Keeper: w.keeper, Verifier: identity.NewVerifier(identity.Options{}), URL: w.server.URL, Version: "bench"})
	j := w.job("push", "production")
	d := w.running(j, handle)
	requests := make([][]byte, b.N)
	for i := range requests {
		form := exchangeForm1(w.issuer.JobToken(j), d.ID, handle, "https://target.example").Encode()
		requests[i] = fmt.Appendf(nil, "POST /oauth/token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s", len(form), form)
	}
	address := strings.TrimPrefix(w.server.URL, "http://")
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range clients {
		wg.Go(func() {
			c, err := net.Dial("tcp", address)
			if err != nil {
				b.Error(err)
				return
			}
			defer c.Close()
			replies := bufio.NewReader(c)
			for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
				if err := exchangeOver(c, replies, requests[i]); err != nil {
					b.Errorf("exchange %d: %v", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "exchanges/s")
}

// exchangeOver sends one request over an open connection and reads the reply. It
// is as lean as a client can be: clients share the cores with the server.
func exchangeOver(c net.Conn, replies *bufio.Reader, request []byte) error {
	if _, err := c.Write(request); err != nil {
		return err
	}
	status, err := replies.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(status, []byte("HTTP/1.1 200 ")) {
		return fmt.Errorf("the server says %q", status)
	}
	length := -1
	for {
		line, err := replies.ReadSlice('\n')
		if err != nil {
			return err
		}
		if line = bytes.TrimSpace(line); len(line) == 0 {
			break
		}
		if n, is := bytes.CutPrefix(line, []byte("Content-Length: ")); is {
			if length, err = strconv.Atoi(string(n)); err != nil {
				return err
			}
		}
	}
	if length <= 0 {
		return errors.New("the reply has no length")
	}
	_, err = replies.Discard(length)
	return err
}

// signatures gives what verifies a CI token and signs one of ours.
func signatures(b *testing.B, alg jose.SignatureAlgorithm) func() error {
	ctx, issuer := context.Background(), lktest.NewIssuer(b)
	if err := issuer.Rotate(alg); err != nil {
		b.Fatal(err)
	}
	v := identity.NewVerifier(identity.Options{})
	issuers := []identity.Issuer{{Provider: "github", Platform: "github", URL: issuer.URL, Audience: "x", Algorithms: []string{string(alg)}, Longest: time.Hour}}
	raw := issuer.JobToken(lktest.GitHubJob{Audience: "x"})
	now := lockkeeper.MomentOf(time.Now())
	key, err := token.NewSigningKey(rand.Reader, token.ES256)
	if err != nil {
		b.Fatal(err)
	}
	return func() error {
		if _, err := v.Workload(ctx, issuers, identity.Credential{Token: raw}, now); err != nil {
			return err
		}
		_, err := key.Mint(map[string]any{"iss": issuer.URL, "sub": "lk:payments:production", "aud": "x", "exp": now.Time().Unix()})
		return err
	}
}

func benchSignatures(b *testing.B, alg jose.SignatureAlgorithm) {
	work := signatures(b, alg)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if err := work(); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "exchanges/s")
}

func benchFloor(b *testing.B, alg jose.SignatureAlgorithm) {
	ctx, work, now := context.Background(), signatures(b, alg), lockkeeper.MomentOf(time.Now())
	skey, vkey, err := note.GenerateKey(rand.Reader, "floor")
	if err != nil {
		b.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		b.Fatal(err)
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		b.Fatal(err)
	}
	j, err := journal.Open(ctx, journal.Options{Dir: b.TempDir(), Origin: "floor", Signer: signer, Verifier: verifier})
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	const batch = 64
	b.ResetTimer()
	for done := 0; done < b.N; done += batch {
		n := min(batch, b.N-done)
		t := journal.Batch{Size: j.Head().Size}
		for i := range n {
			if err := work(); err != nil {
				b.Fatal(err)
			}
			t.Records = append(t.Records, journal.Record{Data: fmt.Appendf(nil, `{"seq":%d,"time":%q,"kind":"x","pad":"%03000d"}`, t.Size+int64(i), now, i), Subjects: []string{"a", "b"}})
		}
		if _, err := j.Append(ctx, t); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "exchanges/s")
}
