package verify_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/simplesigning"
	"github.com/hallmark-dev/hallmark/internal/hmtest/forge"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

func simplePayload(digest evidence.Digest, kind, optional string) []byte {
	return []byte(`{"critical":{"identity":{"docker-reference":"registry.test/app"},"image":{"docker-manifest-digest":"` +
		string(digest) + `"},"type":"` + kind + `"},"optional":` + optional + `}`)
}

func goodPayload() []byte {
	return simplePayload(evidence.SHA256(forge.Artifact), simplesigning.Type, `{"env":"prod","n":1}`)
}

func certPEM(ders ...[]byte) string {
	var out bytes.Buffer
	for _, d := range ders {
		out.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: d}))
	}
	return out.String()
}

// simple signs a payload as cosign did before version 3: SET and chain with the root.
func (w *world) simple(payload []byte, o forge.ClaimOptions) forge.Layer {
	o.Artifact = payload
	if _, ok := o.Signer.(ed25519.PrivateKey); ok {
		o.Hash = forge.PureEd25519
	}
	return w.CosignLayer(w.Claim(o), payload)
}

// simpleAttestation wraps a statement as cosign attest did before version 3; the
// timestamp, if there is one, is over the envelope as written.
func (w *world) simpleAttestation(statement []byte, o forge.ClaimOptions) forge.Layer {
	o.Payload = statement
	l := w.CosignLayer(w.Claim(o), nil)
	l.Annotations["predicateType"] = "unsigned"
	if o.Token {
		l.Annotations[simplesigning.AnnotationTimestamp] = string(must(json.Marshal(map[string]any{"SignedRFC3161Timestamp": w.Token(l.Content, forge.TokenOptions{})})))
	}
	return l
}

// judgeLayer reads and judges a layer about the world's artifact.
func (w *world) judgeLayer(l forge.Layer, cfg verify.Config) (*verify.Verified, string) {
	w.t.Helper()
	parse := simplesigning.ParseSignature
	if _, ok := l.Annotations["predicateType"]; ok {
		parse = simplesigning.ParseAttestation
	}
	c, err := parse(l.Content, l.Annotations)
	if err != nil {
		return nil, "UNREADABLE " + err.Error()
	}
	if len(cfg.Roots) == 0 && cfg.Keys == nil {
		cfg.Roots = []*trust.Root{w.Root}
	}
	v := must(verify.New(cfg))
	ok, reasons := v.Claim(c, verify.Image(evidence.SHA256(forge.Artifact)))
	if (ok == nil) == (len(reasons) == 0) {
		w.t.Fatalf("verified %v and reasons %v", ok, reasons)
	}
	if ok == nil {
		return nil, reasons[0].String()
	}
	return ok, ""
}

func TestSimpleSigningVerifies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, edKey, _ := ed25519.GenerateKey(rand.Reader)
	ecKey := forge.NewKey(elliptic.P384())
	keys := func(k crypto.Signer) verify.Config { return verify.Config{Keys: []crypto.PublicKey{k.Public()}} }
	withRoot := keys(ecKey)
	withRoot.Roots, withRoot.RequireLog = []*trust.Root{w.Root}, true
	for name, c := range map[string]struct {
		l     forge.Layer
		cfg   verify.Config
		times int
	}{
		"keyless, SET":               {w.simple(goodPayload(), forge.ClaimOptions{Logs: []string{"v1 hashedrekord"}}), verify.Config{}, 1},
		"keyless, SET and timestamp": {w.simple(goodPayload(), forge.ClaimOptions{Logs: []string{"v1 hashedrekord"}, Token: true}), verify.Config{RequireTimestamp: true}, 2},
		"key":                        {w.simple(goodPayload(), forge.ClaimOptions{KeyOnly: true, Signer: ecKey}), keys(ecKey), 0},
		"key, Ed25519":               {w.simple(goodPayload(), forge.ClaimOptions{KeyOnly: true, Signer: edKey}), keys(edKey), 0},
		"key in the log":             {w.simple(goodPayload(), forge.ClaimOptions{KeyOnly: true, Signer: ecKey, Logs: []string{"v1 hashedrekord"}}), withRoot, 1},
	} {
		ok, why := w.judgeLayer(c.l, c.cfg)
		if ok == nil {
			t.Errorf("%s: %s", name, why)
			continue
		}
		if !ok.IsSignature() || ok.Kind() != verify.KindSignature || ok.Statement() != nil || ok.PredicateType() != "" {
			t.Errorf("%s: kind %s, statement %v", name, ok.Kind(), ok.Statement())
		}
		if f := ok.Fact(evidence.Location{}); f.Format != evidence.FormatCosignSignature || !maps.Equal(f.Annotations, map[string]string{"env": "prod"}) || f.Predicate != nil || len(f.Times) != c.times {
			t.Errorf("%s: fact %+v", name, f)
		}
	}
}

