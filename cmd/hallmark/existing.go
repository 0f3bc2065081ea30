package main

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"maps"
	"os/exec"
	"runtime"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/collect"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/key"
	"github.com/hallmark-dev/hallmark/internal/sign"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// maxCompared is the largest bundle that is fetched to see whether it already
// says what is about to be signed. Larger ones are not looked for: to attest a
// big predicate again costs less than to fetch all that are there.
const maxCompared = 8 << 20

// existing is how a signer finds out that it said the same before: by the
// evidence that is attached, verified, never by what anybody claims. nil when
// nothing could be verified for want of a trust root.
//
// Where a log or a TSA is used now, only a signature that has been there counts.
func (a *app) existing(ctx context.Context, o *signerOptions, signing sign.Config) (func(context.Context, sign.Target, sign.Want) (string, error), error) {
	k, services := signing.Key, signing.Services
	cfg := verify.Config{RequireLog: services.Logs.Need > 0, RequireTimestamp: services.TSAs.Need > 0, Revoked: signing.Revoked}
	if k != nil {
		cfg.Keys = []crypto.PublicKey{k.Public()}
	}
	var err error
	if cfg.Roots, err = a.existingRoots(ctx, o, k); err != nil {
		return nil, err
	}
	if len(cfg.Roots) == 0 && (k == nil || services.Logs.Need > 0 || services.TSAs.Need > 0) {
		a.Say("no trust root is named (--trusted-root): earlier signatures are not looked for")
		return nil, nil
	}
	v, err := verify.New(cfg)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, at sign.Target, want sign.Want) (string, error) {
		return findExisting(ctx, v, at, want)
	}, nil
}

// existingRoots reads the trust root that goes with the services. Nothing is
// fetched from the public instance unless it is the one that signs.
func (a *app) existingRoots(ctx context.Context, o *signerOptions, k key.Signer) ([]*trust.Root, error) {
	public := o.signingConfig == cli.PublicInstance || o.signingConfig == "" && a.Env(cli.EnvSigningConfig) == "" && k == nil
	if a.HasTrustedRoot(o.trustedRoot) || public {
		root, err := a.TrustedRoot(ctx, o.trustedRoot)
		return []*trust.Root{root}, err
	}
	return nil, nil
}

func findExisting(ctx context.Context, v *verify.Verifier, at sign.Target, want sign.Want) (string, error) {
	if want.Statement.Size() > maxCompared {
		return "", nil
	}
	// Most images are signed for the first time, and then one request is enough.
	list, err := at.Repo.Referrers(ctx, at.Desc)
	if err == nil && len(list) == 0 {
		return "", nil
	}
	items, err := collect.Image(ctx, at.Repo, at.Desc, collect.Options{MaxBundle: 2 * maxCompared, MaxTotal: 4 * maxCompared})
	if err != nil {
		return "", err
	}
	for _, i := range items {
		if i.Claim == nil || i.Claim.Envelope == nil {
			continue
		}
		verified, _ := v.Claim(i.Claim, verify.Image(at.Digest()))
		if verified != nil && says(verified, want) {
			return i.Where.Ref, nil
		}
	}
	return "", nil
}

// says reports whether a verified claim says what is wanted: the same signer, of
// the same job's repository and kind of machine, type, annotations and predicate. Other tools' bytes may differ and mean the same.
func says(v *verify.Verified, want sign.Want) bool {
	who, st := v.Signer(), v.Statement()
	if who.Key != want.Signer.Key || who.Identity != want.Signer.Identity || who.Issuer != want.Signer.Issuer {
		return false
	}
	if want.Certificate != nil {
		// A workflow has one name for all who call it, on whatever machine.
		job, err := verify.Named(want.Certificate)
		for _, what := range []string{"sourceRepositoryURI", "runnerEnvironment"} {
			if err != nil || who.Extensions[what] != job.Extensions[what] {
				return false
			}
		}
	}
	if st == nil || len(st.Subject) != 1 || v.PredicateType() != want.Statement.PredicateType {
		return false
	}
	if v.PredicateType() == evidence.PredicateSign {
		return maps.Equal(v.Annotations(), want.Statement.Annotations)
	}
	return bytes.Equal(compactJSON(st.Predicate), compactJSON(want.Statement.Predicate()))
}

func compactJSON(data []byte) []byte {
	var b bytes.Buffer
	if json.Compact(&b, data) != nil {
		return data
	}
	return b.Bytes()
}

// browser opens pages for a person at this machine; nil without a browser here, as
// in an SSH session or a container, where the device login is the one that works.
func (a *app) browser() func(url string) error {
	opener := "xdg-open"
	switch {
	case a.Env("SSH_CONNECTION") != "":
		return nil
	case runtime.GOOS == "darwin":
		opener = "open"
	case a.Env("DISPLAY") == "" && a.Env("WAYLAND_DISPLAY") == "":
		return nil
	}
	path, err := exec.LookPath(opener)
	if err != nil {
		return nil
	}
	return func(url string) error {
		cmd := exec.Command(path, url)
		if err := cmd.Start(); err != nil {
			return err
		}
		go func() { _ = cmd.Wait() }() // some openers stay until the browser ends
		return nil
	}
}
