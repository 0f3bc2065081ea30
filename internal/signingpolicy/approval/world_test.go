package approval_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/hallmark-dev/hallmark/internal/signingpolicy/approval"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/authority"
)

var now = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

const (
	commit = "56ae342c12a9bb032e762c6fc648270f8027db40"
	tagID  = "e1b1c5a1a6c2d1f0b7d84b2d3c4f5a69788c9d10"
	treeID = "9bd1d3a0b7c8e2f4a5d6c7b8091a2b3c4d5e6f70"
	other  = "0f6e5d4c3b2a19080706050403020100ffeeddcc"
)

func digest(c string) string { return "sha256:" + strings.Repeat(c, 64) }

// expected is the release that approvals are wanted for.
func expected() approval.Expected {
	return approval.Expected{
		Action:     approval.ActionBuild,
		Repository: approval.Repository{Key: "github.com/id/123456", OwnerID: "42", URI: "https://github.com/org/app"},
		Commit:     commit, Ref: "refs/tags/v1.0.0", TagObject: tagID, Tree: treeID,
		Policy: approval.Policy{Root: digest("1"), Version: 7, Digest: digest("2")}, Now: now,
	}
}

// statement is what somebody says who approves that.
func statement(principal string) approval.Statement {
	w := expected()
	return approval.Statement{
		Action: w.Action, Decision: approval.Approve, Principal: principal, Repository: w.Repository,
		Commit: w.Commit, Ref: w.Ref, TagObject: w.TagObject, Tree: w.Tree, Policy: w.Policy,
		Reviewed: approval.Reviewed{Base: other, Note: "diff read"}, IssuedAt: now.Add(-time.Hour), ExpiresAt: now.Add(24 * time.Hour),
	}
}

// world has a document with people of all kinds, and what they sign with.
type world struct {
	doc             *authority.Document
	text            []byte
	ssh             map[string]ssh.Signer
	path            map[string]string // of private keys made by ssh-keygen
	pgp             gpg
	cert            *x509.Certificate
	key             crypto.Signer // of cert
	fido, verifying *securityKey
}

// theWorld is made once: ssh-keygen, gpg and openssl take their time.
var theWorld = sync.OnceValues(makeWorld)

func newWorld(t testing.TB) *world {
	t.Helper()
	w, err := theWorld()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// worldDir is the world's folder, when there is one.
var worldDir string

func TestMain(m *testing.M) {
	code := m.Run()
	if worldDir != "" {
		_ = exec.Command("gpgconf", "--homedir", worldDir, "--kill", "gpg-agent").Run()
		_ = os.RemoveAll(worldDir)
	}
	os.Exit(code)
}

type (
	object = map[string]any
	list   = []any
)

func makeWorld() (*world, error) {
	dir, err := os.MkdirTemp("", "hm") // short: the socket of gpg's agent lies there
	if err != nil {
		return nil, err
	}
	worldDir = dir
	w := &world{ssh: map[string]ssh.Signer{}, path: map[string]string{}, pgp: gpg{home: dir}}
	people := object{}
	for name, kind := range map[string][]string{
		"alice": {"ed25519"}, "bob": {"ecdsa", "-b", "256"}, "carol": {"rsa", "-b", "3072"}, "cold": {"ed25519"}, "tagger": {"ed25519"},
		"machine": {"ecdsa", "-b", "256"}, "stranger": {"ed25519"}, "weak": {"rsa", "-b", "2048"}, "alice-2": {"ed25519"}, "old": {"ed25519"},
	} {
		path := filepath.Join(dir, name)
		if err := run("ssh-keygen", append([]string{"-q", "-N", "", "-C", "", "-f", path, "-t"}, kind...)...); err != nil {
			return nil, err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		w.path[name] = path
		if w.ssh[name], err = ssh.ParsePrivateKey(data); err != nil {
			return nil, err
		}
	}
	entry := func(name, protection string, uses ...string) object {
		return object{"kind": "ssh", "publicKey": public(w.ssh[name].PublicKey()), "protection": protection, "uses": uses}
	}
	w.fido, w.verifying = newSecurityKey("ssh:"), newSecurityKey("ssh:")
	touch := object{"kind": "ssh", "publicKey": public(w.fido.PublicKey()), "protection": "software", "uses": list{"approve", "update"}}
	verify := object{"kind": "ssh", "publicKey": public(w.verifying.PublicKey()), "protection": "fido", "requireUV": true, "uses": list{"approve"}}
	old := entry("old", "software", "approve")
	old["notAfter"] = now.Format(time.RFC3339)
	if w.cert, w.key, err = openssl(dir); err != nil {
		return nil, err
	}
	pemCert := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.cert.Raw}))
	armored, err := w.pgp.make()
	if err != nil {
		return nil, err
	}
	people["alice"] = object{"keys": list{entry("alice", "software", "approve", "update"), entry("alice-2", "hsm", "approve")}}
	people["bob"] = object{"keys": list{entry("bob", "hsm", "approve", "update"), entry("tagger", "hsm", "tag")}}
	people["carol"] = object{"keys": list{entry("carol", "software", "approve", "update"), entry("old", "software", "approve")}}
	people["carol"].(object)["keys"].(list)[1] = old
	people["dave"] = object{"keys": list{touch, verify}}
	people["erin"] = object{"keys": list{object{"kind": "openpgp", "publicKey": armored, "protection": "hsm", "uses": list{"approve", "update"}}}}
	people["frank"] = object{"keys": list{object{"kind": "x509", "publicKey": pemCert, "protection": "hsm", "uses": list{"approve", "update"}}}}
	people["grace"] = object{"keys": list{object{"kind": "sigstore", "issuer": "https://issuer.example", "subject": "grace@example.org", "protection": "keyless", "uses": list{"approve"}}}}
	people["cold"] = object{"keys": list{entry("cold", "hsm", "recover")}}
	people["machine"] = object{"machine": true, "keys": list{entry("machine", "hsm", "tag")}}
	w.text, err = json.Marshal(object{"principals": people, "roles": object{
		"update": object{"threshold": 2, "principals": list{"alice", "bob", "carol"}}, "recover": object{"threshold": 1, "principals": list{"cold"}},
		"release": object{"principals": list{"machine"}},
	}})
	if err != nil {
		return nil, err
	}
	doc, why := authority.Parse(w.text)
	if why != nil {
		return nil, fmt.Errorf("%v", why)
	}
	w.doc = doc
	return w, nil
}

