package sourcepolicy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/pattern"
	"github.com/hallmark-dev/hallmark/internal/policy/rego"
)

// Limits of the files that functions read, in bytes, as in buildx.
const (
	maxJSON   = 4 << 20
	maxKey    = 128 << 10
	maxPGP    = 512 << 10
	maxBundle = 8 << 20
)

// functions are those of buildx beside OPA's. Each answers for the pass that it is
// called in. What does not verify is false or undefined, with a note; what cannot be
// judged (a file that is missing, an object that is not the input's) is an error,
// which denies.
func functions() []rego.Function {
	return []rego.Function{
		{Name: "load_json", Args: []rego.Type{rego.String}, Result: rego.Any, Call: call((*pass).loadJSON)},
		{Name: "pin_image", Args: []rego.Type{rego.Any, rego.String}, Result: rego.Boolean, Call: call((*pass).pinImage)},
		{Name: "verify_git_signature", Args: []rego.Type{rego.Any, rego.String}, Result: rego.Boolean, Call: call((*pass).verifyGit)},
		{Name: "verify_http_pgp_signature", Args: []rego.Type{rego.Any, rego.String, rego.String}, Result: rego.Boolean, Call: call((*pass).verifyPGP)},
		{Name: "artifact_attestation", Args: []rego.Type{rego.Any, rego.String}, Result: rego.Any, Call: call((*pass).artifactAttestation)},
		{Name: "github_attestation", Args: []rego.Type{rego.Any, rego.String}, Result: rego.Any, Call: call((*pass).githubAttestation)},
	}
}

// errTest is why a function does not verify anything in a test.
const errTest = "a test fetches nothing; say what the function answers: with NAME as VALUE"

func call(f func(*pass, []rego.Operand) (any, error)) func(context.Context, []rego.Operand) (any, error) {
	return func(ctx context.Context, args []rego.Operand) (any, error) {
		p, ok := rego.RunOf(ctx).(*pass)
		if !ok {
			return nil, errors.New("not within a decision")
		}
		return f(p, args)
	}
}

func text(o rego.Operand) string {
	s, _ := o.String()
	return s
}

func (p *pass) note(format string, args ...any) {
	p.notes = append(p.notes, rego.Clean(fmt.Sprintf(format, args...)))
}

func (p *pass) read(name string, limit int64) ([]byte, error) {
	return p.policy.folder.read(name, limit)
}

// loadJSON: load_json(path).
func (p *pass) loadJSON(args []rego.Operand) (any, error) {
	name := text(args[0])
	p.policy.mu.Lock()
	defer p.policy.mu.Unlock()
	if v, ok := p.policy.json[name]; ok {
		return v, nil
	}
	data, err := p.read(name, maxJSON)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("%s is not JSON: %w", name, err)
	}
	if dec.More() {
		return nil, fmt.Errorf("%s holds more than one JSON value", name)
	}
	value, err := rego.NewValue(v)
	if err == nil {
		p.policy.json[name] = value
	}
	return value, err
}

// same demands that an argument is that member of the input: a function's answer is
// about the source in question, and nothing else.
func (p *pass) same(o rego.Operand, path ...string) error {
	if p.test {
		return nil
	}
	if !p.document.Is(o, path...) {
		return fmt.Errorf("its first argument is not input.%s", strings.Join(path, "."))
	}
	return nil
}

// pinImage: pin_image(input.image, digest) is true for images. When the policies
// allow, the image is used by that digest, whatever its name says.
func (p *pass) pinImage(args []rego.Operand) (any, error) {
	n := p.evaluation.root
	if n.named.Image == nil && !p.test {
		return false, nil
	}
	if err := p.same(args[0], "image"); err != nil {
		return nil, err
	}
	d, err := evidence.ParseDigest(text(args[1]))
	if err != nil || p.test {
		return err == nil, err
	}
	if n.known.digest(n) != d {
		p.pins[d] = true
	}
	return true, nil
}

// verifyGit: verify_git_signature(input.git.commit or input.git.tag, file) is true
// when the object was signed with the key in the file: an SSH public key, or
// armored OpenPGP keys.
func (p *pass) verifyGit(args []rego.Operand) (any, error) {
	if p.test {
		p.note("verify_git_signature: %s", errTest)
		return false, nil
	}
	n := p.evaluation.root
	if n.named.Git == nil {
		return false, nil
	}
	o := n.known.facts.Objects
	if o == nil || n.known.failed[string(GitObjects)] != nil {
		p.ask(n, Ask{Fact: GitObjects})
		return false, nil
	}
	commit, tag, err := o.parse()
	if err != nil {
		return nil, err
	}
	trust, err := p.gitTrust(text(args[1]))
	if err != nil {
		return nil, err
	}
	now := p.evaluation.req.Now
	switch {
	case p.document.Is(args[0], "git", "commit"):
		if _, why := trust.VerifyCommit(commit, now); why != nil {
			p.note("%s", why.Message)
			return false, nil
		}
	case tag != nil && p.document.Is(args[0], "git", "tag"):
		ref := o.Ref
		if !strings.HasPrefix(ref, "refs/tags/") { // the tag object itself was named
			ref = "refs/tags/" + tag.Name
		}
		if _, why := trust.VerifyTag(tag, ref, now); why != nil {
			p.note("%s", why.Message)
			return false, nil
		}
	default:
		return nil, errors.New("its first argument is neither input.git.commit nor input.git.tag")
	}
	return true, nil
}

