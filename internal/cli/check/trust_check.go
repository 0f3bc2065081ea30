package check

import (
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/loopback"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/trust/bundlefile"
)

// Codes of trust check (docs/reasons.md).
const (
	CodeTrustExpired  = "TRUST_EXPIRED"   // not believed any more at this time
	CodeTrustWeak     = "TRUST_WEAK"      // weak or odd
	CodeTrustEndsSoon = "TRUST_ENDS_SOON" // ends within 30 days
)

// TrustCheckAnswer is what `hallmark trust check --json` prints. docs/json.md,
// "trust check", says the same.
type TrustCheckAnswer struct {
	File     string          `json:"file"`
	OK       bool            `json:"ok"`                // nothing has expired
	Reasons  []policy.Reason `json:"reasons,omitempty"` // what has expired
	Warnings []policy.Reason `json:"warnings,omitempty"`
}

// soon is how long before its end something is warned about.
const soon = 30 * 24 * time.Hour

func (t *trustCommands) check() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "check",
		Short: "Check the trust bundle for what has expired, ends soon or is weak",
		Long: `Read the trust bundle strictly and say what in it has expired (exit code 3), ends
within 30 days, is weak or odd.`,
		Example: `  hallmark trust check
  hallmark trust check --trust team-trust.json --json`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error { return t.runCheck(asJSON, time.Now()) },
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func (t *trustCommands) runCheck(asJSON bool, now time.Time) error {
	path, _, err := t.TrustPath(t.file)
	if err != nil {
		return err
	}
	f, err := t.TrustBundle(t.file)
	if err != nil {
		return err
	}
	if f, err = effective(f); err != nil {
		return err
	}
	r := examine(f, now)
	r.permissions(path)
	answer := TrustCheckAnswer{File: path, OK: len(r.expired) == 0, Reasons: r.expired, Warnings: r.warnings}
	if asJSON {
		if err := t.PrintJSON(answer); err != nil {
			return err
		}
	}
	for _, w := range r.warnings {
		t.Warn("[%s] %s", w.Code, cli.OneLine(w.Message))
		if w.Hint != "" {
			t.Say("  hint: %s", cli.OneLine(w.Hint))
		}
	}
	if !answer.OK {
		return t.Deny(policy.Deny(r.expired...))
	}
	if !asJSON {
		t.Print("%s: nothing has expired", cli.Plain(path))
	}
	return nil
}

// examined is what trust check finds.
type examined struct {
	now               time.Time
	expired, warnings []policy.Reason
}

func (e *examined) expire(subject, hint, format string, args ...any) {
	e.expired = append(e.expired, policy.Reason{Code: CodeTrustExpired, Subject: subject, Hint: hint, Message: fmt.Sprintf(format, args...)})
}

func (e *examined) warn(code, subject, hint, format string, args ...any) {
	e.warnings = append(e.warnings, policy.Reason{Code: code, Subject: subject, Hint: hint, Message: fmt.Sprintf(format, args...)})
}

// end tells what has ended or will soon.
func (e *examined) end(subject, hint string, until time.Time) {
	switch {
	case e.now.After(until):
		e.expire(subject, hint, "%s was believed until %s", subject, cli.Stamp(until))
	case e.now.Add(soon).After(until):
		e.warn(CodeTrustEndsSoon, subject, hint, "%s is believed only until %s", subject, cli.Stamp(until))
	}
}

func examine(f *bundlefile.File, now time.Time) *examined {
	e := &examined{now: now, expired: f.Staleness(now)}
	for i, root := range f.SigstoreRoots() {
		e.root(f.Roots[i], root)
	}
	for _, k := range f.PublicKeys() {
		if !k.ValidFor.End.IsZero() {
			e.end("the key "+k.Name, "make a new one with hallmark key generate, and add it before this one ends", k.ValidFor.End)
		}
	}
	e.revoked(f)
	if f.Notary != nil {
		e.notary(f.Notary)
	}
	return e
}

