package effect

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

// What leaves Lockkeeper for an address that a catalog or a target names goes through
// one dialer: the address is judged at the moment at which it is dialled, after its
// name was resolved, so that a name which leads elsewhere the second time leads
// nowhere. There is no proxy of the environment, nothing is followed, and certificates
// are verified.

// A Reach is the networks beyond the public internet to which outside calls may go.
// The zero value is none.
type Reach struct{ networks []netip.Prefix }

// ParseReach reads networks in CIDR notation. Those of a link, where clouds answer with
// a machine's own credentials, are no networks that can be reached.
func ParseReach(list []string) (Reach, error) {
	var r Reach
	for _, text := range list {
		p, err := netip.ParsePrefix(text)
		if err != nil || p != p.Masked() {
			return Reach{}, fmt.Errorf("%.60q is no network such as 10.1.0.0/16 or 127.0.0.1/32", text)
		}
		if p.Addr().IsLinkLocalUnicast() || p.Addr().IsMulticast() || p.Addr().Is4In6() {
			return Reach{}, fmt.Errorf("%s is a network of a link, of groups, or of IPv4 inside of IPv6", p)
		}
		r.networks = append(r.networks, p)
	}
	return r, nil
}

// admits says which addresses an outside call may go to.
func (r Reach) admits(ip netip.Addr) bool {
	if ip.Zone() != "" || never(ip) {
		return false
	}
	return public(ip) || slices.ContainsFunc(r.networks, func(p netip.Prefix) bool { return p.Contains(ip) })
}

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range list {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

var (
	// metadata are the addresses, besides those of a link, at which clouds tell a
	// machine its own credentials.
	metadata = prefixes("fd00:ec2::/32", "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32")
	// sharedRange is what providers use behind their own translation (RFC 6598).
	sharedRange = netip.MustParsePrefix("100.64.0.0/10")
	// translated is IPv4 inside of IPv6 (RFC 6052, RFC 3056, RFC 4380, RFC 4291).
	translated = prefixes("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96")
	// special are networks that no service of the internet is in (RFC 6890).
	special = prefixes("0.0.0.0/8", "192.0.0.0/24", "192.0.2.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4", "100::/64", "2001:db8::/32", "fec0::/10")
)

func inside(ip netip.Addr, list []netip.Prefix) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// never reports whether nothing may go to an address, whoever allows it.
func never(ip netip.Addr) bool {
	return ip.IsUnspecified() || ip.IsMulticast() || ip.IsLinkLocalUnicast() || inside(ip, metadata) || !ip.IsLoopback() && inside(ip, translated)
}

// public reports whether an address is one of the internet.
func public(ip netip.Addr) bool {
	return ip.IsGlobalUnicast() && !ip.IsPrivate() && !sharedRange.Contains(ip) && !inside(ip, special) && !never(ip)
}

// errAddress refuses an address before anything is sent there.
var errAddress = errors.New("the address is not one that may be gone to")

// judged is a dialer that reaches addresses that admits takes.
func judged(admits func(netip.Addr) bool) *net.Dialer {
	return &net.Dialer{Timeout: 10 * time.Second, Control: func(_, at string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(at)
		if err != nil || !admits(to.Addr().Unmap()) {
			return errAddress
		}
		return nil
	}}
}

// outside is a client for addresses that admits takes.
func outside(admits func(netip.Addr) bool) *http.Client {
	transport := &http.Transport{DialContext: judged(admits).DialContext, DisableKeepAlives: true, DisableCompression: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: 10 * time.Second, MaxResponseHeaderBytes: maxAnswer}
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// loopbackHost reports whether a URL's host is this machine, by the way it is written.
func loopbackHost(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// unreachable tells apart what certainly never left us.
func unreachable(ctx context.Context, err error) error {
	var op *net.OpError
	switch {
	case errors.Is(err, errAddress):
		return &Failure{"address_refused", "The name of the service leads to an address that nothing may be sent to.", true}
	case errors.As(err, &op) && op.Op == "dial":
		return &Failure{"service_unreachable", "The service cannot be reached.", true}
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return &Failure{"service_unreachable", "The service broke off, or its certificate is not taken.", false}
}
