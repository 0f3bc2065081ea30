package attestation

import (
	"strings"

	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// SignatureKind says whose signature an image carries, as buildx's policies name
// it (input.image.signatures[].kind).
type SignatureKind string

// The kinds. Buildx also knows "docker-hardened-image", which a key inside
// buildx decides; that key is not believed here, so that kind is never given.
const (
	KindDockerGitHubBuilder  SignatureKind = "docker-github-builder"
	KindSelfSignedGitHubRepo SignatureKind = "self-signed-github-repo"
	KindSelfSigned           SignatureKind = "self-signed"
	KindUntrusted            SignatureKind = "untrusted"
)

// Signature is what is verified about a signature.
type Signature struct {
	Signer            evidence.Signer
	CertificateIssuer string // distinguished name of the signing certificate's issuer, "" for a key
	Format            evidence.Format
	Times             int // trusted times
}

const (
	gitHub           = "https://github.com/"
	gitHubIssuer     = "https://token.actions.githubusercontent.com"
	publicIssuer     = "CN=sigstore-intermediate,O=sigstore.dev"
	builder          = gitHub + "docker/github-builder/.github/workflows/"
	builderForTrials = gitHub + "docker/github-builder-experimental/.github/workflows/"
)

// Kind names a verified signature. Each condition is buildx's: the public
// instance's certificate, GitHub's issuer and runners, and workflows of
// docker/github-builder or of the source repository itself.
func (s Signature) Kind() SignatureKind {
	if s.CertificateIssuer != publicIssuer {
		return KindUntrusted
	}
	source, workflow := s.Signer.Extensions["sourceRepositoryURI"], s.Signer.Extensions["buildSignerURI"]
	hosted := s.Signer.Issuer == gitHubIssuer && s.Signer.Extensions["runnerEnvironment"] == "github-hosted" && strings.HasPrefix(source, gitHub)
	below := func(prefixes ...string) bool {
		in := func(uri string) bool {
			for _, p := range prefixes {
				if strings.HasPrefix(uri, p) {
					return true
				}
			}
			return false
		}
		return in(workflow) && in(s.Signer.Identity)
	}
	switch {
	case hosted && below(builder, builderForTrials) && s.Times > 0 && s.Format == evidence.FormatBundle03:
		return KindDockerGitHubBuilder
	case hosted && below(source+"/.github/workflows/"):
		return KindSelfSignedGitHubRepo
	}
	return KindSelfSigned
}
