package oracle_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/hallmark-dev/hallmark/internal/evidence/notary"
	"github.com/hallmark-dev/hallmark/internal/hmtest/notaryforge"
)

// notaryBase is a good envelope and the trust that accepts it.
type notaryBase struct {
	e    *notaryforge.Envelope
	pair *notaryPair
}

// notaryMutator makes envelopes that are almost right.
type notaryMutator struct {
	w       *notaryforge.World
	bases   []notaryBase
	signers []*notaryforge.Authority // leaves of every kind, below w.CA
	signed  map[string][][]byte      // bases as made once, by media type
}

func newNotaryMutator(tb testing.TB) *notaryMutator {
	tb.Helper()
	w := notaryforge.NewWorld(time.Now(), nil)
	m := &notaryMutator{w: w, signed: map[string][][]byte{}}
	for _, level := range []string{"strict", "permissive", "audit"} {
		s := w.Statement(level)
		s["trustStores"] = []string{"ca:acme", "signingAuthority:acme"}
		plain := newNotaryPair(tb, w, w.Parts(s))
		s["trustStores"] = []string{"ca:acme", "tsa:acme"}
		timed := newNotaryPair(tb, w, w.Parts(s))
		m.bases = append(m.bases, notaryBase{w.Envelope(), plain}, notaryBase{m.full(), plain}, notaryBase{m.authority(), plain}, notaryBase{m.stamped(), timed})
	}
	m.signers = m.leaves()
	for _, mediaType := range []string{notary.MediaTypeCOSE, notary.MediaTypeJWS} {
		for _, b := range m.bases {
			m.signed[mediaType] = append(m.signed[mediaType], b.e.Sign(mediaType))
		}
	}
	return m
}

// full has every header that scheme notary.x509 allows.
func (m *notaryMutator) full() *notaryforge.Envelope {
	e := m.w.Envelope()
	e.Payload = notaryforge.Target(m.w.MediaType, m.w.Digest, m.w.Size, map[string]string{"build": "7", "+": "<&>"})
	e.Protected[notaryforge.Expiry] = m.w.Now.AddDate(0, 0, 1)
	e.Protected["com.example.x"] = "y"
	e.Protected["crit"] = []string{notaryforge.Scheme, notaryforge.Expiry}
	return e
}

func (m *notaryMutator) authority() *notaryforge.Envelope {
	e := m.w.Envelope()
	delete(e.Protected, notaryforge.SigningTime)
	e.Protected[notaryforge.Scheme] = "notary.x509.signingAuthority"
	e.Protected[notaryforge.AuthenticTime] = m.w.Now.AddDate(0, 0, -1)
	e.Protected["crit"] = []string{notaryforge.Scheme, notaryforge.AuthenticTime}
	return e
}

func (m *notaryMutator) stamped() *notaryforge.Envelope {
	e := m.w.Envelope()
	e.Stamp = func(sig []byte) []byte { return m.w.Token(m.w.TSA, m.w.Now.Add(-time.Hour), sig) }
	return e
}

// leaves are signing certificates, most of them near-misses.
func (m *notaryMutator) leaves() []*notaryforge.Authority {
	w := m.w
	var out []*notaryforge.Authority
	add := func(change func(c *x509.Certificate)) {
		c := w.LeafTemplate()
		change(c)
		out = append(out, w.Issue(w.CA, c))
	}
	for _, u := range []x509.KeyUsage{0, x509.KeyUsageContentCommitment, 1 | 2, 1 | 4, 1 | 8, 1 | 16, 1 | 32, 1 | 64, 1 | 128, 1 | 256} {
		add(func(c *x509.Certificate) { c.KeyUsage = u })
	}
	for u := range x509.ExtKeyUsageOCSPSigning + 1 {
		add(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{u} })
		add(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning, u} })
	}
	for _, critical := range []bool{true, false} {
		add(func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: critical, Value: []byte{5, 0}}}
		})
		add(func(c *x509.Certificate) {
			c.KeyUsage, c.ExtraExtensions = 0, []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Critical: critical, Value: []byte{3, 2, 7, 0x80}}}
		})
		add(func(c *x509.Certificate) { c.BasicConstraintsValid, c.IsCA = true, critical })
	}
	for _, change := range []func(n *pkix.Name){
		func(n *pkix.Name) { n.Country = nil }, func(n *pkix.Name) { n.Province = nil }, func(n *pkix.Name) { n.Organization = []string{"acme"} },
		func(n *pkix.Name) { n.Organization = []string{"Acme", "Acme"} }, func(n *pkix.Name) { n.CommonName = "signer,O=Acme" },
		func(n *pkix.Name) { n.CommonName = "x=#01" }, func(n *pkix.Name) { n.CommonName = "#signer" }, func(n *pkix.Name) { n.CommonName = "" },
		func(n *pkix.Name) { n.OrganizationalUnit = []string{"a"} }, func(n *pkix.Name) { n.OrganizationalUnit = []string{"a", "b"} },
		func(n *pkix.Name) { n.CommonName = " signer " }, func(n *pkix.Name) { n.Locality = []string{"a\\b"} }, func(n *pkix.Name) { n.SerialNumber = "1" },
		func(n *pkix.Name) {
			n.ExtraNames = []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 25}, Value: "acme"}}
		},
	} {
		add(func(c *x509.Certificate) { change(&c.Subject) })
	}
	for _, d := range []time.Duration{-time.Minute, -25 * time.Hour} {
		add(func(c *x509.Certificate) { c.NotAfter = w.Now.Add(d) })
		add(func(c *x509.Certificate) { c.NotBefore = w.Now.Add(-2*time.Hour - d) })
	}
	return out
}

