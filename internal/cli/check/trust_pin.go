package check

import (
	"context"
	"crypto"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/collect"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/gate"
	"github.com/hallmark-dev/hallmark/internal/key"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/trust/bundlefile"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

type pinOptions struct {
	identity, issuer, key string
	source, log           string // which of an identity's signatures
	fingerprint           string // of key, once it is read
	trustedRoot           string
	fromImage             bool // by the publisher's rule that is attached to the image
}

func (t *trustCommands) pin() *cobra.Command {
	o := &pinOptions{}
	c := &cobra.Command{
		Use:   "pin IMAGE",
		Short: "Look who signed an image, and demand exactly that signer from now on",
		Long: `Look who signed an image and since when, ask, and pin exactly that to its
repository: identity and issuer, the source repository where the certificate has
one, and the log; or a key. From then on hallmark verify needs no flag for any tag
or digest of the repository, and refuses what anybody else signed.

With --identity and --issuer, or --key, nobody is asked: pinned is that signer if
it signed, and else nothing. Without them and without a terminal nothing is pinned.
A pin is never replaced: another signer is refused until the pin is removed.

With --from-image the publisher says who signs, by a rule that hallmark policy rule
attached to the image: it is shown in words, and pinned. It speaks of its own
repository alone. Where somebody is pinned, a newer rule is followed if that signer
signed it, and nobody is asked.`,
		Example: `  hallmark trust pin 127.0.0.1:8420/app:1.0    # exit 2: shows who signed; there is no terminal to ask on
  hallmark trust pin 127.0.0.1:8420/app:1.0 --identity alice@example.com --issuer http://127.0.0.1:8420`,
		Args: cli.Args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, argv []string) error { return t.runPin(c.Context(), o, argv[0]) },
	}
	f := c.Flags()
	f.StringVar(&o.identity, "identity", "", "pin this `IDENTITY`, if it signed")
	f.StringVar(&o.issuer, "issuer", "", "`URL` of the issuer that vouched for the identity")
	f.StringVar(&o.key, "key", "", "pin the public key in `FILE`, if it signed")
	f.StringVar(&o.source, "source", "", "`URI` of the source repository, where the signer has several")
	f.StringVar(&o.log, "log", "", "`ORIGIN` of the log, where the signatures are in several")
	f.BoolVar(&o.fromImage, "from-image", false, "pin what the publisher's rule says, which is attached to the image")
	f.StringVar(&o.trustedRoot, "trusted-root", "", "`FILE` with the trust root; \"public\" is Sigstore's public instance")
	return c
}

// candidate is a signer of the image as it would be pinned.
type candidate struct {
	pin   bundlefile.Pin
	since time.Time // the earliest trusted time; zero: none
	seen  int
}

func (t *trustCommands) runPin(ctx context.Context, o *pinOptions, image string) error {
	ref, err := o.check(image)
	if err != nil {
		return err
	}
	bundle, err := t.TrustBundle(t.file)
	if err != nil {
		return err
	}
	if o.fromImage {
		return t.pinRule(ctx, o, bundle, ref)
	}
	result, keys, err := t.signedBy(ctx, o, bundle, ref, anybody{})
	if err != nil {
		return err
	}
	if !result.Decision.Allowed {
		denied := t.Deny(result.Decision)
		if nothingFound(result.Decision) {
			return cli.DeniedError{Nothing: true}
		}
		return denied
	}
	found, err := candidates(ref.Host+"/"+ref.Repository, result.Input.Signatures, keys)
	if err != nil {
		return err
	}
	t.printCandidates(ref, result, found)
	return t.choose(o, bundle, result, found)
}

func (o *pinOptions) check(image string) (registry.Ref, error) {
	ref, err := registry.ParseRef(image)
	switch {
	case err != nil:
		return ref, err
	case ref.Scheme != registry.SchemeRegistry:
		return ref, fault.Usagef("%s: a pin is about a repository in a registry; an image on disk has none", image)
	case (o.identity != "") != (o.issuer != ""):
		return ref, fault.Usagef("--identity and --issuer go together: an identity is who an issuer vouches for")
	case o.identity != "" && o.key != "":
		return ref, fault.Usagef("--key and an identity exclude each other: say which is to be pinned")
	}
	return ref, nil
}

