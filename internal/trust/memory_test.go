//go:build !race

package trust_test

import (
	"encoding/asn1"
	"encoding/base64"
	"math/big"
	"testing"
	"time"

	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"

	"github.com/hallmark-dev/hallmark/internal/hmtest/forge"
	"github.com/hallmark-dev/hallmark/internal/hmtest/hostile"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

// TestHostileMemory: no trust root or signing config takes more than 64 MB besides
// one copy of it to read.
func TestHostileMemory(t *testing.T) {
	const head = `{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1",`
	fill := func(before, piece, after string) []byte { return hostile.Fill(trust.MaxSize, before, piece, after) }
	// A CA's certificate with as many parts as its base64 has room for.
	certificate := func(change func(c *x509.Certificate, n int)) []byte {
		template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageCertSign, NotAfter: time.Now().Add(time.Hour)}
		change(template, trust.MaxSize/4*3-4096)
		der := forge.NewCA(template, elliptic.P256(), nil).Cert.Raw
		return []byte(head + `"certificateAuthorities":[{"certChain":{"certificates":[{"rawBytes":"` + base64.StdEncoding.EncodeToString(der) + `"}]}}]}`)
	}
	for name, data := range map[string][]byte{
		"logs":         fill(head+`"tlogs":[`, `{},`, `{}]}`),
		"authorities":  fill(head+`"certificateAuthorities":[`, `{"certChain":{"certificates":[]}},`, `{}]}`),
		"certificates": fill(head+`"timestampAuthorities":[{"certChain":{"certificates":[`, `{"rawBytes":""},`, `{}]}}]}`),
		"key":          fill(head+`"ctlogs":[{"publicKey":{"rawBytes":"`, `MAAA`, `"}}]}`),
		"members":      fill(`{`, `"%d":1,`, `"a":1}`),
		"deep":         fill(head+`"tlogs":`, `[`, ``),
		"escapes":      fill(head+`"tlogs":[{"baseUrl":"`, `\u0061`, `"}]}`),
		"names": certificate(func(c *x509.Certificate, n int) {
			for range n / 16 {
				c.DNSNames = append(c.DNSNames, "a")
			}
		}),
		"extensions": certificate(func(c *x509.Certificate, n int) {
			for i := range n / 60 {
				c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, i}, Value: []byte{5, 0}})
			}
		}),
		"subject": certificate(func(c *x509.Certificate, n int) {
			for range n / 16 {
				c.Subject.OrganizationalUnit = append(c.Subject.OrganizationalUnit, "a")
			}
		}),
		"policies": certificate(func(c *x509.Certificate, n int) {
			for range n / 8 {
				c.PolicyIdentifiers = append(c.PolicyIdentifiers, asn1.ObjectIdentifier{1, 2, 3})
			}
		}),
	} {
		hostile.Measure(t, name, len(data), func() { _, _ = trust.ParseTrustedRoot(data) })
		hostile.Measure(t, "signing config, "+name, len(data), func() { _, _ = trust.ParseSigningConfig(data) })
	}
}
