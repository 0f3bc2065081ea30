// Package signing signs and verifies with an authority under test as a library's caller
// does: by its published trust and its signing config.
package signing

import (
	"os"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/hmtest"
	"github.com/hallmark-dev/hallmark/internal/idtoken"
	"github.com/hallmark-dev/hallmark/internal/sign"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// Verifier believes what the authority publishes, and nothing else.
func Verifier(t testing.TB, a *hmtest.Running) *verify.Verifier {
	t.Helper()
	root, err := trust.ParseTrustedRoot(read(t, a.TrustedRoot))
	if err != nil {
		t.Fatal(err)
	}
	v, err := verify.New(verify.Config{Roots: []*trust.Root{root}})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Signer signs keyless as the person with this email.
func Signer(t testing.TB, a *hmtest.Running, email string) *sign.Signer {
	t.Helper()
	config, err := trust.ParseSigningConfig(read(t, a.SigningConfig))
	if err != nil {
		t.Fatal(err)
	}
	token, err := idtoken.Parse(a.Token(email))
	if err != nil {
		t.Fatal(err)
	}
	s, err := sign.New(sign.Config{Services: sign.ServicesFrom(config, time.Now(), true), Token: token})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
