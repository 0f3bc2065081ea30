package idtoken

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/fault"
)

// DefaultClientID is the OAuth client and the token audience of Sigstore.
const DefaultClientID = "sigstore"

// Config says where a token may come from.
type Config struct {
	Flag     string              // --identity-token: a token, or a file that holds one
	Env      func(string) string // the environment; nil: empty
	Provider string              // only this ambient source, see [Providers]; "" finds one

	Issuer      string                               // URL of the OIDC issuer to log in at; "" cannot log in
	ClientID    string                               // OAuth client and audience; "" is "sigstore"
	Interactive bool                                 // a person at a terminal: without it, only Provider starts a login
	OpenBrowser func(url string) error               // nil: device flow only
	Say         func(format string, args ...any)     // talks to the person; nil: silent
	HTTPClient  *http.Client                         // nil: a plain one
	Now         func() time.Time                     // nil: time.Now
	Sleep       func(context.Context, time.Duration) // between device polls; nil: really
	PlainHTTP   bool                                 // plain HTTP to other machines is allowed
	Online      bool                                 // others' programs will have this machine's network: whom every process may ask is not asked
}

// source is one place that may have a token.
type source struct {
	name    string
	present func(*client) bool
	fetch   func(*client, context.Context) (string, error)
}

// sources in the order in which they are asked.
func sources() []source {
	return []source{
		{"github-actions", (*client).onGitHub, (*client).github},
		{"buildkite-agent", (*client).onBuildkite, (*client).buildkite},
		{"google", (*client).onGoogle, (*client).google},
		{"spiffe", (*client).onSPIFFE, (*client).spiffe},
	}
}

// Providers are the names that Config.Provider may have.
func Providers() []string {
	var names []string
	for _, s := range sources() {
		names = append(names, s.name)
	}
	return append(names, "browser", "device")
}

// Get finds a token: the flag, SIGSTORE_ID_TOKEN (where GitLab puts one too), a
// CI system or platform, and last a login with browser or device code. The first
// source that is there is used; if it fails, no other one is tried, because the
// user would sign under an identity that they did not expect. A login waits for a
// person: it starts when there is one (Interactive) or Provider asks for it, and a
// job with nobody at it fails at once. The token's times and audience are right for
// the CA when Get returns it.
func Get(ctx context.Context, cfg Config) (Token, error) {
	c := newClient(cfg)
	from, raw, err := c.find(ctx)
	if err != nil {
		return Token{}, err
	}
	t, err := Parse(strings.TrimSpace(raw))
	if err != nil {
		return Token{}, fmt.Errorf("%s: %w", from, err)
	}
	if err := Check(t, c.ClientID, c.Now()); err != nil {
		return Token{}, fault.Hint(fmt.Errorf("%s: %w", from, err), "get a new token with the audience %s", c.ClientID)
	}
	return t, nil
}

// Check refuses a token that the CA would refuse: expired, not yet valid, or for
// somebody else. The error names the claim.
func Check(t Token, clientID string, now time.Time) error {
	if !now.Before(t.Expiry) {
		return fmt.Errorf(`identity token: claim "exp": expired at %s, now it is %s`,
			t.Expiry.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	notBefore, err := t.Time("nbf")
	if err != nil {
		return fmt.Errorf("identity token: %w", err)
	}
	const skew = time.Minute
	if notBefore.After(now.Add(skew)) {
		return fmt.Errorf(`identity token: claim "nbf": not valid before %s, now it is %s`,
			notBefore.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	if !slices.Contains(t.Audience, clientID) {
		return fmt.Errorf(`identity token: claim "aud": the token is not for %q`, clientID)
	}
	if v, ok := t.Claims["email_verified"]; ok && t.Email != "" && string(v) != "true" && string(v) != `"true"` {
		return fmt.Errorf(`identity token: claim "email_verified": the issuer did not verify the e-mail address`)
	}
	return nil
}

// alone refuses a source that answers whoever has this machine's network, when others have.
func (c *client) alone(step string) error {
	if !c.Online {
		return nil
	}
	return fault.Hint(fault.Usagef("%s: steps of the build have this machine's network, and could get the same token", step),
		"build with --hermetic, or give the token in a file with --identity-token where no step can ask for one")
}

// find returns where a token comes from, for messages, and the token.
func (c *client) find(ctx context.Context) (from, raw string, err error) {
	if c.Flag != "" {
		raw, err = fromFlag(c.Flag)
		return "--identity-token", raw, err
	}
	if c.Provider != "" {
		raw, err = c.provider(ctx)
		return "provider " + c.Provider, raw, err
	}
	if v := c.Env("SIGSTORE_ID_TOKEN"); v != "" {
		return "SIGSTORE_ID_TOKEN", v, nil
	}
	for _, s := range sources() {
		if s.present(c) {
			raw, err = s.fetch(c, ctx)
			return s.name, raw, err
		}
	}
	if c.Issuer == "" {
		return "", "", fault.Hint(fault.Usagef("no identity token, and no issuer to log in at"),
			"give --identity-token or SIGSTORE_ID_TOKEN, or a signing configuration that names an OIDC issuer")
	}
	if !c.Interactive {
		return "", "", fault.Hint(fault.Usagef("no identity token, and nobody at a terminal to log in as"),
			"give --identity-token or SIGSTORE_ID_TOKEN, or sign with --key; --identity-provider device shows an address and waits for a login there")
	}
	if c.OpenBrowser != nil {
		raw, err = c.browser(ctx)
		return "browser login", raw, err
	}
	raw, err = c.device(ctx)
	return "device login", raw, err
}

func (c *client) provider(ctx context.Context) (string, error) {
	switch c.Provider {
	case "browser":
		return c.browser(ctx)
	case "device":
		return c.device(ctx)
	}
	for _, s := range sources() {
		if s.name == c.Provider {
			return s.fetch(c, ctx)
		}
	}
	return "", fault.Usagef("no identity provider is called %q; there are %s", c.Provider, strings.Join(Providers(), ", "))
}

// fromFlag takes what has a token's shape as a token and everything else as a
// file name. A mistyped token can look like any file name, so no error repeats
// the value, nor what the system says about it but for the cause.
func fromFlag(value string) (string, error) {
	value = strings.TrimSpace(value)
	if strings.Count(value, ".") == 2 && strings.HasPrefix(value, "ey") { // base64url of {"
		return value, nil
	}
	if len(value) > 1024 {
		return "", errNeither()
	}
	f, err := os.Open(value)
	if err != nil && (strings.Contains(value, "eyJ") || strings.Count(value, ".") == 2 && !strings.ContainsAny(value, "/ ")) {
		return "", errNeither() // a token with something around it, or most of one
	}
	if err != nil {
		return "", fault.Hint(fmt.Errorf("--identity-token: the file cannot be opened: %w", cause(err)), "%s", neitherHint)
	}
	defer func() { _ = f.Close() }()
	data := make([]byte, MaxSize+2)
	n, err := readFull(f, data)
	if err != nil {
		return "", fmt.Errorf("--identity-token: the file cannot be read: %w", cause(err))
	}
	if n > MaxSize+1 {
		return "", errors.New("--identity-token: the file is larger than a token can be")
	}
	return string(data[:n]), nil
}

const neitherHint = "give the token alone, without a word like Bearer before it, or the name of a file that holds it"

func errNeither() error {
	return fault.Hint(fault.Usagef("--identity-token is neither a token (three parts with dots between them) nor a file name"), "%s", neitherHint)
}

// cause is an error of the file system without the name of the file.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return errors.New("it cannot be used") // never the text of an error that may name it
}
