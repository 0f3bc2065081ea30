package cli

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/key"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// EnvSignatureRepository names the repository in which signatures lie, for cosign
// and for us.
const EnvSignatureRepository = "COSIGN_REPOSITORY"

// SignatureRepository opens the repository of --signature-repository, else that of
// COSIGN_REPOSITORY; nil when neither is given.
func (a *App) SignatureRepository(ctx context.Context, client *registry.Client, flag string) (*registry.Repository, error) {
	name, source := "--signature-repository", flag
	if source == "" {
		name, source = EnvSignatureRepository, a.Env(EnvSignatureRepository)
	}
	if source == "" {
		return nil, nil
	}
	ref, err := registry.ParseRef(source)
	if err == nil && (ref.Tag != "" || ref.Digest != "") && strings.ContainsAny(source[strings.LastIndexByte(source, '/')+1:], ":@") {
		err = fmt.Errorf("%q names an image, not a repository", source)
	}
	if err != nil {
		return nil, fault.As(fault.Usage, fmt.Errorf("%s: %w", name, err))
	}
	return client.Open(ctx, ref)
}

// KeyValues reads the values of -a KEY=VALUE.
func KeyValues(list []string) (map[string]string, error) {
	out := map[string]string{}
	for _, kv := range list {
		k, v, ok := strings.Cut(kv, "=")
		_, twice := out[k]
		switch {
		case !ok || k == "":
			return nil, fault.Usagef("-a %s: want KEY=VALUE", kv)
		case twice:
			return nil, fault.Usagef("-a %s: given twice", k)
		}
		out[k] = v
	}
	return out, nil
}

// ReadPublicKey reads the public key of --key: a PEM file, or another reference of
// [key.OpenPublic].
func ReadPublicKey(ref string) (crypto.PublicKey, error) {
	return flagKey(ref, key.OpenPublic)
}

// ReadPublicKeyFile reads a public key in a PEM file, whatever its path looks like: what a
// file names runs no program and reads no variable.
func ReadPublicKeyFile(path string) (crypto.PublicKey, error) {
	return flagKey(path, key.OpenPublicFile)
}

func flagKey(ref string, open func(string) (crypto.PublicKey, error)) (crypto.PublicKey, error) {
	public, err := open(ref)
	switch {
	case errors.Is(err, key.ErrPrivate):
		return nil, fault.Hint(fault.Usagef("--%w", err), "hallmark key public %s prints it", key.Redact(ref))
	case err != nil && fault.KindOf(err) == fault.Unreachable:
		return nil, fault.Hint(fault.Unreachablef("--%w", err), "%s", fault.HintOf(err))
	case err != nil:
		return nil, fault.Hint(fault.Usagef("--%w", err), "%s", fault.HintOf(err))
	}
	return public, nil
}

func PredicateNames() []string { return slices.Sorted(maps.Keys(evidence.PredicateTypes)) }

// predicateType is the URI that --type means.
func PredicateType(name string) (string, error) {
	if uri, ok := evidence.PredicateTypes[name]; ok {
		return uri, nil
	}
	if u, err := url.Parse(name); err != nil || u.Scheme == "" || strings.ContainsAny(name, " \t\n") {
		return "", fault.Usagef("the attestation type %q is none of %s, and no URI", name, strings.Join(PredicateNames(), ", "))
	}
	if name == evidence.PredicateSign {
		return "", fault.Hint(fault.Usagef("%s is an image's signature, no attestation", name), "hallmark sign makes one, hallmark verify without a type checks it")
	}
	return name, nil
}
