// Package buildx holds the source policy engine against the one that it is compatible
// with: docker/buildx's package policy, driven as BuildKit drives it. It is a module
// of its own, because that package brings more than 500 modules along.
package buildx

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"testing/fstest"
	"time"

	"github.com/docker/buildx/policy"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	spb "github.com/moby/buildkit/sourcepolicy/pb"
	"github.com/moby/buildkit/sourcepolicy/policysession"
	policyhelpers "github.com/moby/policy-helpers"
	policyimage "github.com/moby/policy-helpers/image"
	policytypes "github.com/moby/policy-helpers/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
)

// World is what is true of one source, whoever asks.
type World struct {
	ID     string            // source identifier
	Attrs  map[string]string // BuildKit's attributes
	Digest string            // of an image
	Config string            // an image's configuration, JSON

	Attested   bool
	Provenance map[string]string // predicates by type
	Signature  *Signature

	Ref, Checksum, CommitChecksum string // of a checkout
	Commit, Tag                   []byte

	Body string // of a download
}

// Signature is a verified signature.
type Signature struct {
	Kind        string
	Type        string
	NoTimes     bool
	Certificate certificate.Summary
	DockerRef   string
	IsDHI       bool
}

var signedAt = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func builderSignature(repo, ref string) *Signature {
	return &Signature{Kind: "docker-github-builder", Type: "bundle-v0.3", Certificate: certificate.Summary{
		CertificateIssuer: "CN=sigstore-intermediate,O=sigstore.dev", SubjectAlternativeName: "https://github.com/docker/github-builder/.github/workflows/build.yml@refs/heads/main",
		Extensions: certificate.Extensions{Issuer: "https://token.actions.githubusercontent.com", SourceRepositoryURI: "https://github.com/" + repo,
			SourceRepositoryRef: ref, RunnerEnvironment: "github-hosted", BuildTrigger: "push", SourceRepositoryVisibilityAtSigning: "public"}}}
}

// Verdict is an engine's answer.
type Verdict struct {
	Allowed bool
	Pinned  string
	Error   string // an answer that is no decision; it denies
}

func (v Verdict) String() string {
	switch {
	case v.Error != "":
		return "error: " + v.Error
	case v.Pinned != "":
		return "pin " + v.Pinned
	case v.Allowed:
		return "allow"
	}
	return "deny"
}

// Theirs asks buildx, whose metadata requests are answered from the world.
func Theirs(ctx context.Context, w World, text string, env policy.Env, folder fstest.MapFS) Verdict {
	p := policy.NewPolicy(policy.Opt{
		Files: []policy.File{{Filename: "Dockerfile.rego", Data: []byte(text)}}, Env: env,
		FS:               func() (fs.StatFS, func() error, error) { return folder, nil, nil },
		VerifierProvider: func() (policy.PolicyVerifier, error) { return verifier{w}, nil },
	})
	source := &pb.SourceOp{Identifier: w.ID, Attrs: w.Attrs}
	src := &gwpb.ResolveSourceMetaResponse{Source: source}
	for range 10 {
		decision, next, err := p.CheckPolicy(ctx, &policysession.CheckPolicyRequest{Source: src, Platform: &pb.Platform{OS: "linux", Architecture: "amd64"}})
		if err != nil {
			return Verdict{Error: err.Error()}
		}
		if next == nil {
			switch decision.Action {
			case spb.PolicyAction_ALLOW:
				return Verdict{Allowed: true}
			case spb.PolicyAction_CONVERT:
				return Verdict{Allowed: true, Pinned: decision.Update.Attrs["image.checksum"]}
			}
			return Verdict{}
		}
		if src, err = w.answer(source, next); err != nil {
			return Verdict{Error: err.Error()}
		}
	}
	return Verdict{Error: "no end of questions"}
}

