package check

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/trust/bundlefile"
)

// TrustAnswer is what `hallmark trust show --json` prints, and what the text is
// made of. docs/json.md, "trust show", says the same.
type TrustAnswer struct {
	File       string              `json:"file"`
	Exists     bool                `json:"exists"`
	Generation string              `json:"generation"` // SHA-256 of all of it
	Roots      []rootAnswer        `json:"sigstoreRoots"`
	Keys       []trustedKey        `json:"keys,omitempty"`
	Pins       []pinAnswer         `json:"pins,omitempty"`
	Stores     []storeAnswer       `json:"stores,omitempty"`
	Statements []statementAnswer   `json:"trustPolicy,omitempty"`
	CRLs       []crlAnswer         `json:"crls,omitempty"`
	OCSP       int                 `json:"ocspResponses,omitempty"`
	Revoked    *bundlefile.Revoked `json:"revoked,omitempty"`
	Witnesses  []string            `json:"witnesses,omitempty"`
	Quorum     int                 `json:"witnessQuorum,omitempty"`
	Warnings   []policy.Reason     `json:"warnings,omitempty"`
}

type rootAnswer struct {
	Name      string        `json:"name"`
	Source    string        `json:"source"`
	FetchedAt time.Time     `json:"fetchedAt"`
	Expires   *time.Time    `json:"expires,omitempty"`
	Parties   []partyAnswer `json:"parties"`
}

// partyAnswer is one party of a trusted root.
type partyAnswer struct {
	Role  string     `json:"role"` // ca, log, ctLog, tsa
	Party string     `json:"party"`
	From  time.Time  `json:"from"`
	Until *time.Time `json:"until,omitempty"`
}

type trustedKey struct {
	Name      string     `json:"name"`
	Key       string     `json:"key"` // "sha256:…"
	Algorithm string     `json:"algorithm"`
	From      *time.Time `json:"from,omitempty"`
	Until     *time.Time `json:"until,omitempty"`
}

type pinAnswer struct {
	Repository       string    `json:"repository"`
	Identity         string    `json:"identity,omitempty"`
	Issuer           string    `json:"issuer,omitempty"`
	SourceRepository string    `json:"sourceRepository,omitempty"`
	Log              string    `json:"log,omitempty"`
	Key              string    `json:"key,omitempty"`
	PinnedAt         time.Time `json:"pinnedAt"`
}

type storeAnswer struct {
	Store        string              `json:"store"` // TYPE:NAME
	Certificates []certificateAnswer `json:"certificates"`
}

type certificateAnswer struct {
	Subject string    `json:"subject"`
	SHA256  string    `json:"sha256"`
	From    time.Time `json:"from"`
	Until   time.Time `json:"until"`
}

type statementAnswer struct {
	Name   string   `json:"name"`
	Scopes []string `json:"registryScopes"`
	Level  string   `json:"level"`
	Stores []string `json:"trustStores"`
}

type crlAnswer struct {
	Issuer     string    `json:"issuer"`
	URL        string    `json:"url,omitempty"`
	SHA256     string    `json:"sha256"`
	Revoked    int       `json:"revokedCertificates"`
	NextUpdate time.Time `json:"nextUpdate"`
}

