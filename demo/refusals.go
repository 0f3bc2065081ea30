package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/hmtest/testimage"
	"github.com/hallmark-dev/hallmark/internal/ociartifact"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// refusals tries what must not pass. Each must be denied (exit code 3) with one
// of the expected codes, or the demo fails.
func (d *demo) refusals(ctx context.Context) error {
	var attempts []func(context.Context) error
	if d.policy == "" {
		attempts = append(attempts,
			d.refuseTag("a commit whose tag nobody signed", "v1.0.1", "TAG_UNSIGNED"),
			d.refuseTag("a tag signed by a stranger", "v1.0.2", "TAG_SIGNER"))
	}
	attempts = append(attempts, d.refuseUnsigned, d.refuseWrongIdentity, d.refuseTampered, d.refuseMovedTag)
	for _, try := range attempts {
		if err := try(ctx); err != nil {
			return err
		}
	}
	return nil
}

// refuse runs a command that must be denied with one of the codes.
func (d *demo) refuse(ctx context.Context, attempt string, codes []string, args ...string) error {
	r, err := d.hallmark(ctx, args...)
	if err != nil {
		return err
	}
	for _, l := range lines(r.stderr) {
		for _, code := range codes {
			if r.code == 3 && strings.Contains(l, "["+code+"]") {
				d.page.refused = append(d.page.refused, refusal{attempt, d.shown(args...), strings.TrimSpace(l)})
				return nil
			}
		}
	}
	return fmt.Errorf("%s: wanted a denial (exit 3) with %s, got exit %d from %s\n%s%s",
		attempt, strings.Join(codes, " or "), r.code, d.shown(args...), r.stdout, r.stderr)
}

func (d *demo) refuseTag(attempt, tag, code string) func(context.Context) error {
	return func(ctx context.Context) error {
		return d.refuse(ctx, attempt, []string{code}, "build", d.source, "--ref", tag, "--policy", d.rules, "-t", d.authority.Registry+"/demo/never:"+tag)
	}
}

// ref parses a reference below the demo's registry.
func (d *demo) refOf(name string) (registry.Ref, error) {
	return registry.ParseRef(d.authority.Registry + "/" + name)
}

// stranger pushes a small image that nobody signed.
func (d *demo) stranger(ctx context.Context, ref registry.Ref) error {
	_, err := testimage.Push(ctx, d.client, ref, testimage.Image{
		Layers: [][]testimage.File{{{Path: "etc/"}, {Path: "etc/motd", Data: []byte("mine now\n")}}},
	})
	return err
}

func (d *demo) refuseUnsigned(ctx context.Context) error {
	ref, err := d.refOf("demo/unsigned:1")
	if err != nil {
		return err
	}
	if err := d.stranger(ctx, ref); err != nil {
		return err
	}
	args, err := d.podArgs("pod-unsigned.yaml", ref.String())
	if err != nil {
		return err
	}
	return d.refuse(ctx, "a Pod with an image that nobody signed", []string{"NO_SIGNATURES", "NOT_SIGNED"}, args...)
}

func (d *demo) refuseWrongIdentity(ctx context.Context) error {
	return d.refuse(ctx, "the right image, but another person was expected", []string{"WRONG_IDENTITY"},
		"verify", d.image, "--identity", "mallory@example.com", "--issuer", d.authority.Issuer)
}

// refuseMovedTag is last: it moves the release's tag to another image.
func (d *demo) refuseMovedTag(ctx context.Context) error {
	ref, err := registry.ParseRef(d.image)
	if err != nil {
		return err
	}
	if err := d.stranger(ctx, ref); err != nil {
		return err
	}
	args, err := d.podArgs("pod-moved.yaml", d.image)
	if err != nil {
		return err
	}
	return d.refuse(ctx, "the release's tag, moved to another image", []string{"NO_SIGNATURES", "NOT_SIGNED"}, args...)
}

