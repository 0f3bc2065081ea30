//go:build !race

package simplesigning_test

import (
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/evidence/simplesigning"
	"github.com/hallmark-dev/hallmark/internal/hmtest/hostile"
)

// TestHostileMemory: no layer of cosign's older formats, nor its annotations, which a
// manifest of 4 MiB can hold, takes more than 64 MB besides one copy of it to read.
func TestHostileMemory(t *testing.T) {
	const manifest = 4 << 20
	fill := func(size int, before, piece, after string) string {
		return string(hostile.Fill(size, before, piece, after))
	}
	payloads := map[string]string{
		"members":      fill(simplesigning.MaxPayload, `{"critical":{`, `"%d":1,`, `"a":1}}`),
		"optional":     fill(simplesigning.MaxPayload, payload[:strings.Index(payload, `"creator"`)], `"%d":"",`, `"a":""}}`),
		"optional, 1":  fill(simplesigning.MaxPayload, payload[:strings.Index(payload, `"creator"`)], `"\u0061%d":"\n\n",`, `"a":""}}`),
		"deep":         fill(simplesigning.MaxPayload, `{"optional":`, `[`, ``),
		"long":         fill(simplesigning.MaxPayload, `{"critical":{"type":"`, `\n`, `"}}`),
		"large":        fill(64<<20, `{"critical":{"type":"`, `\n`, `"}}`),
		"good payload": payload,
	}
	leaf := selfSigned(t, "leaf", false)
	annotations := map[string]map[string]string{
		"none":         {},
		"signature":    {simplesigning.AnnotationSignature: fill(manifest, "", "AAAA", "")},
		"certificates": {simplesigning.AnnotationCertificate: leaf, simplesigning.AnnotationChain: fill(1<<20, "", leaf, "")},
		"chain":        {simplesigning.AnnotationCertificate: leaf, simplesigning.AnnotationChain: fill(manifest, "", leaf, "")},
		"headers":      {simplesigning.AnnotationCertificate: fill(1<<20, "-----BEGIN CERTIFICATE-----\n", "a%d: b\n", "\n-----END CERTIFICATE-----\n")},
		"begins":       {simplesigning.AnnotationCertificate: fill(1<<20, "", "-----BEGIN CERTIFICATE-----\n", "")},
		"bundle":       {simplesigning.AnnotationBundle: fill(manifest, `{"Payload":{"body":"`, `AAAA`, `"}}`)},
		"bundle's":     {simplesigning.AnnotationBundle: fill(manifest, `{"Payload":{`, `"%d":1,`, `"a":1}}`)},
		"body":         {simplesigning.AnnotationBundle: fill(manifest, `{"SignedEntryTimestamp":"MEUC","Payload":{"integratedTime":1,"logIndex":7,"logID":"c0d23d6a","body":"`, `W1tb`, `"}}`)},
		"timestamp":    {simplesigning.AnnotationTimestamp: fill(1<<20, `{"SignedRFC3161Timestamp":"`, `AAAA`, `"}`)},
	}
	for name, a := range annotations {
		size := 0
		for _, text := range a {
			size += len(text)
		}
		if a[simplesigning.AnnotationSignature] == "" {
			a[simplesigning.AnnotationSignature] = "MEUC"
		}
		hostile.Measure(t, name, size, func() { _, _ = simplesigning.ParseSignature([]byte(payload), a) })
	}
	signed := map[string]string{simplesigning.AnnotationSignature: "MEUC"}
	for name, text := range payloads {
		data := []byte(text)
		hostile.Measure(t, name, len(data), func() { _, _ = simplesigning.ParseSignature(data, signed) })
	}
	for name, text := range map[string]string{
		"payload":    fill(simplesigning.MaxEnvelope, `{"payloadType":"t","signatures":[{"sig":"AAAA"}],"payload":"`, `AAAA`, `"}`),
		"escaped":    fill(simplesigning.MaxEnvelope, `{"payloadType":"t","signatures":[{"sig":"AAAA"}],"payload":"`, `\u0041AAA`, `"}`),
		"signatures": fill(simplesigning.MaxEnvelope, `{"payloadType":"t","signatures":[`, `{"sig":"AAAA"},`, `{}]}`),
		"members":    fill(simplesigning.MaxEnvelope, `{`, `"payloadType":"",`, `"a":1}`),
		"deep":       fill(simplesigning.MaxEnvelope, `{"payload":`, `[`, ``),
	} {
		data := []byte(text)
		hostile.Measure(t, "envelope, "+name, len(data), func() { _, _ = simplesigning.ParseAttestation(data, nil) })
	}
}
