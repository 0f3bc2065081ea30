package git

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/loopback"
	"github.com/hallmark-dev/hallmark/internal/pattern"
)

// Location is where a repository is: exactly one of Path and URL is set.
type Location struct {
	Path string // absolute path on this machine
	URL  string // https, ssh, or http to this machine; without password

	login   Login  // over https
	resolve string // HOST:PORT:ADDRESSES for git's http.curloptResolve; it is asked without logins then: see At
}

var scpLike = pattern.New(`^([A-Za-z0-9_][A-Za-z0-9_.-]*@[A-Za-z0-9][A-Za-z0-9.-]*):([^/:][^:]*)$`)

// ParseLocation reads a path, an https:// or ssh:// URL, http:// to loopback
// (to other hosts with plainHTTP), or user@host:path. Transports that run
// commands, passwords in URLs, and queries are refused.
func ParseLocation(s string, plainHTTP bool) (Location, error) {
	switch {
	case s == "" || strings.HasPrefix(s, "-") || strings.ContainsAny(s, "\x00\n\r"):
		return Location{}, fault.Usagef("source %q: want the path or URL of a git repository", quoted(s))
	case strings.Contains(s, "::"):
		return Location{}, fault.Usagef("source %q: remote helpers (name::address) are not accepted", quoted(s))
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
			var pe *fs.PathError
			if errors.As(err, &pe) {
				err = pe.Err // the path is said, without what may be a login
			}
			return Location{}, fault.Usagef("source %q: %v", quoted(s), err)
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
		return Location{}, fault.Usagef("source: scheme %q is not accepted: want https, ssh, or a path", quoted(u.Scheme))
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

// At is the same location, which somebody else named: asked for at these addresses
// whatever its name resolves to later, not through a proxy, which would resolve the name
// itself, and without anybody's login. A git that cannot do so is an error.
func (l Location) At(ctx context.Context, addresses []netip.Addr) (Location, error) {
	u, err := url.Parse(l.URL)
	if err != nil || u.Scheme != "https" || len(addresses) == 0 {
		return Location{}, fmt.Errorf("%s cannot be asked for at given addresses", l.Host())
	}
	if err := resolves(ctx); err != nil {
		return Location{}, err
	}
	list := make([]string, len(addresses))
	for i, a := range addresses {
		if list[i] = a.String(); a.Is6() {
			list[i] = "[" + list[i] + "]"
		}
	}
	l.resolve = u.Hostname() + ":" + cmp.Or(u.Port(), "443") + ":" + strings.Join(list, ",")
	return l, nil
}

// resolves reports why git does not know http.curloptResolve, which came with 2.37 and
// which an older one passes over in silence.
func resolves(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "git", "version").Output()
	if err != nil {
		return fmt.Errorf("asking git for its version: %w", err)
	}
	m := gitVersion().FindSubmatch(out)
	if m == nil {
		return errors.New("git does not say its version")
	}
	major, _ := strconv.Atoi(string(m[1])) // digits, and few
	minor, _ := strconv.Atoi(string(m[2]))
	if major < 2 || major == 2 && minor < 37 {
		return fault.Hint(fmt.Errorf("this git (%d.%d) cannot be held to an address", major, minor), "use git 2.37 or newer")
	}
	return nil
}

var gitVersion = pattern.New(`^git version ([0-9]{1,4})\.([0-9]{1,4})`)

// quoted is what somebody wrote for a message: without secrets, and then short.
func quoted(s string) string { return clip(fault.Redact(s)) }

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