func TestSimpleSigningNearMisses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	keyless := forge.ClaimOptions{Logs: []string{"v1 hashedrekord"}}
	good := func(change func(a map[string]string)) forge.Layer {
		l := w.simple(goodPayload(), keyless)
		if change != nil {
			change(l.Annotations)
		}
		return l
	}
	payload := func(data string) forge.Layer { return w.simple([]byte(data), keyless) }
	text := string(goodPayload())
	other, another := good(nil), w.simple(simplePayload(evidence.SHA256([]byte("x")), simplesigning.Type, "null"), keyless)
	const sig, cert, chain, set, ts = simplesigning.AnnotationSignature, simplesigning.AnnotationCertificate,
		simplesigning.AnnotationChain, simplesigning.AnnotationBundle, simplesigning.AnnotationTimestamp
	stranger := forge.Issue(forge.CATemplate("stranger", w.Now), nil, w.CT.Public(), w.CT)
	foreign := newWorld(t)
	replace := func(key, old, new string) forge.Layer {
		return good(func(a map[string]string) {
			if !strings.Contains(a[key], old) {
				t.Fatalf("%s has no %s", key, old)
			}
			a[key] = strings.Replace(a[key], old, new, 1)
		})
	}
	for name, c := range map[string]struct {
		l    forge.Layer
		want string
	}{
		"another digest":              {another, verify.WrongSubject},
		"digest in upper case":        {payload(strings.Replace(text, "sha256:", "SHA256:", 1)), "UNREADABLE"},
		"GPG's type":                  {w.simple(simplePayload(evidence.SHA256(forge.Artifact), "atomic container signature", "null"), keyless), verify.Malformed},
		"type in another case":        {payload(strings.Replace(text, "cosign container", "Cosign container", 1)), verify.Malformed},
		"no type":                     {payload(strings.Replace(text, `,"type":"`+simplesigning.Type+`"`, "", 1)), "UNREADABLE"},
		"duplicate member":            {payload(strings.Replace(text, `"image":`, `"image":{"docker-manifest-digest":"`+string(evidence.SHA256(nil))+`"},"image":`, 1)), "UNREADABLE"},
		"duplicate annotation":        {payload(strings.Replace(text, `"n":1`, `"env":"dev"`, 1)), "UNREADABLE"},
		"member in another case":      {payload(strings.Replace(text, `"critical"`, `"Critical"`, 1)), "UNREADABLE"},
		"unknown member":              {payload(strings.Replace(text, `"optional"`, `"more":1,"optional"`, 1)), "UNREADABLE"},
		"trailing data":               {payload(text + "{}"), "UNREADABLE"},
		"optional a list":             {payload(strings.Replace(text, `{"env":"prod","n":1}`, `[]`, 1)), "UNREADABLE"},
		"payload changed afterwards":  {forge.Layer{Content: []byte(strings.Replace(text, "prod", "dev!", 1)), Annotations: good(nil).Annotations}, verify.SignatureBad},
		"no signature":                {good(func(a map[string]string) { delete(a, sig) }), "UNREADABLE"},
		"signature with a line break": {good(func(a map[string]string) { a[sig] = a[sig][:8] + "\n" + a[sig][8:] }), "UNREADABLE"},
		"another's signature":         {good(func(a map[string]string) { a[sig] = other.Annotations[sig] }), verify.SignatureBad},
		"swapped log entries":         {good(func(a map[string]string) { a[set] = other.Annotations[set] }), verify.LogMismatch},
		"entry of another payload":    {good(func(a map[string]string) { a[set] = another.Annotations[set] }), verify.LogMismatch},
		"entry by another log":        {good(func(a map[string]string) { a[set] = foreign.simple(goodPayload(), keyless).Annotations[set] }), verify.LogUntrusted},
		"no entry":                    {good(func(a map[string]string) { delete(a, set) }), verify.LogMissing},
		"only a timestamp":            {w.simple(goodPayload(), forge.ClaimOptions{Token: true}), verify.LogMissing},
		"time changed":                {replace(set, `"integratedTime":1`, `"integratedTime":2`), verify.LogProofBad},
		"index changed":               {replace(set, `"logIndex":1004`, `"logIndex":1005`), verify.LogProofBad},
		"log id in upper case": {good(func(a map[string]string) {
			id := hex.EncodeToString(forge.LogID(w.V1.Public()))
			a[set] = strings.Replace(a[set], id, strings.ToUpper(id), 1)
		}), "UNREADABLE"},
		"entry with two times":        {replace(set, `"integratedTime":`, `"integratedTime":5,"integratedTime":`), "UNREADABLE"},
		"entry with unknown member":   {replace(set, `"Payload":`, `"More":1,"Payload":`), "UNREADABLE"},
		"entry in another case":       {replace(set, `"SignedEntryTimestamp"`, `"signedEntryTimestamp"`), "UNREADABLE"},
		"entry with a tail":           {good(func(a map[string]string) { a[set] += "1" }), "UNREADABLE"},
		"negative time":               {replace(set, `"integratedTime":`, `"integratedTime":-`), "UNREADABLE"},
		"certificate removed":         {good(func(a map[string]string) { delete(a, cert) }), "UNREADABLE"},
		"certificate and chain gone":  {good(func(a map[string]string) { delete(a, cert); delete(a, chain) }), verify.KeyUnknown},
		"two certificates":            {good(func(a map[string]string) { a[cert] += a[cert] }), "UNREADABLE"},
		"text before the certificate": {good(func(a map[string]string) { a[cert] = "x\n" + a[cert] }), "UNREADABLE"},
		"another's certificate":       {good(func(a map[string]string) { a[cert] = other.Annotations[cert] }), verify.SignatureBad},
		"by a CA of the chain alone":  {foreign.simple(goodPayload(), keyless), verify.LogUntrusted},
		"a leaf in the chain":         {good(func(a map[string]string) { a[chain] = other.Annotations[cert] + a[chain] }), verify.Malformed},
		"a key in the chain":          {good(func(a map[string]string) { a[chain] += "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n" }), "UNREADABLE"},
		"signed after the leaf ended": {w.simple(goodPayload(), forge.ClaimOptions{Logs: keyless.Logs, Leaf: &forge.LeafOptions{Email: "alice@example.com", IssuerV1: "https://issuer.test", NotBefore: w.Now.Add(-time.Hour)}}), verify.CertExpired},
		"without SCT": {w.simple(goodPayload(), forge.ClaimOptions{Logs: keyless.Logs, Leaf: &forge.LeafOptions{Email: "alice@example.com", IssuerV1: "https://issuer.test",
			SCT: func([]byte) []byte { return nil }}}), verify.SCTBad},
		"timestamp of another signature": {func() forge.Layer {
			l := w.simple(goodPayload(), forge.ClaimOptions{Logs: keyless.Logs, Token: true})
			l.Annotations[ts] = w.simple(goodPayload(), forge.ClaimOptions{Token: true}).Annotations[ts]
			return l
		}(), verify.TimeUntrusted},
		"timestamp with a second member": {good(func(a map[string]string) { a[ts] = `{"SignedRFC3161Timestamp":"AAAA","x":1}` }), "UNREADABLE"},
		"bad base64 in the timestamp":    {good(func(a map[string]string) { a[ts] = `{"SignedRFC3161Timestamp":"AAA"}` }), "UNREADABLE"},
	} {
		if ok, why := w.judgeLayer(c.l, verify.Config{}); ok != nil || !strings.HasPrefix(why, c.want+" ") {
			t.Errorf("%s: verified %v, %q; want %s", name, ok != nil, why, c.want)
		}
	}
	// Roots of the claim are neither believed nor in the way; strangers are useless.
	for name, text := range map[string]string{
		"no chain": "", "root alone": certPEM(w.CA.Cert.Raw), "a stranger's root": certPEM(stranger.Raw), "both": certPEM(stranger.Raw, w.CA.Cert.Raw),
	} {
		if ok, why := w.judgeLayer(good(func(a map[string]string) { a[chain] = text }), verify.Config{}); ok == nil {
			t.Errorf("%s: %s", name, why)
		}
	}
}

