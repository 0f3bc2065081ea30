package plugin_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/key/plugin"
)

// TestMain is a plugin, too: this test's own binary under the name sigstore-kms-FAULT
// does the protocol with that fault.
func TestMain(m *testing.M) {
	if name, ok := strings.CutPrefix(filepath.Base(os.Args[0]), plugin.Prefix); ok {
		if strings.HasPrefix(name, "stay-") {
			serveStaying(name)
		}
		faulty(name)
	}
	os.Exit(m.Run())
}

// keys of the faulty plugin: made anew by each process, from one seed.
func theKey() *ecdsa.PrivateKey   { return p256From(1) }
func otherKey() *ecdsa.PrivateKey { return p256From(2) }

func p256From(n byte) *ecdsa.PrivateKey {
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), append(make([]byte, 31), n))
	if err != nil {
		panic(err)
	}
	return k
}

func publicPEM(public crypto.PublicKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// rsaKey is small enough to be made in each process, and big enough for a signature.
func rsaKey() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		panic(err)
	}
	return k
}

func faulty(name string) {
	req, err := plugin.ParseRequest(os.Args[1:])
	if err != nil {
		panic(err)
	}
	resp := &plugin.Response{}
	signs := req.Method == plugin.MethodSign
	var sig []byte
	if signs {
		digest := req.Sign.Options.Message.Digest
		if len(digest) != 32 || *req.Sign.Options.Message.Hash != uint(crypto.SHA256) || req.Init.Hash != uint(crypto.SHA256) {
			panic("no SHA-256 digest")
		}
		k := theKey()
		if name == "anotherkey" {
			k = otherKey()
		}
		if sig, err = k.Sign(rand.Reader, digest, crypto.SHA256); err != nil {
			panic(err)
		}
		resp.Sign = &plugin.Signature{Bytes: sig}
	} else {
		resp.PublicKey = &plugin.PublicKeyPEM{PEM: publicPEM(theKey().Public())}
	}
	say := func(v any) {
		data, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		_, _ = os.Stdout.Write(data)
		os.Exit(0)
	}
	switch strings.TrimSuffix(name, "-late") {
	case "good", "anotherkey":
	case "newer": // what is not known is ignored, and so is the status
		data, _ := json.Marshal(resp)
		fmt.Printf(`{"later":[1],%s`, data[1:])
		os.Exit(7)
	case "hangs":
		time.Sleep(time.Minute)
	case "childhangs": // it ends, and a child of it holds its stdout
		c := exec.Command("sleep", "60")
		c.Stdout, c.Stderr = os.Stdout, os.Stderr
		_ = c.Start()
	case "dies":
		fmt.Fprintln(os.Stderr, "first line\nthe card\x1b[31m was \tpulled out")
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "nothing":
		fmt.Fprintln(os.Stderr, "usage: something else")
		os.Exit(3)
	case "rubbish":
		fmt.Println("hello")
		os.Exit(0)
	case "notjson":
		fmt.Println(`{"publicKey":{"publicKeyPEM":3}}`)
		os.Exit(0)
	case "twice":
		data, _ := json.Marshal(resp)
		fmt.Printf("%s%s", data, data)
		os.Exit(0)
	case "floods":
		for range 1 << 12 {
			if _, err := os.Stdout.Write(bytes.Repeat([]byte("x"), 1<<10)); err != nil {
				os.Exit(1)
			}
		}
	case "empty":
		say(&plugin.Response{})
	case "says":
		say(&plugin.Response{Error: "no\nsuch key,\x1b[2J with the secret " + os.Getenv("FAULT_SECRET") + " of it " + strings.Repeat("and so on ", 100)})
	case "final":
		if signs {
			say(&plugin.Response{Error: "wrong PIN", Hallmark: &plugin.Extension{Final: true}})
		}
	case "both": // an error counts, whatever is beside it
		resp.Error = "and yet an error"
	case "pempanic":
		say(&plugin.Response{PublicKey: &plugin.PublicKeyPEM{PEM: []byte("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")}})
	case "wrongsig":
		if signs {
			sig[len(sig)-1] ^= 1
		}
	case "shortsig":
		if signs {
			resp.Sign.Bytes = sig[:8]
		}
	case "nosig":
		if signs {
			say(&plugin.Response{Sign: &plugin.Signature{}})
		}
	}
	say(resp)
}

