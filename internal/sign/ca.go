package sign

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"errors"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/key"
)

const stepCA = "get a certificate"

// certified is an ephemeral key with the certificate that the CA gave for it.
type certified struct {
	key  key.Signer
	leaf *x509.Certificate
	who  evidence.Signer
}

// certificateRequest is the body of a Fulcio v2 request (fulcio.proto,
// CreateSigningCertificateRequest): the public key, and with a signature over the
// token's subject the proof that its private half is ours.
func certificateRequest(ephemeral key.Signer, subject string) ([]byte, error) {
	publicPEM, err := key.PublicPEM(ephemeral.Public())
	if err != nil {
		return nil, err
	}
	proof, err := ephemeral.Sign([]byte(subject))
	if err != nil {
		return nil, err
	}
	type publicKey struct {
		Algorithm string `json:"algorithm"`
		Content   string `json:"content"`
	}
	var body struct {
		Request struct {
			PublicKey publicKey `json:"publicKey"`
			Proof     []byte    `json:"proofOfPossession"`
		} `json:"publicKeyRequest"`
	}
	body.Request.PublicKey = publicKey{Algorithm: "ECDSA", Content: string(publicPEM)}
	body.Request.Proof = proof
	return json.Marshal(body)
}

// requestCertificate asks a Fulcio v2 API for a certificate of the token's
// identity over the ephemeral key.
func (s *Signer) requestCertificate(ctx context.Context, ephemeral key.Signer) (*certified, error) {
	sent, err := certificateRequest(ephemeral, s.cfg.Token.ProofSubject())
	if err != nil {
		return nil, err
	}
	url := strings.TrimRight(s.cfg.Services.CA, "/") + "/api/v2/signingCert"
	answers, err := askAll(ctx, &s.cfg.Services, One(url), func(ctx context.Context, url string) ([]byte, error) {
		return s.http.post(ctx, request{
			step: stepCA, url: url, body: sent,
			contentType: "application/json", accept: "application/json", bearer: s.cfg.Token.Raw,
		})
	})
	if err != nil {
		return nil, err
	}
	answer := answers[0].answer
	leaf, err := parseCertificates(answer)
	if err != nil {
		return nil, wrong(stepCA, url, "%w", err)
	}
	if err := s.checkCertificate(leaf, ephemeral); err != nil {
		return nil, wrong(stepCA, url, "%w", err)
	}
	who, err := whoIs(leaf)
	if err != nil {
		return nil, wrong(stepCA, url, "%w", err)
	}
	if e := s.cfg.Token.Email; e != "" && who.Identity != e {
		return nil, wrong(stepCA, url, "the certificate is for %q, the token for %q", who.Identity, e)
	}
	return &certified{key: ephemeral, leaf: leaf, who: who}, nil
}

// parseCertificates reads the leaf from a Fulcio v2 answer and checks that the
// chain that comes with it is one.
func parseCertificates(answer []byte) (*x509.Certificate, error) {
	type chain struct {
		Chain struct {
			Certificates []string `json:"certificates"`
		} `json:"chain"`
	}
	var a struct {
		Embedded *chain `json:"signedCertificateEmbeddedSct"`
		Detached *chain `json:"signedCertificateDetachedSct"`
	}
	if err := json.Unmarshal(answer, &a); err != nil {
		return nil, errors.New("not the JSON of a certificate answer")
	}
	switch {
	case a.Embedded == nil && a.Detached != nil:
		return nil, errors.New("the certificate's proof of logging (SCT) is detached; bundles have room only for embedded ones")
	case a.Embedded == nil || len(a.Embedded.Chain.Certificates) == 0:
		return nil, errors.New("no certificate in it")
	case len(a.Embedded.Chain.Certificates) > 10:
		return nil, errors.New("more than 10 certificates in it")
	}
	var certs []*x509.Certificate
	for _, text := range a.Embedded.Chain.Certificates {
		block, rest := pem.Decode([]byte(text))
		if block == nil || block.Type != "CERTIFICATE" || len(strings.TrimSpace(string(rest))) != 0 {
			return nil, errors.New("not one PEM certificate each")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.New("a certificate that cannot be read")
		}
		certs = append(certs, c)
	}
	for i, c := range certs[1:] {
		if err := certs[i].CheckSignatureFrom(c); err != nil {
			return nil, errors.New("its certificates are not a chain")
		}
	}
	return certs[0], nil
}

