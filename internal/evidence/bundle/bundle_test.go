package bundle_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/bundle"
)

const vectors = "../../verify/testdata/conformance/bundle-verify"

func vector(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(vectors, name, "bundle.sigstore.json"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestVectors: every bundle of the conformance suite that is to be accepted can
// be read, and of the others only those whose very shape is wrong cannot.
func TestVectors(t *testing.T) {
	t.Parallel()
	malformed := map[string]string{
		"bundle-unknown-version_fail":         "mediaType",
		"bundle-empty-certificate-chain_fail": "x509CertificateChain.certificates: empty",
		"bundle-negative-log-index_fail":      "logIndex",
		"rekor2-no-inclusion-proof_fail":      "inclusionProof: missing",
		"bundle-with-root-cert_fail":          "checkpoint: missing",
		// What cosign wrote before there were bundles.
		"cve-2022-36056-swapped-tlog-entry_fail": "base64Signature: unknown member",
		// Padded, with line breaks that make it look as if it were not: protojson refuses it.
		"rekor2-timestamp-with-incorrect-time_fail": "signedTimestamp: not base64",
	}
	dirs, err := filepath.Glob(filepath.Join(vectors, "*", "bundle.sigstore.json"))
	if err != nil || len(dirs) < 40 {
		t.Fatal(len(dirs), err)
	}
	for _, path := range dirs {
		name := filepath.Base(filepath.Dir(path))
		_, err := bundle.Parse(vector(t, name))
		want, bad := malformed[name]
		switch {
		case bad && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q", name, err, want)
		case !bad && err != nil:
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestMarshalGivesBackWhatWasRead: a bundle v0.3 that cosign or another client
// wrote is written again with the same members in the same order.
func TestMarshalGivesBackWhatWasRead(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"rekor2-dsse-happy-path", "managed-key-and-trusted-root", "happy-path-v0.3-new-mediaType", "rekor2-timestamp-with-embedded-cert"} {
		data := vector(t, name)
		c, err := bundle.Parse(data)
		if err != nil {
			t.Fatal(name, err)
		}
		got, err := bundle.Marshal(c)
		if err != nil {
			t.Fatal(name, err)
		}
		var want, have map[string]any
		if json.Unmarshal(data, &want) != nil || json.Unmarshal(got, &have) != nil {
			t.Fatal(name, "not JSON")
		}
		if diff := cmp.Diff(want, have); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		again, err := bundle.Parse(got)
		if err != nil {
			t.Fatal(name, err)
		}
		if diff := cmp.Diff(c, again); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if twice, _ := bundle.Marshal(again); !bytes.Equal(got, twice) {
			t.Errorf("%s: written differently the second time", name)
		}
	}
}

// TestMarshalAsCosign: member order and spelling of cosign 3.
func TestMarshalAsCosign(t *testing.T) {
	t.Parallel()
	got, err := bundle.Marshal(&evidence.Claim{
		KeyHint: "aGludA==",
		Envelope: &evidence.Envelope{PayloadType: evidence.InTotoPayloadType, Payload: []byte("{}"),
			Signatures: []evidence.EnvelopeSignature{{Sig: []byte{1}}}},
		Timestamps: [][]byte{{2}},
		LogEntries: []evidence.LogEntry{{LogIndex: 7, LogID: []byte{3}, Kind: "hashedrekord", Version: "0.0.2", Body: []byte{4},
			Proof: &evidence.InclusionProof{LogIndex: 7, TreeSize: 8, RootHash: []byte{5}, Checkpoint: "a\n<>&"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"publicKey":{"hint":"aGludA=="},` +
		`"tlogEntries":[{"logIndex":"7","logId":{"keyId":"Aw=="},"kindVersion":{"kind":"hashedrekord","version":"0.0.2"},` +
		`"inclusionProof":{"logIndex":"7","rootHash":"BQ==","treeSize":"8","checkpoint":{"envelope":"a\n<>&"}},"canonicalizedBody":"BA=="}],` +
		`"timestampVerificationData":{"rfc3161Timestamps":[{"signedTimestamp":"Ag=="}]}},` +
		`"dsseEnvelope":{"payload":"e30=","payloadType":"application/vnd.in-toto+json","signatures":[{"sig":"AQ=="}]}}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
	for name, c := range map[string]*evidence.Claim{
		"chain":   {Certificates: [][]byte{{1}, {2}}, Message: &evidence.MessageSignature{}},
		"nothing": {},
		"both":    {Message: &evidence.MessageSignature{}, Envelope: &evidence.Envelope{}},
	} {
		if _, err := bundle.Marshal(c); err == nil {
			t.Errorf("%s was written", name)
		}
	}
}

// small is a bundle whose every part can be seen at once.
const small = `{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"certificate":{"rawBytes":"AQID"},` +
	`"tlogEntries":[{"logIndex":"1","logId":{"keyId":"AAAA"},"kindVersion":{"kind":"k","version":"v"},"integratedTime":"5","inclusionPromise":{"signedEntryTimestamp":"AA=="},` +
	`"inclusionProof":{"logIndex":"1","rootHash":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","treeSize":"2","hashes":["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="],"checkpoint":{"envelope":"x"}},` +
	`"canonicalizedBody":"AA=="}],"timestampVerificationData":{"rfc3161Timestamps":[{"signedTimestamp":"AA=="}]}},` +
	`"messageSignature":{"messageDigest":{"algorithm":"SHA2_256","digest":"AA=="},"signature":"AA=="}}`

func TestNearMisses(t *testing.T) {
	t.Parallel()
	if _, err := bundle.Parse([]byte(small)); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ old, new, want string }{
		"version 0.4":         {"bundle.v0.3+json", "bundle.v0.4+json", "mediaType"},
		"version 0.3.1":       {"bundle.v0.3+json", "bundle.v0.3.1+json", "mediaType"},
		"media type in case":  {"bundle.v0.3+json", "Bundle.v0.3+json", "mediaType"},
		"misspelt":            {`"logIndex":"1","logId"`, `"logIdx":"1","logId"`, "verificationMaterial.tlogEntries[0].logIdx: unknown member"},
		"other case":          {`"logId"`, `"logID"`, "logID: unknown"},
		"duplicate":           {`"logIndex":"1","logId"`, `"logIndex":"1","logIndex":"1","logId"`, "logIndex: duplicate"},
		"both spellings":      {`"logIndex":"1","logId"`, `"logIndex":"1","log_index":"1","logId"`, "logIndex: duplicate"},
		"trailing data":       {`"signature":"AA=="}}`, `"signature":"AA=="}} x`, "follows"},
		"no material":         {`"verificationMaterial"`, `"messageSignature":null,"verification_material"`, "messageSignature: duplicate"},
		"two kinds of signer": {`"certificate":{"rawBytes":"AQID"}`, `"certificate":{"rawBytes":"AQID"},"publicKey":{"hint":""}`, "exactly one"},
		"no signer":           {`"certificate":{"rawBytes":"AQID"}`, `"certificate":null`, "exactly one"},
		"chain in 0.3":        {`"certificate":{"rawBytes":"AQID"}`, `"x509CertificateChain":{"certificates":[{"rawBytes":"AQID"}]}`, "forbidden"},
		"certificate in 0.2":  {"bundle.v0.3+json", "bundle+json;version=0.2", "came with"},
		"empty certificate":   {"AQID", "", "certificate 0"},
		"negative index":      {`"logIndex":"1","logId"`, `"logIndex":"-1","logId"`, "logIndex: negative"},
		"index as fraction":   {`"logIndex":"1","logId"`, `"logIndex":1.5,"logId"`, "comma"},
		"no log id":           {`"keyId":"AAAA"`, `"keyId":""`, "logId.keyId"},
		"no kind":             {`"kind":"k"`, `"kind":""`, "kindVersion"},
		"no body":             {`"canonicalizedBody":"AA=="`, `"canonicalizedBody":""`, "canonicalizedBody"},
		"empty promise":       {`"signedEntryTimestamp":"AA=="`, `"signedEntryTimestamp":""`, "inclusionPromise"},
		"index outside":       {`"logIndex":"1","rootHash"`, `"logIndex":"2","rootHash"`, "tree of size"},
		"short root":          {`"rootHash":"AAAA`, `"rootHash":"`, "rootHash"},
		"short hash":          {`["AAAA`, `["`, "hashes[0]"},
		"no checkpoint":       {`"checkpoint":{"envelope":"x"}`, `"checkpoint":null`, "checkpoint: missing"},
		"empty timestamp":     {`"signedTimestamp":"AA=="`, `"signedTimestamp":""`, "signedTimestamp"},
		"no digest":           {`"digest":"AA=="`, `"digest":""`, "messageDigest.digest"},
		"no message digest":   {`"messageDigest":{"algorithm":"SHA2_256","digest":"AA=="}`, `"messageDigest":null`, "messageDigest.digest"},
		"breaks and padding":  {`"canonicalizedBody":"AA=="`, `"canonicalizedBody":"AA\n=="`, "not base64"},
		"breaks as padding":   {`"canonicalizedBody":"AA=="`, `"canonicalizedBody":"AA\n\n"`, "not base64"},
		"stray bits":          {`"canonicalizedBody":"AA=="`, `"canonicalizedBody":"AB=="`, "not base64"},
		"stray bits, bare":    {`"canonicalizedBody":"AA=="`, `"canonicalizedBody":"AB"`, "not base64"},
		"one digit":           {`"canonicalizedBody":"AA=="`, `"canonicalizedBody":"AAAAA"`, "not base64"},
		"much padding":        {`"canonicalizedBody":"AA=="`, `"canonicalizedBody":"AA======"`, "not base64"},
		"padding inside":      {`"canonicalizedBody":"AA=="`, `"canonicalizedBody":"AA==AA=="`, "not base64"},
		"two alphabets":       {`"canonicalizedBody":"AA=="`, `"canonicalizedBody":"+_AA"`, "not base64"},
		"a space in base64":   {`"canonicalizedBody":"AA=="`, `"canonicalizedBody":"AA =="`, "not base64"},
		"unknown hash":        {"SHA2_256", "SHA1", "algorithm"},
		"empty signature":     {`"signature":"AA=="`, `"signature":""`, "signature: missing"},
		"no content":          {`"messageSignature":{`, `"messageSignature":null,"dsseEnvelope":null}`, "exactly one must"},
		"both contents":       {`"messageSignature":{`, `"dsseEnvelope":{"payload":"AA==","payloadType":"t","signatures":[{"sig":"AA=="}]},"messageSignature":{`, "exactly one must"},
		"two signatures":      {`"messageSignature":{"messageDigest":{"algorithm":"SHA2_256","digest":"AA=="},"signature":"AA=="}`, `"dsseEnvelope":{"payload":"AA==","payloadType":"t","signatures":[{"sig":"AA=="},{"sig":"AA=="}]}`, "exactly one"},
		"no signatures":       {`"messageSignature":{"messageDigest":{"algorithm":"SHA2_256","digest":"AA=="},"signature":"AA=="}`, `"dsseEnvelope":{"payload":"AA==","payloadType":"t","signatures":[]}`, "exactly one"},
		"no payload type":     {`"messageSignature":{"messageDigest":{"algorithm":"SHA2_256","digest":"AA=="},"signature":"AA=="}`, `"dsseEnvelope":{"payload":"AA==","signatures":[{"sig":"AA=="}]}`, "payloadType"},
		"33 timestamps":       {`{"signedTimestamp":"AA=="}`, strings.Repeat(`{"signedTimestamp":"AA=="},`, 32) + `{"signedTimestamp":"AA=="}`, "more than 32"},
	} {
		in := strings.Replace(small, tc.old, tc.new, 1)
		if in == small {
			t.Errorf("%s changes nothing", name)
		}
		if name == "no content" {
			in = in[:strings.Index(in, `"dsseEnvelope":null}`)+len(`"dsseEnvelope":null}`)]
		}
		_, err := bundle.Parse([]byte(in))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
	old := strings.NewReplacer(`.v0.3+json"`, `+json;version=0.1"`, `"certificate":{"rawBytes":"AQID"}`, `"x509CertificateChain":{"certificates":[{"rawBytes":"AQID"}]}`).Replace(small)
	if _, err := bundle.Parse([]byte(old)); err != nil {
		t.Error("version 0.1:", err)
	}
	old = strings.Replace(old, `"inclusionPromise":{"signedEntryTimestamp":"AA=="}`, `"inclusionPromise":null`, 1)
	if _, err := bundle.Parse([]byte(old)); err == nil || !strings.Contains(err.Error(), "0.1 demands") {
		t.Error("version 0.1 without a promise:", err)
	}
	if _, err := bundle.Parse(make([]byte, bundle.MaxSize+1)); err == nil {
		t.Error("too big a bundle was read")
	}
}

// TestProtobufFreedoms: what the JSON mapping of protocol buffers allows a writer.
func TestProtobufFreedoms(t *testing.T) {
	t.Parallel()
	want, err := bundle.Parse([]byte(small))
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ old, new string }{
		"number":      {`"logIndex":"1","logId"`, `"logIndex":1,"logId"`},
		"snake case":  {`"verificationMaterial":{`, `"verification_material":{`},
		"null":        {`"messageSignature"`, `"dsseEnvelope":null,"messageSignature"`},
		"line breaks": {`"AQID"`, `"AQ\nID\n"`},
		"four breaks": {`"AQID"`, `"AQ\r\nID\r\n"`},
		"escaped":     {`"canonicalizedBody":"AA=="`, `"canonicalizedBody":"\u0041A\u003d="`},
		"no padding":  {`"canonicalizedBody":"AA=="`, `"canonicalizedBody":"AA"`},
		"enum number": {`"SHA2_256"`, `1`},
	} {
		got, err := bundle.Parse([]byte(strings.Replace(small, tc.old, tc.new, 1)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

const statement = `{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"n","digest":{"sha256":"00"},"annotations":{"env":"prod","n":1}}],"predicateType":"p","predicate":{"a":[1]}}`

func TestParseStatement(t *testing.T) {
	t.Parallel()
	got, err := bundle.ParseStatement([]byte(statement))
	if err != nil {
		t.Fatal(err)
	}
	want := &evidence.Statement{Type: evidence.StatementV1, PredicateType: "p", Predicate: json.RawMessage(`{"a":[1]}`),
		Subject: []evidence.StatementSubject{{Name: "n", Digest: map[string]string{"sha256": "00"}, Annotations: map[string]string{"env": "prod"}}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for name, tc := range map[string]struct{ old, new string }{
		"other type":            {"Statement/v1", "Statement/v2"},
		"other case":            {`"_type"`, `"_Type"`},
		"no subject":            {`"subject":[`, `"subject":[],"x":[`},
		"null subject":          {`"subject":[{`, `"subject":[null,{`},
		"no digest":             {`"digest":{"sha256":"00"},`, ``},
		"empty digest":          {`{"sha256":"00"}`, `{}`},
		"empty value":           {`"sha256":"00"`, `"sha256":""`},
		"digest twice":          {`"sha256":"00"`, `"sha256":"00","sha256":"01"`},
		"subjects twice":        {`"predicateType"`, `"subject":[],"predicateType"`},
		"no predicate type":     {`"predicateType":"p",`, ``},
		"empty predicate type":  {`"predicateType":"p"`, `"predicateType":""`},
		"array as predicate":    {`{"a":[1]}`, `[1]`},
		"text as predicate":     {`{"a":[1]}`, `"a"`},
		"duplicate in it":       {`{"a":[1]}`, `{"a":[1],"a":2}`},
		"duplicate, deep in it": {`[1]`, `[{"x":{"y":1,"\u0079":2}}]`},
		"unknown member":        {`"predicateType"`, `"predicatetype":"q","predicateType"`},
		"trailing":              {`{"a":[1]}}`, `{"a":[1]}}{}`},
		"unknown in subject":    {`"name":"n"`, `"nam":"n"`},
	} {
		in := strings.Replace(statement, tc.old, tc.new, 1)
		if _, err := bundle.ParseStatement([]byte(in)); err == nil || in == statement {
			t.Errorf("%s was accepted", name)
		}
	}
	if st, err := bundle.ParseStatement([]byte(strings.Replace(statement, `{"a":[1]}`, "null", 1))); err != nil || st.Predicate != nil {
		t.Error("a null predicate is none:", err)
	}
}

// FuzzParse: what is accepted can be written (but for chains) and read again as the same claim.
func FuzzParse(f *testing.F) {
	f.Add([]byte(small))
	for _, name := range []string{"happy-path-v0.1", "happy-path-v0.3", "rekor2-dsse-happy-path"} {
		f.Add(vector(f, name))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := bundle.Parse(data)
		if err != nil || len(c.Certificates) > 1 {
			return
		}
		for i := range c.LogEntries {
			if c.LogEntries[i].Proof == nil {
				return // version 0.1 only
			}
		}
		c.Format, c.MediaType = evidence.FormatBundle03, evidence.BundleMediaType
		out, err := bundle.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		again, err := bundle.Parse(out)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		twice, err := bundle.Marshal(again)
		if err != nil || !bytes.Equal(out, twice) {
			t.Fatalf("%v\n%s\n%s", err, out, twice)
		}
	})
}

func FuzzParseStatement(f *testing.F) {
	f.Add([]byte(statement))
	f.Fuzz(func(t *testing.T, data []byte) {
		st, err := bundle.ParseStatement(data)
		if err != nil {
			return
		}
		out, err := json.Marshal(st)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bundle.ParseStatement(out); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	})
}