// anybody is the policy of who only looks: a verified signature of anybody.
type anybody struct{}

// Evaluate allows what is signed.
func (anybody) Evaluate(_ context.Context, in policy.Input) (policy.Decision, error) {
	if len(in.Signatures) == 0 {
		return policy.Deny(policy.Reason{Code: gate.CodeNotSigned, Subject: string(in.Image.Digest), Message: "there is no signature of " + in.Image.Ref + " that verifies, so there is nobody to pin"}), nil
	}
	return policy.Decision{Allowed: true}, nil
}

// signedBy verifies what is attached to the image. keys are those that signers
// without a certificate may be pinned by, by their fingerprint.
func (t *trustCommands) signedBy(ctx context.Context, o *pinOptions, f *bundlefile.File, ref registry.Ref, p gate.Policy) (gate.Result, map[string]crypto.PublicKey, error) {
	var none gate.Result
	cfg, stale, err := t.Believed(ctx, f, o.trustedRoot, true)
	if err != nil {
		return none, nil, err
	}
	t.WarnOf(stale)
	windows := cfg.NamedKeys // of all keys of the trust bundle
	if o.key != "" {
		public, err := cli.ReadPublicKey(o.key)
		if err != nil {
			return none, nil, err
		}
		o.fingerprint = key.Fingerprint(public)
		cfg.NamedKeys = cli.InTheirWindows([]crypto.PublicKey{public}, windows)
	}
	if old, pinned := bundlefile.Pins(f.Pins).For(ref.Name()); o.fromImage && pinned { // who is pinned here signs the next rule
		cfg.NamedKeys = append(cfg.NamedKeys, cli.InTheirWindows(cli.PinnedKeys([]bundlefile.Pin{old}), windows)...)
	}
	keys := map[string]crypto.PublicKey{}
	for _, k := range cfg.NamedKeys {
		keys[key.Fingerprint(k.Public)] = k.Public
	}
	v, err := verify.New(cfg)
	if err != nil {
		return none, nil, err
	}
	client := t.RegistryClient()
	repo, err := client.Open(ctx, ref)
	if err != nil {
		return none, nil, err
	}
	var where collect.Options // as verify looks
	if where.SignatureRepository, err = t.SignatureRepository(ctx, client, ""); err != nil {
		return none, nil, err
	}
	result, err := gate.Image(ctx, gate.Request{Repo: repo, Ref: ref, Verifier: v, Policy: p, Now: time.Now, Collect: where})
	return result, keys, err
}

// candidates are the distinct signers of verified signatures.
func candidates(repository string, facts []policy.Fact, keys map[string]crypto.PublicKey) ([]candidate, error) {
	var out []candidate
	for _, f := range facts {
		if f.Signer.Identity == "" && keys[f.Signer.Key] == nil {
			continue // a Notary signer: its trust policy says who may sign
		}
		pin, err := bundlefile.NewPin(repository, f, keys[f.Signer.Key], time.Now())
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(out, func(c candidate) bool { return c.pin.Same(pin) })
		if i < 0 {
			out = append(out, candidate{pin: pin})
			i = len(out) - 1
		}
		out[i].seen++
		for _, at := range f.Times {
			if out[i].since.IsZero() || at.At.Before(out[i].since) {
				out[i].since = at.At
			}
		}
	}
	return out, nil
}

func (t *trustCommands) printCandidates(ref registry.Ref, result gate.Result, found []candidate) {
	t.Print("%s is %s", cli.Plain(ref.String()), result.Subject.Digest)
	for _, c := range found {
		t.Print("")
		t.Print("Signed by")
		p := c.pin
		t.printSigner(p.Identity, p.Issuer, p.SourceRepository, p.Log, p.Fingerprint())
		since := cli.Stamp(c.since)
		if c.since.IsZero() {
			since = "no trusted time says when"
		}
		t.Print("  %-13s%s; %d in all", "first signed", since, c.seen)
	}
	t.Print("")
}