// answer is what BuildKit resolves.
func (w World) answer(source *pb.SourceOp, q *gwpb.ResolveSourceMetaRequest) (*gwpb.ResolveSourceMetaResponse, error) {
	out := &gwpb.ResolveSourceMetaResponse{Source: source}
	switch {
	case w.Digest != "":
		out.Image = &gwpb.ResolveSourceImageResponse{Digest: w.Digest}
		if q.Image != nil && !q.Image.NoConfig {
			out.Image.Config = []byte(w.Config)
		}
		if q.Image != nil && q.Image.AttestationChain {
			out.Image.AttestationChain = w.chain(len(q.Image.ResolveAttestations) > 0)
		}
	case w.Checksum != "":
		out.Git = &gwpb.ResolveSourceGitResponse{Ref: w.Ref, Checksum: w.Checksum, CommitChecksum: w.CommitChecksum}
		if q.Git != nil && q.Git.ReturnObject {
			out.Git.CommitObject, out.Git.TagObject = w.Commit, w.Tag
		}
	case w.Body != "":
		out.HTTP = &gwpb.ResolveSourceHTTPResponse{Checksum: digest.FromString(w.Body).String()}
	default:
		return nil, fmt.Errorf("%s is not there", w.ID)
	}
	return out, nil
}

// chain is an index with one image and, where it is attested, its attestation manifest.
func (w World) chain(statements bool) *gwpb.AttestationChain {
	blobs := map[string]*gwpb.Blob{}
	add := func(mediaType string, v any, annotations map[string]string) string {
		data, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		d := digest.FromBytes(data).String()
		blobs[d] = &gwpb.Blob{Descriptor_: &gwpb.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data)), Annotations: annotations}, Data: data}
		return d
	}
	image, attestation := digest.FromString("image"), digest.FromString("attestation")
	manifests := []map[string]any{{"mediaType": ocispec.MediaTypeImageManifest, "digest": image, "size": 5, "platform": map[string]string{"os": "linux", "architecture": "amd64"}}}
	if w.Attested {
		manifests = append(manifests, map[string]any{"mediaType": ocispec.MediaTypeImageManifest, "digest": attestation, "size": 11, "annotations": map[string]string{
			policyimage.AnnotationDockerReferenceType: policyimage.AttestationManifestType, policyimage.AnnotationDockerReferenceDigest: image.String()}})
	}
	out := &gwpb.AttestationChain{Blobs: blobs}
	out.Root = add(ocispec.MediaTypeImageIndex, map[string]any{"mediaType": ocispec.MediaTypeImageIndex, "manifests": manifests}, nil)
	if !w.Attested {
		return out
	}
	out.AttestationManifest = attestation.String()
	if w.Signature != nil {
		out.SignatureManifests = []string{add(ocispec.MediaTypeImageManifest, map[string]any{"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest, "artifactType": policyimage.ArtifactTypeSigstoreBundle}, nil)}
	}
	for kind, predicate := range w.Provenance {
		if statements {
			add("application/vnd.in-toto+json", map[string]any{"_type": "https://in-toto.io/Statement/v1", "predicateType": kind, "predicate": json.RawMessage(predicate)}, map[string]string{"in-toto.io/predicate-type": kind})
		}
	}
	return out
}

// verifier believes the world's signature.
type verifier struct{ w World }

func (v verifier) VerifyImage(context.Context, policyimage.ReferrersProvider, ocispec.Descriptor, *ocispec.Platform) (*policytypes.SignatureInfo, error) {
	if v.w.Signature == nil {
		return nil, fmt.Errorf("not signed")
	}
	return v.w.Signature.theirs(), nil
}

func (v verifier) VerifyArtifact(context.Context, digest.Digest, []byte, ...policyhelpers.ArtifactVerifyOpt) (*policytypes.SignatureInfo, error) {
	return v.VerifyImage(context.Background(), nil, ocispec.Descriptor{}, nil)
}

func (s *Signature) theirs() *policytypes.SignatureInfo {
	kinds := map[string]policytypes.Kind{"docker-github-builder": policytypes.KindDockerGithubBuilder, "docker-hardened-image": policytypes.KindDockerHardenedImage,
		"self-signed-github-repo": policytypes.KindSelfSignedGithubRepo, "self-signed": policytypes.KindSelfSigned, "untrusted": policytypes.KindUntrusted}
	types := map[string]policytypes.SignatureType{"bundle-v0.3": policytypes.SignatureBundleV03, "simplesigning-v1": policytypes.SignatureSimpleSigningV1}
	out := &policytypes.SignatureInfo{Kind: kinds[s.Kind], SignatureType: types[s.Type], DockerReference: s.DockerRef, IsDHI: s.IsDHI}
	c := s.Certificate
	out.Signer = &c
	if !s.NoTimes {
		out.Timestamps = []policytypes.TimestampVerificationResult{{Type: "Tlog", URI: "https://rekor.sigstore.dev", Timestamp: signedAt}}
	}
	return out
}

func (s *Signature) ours() sourcepolicy.Signature {
	out := sourcepolicy.Signature{Kind: s.Kind, Type: s.Type, DockerReference: s.DockerRef, IsDHI: s.IsDHI, Signer: &sourcepolicy.Signer{}}
	data, err := json.Marshal(s.Certificate.Extensions)
	if err == nil {
		err = json.Unmarshal(data, out.Signer)
	}
	if err != nil {
		panic(err)
	}
	out.Signer.CertificateIssuer, out.Signer.SubjectAlternativeName = s.Certificate.CertificateIssuer, s.Certificate.SubjectAlternativeName
	if !s.NoTimes {
		out.Timestamps = []sourcepolicy.Timestamp{{Type: "Tlog", URI: "https://rekor.sigstore.dev", Timestamp: signedAt}}
	}
	return out
}

// Ours asks our engine, whose facts come from the same world.
func Ours(ctx context.Context, w World, text string, env sourcepolicy.Env, folder fs.FS) Verdict {
	p, err := sourcepolicy.Compile([]sourcepolicy.File{{Name: "Dockerfile.rego", Data: []byte(text)}}, sourcepolicy.Options{FS: folder})
	if err != nil {
		return Verdict{Error: err.Error()}
	}
	d, err := sourcepolicy.NewSet(p).Evaluate(ctx, sourcepolicy.Request{Source: sourcepolicy.Source{Identifier: w.ID, Attrs: w.Attrs, Platform: "linux/amd64"}, Env: env, Resolver: w})
	if err != nil {
		return Verdict{Error: err.Error()}
	}
	v := Verdict{Allowed: d.Allowed, Pinned: string(d.Pinned)}
	if !d.Allowed && d.Reasons[0].Code != "POLICY_DENIED" {
		v.Error = d.Reasons[0].String()
	}
	return v
}

// Resolve is the world as our resolver.
func (w World) Resolve(_ context.Context, _ sourcepolicy.Source, asks []sourcepolicy.Ask) (sourcepolicy.Facts, error) {
	var f sourcepolicy.Facts
	switch {
	case w.Digest != "":
		f.Checksum = evidence.Digest(w.Digest)
		var c ocispec.Image
		if err := json.Unmarshal([]byte(w.Config), &c); err != nil {
			return f, err
		}
		f.Config = &sourcepolicy.ImageConfiguration{Env: c.Config.Env, Labels: c.Config.Labels, User: c.Config.User, WorkingDir: c.Config.WorkingDir}
		for v := range c.Config.Volumes {
			f.Config.Volumes = append(f.Config.Volumes, v)
		}
		if c.Created != nil {
			f.Config.CreatedTime = c.Created.Format(time.RFC3339)
		}
		attested := w.Attested
		f.Attested, f.Signatures, f.Provenance = &attested, &[]sourcepolicy.Signature{}, &sourcepolicy.ProvenanceFact{}
		f.Attestations = &[]sourcepolicy.Attestation{}
		if w.Signature != nil && w.Attested {
			f.Signatures = &[]sourcepolicy.Signature{w.Signature.ours()}
		}
		for kind, predicate := range w.Provenance {
			f.Provenance = &sourcepolicy.ProvenanceFact{PredicateType: kind, Predicate: []byte(predicate)}
		}
	case w.Checksum != "":
		commit := w.CommitChecksum
		if commit == "" {
			commit = w.Checksum
		}
		ref := sourcepolicy.GitRefFact{Ref: w.Ref, Checksum: w.Checksum, CommitChecksum: commit}
		f.Git = &ref
		if w.Commit != nil {
			f.Objects = &sourcepolicy.GitObjectsFact{GitRefFact: ref, Commit: w.Commit, Tag: w.Tag}
		}
	case w.Body != "":
		f.Checksum = evidence.Digest(digest.FromString(w.Body).String())
		for _, a := range asks {
			if a.Fact == sourcepolicy.BundleSignature {
				f.Found = map[string]*sourcepolicy.Signature{a.Key(): nil}
				if w.Signature != nil {
					s := w.Signature.ours()
					f.Found[a.Key()] = &s
				}
			}
		}
	default:
		return f, fmt.Errorf("%s is not there", w.ID)
	}
	return f, nil
}
