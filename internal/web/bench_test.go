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
	for _, k := range []kind{
		{jose.RS256, "https://target.example", token.ES256}, {jose.ES256, "https://target.example", token.ES256},
		{jose.RS256, "api://AzureADTokenExchange", token.RS256},
	} {
		name := fmt.Sprintf("%s-to-%s", k.in, k.out)
		for _, clients := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("%s/%d-clients", name, clients), func(b *testing.B) { benchExchange(b, k, clients) })
		}
		b.Run(name+"/signatures", func(b *testing.B) { benchSignatures(b, k) })
		b.Run(name+"/floor", func(b *testing.B) { benchFloor(b, k) })
	}
}

// A kind of exchange: what the CI token is signed with, whom the new one is for,
// and what that takes.
type kind struct {
	in       jose.SignatureAlgorithm
	audience string
	out      string
}

func benchExchange(b *testing.B, k kind, clients int) {
	w := newWorld(b)
	w.must(w.issuer.Rotate(k.in))
	w.server.Config.Handler = New(Options{Keeper: w.keeper, Verifier: identity.NewVerifier(identity.Options{}), URL: w.server.URL, Version: "bench"})
	j := w.job("push", "production")
	d := w.running(j, handle)
	requests := make([][]byte, b.N)
	for i := range requests {
		form := exchangeForm1(w.issuer.JobToken(j), d.ID, handle, k.audience).Encode()
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
func signatures(b *testing.B, k kind) func() error {
	ctx, issuer := context.Background(), lktest.NewIssuer(b)
	if err := issuer.Rotate(k.in); err != nil {
		b.Fatal(err)
	}
	v := identity.NewVerifier(identity.Options{})
	issuers := []identity.Issuer{{Provider: "github", Platform: "github", URL: issuer.URL, Audience: "x", Algorithms: []string{string(k.in)}, Longest: time.Hour}}
	raw := issuer.JobToken(lktest.GitHubJob{Audience: "x"})
	now := lockkeeper.MomentOf(time.Now())
	key, err := token.NewSigningKey(rand.Reader, k.out)
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

func benchSignatures(b *testing.B, k kind) {
	work := signatures(b, k)
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

func benchFloor(b *testing.B, k kind) {
	ctx, work, now := context.Background(), signatures(b, k), lockkeeper.MomentOf(time.Now())
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
