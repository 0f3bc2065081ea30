package main

import (
	"context"
	"crypto"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/idtoken"
	"github.com/hallmark-dev/hallmark/internal/key"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/sign"
)

// signerOptions are what sign and attest have in common: who signs, with which
// services, and what comes out.
type signerOptions struct {
	serviceFlags
	key               string
	identityToken     string
	identityProvider  string
	passwordStdin     bool
	again             bool
	yes               agreement
	json              bool
	bundle            string
	outputCertificate string
	recursive         string
	later             string

	opened     *openedKey                // shared with copies; nil: there are none
	claims     func(idtoken.Token) error // looks at an identity before it is used; nil: any will do
	online     bool                      // steps of a build have this machine's network meanwhile
	public     crypto.PublicKey          // of the key, once it is loaded
	private    privateFunc               // whether what is signed is private; nil: nothing is known
	madePublic *madePublic               // set when it is, and becomes public
}

// Values of --recursive.
const (
	recursivePlatforms = "platforms"
	recursiveAll       = "all"
)

func (o *signerOptions) addFlags(c *cobra.Command) {
	f := c.Flags()
	o.addWho(c)
	f.StringVarP(&o.recursive, "recursive", "r", "", "also sign each platform's image in an index; `WHAT` may be all: BuildKit's attestation manifests, too")
	f.Lookup("recursive").NoOptDefVal = recursivePlatforms
	f.BoolVar(&o.again, "again", false, "add another one although the same signer already said the same")
	f.StringVar(&o.bundle, "bundle", "", "the argument is a file, not an image: write the bundle to `FILE`")
	f.StringVar(&o.outputCertificate, "output-certificate", "", "write the signing certificate to `FILE` (PEM)")
	f.StringVar(&o.later, "later", "", "keep in `FOLDER` what cannot be finished while a service is out, for hallmark sign --resume")
	f.BoolVar(&o.json, "json", false, "print one JSON object")
}

// addWho adds the flags that every command has which signs: who, with which services, and that
// what becomes public may.
func (o *signerOptions) addWho(c *cobra.Command) {
	c.Flags().StringVar(&o.key, "key", "", "sign with the key `REF` instead of an identity: a file, or docs/keys.md")
	c.Flags().BoolVar(&o.passwordStdin, "password-stdin", false, "read the key's password or PIN from the first line of stdin")
	o.addIdentity(c)
	o.addYes(c)
	o.addSigning(c)
}

// addYes adds the flag that agrees to a publication.
func (o *signerOptions) addYes(c *cobra.Command) {
	c.Flags().VarP(&o.yes, "yes", "y", "agree to what becomes public without being asked; only with `WHAT` private also where the image, the source or the CI project is private")
	c.Flags().Lookup("yes").NoOptDefVal = string(agreedPerson)
}

// addIdentity adds the flags that say where an identity comes from.
func (o *signerOptions) addIdentity(c *cobra.Command) {
	c.Flags().StringVar(&o.identityToken, "identity-token", "", "identity `TOKEN`, or a file that holds one")
	c.Flags().StringVar(&o.identityProvider, "identity-provider", "", "get the identity from `NAME`: "+strings.Join(idtoken.Providers(), ", "))
}

// login reports whether the flags ask for a login, which needs a person each time.
func (o *signerOptions) login() bool {
	return o.identityProvider == "browser" || o.identityProvider == "device"
}

func (o *signerOptions) check() error {
	switch {
	case o.key != "" && o.identityToken != "":
		return fault.Usagef("--key and --identity-token: either a key signs or an identity")
	case o.identityProvider != "" && (o.key != "" || o.identityToken != ""):
		return fault.Usagef("--identity-provider: and yet a key or a token is given to sign with")
	case o.identityProvider != "" && !slices.Contains(idtoken.Providers(), o.identityProvider):
		return fault.Usagef("--identity-provider %s: there are %s", o.identityProvider, strings.Join(idtoken.Providers(), ", "))
	case o.key == "" && o.passwordStdin:
		return fault.Usagef("--password-stdin is about the key of --key")
	case o.key != "" && o.outputCertificate != "":
		return fault.Hint(fault.Usagef("--output-certificate: signing with a key makes no certificate"), "its public half is printed by: hallmark key public %s", key.Redact(o.key))
	case o.bundle != "" && o.later != "":
		return fault.Usagef("--later is about images; a file that could not be signed is signed again")
	case o.bundle != "" && o.recursive != "":
		return fault.Usagef("--recursive is about images; with --bundle the argument is a file")
	case o.recursive != "" && o.recursive != recursivePlatforms && o.recursive != recursiveAll:
		return fault.Usagef("--recursive=%s: write --recursive or --recursive=all", o.recursive)
	}
	return nil
}

