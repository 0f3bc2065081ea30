package main

import (
	"context"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/hallmark-dev/hallmark/internal/build"
	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/lockfile"
	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/trust/bundlefile"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// sourceTrust is who is believed about sources, as for hallmark verify. It is read when
// the first signature is asked about.
type sourceTrust struct {
	app         *app
	trust       string // the trust bundle, of --trust
	trustedRoot string // of --trusted-root

	mu     sync.Mutex
	bundle *bundlefile.File
}

func (t *sourceTrust) read() (*bundlefile.File, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var err error
	if t.bundle == nil {
		t.bundle, err = t.app.TrustBundle(t.trust)
	}
	return t.bundle, err
}

// verifier believes the keys that are pinned, too.
func (t *sourceTrust) verifier(ctx context.Context) (*verify.Verifier, error) {
	bundle, err := t.read()
	if err != nil {
		return nil, err
	}
	cfg, stale, err := t.app.Believed(ctx, bundle, t.trustedRoot, true)
	if err != nil {
		return nil, err
	}
	t.app.WarnOf(stale)
	cfg.NamedKeys = append(cfg.NamedKeys, cli.InTheirWindows(cli.PinnedKeys(bundle.Pins), cfg.NamedKeys)...)
	return verify.New(cfg)
}

// pinned reports whether the bundle pins a signer for a repository.
func (t *sourceTrust) pinned(repository string, by evidence.Signer, log string) bool {
	bundle, err := t.read()
	return err == nil && bundlefile.Pins(bundle.Pins).Has(repository, by, log)
}

// gitKeys are the bundle's keys whose signatures of git's objects count now. Nothing shows
// when such a signature was made: a key with a beginning, or that was revoked, has none.
func (t *sourceTrust) gitKeys(now time.Time) ([][]byte, error) {
	bundle, err := t.read()
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for _, k := range bundle.PublicKeys() {
		revoked := slices.ContainsFunc(bundle.Revocations().Keys, func(r trust.RevokedKey) bool { return r.Key == k.Fingerprint })
		if revoked || !k.ValidFor.Start.IsZero() || !k.ValidFor.Contains(now) {
			continue
		}
		if public, err := ssh.NewPublicKey(k.Public); err == nil { // of a curve that SSH has
			out = append(out, ssh.MarshalAuthorizedKey(public))
		}
	}
	return out, nil
}

// lockPolicies are those that a lock, and --verified, add to the others: the lock's comes
// first, since what moved is the better reason. lock is nil without one.
func (t *sourceTrust) lockPolicies(lock *lockText, verified bool, v sourcepolicy.Vouched) ([]build.SourcePolicy, error) {
	var out []build.SourcePolicy
	add := func(p *sourcepolicy.Policy, from string, err error) error {
		if err == nil {
			out = append(out, build.SourcePolicy{Policy: p, Name: p.Name(), From: from})
		}
		return err
	}
	if lock != nil {
		p, err := sourcepolicy.CompileLock(lock.name, lock.text)
		if err := add(p, build.FromSource, err); err != nil {
			return nil, err
		}
	}
	if !verified {
		return out, nil
	}
	var err error
	if v.GitKeys, err = t.gitKeys(time.Now()); err != nil {
		return nil, err
	}
	v.Lock = lock != nil
	p, err := sourcepolicy.CompileVerified(v)
	return out, add(p, build.FromOperator, err)
}

// lockText is a lock that was read.
type lockText struct {
	name string
	text []byte
	file *lockfile.File
}

// says is what policies are told of it; nil without a lock.
func (l *lockText) says() sourcepolicy.Lock {
	if l == nil {
		return nil
	}
	return func(src sourcepolicy.Source) *sourcepolicy.Locked {
		kind, name := src.LockName()
		if kind == lockfile.Image {
			return &sourcepolicy.Locked{Digest: evidence.Digest(l.file.Image(name))}
		}
		s, _ := l.file.Lookup(kind, name)
		return &sourcepolicy.Locked{Digest: evidence.Digest(s.Digest), Commit: s.Commit}
	}
}

// addLock adds what the commit's lock and --verified demand. The operator's policies are
// asked before the commit's own; what moved is said before all.
func (j *buildJob) addLock(src *git.Source, lock *lockText) error {
	v := sourcepolicy.Vouched{Commit: src.Git.CommitChecksum}
	if j.trusted != nil {
		v.Images = slices.Clone(j.trusted.builder.Frontends)
		v.Images = append(v.Images, j.trusted.build.Scanner, j.trusted.build.Frontend.Image) // perhaps "", which is no image
	}
	all, err := j.sourceTrust().lockPolicies(lock, j.o.verified, v)
	if err != nil || len(all) == 0 {
		return err
	}
	j.needSources()
	j.sources.Locked = lock.says()
	j.sources.Policies = append(all, j.sources.Policies...)
	return nil
}

// sourceTrust is made once.
func (j *buildJob) sourceTrust() *sourceTrust {
	if j.believed == nil {
		j.believed = &sourceTrust{app: j.app, trustedRoot: j.o.signer.trustedRoot}
	}
	return j.believed
}

// readLockFile reads a lock that lies beside a Dockerfile here.
func readLockFile(path string) (*lockText, error) {
	file, err := lockfile.Read(path)
	if err != nil {
		return nil, err
	}
	text, err := file.Encode()
	return &lockText{filepath.Base(path), text, file}, err
}
