//go:build !race

package bundlefile_test

import (
	"testing"

	"github.com/hallmark-dev/hallmark/internal/hmtest/hostile"
	"github.com/hallmark-dev/hallmark/internal/trust/bundlefile"
)

// TestHostileMemory: no trust bundle takes more than 64 MB besides one copy of it to
// read. Its owner writes it, but it is handed on and merged.
func TestHostileMemory(t *testing.T) {
	const head = `{"mediaType":"` + bundlefile.MediaType + `",`
	fill := func(before, piece, after string) []byte {
		return hostile.Fill(bundlefile.MaxSize, before, piece, after)
	}
	const at = `"2026-01-01T00:00:00Z"`
	for name, data := range map[string][]byte{
		"members":      fill(`{`, `"%d":1,`, `"a":1}`),
		"deep":         fill(head+`"sigstoreRoots":`, `[`, ``),
		"roots":        fill(head+`"sigstoreRoots":[`, `{"name":"a%d","source":{"file":"f"},"fetchedAt":`+at+`,"trustedRoot":{}},`, `{}]}`),
		"one root":     fill(head+`"sigstoreRoots":[{"name":"a","source":{"file":"f"},"fetchedAt":`+at+`,"trustedRoot":{"tlogs":[`, `{},`, `{}]}}]}`),
		"root's names": fill(head+`"sigstoreRoots":[{"name":"a","source":{"file":"f"},"fetchedAt":`+at+`,"trustedRoot":{`, `"%d":1,`, `"a":1}}]}`),
		"keys":         fill(head+`"keys":[`, `{"name":"a%d","publicKey":"AAAA"},`, `{}]}`),
		"key":          fill(head+`"keys":[{"name":"a","publicKey":"`, `AAAA`, `"}]}`),
		"digests":      fill(head+`"revoked":{"digests":[`, `{"digest":"%d"},`, `{}]}}`),
		"identities":   fill(head+`"revoked":{"identities":[`, `{"identity":"%d"},`, `{}]}}`),
		"pins":         fill(head+`"pins":[`, `{"repository":"r.test/a%d"},`, `{}]}`),
		"CRLs":         fill(head+`"notary":{"crls":[`, `{"fetchedAt":`+at+`,"crl":"MAAA"},`, `{}]}}`),
		"CRL":          fill(head+`"notary":{"crls":[{"fetchedAt":`+at+`,"crl":"`, `MBIC`, `"}]}}`),
		"stores":       fill(head+`"notary":{"stores":[`, `{"type":"ca","name":"a%d","certificates":["MAAA"]},`, `{}]}}`),
		"policy":       fill(head+`"notary":{"policy":{`, `"%d":1,`, `"a":1}}}`),
		"escapes":      fill(head+`"keys":[{"name":"`, `\u0061`, `"}]}`),
		"spaces":       fill(`{`, ` `, `}`),
	} {
		hostile.Measure(t, name, len(data), func() {
			if _, err := bundlefile.Parse(data); err == nil {
				t.Errorf("%s: read", name)
			} else if testing.Verbose() {
				t.Logf("%s: %.120s", name, err)
			}
		})
	}
}
