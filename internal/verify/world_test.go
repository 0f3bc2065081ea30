package verify_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// world is a small Sigstore: authorities with keys that tests can misuse.
type world struct {
	t            testing.TB
	now          time.Time
	ca           *authority
	ct, v1       *ecdsa.PrivateKey
	v2           ed25519.PrivateKey
	v2pub        ed25519.PublicKey
	tsaRoot, tsa *authority
	root         *trust.Root
}

type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func newKey(c elliptic.Curve) *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(c, rand.Reader)) }

func issue(template *x509.Certificate, by *authority, public crypto.PublicKey, self crypto.Signer) *x509.Certificate {
	parent, key := template, self
	if by != nil {
		parent, key = by.cert, by.key
	}
	der := must(x509.CreateCertificate(rand.Reader, template, parent, public, key))
	return must(x509.ParseCertificate(der))
}

func caTemplate(name string, now time.Time) *x509.Certificate {
	return &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(9, 0, 0)}
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, now: time.Now().Truncate(time.Second).UTC(), ct: newKey(elliptic.P256()), v1: newKey(elliptic.P256())}
	caKey := newKey(elliptic.P256())
	w.ca = &authority{issue(caTemplate("ca", w.now), nil, caKey.Public(), caKey), caKey}
	tsaKey := newKey(elliptic.P256())
	w.tsaRoot = &authority{issue(caTemplate("tsa root", w.now), nil, tsaKey.Public(), tsaKey), tsaKey}
	w.tsa = w.newTSA(nil)
	w.v2pub, w.v2, _ = ed25519.GenerateKey(rand.Reader)
	w.root = w.trustRoot(nil)
	return w
}

// newTSA issues a timestamp authority's leaf; change may spoil it.
func (w *world) newTSA(change func(*x509.Certificate)) *authority {
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "tsa"}, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: w.now.AddDate(-1, 0, 0), NotAfter: w.now.AddDate(5, 0, 0), SubjectKeyId: []byte("tsa key"),
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true,
			Value: must(asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}}))}}}
	if change != nil {
		change(template)
	}
	key := newKey(elliptic.P256())
	return &authority{issue(template, w.tsaRoot, key.Public(), nil), key}
}

// trustRoot is the world's trust root; change may spoil it.
func (w *world) trustRoot(change func(*trust.RootSpec)) *trust.Root {
	start := w.now.AddDate(0, -1, 0)
	s := &trust.RootSpec{
		CAs:    []trust.AuthoritySpec{{URI: "https://ca.test", Chain: []*x509.Certificate{w.ca.cert}, Start: start}},
		TSAs:   []trust.AuthoritySpec{{URI: "https://tsa.test", Chain: []*x509.Certificate{w.tsa.cert, w.tsaRoot.cert}, Start: start}},
		CTLogs: []trust.LogSpec{{BaseURL: "https://ct.test", Key: w.ct.Public(), Start: start}},
		TLogs: []trust.LogSpec{
			{BaseURL: "https://rekor.test", Key: w.v1.Public(), Start: start},
			{BaseURL: "https://log2.test", Key: w.v2pub, Origin: "log2.test", Start: start},
		},
	}
	if change != nil {
		change(s)
	}
	return must(trust.ParseTrustedRoot(must(s.JSON())))
}

// leafOptions are what tests vary about a signing certificate.
type leafOptions struct {
	key       crypto.PublicKey
	email     string
	uri       string
	san       []byte // raw extension value instead
	issuerV1  string
	issuerV2  string
	extra     []pkix.Extension
	usage     x509.ExtKeyUsage
	notBefore time.Time
	sct       func(tbs []byte) []byte // extension value; nil: a good one; returning nil: none
	change    func(*x509.Certificate)
}

func fulcioOID(arc int) asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, arc}
}

