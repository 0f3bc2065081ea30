package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/gate"
	"github.com/hallmark-dev/hallmark/internal/policy/clusterimage"
	"github.com/hallmark-dev/hallmark/internal/policy/cuelang"
	"github.com/hallmark-dev/hallmark/internal/policy/rego"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// statementPolicies reads the files of --policy for attestations: each *.cue file
// is a policy, all *.rego files together are one.
func statementPolicies(paths []string) ([]gate.StatementPolicy, error) {
	var out []gate.StatementPolicy
	var regoFiles []string
	for _, path := range paths {
		switch filepath.Ext(path) {
		case ".cue":
			info, err := os.Stat(path)
			if err != nil {
				return nil, fault.Usagef("--policy: %w", err)
			}
			if info.Size() > cuelang.MaxPolicy {
				return nil, fault.Usagef("--policy %s: %d bytes; a policy has at most %d", path, info.Size(), cuelang.MaxPolicy)
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return nil, fault.Usagef("--policy: %w", err)
			}
			p, err := cuelang.Compile(path, text)
			if err != nil {
				return nil, fault.As(fault.Usage, err)
			}
			out = append(out, p)
		case ".rego":
			regoFiles = append(regoFiles, path)
		default:
			return nil, fault.Usagef("--policy %s: want a file with the ending .cue or .rego", path)
		}
	}
	if len(regoFiles) == 0 {
		return out, nil
	}
	files, err := rego.ReadFiles(regoFiles...)
	if err != nil {
		return nil, fault.As(fault.Usage, err)
	}
	p, err := rego.CompileAttestation(files, rego.AttestationOptions{Now: time.Now})
	if err != nil {
		return nil, fault.As(fault.Usage, err)
	}
	return append(out, p), nil
}

// policyCompilers are the languages of a ClusterImagePolicy.
func policyCompilers() clusterimage.Compilers {
	return clusterimage.Compilers{
		CUE: func(file string, text []byte) (clusterimage.StatementPolicy, error) {
			return cuelang.Compile(file, text)
		},
		Rego: func(file string, text []byte) (clusterimage.StatementPolicy, error) {
			return rego.CompileAttestation(map[string][]byte{strings.TrimSuffix(file, ".rego") + ".rego": text}, rego.AttestationOptions{Now: time.Now})
		},
	}
}

// verifierFor makes verifiers for what ClusterImagePolicies trust: a key, a
// TrustRoot of the folder, or Sigstore's public instance.
// Whatever they trust, what the trust bundle revokes is refused.
func (a *app) verifierFor(set *clusterimage.Set, revoked trust.Revoked) func(context.Context, clusterimage.Trust) (*verify.Verifier, error) {
	return func(ctx context.Context, t clusterimage.Trust) (*verify.Verifier, error) {
		cfg := verify.Config{Now: time.Now, Revoked: revoked}
		switch {
		case t.Key != nil:
			cfg.Keys = append(cfg.Keys, t.Key.Public)
		case t.Root == "":
			root, err := a.TrustedRoot(ctx, cli.PublicInstance)
			if err != nil {
				return nil, err
			}
			cfg.Roots = []*trust.Root{root}
		default:
			root, err := set.TrustRoots[t.Root].Resolve(ctx, a.fetchTrustRoot)
			if err != nil {
				return nil, err
			}
			cfg.Roots = []*trust.Root{root}
		}
		return verify.New(cfg)
	}
}

// fetchTrustRoot gets the trusted root that a TrustRoot's remote names.
func (a *app) fetchTrustRoot(ctx context.Context, r clusterimage.Remote) ([]byte, error) {
	t := trust.TUF{Mirror: r.Mirror, Root: r.Root, PlainHTTP: a.PlainHTTP}
	got, err := t.Targets(ctx, r.Target)
	if err != nil {
		return nil, err
	}
	return got[r.Target], nil
}
