package attestation_test

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/attestation"
	"github.com/hallmark-dev/hallmark/internal/ociartifact"
)

const (
	image = "sha256:1ccb399e44f3e0ec86bb1a95031c6b9f81acc77860556a81a90acb79bab8005d"
	proof = "sha256:2ccb399e44f3e0ec86bb1a95031c6b9f81acc77860556a81a90acb79bab8005d"

	// An index as buildx pushes it.
	index = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[
		{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + image + `","size":1,"platform":{"architecture":"amd64","os":"linux"}},
		{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + proof + `","size":2,
		 "annotations":{"vnd.docker.reference.digest":"` + image + `","vnd.docker.reference.type":"attestation-manifest"},"platform":{"architecture":"unknown","os":"unknown"}}]}`
	// The older form of an attestation manifest: an image of statements.
	older = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
		"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"` + image + `","size":2},
		"layers":[{"mediaType":"application/vnd.in-toto+json","digest":"` + proof + `","size":3,"annotations":{"in-toto.io/predicate-type":"https://spdx.dev/Document"}}]}`
	statement = `{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://slsa.dev/provenance/v0.2","subject":[{"name":"pkg:docker/app@v1?platform=linux%2Famd64","digest":{"sha256":"1ccb399e44f3e0ec86bb1a95031c6b9f81acc77860556a81a90acb79bab8005d"}}],"predicate":{"builder":{"id":""}}}`
)