// A log that records the right signature with another digest has not seen this
// payload signed; and only SHA-256 is what cosign compares.
func TestSimpleSigningLoggedByAnotherDigest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	payload := goodPayload()
	claim := w.Claim(forge.ClaimOptions{Artifact: payload, Logs: []string{"v1 hashedrekord"}})
	have := evidence.SHA256(payload).Hex()
	sum512 := sha512.Sum512(payload)
	for name, c := range map[string]struct{ old, new, want string }{
		"as it is":       {"x", "x", ""},
		"another digest": {have, evidence.SHA256(nil).Hex(), verify.LogMismatch},
		"the artifact's": {have, evidence.SHA256(forge.Artifact).Hex(), verify.LogMismatch},
		"by SHA-512":     {`"sha256","value":"` + have, `"sha512","value":"` + hex.EncodeToString(sum512[:]), verify.LogMismatch},
		"misnamed":       {`"sha256","value"`, `"sha512","value"`, verify.LogMismatch},
		"in upper case":  {have, strings.ToUpper(have), verify.LogMismatch},
	} {
		changed := *claim
		e := claim.LogEntries[0]
		e.Body = bytes.Replace(e.Body, []byte(c.old), []byte(c.new), 1)
		if c.want != "" && bytes.Equal(e.Body, claim.LogEntries[0].Body) {
			t.Fatalf("%s: nothing changed in %s", name, e.Body)
		}
		changed.LogEntries = []evidence.LogEntry{w.SignV1(e)}
		ok, why := w.judgeLayer(w.CosignLayer(&changed, payload), verify.Config{})
		if (ok != nil) != (c.want == "") || !strings.HasPrefix(why, c.want) {
			t.Errorf("%s: %q, want %q", name, why, c.want)
		}
	}
}

