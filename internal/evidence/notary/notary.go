// Package notary reads Notary Project signatures: JWS JSON and COSE_Sign1
// envelopes and the payload that they sign (notaryproject/specifications,
// specs/signature-specification.md, signature-envelope-jws.md,
// signature-envelope-cose.md). It checks the form, never the signature: package
// verify does.
//
// Nothing in an envelope is trusted. What other readers forgive is refused:
// duplicate members, names in another case, several spellings of one value,
// values of indefinite length, anything after the envelope. Memory stays below
// the size of the input, whatever it says.
package notary

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// Media types of envelopes and of what they sign.
const (
	MediaTypeJWS     = "application/jose+json"
	MediaTypeCOSE    = "application/cose"
	MediaTypePayload = "application/vnd.cncf.notary.payload.v1+json"
	// ArtifactType marks manifests that carry an envelope as their one layer.
	ArtifactType = "application/vnd.cncf.notary.signature"
)

// Signing schemes.
const (
	SchemeX509             = "notary.x509"
	SchemeSigningAuthority = "notary.x509.signingAuthority"
)

// Names of the headers that the specification defines.
const (
	headerScheme        = "io.cncf.notary.signingScheme"
	headerSigningTime   = "io.cncf.notary.signingTime"
	headerAuthenticTime = "io.cncf.notary.authenticSigningTime"
	headerExpiry        = "io.cncf.notary.expiry"
	headerSigningAgent  = "io.cncf.notary.signingAgent"
	headerTimestamp     = "io.cncf.notary.timestampSignature"
)

// Limits of an envelope.
const (
	MaxSize         = 32 << 20 // bytes, as notation reads them
	MaxPayload      = 4 << 20  // bytes: a descriptor is no larger than a manifest
	maxProtected    = 64 << 10 // bytes of protected headers
	maxCertificates = 16
)

// Algorithms by JWS's names: nothing else signs (signature-specification.md,
// "Signature Algorithm Requirements").
var algorithms = []string{"PS256", "PS384", "PS512", "ES256", "ES384", "ES512"}

// Parse reads an envelope of one of the two media types. An error says what is
// not as the specification wants it.
func Parse(mediaType string, data []byte) (*evidence.Claim, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%d bytes of envelope; at most %d are read", len(data), MaxSize)
	}
	switch mediaType {
	case MediaTypeJWS:
		return parseJWS(data)
	case MediaTypeCOSE:
		return parseCOSE(data)
	}
	return nil, fmt.Errorf("%q is no envelope of the Notary Project; %s and %s are", clip(mediaType), MediaTypeJWS, MediaTypeCOSE)
}

// protected are the signed headers of either envelope. Times are zero and
// strings empty when the header is missing.
type protected struct {
	algorithm, contentType, scheme   string
	signingTime, authentic, expiry   time.Time
	hasExpiry, hasSigning, hasAuthen bool
	critical, extended               []string
}

// check holds the headers against the specification and puts them into the envelope.
func (p *protected) check(e *evidence.NotaryEnvelope) error {
	switch {
	case !slices.Contains(algorithms, p.algorithm):
		return fmt.Errorf("the signature algorithm %q is none of %s", clip(p.algorithm), strings.Join(algorithms, ", "))
	case p.contentType == "":
		return errors.New("the content type of the payload is missing")
	}
	at, err := p.schemeTime()
	if err != nil {
		return err
	}
	if p.hasExpiry && !p.expiry.After(at) {
		return errors.New("the signature expires before it was made")
	}
	if err := p.checkCritical(); err != nil {
		return err
	}
	e.Algorithm, e.ContentType = p.algorithm, p.contentType
	e.SigningScheme, e.SigningTime, e.Expiry = p.scheme, at, p.expiry
	e.Critical, e.Extended = p.critical, p.extended
	return nil
}

// schemeTime is the signing time under the header that the scheme uses; the
// other scheme's must not be there.
func (p *protected) schemeTime() (time.Time, error) {
	switch p.scheme {
	case SchemeX509:
		if p.hasAuthen {
			return time.Time{}, fmt.Errorf("the header %s is not for signatures of scheme %s", headerAuthenticTime, SchemeX509)
		}
		if !p.hasSigning {
			return time.Time{}, fmt.Errorf("the protected header %s is missing", headerSigningTime)
		}
		return p.signingTime, nil
	case SchemeSigningAuthority:
		if p.hasSigning {
			return time.Time{}, fmt.Errorf("the header %s is not for signatures of scheme %s", headerSigningTime, SchemeSigningAuthority)
		}
		if !p.hasAuthen {
			return time.Time{}, fmt.Errorf("the protected header %s is missing", headerAuthenticTime)
		}
		return p.authentic, nil
	case "":
		return time.Time{}, fmt.Errorf("the protected header %s is missing", headerScheme)
	}
	return time.Time{}, fmt.Errorf("the signing scheme %q is neither %s nor %s", clip(p.scheme), SchemeX509, SchemeSigningAuthority)
}

// checkCritical wants what must be critical to be so, and no name twice. That
// every critical header is there was checked by the reader of the envelope.
func (p *protected) checkCritical() error {
	must := []string{headerScheme}
	if p.hasExpiry {
		must = append(must, headerExpiry)
	}
	if p.scheme == SchemeSigningAuthority {
		must = append(must, headerAuthenticTime)
	}
	for _, name := range must {
		if !slices.Contains(p.critical, name) {
			return fmt.Errorf("the header %s is not marked as critical", name)
		}
	}
	for i, name := range p.critical {
		if slices.Contains(p.critical[:i], name) {
			return fmt.Errorf("the header %s is marked as critical twice", clip(name))
		}
	}
	return nil
}

// claim puts an envelope, its certificates and its countersignature together.
func claim(format evidence.Format, mediaType string, e *evidence.NotaryEnvelope, certs [][]byte, token []byte) (*evidence.Claim, error) {
	switch {
	case len(e.Payload) == 0:
		return nil, errors.New("the payload is missing; detached payloads are not read")
	case len(e.Payload) > MaxPayload:
		return nil, fmt.Errorf("%d bytes of payload; at most %d are read", len(e.Payload), MaxPayload)
	case len(e.Signature) == 0:
		return nil, errors.New("the signature is missing")
	case len(certs) == 0:
		return nil, errors.New("the certificate chain is missing")
	case len(certs) > maxCertificates:
		return nil, fmt.Errorf("%d certificates; at most %d are read", len(certs), maxCertificates)
	}
	c := &evidence.Claim{Format: format, MediaType: mediaType, Certificates: certs, Notary: e}
	if len(token) > 0 {
		c.Timestamps = [][]byte{token}
	}
	return c, nil
}

func clip(s string) string {
	if len(s) > 160 {
		return s[:160] + "…"
	}
	return s
}