// oidSCT is the extension of embedded SCTs (RFC 6962, 3.3).
func oidSCT() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}
}

// checkCertificate refuses a leaf that no verifier could accept for a signature
// made now with this key.
func (s *Signer) checkCertificate(leaf *x509.Certificate, ephemeral key.Signer) error {
	if !ephemeral.Public().(*ecdsa.PublicKey).Equal(leaf.PublicKey) {
		return errors.New("the certificate is for another public key")
	}
	if leaf.IsCA || !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageCodeSigning) {
		return errors.New("the certificate is not for signing code")
	}
	if !slices.ContainsFunc(leaf.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidSCT()) }) {
		return errors.New("the certificate has no embedded SCT")
	}
	now := s.cfg.Now()
	if now.After(leaf.NotAfter) || now.Add(spare).Before(leaf.NotBefore) {
		return fault.Hint(errors.New("the certificate is not valid now by this machine's clock"),
			"it is valid from %s to %s; check the clock of this machine", leaf.NotBefore.UTC().Format("15:04:05"), leaf.NotAfter.UTC().Format("15:04:05 MST on 2006-01-02"))
	}
	return nil
}

// whoIs reads the certificate's one identity and its OIDC issuer (fulcio's
// oid-info.md: 1.3.6.1.4.1.57264.1.8, or .1.1 in old certificates).
func whoIs(leaf *x509.Certificate) (evidence.Signer, error) {
	names := slices.Clone(leaf.EmailAddresses)
	for _, u := range leaf.URIs {
		names = append(names, u.String())
	}
	names = append(names, leaf.DNSNames...)
	if len(names) == 0 {
		names = otherNames(leaf)
	}
	if len(names) != 1 {
		return evidence.Signer{}, errors.New("the certificate has not exactly one identity")
	}
	who := evidence.Signer{Identity: names[0]}
	for _, e := range leaf.Extensions {
		switch {
		case e.Id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 8}):
			var issuer string
			if rest, err := asn1.Unmarshal(e.Value, &issuer); err != nil || len(rest) != 0 {
				return evidence.Signer{}, errors.New("the certificate's issuer extension cannot be read")
			}
			who.Issuer = issuer
		case who.Issuer == "" && e.Id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 1}):
			who.Issuer = string(e.Value)
		}
	}
	return who, nil
}

// otherNames reads fulcio's OtherName identities (1.3.6.1.4.1.57264.1.7), which
// crypto/x509 does not.
func otherNames(leaf *x509.Certificate) []string {
	var names []string
	for _, e := range leaf.Extensions {
		if !e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) {
			continue
		}
		in := cryptobyte.String(e.Value)
		var seq cryptobyte.String
		if !in.ReadASN1(&seq, casn1.SEQUENCE) {
			return nil
		}
		for !seq.Empty() {
			var name, value, text cryptobyte.String
			var tag casn1.Tag
			var oid asn1.ObjectIdentifier
			if !seq.ReadAnyASN1(&name, &tag) {
				return nil
			}
			if tag != casn1.Tag(0).ContextSpecific().Constructed() || !name.ReadASN1ObjectIdentifier(&oid) {
				continue
			}
			if oid.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 7}) &&
				name.ReadASN1(&value, casn1.Tag(0).ContextSpecific().Constructed()) && value.ReadASN1(&text, casn1.UTF8String) {
				names = append(names, string(text))
			}
		}
	}
	return names
}
