package tlog_test

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/tsa"
	"github.com/hallmark-dev/hallmark/internal/authority/tuf"
)

// cosignIn runs stock cosign in dir and fails when it does, or is missing.
func cosignIn(t *testing.T, dir string) func(args ...string) {
	t.Helper()
	tools := os.Getenv("HALLMARK_TOOLS")
	if tools == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		tools = filepath.Join(home, ".cache/hallmark/tools/bin")
	}
	path := filepath.Join(tools, "cosign")
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s is missing: run make tools", path)
	}
	return func(args ...string) {
		t.Helper()
		cmd := exec.Command(path, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "COSIGN_PASSWORD=", "TUF_ROOT="+filepath.Join(dir, "cosign-tuf"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("cosign %v: %v\n%s", args, err, out)
		}
	}
}

// Stock cosign, initialised from our TUF repository and without a flag for any
// service, signs into this log with a timestamp and verifies the result: the
// canonical leaf, the proof, the checkpoint's origin and key id, the token, and
// TUF before and after a key rotation are what it expects.
func TestStockCosign(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := openLog(t, filepath.Join(dir, "log"), newKey(t))
	key, chain, err := tsa.NewChain(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	stamps, err := tsa.New(tsa.Config{Key: key, Chain: chain})
	if err != nil {
		t.Fatal(err)
	}
	repo, err := tuf.Open(filepath.Join(dir, "tuf"), tuf.Config{})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/api/v2/", l.Handler())
	mux.Handle("/api/v1/timestamp", stamps)
	mux.Handle("/tuf/", http.StripPrefix("/tuf", repo))
	srv := httptest.NewServer(mux)
	defer srv.Close()

	write := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	write("blob", []byte("hello"))
	write("rekor.pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki(t, l.Public())}))
	write("tsa.pem", append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: chain[0].Raw}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: chain[1].Raw})...))
	cosign := cosignIn(t, dir)
	const since = ",start-time=2024-01-01T00:00:00Z"
	stampURL := "url=" + srv.URL + "/api/v1/timestamp"
	cosign("trusted-root", "create", "--rekor", "url="+srv.URL+",public-key=rekor.pub,origin="+origin+since,
		"--tsa", stampURL+",certificate-chain=tsa.pem", "--out", "trusted_root.json")
	cosign("signing-config", "create", "--rekor", "url="+srv.URL+",api-version=2,operator=me"+since, "--rekor-config", "ANY",
		"--tsa", stampURL+",api-version=1,operator=me"+since, "--tsa-config", "ANY", "--out", "signing_config.json")
	if err := repo.Publish(map[string][]byte{
		"trusted_root.json": read("trusted_root.json"), "signing_config.v0.2.json": read("signing_config.json"),
	}); err != nil {
		t.Fatal(err)
	}
	cosign("initialize", "--mirror", srv.URL+"/tuf", "--root", srv.URL+"/tuf/root.json", "--root-checksum", repo.RootSHA256())
	cosign("generate-key-pair")
	for i := range 2 {
		cosign("sign-blob", "--key", "cosign.key", "--bundle", "bundle.json", "--yes", "blob")
		if l.Size() != int64(i+1) {
			t.Errorf("the log has %d entries after %d signatures", l.Size(), i+1)
		}
		cosign("verify-blob", "--key", "cosign.pub", "--bundle", "bundle.json", "--use-signed-timestamps", "blob")
		if err := repo.RotateKeys(); err != nil {
			t.Fatal(err)
		}
	}
	cosign("verify-blob", "--key", "cosign.pub", "--bundle", "bundle.json", "blob")
}