// An intermediate of the chain helps to reach a trusted root and is believed no
// further; without it the leaf leads nowhere.
func TestSimpleSigningWithAnIntermediate(t *testing.T) {
	t.Parallel()
	w := &world{forge.New(forge.Options{Intermediate: true}), t}
	w.Root = w.TrustRoot(func(s *trust.RootSpec) { s.CAs[0].Chain = []*x509.Certificate{w.CARoot.Cert} })
	l := w.simple(goodPayload(), forge.ClaimOptions{Logs: []string{"v1 hashedrekord"}})
	if ok, why := w.judgeLayer(l, verify.Config{}); ok == nil {
		t.Errorf("with the intermediate: %s", why)
	}
	l.Annotations[simplesigning.AnnotationChain] = certPEM(w.CARoot.Cert.Raw)
	if ok, why := w.judgeLayer(l, verify.Config{}); ok != nil || !strings.HasPrefix(why, verify.CertUntrusted) {
		t.Errorf("without it: %v %s", ok, why)
	}
}

func TestCosignAttestations(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	provenance := []byte(strings.Replace(string(forge.StatementAbout(forge.ArtifactSubject())), evidence.PredicateSign, evidence.PredicateSLSA1, 1))
	elsewhere := forge.StatementAbout(`{"digest":{"sha256":"` + evidence.SHA256(nil).Hex() + `"}}`)
	for name, logs := range map[string]string{"dsse": "v1 dsse", "intoto": "v1 intoto"} {
		ok, why := w.judgeLayer(w.simpleAttestation(provenance, forge.ClaimOptions{Logs: []string{logs}, Token: true}), verify.Config{RequireTimestamp: true})
		if ok == nil {
			t.Errorf("%s: %s", name, why)
			continue
		}
		if ok.IsSignature() || ok.Kind() != verify.KindAttestation || ok.PredicateType() != evidence.PredicateSLSA1 || ok.Format() != evidence.FormatCosignAttestation {
			t.Errorf("%s: %s %s %s", name, ok.Kind(), ok.PredicateType(), ok.Format())
		}
	}
	swapped := w.simpleAttestation(provenance, forge.ClaimOptions{Logs: []string{"v1 dsse"}})
	swapped.Annotations[simplesigning.AnnotationBundle] = w.simpleAttestation(provenance, forge.ClaimOptions{Logs: []string{"v1 dsse"}}).Annotations[simplesigning.AnnotationBundle]
	foreignTime := w.simpleAttestation(provenance, forge.ClaimOptions{Logs: []string{"v1 dsse"}})
	foreignTime.Annotations[simplesigning.AnnotationTimestamp] = w.simpleAttestation(provenance, forge.ClaimOptions{Token: true}).Annotations[simplesigning.AnnotationTimestamp]
	named := w.simpleAttestation(provenance, forge.ClaimOptions{Logs: []string{"v1 dsse"}})
	named.Annotations[simplesigning.AnnotationSignature] = "AAAA"
	twice := w.simpleAttestation(provenance, forge.ClaimOptions{Logs: []string{"v1 dsse"}})
	twice.Content = bytes.Replace(twice.Content, []byte(`"signatures":[{`), []byte(`"signatures":[{"sig":"AAAA"},{`), 1)
	doubled := w.simpleAttestation(provenance, forge.ClaimOptions{Logs: []string{"v1 dsse"}})
	doubled.Content = bytes.Replace(doubled.Content, []byte(`{"payload"`), []byte(`{"payloadType":"x","payload"`), 1)
	for name, c := range map[string]struct {
		l    forge.Layer
		want string
	}{
		"about another image":       {w.simpleAttestation(elsewhere, forge.ClaimOptions{Logs: []string{"v1 dsse"}}), verify.WrongSubject},
		"swapped log entries":       {swapped, verify.LogMismatch},
		"another's timestamp":       {foreignTime, verify.TimeUntrusted},
		"no log entry":              {w.simpleAttestation(provenance, forge.ClaimOptions{}), verify.LogMissing},
		"another signature named":   {named, "UNREADABLE"},
		"two signatures":            {twice, "UNREADABLE"},
		"two payload types":         {doubled, "UNREADABLE"},
		"logged as what was signed": {w.simpleAttestation(provenance, forge.ClaimOptions{Logs: []string{"v1 hashedrekord"}}), verify.LogMismatch},
		"payload under another tag": {forge.Layer{Content: twice.Content[:0], Annotations: named.Annotations}, "UNREADABLE"},
	} {
		if ok, why := w.judgeLayer(c.l, verify.Config{}); ok != nil || !strings.HasPrefix(why, c.want+" ") {
			t.Errorf("%s: verified %v, %q; want %s", name, ok != nil, why, c.want)
		}
	}
}