func parse(t testing.TB, text string) *ociartifact.Manifest {
	t.Helper()
	m, err := ociartifact.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestForms(t *testing.T) {
	t.Parallel()
	listed := attestation.Listed(parse(t, index))
	if len(listed) != 1 || listed[0].About != image || listed[0].Manifest.Digest != proof || listed[0].Manifest.Size != 2 || listed[0].Manifest.Annotations != nil {
		t.Errorf("%+v", listed)
	}
	for name, text := range map[string]string{
		"an image's platform": strings.ReplaceAll(index, `"architecture":"unknown","os":"unknown"`, `"architecture":"amd64","os":"linux"`),
		"half of one":         strings.ReplaceAll(index, `"os":"unknown"`, `"os":"linux"`),
		"no platform":         strings.ReplaceAll(index, `,"platform":{"architecture":"unknown","os":"unknown"}`, ""),
	} {
		if listed := attestation.Listed(parse(t, text)); len(listed) != 0 {
			t.Errorf("%s: an image under a false name: %+v", name, listed)
		}
	}
	newer := strings.NewReplacer(`"config"`, `"artifactType":"application/vnd.docker.attestation.manifest.v1+json","subject":{"mediaType":"x","digest":"`+image+`","size":1},"config"`,
		"application/vnd.oci.image.config.v1+json", "application/vnd.oci.empty.v1+json").Replace(older)
	for name, c := range map[string]struct {
		text  string
		about evidence.Digest
		n     int
	}{"older": {older, "", 1}, "newer": {newer, image, 1}, "newer, empty": {newer[:strings.Index(newer, `"layers"`)] + `"layers":[]}`, image, 0}} {
		m := attestation.Of(parse(t, c.text))
		if m == nil || m.About != c.about || len(m.Layers) != c.n || c.n == 1 && m.Layers[0].PredicateType != evidence.PredicateSPDX {
			t.Errorf("%s: %+v", name, m)
		}
	}
	for name, text := range map[string]string{"an index": index, "an image": strings.Replace(older, "application/vnd.in-toto+json", "application/vnd.oci.image.layer.v1.tar", 1)} {
		if m := attestation.Of(parse(t, text)); m != nil {
			t.Errorf("%s: %+v", name, m)
		}
	}
}

func TestParseStatement(t *testing.T) {
	t.Parallel()
	st, err := attestation.ParseStatement([]byte(statement), evidence.PredicateSLSA02)
	if err != nil || st.Kind != attestation.KindProvenance || !st.IsAbout(image) || st.IsAbout(proof) || st.IsAbout("") {
		t.Errorf("%+v %v", st, err)
	}
	for name, c := range map[string]struct{ text, predicate string }{
		"another type": {statement, evidence.PredicateSLSA1},
		"two subjects": {strings.Replace(statement, `"subject"`, `"subject":[],"subject"`, 1), ""},
		"a tail":       {statement + "{}", ""},
		"nothing":      {"", ""},
	} {
		if st, err := attestation.ParseStatement([]byte(c.text), c.predicate); err == nil {
			t.Errorf("%s: %+v", name, st)
		}
	}
}

func TestSignatureKind(t *testing.T) {
	t.Parallel()
	const builder = "https://github.com/docker/github-builder/.github/workflows/build.yml@refs/tags/v1"
	of := func(change func(s *attestation.Signature)) attestation.Signature {
		s := attestation.Signature{CertificateIssuer: "CN=sigstore-intermediate,O=sigstore.dev", Format: evidence.FormatBundle03, Times: 1,
			Signer: evidence.Signer{Identity: builder, Issuer: "https://token.actions.githubusercontent.com", Extensions: map[string]string{
				"buildSignerURI": builder, "runnerEnvironment": "github-hosted", "sourceRepositoryURI": "https://github.com/org/app"}}}
		s.Signer.Extensions = maps.Clone(s.Signer.Extensions)
		if change != nil {
			change(&s)
		}
		return s
	}
	own := func(s *attestation.Signature) {
		s.Signer.Identity = "https://github.com/org/app/.github/workflows/x.yml@refs/heads/main"
		s.Signer.Extensions["buildSignerURI"] = s.Signer.Identity
	}
	for name, c := range map[string]struct {
		change func(s *attestation.Signature)
		want   attestation.SignatureKind
	}{
		"builder": {nil, attestation.KindDockerGitHubBuilder},
		"its trials": {func(s *attestation.Signature) {
			s.Signer.Identity = strings.Replace(builder, "-builder/", "-builder-experimental/", 1)
			s.Signer.Extensions["buildSignerURI"] = s.Signer.Identity
		}, attestation.KindDockerGitHubBuilder},
		"a look-alike": {func(s *attestation.Signature) {
			s.Signer.Identity = strings.Replace(builder, "-builder/", "-builderx/", 1)
		}, attestation.KindSelfSigned},
		"only the SAN":         {func(s *attestation.Signature) { s.Signer.Extensions["buildSignerURI"] = "https://github.com/org/app/x" }, attestation.KindSelfSigned},
		"no time":              {func(s *attestation.Signature) { s.Times = 0 }, attestation.KindSelfSigned},
		"simple signing":       {func(s *attestation.Signature) { s.Format = evidence.FormatCosignSignature }, attestation.KindSelfSigned},
		"self-hosted":          {func(s *attestation.Signature) { s.Signer.Extensions["runnerEnvironment"] = "self-hosted" }, attestation.KindSelfSigned},
		"private instance":     {func(s *attestation.Signature) { s.CertificateIssuer = "CN=sigstore-intermediate,O=example" }, attestation.KindUntrusted},
		"a key":                {func(s *attestation.Signature) { *s = attestation.Signature{Signer: evidence.Signer{Key: "sha256:00"}} }, attestation.KindUntrusted},
		"the repository's own": {own, attestation.KindSelfSignedGitHubRepo},
		"another repository's": {func(s *attestation.Signature) {
			own(s)
			s.Signer.Extensions["sourceRepositoryURI"] = "https://github.com/org/ap"
		}, attestation.KindSelfSigned},
		"another issuer": {func(s *attestation.Signature) { own(s); s.Signer.Issuer = "https://gitlab.com" }, attestation.KindSelfSigned},
		"a person": {func(s *attestation.Signature) {
			s.Signer = evidence.Signer{Identity: "a@b.test", Issuer: "https://accounts.google.com"}
		}, attestation.KindSelfSigned},
		"source without a forge": {func(s *attestation.Signature) { s.Signer.Extensions["sourceRepositoryURI"] = "" }, attestation.KindSelfSigned},
	} {
		if got := of(c.change).Kind(); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func FuzzForms(f *testing.F) {
	f.Add([]byte(index))
	f.Add([]byte(older))
	f.Add([]byte(statement))
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, err := ociartifact.Parse(data); err == nil {
			for _, e := range attestation.Listed(m) {
				if _, err := evidence.ParseDigest(string(e.About)); err != nil {
					t.Errorf("about %q", e.About)
				}
			}
			if own := attestation.Of(m); own != nil && m.IsIndex() {
				t.Error("an index is no attestation manifest")
			}
		}
		if st, err := attestation.ParseStatement(data, ""); err == nil && (len(st.Subject) == 0 || !json.Valid(data)) {
			t.Errorf("%+v", st)
		}
	})
}
