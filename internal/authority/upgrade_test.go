package authority_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/evidence/bundle"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// folderV1 unpacks the folder of version 1 and what was signed with it.
func folderV1(t *testing.T) (dir string) {
	t.Helper()
	f, err := os.Open("testdata/folder-v1.tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, 0o700)
		} else {
			var data []byte
			if data, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(path, data, h.FileInfo().Mode())
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// stillGood verifies what was signed before under the trust that is published now.
func stillGood(t *testing.T, dir string) {
	t.Helper()
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	claim, err := bundle.Parse(read("artifact.sigstore.json"))
	if err != nil {
		t.Fatal(err)
	}
	root, err := trust.ParseTrustedRoot(read("data/trusted_root.json"))
	if err != nil {
		t.Fatal(err)
	}
	artifact, err := verify.HashFile(bytes.NewReader(read("artifact.txt")))
	if err != nil {
		t.Fatal(err)
	}
	v, err := verify.New(verify.Config{Roots: []*trust.Root{root}})
	if err != nil {
		t.Fatal(err)
	}
	if ok, why := v.Claim(claim, artifact); ok == nil {
		t.Errorf("what was signed before the upgrade is not good any more: %v", why)
	}
}

func readState(t *testing.T, dir string) (version int, logV1 any) {
	t.Helper()
	data, err := durable.ReadSealed(filepath.Join(dir, "data", "authority.json"))
	if err != nil {
		t.Fatal(err)
	}
	var st struct {
		Version int
		LogV1   any `json:"log_v1"`
	}
	if err := json.Unmarshal(data, &st); err != nil {
		t.Fatal(err)
	}
	return st.Version, st.LogV1
}

// keep is every file of the old folder that an upgrade must leave as it is.
var keep = []string{"keys/ca.pem", "keys/ct.pem", "keys/log.pem", "keys/tsa.pem", "oidc/oidc.key", "log/entries", "log/checkpoint.sealed"}

func TestUpgradeOfAFolder(t *testing.T) {
	t.Parallel()
	dir := folderV1(t)
	data := filepath.Join(dir, "data")
	before := map[string][]byte{}
	for _, name := range keep {
		before[name] = readFile(t, filepath.Join(data, name))
	}
	stillGood(t, dir)
	if version, log := readState(t, dir); version != 1 || log != nil {
		t.Fatalf("version %d, %v", version, log)
	}
	a, end := up(t, authority.Config{Dir: data})
	stillGood(t, dir)
	version, log := readState(t, dir)
	if version != 3 || log == nil {
		t.Errorf("version %d, %v", version, log)
	}
	body := entryV1(t, "signed later")
	id, at := loggedV1(t, a.Info().URL, body)
	end()
	for name, want := range before {
		if !bytes.Equal(readFile(t, filepath.Join(data, name)), want) {
			t.Errorf("%s was changed", name)
		}
	}
	// The next start finds it as it is.
	key := readFile(t, filepath.Join(data, "keys", "log-v1.pem"))
	a, end = up(t, authority.Config{Dir: data})
	if again, when := loggedV1(t, a.Info().URL, body); again != id || when != at {
		t.Errorf("the entry is now %s of %d, it was %s of %d", again, when, id, at)
	}
	end()
	if _, same := readState(t, dir); !jsonEqual(log, same) || !bytes.Equal(key, readFile(t, filepath.Join(data, "keys", "log-v1.pem"))) {
		t.Errorf("log_v1 was %v and is %v", log, same)
	}
	stillGood(t, dir)
	// From now on what goes missing is a loss.
	for _, name := range []string{"keys/log-v1.pem", "log-v1/checkpoint.sealed", "log-v1/times"} {
		path := filepath.Join(data, filepath.FromSlash(name))
		saved := readFile(t, path)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		_, err := authority.Open(authority.Config{Dir: data, Listen: "127.0.0.1:0"})
		var corrupt *durable.CorruptError
		if !errors.As(err, &corrupt) || corrupt.Path != path {
			t.Errorf("without %s: %v", name, err)
		}
		if err := os.WriteFile(path, saved, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestUpgradeThatCrashed: after a crash anywhere in an upgrade the folder is still
// one of version 1 with a part of what is new, or already one of version 2 whose
// published files are old. Each opens, with one key and one tree.
func TestUpgradeThatCrashed(t *testing.T) {
	t.Parallel()
	whole := folderV1(t)
	_, end := up(t, authority.Config{Dir: filepath.Join(whole, "data")})
	end()
	news := []string{"keys/log-v1.pem", "log-v1/entries", "log-v1/times", "log-v1/checkpoint.sealed", "authority.json", "tuf/repository.sealed"}
	_, log := readState(t, whole)
	for n := range len(news) + 1 {
		dir := folderV1(t)
		data := filepath.Join(dir, "data")
		if err := os.MkdirAll(filepath.Join(data, "log-v1"), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, name := range news[:n] {
			if name == "authority.json" { // it says what is published only afterwards
				toVersion2(t, filepath.Join(data, name), log)
				continue
			}
			saved := readFile(t, filepath.Join(whole, "data", name))
			if err := os.WriteFile(filepath.Join(data, name), saved, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		a, end := up(t, authority.Config{Dir: data})
		loggedV1(t, a.Info().URL, entryV1(t, "after the crash"))
		end()
		stillGood(t, dir)
		if version, got := readState(t, dir); version != 3 || n > 0 && !jsonEqual(log, got) {
			t.Errorf("after %v: version %d, log_v1 %v, want %v", news[:n], version, got, log)
		}
	}
}

// toVersion2 gives a state of version 1 the log that it has now.
func toVersion2(t *testing.T, path string, log any) {
	t.Helper()
	data, err := durable.ReadSealed(path)
	if err != nil {
		t.Fatal(err)
	}
	added, err := json.Marshal(log)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(data), `"version": 1,`, `"version": 2, "log_v1": `+string(added)+`,`, 1)
	if err := durable.WriteSealed(path, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A folder of a version that is to come is refused, and nothing is done to it.
func TestFolderOfTheFuture(t *testing.T) {
	t.Parallel()
	dir := folderV1(t)
	path := filepath.Join(dir, "data", "authority.json")
	data, err := durable.ReadSealed(path)
	if err != nil {
		t.Fatal(err)
	}
	for version, want := range map[string]string{
		`"version": 4`: "this hallmark knows versions 1 to 3",
		`"version": 2`: "do not belong together",
		`"version": 3, "log_v1": {"tree_id": "5"}`:             "do not belong together",
		`"version": 3, "log_v1": {"tree_id": "5"}, "keys": {}`: "not those of all services",
		`"version": 2, "log_v1": {"tree_id": "5"}, "keys": {}`: "do not belong together",
		`"version": 1, "log_v1": {"tree_id": "5"}`:             "do not belong together",
		`"version": 2, "log_v1": {"tree_id": "-5"}`:            "do not belong together",
	} {
		changed := strings.Replace(string(data), `"version": 1`, version, 1)
		if err := durable.WriteSealed(path, []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := authority.Open(authority.Config{Dir: filepath.Dir(path), Listen: "127.0.0.1:0"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", version, err)
		}
	}
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func jsonEqual(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// TestTargetsForOlderClients: what cosign 2.2 reads instead of
// trusted_root.json is what the services use.
func TestTargetsForOlderClients(t *testing.T) {
	t.Parallel()
	a, _ := up(t, authority.Config{Dir: t.TempDir()})
	i := a.Info()
	status, text := request(t, "GET", i.TUF+"/1.targets.json", "")
	for n := 2; ; n++ { // the newest
		next, data := request(t, "GET", fmt.Sprintf("%s/%d.targets.json", i.TUF, n), "")
		if next != 200 {
			break
		}
		status, text = next, data
	}
	var w struct {
		Signed struct {
			Targets map[string]struct{ Hashes struct{ SHA256 string } }
		}
	}
	if err := json.Unmarshal([]byte(text), &w); err != nil || status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	target := func(name string) string {
		status, data := request(t, "GET", i.TUF+"/targets/"+w.Signed.Targets[name].Hashes.SHA256+"."+name, "")
		if status != 200 {
			t.Errorf("%s: %d", name, status)
		}
		return data
	}
	for name, path := range map[string]string{"rekor.pub": "/api/v1/log/publicKey", "fulcio_v1.crt.pem": "/api/v1/rootCert"} {
		if _, used := request(t, "GET", i.URL+path, ""); target(name) != used || used == "" {
			t.Errorf("%s is %s, %s %s", name, target(name), path, used)
		}
	}
	root, err := trust.ParseTrustedRoot(readFile(t, i.TrustedRoot))
	if err != nil || len(root.CTLogs) != 1 || len(root.TLogs) != 2 {
		t.Fatalf("%+v, %v", root, err)
	}
	der, err := x509.MarshalPKIXPublicKey(root.CTLogs[0].Key)
	if block, _ := pem.Decode([]byte(target("ctfe.pub"))); err != nil || block == nil || !bytes.Equal(block.Bytes, der) {
		t.Errorf("ctfe.pub: %s", target("ctfe.pub"))
	}
}
