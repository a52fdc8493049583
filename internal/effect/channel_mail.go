package effect

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/wneessen/go-mail"
)

// mail sends one message to one user. smtps is TLS from the beginning, smtp must become
// TLS before anything is said; only to this machine itself it may stay in the clear, and
// then without a password.
func (c channels) mail(ctx context.Context, f channelFile, u *url.URL, d keeper.Delivery) error {
	to, err := f.addressOf(d)
	if err != nil {
		return err
	}
	msg, err := c.letter(f, to, d)
	if err != nil {
		return err
	}
	client, err := c.mailer(f, u, d.Channel)
	if err != nil {
		return err
	}
	if err := client.DialAndSendWithContext(ctx, msg); err != nil {
		return mailFailure(ctx, err)
	}
	return nil
}

// addressOf is where mail for a user goes.
func (f channelFile) addressOf(d keeper.Delivery) (string, error) {
	to := f.Addresses[d.User]
	if to == "" && f.To != "" {
		to = strings.ReplaceAll(f.To, "{user}", d.User)
	}
	if a, err := netmail.ParseAddress(to); err != nil || a.Name != "" || a.Address != to {
		return "", &Failure{"address_unknown", "The file channel@" + d.Channel + " names no address of " + d.User + ".", true}
	}
	return to, nil
}

func (c channels) letter(f channelFile, to string, d keeper.Delivery) (*mail.Msg, error) {
	msg := mail.NewMsg(mail.WithNoDefaultUserAgent())
	if err := msg.From(f.From); err != nil {
		return nil, &Failure{"channel_unfit", "The file channel@" + d.Channel + " names no address that mail is from.", true}
	}
	if err := msg.To(to); err != nil {
		return nil, &Failure{"address_unknown", "The file channel@" + d.Channel + " names no address of " + d.User + ".", true}
	}
	host := "lockkeeper"
	if u, err := url.Parse(c.address); err == nil && u.Hostname() != "" {
		host = u.Hostname()
	}
	msg.SetMessageIDWithValue(d.ID + "@" + host) // the same at every attempt: a mailbox may show it once
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetGenHeader("X-Auto-Response-Suppress", "All")
	msg.SetDateWithValue(time.Now().UTC())
	msg.Subject(headline(d))
	msg.SetBodyString(mail.TypeTextPlain, c.body(d))
	return msg, nil
}

// body is plain text: nothing that people wrote is read as anything else.
func (c channels) body(d keeper.Delivery) string {
	var b strings.Builder
	for _, i := range d.Items {
		fmt.Fprintf(&b, "%s\n  since %s\n  %s\n\n", i.Text, i.At, c.link(i))
	}
	if d.More > 0 {
		fmt.Fprintf(&b, "and %d more: %s/open\n\n", d.More, c.address)
	}
	b.WriteString("This message is a hint; what waits for you is decided at the server, after you have signed in.\nNobody is asked to answer it, or to approve anything by following a link.\n")
	return b.String()
}

func (c channels) mailer(f channelFile, u *url.URL, channel string) (*mail.Client, error) {
	loopback, secure := loopbackHost(u.Hostname()), u.Scheme == "smtps"
	password, named := u.User.Password()
	if u.Scheme != "smtp" && !secure || u.Path != "" && u.Path != "/" || u.RawQuery != "" {
		return nil, &Failure{"channel_unfit", "The file channel@" + channel + " names no smtp or smtps address.", true}
	}
	port := 587
	if secure {
		port = 465
	}
	if p := u.Port(); p != "" {
		n, err := strconv.Atoi(p)
		if err != nil || n < 1 || n > 65535 {
			return nil, &Failure{"channel_unfit", "The file channel@" + channel + " names no port.", true}
		}
		port = n
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Hostname(), RootCAs: c.roots}
	dialer := judged(c.reach.admits)
	dial := func(ctx context.Context, network, at string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, at)
		if err != nil || !secure {
			return conn, err
		}
		t := tls.Client(conn, config)
		if err := t.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, err
		}
		return t, nil
	}
	policy := mail.TLSMandatory
	if secure || loopback && !named {
		policy = mail.NoTLS // the dialer has done it, or nothing leaves this machine
	}
	options := []mail.Option{mail.WithPort(port), mail.WithTimeout(tellLongest), mail.WithTLSConfig(config), mail.WithTLSPolicy(policy), mail.WithDialContextFunc(dial), mail.WithHELO("lockkeeper"), mail.WithoutNoop()}
	if named {
		auth := mail.SMTPAuthPlain
		if f.Auth == "login" {
			auth = mail.SMTPAuthLogin
		}
		options = append(options, mail.WithSMTPAuth(auth), mail.WithUsername(u.User.Username()), mail.WithPassword(password))
	}
	client, err := mail.NewClient(u.Hostname(), options...)
	if err != nil {
		return nil, &Failure{"channel_unfit", "The file channel@" + channel + " does not say how mail is sent.", true}
	}
	return client, nil
}

// mailFailure says what went wrong without what the server said: it may repeat what it
// was told.
func mailFailure(ctx context.Context, err error) error {
	var sent *mail.SendError
	if errors.As(err, &sent) {
		if code := sent.ErrorCode(); code > 0 {
			return &Failure{"service_refused", fmt.Sprintf("The mail server refused the message with the code %d.", code), false}
		}
		return &Failure{"service_refused", "The mail server did not take the message.", false}
	}
	return unreachable(ctx, err)
}
