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
	"net/netip"
	"strings"
	"time"

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
	if private = Registry(ctx, ref); private != "" {
		return private, nil
	}
	shown, err := anonymous.Shows(ctx, ref)
	if err != nil || shown {
		return "", err
	}
	return fmt.Sprintf("the registry shows %s to nobody without a login", ref), nil
}

// Registry looks whether the registry of an image is one that everybody can reach.
func Registry(ctx context.Context, ref registry.Ref) (private string) {
	if where := within(ctx, ref.Host); where != "" {
		private = fmt.Sprintf("the registry %s is %s", ref.Host, where)
	}
	return private
}

// Repository looks whether everybody can see the ref that was fetched, as the object
// that it is: at its URL, or at a remote of a repository on this machine.
func Repository(ctx context.Context, s *git.Source) (private string, err error) {
	private = fmt.Sprintf("no remote of the repository %s is one that others can reach", s.Location)
	for _, remote := range s.Remotes(ctx) {
		if where := within(ctx, remote.Host()); where != "" {
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

// within says where a host is when it is not on the internet: on this machine, or, by
// all of its addresses, in a network that is not routed (RFC 1918, 4193, 6598). A name
// that cannot be looked up, behind a proxy say, may be anywhere.
func within(ctx context.Context, hostport string) string {
	if loopback.Host(hostport) {
		return "on this machine"
	}
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	var all []netip.Addr
	if ip, err := netip.ParseAddr(host); err == nil {
		all = []netip.Addr{ip}
	} else {
		ctx, cancel := context.WithTimeout(ctx, lookup)
		defer cancel()
		if all, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil {
			return ""
		}
	}
	for _, ip := range all {
		if ip = ip.Unmap(); !ip.IsPrivate() && !ip.IsLoopback() && !ip.IsLinkLocalUnicast() && !shared().Contains(ip) {
			return ""
		}
	}
	return "in a private network"
}

// shared is the address space of carriers' own networks (RFC 6598).
func shared() netip.Prefix { return netip.MustParsePrefix("100.64.0.0/10") }
