package verify_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/hallmark-dev/hallmark/internal/hmtest/notaryforge"
)

const crlURL, ocspURL = "http://crl.example/ca.crl", "http://ocsp.example/"

// revocable is a world whose leaf names a CRL, an OCSP responder, or both.
func revocable(crls, responder bool) *notaryforge.World {
	w := notaryforge.NewWorld(time.Now(), nil)
	c := w.LeafTemplate()
	if crls {
		c.CRLDistributionPoints = []string{crlURL}
	}
	if responder {
		c.OCSPServer = []string{ocspURL}
	}
	w.Leaf = w.Issue(w.CA, c)
	return w
}

// crlOptions are what tests vary about a CRL.
type crlOptions struct {
	by         *notaryforge.Authority
	this, next time.Time
	entries    []x509.RevocationListEntry
	extensions []pkix.Extension
}

func makeCRL(w *notaryforge.World, change func(o *crlOptions)) []byte {
	o := crlOptions{by: w.CA, this: w.Now.Add(-time.Hour), next: w.Now.Add(time.Hour)}
	if change != nil {
		change(&o)
	}
	return must(x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: o.this, NextUpdate: o.next,
		RevokedCertificateEntries: o.entries, ExtraExtensions: o.extensions}, o.by.Cert, o.by.Key))
}

func revoke(w *notaryforge.World, reason int, extensions ...pkix.Extension) func(o *crlOptions) {
	return func(o *crlOptions) {
		o.entries = append(o.entries, x509.RevocationListEntry{SerialNumber: w.Leaf.Cert.SerialNumber, RevocationTime: w.Now.Add(-time.Minute),
			ReasonCode: reason, ExtraExtensions: extensions})
	}
}

func makeOCSP(w *notaryforge.World, by *notaryforge.Authority, change func(r *ocsp.Response)) []byte {
	r := ocsp.Response{Status: ocsp.Good, SerialNumber: w.Leaf.Cert.SerialNumber, ThisUpdate: w.Now.Add(-time.Hour), NextUpdate: w.Now.Add(time.Hour)}
	if by.Cert != w.CA.Cert {
		r.Certificate = by.Cert
	}
	if change != nil {
		change(&r)
	}
	return must(ocsp.CreateResponse(w.CA.Cert, by.Cert, r, by.Key))
}

func invalidity(at time.Time) pkix.Extension {
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 24}, Value: must(asn1.MarshalWithParams(at.UTC(), "generalized"))}
}

// scope is an IssuingDistributionPoint.
func scope(url string, flags ...byte) pkix.Extension {
	name := append([]byte{0x86, byte(len(url))}, url...)
	full := append([]byte{0xa0, byte(len(name))}, name...)
	point := append([]byte{0xa0, byte(len(full))}, full...)
	point = append(point, flags...)
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: append([]byte{0x30, byte(len(point))}, point...)}
}