func (w *world) leaf(o leafOptions) *x509.Certificate {
	template := &x509.Certificate{SerialNumber: big.NewInt(3), KeyUsage: x509.KeyUsageDigitalSignature, NotBefore: w.now, NotAfter: w.now.Add(10 * time.Minute),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}
	if !o.notBefore.IsZero() {
		template.NotBefore, template.NotAfter = o.notBefore, o.notBefore.Add(10*time.Minute)
	}
	if o.usage != 0 {
		template.ExtKeyUsage = []x509.ExtKeyUsage{o.usage}
	}
	switch {
	case o.san != nil:
		template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: true, Value: o.san})
	case o.uri != "":
		template.URIs = []*url.URL{must(url.Parse(o.uri))}
	case o.email != "":
		template.EmailAddresses = []string{o.email}
	}
	if o.issuerV1 != "" {
		template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: fulcioOID(1), Value: []byte(o.issuerV1)})
	}
	if o.issuerV2 != "" {
		template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: fulcioOID(8), Value: must(asn1.MarshalWithParams(o.issuerV2, "utf8"))})
	}
	template.ExtraExtensions = append(template.ExtraExtensions, o.extra...)
	if o.change != nil {
		o.change(template)
	}
	pre := issue(template, w.ca, o.key, nil)
	if o.sct == nil {
		o.sct = func(tbs []byte) []byte { return sctExtension(w.sct(tbs, nil)) }
	}
	if value := o.sct(pre.RawTBSCertificate); value != nil {
		template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}, Value: value})
		pre = issue(template, w.ca, o.key, nil)
	}
	return pre
}

// sct is one serialized SCT over a certificate without SCTs.
func (w *world) sct(tbs []byte, extensions []byte) []byte {
	stamp := binary.BigEndian.AppendUint64(nil, uint64(w.now.UnixMilli()))
	issuer := sha256.Sum256(w.ca.cert.RawSubjectPublicKeyInfo)
	ext := append(binary.BigEndian.AppendUint16(nil, uint16(len(extensions))), extensions...)
	signed := append([]byte{0, 0}, stamp...)
	signed = append(append(signed, 0, 1), issuer[:]...)
	signed = append(signed, byte(len(tbs)>>16), byte(len(tbs)>>8), byte(len(tbs)))
	signed = append(append(signed, tbs...), ext...)
	sig := signECDSA(w.ct, signed)
	logID := sha256.Sum256(must(x509.MarshalPKIXPublicKey(w.ct.Public())))
	out := append([]byte{0}, logID[:]...)
	out = append(append(append(out, stamp...), ext...), 4, 3)
	return append(binary.BigEndian.AppendUint16(out, uint16(len(sig))), sig...)
}

func sctExtension(scts ...[]byte) []byte {
	var list []byte
	for _, s := range scts {
		list = append(binary.BigEndian.AppendUint16(list, uint16(len(s))), s...)
	}
	return must(asn1.Marshal(append(binary.BigEndian.AppendUint16(nil, uint16(len(list))), list...)))
}

func signECDSA(key *ecdsa.PrivateKey, data []byte) []byte {
	sum := sha256.Sum256(data)
	return must(ecdsa.SignASN1(rand.Reader, key, sum[:]))
}

// artifact is what the world's claims are about.
var artifact = []byte("the artifact\n")

func (w *world) files() verify.Artifact {
	sum384, sum512 := sha512.Sum384(artifact), sha512.Sum512(artifact)
	return verify.Artifact{Content: artifact, Digests: []evidence.Digest{evidence.SHA256(artifact),
		evidence.Digest("sha384:" + hex.EncodeToString(sum384[:])), evidence.Digest("sha512:" + hex.EncodeToString(sum512[:]))}}
}

func statementAbout(subject string) []byte {
	return []byte(`{"_type":"https://in-toto.io/Statement/v1","subject":[` + subject + `],"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}}`)
}

func artifactSubject() string {
	return `{"digest":{"sha256":"` + evidence.SHA256(artifact).Hex() + `"},"annotations":{"env":"prod"}}`
}

// claim is how the world signs: message or envelope, certificate or bare key.
type claimOptions struct {
	signer  crypto.Signer  // default a new P-256 key
	hash    crypto.Hash    // default SHA-256
	payload []byte         // of an envelope; nil: a message signature
	leaf    *leafOptions   // nil: alice
	keyOnly bool           // no certificate
	logs    []string       // "v2", "v1 hashedrekord", "v1 dsse", "v1 intoto"
	token   bool           // with a timestamp
	tokenAt time.Time      // default now+1s
	tokens  []tokenOptions // instead
}