func public(k ssh.PublicKey) string { return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k))) }

func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %v: %w\n%s", name, args, err, out)
	}
	return nil
}

func openssl(dir string) (*x509.Certificate, crypto.Signer, error) {
	key, cert := filepath.Join(dir, "key.pem"), filepath.Join(dir, "cert.pem")
	if err := run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-subj", "/CN=Frank", "-days", "30", "-out", cert); err != nil {
		return nil, nil, err
	}
	var blocks [2][]byte
	for i, path := range []string{cert, key} {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, nil, err
		}
		b, _ := pem.Decode(data)
		blocks[i] = b.Bytes
	}
	c, err := x509.ParseCertificate(blocks[0])
	if err != nil {
		return nil, nil, err
	}
	k, err := x509.ParsePKCS8PrivateKey(blocks[1])
	if err != nil {
		return nil, nil, err
	}
	return c, k.(crypto.Signer), nil
}

// gpg is a home of GnuPG with one certificate.
type gpg struct{ home string }

func (g gpg) run(stdin []byte, args ...string) ([]byte, error) {
	cmd := exec.Command("gpg", append([]string{"--homedir", g.home, "--batch", "--yes", "--passphrase", "", "--pinentry-mode", "loopback",
		"--faked-system-time", now.Add(-time.Hour).Format("20060102T150405")}, args...)...)
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("gpg %v: %w\n%s", args, err, &stderr)
	}
	return out, nil
}

// make makes a certificate whose signing key is a subkey, long before anything is signed: the
// faked clock goes on while gpg works.
func (g gpg) make() (string, error) {
	at := func(ago time.Duration) string { return now.Add(-ago).Format("20060102T150405") }
	if _, err := g.run(nil, "--faked-system-time", at(48*time.Hour), "--quick-generate-key", "Erin <erin@example.org>", "ed25519", "cert"); err != nil {
		return "", err
	}
	out, err := g.run(nil, "--list-keys", "--with-colons")
	if err != nil {
		return "", err
	}
	_, rest, _ := strings.Cut(string(out), "\nfpr:::::::::")
	fpr, _, _ := strings.Cut(rest, ":")
	if _, err := g.run(nil, "--faked-system-time", at(24*time.Hour), "--quick-add-key", fpr, "ed25519", "sign"); err != nil {
		return "", err
	}
	out, err = g.run(nil, "--armor", "--export", fpr)
	return string(out), err
}

