package verify_test

import (
	"bytes"
	"crypto"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/bundle"
	"github.com/hallmark-dev/hallmark/internal/key"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

const (
	vectors  = "testdata/conformance"
	identity = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main"
	issuer   = "https://token.actions.githubusercontent.com"
)

// refusedFor says why each vector that must be refused is, so that none is
// refused for a wrong reason. "TRUST", "KEY" and "PARSE" are refused before any claim
// is judged.
var refusedFor = map[string]string{
	"bundle-empty-certificate-chain_fail":                       "PARSE",
	"bundle-negative-log-index_fail":                            "PARSE",
	"bundle-unknown-version_fail":                               "PARSE",
	"rekor2-no-inclusion-proof_fail":                            "PARSE",
	"trust-root-tlog-missing-validity-start_fail":               "TRUST",
	"bundle-with-root-cert_fail":                                "PARSE", // its proof has no checkpoint, which sigstore-go refuses first, too
	"cve-2022-36056-swapped-tlog-entry_fail":                    "PARSE", // cosign's own older bundle; see TestSwappedLogEntry
	"dsse-with-hashedrekord-invalid-sig_fail":                   verify.SignatureBad,
	"dsse-with-hashedrekord-mismatch-envelope_fail":             verify.LogMismatch,
	"dsse-with-hashedrekord-mismatch-sig_fail":                  verify.LogMismatch,
	"rekor2-dsse-invalid-sig_fail":                              verify.SignatureBad,
	"rekor2-dsse-mismatch-envelope_fail":                        verify.Malformed, // its entry is a dsse 0.0.2, which Rekor v2 does not have any more; see TestSwappedEnvelope
	"rekor2-multiple-timestamps-one-outside-cert-validity_fail": verify.CertExpired,
	"rekor2-timestamp-wrong-tsa-validity-borrow_fail":           "TRUST", // see TestBorrowedTimestampWindow
	"checkpoint-bad-keyhint_fail":                               verify.LogProofBad,
	"checkpoint-wrong-roothash_fail":                            verify.LogProofBad,
	"dsse-statement-missing-type_fail":                          verify.LogMismatch, // its leaf lacks keyDetails; see TestStatementTypes
	"dsse-statement-unknown-type_fail":                          verify.LogMismatch, // the same
	"dsse-invalid-sig_fail":                                     verify.SignatureBad,
	"dsse-mismatch-sig_fail":                                    verify.LogMismatch,
	"intoto-expired-certificate_fail":                           verify.CertExpired,
	"intoto-log-entry-mismatch_fail":                            verify.LogMismatch,
	"intoto-set-outside-signing-cert-validity_fail":             verify.CertExpired,
	"intoto-tsa-timestamp-outside-cert-validity_fail":           verify.CertExpired,
	"invalid-checkpoint-signature_fail":                         verify.LogProofBad,
	"invalid-ct-key_fail":                                       verify.SCTBad,
	"managed-key-no-key_fail":                                   verify.KeyUnknown,
	"managed-key-wrong-key_fail":                                "KEY",
	"rekor2-checkpoint-missing-origin_fail":                     verify.LogProofBad,
	"rekor2-checkpoint-missing-root-hash_fail":                  verify.LogProofBad,
	"rekor2-checkpoint-missing-size_fail":                       verify.LogProofBad,
	"rekor2-checkpoint-no-matching-signature_fail":              verify.LogProofBad,
	"rekor2-dsse-mismatch-sig_fail":                             verify.LogMismatch,
	"rekor2-timestamp-outside-trust-root-tsa-validity_fail":     verify.TimeUntrusted,
	"rekor2-timestamp-outside-tsa-cert-validity_fail":           verify.TimeUntrusted,
	"rekor2-timestamp-untrusted-tsa-with-embedded-cert_fail":    verify.TimeUntrusted,
	"rekor2-timestamp-untrusted-tsa-without-embedded-cert_fail": verify.TimeUntrusted,
	"rekor2-timestamp-with-incorrect-time_fail":                 "PARSE", // see TestIncorrectTime
	"set-invalid-signature_fail":                                verify.LogProofBad,
	"signature-mismatch_fail":                                   verify.SignatureBad,
	"wrong-hashedrekord-artifact_fail":                          verify.LogMismatch,
	"wrong-hashedrekord-cert-and-sig_fail":                      verify.LogMismatch,
	"wrong-material_fail":                                       verify.WrongSubject,
}

// vector is one case of the conformance suite, read but not judged.
type vector struct {
	dir      string
	artifact []byte
	bundle   []byte
	root     []byte
	key      []byte // nil: by certificate
}

func readVector(t testing.TB, name string) vector {
	t.Helper()
	v := vector{dir: filepath.Join(vectors, "bundle-verify", name)}
	read := func(file, fallback string) []byte {
		data, err := os.ReadFile(filepath.Join(v.dir, file))
		if errors.Is(err, fs.ErrNotExist) && fallback != "" {
			data, err = os.ReadFile(filepath.Join(vectors, fallback))
		}
		if errors.Is(err, fs.ErrNotExist) && fallback == "" {
			return nil
		}
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	v.bundle = read("bundle.sigstore.json", "none")
	v.artifact = read("artifact", "bundle-verify/a.txt")
	v.root = read("trusted_root.json", "public-good-trusted-root.json")
	v.key = read("key.pub", "")
	return v
}

// judge is what a client does with a case: its identity must be the wanted one.
func (v vector) judge(t testing.TB, artifact verify.Artifact) (*verify.Verified, []policy.Reason) {
	t.Helper()
	early := func(code string, err error) (*verify.Verified, []policy.Reason) {
		return nil, []policy.Reason{{Code: code, Message: err.Error()}}
	}
	root, err := trust.ParseTrustedRoot(v.root)
	if err != nil {
		return early("TRUST", err)
	}
	cfg := under(root)
	if v.key != nil {
		public, err := key.ParsePublicPEM(v.key)
		if err != nil {
			return early("KEY", err)
		}
		cfg.Keys = []crypto.PublicKey{public}
	}
	verifier, err := verify.New(cfg)
	if err != nil {
		t.Fatal(v.dir, err)
	}
	c, err := bundle.Parse(v.bundle)
	if err != nil {
		return early("PARSE", err)
	}
	ok, reasons := verifier.Claim(c, artifact)
	if (ok == nil) == (reasons == nil) {
		t.Fatalf("%s: verified %v and reasons %v", v.dir, ok, reasons)
	}
	if ok != nil && v.key == nil {
		if s := ok.Signer(); s.Identity != identity || s.Issuer != issuer {
			return early("IDENTITY", errors.New(s.String()))
		}
	}
	return ok, reasons
}

// TestIncorrectTime: protojson does not read this case's base64, and so we do not;
// without its line breaks it is refused for what it is about.
func TestIncorrectTime(t *testing.T) {
	t.Parallel()
	v := readVector(t, "rekor2-timestamp-with-incorrect-time_fail")
	const name = `"signedTimestamp"`
	at := bytes.Index(v.bundle, []byte(name)) + len(name)
	v.bundle = append(bytes.Clone(v.bundle[:at]), bytes.ReplaceAll(v.bundle[at:], []byte(`\n`), nil)...)
	if ok, reasons := v.judge(t, verify.Image(evidence.SHA256(v.artifact))); ok != nil || reasons[0].Code != verify.CertExpired {
		t.Error(reasons)
	}
}

// TestConformance: every vector of the suite gets the right verdict, by path and
// by digest, and every refusal is for its own reason.
func TestConformance(t *testing.T) {
	t.Parallel()
	dirs, err := os.ReadDir(filepath.Join(vectors, "bundle-verify"))
	if err != nil {
		t.Fatal(err)
	}
	accepted, refused, reasonsSeen := 0, 0, 0
	for _, d := range dirs {
		if !d.IsDir() {
			continue
		}
		v := readVector(t, d.Name())
		byPath, err := verify.HashFile(bytes.NewReader(v.artifact))
		if err != nil {
			t.Fatal(err)
		}
		for how, artifact := range map[string]verify.Artifact{"path": byPath, "digest": verify.Image(evidence.SHA256(v.artifact))} {
			ok, reasons := v.judge(t, artifact)
			must := !strings.HasSuffix(d.Name(), "_fail")
			switch {
			case must && ok == nil:
				t.Errorf("%s by %s was refused: %v", d.Name(), how, reasons)
			case must:
				accepted++
			case ok != nil:
				t.Errorf("%s by %s was accepted", d.Name(), how)
			default:
				refused++
				if reasons[0].Code != refusedFor[d.Name()] {
					t.Errorf("%s by %s: %v, want code %q", d.Name(), how, reasons, refusedFor[d.Name()])
				} else {
					reasonsSeen++
				}
			}
			if how == "path" && ok == nil {
				t.Logf("%s: %s", d.Name(), reasons[0].Message)
			}
		}
	}
	if accepted != 34 || refused != 86 || reasonsSeen != refused {
		t.Errorf("%d accepted, %d refused, %d of them for the right reason; want 34, 86, 86", accepted, refused, reasonsSeen)
	}
}
