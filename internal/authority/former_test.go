package authority_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/key"
)

// bareOutside makes keys without certificates: NAME.key in a folder, ECDSA P-256.
func bareOutside(t *testing.T, names ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, name := range names {
		k, err := key.Generate("ecdsa-p256")
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name+".key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	}
	return dir
}

// TestFormerKeys: a former key that is still needed can be taken elsewhere, and what to do
// about it is said truly.
func TestFormerKeys(t *testing.T) {
	t.Parallel()
	out := bareOutside(t, "v1", "v1-2", "ct", "ct-2", "ct-3", "stranger")
	file := filepath.Join(out, "keys.yaml")
	write(t, file, "log-v1: {key: v1.key}\nct: {key: ct.key}\n")
	dir, _, v1, idV1 := made(t, authority.Config{KeysFile: file, OpenKey: plain})
	rotate := func(service, name string) *authority.Rotation {
		t.Helper()
		cfg := authority.RotateConfig{Dir: dir, Service: service, OpenKey: plain}
		if name != "" {
			ref, err := authority.NewKeyRef(service, name, "", "", out)
			if err != nil {
				t.Fatal(err)
			}
			cfg.Key = &ref
		}
		r, err := authority.Rotate(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	at := func(name string) string { return filepath.Join(out, name) }
	todo := strings.Join(rotate("log-v1", "v1-2.key").Todo, "\n")
	for _, want := range []string{"keep " + at("v1.key") + " within reach for ever", "name " + at("v1-2.key") + " for log-v1 in that file"} {
		if !strings.Contains(todo, want) {
			t.Errorf("%q is not in %s", want, todo)
		}
	}
	if todo = strings.Join(rotate("ct", "").Todo, "\n"); !strings.Contains(todo, "keep "+at("ct.key")+" within reach until 20") || !strings.Contains(todo, "take ct out of that file") {
		t.Error(todo)
	}

	days := func() time.Time { return time.Now().Add(48 * time.Hour) }
	open := func(keys string) error {
		cfg := authority.Config{Dir: dir, Listen: "127.0.0.1:0", OpenKey: plain, Now: days}
		if keys != "" {
			cfg.KeysFile = file
			write(t, file, keys)
		}
		a, err := authority.Open(cfg)
		if err == nil {
			err = a.Close()
		}
		return err
	}
	// The file of before the rotation says the old key, and the hint says what to do.
	for keys, hint := range map[string]string{
		"log-v1: {key: v1.key}\n": "name " + at("v1-2.key") + " in the file of --keys, or take log-v1 out of it",
		"ct: {key: ct.key}\n":     "take ct out of the file of --keys: its key is in the data folder",
	} {
		if err := open(keys); fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "holds one that was rotated, number 1") || !strings.Contains(fault.HintOf(err), hint) {
			t.Errorf("%s: %v; %s", keys, err, fault.HintOf(err))
		}
	}
	if err := open("ct: {key: stranger.key}\n"); err == nil || !strings.Contains(fault.HintOf(err), "make the other one its successor") {
		t.Errorf("%v; %s", err, fault.HintOf(err))
	}

	// The old key of the log for older clients moves.
	if err := os.Rename(at("v1.key"), at("moved.key")); err != nil {
		t.Fatal(err)
	}
	if err := open(""); err == nil || !strings.Contains(err.Error(), at("v1.key")+", cannot be reached") {
		t.Errorf("it is missing: %v", err)
	}
	for keys, want := range map[string]string{
		"log-v1: {key: v1-2.key, former: [{key: stranger.key}]}\n": "no former key",
		"log-v1: {key: v1-2.key, former: [{key: ct.key}]}\n":       "no former key",
		"log-v1: {key: v1-2.key, former: [{key: nowhere.key}]}\n":  "cannot be reached",
	} {
		if err := open(keys); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", keys, err)
		}
	}
	write(t, at("copy.key"), string(readFile(t, at("moved.key"))))
	if err := open("log-v1: {key: v1-2.key, former: [{key: moved.key}, {key: copy.key}]}\n"); err == nil || !strings.Contains(err.Error(), "named twice") {
		t.Error(err)
	}
	if err := open("log-v1: {key: v1-2.key, former: [{key: moved.key}]}\n"); err != nil {
		t.Fatal(err)
	}
	a, end := up(t, authority.Config{Dir: dir, OpenKey: plain, Now: days}) // the folder knows it now
	if status, body := request(t, "GET", a.Info().URL+"/api/v1/log/entries/"+idV1, ""); status != 200 {
		t.Errorf("an old entry: %d %s", status, body)
	}
	loggedV1(t, a.Info().URL, v1)
	end()

	// A former key that signs nothing any more need not be there, also when it is named.
	if err := os.Remove(at("ct.key")); err != nil {
		t.Fatal(err)
	}
	if err := open(""); err != nil {
		t.Error(err)
	}
	write(t, at("ct-now.key"), newestCT(t, dir))
	if err := open("ct: {key: ct-now.key, former: [{key: ct.key}]}\n"); err != nil {
		t.Error(err)
	}
	// A folder that is new has had none.
	write(t, file, "ct: {key: ct-2.key, former: [{key: ct-3.key}]}\n")
	if _, err := authority.Open(authority.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", KeysFile: file, OpenKey: plain}); fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "has had one key") {
		t.Error(err)
	}
}

// newestCT is the folder's second CT key, as a key file.
func newestCT(t *testing.T, dir string) string {
	t.Helper()
	_, body, _ := strings.Cut(string(readFile(t, filepath.Join(dir, "keys", "ct-2.pem"))), "\n") // the seal is a line
	return body
}

// TestRestoreAsksForNoKeyInVain: the key of a tree that is over is opened when entries of a
// mirror are to be signed for, and for nothing else: a token may want its PIN for it.
func TestRestoreAsksForNoKeyInVain(t *testing.T) {
	t.Parallel()
	out, _ := outside(t)
	file := filepath.Join(out, "log.yaml")
	if err := os.WriteFile(file, []byte("log: {key: log.key, password-env: PW}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ago := func(d time.Duration) func() time.Time { return func() time.Time { return time.Now().Add(-d) } }
	dir, _, _, _ := made(t, authority.Config{KeysFile: file, OpenKey: opens, Now: ago(48 * time.Hour)})
	ref, err := authority.NewKeyRef("log", "log2.key", "", "PW", out)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := authority.Rotate(authority.RotateConfig{Dir: dir, Service: "log", Key: &ref, OpenKey: opens, Overlap: 2 * time.Hour, Now: ago(48 * time.Hour)}); err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if _, err := authority.Backup(dir, &archive); err != nil {
		t.Fatal(err)
	}
	a, end := up(t, authority.Config{Dir: dir, OpenKey: opens, Now: ago(47 * time.Hour)})
	if _, err := logged(a.Info().URL, entry(t, "after the backup")); err != nil {
		t.Fatal(err)
	}
	_, checkpoint := request(t, "GET", a.Info().URL+"/api/v2/checkpoint", "")
	copied := t.TempDir()
	mirror(t, a.Info().URL, copied, 2)
	end()
	for name, row := range map[string]struct {
		o      authority.RestoreOptions
		opened int
	}{
		"nothing since": {authority.RestoreOptions{NothingSince: true}, 0},
		"with a mirror": {authority.RestoreOptions{NothingSince: true, Checkpoints: [][]byte{[]byte(checkpoint)}, Mirror: os.DirFS(copied)}, 1},
	} {
		opened := 0
		row.o.OpenKey = func(ref authority.KeyRef) (crypto.Signer, error) {
			if strings.HasSuffix(ref.Ref, "log.key") {
				opened++
			}
			return opens(ref)
		}
		r, err := authority.Restore(bytes.NewReader(archive.Bytes()), filepath.Join(t.TempDir(), "restored"), row.o)
		if err != nil || int(r.Taken) != row.opened || opened != row.opened {
			t.Errorf("%s: %+v, the key was opened %d times, %v", name, r, opened, err)
		}
	}
	wrong := authority.RestoreOptions{NothingSince: true, Checkpoints: [][]byte{[]byte(checkpoint)}, Mirror: os.DirFS(copied), OpenKey: func(ref authority.KeyRef) (crypto.Signer, error) {
		if strings.HasSuffix(ref.Ref, "log.key") {
			return nil, errors.New("the PIN is wrong")
		}
		return opens(ref)
	}}
	if _, err := authority.Restore(bytes.NewReader(archive.Bytes()), filepath.Join(t.TempDir(), "restored"), wrong); err == nil || !strings.Contains(err.Error(), "the PIN is wrong") {
		t.Errorf("with a wrong PIN: %v", err)
	}
}