// root wants one authority of each kind that is still believed, and tells when
// the last one ends.
func (e *examined) root(r bundlefile.Root, root *trust.Root) {
	subject := "the trust root " + r.Name
	const hint = "its operator must publish new authorities; then hallmark trust update"
	var last time.Time
	open := len(root.CAs) == 0
	for _, a := range root.CAs {
		end := a.ValidFor.End
		if end.IsZero() || a.Anchor.NotAfter.Before(end) {
			end = a.Anchor.NotAfter
		}
		if end.After(last) {
			last = end
		}
	}
	if !open {
		e.end(subject, hint, last)
	}
	for kind, n := range map[string]int{"certificate authority": len(root.CAs), "log": len(root.TLogs), "certificate log": len(root.CTLogs)} {
		if n == 0 {
			e.warn(CodeTrustWeak, subject, "it proves nothing about keyless signatures", "%s has no %s", subject, kind)
		}
	}
	if u, err := url.Parse(r.Source.Mirror); err == nil && u.Scheme == "http" && !loopback.Host(u.Host) {
		e.warn(CodeTrustWeak, subject, "TUF holds all the same, but use https where there is", "%s is fetched in plain HTTP", subject)
	}
}

// revoked tells what is believed and revoked at once.
func (e *examined) revoked(f *bundlefile.File) {
	r := f.Revocations()
	keys := map[string]bool{}
	for _, k := range r.Keys {
		keys[k.Key] = true
	}
	for _, k := range f.PublicKeys() {
		if keys[k.Fingerprint] {
			e.warn(CodeTrustWeak, "the key "+k.Name, "", "the key %s is revoked; what it signed before counts only with a trusted time", k.Name)
		}
	}
	for _, p := range f.Pins {
		gone := keys[p.Fingerprint()]
		for _, i := range r.Identities {
			gone = gone || i.Identity == p.Identity && i.Issuer == p.Issuer
		}
		if gone {
			e.warn(CodeTrustWeak, p.Repository, "ask the publisher who signs now; hallmark trust remove takes the pin away", "%s is pinned to %s, who is revoked", p.Repository, p.Signer())
		}
	}
}

func (e *examined) notary(n *bundlefile.Notary) {
	for _, s := range n.Stores {
		for _, der := range s.Certificates {
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				continue // the bundle was checked
			}
			subject := fmt.Sprintf("the certificate %s in store %s:%s", cert.Subject, s.Type, s.Name)
			e.end(subject, "ask its owner for the one that replaces it", cert.NotAfter)
			if e.now.Before(cert.NotBefore) {
				e.warn(CodeTrustWeak, subject, "check this machine's clock", "%s is valid only from %s on", subject, cli.Stamp(cert.NotBefore))
			}
			if k, ok := cert.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() < 2048 {
				e.warn(CodeTrustWeak, subject, "signatures under it are refused; ask its owner for a stronger one", "%s has an RSA key of %d bits", subject, k.N.BitLen())
			}
			if cert.SignatureAlgorithm == x509.SHA1WithRSA || cert.SignatureAlgorithm == x509.ECDSAWithSHA1 {
				e.warn(CodeTrustWeak, subject, "ask its owner for one that is signed with SHA-256", "%s is signed with SHA-1", subject)
			}
		}
	}
}

// permissions tells when others than the owner could change what is believed.
func (e *examined) permissions(path string) {
	for _, p := range []string{path, filepath.Dir(path)} {
		st, err := os.Stat(p)
		if err != nil || st.Mode().Perm()&0o022 == 0 || st.Mode()&os.ModeSticky != 0 {
			continue
		}
		e.warn(CodeTrustWeak, p, "chmod go-w "+cli.ShellQuote(p), "others than its owner may write to %s: whoever changes the trust bundle can make anything verify", p)
	}
}
