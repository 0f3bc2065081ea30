package check

import (
	"crypto"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/collect"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/gate"
	"github.com/hallmark-dev/hallmark/internal/key"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/verdict"
	"github.com/hallmark-dev/hallmark/internal/strictyaml"
)

// requirements turns the flags into the policy that they build.
func (o *verifyOptions) requirements(a *Commands) (gate.Requirements, error) {
	var q gate.Requirements
	if err := o.mergeIdentity(); err != nil {
		return q, err
	}
	if o.recursive != "" && o.recursive != coverAny && o.recursive != coverAll {
		return q, fault.Usagef("--recursive=%s: write --recursive, --recursive=any or --recursive=all", o.recursive)
	}
	if o.identity != (policy.Identity{}) {
		if len(o.keys) > 0 {
			return q, fault.Usagef("--key and an identity exclude each other: say which of them must have signed")
		}
		q.Identities = []policy.Identity{o.identity}
		if err := q.Check(); err != nil {
			return q, fault.Hint(err, "give --identity and --issuer (or --identity-regexp, --issuer-regexp); hallmark verify without them lists who signed")
		}
	}
	q.Keys, q.Threshold, q.MaxAge = len(o.keys) > 0, o.threshold, o.maxAge
	if err := o.addSigners(&q); err != nil {
		return q, err
	}
	if err := q.Check(); err != nil {
		return q, err
	}
	var err error
	if err := o.demandVerdict(&q); err != nil {
		return q, err
	}
	if q.Annotations, err = cli.KeyValues(o.annotations); err != nil {
		return q, err
	}
	if o.attestation == "" {
		if len(o.policies) > 0 {
			return q, fault.Usagef("--policy judges an attestation: say which with --attestation TYPE")
		}
		return q, nil
	}
	if q.AttestationType, err = cli.PredicateType(o.attestation); err != nil {
		return q, err
	}
	q.AttestationPolicies, err = a.statements(o.policies)
	return q, err
}

// demandVerdict demands a signing policy's verdict by those who must have signed.
func (o *verifyOptions) demandVerdict(q *gate.Requirements) error {
	if o.signingPolicy == "" {
		return nil
	}
	d, err := verdict.ParseDemand(o.signingPolicy)
	if err != nil {
		return fmt.Errorf("--require-signing-policy %w", err)
	}
	q.Also = &gate.Attested{Type: verdict.PredicateType, Policies: []gate.StatementPolicy{d}}
	return nil
}

// mergeIdentity takes cosign's names of the flags for ours, but not both.
func (o *verifyOptions) mergeIdentity() error {
	for _, p := range [][2]*string{
		{&o.identity.Subject, &o.cosigns.Subject}, {&o.identity.SubjectRegexp, &o.cosigns.SubjectRegexp},
		{&o.identity.Issuer, &o.cosigns.Issuer}, {&o.identity.IssuerRegexp, &o.cosigns.IssuerRegexp},
	} {
		ours, theirs := p[0], p[1]
		if *ours != "" && *theirs != "" && *ours != *theirs {
			return fault.Usagef("%q and %q are both wanted: --certificate-identity is --identity, --certificate-oidc-issuer is --issuer", *ours, *theirs)
		}
		if *ours == "" {
			*ours = *theirs
		}
	}
	return nil
}

// signersFile is the file of --signers. docs/manual.md, "Several signers", says
// the same.
type signersFile struct {
	Signers   []signerEntry `yaml:"signers"`
	Threshold int           `yaml:"threshold"` // as --threshold, which wins
}

type signerEntry struct {
	Name       string          `yaml:"name"`
	Identities []identityEntry `yaml:"identities"`
	Keys       []string        `yaml:"keys"` // public key files, from the file's folder
	Pos        strictyaml.Pos
}

type identityEntry struct {
	Identity       string `yaml:"identity"`
	IdentityRegexp string `yaml:"identityRegexp"`
	Issuer         string `yaml:"issuer"`
	IssuerRegexp   string `yaml:"issuerRegexp"`
	Source         string `yaml:"sourceRepository"` // URI
	Runner         string `yaml:"runnerEnvironment"`
}