// A log entry is about an envelope as it was written, every byte, where that is
// still there. A bundle keeps its parts, so that only those can be compared.
func TestAttestationLoggedAsWritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, logs := range []string{"v1 dsse", "v1 intoto"} {
		claim := w.Claim(forge.ClaimOptions{Payload: forge.StatementAbout(forge.ArtifactSubject()), Logs: []string{logs}})
		for name, change := range map[string]func(s string) string{
			"as it is":  func(s string) string { return s },
			"a space":   func(s string) string { return s + " " },
			"no key id": func(s string) string { return strings.Replace(s, `"keyid":"",`, "", 1) },
			"a key id":  func(s string) string { return strings.Replace(s, `"keyid":""`, `"keyid":"x"`, 1) },
		} {
			l := w.CosignLayer(claim, nil)
			l.Annotations["predicateType"] = ""
			l.Content = []byte(change(string(l.Content)))
			good := name == "as it is"
			ok, why := w.judgeLayer(l, verify.Config{})
			if (ok != nil) != good || !good && !strings.HasPrefix(why, verify.LogMismatch+" the log entry is about another envelope") {
				t.Errorf("%s, %s: %q", logs, name, why)
			}
		}
		claim.Envelope.Signatures[0].KeyID = "x"
		if ok, why := w.judge(claim, verify.Config{}); ok == nil {
			t.Errorf("%s, in a bundle: %s", logs, why)
		}
	}
}

