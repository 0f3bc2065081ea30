package git

import (
	"context"
	"encoding/base64"
	"errors"
	"net/url"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/loopback"
)

// Login is what a git server over HTTP is shown: the value of an Authorization header. Its
// zero value is none. It prints as nothing.
type Login struct{ header string }

// maxLogin bounds a token or header, in bytes.
const maxLogin = 16 << 10

// TokenLogin is the login of a token, as GitHub, GitLab and BuildKit take one.
func TokenLogin(token string) (Login, error) {
	if err := plainLogin(token); err != nil {
		return Login{}, err
	}
	return Login{"basic " + base64.StdEncoding.EncodeToString([]byte("x-access-token:"+token))}, nil
}

// HeaderLogin is a login by the value of the Authorization header itself.
func HeaderLogin(header string) (Login, error) {
	kind, rest, ok := strings.Cut(header, " ")
	if err := plainLogin(rest); err != nil || !ok || kind == "" {
		return Login{}, fault.Usagef("a header for git: want SCHEME CREDENTIALS, as basic and base64")
	}
	return Login{header}, nil
}

// plainLogin refuses what could not be one line of a header; it repeats nothing of it.
func plainLogin(s string) error {
	if s == "" || len(s) > maxLogin || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fault.Usagef("a token for git: want printable ASCII without spaces, at most %d bytes", maxLogin)
	}
	return nil
}

// Header is the value of the Authorization header.
func (l Login) Header() string { return l.header }

// String keeps the login out of messages.
func (Login) String() string { return "…" }

// GoString, too.
func (Login) GoString() string { return "…" }

// TakesLogin reports whether a login may be shown to a remote: over https, or to this machine.
func TakesLogin(remote string) bool {
	u, err := url.Parse(remote)
	return err == nil && u.Host != "" && u.User == nil && (u.Scheme == "https" || u.Scheme == "http" && loopback.Host(u.Host))
}

// With is the same location, asked for with a login. Where somebody without one asks
// ([Source.ShownAt], [Location.At]) it counts for nothing.
func (l Location) With(login Login) Location {
	if TakesLogin(l.URL) {
		l.login = login
	}
	return l
}

// Answers is an error where the repository is not read at exactly this URL with the login: a
// redirect is not followed.
func (l Location) Answers(ctx context.Context) (err error) {
	r, err := newRunner(l)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.remove()) }()
	_, err = r.run(ctx, "asking "+l.String(), "ls-remote", "--quiet", "--end-of-options", l.argument(), "HEAD")
	return err
}

// environment tells git the login: not in arguments, which everybody on the machine can read.
// It is for the location's own repository; redirects are not followed.
func (l Location) environment() []string {
	if l.login == (Login{}) || l.resolve != "" {
		return nil
	}
	return []string{"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=http." + l.URL + ".extraHeader", "GIT_CONFIG_VALUE_0=Authorization: " + l.login.header}
}
