package sourcefacts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
)

// Materials are named by provenance, which whoever pushed an image has written. What
// is fetched of them is therefore fetched as for a stranger: over TLS, from addresses
// that everybody reaches, with no more than these bounds for all of a Resolver.
const (
	maxMaterialBytes = 16 << 30
	maxMaterialTime  = 15 * time.Minute
	headerTimeout    = time.Minute // until a server begins to answer
)

// isMaterial reports whether the asks are about a material.
func isMaterial(asks []sourcepolicy.Ask) bool {
	return slices.ContainsFunc(asks, func(a sourcepolicy.Ask) bool { return a.Material })
}

// budget is what is left for materials.
type budget struct {
	mu    sync.Mutex
	bytes int64
	time  time.Duration
}

var errSpent = fmt.Errorf("the materials of this call's images are more than %d bytes, or took longer than %v", int64(maxMaterialBytes), maxMaterialTime)

// begin bounds one fetch by the time that is left; end takes what it took.
func (b *budget) begin(ctx context.Context) (bounded context.Context, end func(), err error) {
	b.mu.Lock()
	left := b.time
	spent := b.time <= 0 || b.bytes <= 0
	b.mu.Unlock()
	if spent {
		return nil, nil, errSpent
	}
	start := time.Now()
	bounded, cancel := context.WithTimeoutCause(ctx, left, errSpent)
	return bounded, func() {
		cancel()
		b.mu.Lock()
		defer b.mu.Unlock()
		b.time -= time.Since(start)
	}, nil
}

// whySpent says so when it was the budget that ended a fetch.
func whySpent(ctx, bounded context.Context, err error) error {
	if err != nil && ctx.Err() == nil && bounded.Err() != nil {
		return errSpent
	}
	return err
}

// take takes n bytes, and fails when there were fewer.
func (b *budget) take(n int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bytes -= int64(n); b.bytes < 0 {
		return errSpent
	}
	return nil
}

// within writes what the budget pays for.
type within struct {
	budget *budget
	to     io.Writer
}

func (w within) Write(p []byte) (int, error) {
	if err := w.budget.take(len(p)); err != nil {
		return 0, err
	}
	return w.to.Write(p)
}

// special are address blocks that not everybody reaches, or that lead to such, beside
// those that package netip knows (IANA's special-purpose address registries).
var special = func() (blocks []netip.Prefix) {
	for _, s := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24",
		"203.0.113.0/24", "240.0.0.0/4",
		"2001::/23",     // protocols: Teredo, benchmarks, ORCHID
		"2001:db8::/32", // documentation
		"2002::/16",     // 6to4: an IPv4 address is in it
		"3ffe::/16",     // the 6bone that was
		"3fff::/20",     // documentation
	} {
		blocks = append(blocks, netip.MustParsePrefix(s))
	}
	return blocks
}()

// unicast6 is all that IANA gives out of IPv6: what lies elsewhere is special or nobody's,
// as NAT64 (64:ff9b::/96), which leads to IPv4 addresses.
var unicast6 = netip.MustParsePrefix("2000::/3")

// public reports whether an address is one that everybody reaches.
func public(a netip.Addr) bool {
	a = a.Unmap()
	switch {
	case !a.IsValid() || a.Zone() != "" || !a.IsGlobalUnicast() || a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast():
		return false
	case a.Is6() && (!unicast6.Contains(a) || tunnels(a)):
		return false
	}
	return !slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(a) })
}

// tunnels reports whether an IPv6 address has an IPv4 address in it that a router may
// send it on to: ISATAP (RFC 5214).
func tunnels(a netip.Addr) bool {
	b := a.As16()
	return b[8]&^2 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe
}

// refuseInner is a dialer's: it sees the address after the name was resolved.
func refuseInner(_, address string, _ syscall.RawConn) error {
	a, err := netip.ParseAddrPort(address)
	if err != nil || !public(a.Addr()) {
		return errInner(address)
	}
	return nil
}

var errNotPublic = errors.New("nothing is fetched from inner addresses or this machine because an image's provenance names it")

func errInner(what string) error { return fmt.Errorf("it is at %s: %w", what, errNotPublic) }

// materialTransport speaks to public addresses alone, without a proxy, which would
// take the choice of the address away.
var materialTransport = sync.OnceValue(func() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy = nil
	t.DialContext = (&net.Dialer{Timeout: 30 * time.Second, Control: refuseInner}).DialContext
	t.ResponseHeaderTimeout = headerTimeout
	return t
})

// getMaterial downloads what provenance names.
func (r *Resolver) getMaterial(ctx context.Context, address string, to io.Writer) error {
	u, err := url.Parse(address)
	if err != nil {
		return errors.New("the URL cannot be read")
	}
	if u.Scheme != "https" {
		return errPlain(u.Scheme)
	}
	if err := plainHost(u.Hostname()); err != nil {
		return err
	}
	bounded, end, err := r.materials.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	err = r.getBy(bounded, materialTransport(), address, r.o.MaxBody, "", within{r.materials, to})
	return whySpent(ctx, bounded, err)
}

func errPlain(scheme string) error {
	return fmt.Errorf("provenance names it by %q: only https is used for what an image's provenance names", scheme)
}

// plainHost reports why a host is not the name that it seems to be. What looks names up
// does not agree on them: some take 2130706433, 0x7f000001, 0177.0.0.1 and 127.1 for
// 127.0.0.1, so what was judged would not be what is asked.
func plainHost(host string) error {
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	switch {
	case strings.Trim(strings.ToLower(host), "abcdefghijklmnopqrstuvwxyz0123456789.-_") != "", last == "":
		return fmt.Errorf("provenance names it at %q, which is no plain name of a host", host)
	case last[0] >= '0' && last[0] <= '9':
		return fmt.Errorf("provenance names it at %q, which is a number and no name of a host", host)
	}
	return nil
}

// publicAddresses are those of a host, which must all be public.
func publicAddresses(ctx context.Context, host string) ([]netip.Addr, error) {
	if err := plainHost(host); err != nil {
		return nil, err
	}
	list, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("looking %s up: %w", host, err)
	}
	for i, a := range list {
		if list[i] = a.Unmap(); !public(a) {
			return nil, errInner(a.String())
		}
	}
	return list, nil
}
