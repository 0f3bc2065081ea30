package sign

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

const stepTSA = "get a timestamp"

// timestamp asks the TSA when the signature existed (RFC 3161). The imprint is
// the SHA-256 of the signature bytes, as bundles have it (sigstore_bundle.proto,
// TimestampVerificationData). It returns the DER TimeStampResp.
func (s *Signer) timestamp(ctx context.Context, url string, m made) ([]byte, error) {
	imprint := sha256.Sum256(m.sig)
	query, err := timestampQuery(imprint[:])
	if err != nil {
		return nil, err
	}
	answer, err := s.http.post(ctx, request{
		step: stepTSA, url: url, body: query,
		contentType: "application/timestamp-query", accept: "application/timestamp-reply",
	})
	if err != nil {
		return nil, err
	}
	at, err := readTimestamp(answer, imprint[:])
	if err != nil {
		return nil, wrong(stepTSA, url, "%w", err)
	}
	if m.cert != nil && (at.Before(m.from) || at.After(m.until)) {
		return nil, wrong(stepTSA, url, "its time %s is outside the certificate's validity (%s to %s)",
			at.UTC().Format(time.RFC3339), m.from.UTC().Format(time.RFC3339), m.until.UTC().Format(time.RFC3339))
	}
	return answer, nil
}

func oidSHA256() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
}

// timestampQuery is a TimeStampReq (RFC 3161, 2.4.1) without nonce: the imprint
// of a fresh signature is one already. The TSA's certificate is not asked for:
// verifiers have it from their trust root.
func timestampQuery(imprint []byte) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(oidSHA256())
				b.AddASN1NULL()
			})
			b.AddASN1OctetString(imprint)
		})
	})
	return b.Bytes()
}

// readTimestamp reads as much of a TimeStampResp as tells whether it is granted
// and for this imprint, and its time. It does not check the TSA's signature:
// that takes a trust root, and is a verifier's work.
func readTimestamp(der, imprint []byte) (time.Time, error) {
	in := cryptobyte.String(der)
	var resp, status cryptobyte.String
	var code int
	if !in.ReadASN1(&resp, casn1.SEQUENCE) || !in.Empty() || !resp.ReadASN1(&status, casn1.SEQUENCE) || !status.ReadASN1Integer(&code) {
		return time.Time{}, errors.New("not a DER timestamp response")
	}
	if code != 0 && code != 1 { // granted, grantedWithMods
		return time.Time{}, fmt.Errorf("the timestamp was not granted (status %d)", code)
	}
	info, ok := tstInfo(resp)
	if !ok {
		return time.Time{}, errors.New("no timestamp token in it")
	}
	var policy, hash asn1.ObjectIdentifier
	var version int
	var mi, alg, got cryptobyte.String
	if !info.ReadASN1Integer(&version) || version != 1 || !info.ReadASN1ObjectIdentifier(&policy) ||
		!info.ReadASN1(&mi, casn1.SEQUENCE) || !mi.ReadASN1(&alg, casn1.SEQUENCE) || !alg.ReadASN1ObjectIdentifier(&hash) ||
		!mi.ReadASN1(&got, casn1.OCTET_STRING) || !mi.Empty() ||
		!info.SkipASN1(casn1.INTEGER) {
		return time.Time{}, errors.New("a timestamp token that cannot be read")
	}
	if !hash.Equal(oidSHA256()) || !bytes.Equal(got, imprint) {
		return time.Time{}, errors.New("the timestamp is for something else (its imprint differs)")
	}
	var genTime cryptobyte.String
	if !info.ReadASN1(&genTime, casn1.GeneralizedTime) {
		return time.Time{}, errors.New("a timestamp without a time")
	}
	at, err := time.Parse("20060102150405.999999999Z", string(genTime)) // a fraction is optional when parsing
	if err != nil {
		return time.Time{}, errors.New("a timestamp whose time cannot be read")
	}
	return at, nil
}

// tstInfo finds the TSTInfo in a TimeStampToken: ContentInfo, SignedData,
// EncapsulatedContentInfo (RFC 5652, 3 and 5.1-5.2; RFC 3161, 2.4.2).
func tstInfo(resp cryptobyte.String) (cryptobyte.String, bool) {
	var token, signed, sd, encap, content, octets, info cryptobyte.String
	var typ asn1.ObjectIdentifier
	explicit0 := casn1.Tag(0).ContextSpecific().Constructed()
	ok := resp.ReadASN1(&token, casn1.SEQUENCE) && resp.Empty() &&
		token.ReadASN1ObjectIdentifier(&typ) && typ.Equal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}) &&
		token.ReadASN1(&signed, explicit0) && token.Empty() &&
		signed.ReadASN1(&sd, casn1.SEQUENCE) && signed.Empty() &&
		sd.SkipASN1(casn1.INTEGER) && sd.SkipASN1(casn1.SET) &&
		sd.ReadASN1(&encap, casn1.SEQUENCE) &&
		encap.ReadASN1ObjectIdentifier(&typ) && typ.Equal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4}) &&
		encap.ReadASN1(&content, explicit0) && encap.Empty() &&
		content.ReadASN1(&octets, casn1.OCTET_STRING) && content.Empty() &&
		octets.ReadASN1(&info, casn1.SEQUENCE) && octets.Empty()
	return info, ok
}
