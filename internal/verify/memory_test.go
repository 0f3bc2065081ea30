//go:build !race

package verify_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"encoding/asn1"
	"math/big"
	"slices"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/bundle"
	"github.com/hallmark-dev/hallmark/internal/hmtest/forge"
	"github.com/hallmark-dev/hallmark/internal/hmtest/hostile"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// most is how large a part of a claim can be: what is left of the largest bundle
// when its base64 is read.
const most = bundle.MaxSize / 4 * 3

// TestHostileLogEntries: no body of a log entry makes judging a claim take more
// than 64 MB besides one copy of it. A log signs whatever it is given.
func TestHostileLogEntries(t *testing.T) {
	w := newWorld(t)
	k := forge.NewKey(elliptic.P256())
	v := must(verify.New(verify.Config{Roots: under(w.Root).Roots, Keys: []crypto.PublicKey{k.Public()}}))
	good := w.Claim(forge.ClaimOptions{Signer: k, KeyOnly: true, Payload: forge.StatementAbout(forge.ArtifactSubject()), Logs: []string{"v1 dsse", "v2"}})
	judge := func(name string, e evidence.LogEntry) {
		c := *good
		c.LogEntries = []evidence.LogEntry{e}
		hostile.Measure(t, name, len(e.Body), func() {
			if ok, _ := v.Claim(&c, files()); ok != nil {
				t.Errorf("%s: accepted", name)
			}
		})
	}
	spec := func(kind, version, before, piece, after string) func(size int) []byte {
		head := `{"apiVersion":"` + version + `","kind":"` + kind + `","spec":`
		return func(size int) []byte { return hostile.Fill(size, head+before, piece, after+"}") }
	}
	for name, c := range map[string]struct {
		kind, version string
		body          func(size int) []byte
	}{
		"members":        {"dsse", "0.0.1", spec("dsse", "0.0.1", `{`, `"%d":1,`, `"a":1}`)},
		"one name":       {"dsse", "0.0.1", spec("dsse", "0.0.1", `{"`, `\u0061`, `":1}`)},
		"deep":           {"dsse", "0.0.1", spec("dsse", "0.0.1", ``, `[`, ``)},
		"deep objects":   {"intoto", "0.0.1", spec("intoto", "0.0.1", ``, `{"a":`, ``)},
		"signatures":     {"dsse", "0.0.1", spec("dsse", "0.0.1", `{"payloadHash":{"algorithm":"","value":""},"signatures":[`, `{"signature":"","verifier":""},`, `{}]}`)},
		"verifier":       {"dsse", "0.0.1", spec("dsse", "0.0.1", `{"signatures":[{"verifier":"`, `AAAA`, `"}]}`)},
		"PEM":            {"hashedrekord", "0.0.1", spec("hashedrekord", "0.0.1", `{"signature":{"content":"","publicKey":{"content":"`, `LS0t`, `"}},"data":{"hash":{"algorithm":"","value":""}}}`)},
		"digest":         {"hashedrekord", "0.0.1", spec("hashedrekord", "0.0.1", `{"data":{"hash":{"algorithm":"sha256","value":"`, `\n`, `"}}}`)},
		"payload":        {"intoto", "0.0.2", spec("intoto", "0.0.2", `{"content":{"envelope":{"payload":{`, `"%d":"",`, `"a":1}}}}`)},
		"no end":         {"intoto", "0.0.2", spec("intoto", "0.0.2", `{"content":"`, `\"`, ``)},
		"blanks":         {"hashedrekord", "0.0.1", spec("hashedrekord", "0.0.1", ``, ` `, `{}`)},
		"before spec":    {"hashedrekord", "0.0.1", func(size int) []byte { return hostile.Fill(size, `{"apiVersion":"`, `a`, `"}`) }},
		"not JSON":       {"hashedrekord", "0.0.1", func(size int) []byte { return make([]byte, size) }},
		"another kind":   {"helm", "0.0.1", spec("helm", "0.0.1", `{`, `"%d":1,`, `"a":1}`)},
		"of the new log": {"hashedrekord", "0.0.2", spec("hashedrekord", "0.0.2", `{`, `"%d":1,`, `"a":1}`)},
	} {
		e := good.LogEntries[0]
		if c.version == "0.0.2" && c.kind == "hashedrekord" {
			e = good.LogEntries[1]
		}
		e.Kind, e.Version, e.Body = c.kind, c.version, c.body(4<<20)
		if e.Promise != nil {
			e = w.SignV1(e)
			e.Proof = nil
		}
		judge(name, e)
		if name == "payload" || name == "not JSON" { // too large to be looked at
			e.Body = c.body(most)
			judge(name+", large", e)
		}
	}
}

