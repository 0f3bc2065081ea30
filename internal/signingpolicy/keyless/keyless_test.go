package keyless_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/hmtest"
	"github.com/hallmark-dev/hallmark/internal/hmtest/signing"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/approval"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/authority"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/keyless"
)

// TestKeyless: an approval signed with a certificate of a private authority, by us and by cosign.
func TestKeyless(t *testing.T) {
	t.Parallel()
	a := hmtest.Authority(t)
	verifier := keyless.New(signing.Verifier(t, a))
	now := time.Now().UTC().Truncate(time.Second)
	repository := approval.Repository{Key: "github.com/id/1", OwnerID: "2", URI: "https://github.com/org/app"}
	want := approval.Expected{Action: approval.ActionUpdate, Repository: repository, Proposal: "sha256:" + string(bytes.Repeat([]byte("5"), 64)), Now: now, Keyless: verifier}
	payload, err := approval.Build(approval.Statement{Action: want.Action, Decision: approval.Approve, Principal: "grace", Repository: repository, Proposal: want.Proposal, IssuedAt: now})
	if err != nil {
		t.Fatal(err)
	}
	pae := approval.PAE(payload)
	byUs := func(email string, message []byte) []byte {
		t.Helper()
		claim, text, err := signing.Signer(t, a, email).Blob(t.Context(), bytes.NewReader(message))
		if err != nil {
			t.Fatal(err)
		}
		if issuer, subject, at, err := verifier.Verify(text, message); err != nil || subject != email || at.IsZero() || issuer == "" || claim.Message == nil {
			t.Errorf("%s %s %s %v", issuer, subject, at, err)
		}
		return text
	}
	grace := byUs("grace@example.org", pae)
	issuer, _, _, err := verifier.Verify(grace, pae)
	if err != nil {
		t.Fatal(err)
	}
	document, err := json.Marshal(map[string]any{
		"principals": map[string]any{"grace": map[string]any{"keys": []any{map[string]any{"kind": "sigstore", "issuer": issuer, "subject": "grace@example.org", "protection": "keyless", "uses": []string{"update"}}}}},
		"roles":      map[string]any{"update": map[string]any{"threshold": 1, "principals": []string{"grace"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	doc, reasons := authority.Parse(document)
	if reasons != nil {
		t.Fatal(reasons)
	}
	for name, c := range map[string]struct {
		bundle []byte
		code   string
	}{
		"ours":           {grace, ""},
		"cosign's":       {byCosign(t, a, "grace@example.org", pae), ""},
		"another person": {byUs("graze@example.org", pae), "APPROVAL_KEY_NOT_OF_PRINCIPAL"},
		"the payload":    {byUs("grace@example.org", payload), "APPROVAL_BAD_SIGNATURE"},
		"rubbish":        {[]byte("{}"), "APPROVAL_BAD_SIGNATURE"},
	} {
		envelope, err := approval.Attach(pae, c.bundle)
		if err != nil {
			t.Fatal(err)
		}
		r := approval.Judge(doc, want, []approval.Found{{Data: envelope}})
		switch {
		case c.code == "" && len(r.Valid) != 1:
			t.Errorf("%s: %+v", name, r)
		case c.code != "" && (len(r.Valid) != 0 || r.Rejected[0].Code != c.code):
			t.Errorf("%s: %+v, want %s", name, r, c.code)
		}
		t.Logf("%s: an envelope of %d bytes", name, len(envelope))
	}
	// Another authority's trust.
	want.Keyless = keyless.New(signing.Verifier(t, hmtest.Authority(t)))
	envelope, err := approval.Attach(pae, grace)
	if err != nil {
		t.Fatal(err)
	}
	if r := approval.Judge(doc, want, []approval.Found{{Data: envelope}}); len(r.Valid) != 0 || r.Rejected[0].Code != "APPROVAL_BAD_SIGNATURE" {
		t.Errorf("%+v", r)
	}
}

// byCosign signs with cosign sign-blob.
func byCosign(t *testing.T, a *hmtest.Running, email string, message []byte) []byte {
	t.Helper()
	dir := t.TempDir()
	blob, out := filepath.Join(dir, "pae"), filepath.Join(dir, "bundle")
	if err := os.WriteFile(blob, message, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(hmtest.Tool(t, "cosign"), "sign-blob", "--yes", "--identity-token", a.Token(email), "--signing-config", a.SigningConfig, "--trusted-root", a.TrustedRoot, "--bundle", out, blob)
	cmd.Env = append(os.Environ(), "HOME="+dir)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
