package revocation_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/hallmark-dev/hallmark/internal/hmtest/notaryforge"
	"github.com/hallmark-dev/hallmark/internal/trust/revocation"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func crl(w *notaryforge.World, extensions ...pkix.Extension) []byte {
	return must(x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: w.Now, NextUpdate: w.Now.Add(time.Hour),
		ExtraExtensions: extensions}, w.CA.Cert, w.CA.Key))
}

func answer(w *notaryforge.World) []byte {
	return must(ocsp.CreateResponse(w.CA.Cert, w.CA.Cert, ocsp.Response{SerialNumber: big.NewInt(3), ThisUpdate: w.Now, NextUpdate: w.Now.Add(time.Hour)}, w.CA.Key))
}

// TestExpiredResponder: the time of an answer is the responder's own word, so what it
// calls good counts only while its certificate is valid; what it calls revoked stays.
func TestExpiredResponder(t *testing.T) {
	t.Parallel()
	now := time.Now()
	w := notaryforge.NewWorld(now, nil)
	responder := w.Issue(w.CA, &x509.Certificate{Subject: notaryforge.Name("responder"), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.Add(30 * time.Minute)})
	leaf := *w.Leaf.Cert
	leaf.OCSPServer = []string{"http://ocsp.example"}
	for status, want := range map[int][2]revocation.Status{ocsp.Good: {revocation.Good, revocation.Unknown}, ocsp.Revoked: {revocation.Revoked, revocation.Revoked}} {
		s := must(revocation.New(nil, [][]byte{must(ocsp.CreateResponse(w.CA.Cert, responder.Cert, ocsp.Response{Status: status, Certificate: responder.Cert,
			SerialNumber: leaf.SerialNumber, ThisUpdate: now.Add(-time.Minute), NextUpdate: now.Add(2 * time.Hour), RevokedAt: now.Add(-time.Hour)}, responder.Key))}))
		for i, at := range []time.Time{now, now.Add(time.Hour)} {
			if got := s.Check(&leaf, w.CA.Cert, time.Time{}, at); got.Status != want[i] {
				t.Errorf("%d, %s later: %+v", status, at.Sub(now), got)
			}
		}
	}
}

func extension(critical bool, value []byte, id ...int) pkix.Extension {
	return pkix.Extension{Id: asn1.ObjectIdentifier(id), Critical: critical, Value: value}
}

// TestRefusedMaterial: lists and responses that say less than they seem to.
func TestRefusedMaterial(t *testing.T) {
	t.Parallel()
	w := notaryforge.NewWorld(time.Now(), nil)
	scope := func(content ...byte) pkix.Extension {
		return extension(true, append([]byte{0x30, byte(len(content))}, content...), 2, 5, 29, 28)
	}
	point := []byte{0xa0, 5, 0xa0, 3, 0x86, 1, 'x'}
	for name, row := range map[string]struct {
		crls, ocsps [][]byte
		want        string
	}{
		"good":              {[][]byte{crl(w)}, [][]byte{answer(w)}, ""},
		"not critical":      {[][]byte{crl(w, extension(false, nil, 1, 2, 3))}, nil, ""},
		"partial":           {[][]byte{crl(w, scope(point...))}, nil, ""},
		"delta":             {[][]byte{crl(w, extension(true, []byte{2, 1, 1}, 2, 5, 29, 27))}, nil, "delta"},
		"unknown":           {[][]byte{crl(w, extension(true, nil, 1, 2, 3))}, nil, "1.2.3"},
		"indirect":          {[][]byte{crl(w, scope(append(point, 0x84, 1, 0xff)...))}, nil, "other issuers"},
		"some reasons":      {[][]byte{crl(w, scope(append(point, 0x83, 2, 0, 1)...))}, nil, "some reasons"},
		"only CAs":          {[][]byte{crl(w, scope(0x82, 1, 0xff))}, nil, "scope"},
		"no CRL":            {[][]byte{[]byte("x")}, nil, "not a CRL"},
		"CRL and more":      {[][]byte{append(crl(w), 0)}, nil, "not a CRL"},
		"no OCSP":           {nil, [][]byte{[]byte("x")}, "not an OCSP"},
		"OCSP and more":     {nil, [][]byte{append(answer(w), 0)}, "not an OCSP"},
		"responder's error": {nil, [][]byte{ocsp.TryLaterErrorResponse}, "not an OCSP"},
		"large OCSP":        {nil, [][]byte{make([]byte, revocation.MaxOCSP+1)}, "at most"},
	} {
		_, err := revocation.New(row.crls, row.ocsps)
		if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
			t.Errorf("%s: %v; want %q", name, err, row.want)
		}
	}
}

// FuzzMaterial: no list or response makes the readers panic.
func FuzzMaterial(f *testing.F) {
	w := notaryforge.NewWorld(time.Now(), nil)
	f.Add(crl(w), answer(w))
	f.Add(crl(w, extension(true, []byte{0x30, 7, 0xa0, 5, 0xa0, 3, 0x86, 1, 'x'}, 2, 5, 29, 28)), []byte{})
	f.Fuzz(func(t *testing.T, list, response []byte) {
		if s, err := revocation.New([][]byte{list}, nil); err == nil {
			s.Check(w.Leaf.Cert, w.CA.Cert, time.Time{}, w.Now)
		}
		if s, err := revocation.New(nil, [][]byte{response}); err == nil {
			s.Check(w.Leaf.Cert, w.CA.Cert, time.Time{}, w.Now)
		}
	})
}

// A newer answer makes an older one useless only if that one denies nothing.
func TestSupersedes(t *testing.T) {
	t.Parallel()
	w := notaryforge.NewWorld(time.Now(), nil)
	other := notaryforge.NewWorld(time.Now(), nil)
	says := func(w *notaryforge.World, serial int64, status int, at time.Time) []byte {
		return must(ocsp.CreateResponse(w.CA.Cert, w.CA.Cert, ocsp.Response{Status: status, SerialNumber: big.NewInt(serial), ThisUpdate: at, NextUpdate: at.Add(time.Hour), RevokedAt: at}, w.CA.Key))
	}
	later := w.Now.Add(time.Minute)
	newer := says(w, 3, ocsp.Good, later)
	for name, row := range map[string]struct {
		older []byte
		want  bool
	}{
		"older":           {says(w, 3, ocsp.Good, w.Now), true},
		"of the same day": {says(w, 3, ocsp.Good, later), true},
		"unknown":         {says(w, 3, ocsp.Unknown, w.Now), true},
		"revoked":         {says(w, 3, ocsp.Revoked, w.Now), false},
		"newer":           {says(w, 3, ocsp.Good, later.Add(time.Minute)), false},
		"another's":       {says(w, 4, ocsp.Good, w.Now), false},
		"another CA's":    {says(other, 3, ocsp.Good, w.Now), false},
		"nothing":         {[]byte("x"), false},
	} {
		if got := revocation.Supersedes(newer, row.older); got != row.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if revocation.Supersedes([]byte("x"), newer) {
		t.Error("what is no answer supersedes one")
	}
}
