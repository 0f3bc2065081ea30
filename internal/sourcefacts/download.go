package sourcefacts

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
	"github.com/hallmark-dev/hallmark/internal/webfile"
)

// body is what was found out about a download.
type body struct {
	mu     sync.Mutex
	digest evidence.Digest
}

// Limits of GitHub's answers.
const (
	maxAnswer  = 32 << 20 // bytes
	maxBundles = 64
)

func (r *Resolver) download(ctx context.Context, src sourcepolicy.Source, asks []sourcepolicy.Ask, f *sourcepolicy.Facts) error {
	if src.Attrs[sourcepolicy.AttrHTTPAuth] != "" {
		return errors.New("the download needs a secret that is only in the build")
	}
	key := src.Identifier
	if isMaterial(asks) {
		key = "material " + key // what the caller may reach is not known of a stranger's
	}
	r.mu.Lock()
	b := r.bodies[key]
	if b == nil {
		b = &body{}
		r.bodies[key] = b
	}
	r.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()

	f.Digests, f.Found = map[string]evidence.Digest{}, map[string]*sourcepolicy.Signature{}
	if err := b.hash(ctx, r, src.Identifier, asks, f); err != nil {
		return err
	}
	f.Checksum = b.digest
	return each(asks, func(a sourcepolicy.Ask) error {
		var sig *sourcepolicy.Signature
		var notes []string
		var err error
		switch a.Fact {
		case sourcepolicy.BundleSignature:
			sig, notes, err = r.bundleSignature(ctx, a.Digest, a.Bundle)
		case sourcepolicy.GitHubAttestation:
			sig, notes, err = r.gitHubAttestation(ctx, a.Repo, a.Digest)
		default:
			return nil
		}
		if f.Notes = append(f.Notes, notes...); err == nil {
			f.Found[a.Key()] = sig
		}
		return err
	})
}

// hash downloads once for all hashes that are asked for and not known. Later
// downloads must be of the same bytes.
func (b *body) hash(ctx context.Context, r *Resolver, address string, asks []sourcepolicy.Ask, f *sourcepolicy.Facts) error {
	sum := sha256.New()
	all := []io.Writer{sum}
	suffixed := map[string]hash.Hash{}
	for _, a := range asks {
		if a.Fact != sourcepolicy.HTTPDigest {
			continue
		}
		h := newHash(a.Algorithm)
		if h == nil {
			return fmt.Errorf("the hash %q is not known", a.Algorithm)
		}
		suffixed[a.Key()] = h
		all = append(all, h)
	}
	if b.digest != "" && len(suffixed) == 0 {
		return nil
	}
	get := r.getMaterial
	if !isMaterial(asks) {
		get = func(ctx context.Context, address string, to io.Writer) error {
			return r.get(ctx, address, r.o.MaxBody, "", to)
		}
	}
	if err := get(ctx, address, io.MultiWriter(all...)); err != nil {
		return err
	}
	d := evidence.Digest("sha256:" + hex.EncodeToString(sum.Sum(nil)))
	if b.digest != "" && b.digest != d {
		return fmt.Errorf("the body changed between two looks: it was %s and is %s", b.digest, d)
	}
	b.digest = d
	for _, a := range asks {
		if h := suffixed[a.Key()]; a.Fact == sourcepolicy.HTTPDigest {
			h.Write(a.Suffix)
			f.Digests[a.Key()] = evidence.Digest(a.Algorithm + ":" + hex.EncodeToString(h.Sum(nil)))
		}
	}
	return nil
}

func newHash(algorithm string) hash.Hash {
	switch algorithm {
	case "sha256":
		return sha256.New()
	case "sha384":
		return sha512.New384()
	case "sha512":
		return sha512.New()
	}
	return nil
}

// get downloads at most limit bytes. Errors name the host and no more of the address:
// the rest may hold a secret.
func (r *Resolver) get(ctx context.Context, address string, limit int64, accept string, to io.Writer) error {
	var transport http.RoundTripper
	if r.o.HTTP != nil {
		transport = r.o.HTTP.Transport
	}
	return r.getBy(ctx, transport, address, limit, accept, to)
}

func (r *Resolver) getBy(ctx context.Context, transport http.RoundTripper, address string, limit int64, accept string, to io.Writer) error {
	header := http.Header{"User-Agent": {r.o.UserAgent}, "Accept-Encoding": {"identity"}}
	if accept != "" {
		header.Set("Accept", accept)
	}
	client := &http.Client{CheckRedirect: webfile.CheckRedirect, Transport: transport}
	_, _, err := webfile.Get(ctx, client, "downloading", address, header, limit, to)
	var status *webfile.StatusError
	switch {
	case errors.Is(err, errSpent):
		return errSpent
	case errors.Is(err, errNotPublic): // no outage
		return fmt.Errorf("downloading: %w", errNotPublic)
	case errors.As(err, &status) && status.Code == http.StatusNotFound:
		return fmt.Errorf("%w: %w", err, errNotThere)
	}
	return err
}

var errNotThere = errors.New("it is not there (404)")

// gitHubAttestation asks GitHub for attestations of a digest in a repository and
// gives the signature of the first that verifies; nil when none does.
func (r *Resolver) gitHubAttestation(ctx context.Context, repo string, d evidence.Digest) (*sourcepolicy.Signature, []string, error) {
	address := fmt.Sprintf("%s/repos/%s/attestations/%s?predicate_type=%s", strings.TrimSuffix(r.o.GitHub, "/"), repo, d, url.QueryEscape(sourcepolicy.PredicateSLSA1))
	var answer strings.Builder
	err := r.get(ctx, address, maxAnswer, "application/vnd.github+json", &answer)
	if errors.Is(err, errNotThere) {
		return nil, []string{"GitHub has no attestation of " + string(d) + " in " + repo}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	var list struct {
		Attestations []struct {
			Bundle    json.RawMessage `json:"bundle"`
			BundleURL string          `json:"bundle_url"`
		} `json:"attestations"`
	}
	if err := json.Unmarshal([]byte(answer.String()), &list); err != nil {
		return nil, nil, fmt.Errorf("GitHub's answer cannot be read: %w", err)
	}
	var notes []string
	for n, a := range list.Attestations {
		if n == maxBundles {
			notes = append(notes, fmt.Sprintf("only the first %d of %d attestations were looked at", maxBundles, len(list.Attestations)))
			break
		}
		data, err := r.gitHubBundle(ctx, a.Bundle, a.BundleURL)
		if err != nil {
			return nil, notes, err
		}
		sig, why, err := r.bundleSignature(ctx, d, data)
		if err != nil || sig != nil {
			return sig, nil, err
		}
		notes = append(notes, why...)
	}
	return nil, notes, nil
}

// gitHubBundle is a bundle as it stands in the answer, or where the answer says.
func (r *Resolver) gitHubBundle(ctx context.Context, inline json.RawMessage, address string) ([]byte, error) {
	if len(inline) > 0 && string(inline) != "null" {
		return inline, nil
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" && !strings.HasPrefix(address, r.o.GitHub) {
		return nil, errors.New("GitHub names an attestation without a place where it lies")
	}
	var data strings.Builder
	if err := r.get(ctx, address, maxAnswer, "", &data); err != nil {
		return nil, err
	}
	if strings.HasSuffix(u.Path, ".json.sn") {
		return unsnappy([]byte(data.String()), maxAnswer)
	}
	return []byte(data.String()), nil
}
