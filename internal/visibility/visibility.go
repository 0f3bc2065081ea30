// Package visibility tells whether everybody may see what is about to be signed: an
// image, the repository that it is built from, the project whose job signs. It asks
// the registry and the git server as somebody without a login, so that its answer is
// theirs and not a setting that somebody forgot.
//
// What is found is why something is private, a sentence without its end, "" when
// everybody may see it or nothing says otherwise. An error means that it could not be
// found out. Not trusted: who runs the registry or the git server can say that what
// is private is public; it has what it says so about.
package visibility

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/idtoken"
	"github.com/hallmark-dev/hallmark/internal/loopback"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// Image looks whether a registry shows an image to everybody. anonymous has no logins.
// Nothing is known about an image in a folder or file.
func Image(ctx context.Context, anonymous *registry.Client, ref registry.Ref) (private string, err error) {
	if ref.Scheme != registry.SchemeRegistry {
		return "", nil
	}
	if private, err = Registry(ctx, ref); err != nil || private != "" {
		return private, err
	}
	shown, err := anonymous.Shows(ctx, ref)
	if err != nil || shown {
		return "", err
	}
	return fmt.Sprintf("the registry shows %s to nobody without a login", ref), nil
}

// Registry looks whether the registry of an image is one that everybody can reach.
func Registry(ctx context.Context, ref registry.Ref) (private string, err error) {
	where, err := within(ctx, ref.Host)
	if where != "" {
		private = fmt.Sprintf("the registry %s is %s", ref.Host, where)
	}
	return private, err
}

// Repository looks whether everybody can see the ref that was fetched, as the object
// that it is: at its URL, or at a remote of a repository on this machine.
func Repository(ctx context.Context, s *git.Source) (private string, err error) {
	private = fmt.Sprintf("no remote of the repository %s is one that others can reach", s.Location)
	for _, remote := range s.Remotes(ctx) {
		where, err := within(ctx, remote.Host())
		if err != nil {
			return "", err
		} else if where != "" {
			private = fmt.Sprintf("the git server %s is %s", remote.Host(), where)
			continue
		}
		shown, why, err := s.ShownAt(ctx, remote)
		if err != nil || shown {
			return "", err
		}
		private = fmt.Sprintf("the repository %s does not show %s to everybody (%s)", remote, s.Git.Ref, why)
	}
	return private, nil
}

// Project is what a CI system says of the job's project in its identity token:
// repository_visibility of GitHub ("OpenID Connect reference") and project_visibility
// of GitLab ("OpenID Connect authentication using ID tokens"). A claim that is there
// and says anything but public is private.
func Project(t idtoken.Token) (private string) {
	for _, c := range []struct{ claim, name string }{{"repository_visibility", "repository"}, {"project_visibility", "project_path"}} {
		if _, there := t.Claims[c.claim]; !there {
			continue
		}
		if v, ok := t.Text(c.claim); !ok || v != "public" {
			of, _ := t.Text(c.name)
			return fmt.Sprintf("the identity token says that the project %s is not public (%s)", of, c.claim)
		}
	}
	return ""
}

// lookup is how long the address of a host is looked for.
const lookup = 3 * time.Second

// inner are names that are not on the internet: RFC 6762 (.local), RFC 8375
// (home.arpa), what ICANN keeps for private networks (.internal), and what is in use
// for them though nobody keeps it.
var inner = [...]string{"local", "localdomain", "home.arpa", "internal", "intranet", "private", "corp", "lan", "home"}

// within says where a host is when it is not on the internet: on this machine, or, by
// its name or by all of its addresses, in a network that is not routed (RFC 1918, 4193,
// 6598). A name that cannot be looked up is an error, unless a proxy looks it up for
// this machine: such a name may be anywhere, and only asking tells.
func within(ctx context.Context, hostport string) (string, error) {
	if loopback.Host(hostport) {
		return "on this machine", nil
	}
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	var all []netip.Addr
	if ip, err := netip.ParseAddr(host); err == nil {
		all = []netip.Addr{ip}
	} else {
		if !strings.Contains(host, ".") || slices.ContainsFunc(inner[:], func(top string) bool { return strings.HasSuffix(host, "."+top) }) {
			return "in a private network", nil
		}
		ctx, cancel := context.WithTimeout(ctx, lookup)
		defer cancel()
		if all, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil {
			if proxied(hostport) {
				return "", nil
			}
			return "", fault.As(fault.Unreachable, fmt.Errorf("where %s is: %w", host, err))
		}
	}
	for _, ip := range all {
		if ip = ip.Unmap(); !ip.IsPrivate() && !ip.IsLoopback() && !ip.IsLinkLocalUnicast() && !shared().Contains(ip) {
			return "", nil
		}
	}
	return "in a private network", nil
}

// proxied says that requests to a host go through a proxy.
func proxied(hostport string) bool {
	proxy, err := http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: "https", Host: hostport}})
	return err == nil && proxy != nil
}

// shared is the address space of carriers' own networks (RFC 6598).
func shared() netip.Prefix { return netip.MustParsePrefix("100.64.0.0/10") }