func (t *trustCommands) show() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "show",
		Short: "Show who is believed, for what and until when",
		Long:  "Show in words what the trust bundle holds, and what is believed where it says nothing.",
		Example: `  hallmark trust show
  hallmark trust show --trust team-trust.json --json`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			answer, _, err := t.answer()
			if err != nil {
				return err
			}
			if asJSON {
				return t.PrintJSON(answer)
			}
			t.print(answer)
			for _, w := range answer.Warnings {
				t.Warn("[%s] %s", w.Code, cli.OneLine(w.Message))
				t.Say("  hint: %s", cli.OneLine(w.Hint))
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

// effective is the bundle as verify uses it: without roots, with the embedded one.
func effective(f *bundlefile.File) (*bundlefile.File, error) {
	if len(f.Roots) > 0 {
		return f, nil
	}
	embedded, err := bundlefile.Embedded()
	if err != nil {
		return nil, err
	}
	whole := *f
	whole.Roots = embedded.Roots
	_, err = whole.Encode()
	return &whole, err
}

func (t *trustCommands) answer() (*TrustAnswer, *bundlefile.File, error) {
	path, _, err := t.TrustPath(t.file)
	if err != nil {
		return nil, nil, err
	}
	f, err := t.TrustBundle(t.file)
	if err != nil {
		return nil, nil, err
	}
	generation, err := f.Generation()
	if err != nil {
		return nil, nil, err
	}
	_, missing := os.Stat(path)
	f, err = effective(f)
	if err != nil {
		return nil, nil, err
	}
	a := &TrustAnswer{File: path, Exists: missing == nil, Generation: generation, Roots: rootAnswers(f), Revoked: f.Revoked,
		Witnesses: f.Witnesses, Quorum: f.Quorum, Warnings: f.Staleness(time.Now())}
	for i, k := range f.PublicKeys() {
		a.Keys = append(a.Keys, trustedKey{k.Name, k.Fingerprint, algorithm(k.Public), f.Keys[i].From, f.Keys[i].Until})
	}
	for _, p := range f.Pins {
		a.Pins = append(a.Pins, pinAnswer{p.Repository, p.Identity, p.Issuer, p.SourceRepository, p.Log, p.Fingerprint(), p.PinnedAt})
	}
	a.notary(f)
	return a, f, nil
}

func rootAnswers(f *bundlefile.File) []rootAnswer {
	out := []rootAnswer{}
	for i, parsed := range f.SigstoreRoots() {
		r := f.Roots[i]
		answer := rootAnswer{Name: r.Name, Source: r.Source.String(), FetchedAt: r.FetchedAt, Expires: r.Expires, Parties: []partyAnswer{}}
		add := func(role, party string, w trust.Window) {
			p := partyAnswer{Role: role, Party: party, From: w.Start.UTC()}
			if !w.End.IsZero() {
				end := w.End.UTC()
				p.Until = &end
			}
			answer.Parties = append(answer.Parties, p)
		}
		for _, a := range parsed.CAs {
			add("ca", a.Name(), a.ValidFor)
		}
		for _, l := range parsed.TLogs {
			add("log", l.BaseURL, l.ValidFor)
		}
		for _, l := range parsed.CTLogs {
			add("ctLog", l.BaseURL, l.ValidFor)
		}
		for _, a := range parsed.TSAs {
			add("tsa", a.Name(), a.ValidFor)
		}
		out = append(out, answer)
	}
	return out
}

func (a *TrustAnswer) notary(f *bundlefile.File) {
	if f.Notary == nil {
		return
	}
	if p := f.Notation().Policy; p != nil {
		for _, s := range p.Statements {
			stores := []string{}
			for _, n := range s.Stores {
				stores = append(stores, n.String())
			}
			a.Statements = append(a.Statements, statementAnswer{s.Name, s.Scopes, s.Level, stores})
		}
	}
	for _, s := range f.Notary.Stores {
		store := storeAnswer{Store: s.Type + ":" + s.Name, Certificates: []certificateAnswer{}}
		for _, der := range s.Certificates {
			if cert, err := x509.ParseCertificate(der); err == nil { // the bundle was checked
				store.Certificates = append(store.Certificates, certificateAnswer{cert.Subject.String(), sum(der), cert.NotBefore, cert.NotAfter})
			}
		}
		a.Stores = append(a.Stores, store)
	}
	for _, c := range f.Notary.CRLs {
		if list, err := x509.ParseRevocationList(c.DER); err == nil {
			a.CRLs = append(a.CRLs, crlAnswer{list.Issuer.String(), c.URL, sum(c.DER), len(list.RevokedCertificateEntries), list.NextUpdate})
		}
	}
	a.OCSP = len(f.Notary.OCSP)
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

func algorithm(public any) string {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		return "ECDSA " + k.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", k.N.BitLen())
	}
	return "unknown"
}

// between is a window in words.
func between(from, until *time.Time) string {
	switch {
	case from != nil && until != nil:
		return cli.Stamp(*from) + " to " + cli.Stamp(*until)
	case from != nil:
		return "from " + cli.Stamp(*from) + " on"
	case until != nil:
		return "until " + cli.Stamp(*until)
	}
	return "always"
}

// roles are what the parties of a trusted root are believed about.
var roles = map[string]string{
	"ca":    "who holds a signing key",
	"log":   "what was signed in public",
	"ctLog": "which certificates were issued",
	"tsa":   "when something was signed",
}

func (t *trustCommands) print(a *TrustAnswer) {
	if a.Exists {
		t.Print("Trust bundle %s", cli.Plain(a.File))
	} else {
		t.Print("There is no trust bundle %s: what is embedded in hallmark is believed.", cli.Plain(a.File))
	}
	for _, r := range a.Roots {
		t.Print("")
		t.Print("Sigstore %s, %s", cli.Plain(r.Name), cli.Plain(r.Source))
		if r.Expires != nil {
			t.Print("  vouched for until %s", cli.Stamp(*r.Expires))
		}
		for _, p := range r.Parties {
			t.Print("  believed about %-31s %s, %s", roles[p.Role]+":", cli.Plain(p.Party), between(&p.From, p.Until))
		}
	}
	for _, k := range a.Keys {
		t.Print("")
		t.Print("Key %s, %s", cli.Plain(k.Name), k.Algorithm)
		t.Print("  %s", k.Key)
		t.Print("  believed %s", between(k.From, k.Until))
	}
	for _, p := range a.Pins {
		t.Print("")
		t.Print("Images of %s must be signed by", cli.Plain(p.Repository))
		t.printSigner(p.Identity, p.Issuer, p.SourceRepository, p.Log, p.Key)
		t.Print("  pinned on %s", cli.Stamp(p.PinnedAt))
	}
	t.printNotary(a)
	t.printRevoked(a.Revoked)
	if a.Quorum > 0 {
		t.Print("")
		t.Print("Of the witnesses %s, %d must have cosigned a log", cli.Plain(strings.Join(witnessNames(a.Witnesses), ", ")), a.Quorum)
	}
}

// printSigner prints who signs, in the lines that trust pin shows, too.
func (t *trustCommands) printSigner(identity, issuer, source, log, key string) {
	line := func(label, value string) {
		if value != "" {
			t.Print("  %-13s%s", label, cli.Plain(value))
		}
	}
	line("identity", identity)
	line("vouched by", issuer)
	line("source", source)
	line("key", key)
	line("log", log)
}

func witnessNames(vkeys []string) []string {
	var out []string
	for _, v := range vkeys {
		name, _, _ := strings.Cut(v, "+")
		out = append(out, name)
	}
	return out
}

func (t *trustCommands) printNotary(a *TrustAnswer) {
	for _, s := range a.Statements {
		t.Print("")
		t.Print("Notation statement %s for %s: level %s", cli.Plain(s.Name), cli.Plain(strings.Join(s.Scopes, ", ")), cli.Plain(s.Level))
		if len(s.Stores) > 0 {
			t.Print("  believes the stores %s", cli.Plain(strings.Join(s.Stores, ", ")))
		}
	}
	for _, s := range a.Stores {
		t.Print("")
		t.Print("Notation store %s", cli.Plain(s.Store))
		for _, c := range s.Certificates {
			t.Print("  %s, until %s", cli.Plain(c.Subject), cli.Stamp(c.Until))
		}
	}
	for _, c := range a.CRLs {
		t.Print("")
		t.Print("Revocation list of %s: %d certificates, to be replaced by %s", cli.Plain(c.Issuer), c.Revoked, cli.Stamp(c.NextUpdate))
	}
	if a.OCSP > 0 {
		t.Print("")
		t.Print("%d OCSP responses are kept", a.OCSP)
	}
}

func (t *trustCommands) printRevoked(r *bundlefile.Revoked) {
	if r == nil {
		return
	}
	line := func(what string, since time.Time, reason string) {
		t.Print("  %s since %s: %s", cli.Plain(what), cli.Stamp(since), cli.Plain(reason))
	}
	t.Print("")
	t.Print("Revoked")
	for _, d := range r.Digests {
		line(string(d.Digest), d.Since, d.Reason)
	}
	for _, d := range r.Identities {
		line(d.Identity+" (issuer "+d.Issuer+")", d.Since, d.Reason)
	}
	for _, d := range r.Keys {
		line("key "+d.Key, d.Since, d.Reason)
	}
}