// TestNotaryRevocation: what CRLs and OCSP responses in the trust say, and when
// they say nothing.
func TestNotaryRevocation(t *testing.T) {
	t.Parallel()
	const unknown = "REVOCATION_UNKNOWN "
	responder := func(w *notaryforge.World, usage x509.ExtKeyUsage) *notaryforge.Authority {
		return w.Issue(w.CA, &x509.Certificate{Subject: notaryforge.Name("responder"), KeyUsage: x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{usage}, NotBefore: w.Now.AddDate(-1, 0, 0), NotAfter: w.Now.AddDate(1, 0, 0)})
	}
	crl := func(change func(w *notaryforge.World, o *crlOptions)) func(w *notaryforge.World) ([][]byte, [][]byte) {
		return func(w *notaryforge.World) ([][]byte, [][]byte) {
			return [][]byte{makeCRL(w, func(o *crlOptions) { change(w, o) })}, nil
		}
	}
	good := func(w *notaryforge.World, o *crlOptions) {}
	for name, row := range map[string]struct {
		crls, ocsp bool // what the certificate names
		make       func(w *notaryforge.World) (crls, responses [][]byte)
		want       string
	}{
		"nothing named, nothing there": {false, false, func(w *notaryforge.World) ([][]byte, [][]byte) { return nil, nil }, ""},
		"nothing there":                {true, false, func(w *notaryforge.World) ([][]byte, [][]byte) { return nil, nil }, unknown + "nothing that was fetched"},
		"good":                         {true, false, crl(good), ""},
		"good, responder named too":    {true, true, crl(good), ""},
		"revoked":                      {true, false, crl(func(w *notaryforge.World, o *crlOptions) { revoke(w, 1)(o) }), "REVOKED Acme CA"},
		"revoked, nothing named":       {false, false, crl(func(w *notaryforge.World, o *crlOptions) { revoke(w, 0)(o) }), "REVOKED "},
		"on hold":                      {true, false, crl(func(w *notaryforge.World, o *crlOptions) { revoke(w, 6)(o) }), "REVOKED "},
		"another is revoked": {true, false, crl(func(w *notaryforge.World, o *crlOptions) {
			o.entries = []x509.RevocationListEntry{{SerialNumber: big.NewInt(99), RevocationTime: w.Now}}
		}), ""},
		"out of date":             {true, false, crl(func(w *notaryforge.World, o *crlOptions) { o.next = w.Now.Add(-time.Second) }), unknown + "was good until"},
		"out of date and revoked": {true, false, crl(func(w *notaryforge.World, o *crlOptions) { o.next = w.Now.Add(-time.Second); revoke(w, 1)(o) }), "REVOKED "},
		"of the future": {true, false, crl(func(w *notaryforge.World, o *crlOptions) {
			o.this, o.next = w.Now.Add(time.Hour), w.Now.Add(2*time.Hour)
		}), unknown + "in the future"},
		"by another CA": {true, false, crl(func(w *notaryforge.World, o *crlOptions) { o.by = w.Root }), unknown},
		"by another of its name": {true, false, crl(func(w *notaryforge.World, o *crlOptions) {
			o.by = w.Issue(w.Root, w.CATemplate("Acme CA"))
			revoke(w, 1)(o)
		}), unknown + "not signed by"},
		"for this point": {true, false, crl(func(w *notaryforge.World, o *crlOptions) { o.extensions = []pkix.Extension{scope(crlURL)} }), ""},
		"for another point": {true, false, crl(func(w *notaryforge.World, o *crlOptions) {
			o.extensions = []pkix.Extension{scope("http://crl.example/other.crl")}
		}), unknown},
		"stale one beside a good one": {true, false, func(w *notaryforge.World) ([][]byte, [][]byte) {
			return [][]byte{makeCRL(w, func(o *crlOptions) { o.next = w.Now.Add(-time.Second) }), makeCRL(w, nil)}, nil
		}, ""},
		"good one beside one that revokes": {true, false, func(w *notaryforge.World) ([][]byte, [][]byte) {
			return [][]byte{makeCRL(w, nil), makeCRL(w, revoke(w, 1))}, nil
		}, "REVOKED "},
		"good by OCSP": {false, true, func(w *notaryforge.World) ([][]byte, [][]byte) { return nil, [][]byte{makeOCSP(w, w.CA, nil)} }, ""},
		"good by OCSP, CRL says revoked": {true, true, func(w *notaryforge.World) ([][]byte, [][]byte) {
			return [][]byte{makeCRL(w, revoke(w, 1))}, [][]byte{makeOCSP(w, w.CA, nil)}
		}, "REVOKED "},
		"revoked by OCSP": {false, true, func(w *notaryforge.World) ([][]byte, [][]byte) {
			return nil, [][]byte{makeOCSP(w, w.CA, func(r *ocsp.Response) { r.Status, r.RevokedAt = ocsp.Revoked, w.Now.Add(-time.Minute) })}
		}, "REVOKED "},
		"unknown to OCSP": {false, true, func(w *notaryforge.World) ([][]byte, [][]byte) {
			return nil, [][]byte{makeOCSP(w, w.CA, func(r *ocsp.Response) { r.Status = ocsp.Unknown })}
		}, unknown + "does not know"},
		"unknown to OCSP, good by CRL": {true, true, func(w *notaryforge.World) ([][]byte, [][]byte) {
			return [][]byte{makeCRL(w, nil)}, [][]byte{makeOCSP(w, w.CA, func(r *ocsp.Response) { r.Status = ocsp.Unknown })}
		}, ""},
		"OCSP out of date": {false, true, func(w *notaryforge.World) ([][]byte, [][]byte) {
			return nil, [][]byte{makeOCSP(w, w.CA, func(r *ocsp.Response) { r.NextUpdate = w.Now.Add(-time.Second) })}
		}, unknown + "was good until"},
		"OCSP without an end": {false, true, func(w *notaryforge.World) ([][]byte, [][]byte) {
			return nil, [][]byte{makeOCSP(w, w.CA, func(r *ocsp.Response) { r.NextUpdate = time.Time{} })}
		}, unknown},
		"OCSP about another": {false, true, func(w *notaryforge.World) ([][]byte, [][]byte) {
			return nil, [][]byte{makeOCSP(w, w.CA, func(r *ocsp.Response) { r.SerialNumber = big.NewInt(99) })}
		}, unknown},
		"OCSP by a responder": {false, true, func(w *notaryforge.World) ([][]byte, [][]byte) {
			return nil, [][]byte{makeOCSP(w, responder(w, x509.ExtKeyUsageOCSPSigning), nil)}
		}, ""},
		"OCSP by a signer of code": {false, true, func(w *notaryforge.World) ([][]byte, [][]byte) {
			return nil, [][]byte{makeOCSP(w, responder(w, x509.ExtKeyUsageCodeSigning), nil)}
		}, unknown + "not for signing such"},
		"OCSP by a stranger": {false, true, func(w *notaryforge.World) ([][]byte, [][]byte) {
			return nil, [][]byte{makeOCSP(w, notaryforge.NewWorld(w.Now, nil).Leaf, nil)}
		}, unknown + "not signed by"},
		"OCSP for another issuer": {false, true, func(w *notaryforge.World) ([][]byte, [][]byte) {
			r := ocsp.Response{Status: ocsp.Good, SerialNumber: w.Leaf.Cert.SerialNumber, ThisUpdate: w.Now, NextUpdate: w.Now.Add(time.Hour)}
			return nil, [][]byte{must(ocsp.CreateResponse(w.Root.Cert, w.CA.Cert, r, w.CA.Key))}
		}, unknown},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := revocable(row.crls, row.ocsp)
			p := w.Parts(w.Statement("strict"))
			p.CRLs, p.OCSP = row.make(w)
			v := notaryVerifier(t, w, p)
			for range 2 { // signatures of CRLs are checked once
				out, reasons := outcome(t, v, theirs(w), envelopes[0], w.Envelope().COSE())
				expect(t, out, reasons, row.want)
			}
		})
	}
}