// newSigner makes the signer: it opens the key, once, or finds the identity.
func (a *app) newSigner(ctx context.Context, o *signerOptions) (*sign.Signer, error) {
	cfg := sign.Config{Later: o.later}
	if o.key != "" {
		k, err := a.signingKey(o)
		if err != nil {
			return nil, err
		}
		cfg.Key, o.public = k, k.Public()
	}
	config, err := a.signingConfig(ctx, &o.serviceFlags, o.key != "")
	if err != nil {
		return nil, err
	}
	cfg.Services = sign.ServicesFrom(config, time.Now(), cfg.Key == nil)
	if config != nil && cfg.Key != nil && cfg.Services.Logs.Need == 0 {
		a.Say("the signing config names no transparency log with the Rekor v2 API: the signature will not be logged")
	}
	cfg.Services.PlainHTTP, cfg.Services.UserAgent = a.PlainHTTP, a.UserAgent()
	if cfg.Services.Patience, err = a.patience(); err != nil {
		return nil, err
	}
	cfg.Services.Waiting = a.sayOnce("%s; asking again")
	hosts, err := a.publicHosts(cfg.Services, o.configSource(a, cfg.Key == nil))
	if err != nil {
		return nil, err
	}
	if err := a.keepPrivate(ctx, o, hosts, o.private); err != nil {
		return nil, err
	}
	if cfg.Key == nil {
		issuer, _ := config.OIDC(time.Now())
		if cfg.Token, err = idtoken.Get(ctx, idtoken.Config{
			Flag: o.identityToken, Env: a.Env, Issuer: issuer, PlainHTTP: a.PlainHTTP,
			Interactive: a.Interactive(), OpenBrowser: a.browser(), Say: a.Say, Provider: o.identityProvider, Online: o.online,
		}); err != nil {
			return nil, err
		}
		if o.claims != nil {
			if err := o.claims(cfg.Token); err != nil {
				return nil, err
			}
		}
		if err := a.keepPrivate(ctx, o, hosts, privateProject(cfg.Token)); err != nil {
			return nil, err
		}
	}
	believed, err := a.TrustBundle("")
	if err != nil {
		return nil, err
	}
	cfg.Revoked = believed.Revocations()
	if !o.again && o.bundle == "" {
		if cfg.Existing, err = a.existing(ctx, o, cfg); err != nil {
			return nil, err
		}
	}
	return sign.New(cfg)
}

// openedKey is a key that copies of the options share, so that its password is asked for, or
// read from stdin, once.
type openedKey struct{ key.Signer }

// signingKey opens the key of --key, and says when anybody could.
func (a *app) signingKey(o *signerOptions) (key.Signer, error) {
	if o.opened != nil && o.opened.Signer != nil {
		return o.opened.Signer, nil
	}
	k, info, err := key.Load(o.key, a.keyPassword(o.passwordStdin, o.key))
	if err != nil {
		return nil, keyFault(err)
	}
	if !info.Encrypted {
		switch info.Kind {
		case key.KindFile:
			a.Say("the key %s is not encrypted: whoever reads the file can sign with it", o.key)
		case key.KindEnv:
			a.Say("the key in %s is not encrypted: whoever reads the variable can sign with it", o.key)
		}
	}
	if o.opened != nil {
		o.opened.Signer = k
	}
	return k, nil
}

// envPatience says how long services that do not answer are asked again.
const envPatience = "HALLMARK_PATIENCE"

// patience is 0 where the environment does not say.
func (a *app) patience() (time.Duration, error) {
	text := a.Env(envPatience)
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Second || d > 24*time.Hour {
		return 0, fault.Usagef("%s=%q is no duration from 1s to 24h", envPatience, text)
	}
	return d, nil
}

// sayOnce says each failure at its first time; many images may wait for one service.
func (a *app) sayOnce(format string) func(error) {
	var mu sync.Mutex
	said := map[string]bool{}
	return func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if text := cli.OneLine(err.Error()); !said[text] {
			said[text] = true
			a.Say(format, text)
		}
	}
}

// consent shows a person what signing would make public about them, and asks.
func (a *app) consent(s *sign.Signer, o *signerOptions, statements []*sign.Statement) error {
	d, asks := s.NeedsConsent()
	if !asks {
		return nil
	}
	a.Say("This becomes public at %s, and stays so:", strings.Join(d.Hosts, " and "))
	a.Say("  identity  %s", d.Identity)
	a.Say("  issuer    %s", d.Issuer)
	for _, st := range statements {
		a.Say("  digest    sha256:%x", st.SignedDigest())
		if st.Size() <= 2<<10 {
			text, err := io.ReadAll(st.Reader())
			if err != nil {
				return err
			}
			a.Say("  of        %s", text)
		}
	}
	switch {
	case o.yes != "":
	case !a.Interactive():
		return fault.Hint(fault.Usagef("a personal identity would go to a public log, and there is nobody to ask"), "if that is what you want, say --yes")
	default:
		if ok, err := a.confirm("Sign? [y/N] "); err != nil || !ok {
			return errors.Join(errors.New("not signed: nobody agreed to the publication"), err)
		}
	}
	s.Consent()
	return nil
}