// TestHostileTimestamps: no timestamp makes judging a claim take more than 64 MB
// besides one copy of it. Those that are signed hold, up to the part that is too much.
func TestHostileTimestamps(t *testing.T) {
	w := newWorld(t)
	v := must(verify.New(under(w.Root)))
	good := w.Claim(forge.ClaimOptions{Logs: []string{"v2"}, Token: true})
	const small = "\x30\x00"
	attribute := string(forge.Attribute(asn1.ObjectIdentifier{1, 2, 3}, []byte{5, 0}))
	token := func(o forge.TokenOptions) []byte { return w.Token(good.Signature(), o) }
	fill := func(size int, piece string) []byte { return hostile.Fill(size-4096, "", piece, "") }
	for name, make := range map[string]func(size int) []byte{
		"certificates": func(n int) []byte { return token(forge.TokenOptions{Embed: [][]byte{fill(n, small)}}) },
		"one certificate": func(n int) []byte {
			return token(forge.TokenOptions{Embed: [][]byte{forge.DER(0, 16, fill(n, small))}})
		},
		"attributes": func(n int) []byte {
			return token(forge.TokenOptions{Attrs: func(a [][]byte) [][]byte { return append(a, fill(n, attribute)) }})
		},
		"certificate ids": func(n int) []byte {
			return token(forge.TokenOptions{Attrs: func(a [][]byte) [][]byte {
				a[2] = forge.Attribute(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 47}, forge.DER(0, 16, forge.DER(0, 16, fill(n, "\x30\x06\x04\x04abcd"))))
				return a
			}})
		},
		"a serial number": func(n int) []byte {
			return token(forge.TokenOptions{Info: func(i *forge.TSTInfo) { i.Serial = new(big.Int).Lsh(big.NewInt(1), uint(n-4096)*8) }})
		},
		"extensions": func(n int) []byte {
			return token(forge.TokenOptions{Info: func(i *forge.TSTInfo) {
				i.Ext = slices.Repeat([]asn1.RawValue{{FullBytes: []byte("\x30\x07\x06\x02\x2a\x03\x04\x01x")}}, (n-4096)/9)
			}})
		},
		"a policy": func(n int) []byte {
			return token(forge.TokenOptions{Info: func(i *forge.TSTInfo) { i.Policy = slices.Repeat(asn1.ObjectIdentifier{1}, n-4096) }})
		},
		"a signature": func(n int) []byte {
			return token(forge.TokenOptions{Sign: func([]byte) []byte { return bytes.Repeat([]byte{1}, n-4096) }})
		},
		"unsigned attributes": func(n int) []byte { return token(forge.TokenOptions{Tail: forge.DER(2, 1, fill(n, attribute))}) },
		"nothing":             func(n int) []byte { return bytes.Repeat([]byte{0}, n) },
		"sequences":           func(n int) []byte { return bytes.Repeat([]byte{0x30, 0x80}, n/2) },
		"long": func(n int) []byte {
			return append([]byte{0x30, 0x84, 0x7f, 0xff, 0xff, 0xff}, bytes.Repeat([]byte{0}, n)...)
		},
	} {
		for _, size := range []int{1 << 20, 8 << 20} {
			c := *good
			c.Timestamps = [][]byte{make(size)}
			hostile.Measure(t, name, len(c.Timestamps[0]), func() { v.Claim(&c, files()) })
		}
	}
}