// TestNotaryRevokedLater: a revocation that says since when the key was bad leaves
// a signing authority's earlier signatures alone, and nobody else's.
func TestNotaryRevokedLater(t *testing.T) {
	t.Parallel()
	w := revocable(true, false)
	s := w.Statement("strict")
	s["trustStores"] = []string{"ca:acme", "signingAuthority:acme"}
	p := w.Parts(s)
	p.CRLs = [][]byte{makeCRL(w, revoke(w, 1, invalidity(w.Now.Add(-10*time.Minute))))}
	v := notaryVerifier(t, w, p)
	for _, row := range []struct {
		at        time.Time
		authority bool
		want      string
	}{
		{w.Now.Add(-11 * time.Minute), true, ""}, {w.Now.Add(-10 * time.Minute), true, "REVOKED "}, {w.Now.Add(-11 * time.Minute), false, "REVOKED "},
	} {
		e := w.Envelope()
		e.Protected[notaryforge.SigningTime] = row.at
		if row.authority {
			asAuthority(e, row.at)
		}
		out, reasons := outcome(t, v, theirs(w), envelopes[0], e.COSE())
		expect(t, out, reasons, row.want)
	}
	// Without that date the time of the revocation proves nothing.
	p.CRLs = [][]byte{makeCRL(w, revoke(w, 1))}
	e := w.Envelope()
	asAuthority(e, w.Now.AddDate(0, -1, 0))
	out, reasons := outcome(t, notaryVerifier(t, w, p), theirs(w), envelopes[0], e.COSE())
	expect(t, out, reasons, "REVOKED ")
}

// TestNotaryRevokedFirst: a revocation is the first thing that is told.
func TestNotaryRevokedFirst(t *testing.T) {
	t.Parallel()
	w := revocable(true, false)
	p := w.Parts(w.Statement("strict"))
	p.CRLs = [][]byte{makeCRL(w, revoke(w, 1))}
	e := w.Envelope()
	e.Protected[notaryforge.Expiry] = w.Now
	e.Protected["crit"] = []string{notaryforge.Scheme, notaryforge.Expiry}
	_, reasons := outcome(t, notaryVerifier(t, w, p), theirs(w), envelopes[0], e.COSE())
	if len(reasons) != 2 || reasons[0].Code != "REVOKED" || reasons[1].Code != "SIGNATURE_EXPIRED" {
		t.Error(reasons)
	}
}
