package main

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"

	server "github.com/hallmark-dev/hallmark/internal/authority/registry"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/ociartifact"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// registryCommand is the script verb "registry": it starts an empty registry
// on loopback for the rest of the script and sets $REGISTRY to its host:port.
func registryCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: registry")
	}
	s, err := server.Open(ts.MkAbs("registry"), server.Config{})
	ts.Check(err)
	h := httptest.NewServer(s)
	ts.Defer(func() { h.Close(); s.Close() })
	ts.Setenv("REGISTRY", strings.TrimPrefix(h.URL, "http://"))
}

// showcaseCommand is the script verb "showcase REF [bare]": it pushes an index of
// two images and an attestation manifest, with a signature, something attached to
// the signature, and a bundle that is broken; with "bare" an image with nothing
// attached. All digests are the same every time.
func showcaseCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: showcase REF [bare]")
	}
	ref, err := registry.ParseRef(strings.Replace(args[0], "oci:", "oci:"+ts.MkAbs(".")+"/", 1))
	ts.Check(err)
	repo, err := registry.NewClient(registry.Options{}).Open(context.Background(), ref)
	ts.Check(err)
	s := showcase{ts: ts, repo: repo}
	_, err = repo.PushBlob(context.Background(), ocispec.MediaTypeEmptyJSON, []byte(ociartifact.EmptyConfig))
	ts.Check(err)
	if len(args) == 2 {
		s.push(s.image("bare"), ref.Tag)
		return
	}
	amd := s.image("amd64")
	arm := s.image("arm64")
	statement := s.blob("application/vnd.in-toto+json", `{"_type":"https://in-toto.io/Statement/v1"}`)
	statement.Annotations = map[string]string{"in-toto.io/predicate-type": evidence.PredicateSLSA1}
	att := s.manifest(ocispec.Manifest{ArtifactType: "application/vnd.docker.attestation.manifest.v1+json", Subject: &amd, Layers: []ocispec.Descriptor{statement}}, true)
	att.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": amd.Digest.String()}
	amd.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
	arm.Platform = &ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}
	att.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	att.ArtifactType = ""
	var x ocispec.Index
	x.SchemaVersion, x.MediaType, x.Manifests = 2, ocispec.MediaTypeImageIndex, []ocispec.Descriptor{amd, arm, att}
	data, err := json.Marshal(x)
	ts.Check(err)
	index := registry.Describe(x.MediaType, data)
	ts.Check(repo.PushManifest(context.Background(), index, data, ref.Tag))
	signature := s.bundle(index, keyBundle, evidence.PredicateSign)
	s.bundle(index, `{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json"`, "https://x.example/\u001b[2Jhidden")
	note := s.blob("text/plain", "seen by the release team")
	s.manifest(ocispec.Manifest{ArtifactType: "application/vnd.example.note", Subject: &signature, Layers: []ocispec.Descriptor{note}}, true)
}

// keyBundle is a bundle that a key signed, as cosign v3.1.3 wrote it.
const keyBundle = `{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json", "verificationMaterial":{"publicKey":{"hint":"xFgMfCP3pHhpt0cDFokoHIjZoGRapYbN3+t/8CEvAIk="}}, "dsseEnvelope":{"payload":"eyJfdHlwZSI6Imh0dHBzOi8vaW4tdG90by5pby9TdGF0ZW1lbnQvdjEiLCAic3ViamVjdCI6W3siZGlnZXN0Ijp7InNoYTI1NiI6IjFjY2IzOTllNDRmM2UwZWM4NmJiMWE5NTAzMWM2YjlmODFhYzc3ODYwNTU2YTgxYTkwYWNiNzliYWI4MDA1ZDkifSwgImFubm90YXRpb25zIjp7fX1dLCAicHJlZGljYXRlVHlwZSI6Imh0dHBzOi8vc2lnc3RvcmUuZGV2L2Nvc2lnbi9zaWduL3YxIiwgInByZWRpY2F0ZSI6e319", "payloadType":"application/vnd.in-toto+json", "signatures":[{"sig":"MEYCIQDi5wEjXzRdWTpu1WH1NNsyywDC2pygLJkPt0JprFPFpgIhANi2kNIDKgdIyvhmUsZFpRZuHyrv74iWwHhg3nECROpE"}]}}`

type showcase struct {
	ts   *testscript.TestScript
	repo *registry.Repository
}

func (s *showcase) blob(mediaType, content string) ocispec.Descriptor {
	d, err := s.repo.PushBlob(context.Background(), mediaType, []byte(content))
	s.ts.Check(err)
	return d
}

// push gives a manifest that is there already a tag.
func (s *showcase) push(desc ocispec.Descriptor, tag string) {
	data, err := s.repo.Manifest(context.Background(), desc)
	s.ts.Check(err)
	s.ts.Check(s.repo.PushManifest(context.Background(), desc, data, tag))
}

func (s *showcase) image(arch string) ocispec.Descriptor {
	layer := s.blob("application/vnd.oci.image.layer.v1.tar", arch)
	return s.manifest(ocispec.Manifest{Layers: []ocispec.Descriptor{layer}}, false)
}

func (s *showcase) manifest(m ocispec.Manifest, attach bool) ocispec.Descriptor {
	m.SchemaVersion, m.MediaType, m.Config = 2, ocispec.MediaTypeImageManifest, ociartifact.EmptyConfigDescriptor()
	data, err := json.Marshal(m)
	s.ts.Check(err)
	desc := registry.Describe(m.MediaType, data)
	if attach {
		desc, err = s.repo.Attach(context.Background(), *m.Subject, data)
	} else {
		err = s.repo.PushManifest(context.Background(), desc, data, "")
	}
	s.ts.Check(err)
	return desc
}

func (s *showcase) bundle(subject ocispec.Descriptor, content, predicateType string) ocispec.Descriptor {
	manifest, _, err := ociartifact.BundleManifest(subject, s.blob(evidence.BundleMediaType, content), predicateType, time.Unix(1795000000, 0))
	s.ts.Check(err)
	desc, err := s.repo.Attach(context.Background(), subject, manifest)
	s.ts.Check(err)
	return desc
}
