package simplesigning_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"maps"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/simplesigning"
)

const (
	digest   = "sha256:1ccb399e44f3e0ec86bb1a95031c6b9f81acc77860556a81a90acb79bab8005d"
	payload  = `{"critical":{"identity":{"docker-reference":"127.0.0.1:5000/app"},"image":{"docker-manifest-digest":"` + digest + `"},"type":"cosign container image signature"},"optional":{"creator":"skopeo","timestamp":1700000000}}`
	set      = `{"SignedEntryTimestamp":"MEUC","Payload":{"body":"eyJhcGlWZXJzaW9uIjoiMC4wLjEiLCJraW5kIjoiaGFzaGVkcmVrb3JkIiwic3BlYyI6e319","integratedTime":1700000000,"logIndex":7,"logID":"c0d23d6a"}}`
	stamp    = `{"SignedRFC3161Timestamp":"MAA="}`
	envelope = `{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[{"keyid":"","sig":"MEUC"}]}`
)

func selfSigned(t testing.TB, name string, ca bool) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: ca, BasicConstraintsValid: true, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestParseSignature(t *testing.T) {
	t.Parallel()
	leaf, root := selfSigned(t, "leaf", false), selfSigned(t, "root", true)
	c, err := simplesigning.ParseSignature([]byte(payload), map[string]string{
		simplesigning.AnnotationSignature: "MEUC", simplesigning.AnnotationCertificate: leaf, simplesigning.AnnotationChain: root,
		simplesigning.AnnotationBundle: set, simplesigning.AnnotationTimestamp: stamp, "other": "annotation"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Format != evidence.FormatCosignSignature || string(c.Simple.Payload) != payload || len(c.Simple.Signature) != 3 || string(c.Signature()) != string(c.Simple.Signature) {
		t.Errorf("%+v", c)
	}
	if len(c.Certificates) != 1 { // the signer's own, self-signed or not; the root is left out
		t.Errorf("%d certificates", len(c.Certificates))
	}
	e := c.LogEntries[0]
	if e.LogIndex != 7 || e.IntegratedTime != 1700000000 || e.Kind != "hashedrekord" || e.Version != "0.0.1" || e.Proof != nil || len(e.Promise) != 3 || len(e.LogID) != 4 {
		t.Errorf("%+v", e)
	}
	if len(c.Timestamps) != 1 || len(c.Timestamps[0]) != 2 {
		t.Errorf("timestamps %x", c.Timestamps)
	}
	p, err := simplesigning.ParsePayload(c.Simple.Payload)
	if err != nil || p.Digest != digest || p.Reference != "127.0.0.1:5000/app" || p.Type != simplesigning.Type || !maps.Equal(p.Annotations, map[string]string{"creator": "skopeo"}) {
		t.Errorf("%+v %v", p, err)
	}
}

func TestParsePayloadLimits(t *testing.T) {
	t.Parallel()
	long := strings.Replace(payload, "skopeo", strings.Repeat("s", simplesigning.MaxPayload), 1)
	deep := strings.Replace(payload, "1700000000", strings.Repeat("[", 100)+strings.Repeat("]", 100), 1)
	for name, data := range map[string]string{"long": long, "deep": deep, "empty": "", "null": "null", "list": "[]", "no optional, but critical null": `{"critical":null}`} {
		if p, err := simplesigning.ParsePayload([]byte(data)); err == nil {
			t.Errorf("%s: %+v", name, p)
		}
	}
	for name, data := range map[string]string{"null": strings.Replace(payload, `{"creator":"skopeo","timestamp":1700000000}`, "null", 1),
		"absent": strings.Replace(payload, `,"optional":{"creator":"skopeo","timestamp":1700000000}`, "", 1)} {
		if p, err := simplesigning.ParsePayload([]byte(data)); err != nil || p.Annotations != nil {
			t.Errorf("optional %s: %+v %v", name, p, err)
		}
	}
}

// The claim must not change when the caller's buffer does.
func TestParseCopies(t *testing.T) {
	t.Parallel()
	data := []byte(payload)
	c, err := simplesigning.ParseSignature(data, map[string]string{simplesigning.AnnotationSignature: "MEUC"})
	if err != nil {
		t.Fatal(err)
	}
	clear(data)
	if string(c.Simple.Payload) != payload {
		t.Error("the payload shares the buffer")
	}
}

func TestParseAttestationKeepsTheEnvelopeForTimestamps(t *testing.T) {
	t.Parallel()
	c, err := simplesigning.ParseAttestation([]byte(envelope), map[string]string{simplesigning.AnnotationTimestamp: stamp})
	if err != nil || string(c.Envelope.JSON) != envelope || string(c.Envelope.Payload) != "{}" {
		t.Errorf("%+v %v", c, err)
	}
	if c, err = simplesigning.ParseAttestation([]byte(envelope), nil); err != nil || c.Envelope.JSON != nil {
		t.Errorf("without a timestamp: %+v %v", c, err)
	}
}

// FuzzParse: whatever is read has what verifiers rely on.
func FuzzParse(f *testing.F) {
	leaf, root := selfSigned(f, "leaf", false), selfSigned(f, "root", true)
	f.Add([]byte(payload), "MEUC", leaf, root, set, stamp)
	f.Add([]byte(envelope), "", leaf, root+root, set, stamp)
	f.Add([]byte(envelope), "", "", "", "", "")
	f.Add([]byte(`{"critical":{},"optional":null}`), "A", "x", "-----BEGIN CERTIFICATE-----", "{}", "{}")
	f.Fuzz(func(t *testing.T, data []byte, sig, cert, chain, bundle, ts string) {
		a := map[string]string{simplesigning.AnnotationSignature: sig, simplesigning.AnnotationCertificate: cert, simplesigning.AnnotationChain: chain,
			simplesigning.AnnotationBundle: bundle, simplesigning.AnnotationTimestamp: ts}
		for _, parse := range []func([]byte, map[string]string) (*evidence.Claim, error){simplesigning.ParseSignature, simplesigning.ParseAttestation} {
			c, err := parse(data, a)
			if err != nil {
				continue
			}
			if len(c.Signature()) == 0 || (c.Simple == nil) == (c.Envelope == nil) || c.Format == "" {
				t.Errorf("%+v", c)
			}
			if (cert == "") != (len(c.Certificates) == 0) && strings.TrimSpace(cert) != "" {
				t.Errorf("certificate %q gave %d", cert, len(c.Certificates))
			}
			for _, e := range c.LogEntries {
				if len(e.Promise) == 0 || len(e.LogID) == 0 || e.Kind == "" && e.Version == "" && len(e.Body) == 0 || e.IntegratedTime < 0 {
					t.Errorf("%+v", e)
				}
			}
			if c.Simple != nil {
				if p, err := simplesigning.ParsePayload(c.Simple.Payload); err != nil || p.Digest == "" {
					t.Errorf("payload %+v %v", p, err)
				}
			}
		}
	})
}
