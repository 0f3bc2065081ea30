package main

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/bundle"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// What the services answered, checked after the time was taken: a server that answers
// nonsense fast does not win. Every checkEach-th answer is kept.

// answered is what a client got for a signature of its own; what it did not ask for is
// empty.
type answered struct {
	digest [32]byte // of what is signed
	sig    []byte
	key    *ecdsa.PublicKey
	chain  []byte // the CA's answer
	stamp  []byte // RFC 3161, DER
	entry  []byte // the log's answer
}

// answers are what one side said, kept by many clients at once.
type answers struct {
	root *trust.Root // what the side's services are known by
	mu   sync.Mutex
	kept []answered
}

// keep copies what a client was told about its i-th operation if it is to be checked.
func (a *answers) keep(i int, x answered) {
	if i%checkEach != 0 {
		return
	}
	x.chain, x.stamp, x.entry = bytes.Clone(x.chain), bytes.Clone(x.stamp), bytes.Clone(x.entry)
	a.mu.Lock()
	a.kept = append(a.kept, x)
	a.mu.Unlock()
}

// each checks all that were kept, one at least.
func (a *answers) each(check func(answered) error) error {
	for _, x := range a.kept {
		if err := check(x); err != nil {
			return fmt.Errorf("an answer is not what was asked for: %w", err)
		}
	}
	if len(a.kept) == 0 {
		return errors.New("no answer was kept to be checked")
	}
	return nil
}

// signatures checks that each answer with the signature is a bundle that verifies: for a
// keyless one that its certificate is of the bench's identity, in the CT log, stamped
// within its time, and in the log; without a certificate that it is stamped.
func (a *answers) signatures() error {
	return a.each(func(x answered) error {
		claim, err := x.claim()
		if err != nil {
			return err
		}
		config := verify.Config{Roots: []*trust.Root{a.root}, RequireTimestamp: true}
		if x.chain == nil {
			config.Keys = []crypto.PublicKey{x.key}
		}
		v, err := verify.New(config)
		if err != nil {
			return err
		}
		verified, reasons := v.Claim(claim, verify.Image(evidence.Digest("sha256:"+hex.EncodeToString(x.digest[:]))))
		if len(reasons) > 0 {
			return errors.New(reasons[0].String())
		}
		if x.chain != nil && verified.Signer().Identity != identity {
			return fmt.Errorf("the certificate is of %q", verified.Signer().Identity)
		}
		return nil
	})
}

// claim is the signature with what the services said, as a bundle has it.
func (x answered) claim() (*evidence.Claim, error) {
	material := map[string]any{"timestampVerificationData": map[string]any{"rfc3161Timestamps": []any{map[string]any{"signedTimestamp": x.stamp}}}}
	if x.chain == nil {
		material["publicKey"] = map[string]any{"hint": ""}
	} else {
		certs, err := chainOf(x.chain)
		if err != nil {
			return nil, err
		}
		material["certificate"] = map[string]any{"rawBytes": certs[0]}
		material["tlogEntries"] = []any{json.RawMessage(x.entry)}
	}
	data, err := json.Marshal(map[string]any{
		"mediaType":            "application/vnd.dev.sigstore.bundle.v0.3+json",
		"verificationMaterial": material,
		"messageSignature":     map[string]any{"messageDigest": map[string]any{"algorithm": "SHA2_256", "digest": x.digest[:]}, "signature": x.sig},
	})
	if err != nil {
		return nil, err
	}
	return bundle.Parse(data)
}

// certificates checks that each answer is a certificate of the key and the identity that
// asked, under the side's CA, and with an SCT where there has to be one. What the SCT
// says, signatures checks.
func (a *answers) certificates(withSCT bool) error {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, ca := range a.root.CAs {
		roots.AddCert(ca.Anchor)
		for _, c := range ca.Intermediates {
			between.AddCert(c)
		}
	}
	sct := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}
	return a.each(func(x answered) error {
		chain, err := chainOf(x.chain)
		if err != nil {
			return err
		}
		leaf, err := x509.ParseCertificate(chain[0])
		if err != nil {
			return err
		}
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}); err != nil {
			return err
		}
		has := false
		for _, e := range leaf.Extensions {
			has = has || e.Id.Equal(sct)
		}
		switch {
		case !x.key.Equal(leaf.PublicKey):
			return errors.New("the certificate is of another key")
		case !slices.Equal(leaf.EmailAddresses, []string{identity}):
			return fmt.Errorf("the certificate is of %q", leaf.EmailAddresses)
		case withSCT && !has:
			return errors.New("the certificate has no SCT")
		}
		return nil
	})
}

// chainOf is the certificates of a CA's answer, leaf first, DER; one at least.
func chainOf(answer []byte) (chain [][]byte, err error) {
	type certified struct {
		Chain struct {
			Certificates []string `json:"certificates"`
		} `json:"chain"`
	}
	var a struct {
		Embedded certified `json:"signedCertificateEmbeddedSct"`
		Detached certified `json:"signedCertificateDetachedSct"`
	}
	if err := json.Unmarshal(answer, &a); err != nil {
		return nil, err
	}
	for _, text := range append(a.Embedded.Chain.Certificates, a.Detached.Chain.Certificates...) {
		if block, _ := pem.Decode([]byte(text)); block != nil {
			chain = append(chain, block.Bytes)
		}
	}
	if len(chain) == 0 {
		return nil, errors.New("the CA's answer has no certificate")
	}
	return chain, nil
}