// subject is one argument: an image, resolved to what is signed of it.
type subject struct {
	arg     string
	ref     registry.Ref
	targets []sign.Target
	err     error
}

// resolve finds what is to be signed, all arguments at once. A tag is resolved
// here and never again; what it pointed to is said, with a warning.
func (a *app) resolve(ctx context.Context, o *signerOptions, argv []string) ([]subject, error) {
	subjects := make([]subject, len(argv))
	for i, arg := range argv {
		ref, err := registry.ParseRef(arg)
		if err != nil {
			return nil, fault.Hint(fault.As(fault.Usage, err), "to sign a file, say where its bundle goes: --bundle FILE")
		}
		subjects[i] = subject{arg: arg, ref: ref}
	}
	client := registry.NewClient(registry.Options{PlainHTTP: a.PlainHTTP, UserAgent: a.UserAgent(), Concurrency: signers})
	var g errgroup.Group
	g.SetLimit(signers)
	for i := range subjects {
		s := &subjects[i]
		g.Go(func() error { s.targets, s.err = findTargets(ctx, client, s.ref, o.recursive); return nil })
	}
	_ = g.Wait() // errors stay with their subject
	for _, s := range subjects {
		if s.err != nil || s.ref.Digest != "" {
			continue
		}
		a.Say("%s is %s", s.arg, s.targets[0].Desc.Digest)
		if s.ref.Dir == "" {
			a.Warn("%s is a tag: if it moves before you sign, you sign something else; name the digest", s.arg)
		}
	}
	return subjects, nil
}

func findTargets(ctx context.Context, client *registry.Client, ref registry.Ref, recursive string) ([]sign.Target, error) {
	repo, err := client.Open(ctx, ref)
	if err != nil {
		return nil, err
	}
	desc, err := repo.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	root := sign.Target{Repo: repo, Desc: desc}
	if recursive == "" {
		return []sign.Target{root}, nil
	}
	return sign.Expand(ctx, root, recursive == recursiveAll)
}

// signers is how many images are signed at the same time.
const signers = 16

// signedAnswer is what --json prints of sign and attest.
type signedAnswer struct {
	Signer *evidence.Signer `json:"signer,omitempty"` // absent when nothing was signed
	Images []signedImage    `json:"images,omitempty"`
	File   *signedFile      `json:"file,omitempty"`
	// MadePublic is there when something about a private source became public, or,
	// where signing failed, may have.
	MadePublic *madePublic `json:"madePublic,omitempty"`
}

// signedImage is one manifest and what became of it.
type signedImage struct {
	Image    string `json:"image"`              // host/repo@sha256:…, or the argument when it could not be resolved
	Status   string `json:"status"`             // "signed", "existed", "failed", "kept"
	Bundle   string `json:"bundle,omitempty"`   // reference of the bundle's manifest
	LogIndex *int64 `json:"logIndex,omitempty"` // absent: not logged, or it existed
	Error    string `json:"error,omitempty"`
	Kept     string `json:"kept,omitempty"` // the file in which the signature waits for sign --resume

	err    error
	signer evidence.Signer
	cert   []byte
	public *madePublic // of sign --resume, which looks at each anew
}

// attachAll signs all subjects' targets, several at a time, and reports in the
// order of the arguments. One that fails stops no other.
func (a *app) attachAll(ctx context.Context, o *signerOptions, subjects []subject, state statementFunc) error {
	var jobs []attachJob
	var statements []*sign.Statement
	for _, s := range subjects {
		if s.err != nil {
			jobs = append(jobs, attachJob{name: s.arg, err: s.err})
		}
		for _, t := range s.targets {
			st, err := state(s.ref, t)
			if err != nil {
				return err
			}
			jobs = append(jobs, attachJob{name: t.String(), target: t, statement: st})
			statements = append(statements, st)
		}
	}
	var signer *sign.Signer
	if len(statements) > 0 {
		var err error
		o.private = a.privateSubjects(subjects)
		if signer, err = a.newSigner(ctx, o); err != nil {
			return err
		}
		if err := a.consent(signer, o, statements); err != nil {
			return err
		}
	}
	answer := signedAnswer{}
	inOrder(len(jobs), signers, func(i int) signedImage {
		return jobs[i].run(ctx, signer)
	}, func(r signedImage) {
		answer.Images = append(answer.Images, r)
		if !o.json && (r.err == nil || len(jobs) > 1) { // the only one's error is that of the command
			a.reportSigned(r)
		}
	})
	return a.finish(o, &answer)
}