func (w *world) claim(o claimOptions) *evidence.Claim {
	if o.signer == nil {
		o.signer = newKey(elliptic.P256())
	}
	if o.hash == 0 {
		o.hash = crypto.SHA256
	}
	c := &evidence.Claim{Format: evidence.FormatBundle03}
	if !o.keyOnly {
		l := leafOptions{email: "alice@example.com", issuerV1: "https://issuer.test", issuerV2: "https://issuer.test"}
		if o.leaf != nil {
			l = *o.leaf
		}
		l.key = o.signer.Public()
		c.Certificates = [][]byte{w.leaf(l).Raw}
	}
	message := artifact
	if o.payload != nil {
		message = evidence.PAE(evidence.InTotoPayloadType, o.payload)
	}
	digest := message
	var opts crypto.SignerOpts = crypto.Hash(0)
	if o.hash != crypto.Hash(999) { // 999: pure Ed25519
		h := o.hash.New()
		h.Write(message)
		digest, opts = h.Sum(nil), o.hash
	}
	sig := must(o.signer.Sign(rand.Reader, digest, opts))
	if o.payload != nil {
		c.Envelope = &evidence.Envelope{PayloadType: evidence.InTotoPayloadType, Payload: o.payload, Signatures: []evidence.EnvelopeSignature{{Sig: sig}}}
	} else {
		c.Message = &evidence.MessageSignature{Signature: sig}
	}
	for _, kind := range o.logs {
		if kind == "v2" {
			c.LogEntries = append(c.LogEntries, w.entryV2(c, o, digest))
		} else {
			c.LogEntries = append(c.LogEntries, w.entryV1(c, o, kind, digest))
		}
	}
	if o.token {
		o.tokens = append(o.tokens, tokenOptions{at: o.tokenAt})
	}
	for _, t := range o.tokens {
		c.Timestamps = append(c.Timestamps, w.token(sig, t))
	}
	return c
}

func (w *world) signerPEM(c *evidence.Claim, o claimOptions) []byte {
	if o.keyOnly {
		return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(o.signer.Public()))})
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificates[0]})
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func jcs(v any) []byte { return must(jsoncanonicalizer.Transform(must(json.Marshal(v)))) }

type object map[string]any

// entryV1 logs the claim in a Rekor v1 log of three entries: promise and proof.
func (w *world) entryV1(c *evidence.Claim, o claimOptions, kind string, digest []byte) evidence.LogEntry {
	signer, sig := b64(w.signerPEM(c, o)), c.Signature()
	var spec, version any
	k := kind[len("v1 "):]
	switch k {
	case "hashedrekord":
		names := map[int]string{32: "sha256", 48: "sha384", 64: "sha512"}
		version, spec = "0.0.1", object{"data": object{"hash": object{"algorithm": names[len(digest)], "value": hex.EncodeToString(digest)}},
			"signature": object{"content": b64(sig), "publicKey": object{"content": signer}}}
	case "dsse":
		version, spec = "0.0.1", object{"envelopeHash": object{"algorithm": "sha256", "value": hex.EncodeToString(make([]byte, 32))},
			"payloadHash": object{"algorithm": "sha256", "value": evidence.SHA256(o.payload).Hex()},
			"signatures":  []object{{"signature": b64(sig), "verifier": signer}}}
	case "intoto":
		version, spec = "0.0.2", object{"content": object{"envelope": object{"payloadType": evidence.InTotoPayloadType,
			"signatures": []object{{"publicKey": signer, "sig": b64([]byte(b64(sig)))}}},
			"hash":        object{"algorithm": "sha256", "value": hex.EncodeToString(make([]byte, 32))},
			"payloadHash": object{"algorithm": "sha256", "value": evidence.SHA256(o.payload).Hex()}}}
	}
	body := jcs(object{"apiVersion": version, "kind": k, "spec": spec})
	e := w.signV1(evidence.LogEntry{LogIndex: 1001, IntegratedTime: w.now.Unix() + 2, Kind: k, Version: version.(string), Body: body})
	root, path := tree(body)
	text := fmt.Sprintf("rekor.test - 77\n3\n%s\n", b64(root))
	id := sha256.Sum256(must(x509.MarshalPKIXPublicKey(w.v1.Public())))
	note := text + "\n— rekor.test " + b64(append(id[:4:4], signECDSA(w.v1, []byte(text))...)) + "\n"
	e.Proof = &evidence.InclusionProof{LogIndex: 1, TreeSize: 3, RootHash: root, Hashes: path, Checkpoint: note}
	return e
}