// maxSigners bounds the signers of one file, and what each goes by.
const maxSigners = 1000

// addSigners reads the file of --signers into principals and keys.
func (o *verifyOptions) addSigners(q *gate.Requirements) error {
	if o.signers == "" {
		return nil
	}
	if len(q.Identities) > 0 || q.Keys {
		return fault.Usagef("--signers says who may sign; leave --key and the identity out, or write them into the file")
	}
	file, err := readSigners(o.signers)
	if err != nil {
		return fault.As(fault.Usage, fmt.Errorf("--signers: %w", err))
	}
	if q.Threshold == 0 {
		q.Threshold = file.Threshold
	}
	for _, s := range file.Signers {
		p := gate.Principal{Name: s.Name}
		for _, i := range s.Identities {
			p.Identities = append(p.Identities, policy.Identity{Subject: i.Identity, SubjectRegexp: i.IdentityRegexp, Issuer: i.Issuer, IssuerRegexp: i.IssuerRegexp, Source: i.Source, Runner: i.Runner})
		}
		for _, path := range s.Keys {
			// A plugin is a program: one that may write this file could choose what runs.
			if kind := key.KindOf(path); kind != key.KindFile {
				return fault.Hint(fault.As(fault.Usage, s.Pos.Errorf("key %s: not the path of a file: the keys of this file are PEM files", key.Redact(path))),
					"write the public key into a file, hallmark key public KEY prints it, and name that one")
			}
			if !filepath.IsAbs(path) {
				path = filepath.Join(filepath.Dir(o.signers), path)
			}
			public, err := cli.ReadPublicKeyFile(path)
			if err != nil {
				return fault.As(fault.Usage, s.Pos.Errorf("%v", err))
			}
			p.Keys = append(p.Keys, key.Fingerprint(public))
			o.signerKeys = append(o.signerKeys, public)
		}
		q.Principals = append(q.Principals, p)
	}
	return nil
}

func readSigners(path string) (*signersFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, strictyaml.MaxSize+1))
	if err != nil {
		return nil, err
	}
	documents, err := strictyaml.Documents(path, data)
	if err != nil {
		return nil, err
	}
	if len(documents) != 1 {
		return nil, fmt.Errorf("%s: %d documents; want one", path, len(documents))
	}
	out := &signersFile{}
	if err := documents[0].Decode(out); err != nil {
		return nil, err
	}
	if n := len(out.Signers); n == 0 || n > maxSigners {
		return nil, fmt.Errorf("%s: %d signers; want 1 to %d", path, n, maxSigners)
	}
	if out.Threshold < 0 {
		return nil, fmt.Errorf("%s: threshold: %d", path, out.Threshold)
	}
	return out, nil
}

// trustedKeys are the public keys of the call.
func (o *verifyOptions) trustedKeys() ([]crypto.PublicKey, error) {
	keys := o.signerKeys
	for _, path := range o.keys {
		public, err := cli.ReadPublicKey(path)
		if err != nil {
			return nil, err
		}
		keys = append(keys, public)
	}
	return keys, nil
}

// Values of --recursive.
const (
	coverAny = "any"
	coverAll = "all"
)

// coverage is which manifests of an index are judged.
func (o *verifyOptions) coverage() gate.Coverage {
	switch o.recursive {
	case coverAny:
		return gate.CoverAny
	case coverAll:
		return gate.CoverAll
	}
	return gate.CoverIndex
}

// limits reads --limit into the limits of a collection.
func (o *verifyOptions) limits(c *collect.Options) error {
	for _, one := range o.limit {
		what, value, _ := strings.Cut(one, "=")
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < 1 {
			return fault.Usagef("--limit %s: want WHAT=N with N above 0", one)
		}
		switch what {
		case "referrers":
			c.MaxReferrers = int(min(n, registry.MaxReferrers))
		case "manifest":
			c.MaxManifest = n
		case "envelope":
			c.MaxEnvelope = n
		case "bundle":
			c.MaxBundle, c.MaxTotal = n, max(n, 256<<20)
		default:
			return fault.Usagef("--limit %s: there are limits of referrers, manifest, envelope and bundle", one)
		}
	}
	return nil
}