// statementFunc says what is signed about a target.
type statementFunc func(ref registry.Ref, t sign.Target) (*sign.Statement, error)

type attachJob struct {
	name      string
	target    sign.Target
	statement *sign.Statement
	err       error
}

func (j attachJob) run(ctx context.Context, signer *sign.Signer) signedImage {
	r := signedImage{Image: j.name, Status: "failed", err: j.err}
	if r.err == nil {
		var done *sign.Attached
		if done, r.err = signer.Attach(ctx, j.target, j.statement); r.err == nil {
			r.Status, r.Bundle, r.LogIndex, r.signer = "signed", done.Ref, done.LogIndex, done.Signer
			if done.Existed {
				r.Status = "existed"
			} else if certs := done.Signed.Claim.Certificates; len(certs) > 0 {
				r.cert = certs[0]
			}
		}
	}
	var later *sign.LaterError
	if errors.As(r.err, &later) {
		r.Status, r.Kept = "kept", later.Path
		r.err = fault.Hint(r.err, "the signature is made and kept: hallmark sign --resume %s finishes it when the service is back", cli.ShellQuote(filepath.Dir(later.Path)))
	}
	if r.err != nil {
		r.Error = cli.OneLine(r.err.Error())
	}
	return r
}

// reportSigned prints one result as people read it.
func (a *app) reportSigned(r signedImage) {
	switch r.Status {
	case "failed", "kept":
		a.Say("error: %s: %s", r.Image, r.Error)
		if hint := fault.HintOf(r.err); hint != "" {
			a.Say("hint: %s", cli.OneLine(hint))
		}
		return
	case "existed":
		a.Print("already there  %s", r.Image)
		a.Say("  %s said the same before: %s; nothing was added (--again adds one all the same)", r.signer, r.Bundle)
		return
	}
	a.Print("signed  %s", r.Image)
	if r.LogIndex != nil {
		a.Say("  by %s, log entry %d: %s", r.signer, *r.LogIndex, r.Bundle)
	} else {
		a.Say("  by %s: %s", r.signer, r.Bundle)
	}
}

// finish writes the certificate and the JSON answer, and turns failures into the
// exit code of the first of them.
func (a *app) finish(o *signerOptions, answer *signedAnswer) error {
	failed := 0
	var first error
	var cert []byte
	for _, r := range answer.Images {
		switch r.Status {
		case "failed", "kept":
			if failed++; first == nil {
				first = r.err
			}
		default:
			answer.Signer = &r.signer
		}
		if r.cert != nil {
			cert = r.cert
		}
	}
	if o.outputCertificate != "" {
		if err := a.writeCertificate(o.outputCertificate, cert); err != nil {
			return err
		}
	}
	if o.json {
		answer.MadePublic = o.madePublic
		if err := a.PrintJSON(answer); err != nil {
			return err
		}
	} else {
		a.sayMadePublic(o, failed < len(answer.Images))
	}
	if failed == 0 {
		return nil
	}
	if errors.Is(first, context.Canceled) {
		return first
	}
	if len(answer.Images) == 1 {
		if name := answer.Images[0].Image; !strings.Contains(first.Error(), name) {
			first = &fault.Error{Kind: fault.KindOf(first), Hint: fault.HintOf(first), Err: fmt.Errorf("%s: %w", name, first)}
		}
		return first
	}
	return &fault.Error{Kind: fault.KindOf(first), Hint: fault.HintOf(first), Err: fmt.Errorf("%d of %d failed: %w", failed, len(answer.Images), first)}
}

func (a *app) writeCertificate(path string, der []byte) error {
	if der == nil {
		a.Warn("no certificate was made: %s is not written", path)
		return nil
	}
	return durable.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

// inOrder calls do(0) … do(n-1), at most limit at a time, and emit with each
// result in order, as soon as that result and those before it are there.
func inOrder[T any](n, limit int, do func(int) T, emit func(T)) {
	results := make([]chan T, n)
	for i := range results {
		results[i] = make(chan T, 1)
	}
	var g errgroup.Group
	g.SetLimit(limit)
	go func() {
		for i := range n {
			g.Go(func() error { results[i] <- do(i); return nil })
		}
	}()
	for _, r := range results {
		emit(<-r)
	}
}

// writeFileFrom puts what r gives in place as a whole or not at all.
func writeFileFrom(path string, r io.Reader) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if err = f.Chmod(0o644); err != nil {
		return err
	}
	if _, err = io.Copy(f, r); err != nil {
		return err
	}
	if err = errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}