// signV1 gives an entry the log's id and promise.
func (w *world) signV1(e evidence.LogEntry) evidence.LogEntry {
	id := sha256.Sum256(must(x509.MarshalPKIXPublicKey(w.v1.Public())))
	e.LogID = id[:]
	e.Promise = signECDSA(w.v1, jcs(object{"body": b64(e.Body), "integratedTime": e.IntegratedTime, "logID": hex.EncodeToString(id[:]), "logIndex": e.LogIndex}))
	return e
}

// tree is a log of three leaves with the body in the middle.
func tree(body []byte) (root []byte, path [][]byte) {
	leaf := func(b []byte) []byte { s := sha256.Sum256(append([]byte{0}, b...)); return s[:] }
	node := func(l, r []byte) []byte { s := sha256.Sum256(slices.Concat([]byte{1}, l, r)); return s[:] }
	first, last := leaf([]byte("first")), leaf([]byte("last"))
	return node(node(first, leaf(body)), last), [][]byte{first, last}
}

func (w *world) entryV2(c *evidence.Claim, o claimOptions, digest []byte) evidence.LogEntry {
	details := "PKIX_ECDSA_P256_SHA_256"
	switch k := o.signer.Public().(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P384() {
			details = "PKIX_ECDSA_P384_SHA_384"
		}
	case ed25519.PublicKey:
		details = "PKIX_ED25519_PH"
	default:
		details = "PKIX_RSA_PKCS1V15_2048_SHA256"
	}
	verifier := object{"keyDetails": details}
	if o.keyOnly {
		verifier["publicKey"] = object{"rawBytes": b64(must(x509.MarshalPKIXPublicKey(o.signer.Public())))}
	} else {
		verifier["x509Certificate"] = object{"rawBytes": b64(c.Certificates[0])}
	}
	names := map[int]string{32: "SHA2_256", 48: "SHA2_384", 64: "SHA2_512"}
	body := jcs(object{"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": object{"hashedRekordV002": object{
		"data":      object{"algorithm": names[len(digest)], "digest": b64(digest)},
		"signature": object{"content": b64(c.Signature()), "verifier": verifier}}}})
	root, path := tree(body)
	id := trust.NoteKeyID("log2.test", w.v2pub)
	return evidence.LogEntry{LogIndex: 1, LogID: id[:], Kind: "hashedrekord", Version: "0.0.2", Body: body,
		Proof: &evidence.InclusionProof{LogIndex: 1, TreeSize: 3, RootHash: root, Hashes: path, Checkpoint: w.noteV2("log2.test", 3, root)}}
}

func (w *world) noteV2(origin string, size int, root []byte) string {
	id := trust.NoteKeyID("log2.test", w.v2pub)
	text := fmt.Sprintf("%s\n%d\n%s\n", origin, size, b64(root))
	return text + "\n— log2.test " + b64(append(id[:4:4], ed25519.Sign(w.v2, []byte(text))...)) + "\n"
}

// tokenOptions are what tests vary about a timestamp.
type tokenOptions struct {
	at       time.Time // default now+1s
	by       *authority
	imprint  []byte
	embed    [][]byte
	fraction string
	attrs    func([][]byte) [][]byte // signed attributes, each DER
	info     func(object *tstInfo)
	version  int // of SignerInfo; 3 names the key instead of the certificate
	sign     func(der []byte) []byte
	tail     []byte // after SignerInfo's signature
	status   int
}

