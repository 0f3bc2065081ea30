package git

import (
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/loopback"
)

// Location is where a repository is: exactly one of Path and URL is set.
type Location struct {
	Path string // absolute path on this machine
	URL  string // https, ssh, or http to this machine; without password
}

var scpLike = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^([A-Za-z0-9_][A-Za-z0-9_.-]*@[A-Za-z0-9][A-Za-z0-9.-]*):([^/:][^:]*)$`)
})

// ParseLocation reads a path, an https:// or ssh:// URL, http:// to loopback
// (to other hosts with plainHTTP), or user@host:path. Transports that run
// commands, passwords in URLs, and queries are refused.
func ParseLocation(s string, plainHTTP bool) (Location, error) {
	switch {
	case s == "" || strings.HasPrefix(s, "-") || strings.ContainsAny(s, "\x00\n\r"):
		return Location{}, fault.Usagef("source %q: want the path or URL of a git repository", clip(s))
	case strings.Contains(s, "::"):
		return Location{}, fault.Usagef("source %q: remote helpers (name::address) are not accepted", clip(s))
	}
	if m := scpLike().FindStringSubmatch(s); m != nil {
		s = "ssh://" + m[1] + "/" + m[2]
	}
	if !strings.Contains(s, "://") {
		abs, err := filepath.Abs(s)
		if err == nil {
			abs, err = filepath.EvalSymlinks(abs)
		}
		if err != nil {
			return Location{}, fault.Usagef("source %q: %v", clip(s), err)
		}
		return Location{Path: abs}, nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || strings.HasPrefix(u.Host, "-") || u.RawQuery != "" || u.Fragment != "" {
		return Location{}, fault.Usagef("source: not a URL of a git repository: https://HOST/PATH without query and fragment")
	}
	if _, secret := u.User.Password(); secret || u.User != nil && (u.Scheme != "ssh" || strings.HasPrefix(u.User.Username(), "-")) {
		return Location{}, fault.Hint(fault.Usagef("source: a URL with a login in it is not accepted"), "put the login into ~/.netrc")
	}
	switch u.Scheme {
	case "https", "ssh":
	case "http":
		if !plainHTTP && !loopback.Host(u.Host) {
			return Location{}, fault.Hint(fault.Usagef("source: plain HTTP to %s, which is not this machine", u.Host), "use https")
		}
	default:
		return Location{}, fault.Usagef("source: scheme %q is not accepted: want https, ssh, or a path", clip(u.Scheme))
	}
	return Location{URL: u.String()}, nil
}

// String is the location as it stands in the policy's input and in provenance.
func (l Location) String() string {
	if l.Path != "" {
		return "file://" + l.Path
	}
	return l.URL
}

// Host names the other side in messages.
func (l Location) Host() string {
	if u, err := url.Parse(l.URL); err == nil && u.Host != "" {
		return u.Host
	}
	return l.Path
}

// argument is how git is told: never something that begins with a dash.
func (l Location) argument() string {
	if l.Path != "" {
		return l.Path
	}
	return l.URL
}

func (l Location) protocol() string {
	if l.Path != "" {
		return "file"
	}
	scheme, _, _ := strings.Cut(l.URL, ":")
	return scheme
}