// next is one mutated envelope with the trust that it is judged under.
func (m *notaryMutator) next(r *rand.Rand, mediaType string) (what string, pair *notaryPair, data []byte) {
	i := r.IntN(len(m.bases))
	b := m.bases[i]
	switch n := r.IntN(10); {
	case n < 4:
		e := b.e.Clone()
		names := m.resigned(r, e)
		return "signed anew: " + names, b.pair, e.Sign(mediaType)
	case n < 6:
		what, data = reencode(r, mediaType, m.signed[mediaType][i], m.signed[mediaType][r.IntN(len(m.bases))])
		return what, b.pair, data
	}
	what, data = flip(r, m.signed[mediaType][i], m.signed[mediaType][r.IntN(len(m.bases))])
	return what, b.pair, data
}

// flip changes bytes as they are.
func flip(r *rand.Rand, data, other []byte) (string, []byte) {
	data = bytes.Clone(data)
	at := r.IntN(len(data))
	switch r.IntN(8) {
	case 0:
		return "truncated", data[:at]
	case 1:
		return "byte left out", slices.Delete(data, at, at+1)
	case 2:
		return "byte put in", slices.Insert(data, at, byte(r.IntN(256)))
	case 3:
		end := min(len(data), at+1+r.IntN(64))
		return "piece doubled", slices.Insert(data, at, data[at:end]...)
	case 4:
		return "spliced", append(data[:at:at], other[min(at, len(other)):]...)
	}
	data[at] ^= 1 << r.IntN(8)
	return "bit flipped", data
}

// resigned changes one or two things and leaves the signature good.
func (m *notaryMutator) resigned(r *rand.Rand, e *notaryforge.Envelope) string {
	var names []string
	for range 1 + r.IntN(2) {
		changes := m.changes(r)
		c := changes[r.IntN(len(changes))]
		c.do(e)
		names = append(names, c.name)
	}
	return strings.Join(names, ", ")
}

type notaryChange struct {
	name string
	do   func(e *notaryforge.Envelope)
}

