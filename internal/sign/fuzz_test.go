package sign_test

import (
	"testing"

	"github.com/hallmark-dev/hallmark/internal/sign"
)

// The three readers of what services answer: nothing may make them panic or
// accept what they were not given.
func FuzzAnswers(f *testing.F) {
	l := newLab(f)
	l.falsify = func(_ string, status int, body []byte) (int, []byte) {
		f.Add(body)
		return status, body
	}
	st, err := sign.ImageStatement("sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae", nil)
	if err != nil {
		f.Fatal(err)
	}
	// One service after the other: f.Add is not for several goroutines.
	for _, s := range []sign.Services{{Logs: sign.One(l.url)}, {TSAs: sign.One(l.url + "/api/v1/timestamp")}} {
		if _, err := keySigner(f, s, "").Sign(f.Context(), st); err != nil {
			f.Fatal(err)
		}
	}
	f.Add([]byte(`{"signedCertificateEmbeddedSct":{"chain":{"certificates":["-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"]}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := sign.ReadTimestamp(data, make([]byte, 32)); err == nil {
			t.Error("a timestamp for an imprint that nobody sent")
		}
		if e, err := sign.ReadLogEntry(data, []byte("body")); err == nil && string(e.Body) != "body" {
			t.Error("another entry was accepted")
		}
		_, _ = sign.ParseCertificates(data)
	})
}