// choose pins one of the signers, or says why not.
func (t *trustCommands) choose(o *pinOptions, bundle *bundlefile.File, result gate.Result, found []candidate) error {
	if len(found) == 0 {
		return t.Deny(policy.Deny(policy.Reason{Code: gate.CodeWrongIdentity, Subject: string(result.Subject.Digest),
			Message: fmt.Sprintf("it is signed by %s alone, whom no pin can name: who may sign with the Notary Project's certificates is for Notation's trust policy to say", signersOf(result.Input.Signatures)),
			Hint:    "hallmark trust import notation takes it over; its trustedIdentities are such a pin"}))
	}
	wanted := o.matching(found)
	if len(wanted) == 0 {
		return t.Deny(policy.Deny(policy.Reason{Code: gate.CodeWrongIdentity, Subject: string(result.Subject.Digest),
			Message: fmt.Sprintf("it is signed by %s; to be pinned is %s", signersOf(result.Input.Signatures), o.want())}))
	}
	if old, pinned := bundlefile.Pins(bundle.Pins).For(found[0].pin.Repository); pinned && !o.named() {
		for _, c := range wanted { // the pinned signer among others: there is nothing to ask
			if c.pin.Same(old) {
				wanted = []candidate{c}
			}
		}
	}
	if len(wanted) > 1 {
		return fault.Hint(fault.Usagef("%d signers are found, and a pin is one", len(wanted)), "say which of them with --identity and --issuer, or --key; where that is one signer, with --source or --log")
	}
	p := wanted[0].pin
	probe := bundlefile.File{Pins: slices.Clone(bundle.Pins)}
	if why := probe.Add(p); why != nil { // before anybody is asked
		return t.Deny(policy.Deny(*why))
	}
	if len(probe.Pins) == len(bundle.Pins) {
		t.done("%s is pinned to %s already", cli.Plain(p.Repository), cli.Plain(p.Signer()))
		return nil
	}
	if !o.named() {
		if !t.Interactive() {
			return fault.Hint(fault.Usagef("nothing is pinned: nobody has said whether that is the right signer, and there is no terminal to ask on"),
				"find out from the publisher who signs, and give --identity and --issuer, or --key")
		}
		if err := t.confirm("Is that who must sign every image of " + cli.Plain(p.Repository)); err != nil {
			return err
		}
	}
	return t.write(p)
}

// write adds the pin to the bundle as it is now.
func (t *trustCommands) write(p bundlefile.Pin) error {
	var why *policy.Reason
	err := t.change(func(f *bundlefile.File) error {
		if why = f.Add(p); why != nil { // somebody else was quicker
			return t.Deny(policy.Deny(*why))
		}
		return nil
	})
	if err != nil {
		return err
	}
	t.done("pinned: images of %s must be signed by %s", cli.Plain(p.Repository), cli.Plain(p.Signer()))
	return nil
}

// named reports whether the call says who is to be pinned.
func (o *pinOptions) named() bool { return o.identity != "" || o.key != "" }

// matching are the candidates that the call names; all when it names none.
func (o *pinOptions) matching(found []candidate) []candidate {
	var out []candidate
	for _, c := range found {
		switch {
		case o.identity != "" && (c.pin.Identity != o.identity || c.pin.Issuer != o.issuer), o.key != "" && c.pin.Fingerprint() != o.fingerprint,
			o.source != "" && c.pin.SourceRepository != o.source, o.log != "" && c.pin.Log != o.log:
		default:
			out = append(out, c)
		}
	}
	return out
}

func (o *pinOptions) want() string {
	switch {
	case o.identity != "":
		return policy.Identity{Subject: o.identity, Issuer: o.issuer}.String()
	case o.key != "":
		return "the key of " + o.key
	}
	return strings.TrimSpace("an identity or a key " + o.source + " " + o.log)
}

// signersOf names the signers of verified signatures, each once.
func signersOf(facts []policy.Fact) string {
	var out []string
	for _, f := range facts {
		if s := f.Signer.String(); !slices.Contains(out, s) && len(out) < 10 {
			out = append(out, s)
		}
	}
	return strings.Join(out, ", ")
}