type tstInfo struct {
	Version  int
	Policy   asn1.ObjectIdentifier
	Imprint  tstImprint
	Serial   *big.Int
	GenTime  asn1.RawValue
	Ordering bool            `asn1:"optional"`
	Nonce    *big.Int        `asn1:"optional"`
	Ext      []asn1.RawValue `asn1:"optional,tag:1"`
}

type tstImprint struct {
	Alg pkix.AlgorithmIdentifier
	Sum []byte
}

var (
	algSHA256 = pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}}
	algECDSA  = pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}}
	oidTST    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4}
)

func der(class, tag int, parts ...[]byte) []byte {
	return must(asn1.Marshal(asn1.RawValue{Class: class, Tag: tag, IsCompound: true, Bytes: slices.Concat(parts...)}))
}

func attribute(id asn1.ObjectIdentifier, value []byte) []byte {
	return der(0, 16, must(asn1.Marshal(id)), der(0, 17, value))
}

// token is an RFC 3161 response over sig.
func (w *world) token(sig []byte, o tokenOptions) []byte {
	if o.by == nil {
		o.by = w.tsa
	}
	if o.at.IsZero() {
		o.at = w.now.Add(time.Second)
	}
	sum := sha256.Sum256(sig)
	if o.imprint != nil {
		copy(sum[:], o.imprint)
	}
	info := tstInfo{1, asn1.ObjectIdentifier{1, 2, 3}, tstImprint{algSHA256, sum[:]}, big.NewInt(9),
		asn1.RawValue{Tag: 24, Bytes: []byte(o.at.UTC().Format("20060102150405") + o.fraction + "Z")}, false, big.NewInt(5), nil}
	if o.info != nil {
		o.info(&info)
	}
	content := must(asn1.Marshal(info))
	contentSum, certSum := sha256.Sum256(content), sha256.Sum256(o.by.cert.Raw)
	attrs := [][]byte{
		attribute(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}, must(asn1.Marshal(oidTST))),
		attribute(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}, must(asn1.Marshal(contentSum[:]))),
		attribute(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 47}, der(0, 16, der(0, 16, der(0, 16, must(asn1.Marshal(certSum[:])))))),
	}
	if o.attrs != nil {
		attrs = o.attrs(attrs)
	}
	signature := signECDSA(o.by.key, der(0, 17, attrs...))
	if o.sign != nil {
		signature = o.sign(der(0, 17, attrs...))
	}
	version, sid := 1, der(0, 16, o.by.cert.RawIssuer, must(asn1.Marshal(o.by.cert.SerialNumber)))
	if o.version == 3 {
		version, sid = 3, must(asn1.Marshal(asn1.RawValue{Class: 2, Tag: 0, Bytes: o.by.cert.SubjectKeyId}))
	}
	signer := der(0, 16, must(asn1.Marshal(version)), sid, must(asn1.Marshal(algSHA256)), der(2, 0, attrs...),
		must(asn1.Marshal(algECDSA)), must(asn1.Marshal(signature)), o.tail)
	parts := [][]byte{must(asn1.Marshal(3)), der(0, 17, must(asn1.Marshal(algSHA256))),
		der(0, 16, must(asn1.Marshal(oidTST)), der(2, 0, must(asn1.Marshal(content))))}
	if o.embed != nil {
		parts = append(parts, der(2, 0, o.embed...))
	}
	signed := der(0, 16, append(parts, der(0, 17, signer))...)
	return der(0, 16, der(0, 16, must(asn1.Marshal(o.status))),
		der(0, 16, must(asn1.Marshal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2})), der(2, 0, signed)))
}

// under believes one trust root.
func under(root *trust.Root) verify.Config { return verify.Config{Roots: []*trust.Root{root}} }

// judge judges a claim about the world's artifact.
func (w *world) judge(c *evidence.Claim, cfg verify.Config) (*verify.Verified, string) {
	w.t.Helper()
	if len(cfg.Roots) == 0 {
		cfg.Roots = under(w.root).Roots
	}
	v, err := verify.New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	ok, reasons := v.Claim(c, w.files())
	if (ok == nil) == (len(reasons) == 0) {
		w.t.Fatalf("verified %v and reasons %v", ok, reasons)
	}
	if ok == nil {
		return nil, reasons[0].String()
	}
	return ok, ""
}