func pickOne[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

func (m *notaryMutator) changes(r *rand.Rand) []notaryChange {
	w := m.w
	headers := []string{"alg", "cty", "crit", notaryforge.Scheme, notaryforge.SigningTime, notaryforge.AuthenticTime, notaryforge.Expiry}
	set := func(name string, value any) notaryChange {
		return notaryChange{"set " + name, func(e *notaryforge.Envelope) { e.Protected[name] = value }}
	}
	at := w.Now.Add(time.Duration(pickOne(r, -3, -1, 0, 1, 3)) * pickOne(r, time.Second, time.Minute, time.Hour, 24*time.Hour, 400*24*time.Hour))
	someTime := pickOne[any](r, at, at, at, at.Unix(), at.Format(time.RFC3339), nil, float64(at.Unix()), true,
		notaryforge.Either{COSE: notaryforge.Tag(0, at.Format(time.RFC3339)), JWS: at.Format("2006-01-02T15:4:05Z07:00")},
		notaryforge.Either{COSE: notaryforge.Tag(1, float64(at.Unix())), JWS: at.In(time.FixedZone("", 3600)).Format(time.RFC3339Nano)},
		notaryforge.Either{COSE: notaryforge.Tag(1, -5), JWS: "0001-01-01T00:00:00Z"},
		notaryforge.Either{COSE: notaryforge.Tag(1, int64(1)<<40), JWS: "2026-01-01T00:00:00,5Z"},
		notaryforge.Either{COSE: notaryforge.Tag(100, 20000), JWS: json.RawMessage("null")})
	crit := slices.Clone(headers)
	crit = append(crit, "com.example.x", "absent", strings.ToUpper(notaryforge.Scheme))
	r.Shuffle(len(crit), func(i, j int) { crit[i], crit[j] = crit[j], crit[i] })
	crit = crit[:r.IntN(4)]
	if r.IntN(3) > 0 {
		crit = append(crit, notaryforge.Scheme)
	}
	other := m.bases[r.IntN(len(m.bases))].e
	name := headers[r.IntN(len(headers))]
	return []notaryChange{
		{"nothing", func(e *notaryforge.Envelope) {}},
		{"without " + name, func(e *notaryforge.Envelope) { delete(e.Protected, name) }},
		{"another's " + name, func(e *notaryforge.Envelope) { e.Protected[name] = other.Protected[name] }},
		{"another's headers", func(e *notaryforge.Envelope) { e.Protected = other.Clone().Protected }},
		{"another's payload", func(e *notaryforge.Envelope) { e.Payload = other.Payload }},
		set(notaryforge.SigningTime, someTime), set(notaryforge.AuthenticTime, someTime), set(notaryforge.Expiry, someTime), set("crit", crit),
		set("crit", pickOne[any](r, nil, "x", []any{}, []any{1, "x"}, []any{3, notaryforge.Scheme}, []any{notaryforge.Scheme, notaryforge.Scheme})),
		set("alg", pickOne[any](r, "ES384", "PS256", "none", "EdDSA", 5, nil, notaryforge.Either{COSE: "ES256", JWS: "es256"})),
		set("cty", pickOne[any](r, "application/json", "", "application/vnd.cncf.notary.payload.v1+JSON", 7, " application/vnd.cncf.notary.payload.v1+json")),
		set(notaryforge.Scheme, pickOne[any](r, "", "notary.x509", "notary.x509.signingAuthority", "notary.X509", 5)),
		set(pickOne(r, "com.example.x", "kid", "typ", "b64", "ALG", "Crit", "io.cncf.notary.Expiry", "io.cncf.notary.verificationPlugin", "io.cncf.notary.verificationPluginMinVersion", "x5c"),
			pickOne[any](r, "y", 1, nil, true, 1.5, []any{1, "x"}, map[string]any{"a": "b"}, "2020-01-01T00:00:00Z", w.Now)),
		{"a leaf that is not quite right", func(e *notaryforge.Envelope) {
			l := m.signers[r.IntN(len(m.signers))]
			e.Chain[0], e.Key = l.Cert.Raw, l.Key
			e.Protected["alg"] = notaryforge.Algorithm(l.Key)
		}},
		{"chain in disorder", func(e *notaryforge.Envelope) {
			r.Shuffle(len(e.Chain), func(i, j int) { e.Chain[i], e.Chain[j] = e.Chain[j], e.Chain[i] })
		}},
		{"certificate left out", func(e *notaryforge.Envelope) {
			if len(e.Chain) > 0 {
				i := r.IntN(len(e.Chain))
				e.Chain = slices.Delete(e.Chain, i, i+1)
			}
		}},
		{"certificate twice", func(e *notaryforge.Envelope) {
			if len(e.Chain) > 0 {
				i := r.IntN(len(e.Chain))
				e.Chain = slices.Insert(e.Chain, i, e.Chain[i])
			}
		}},
		{"bit of a certificate", func(e *notaryforge.Envelope) {
			if len(e.Chain) > 0 {
				i := r.IntN(len(e.Chain))
				e.Chain[i] = bytes.Clone(e.Chain[i])
				e.Chain[i][r.IntN(len(e.Chain[i]))] ^= 1 << r.IntN(8)
			}
		}},
		{"chain protected", func(e *notaryforge.Envelope) { e.ChainProtected = true }},
		{"detached", func(e *notaryforge.Envelope) { e.Detached = true }},
		{"payload", func(e *notaryforge.Envelope) { e.Payload = m.payload(r, e.Payload) }},
		{"signature", func(e *notaryforge.Envelope) {
			e.Tamper = func(sig []byte) []byte {
				return pickOne(r, append(sig, 0), sig[:len(sig)-1], append([]byte{0}, sig...), slices.Concat(sig[32:], sig[:32]), []byte{})
			}
		}},
		{"timestamp", func(e *notaryforge.Envelope) { e.Stamp = m.token(r) }},
	}
}

// payload is a text that says almost the same.
func (m *notaryMutator) payload(r *rand.Rand, have []byte) []byte {
	s := string(have)
	d := m.w.Digest
	return []byte(pickOne(r, " "+s+"\n", s+"x", s+"{}", strings.Replace(s, "{", `{"a":[1,{}],`, 1), strings.Replace(s, "targetArtifact", "TargetArtifact", 1),
		strings.Replace(s, `"size"`, `"Size"`, 1), strings.Replace(s, "407", "4.07e2", 1), strings.Replace(s, "407", "408", 1), strings.Replace(s, "407", `"407"`, 1),
		strings.Replace(s, `"size"`, `"size":1,"size"`, 1), strings.Replace(s, `"digest"`, `"digest":"`+d+`","digest"`, 1), strings.Replace(s, d, strings.ToUpper(d), 1),
		strings.Replace(s, "+", `\u002B`, 1), strings.Replace(s, `"size"`, `"urls":5,"size"`, 1), strings.Replace(s, `"size"`, `"annotations":null,"size"`, 1),
		strings.Replace(s, `"size"`, `"platform":{"os":"linux"},"size"`, 1), strings.Replace(s, `"size"`, `"data":"AA","size"`, 1), strings.Replace(s, `"size"`, `"x":null,"size"`, 1),
		strings.Replace(s, "mediaType", "media\\u0054ype", 1), strings.Replace(s, "manifest.v1", "manifest.v2", 1), "null", "[]", "{}", `{"targetArtifact":null}`,
		strings.Replace(s, `"size"`, "\"\xff\":1,\"size\"", 1), strings.Replace(s, "mediaType", "mediatype", 1)))
}

// token is an RFC 3161 token that is good, or not.
func (m *notaryMutator) token(r *rand.Rand) func(sig []byte) []byte {
	w, n := m.w, r.IntN(6)
	at := w.Now.Add(-time.Duration(r.IntN(500)) * 24 * time.Hour)
	return func(sig []byte) []byte {
		tok := w.Token(w.TSA, at, sig)
		switch n {
		case 0:
			tok[r.IntN(len(tok))] ^= 1 << r.IntN(8)
		case 1:
			tok = tok[:r.IntN(len(tok))]
		case 2:
			tok = append(tok, 0)
		case 3:
			tok = w.Token(w.TSA, at, append([]byte{1}, sig...))
		}
		return tok
	}
}

// reencode writes the same parts, or another's, in another way.
func reencode(r *rand.Rand, mediaType string, data, other []byte) (string, []byte) {
	if mediaType == notary.MediaTypeJWS {
		return reencodeJWS(r, data, other)
	}
	return reencodeCOSE(r, data, other)
}

func reencodeCOSE(r *rand.Rand, data, other []byte) (string, []byte) {
	parts, others := coseParts(data), coseParts(other)
	if r.IntN(2) == 0 {
		i := r.IntN(4)
		parts[i] = others[i]
	}
	var pairs [][2]cbor.RawMessage
	var unprotected map[any]cbor.RawMessage
	if err := cbor.Unmarshal(parts[1], &unprotected); err != nil {
		panic(err)
	}
	for k, v := range unprotected {
		key, _ := cbor.Marshal(k)
		pairs = append(pairs, [2]cbor.RawMessage{key, v})
	}
	n := r.IntN(10)
	long := func(head byte, size int) []byte {
		return binary.BigEndian.AppendUint32([]byte{head | 26}, uint32(size))
	}
	body := func() []byte {
		var out []byte
		for _, p := range pairs {
			out = append(append(out, p[0]...), p[1]...)
		}
		return out
	}
	extra := pickOne(r, "\x61x\xf6", "\x61x\xc1\x00", "\x61x\xf9\x3c\x00", "\x61x\x9f\xff", "\x01\x26", "\x03\x61x", "\x04\x41x", "\x05\x41x", "\x18\x22\x80", "\x20\x00", "\x41x\x00", "\x61\xff\x00", "\x80\x00")
	switch n {
	case 0:
		pairs = append(pairs, pairs[r.IntN(len(pairs))])
	case 1:
		parts[1] = append(append([]byte{0xbf}, body()...), 0xff)
	case 2:
		parts[1] = append(long(0xa0, len(pairs)), body()...)
	case 3:
		parts[1] = append([]byte{0xa0 | byte(len(pairs)+1)}, append(body(), extra...)...)
	case 4, 5:
		i := 2*r.IntN(2) + 0
		if n == 5 {
			i = 3
		}
		var content []byte
		if err := cbor.Unmarshal(parts[i], &content); err != nil {
			panic(err)
		}
		parts[i] = append(long(0x40, len(content)), content...)
	}
	if n == 0 || n > 5 {
		parts[1] = append([]byte{0xa0 | byte(len(pairs))}, body()...) // in the order of a Go map: any
	}
	all := bytes.Join([][]byte{parts[0], parts[1], parts[2], parts[3]}, nil)
	head := pickOne(r, "\xd2\x84", "\xd2\x84", "\xd2\x84", "\xd2\x84", "\xd8\x12\x84", "\xd2\x98\x04", "\x84", "\xd2\xd2\x84")
	if r.IntN(20) == 0 {
		return "COSE as a list without length", append(append([]byte("\xd2\x9f"), all...), 0xff)
	}
	return "COSE encoded anew", append([]byte(head), all...)
}

func coseParts(data []byte) []cbor.RawMessage {
	var out []cbor.RawMessage
	if err := cbor.Unmarshal(data[1:], &out); err != nil {
		panic(err)
	}
	return out
}

func reencodeJWS(r *rand.Rand, data, other []byte) (string, []byte) {
	var m, o map[string]json.RawMessage
	if json.Unmarshal(data, &m) != nil || json.Unmarshal(other, &o) != nil {
		panic("not an envelope")
	}
	names := []string{"payload", "protected", "header", "signature"}
	if r.IntN(2) == 0 {
		n := names[r.IntN(4)]
		m[n] = o[n]
	}
	r.Shuffle(4, func(i, j int) { names[i], names[j] = names[j], names[i] })
	n := names[0]
	text := string(m[n])
	what := "reordered"
	mid := 1 + r.IntN(max(1, len(text)-2))
	switch r.IntN(14) {
	case 0:
		names, what = append(names, n), n+" twice"
	case 1:
		names, what = append(names, strings.ToUpper(n[:1])+n[1:]), n+" twice, in capitals"
		m[names[4]] = o[n]
	case 2:
		m[strings.ToUpper(n)], what = m[n], n+" in capitals"
		names[0] = strings.ToUpper(n)
	case 3:
		names, what = names[1:], "without "+n
	case 4:
		m["x"], what = json.RawMessage(`{"a":1}`), "another member"
		names = append(names, "x")
	case 5:
		m[n], what = json.RawMessage(text[:mid]+`\n`+text[mid:]), "line break in "+n
	case 6:
		m[n], what = json.RawMessage(text[:len(text)-1]+"="+text[len(text)-1:]), "padding of "+n
	case 7:
		m[n], what = json.RawMessage(strings.NewReplacer("-", "+", "_", "/").Replace(text)), "other alphabet in "+n
	case 8:
		m[n], what = json.RawMessage("null"), n+" null"
	case 9:
		if c := text[mid]; c >= 'a' && c <= 'z' && n != "header" {
			const hexa = "0123456789abcdef"
			m[n], what = json.RawMessage(text[:mid]+`\u00`+string(hexa[c>>4])+string(hexa[c&15])+text[mid+1:]), "escape in "+n
		}
	case 10:
		h := strings.Replace(string(m["header"]), "{", pickOne(r, `{"y":1,`, `{"X5C":[],`, `{"x5c":[],`, `{"io.cncf.notary.signingAgent":5,`, `{"io.cncf.notary.timestampSignature":"AA==",`), 1)
		m["header"], what = json.RawMessage(h), "another header"
	case 11:
		m["protected"], what = reprotect(r, m["protected"]), "protected encoded anew"
	}
	var out strings.Builder
	space := pickOne(r, "", "", " ", "\n\t")
	out.WriteString(space + "{")
	for i, n := range names {
		if i > 0 {
			out.WriteString(",")
		}
		out.WriteString(space + `"` + n + `"` + space + ":" + space + string(m[n]))
	}
	out.WriteString(space + "}" + pickOne(r, "", "", "", "\n", "x", "{}"))
	return "JWS " + what, []byte(out.String())
}

// reprotect writes the protected headers in another way, which breaks the signature.
func reprotect(r *rand.Rand, protected json.RawMessage) json.RawMessage {
	raw, err := base64.RawURLEncoding.DecodeString(strings.Trim(string(protected), `"`))
	if err != nil {
		return protected
	}
	s := string(raw)
	s = pickOne(r, " "+s, strings.Replace(s, "{", `{"alg":"ES256",`, 1), strings.Replace(s, `"alg"`, `"ALG"`, 1), s+" ")
	out, _ := json.Marshal(base64.RawURLEncoding.EncodeToString([]byte(s)))
	return out
}
