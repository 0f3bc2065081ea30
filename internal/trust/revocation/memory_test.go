//go:build !race

package revocation_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"math/big"
	"runtime"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/hmtest/hostile"
	"github.com/hallmark-dev/hallmark/internal/hmtest/notaryforge"
	"github.com/hallmark-dev/hallmark/internal/trust/revocation"
)

// element is a constructed element of DER.
func element(tag byte, content []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{tag, 0x84}, uint32(len(content))), content...)
}

// longCRL is a CRL by the world's CA with these entries, signed over.
func longCRL(w *notaryforge.World, entries []byte) []byte {
	small := must(x509.ParseRevocationList(must(x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: w.Now, NextUpdate: w.Now.Add(time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(77), RevocationTime: w.Now}}}, w.CA.Cert, w.CA.Key))))
	one := small.RevokedCertificateEntries[0].Raw
	list := must(asn1.Marshal(asn1.RawValue{Tag: 16, IsCompound: true, Bytes: one}))
	var tbs asn1.RawValue
	if _, err := asn1.Unmarshal(small.RawTBSRevocationList, &tbs); err != nil {
		panic(err)
	}
	signed := element(0x30, bytes.Replace(tbs.Bytes, list, element(0x30, entries), 1))
	sum := sha256.Sum256(signed)
	sig := must(w.CA.Key.Sign(rand.Reader, sum[:], crypto.SHA256))
	rest := append(must(asn1.Marshal(struct{ A asn1.ObjectIdentifier }{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}})), must(asn1.Marshal(asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}))...)
	return element(0x30, append(signed, rest...))
}

// TestHostileMemory: no list or response makes reading it, and asking it, take
// more than 64 MB besides one copy of it.
func TestHostileMemory(t *testing.T) {
	w := notaryforge.NewWorld(time.Now(), nil)
	const entry = "\x30\x12\x02\x01\x05\x17\x0d260101000000Z"
	extended := "\x30\x20\x02\x01\x05\x17\x0d260101000000Z\x30\x0c\x30\x0a\x06\x03\x55\x1d\x15\x04\x03\x0a\x01\x01"
	most := revocation.MaxCRL - 2048
	var different []byte
	for n := uint32(1 << 24); len(different)+24 <= most; n++ {
		different = append(binary.BigEndian.AppendUint32(append(different, "\x30\x15\x02\x04"...), n), entry[5:]...)
	}
	cert := *w.CA.Cert
	cert.SerialNumber = big.NewInt(1<<24 + 1000)
	for name, der := range map[string][]byte{
		"different entries":       longCRL(w, different),
		"many entries":            longCRL(w, hostile.Fill(most/4, "", entry, "")),
		"many extensions":         longCRL(w, hostile.Fill(most/4, "", extended, "")),
		"entries and then broken": longCRL(w, hostile.Fill(most/4, "", entry, "\x30\x00")),
		"empty entries":           longCRL(w, hostile.Fill(most, "", "\x30\x00", "")),
		"nothing":                 bytes.Repeat([]byte{0}, revocation.MaxCRL),
		"sequences":               bytes.Repeat([]byte{0x30, 0x80}, revocation.MaxCRL/2),
	} {
		hostile.Measure(t, name, len(der), func() {
			if s, err := revocation.New([][]byte{der}, nil); err == nil {
				a := s.Check(&cert, w.CA.Cert, time.Time{}, w.Now)
				if want := name == "different entries"; (a.Status == revocation.Revoked) != want || a.Why != "" {
					t.Errorf("%s: %+v", name, a)
				}
				runtime.KeepAlive(s)
			}
		})
	}
	for name, piece := range map[string]string{"sequences": "\x30\x80", "empty": "\x30\x00", "nothing": "\x00"} {
		var all [][]byte
		for range 256 { // 16 MiB
			all = append(all, hostile.Fill(revocation.MaxOCSP, "", piece, ""))
		}
		hostile.Measure(t, "OCSP, "+name, len(all)*revocation.MaxOCSP, func() {
			_, _ = revocation.New(nil, all)
		})
	}
}
