package watch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/collect"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/pattern"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/translog/rekor"
)

// maxList bounds a list of digests.
const maxList = 64 << 20

// Expected is what explains entries: signatures of artifacts that are mine, and
// digests. An entry is explained by the very signature that it holds, with its
// certificate or key, or by the digest that it is about. A digest explains whatever
// is signed about it, so it says less.
type Expected struct {
	client  *registry.Client
	sources []string

	digests    map[evidence.Digest]bool
	signatures map[[sha256.Size]byte]bool
}

// NewExpected names what explains entries: files (bundles, or lists of digests, one
// a line) and repositories, whose images and signatures are read. Nothing is read
// before Read.
func NewExpected(client *registry.Client, sources []string) (*Expected, error) {
	for _, s := range sources {
		if isFile(s) {
			continue
		}
		ref, err := registry.ParseRef(s)
		// A file's name that was misspelt must not be looked for at docker.io.
		if err == nil && ref.Host != "" && !strings.HasPrefix(strings.ToLower(s), ref.Host+"/") {
			err = errors.New("a repository is named with its registry's host")
		}
		if err != nil {
			return nil, fault.Usagef("--expected %s: there is no such file, and it is no repository: %w", s, err)
		}
	}
	return &Expected{client: client, sources: sources}, nil
}

func isFile(path string) bool {
	st, err := os.Stat(path)
	return err == nil && !st.IsDir()
}

// Read reads all sources anew. After an error what was read before still counts.
func (e *Expected) Read(ctx context.Context) error {
	next := &Expected{digests: map[evidence.Digest]bool{}, signatures: map[[sha256.Size]byte]bool{}}
	for _, s := range e.sources {
		err := next.repository(ctx, e.client, s)
		if isFile(s) {
			err = next.file(s)
		}
		if err != nil {
			return fmt.Errorf("--expected %s: %w", s, err)
		}
	}
	e.digests, e.signatures = next.digests, next.signatures
	return nil
}

// Explains reports whether something expected explains a signature of an entry.
func (e *Expected) Explains(entry rekor.Entry, s rekor.Signer) bool {
	return e.digests[entry.Digest] || e.signatures[fingerprint(s.Signature, s.Certificate)]
}

// fingerprint is of a signature and the certificate that it is by.
func fingerprint(signature, certificate []byte) [sha256.Size]byte {
	sig, cert := sha256.Sum256(signature), sha256.Sum256(certificate)
	return sha256.Sum256(append(sig[:], cert[:]...))
}

func (e *Expected) claim(c *evidence.Claim) {
	if c == nil || len(c.Signature()) == 0 {
		return
	}
	var cert []byte
	if len(c.Certificates) > 0 {
		cert = c.Certificates[0]
	}
	e.signatures[fingerprint(c.Signature(), cert)] = true
}

// file reads bundles, or else a list of digests.
func (e *Expected) file(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	head := make([]byte, 1)
	for head[0] == 0 || bytes.ContainsAny(head, " \t\r\n") {
		if _, err := io.ReadFull(f, head); errors.Is(err, io.EOF) {
			return nil // an empty list
		} else if err != nil {
			return err
		}
	}
	if head[0] == '{' {
		return e.bundles(path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxList+1))
	switch {
	case err != nil:
		return err
	case len(data) > maxList:
		return fmt.Errorf("it has more than %d MiB", maxList>>20)
	}
	return e.list(string(head) + string(data))
}

func (e *Expected) bundles(path string) error {
	items, err := collect.Files(path)
	if err != nil {
		return err
	}
	for _, it := range items {
		if it.Err != nil {
			return it.Err
		}
		e.claim(it.Claim)
	}
	return nil
}

// list reads a digest a line; what follows it on the line, and lines that begin with
// #, are for people.
func (e *Expected) list(text string) error {
	for i, line := range strings.Split(text, "\n") {
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		d, err := evidence.ParseDigest(words[0])
		if err != nil {
			return fault.Usagef("line %d: neither a bundle nor a list of digests: %w", i+1, err)
		}
		e.digests[d] = true
	}
	return nil
}

// attached are tags that are not images of their own: cosign's older ones, and the
// referrers of images (distribution-spec, "Referrers Tag Schema").
var attached = pattern.New(`^sha(256|512)-[0-9a-f]{64,128}(\..*)?$`)

// repository reads every signature that hangs on what a repository's tags name, or
// on the one image that a digest names.
func (e *Expected) repository(ctx context.Context, client *registry.Client, name string) error {
	if isFile(name) {
		return nil
	}
	ref, err := registry.ParseRef(name)
	if err != nil {
		return err
	}
	repo, err := client.Open(ctx, ref)
	if err != nil {
		return err
	}
	refs := []registry.Ref{ref}
	if ref.Digest == "" {
		tags, err := repo.Tags(ctx)
		if err != nil {
			return err
		}
		refs = refs[:0]
		for _, tag := range tags {
			if !attached().MatchString(tag) {
				r := ref
				r.Tag = tag
				refs = append(refs, r)
			}
		}
	}
	seen := map[string]bool{}
	for _, r := range refs {
		d, err := repo.Resolve(ctx, r)
		if err != nil {
			return err
		}
		if seen[d.Digest.String()] {
			continue
		}
		seen[d.Digest.String()] = true
		root, err := collect.Tree(ctx, repo, d, "", collect.Options{})
		if err != nil {
			return err
		}
		if err := e.node(root); err != nil {
			return err
		}
	}
	return nil
}

// node takes what hangs on a manifest. What is malformed explains nothing; what
// could not be reached might, so that is an error.
func (e *Expected) node(n *collect.Node) error {
	if n.Err != nil && fault.KindOf(n.Err) == fault.Unreachable {
		return n.Err
	}
	e.claim(n.Claim)
	for _, list := range [][]*collect.Node{n.Attached, n.Manifests} {
		for _, child := range list {
			if err := e.node(child); err != nil {
				return err
			}
		}
	}
	return nil
}
