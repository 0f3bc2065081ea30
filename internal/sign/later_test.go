package sign_test

import (
	"context"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/sign"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

// unfinished signs an image while a service at a path answers 503, and returns the
// file in which the signature waits.
func unfinished(t *testing.T, l *lab, at sign.Target, alg, path string) (string, *sign.Signer) {
	t.Helper()
	l.falsify = func(p string, status int, body []byte) (int, []byte) {
		if p == path {
			return 503, []byte(`{"message":"down for maintenance"}`)
		}
		return status, body
	}
	s, err := sign.New(sign.Config{Services: l.services(), Key: newKey(t, alg), Later: filepath.Join(t.TempDir(), "queue")})
	if err != nil {
		t.Fatal(err)
	}
	st, err := sign.ImageStatement(at.Digest(), map[string]string{"env": "prod"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Attach(context.Background(), at, st)
	var later *sign.LaterError
	if !errors.As(err, &later) || fault.KindOf(err) != fault.Unreachable || !strings.Contains(err.Error(), "HTTP 503: down for maintenance") {
		t.Fatalf("%v", err)
	}
	l.falsify = nil
	return later.Path, s
}

// TestLater: what an outage left unfinished is finished once, however often it is
// tried, with every kind of key and whichever service was out.
func TestLater(t *testing.T) {
	t.Parallel()
	for _, alg := range []string{"", "ecdsa-p384", "ed25519", "rsa-2048"} {
		for what, path := range map[string]string{"log": "/api/v2/log/entries", "TSA": "/api/v1/timestamp"} {
			t.Run(alg+" "+what, func(t *testing.T) {
				t.Parallel()
				l := newLab(t)
				at := l.image(t, "app")
				file, _ := unfinished(t, l, at, alg, path)
				client := registry.NewClient(registry.Options{})
				var first string
				for range 2 { // the second time is that of a caller who was killed before the file was gone
					done, err := sign.Finish(context.Background(), sign.Config{Services: l.services()}, client, file)
					if err != nil {
						t.Fatal(err)
					}
					if first == "" {
						first = done.Ref
					}
					if done.Ref != first || done.LogIndex == nil || *done.LogIndex != 0 || done.Signer.Key == "" {
						t.Errorf("%+v, the first time %s", done, first)
					}
				}
				found, err := at.Repo.Referrers(context.Background(), at.Desc)
				if err != nil || len(found) != 1 {
					t.Errorf("%d referrers, %v", len(found), err)
				}
				if n := l.posts("/api/v2/log/entries"); what == "TSA" && n != 1 {
					t.Errorf("%d posts to the log, want the one", n)
				}
			})
		}
	}
}

// TestLaterKeepsWhatWasGiven: of two logs that must answer one is out; its entry is
// asked for later, the other's never again.
func TestLaterKeepsWhatWasGiven(t *testing.T) {
	t.Parallel()
	one, two := newLab(t), newLab(t)
	at := one.image(t, "app")
	both := sign.Services{Logs: trust.Choice{URLs: []string{one.url, two.url}, Need: 2}, Patience: time.Nanosecond}
	two.falsify = func(string, int, []byte) (int, []byte) { return 503, nil }
	s, err := sign.New(sign.Config{Services: both, Key: newKey(t, ""), Later: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	st, err := sign.ImageStatement(at.Digest(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var later *sign.LaterError
	if _, err = s.Attach(context.Background(), at, st); !errors.As(err, &later) {
		t.Fatal(err)
	}
	two.falsify = nil
	done, err := sign.Finish(context.Background(), sign.Config{Services: both}, registry.NewClient(registry.Options{}), later.Path)
	if err != nil || len(done.Signed.Claim.LogEntries) != 2 {
		t.Fatalf("%+v, %v", done, err)
	}
	if n := one.posts("/api/v2/log/entries"); n != 1 {
		t.Errorf("the log that had answered was asked %d times", n)
	}
}

// TestLaterRefusals: what waited and was changed is not logged, and what cannot be
// finished is said.
func TestLaterRefusals(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	at := l.image(t, "app")
	file, s := unfinished(t, l, at, "", "/api/v2/log/entries")
	who, err := s.Who(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	client := registry.NewClient(registry.Options{})
	finish := func(services sign.Services, path string) error {
		_, err := sign.Finish(context.Background(), sign.Config{Services: services}, client, path)
		return err
	}
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	changed := filepath.Join(t.TempDir(), "changed"+sign.LaterSuffix)
	before := l.posts("/api/v2/log/entries")
	for name, row := range map[string]struct{ old, new string }{
		"another algorithm": {"PKIX_ECDSA_P256_SHA_256", "PKIX_ECDSA_P384_SHA_384"},
		"an unknown member": {`"image":`, `"imagf":`},
		"nothing in it":     {string(good), ""},
		"no seal":           {"hallmark-sealed", "hallmark-sealer"},
	} {
		if err := os.WriteFile(changed, []byte(strings.Replace(string(good), row.old, row.new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		var corrupt *durable.CorruptError
		if err := finish(l.services(), changed); !errors.As(err, &corrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A seal is no proof against whoever can write it.
	data, err := durable.ReadSealed(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct{ old, new, want string }{
		"no base64":           {`"statement":"`, `"statement":"e30`, "no unfinished signature"},
		"another environment": {base64.StdEncoding.EncodeToString([]byte(`{"_type":`))[:12], base64.StdEncoding.EncodeToString([]byte(` {"_type":`))[:12], ""},
		"no statement":        {`"statement":"`, `"statemend":"`, "no unfinished signature"},
		"another signature":   {`"signature":"ME`, `"signature":"MF`, "not over the statement"},
		"another key":         {`"publicKey":"MFkw`, `"publicKey":"MFkx`, "not over the statement"},
		"two signers":         {`"publicKey":`, `"certificate":"AAAA","publicKey":`, "not one of certificate and key"},
	} {
		text := strings.Replace(string(data), row.old, row.new, 1)
		if text == string(data) {
			t.Fatalf("%s: nothing was changed", name)
		}
		if err := durable.WriteSealed(changed, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := finish(l.services(), changed); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v; want %s", name, err, row.want)
		}
	}
	if n := l.posts("/api/v2/log/entries"); n != before {
		t.Errorf("%d entries were posted of what was changed", n-before)
	}
	l.falsify = func(string, int, []byte) (int, []byte) { return 503, nil }
	if err := finish(l.services(), file); fault.KindOf(err) != fault.Unreachable || !strings.Contains(err.Error(), "/app@sha256:") {
		t.Errorf("still out: %v", err)
	}
	l.falsify = nil
	for name, services := range map[string]sign.Services{
		"none": {}, "no log": {TSAs: l.services().TSAs}, "two logs named": {Logs: trust.Choice{Need: 2}},
	} {
		if err := finish(services, file); fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "does not name who gives what is missing") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := finish(sign.Services{Logs: sign.One("http://log.example")}, file); fault.KindOf(err) != fault.Usage {
		t.Errorf("in the clear: %v", err)
	}
	for name, r := range map[string]trust.Revoked{
		"image": {Digests: []trust.RevokedDigest{{Digest: at.Digest(), Since: time.Now().Add(-time.Hour), Reason: "test"}}},
		"key":   {Keys: []trust.RevokedKey{{Key: who.Key, Since: time.Now().Add(-time.Hour), Reason: "test"}}},
	} {
		if _, err := sign.Finish(context.Background(), sign.Config{Services: l.services(), Revoked: r}, client, file); err == nil || !strings.Contains(err.Error(), "revoked") {
			t.Errorf("%s revoked since: %v", name, err)
		}
	}
	// A service that refuses is no outage: nothing waits.
	l.falsify = func(string, int, []byte) (int, []byte) { return 400, nil }
	at = l.image(t, "other")
	st, err := sign.ImageStatement(at.Digest(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Attach(context.Background(), at, st); err == nil || errors.As(err, new(*sign.LaterError)) {
		t.Errorf("refused: %v", err)
	}
}