// gitTrust trusts the key in a file, for signatures of git's objects alone.
func (p *pass) gitTrust(name string) (git.Trust, error) {
	data, err := p.read(name, maxKey)
	if err != nil {
		return git.Trust{}, err
	}
	if bytes.Contains(data, []byte("-----BEGIN PGP")) {
		ring, err := git.ParseKeyring(data)
		if err != nil {
			return git.Trust{}, fmt.Errorf("%s: %w", name, err)
		}
		return git.Trust{Keyring: ring}, nil
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey(data)
	if err != nil {
		return git.Trust{}, fmt.Errorf("%s is neither an SSH public key nor armored OpenPGP keys", name)
	}
	line := fmt.Sprintf("key namespaces=\"%s\" %s", git.SignatureNamespace, ssh.MarshalAuthorizedKey(key))
	signers, err := git.ParseSigners([]byte(line))
	if err != nil {
		return git.Trust{}, fmt.Errorf("%s: %w", name, err)
	}
	return git.Trust{Signers: signers}, nil
}

// verifyPGP: verify_http_pgp_signature(input.http, signature file, key file) is true
// when the armored detached signature is one of the body by a key in the file.
func (p *pass) verifyPGP(args []rego.Operand) (any, error) {
	if p.test {
		p.note("verify_http_pgp_signature: %s", errTest)
		return false, nil
	}
	n := p.evaluation.root
	if n.named.HTTP == nil {
		return false, nil
	}
	if err := p.same(args[0], "http"); err != nil {
		return nil, err
	}
	armored, err := p.read(text(args[1]), maxPGP)
	if err != nil {
		return nil, err
	}
	keys, err := p.read(text(args[2]), maxPGP)
	if err != nil {
		return nil, err
	}
	sig, err := git.ParseDetached(armored)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", text(args[1]), err)
	}
	ring, err := git.ParseKeyring(keys)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", text(args[2]), err)
	}
	a := Ask{Fact: HTTPDigest, Algorithm: sig.Algorithm(), Suffix: sig.Suffix()}
	d, ok := n.known.facts.Digests[a.Key()]
	if !ok {
		p.ask(n, a)
		return false, nil
	}
	if d.Algorithm() != sig.Algorithm() {
		return nil, fmt.Errorf("the body was hashed with %s, and the signature is over %s", d.Algorithm(), sig.Algorithm())
	}
	if err := sig.Verify(ring, d.Bytes(), p.evaluation.req.Now); err != nil {
		p.note("%s: %v", text(args[1]), err)
		return false, nil
	}
	return true, nil
}

// body is the digest of what is downloaded, asked for when it is not known.
func (p *pass) body(arg rego.Operand) (evidence.Digest, error) {
	if p.test {
		p.note("the attestation of a download: %s", errTest)
		return "", nil
	}
	n := p.evaluation.root
	if n.named.HTTP == nil {
		return "", nil
	}
	if err := p.same(arg, "http"); err != nil {
		return "", err
	}
	if n.known.facts.Checksum == "" {
		p.ask(n, Ask{Fact: HTTPChecksum})
	}
	return n.known.facts.Checksum, nil
}

// artifactAttestation: artifact_attestation(input.http, file) is the signature in a
// Sigstore bundle of provenance of the body, undefined when it does not verify.
func (p *pass) artifactAttestation(args []rego.Operand) (any, error) {
	d, err := p.body(args[0])
	if err != nil || d == "" {
		return nil, err
	}
	bundle, err := p.read(text(args[1]), maxBundle)
	if err != nil {
		return nil, err
	}
	return p.found(Ask{Fact: BundleSignature, Digest: d, Bundle: bundle}, text(args[1])), nil
}

// repository is OWNER/NAME as GitHub has them.
var repository = pattern.New(`^[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})/[A-Za-z0-9._-]{1,100}$`)

func isRepository(s string) bool {
	name := s[strings.LastIndex(s, "/")+1:]
	return repository().MatchString(s) && name != "." && name != ".."
}

// githubAttestation: github_attestation(input.http, "owner/name") is the signature of
// provenance of the body that GitHub keeps for the repository, undefined when none
// verifies.
func (p *pass) githubAttestation(args []rego.Operand) (any, error) {
	d, err := p.body(args[0])
	if err != nil || d == "" {
		return nil, err
	}
	repo := text(args[1])
	if !isRepository(repo) {
		return nil, fmt.Errorf("%q is not OWNER/NAME", clip(repo))
	}
	return p.found(Ask{Fact: GitHubAttestation, Digest: d, Repo: repo}, repo), nil
}

func (p *pass) found(a Ask, what string) any {
	n := p.evaluation.root
	sig, ok := n.known.facts.Found[a.Key()]
	switch {
	case !ok:
		p.ask(n, a)
		return nil
	case sig == nil:
		p.note("%s: no attestation of %s verifies", what, a.Digest)
		return nil
	}
	return plain(toJSON(reflect.ValueOf(*sig)))
}