// program puts this test's binary on disk as a plugin with that fault.
func program(t *testing.T, fault string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), plugin.Prefix+fault)
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	return path
}

func parse(data []byte) (crypto.PublicKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("no PEM")
	}
	return x509.ParsePKIXPublicKey(block.Bytes)
}

func TestFaults(t *testing.T) {
	t.Parallel()
	digest := sha256.Sum256([]byte("message"))
	for name, row := range map[string]struct {
		open, sign string // what the error says; "" is none
		kind       fault.Kind
	}{
		"good":       {},
		"newer":      {},
		"hangs":      {open: "sigstore-kms-hangs did not answer within", kind: fault.Unreachable},
		"childhangs": {},
		"dies":       {open: "sigstore-kms-dies died: signal: killed; it said: the card [31m was pulled out", kind: fault.Unreachable},
		"nothing":    {open: "sigstore-kms-nothing (exit status 3): answered nothing; it said: usage: something else"},
		"rubbish":    {open: "sigstore-kms-rubbish: answered with something else than a JSON object"},
		"notjson":    {open: "JSON that is not of the protocol v1"},
		"twice":      {open: "more than one JSON object"},
		"floods":     {open: "answered more than 256 KiB"},
		"empty":      {open: "answered without a public key"},
		"says":       {open: "sigstore-kms-says says: no such key, [2J with the secret … of it and so on"},
		"both":       {open: "says: and yet an error"},
		"pempanic":   {open: "answered with a key that cannot be used"},
		"anotherkey": {sign: "sigstore-kms-anotherkey gave a signature that is not of the key that it names: it is thrown away"},
		"wrongsig":   {sign: "thrown away"},
		"shortsig":   {sign: "thrown away"},
		"nosig":      {sign: "answered without a signature"},
		"final":      {sign: "says: wrong PIN"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			patience := 20 * time.Second
			if name == "hangs" {
				patience = 300 * time.Millisecond
			}
			start := time.Now()
			c := plugin.NewClient(program(t, name), "key", map[string]string{"FAULT_SECRET": "hunter2-secret"}, patience)
			s, err := plugin.Open(c, parse)
			if !said(t, err, row.open) || fault.KindOf(err) != row.kind {
				t.Fatalf("open: %v (kind %v)", err, fault.KindOf(err))
			}
			if err == nil {
				var sig []byte
				sig, err = s.Sign(rand.Reader, digest[:], crypto.SHA256)
				if !said(t, err, row.sign) || (err == nil) != (len(sig) > 0) {
					t.Fatalf("sign: %x, %v", sig, err)
				}
				if err == nil && !ecdsa.VerifyASN1(s.Public().(*ecdsa.PublicKey), digest[:], sig) {
					t.Error("the signature does not verify")
				}
			}
			if took := time.Since(start); took > 15*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// said reports whether an error says this, in one line and without the secret.
func said(t *testing.T, err error, want string) bool {
	t.Helper()
	if err == nil || want == "" {
		return (err == nil) == (want == "")
	}
	text := err.Error()
	if strings.ContainsAny(text, "\n\x1b") || strings.Contains(text, "hunter2") || len(text) > 600 {
		t.Errorf("not for a terminal: %q", text)
	}
	return strings.Contains(text, want)
}

// TestFinalIsNotRepeated: a plugin that says that trying again does harm is not run again.
func TestFinalIsNotRepeated(t *testing.T) {
	t.Parallel()
	path := program(t, "final")
	s, err := plugin.Open(plugin.NewClient(path, "key", nil, plugin.DefaultTimeout), parse)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(nil)
	_, first := s.Sign(nil, digest[:], crypto.SHA256)
	if err := os.Remove(path); err != nil { // it could not even be run
		t.Fatal(err)
	}
	_, second := s.Sign(nil, digest[:], crypto.SHA256)
	if first == nil || second == nil || first.Error() != second.Error() {
		t.Errorf("%v, then %v", first, second)
	}
}

func TestWhatCannotBeSigned(t *testing.T) {
	t.Parallel()
	s, err := plugin.Open(plugin.NewClient(program(t, "good"), "key", nil, plugin.DefaultTimeout), parse)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(nil)
	for name, sign := range map[string]func() ([]byte, error){
		"a short digest": func() ([]byte, error) { return s.Sign(nil, digest[:31], crypto.SHA256) },
		"another hash":   func() ([]byte, error) { return s.Sign(nil, digest[:], crypto.SHA512) },
		"a message":      func() ([]byte, error) { return s.Sign(nil, digest[:], crypto.Hash(0)) },
		"PSS":            func() ([]byte, error) { return s.Sign(nil, digest[:], &rsa.PSSOptions{Hash: crypto.SHA256}) },
	} {
		if sig, err := sign(); err == nil {
			t.Errorf("%s was signed: %x", name, sig)
		}
	}
	ed := ed25519.NewKeyFromSeed(make([]byte, 32)).Public()
	e, err := plugin.Open(plugin.NewClient(program(t, "good"), "key", nil, plugin.DefaultTimeout), func([]byte) (crypto.PublicKey, error) { return ed, nil })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Sign(nil, make([]byte, 64), &ed25519.Options{Hash: crypto.SHA512}); err == nil || !strings.Contains(err.Error(), "Ed25519ph") {
		t.Errorf("Ed25519ph: %v", err)
	}
}

// TestPSSIsNamed: a service whose RSA keys sign with PSS only is told by name.
func TestPSSIsNamed(t *testing.T) {
	t.Parallel()
	k := rsaKey()
	digest := sha256.Sum256(nil)
	sig, err := rsa.SignPSS(rand.Reader, k, crypto.SHA256, digest[:], nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := plugin.CheckSignature(&k.PublicKey, digest[:], sig, crypto.SHA256); err == nil || !strings.Contains(err.Error(), "RSA-PSS") {
		t.Errorf("%v", err)
	}
}

func TestFind(t *testing.T) {
	absolute := filepath.Dir(program(t, "found"))
	notExecutable := t.TempDir()
	if err := os.WriteFile(filepath.Join(notExecutable, "sigstore-kms-plain"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(absolute)
	t.Setenv("PATH", ".:"+notExecutable+"::"+notExecutable)
	for _, name := range []string{"found", "plain", "awskms"} {
		path, err := plugin.Find(name)
		var missing *plugin.MissingError
		if !errors.As(err, &missing) || fault.KindOf(err) != fault.Usage || fault.HintOf(err) == "" {
			t.Fatalf("%s: %q, %v", name, path, err)
		}
		if !strings.Contains(err.Error(), notExecutable) || strings.Count(err.Error(), notExecutable) != 1 || strings.Contains(err.Error(), " .,") {
			t.Errorf("%s: %v", name, err)
		}
	}
	t.Setenv("PATH", notExecutable+":"+absolute)
	if path, err := plugin.Find("found"); err != nil || path != filepath.Join(absolute, "sigstore-kms-found") {
		t.Errorf("%q, %v", path, err)
	}
}

func TestSplitRef(t *testing.T) {
	t.Parallel()
	for ref, want := range map[string]string{
		"awskms:///alias/x": "awskms /alias/x", "my-hsm://a://b": "my-hsm a://b", "a.b+c://": "a.b+c ",
		"c://x": "", "C:\\x": "", "Aws://x": "", "-x://y": "", "../x://y": "", "a b://c": "", "file": "", "pkcs11:a": "", "://x": "", "1x://y": "",
	} {
		name, id, ok := plugin.SplitRef(ref)
		got := name + " " + id
		if !ok {
			got = ""
		}
		if got != want {
			t.Errorf("%s: %q", ref, got)
		}
	}
}

// echo is a backend that shows what it was asked to sign.
type echo struct{ whole bool }

func (e echo) Algorithms() []string                            { return []string{"a", "b"} }
func (e echo) CreateKey(string) ([]byte, error)                { return []byte("pem"), nil }
func (e echo) PublicKey() ([]byte, error)                      { return []byte("pem"), nil }
func (e echo) WholeMessages() (bool, error)                    { return e.whole, nil }
func (e echo) Sign(data []byte, _ crypto.Hash) ([]byte, error) { return data, nil }
func (e echo) Verify(data, sig []byte, _ crypto.Hash) error {
	if !bytes.Equal(data, sig) {
		return errors.New("no")
	}
	return nil
}
func (e echo) About() plugin.Extension { return plugin.Extension{Plugin: "echo"} }

func TestServe(t *testing.T) {
	t.Parallel()
	sum := sha256.Sum256([]byte("message"))
	b64 := func(b []byte) string { s, _ := json.Marshal(b); return string(s) }
	for _, row := range []struct {
		args  []string
		whole bool
		want  string // a part of the answer
	}{
		{[]string{"v1"}, false, "want two arguments"},
		{[]string{"v2", `{}`}, false, `the version \"v2\" of the protocol is not v1`},
		{[]string{"v1", `{`}, false, "no JSON"},
		{[]string{"v1", `{"methodName":"x"}`}, false, `no method \"x\"`},
		{[]string{"v1", `{"initOptions":{"protocolVersion":"v9"},"methodName":"publicKey"}`}, false, "v9"},
		{[]string{"v1", `{"methodName":"signMessage"}`}, false, "no arguments"},
		{[]string{"v1", `{"methodName":"signMessage","signMessage":{}}`}, false, "no arguments"},
		{[]string{"v1", `{"methodName":"createKey"}`}, false, "no arguments"},
		{[]string{"v1", `{"methodName":"signMessage","signMessage":{"signOptions":{}}}`}, false, "hash function 0 is none"},
		{[]string{"v1", `{"initOptions":{"hashFunc":3},"methodName":"signMessage","signMessage":{"signOptions":{}}}`}, false, "hash function 3 is none"},
		{[]string{"v1", `{"initOptions":{"hashFunc":5},"methodName":"signMessage","signMessage":{"signOptions":{"messageOptions":{"digest":"AAAA"}}}}`}, false, "a digest of 3 bytes"},
		{[]string{"v1", `{"initOptions":{"hashFunc":5},"methodName":"signMessage","signMessage":{"signOptions":{"messageOptions":{"digest":null}}},"new":1}`}, false, b64(sum[:])},
		{[]string{"v1", `{"initOptions":{"hashFunc":7},"methodName":"signMessage","signMessage":{"signOptions":{"messageOptions":{"hashFunc":5,"digest":` + b64(sum[:]) + `}}}}`}, false, b64(sum[:])},
		{[]string{"v1", `{"initOptions":{"hashFunc":7},"methodName":"signMessage","signMessage":{"signOptions":{}}}`}, true, b64([]byte("message"))},
		{[]string{"v1", `{"methodName":"signMessage","signMessage":{"signOptions":{"messageOptions":{"digest":"AAAA"}}}}`}, true, "no digests"},
		{[]string{"v1", `{"initOptions":{"hashFunc":5},"methodName":"verifySignature","verifySignature":{"signature":` + b64(sum[:]) + `,"verifyOptions":{}}}`}, false, `"verifySignature":{}`},
		{[]string{"v1", `{"initOptions":{"hashFunc":5},"methodName":"verifySignature","verifySignature":{"signature":"AAAA","verifyOptions":{}}}`}, false, `"errorMessage":"no"`},
		{[]string{"v1", `{"methodName":"defaultAlgorithm"}`}, false, `"defaultAlgorithm":"a"`},
		{[]string{"v1", `{"methodName":"supportedAlgorithms"}`}, false, `["a","b"]`},
	} {
		req, err := plugin.ParseRequest(row.args)
		var resp *plugin.Response
		if err != nil {
			resp = plugin.Failed(err)
		} else {
			resp = plugin.Serve(req, strings.NewReader("message"), echo{row.whole})
		}
		data, err := json.Marshal(resp)
		if err != nil || !strings.Contains(string(data), row.want) {
			t.Errorf("%v: %s, %v", row.args, data, err)
		}
	}
}

// FuzzParseRequest: no request makes a plugin of ours fail other than by an answer.
func FuzzParseRequest(f *testing.F) {
	f.Add(`{"initOptions":{"hashFunc":5},"methodName":"signMessage","signMessage":{"signOptions":{"messageOptions":{"digest":null}}}}`)
	f.Add(`{"methodName":"verifySignature","verifySignature":{"signature":"AA==","verifyOptions":{}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		req, err := plugin.ParseRequest([]string{"v1", text})
		if err != nil {
			return
		}
		if resp := plugin.Serve(req, io.LimitReader(strings.NewReader("m"), 1), echo{}); resp.Error != "" && resp.Sign != nil {
			t.Errorf("%q: %+v", text, resp)
		}
	})
}

// FuzzDecode: whatever a plugin answers, the client makes one sentence or an answer of it.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"publicKey":{"publicKeyPEM":"AAAA"}}`))
	f.Add([]byte(`{"errorMessage":"x"} {}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if resp, err := plugin.Decode(data); (resp == nil) == (err == nil) {
			t.Errorf("%q: %v, %v", data, resp, err)
		}
	})
}
