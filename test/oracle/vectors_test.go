package oracle_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/test/oracle"
)

const vectors = "../../internal/verify/testdata/conformance"

// peerRefuses are cases that must be accepted and that sigstore-go refuses.
var peerRefuses = map[string]string{
	"intoto-canonical-log-entry":        "sigstore-go 1.3.0 writes an intoto entry anew before it hashes it, and gets another leaf than the log's",
	"dsse-with-hashedrekord-happy-path": "sigstore-go 1.3.0 wants an envelope's entry in Rekor v1 to be of kind dsse or intoto; the suite wants a hashedrekord of what was signed, too",
}

// peerAccepts are cases that must be refused and that sigstore-go accepts.
var peerAccepts = map[string]string{
	"rekor2-multiple-timestamps-one-outside-cert-validity_fail": "sigstore-go 1.3.0 is content with one timestamp inside the certificate's validity",
}

// TestVectors: on every case of the conformance suite, by path and by digest, both
// verifiers say what the case's name demands, but for the listed ones.
func TestVectors(t *testing.T) {
	dirs, err := os.ReadDir(filepath.Join(vectors, "bundle-verify"))
	if err != nil {
		t.Fatal(err)
	}
	agreed := 0
	for _, d := range dirs {
		if !d.IsDir() {
			continue
		}
		read := func(file, fallback string) []byte {
			data, err := os.ReadFile(filepath.Join(vectors, "bundle-verify", d.Name(), file))
			if errors.Is(err, fs.ErrNotExist) {
				if fallback == "" {
					return nil
				}
				data, err = os.ReadFile(filepath.Join(vectors, fallback))
			}
			if err != nil {
				t.Fatal(err)
			}
			return data
		}
		for _, byDigest := range []bool{false, true} {
			task := oracle.Task{TrustedRoot: read("trusted_root.json", "public-good-trusted-root.json"), Key: read("key.pub", ""),
				Artifact: read("artifact", "bundle-verify/a.txt"), ByDigest: byDigest,
				Identity: "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main",
				Issuer:   "https://token.actions.githubusercontent.com"}
			data := read("bundle.sigstore.json", "none")
			ours, theirs := judged(task, data)
			must := !strings.HasSuffix(d.Name(), "_fail")
			peerMust := must && peerRefuses[d.Name()] == "" || peerAccepts[d.Name()] != ""
			if (ours == nil) != must || (theirs == nil) != peerMust {
				t.Errorf("%s, by digest %v: ours %v, sigstore-go %v", d.Name(), byDigest, ours, theirs)
				continue
			}
			agreed++
		}
	}
	if agreed < 120 {
		t.Errorf("only %d verdicts were compared", agreed)
	}
}

// judged is what both say, bad trust included.
func judged(task oracle.Task, data []byte) (ours, theirs error) {
	o, ours := oracle.NewOurs(task)
	if ours == nil {
		ours = o.Verify(data)
	}
	s, theirs := oracle.NewSigstoreGo(task)
	if theirs == nil {
		theirs = s.Verify(data)
	}
	return ours, theirs
}