// Cosign's version 1 logged an attestation by the digest of its envelope as written.
func TestAttestationLoggedByCosign1(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	claim := w.Claim(forge.ClaimOptions{Payload: forge.StatementAbout(forge.ArtifactSubject()), Logs: []string{"v1 dsse"}})
	other := w.Claim(forge.ClaimOptions{Payload: forge.StatementAbout(forge.ArtifactSubject())})
	written := w.CosignLayer(claim, nil).Content
	logged := func(sum, certificate string) forge.Layer {
		c := *claim
		c.LogEntries = []evidence.LogEntry{w.SignV1(evidence.LogEntry{LogIndex: 7, IntegratedTime: w.Now.Unix() + 2, Kind: "intoto", Version: "0.0.1",
			Body: forge.JCS(map[string]any{"apiVersion": "0.0.1", "kind": "intoto", "spec": map[string]any{"publicKey": forge.B64([]byte(certificate)),
				"content": map[string]any{"hash": map[string]any{"algorithm": "sha256", "value": sum}}}})})}
		l := w.CosignLayer(&c, nil)
		l.Annotations["predicateType"] = ""
		return l
	}
	certificate, sum := certPEM(claim.Certificates[0]), evidence.SHA256(written).Hex()
	respaced := logged(sum, certificate)
	respaced.Content = append([]byte(" "), respaced.Content...)
	for name, c := range map[string]struct {
		l    forge.Layer
		want string
	}{
		"as it is":              {logged(sum, certificate), ""},
		"another envelope":      {logged(evidence.SHA256(nil).Hex(), certificate), verify.LogMismatch},
		"the payload's digest":  {logged(evidence.SHA256(claim.Envelope.Payload).Hex(), certificate), verify.LogMismatch},
		"another's certificate": {logged(sum, certPEM(other.Certificates[0])), verify.LogMismatch},
		"written otherwise":     {respaced, verify.LogMismatch},
	} {
		ok, why := w.judgeLayer(c.l, verify.Config{})
		if (ok != nil) != (c.want == "") || !strings.HasPrefix(why, c.want) {
			t.Errorf("%s: %q, want %q", name, why, c.want)
		}
	}
	bundled := *claim
	bundled.LogEntries = []evidence.LogEntry{w.SignV1(evidence.LogEntry{LogIndex: 7, IntegratedTime: w.Now.Unix() + 2, Kind: "intoto", Version: "0.0.1",
		Body: forge.JCS(map[string]any{"apiVersion": "0.0.1", "kind": "intoto", "spec": map[string]any{"publicKey": forge.B64([]byte(certificate)),
			"content": map[string]any{"hash": map[string]any{"algorithm": "sha256", "value": evidence.SHA256(nil).Hex()}}}})})}
	if ok, why := w.judge(&bundled, verify.Config{}); ok != nil || !strings.HasPrefix(why, verify.LogMismatch) {
		t.Errorf("in a bundle: %q", why)
	}
}
