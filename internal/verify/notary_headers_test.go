package verify_test

import (
	"encoding/asn1"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/hmtest/notaryforge"
)

// notationMatrix is every row of the matrix that was tried with notation 1.3 and a
// signer of another make, by its name here. Rows that notation answers alike for
// two variants are two.
var notationMatrix = []string{
	"baseline", "no signing scheme", "no signing scheme, and crit names it", "no crit", "no signing time",
	"time a bare number", "time as text", "no content type", "wrong content type",
	"chain a single certificate", "chain a single certificate, the leaf", "chain protected", "root left out", "leaf only", "chain reversed",
	"not tagged", "detached payload", "expiry past", "expiry not critical", "other digest",
	"signing authority, ca store only", "extra members in the payload", "blanks in the payload",
	"unknown critical header", "signed in a year", "signed 20 years before the certificate",
}

// TestNotaryHeaders is the matrix of what notation does with an external signer's
// headers; where it accepts what the specification forbids, we refuse.
func TestNotaryHeaders(t *testing.T) {
	t.Parallel()
	w := notaryforge.NewWorld(time.Now(), nil)
	v := notaryVerifier(t, w, w.Parts(w.Statement("strict")))
	const plug = "io.cncf.notary.verificationPlugin"
	rows := map[string]struct {
		change func(e *notaryforge.Envelope)
		want   string
	}{
		"baseline":                             {func(e *notaryforge.Envelope) {}, ""},
		"no signing scheme":                    {func(e *notaryforge.Envelope) { delete(e.Protected, notaryforge.Scheme); delete(e.Protected, "crit") }, "MALFORMED signingScheme is missing"},
		"no signing scheme, and crit names it": {func(e *notaryforge.Envelope) { delete(e.Protected, notaryforge.Scheme) }, "MALFORMED signingScheme"},
		"unknown scheme":                       {func(e *notaryforge.Envelope) { e.Protected[notaryforge.Scheme] = "notary.x509.other" }, "MALFORMED signing scheme"},
		"no crit":                              {func(e *notaryforge.Envelope) { delete(e.Protected, "crit") }, "MALFORMED not marked as critical"},
		"empty crit":                           {func(e *notaryforge.Envelope) { e.Protected["crit"] = []string{} }, "MALFORMED critical"},
		"crit twice":                           {func(e *notaryforge.Envelope) { e.Protected["crit"] = []string{notaryforge.Scheme, notaryforge.Scheme} }, "MALFORMED twice"},
		"crit names nothing":                   {func(e *notaryforge.Envelope) { e.Protected["crit"] = []string{notaryforge.Scheme, "absent"} }, "MALFORMED absent"},
		"no signing time":                      {func(e *notaryforge.Envelope) { delete(e.Protected, notaryforge.SigningTime) }, "MALFORMED signingTime is missing"},
		"time a bare number": {func(e *notaryforge.Envelope) {
			e.Protected[notaryforge.SigningTime] = notaryforge.Either{COSE: w.Now.Unix(), JWS: w.Now.Unix()}
		}, "MALFORMED signingTime"},
		"time as text": {func(e *notaryforge.Envelope) {
			e.Protected[notaryforge.SigningTime] = notaryforge.Either{COSE: notaryforge.Tag(0, w.Now.Format(time.RFC3339)), JWS: w.Now.Format(time.RFC1123Z)}
		}, "MALFORMED signingTime"},
		"time a float": {func(e *notaryforge.Envelope) {
			e.Protected[notaryforge.SigningTime] = notaryforge.Either{COSE: notaryforge.Tag(1, 1.5e9+0.5), JWS: 1.5e9}
		}, "MALFORMED signingTime"},
		"no content type":    {func(e *notaryforge.Envelope) { delete(e.Protected, "cty") }, "MALFORMED content type"},
		"wrong content type": {func(e *notaryforge.Envelope) { e.Protected["cty"] = "application/json" }, "MALFORMED application/json"},
		"chain a single certificate": {func(e *notaryforge.Envelope) {
			self := w.Issue(nil, w.LeafTemplate())
			*e = *notaryforge.New(self.Key, notaryforge.Chain(self), e.Payload, w.Now)
			e.ChainPlain = true
		}, "MALFORMED "},
		"chain a single certificate, the leaf": {func(e *notaryforge.Envelope) { e.Chain, e.ChainPlain = e.Chain[:1], true }, "MALFORMED "},
		"chain protected":                      {func(e *notaryforge.Envelope) { e.ChainProtected = true }, "MALFORMED "},
		"no chain":                             {func(e *notaryforge.Envelope) { e.Chain = [][]byte{} }, "MALFORMED chain"},
		"root left out":                        {func(e *notaryforge.Envelope) { e.Chain = e.Chain[:2] }, "CERT_UNTRUSTED no root certificate"},
		"leaf only":                            {func(e *notaryforge.Envelope) { e.Chain = e.Chain[:1] }, "CERT_UNTRUSTED stands alone"},
		"chain reversed":                       {func(e *notaryforge.Envelope) { slices.Reverse(e.Chain) }, "CERT_UNTRUSTED CA's"},
		"CAs in disorder":                      {func(e *notaryforge.Envelope) { e.Chain[1], e.Chain[2] = e.Chain[2], e.Chain[1] }, "CERT_UNTRUSTED "},
		"root twice":                           {func(e *notaryforge.Envelope) { e.Chain = append(e.Chain, e.Chain[2]) }, "CERT_UNTRUSTED middle"},
		"17 certificates":                      {func(e *notaryforge.Envelope) { e.Chain = slices.Repeat(e.Chain[:1], 17) }, "MALFORMED "},
		"not tagged":                           {func(e *notaryforge.Envelope) { e.Bare = true }, "MALFORMED "},
		"detached payload":                     {func(e *notaryforge.Envelope) { e.Detached = true }, "MALFORMED payload"},
		"empty payload":                        {func(e *notaryforge.Envelope) { e.Payload = []byte{} }, "MALFORMED "},
		"expiry ahead": {func(e *notaryforge.Envelope) {
			e.Protected[notaryforge.Expiry] = w.Now.Add(time.Second)
			e.Protected["crit"] = []string{notaryforge.Scheme, notaryforge.Expiry}
		}, ""},
		"expiry now": {func(e *notaryforge.Envelope) {
			e.Protected[notaryforge.Expiry] = w.Now
			e.Protected["crit"] = []string{notaryforge.Scheme, notaryforge.Expiry}
		}, "SIGNATURE_EXPIRED "},
		"expiry past": {func(e *notaryforge.Envelope) {
			e.Protected[notaryforge.SigningTime] = w.Now.AddDate(0, 0, -2)
			e.Protected[notaryforge.Expiry] = w.Now.AddDate(0, 0, -1)
			e.Protected["crit"] = []string{notaryforge.Scheme, notaryforge.Expiry}
		}, "SIGNATURE_EXPIRED "},
		"expiry before signing": {func(e *notaryforge.Envelope) {
			e.Protected[notaryforge.Expiry] = w.Now.AddDate(0, 0, -2)
			e.Protected["crit"] = []string{notaryforge.Scheme, notaryforge.Expiry}
		}, "MALFORMED expires before"},
		"expiry not critical": {func(e *notaryforge.Envelope) { e.Protected[notaryforge.Expiry] = w.Now.AddDate(1, 0, 0) }, "MALFORMED not marked as critical"},
		"other digest": {func(e *notaryforge.Envelope) {
			e.Payload = notaryforge.Target(w.MediaType, "sha256:"+strings.Repeat("0", 64), w.Size, nil)
		}, "WRONG_SUBJECT about sha256:000"},
		"other size":       {func(e *notaryforge.Envelope) { e.Payload = notaryforge.Target(w.MediaType, w.Digest, 408, nil) }, "WRONG_SUBJECT 408 bytes"},
		"other media type": {func(e *notaryforge.Envelope) { e.Payload = notaryforge.Target("text/plain", w.Digest, w.Size, nil) }, "WRONG_SUBJECT text/plain"},
		"signing authority, ca store only": {func(e *notaryforge.Envelope) { asAuthority(e, w.Now) },
			"CERT_UNTRUSTED names no signingAuthority store"},
		"both times": {func(e *notaryforge.Envelope) { e.Protected[notaryforge.AuthenticTime] = w.Now }, "MALFORMED authenticSigningTime is not for"},
		"authority without its time": {func(e *notaryforge.Envelope) {
			asAuthority(e, w.Now)
			delete(e.Protected, notaryforge.AuthenticTime)
			e.Protected["crit"] = []string{notaryforge.Scheme}
		}, "MALFORMED authenticSigningTime is missing"},
		"authority's time not critical": {func(e *notaryforge.Envelope) {
			asAuthority(e, w.Now)
			e.Protected["crit"] = []string{notaryforge.Scheme}
		}, "MALFORMED not marked as critical"},
		"extra members in the payload": {func(e *notaryforge.Envelope) {
			e.Payload = []byte(strings.Replace(string(e.Payload), `"targetArtifact":{`, `"more":[1,{}],"targetArtifact":{"foo":null,`, 1))
		}, ""},
		"blanks in the payload": {func(e *notaryforge.Envelope) {
			e.Payload = []byte("\n" + strings.NewReplacer(",", " ,\t", ":{", " : {").Replace(string(e.Payload)) + " \r\n")
		}, ""},
		"extra members and blanks in the payload": {func(e *notaryforge.Envelope) {
			e.Payload = []byte("{ \"more\": [1, {}],\n \"targetArtifact\": {\"size\": 407, \"digest\": \"" + w.Digest + "\", \"foo\": null, \"mediaType\": \"" + w.MediaType + "\"} }")
		}, ""},
		"+ escaped in the payload": {func(e *notaryforge.Envelope) {
			e.Payload = []byte(strings.ReplaceAll(string(e.Payload), "+", `\u002B`))
		}, ""},
		"unknown header": {func(e *notaryforge.Envelope) { e.Protected["com.example.x"] = "y" }, ""},
		"unknown critical header": {func(e *notaryforge.Envelope) {
			e.Protected["com.example.x"] = "y"
			e.Protected["crit"] = []string{notaryforge.Scheme, "com.example.x"}
		}, "MALFORMED com.example.x is not understood"},
		"wants a plugin": {func(e *notaryforge.Envelope) {
			e.Protected[plug] = "acme"
			e.Protected["crit"] = []string{notaryforge.Scheme, plug}
		}, "MALFORMED not understood"},
		"wants a plugin uncritically": {func(e *notaryforge.Envelope) { e.Protected[plug] = "acme" }, "MALFORMED plugin"},
		"signed in a year":            {func(e *notaryforge.Envelope) { e.Protected[notaryforge.SigningTime] = w.Now.AddDate(1, 0, 0) }, "TIME_UNTRUSTED in the future"},
		"signed in 11 minutes": {func(e *notaryforge.Envelope) {
			e.Protected[notaryforge.SigningTime] = w.Now.Add(11 * time.Minute)
		}, "TIME_UNTRUSTED in the future"},
		"signed in 9 minutes":                    {func(e *notaryforge.Envelope) { e.Protected[notaryforge.SigningTime] = w.Now.Add(9 * time.Minute) }, ""},
		"signed 20 years before the certificate": {func(e *notaryforge.Envelope) { e.Protected[notaryforge.SigningTime] = w.Now.AddDate(-21, 0, 0) }, "TIME_UNTRUSTED was valid"},
		"other algorithm's name":                 {func(e *notaryforge.Envelope) { e.Protected["alg"] = "ES384" }, "MALFORMED ES384"},
		"an algorithm that does not sign here":   {func(e *notaryforge.Envelope) { e.Protected["alg"] = notaryforge.Either{COSE: -8, JWS: "EdDSA"} }, "MALFORMED algorithm"},
		"no algorithm":                           {func(e *notaryforge.Envelope) { delete(e.Protected, "alg") }, "MALFORMED algorithm"},
		"other key":                              {func(e *notaryforge.Envelope) { e.Key = w.CA.Key }, "SIGNATURE_BAD "},
		"one bit of the signature": {func(e *notaryforge.Envelope) {
			e.Tamper = func(sig []byte) []byte { sig[7] ^= 1; return sig }
		}, "SIGNATURE_BAD "},
		"signature in DER": {func(e *notaryforge.Envelope) {
			e.Tamper = func(sig []byte) []byte {
				return must(asn1.Marshal([]*big.Int{new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])}))
			}
		}, "SIGNATURE_BAD "},
		"a byte after the signature": {func(e *notaryforge.Envelope) {
			e.Tamper = func(sig []byte) []byte { return append(sig, 0) }
		}, "SIGNATURE_BAD "},
		"a zero between r and s": {func(e *notaryforge.Envelope) {
			e.Tamper = func(sig []byte) []byte { return slices.Insert(sig, 32, 0) }
		}, "SIGNATURE_BAD "},
		"no signature": {func(e *notaryforge.Envelope) {
			e.Tamper = func(sig []byte) []byte { return []byte{} }
		}, "MALFORMED signature"},
	}
	for _, name := range notationMatrix {
		if _, ok := rows[name]; !ok {
			t.Errorf("the matrix's row %q is not there", name)
		}
	}
	for name, row := range rows {
		for _, mediaType := range envelopes {
			t.Run(name+" "+mediaType, func(t *testing.T) {
				t.Parallel()
				e := w.Envelope()
				row.change(e)
				out, reasons := outcome(t, v, theirs(w), mediaType, e.Sign(mediaType))
				expect(t, out, reasons, row.want)
			})
		}
	}
}