// refuseTampered copies the image to another repository with its signature,
// one byte of whose log entry was changed on the way.
func (d *demo) refuseTampered(ctx context.Context) error {
	from, err := registry.ParseRef(d.image)
	if err != nil {
		return err
	}
	to, err := d.refOf("demo/tampered:1")
	if err != nil {
		return err
	}
	src, err := d.client.Open(ctx, from)
	if err != nil {
		return err
	}
	dst, err := d.client.Open(ctx, to)
	if err != nil {
		return err
	}
	desc, err := src.Resolve(ctx, from)
	if err != nil {
		return err
	}
	if err := copyImage(ctx, src, dst, desc, to.Tag); err != nil {
		return err
	}
	bundle, err := signatureOf(ctx, src, desc)
	if err != nil {
		return err
	}
	if bundle, err = tamperWithLogEntry(bundle); err != nil {
		return err
	}
	layer, err := dst.PushBlob(ctx, evidence.BundleMediaType, bundle)
	if err != nil {
		return err
	}
	manifest, _, err := ociartifact.BundleManifest(desc, layer, evidence.PredicateSign, d.started)
	if err != nil {
		return err
	}
	if _, err := dst.Attach(ctx, desc, manifest); err != nil {
		return err
	}
	return d.refuse(ctx, "a signature whose log entry was tampered with", []string{"LOG_MISMATCH", "LOG_PROOF_BAD"},
		"verify", to.String(), "--identity", d.identity, "--issuer", d.authority.Issuer)
}

// copyImage copies a manifest or index with all that it names, children first.
func copyImage(ctx context.Context, src, dst *registry.Repository, desc ocispec.Descriptor, tag string) error {
	raw, err := src.Manifest(ctx, desc)
	if err != nil {
		return err
	}
	var m struct {
		Config    *ocispec.Descriptor  `json:"config"`
		Layers    []ocispec.Descriptor `json:"layers"`
		Manifests []ocispec.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return err
	}
	for _, child := range m.Manifests {
		if err := copyImage(ctx, src, dst, child, ""); err != nil {
			return err
		}
	}
	if m.Config != nil {
		m.Layers = append(m.Layers, *m.Config)
	}
	for _, blob := range m.Layers {
		data, err := src.Blob(ctx, blob, 1<<30)
		if err != nil {
			return err
		}
		if _, err := dst.PushBlob(ctx, blob.MediaType, data); err != nil {
			return err
		}
	}
	return dst.PushManifest(ctx, desc, raw, tag)
}

// signatureOf is the bundle of the image's signature.
func signatureOf(ctx context.Context, repo *registry.Repository, subject ocispec.Descriptor) ([]byte, error) {
	referrers, err := repo.Referrers(ctx, subject)
	if err != nil {
		return nil, err
	}
	for _, r := range referrers {
		if r.Annotations["dev.sigstore.bundle.predicateType"] != evidence.PredicateSign {
			continue
		}
		raw, err := repo.Manifest(ctx, r.Descriptor)
		if err != nil {
			return nil, err
		}
		var m ocispec.Manifest
		if err := json.Unmarshal(raw, &m); err != nil {
			return nil, err
		}
		if len(m.Layers) == 1 {
			return repo.Blob(ctx, m.Layers[0], 1<<20)
		}
	}
	return nil, errors.New("the image has no signature to tamper with")
}

// tamperWithLogEntry changes one byte of the entry that the log is said to hold.
func tamperWithLogEntry(bundle []byte) ([]byte, error) {
	var b map[string]any
	if err := json.Unmarshal(bundle, &b); err != nil {
		return nil, err
	}
	material, _ := b["verificationMaterial"].(map[string]any)
	entries, _ := material["tlogEntries"].([]any)
	if len(entries) == 0 {
		return nil, errors.New("the signature has no log entry")
	}
	entry, _ := entries[0].(map[string]any)
	encoded, _ := entry["canonicalizedBody"].(string)
	body, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(body) == 0 {
		return nil, errors.New("the log entry has no body")
	}
	body[len(body)/2] ^= 1
	entry["canonicalizedBody"] = base64.StdEncoding.EncodeToString(body)
	return json.Marshal(b)
}