func (g gpg) sign(t testing.TB, message []byte, options ...string) []byte {
	t.Helper()
	out, err := g.run(message, append(options, "--detach-sign", "--output", "-")...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// securityKey signs as a FIDO key does, in software: what nobody touches and what names another
// application no device would make.
type securityKey struct {
	application string
	flags       byte
	private     ed25519.PrivateKey
}

func newSecurityKey(application string) *securityKey {
	_, private, _ := ed25519.GenerateKey(rand.Reader)
	return &securityKey{application, 1, private}
}

func (k *securityKey) PublicKey() ssh.PublicKey {
	key, err := ssh.ParsePublicKey(ssh.Marshal(struct {
		Type string
		Key  []byte
		App  string
	}{ssh.KeyAlgoSKED25519, k.private.Public().(ed25519.PublicKey), k.application}))
	if err != nil {
		panic(err)
	}
	return key
}

func (k *securityKey) Sign(_ io.Reader, data []byte) (*ssh.Signature, error) {
	app, sum, rest := sha256.Sum256([]byte(k.application)), sha256.Sum256(data), []byte{k.flags, 0, 0, 0, 7}
	blob := ed25519.Sign(k.private, bytes.Join([][]byte{app[:], rest, sum[:]}, nil))
	return &ssh.Signature{Format: ssh.KeyAlgoSKED25519, Blob: blob, Rest: rest}, nil
}

func (k securityKey) with(flags byte) *securityKey { k.flags = flags; return &k }

// payload builds a statement.
func payload(t testing.TB, s approval.Statement) []byte {
	t.Helper()
	p, err := approval.Build(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// sign is an envelope by an SSH key.
func (w *world) sign(t testing.TB, key string, s approval.Statement) []byte {
	t.Helper()
	e, err := approval.SignSSH(payload(t, s), w.ssh[key])
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// seal makes an envelope of any payload and signature, as an attacker can.
func seal(t testing.TB, payload, signature []byte) []byte {
	t.Helper()
	data, err := json.Marshal(object{"payload": payload, "payloadType": approval.PayloadType, "signatures": list{object{"keyid": "x", "sig": signature}}})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// sshsig makes a signature without our own checks of it.
func sshsig(t testing.TB, message []byte, namespace string, k ssh.Signer, algorithm string) []byte {
	t.Helper()
	sum := sha512.Sum512(message)
	signed := append([]byte("SSHSIG"), ssh.Marshal(struct {
		Namespace, Reserved, Hash string
		Sum                       []byte
	}{namespace, "", "sha512", sum[:]})...)
	var sig *ssh.Signature
	var err error
	if a, ok := k.(ssh.AlgorithmSigner); ok && algorithm != "" {
		sig, err = a.SignWithAlgorithm(rand.Reader, signed, algorithm)
	} else {
		sig, err = k.Sign(rand.Reader, signed)
	}
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte("SSHSIG"), ssh.Marshal(struct {
		Version                   uint32
		Key                       []byte
		Namespace, Reserved, Hash string
		Sig                       []byte
	}{1, k.PublicKey().Marshal(), namespace, "", "sha512", ssh.Marshal(sig)})...)
}

func judge(w *world, want approval.Expected, envelopes ...[]byte) *approval.Result {
	var found []approval.Found
	for i, e := range envelopes {
		found = append(found, approval.Found{Where: fmt.Sprint("file ", i), Data: e})
	}
	return approval.Judge(w.doc, want, found)
}

func change(s approval.Statement, f func(*approval.Statement)) approval.Statement {
	f(&s)
	return s
}

func encode(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func marshal(v any) ([]byte, error) { return json.Marshal(v) }

// smallWorld has alice, with a key that is not made by ssh-keygen: fuzzing starts at once.
func smallWorld(t testing.TB) *world {
	t.Helper()
	_, private, _ := ed25519.GenerateKey(rand.Reader)
	signer, err := ssh.NewSignerFromSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(object{
		"principals": object{"alice": object{"keys": list{object{"kind": "ssh", "publicKey": public(signer.PublicKey()), "protection": "software", "uses": list{"approve", "update"}}}}},
		"roles":      object{"update": object{"threshold": 1, "principals": list{"alice"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	doc, why := authority.Parse(text)
	if why != nil {
		t.Fatal(why)
	}
	return &world{doc: doc, text: text, ssh: map[string]ssh.Signer{"alice": signer}}
}
