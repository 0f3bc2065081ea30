package plugin_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/key/plugin"
)

// stays is the faulty plugin's backend when it stays: it fails from the third signature on,
// and with a wrong PIN at the first.
type stays struct {
	name  string
	count int
}

func (*stays) Algorithms() []string             { return []string{"p256"} }
func (*stays) CreateKey(string) ([]byte, error) { return nil, errors.New("no") }
func (*stays) PublicKey() ([]byte, error)       { return publicPEM(theKey().Public()), nil }
func (*stays) WholeMessages() (bool, error)     { return false, nil }
func (s *stays) About() plugin.Extension {
	return plugin.Extension{Stays: s.name != "stay-once-wrongpin"}
}
func (*stays) Verify(_, _ []byte, _ crypto.Hash) error {
	return errors.New("no")
}

func (s *stays) Sign(data []byte, _ crypto.Hash) ([]byte, error) {
	s.count++
	k := theKey()
	if strings.HasSuffix(s.name, "wrongpin") {
		note("a PIN")
		return nil, &plugin.FinalError{Err: errors.New("the PIN is wrong")}
	}
	if s.count >= 3 {
		switch s.name {
		case "stay-dies":
			fmt.Fprintln(os.Stderr, "pulled out")
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		case "stay-hangs":
			time.Sleep(time.Minute)
		case "stay-fails":
			return nil, errors.New("the token has gone")
		case "stay-final":
			return nil, &plugin.FinalError{Err: errors.New("locked")}
		case "stay-anotherkey":
			k = otherKey()
		}
	}
	return k.Sign(rand.Reader, data, crypto.SHA256)
}

// note adds a line to the file beside the plugin, for the test to count.
func note(what string) {
	f, err := os.OpenFile(os.Args[0]+".notes", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	if _, err := fmt.Fprintln(f, what); err != nil {
		panic(err)
	}
	_ = f.Close()
}

// noted counts the lines.
func noted(t *testing.T, program, what string) int {
	t.Helper()
	data, err := os.ReadFile(program + ".notes")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(data), what+"\n")
}

// talkative writes its third answer twice, at once.
type talkative struct {
	io.Writer
	count *int
}

func (w talkative) Write(p []byte) (int, error) {
	if *w.count++; *w.count == 3 {
		_, err := w.Writer.Write(append(bytes.Clone(p), p...))
		return len(p), err
	}
	return w.Writer.Write(p)
}

// serveStaying is the faulty plugin that stays.
func serveStaying(name string) {
	if os.Args[2] == plugin.Stay {
		note("a start")
		var out io.Writer = os.Stdout
		switch name {
		case "stay-refuses":
			os.Exit(1)
		case "stay-deaf": // it reads nothing
			time.Sleep(time.Minute)
		case "stay-talks":
			out = talkative{os.Stdout, new(int)}
		}
		err := plugin.ServeStaying(os.Stdin, out, func(plugin.Init) plugin.Backend { return &stays{name: name} })
		if err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	req, err := plugin.ParseRequest(os.Args[1:])
	if err != nil {
		panic(err)
	}
	_ = json.NewEncoder(os.Stdout).Encode(plugin.Serve(req, os.Stdin, &stays{name: name}))
	os.Exit(0)
}

// TestStaying: a plugin that stays signs many times, and whatever becomes of it one call
// fails at most: the next one begins anew.
func TestStaying(t *testing.T) {
	t.Parallel()
	for name, why := range map[string]string{
		"stay-good":       "",
		"stay-talks":      "", // what it said besides is no answer to the next call
		"stay-dies":       "", // it is asked anew: one that had ended before looks the same
		"stay-hangs":      "did not answer within",
		"stay-fails":      "says: the token has gone",
		"stay-final":      "says: locked",
		"stay-anotherkey": "thrown away",
		"stay-refuses":    "ended without an answer",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			patience := 20 * time.Second
			if name == "stay-hangs" {
				patience = 5 * time.Second
			}
			c := plugin.NewClient(program(t, name), "key", nil, patience)
			s, err := plugin.Open(c, parse)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 5 {
				digest := sha256.Sum256([]byte{byte(i)})
				_, err := s.Sign(nil, digest[:], crypto.SHA256)
				fails := i == 2 || name == "stay-refuses" || name == "stay-final" && i > 2
				if why == "" {
					fails = false
				}
				if fails && (err == nil || !said(t, err, why)) || !fails && err != nil {
					t.Errorf("call %d: %v", i, err)
				}
			}
		})
	}
}

// TestStayingByMany: calls at the same time share a few plugins.
func TestStayingByMany(t *testing.T) {
	t.Parallel()
	c := plugin.NewClient(program(t, "stay-good"), "key", nil, plugin.DefaultTimeout)
	s, err := plugin.Open(c, parse)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := range 20 {
				digest := sha256.Sum256([]byte{byte(g), byte(i)})
				if _, err := s.Sign(nil, digest[:], crypto.SHA256); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// TestWrongPINByMany: of calls at the same time one tries the PIN, be it with a plugin that
// stays or one that is run for each call.
func TestWrongPINByMany(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"stay-wrongpin", "stay-once-wrongpin"} {
		path := program(t, name)
		s, err := plugin.Open(plugin.NewClient(path, "key", nil, plugin.DefaultTimeout), parse)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				digest := sha256.Sum256(nil)
				if _, err := s.Sign(nil, digest[:], crypto.SHA256); !said(t, err, "says: the PIN is wrong") {
					t.Errorf("%s: %v", name, err)
				}
			})
		}
		wg.Wait()
		if n := noted(t, path, "a PIN"); n != 1 {
			t.Errorf("%s: the wrong PIN was tried %d times", name, n)
		}
	}
}

// TestDeafPlugin: one that does not read its request is one that does not answer, and is
// not started anew for the same call.
func TestDeafPlugin(t *testing.T) {
	t.Parallel()
	path := program(t, "stay-deaf")
	ed := ed25519.NewKeyFromSeed(make([]byte, 32)).Public()
	s, err := plugin.Open(plugin.NewClient(path, "key", nil, 5*time.Second), func([]byte) (crypto.PublicKey, error) { return ed, nil })
	if err != nil {
		t.Fatal(err)
	}
	message := make([]byte, 1<<20) // more than a pipe holds
	if _, err := s.Sign(rand.Reader, message, crypto.Hash(0)); !said(t, err, "sigstore-kms-stay-deaf did not answer within 5s") || fault.KindOf(err) != fault.Unreachable {
		t.Errorf("%v", err)
	}
	if n := noted(t, path, "a start"); n != 1 {
		t.Errorf("it was started %d times", n)
	}
}

func TestServeStaying(t *testing.T) {
	t.Parallel()
	ask := func(id string) string {
		return `{"initOptions":{"protocolVersion":"v1","keyResourceID":"` + id + `","hashFunc":5},"methodName":"signMessage","signMessage":{"signOptions":{}},"message":"AAAA"}` + "\n"
	}
	for name, row := range map[string]struct {
		in      string
		answers int
		err     string
	}{
		"two":             {ask("a") + ask("a"), 2, ""},
		"none":            {"", 0, ""},
		"another key":     {ask("a") + ask("b") + ask("a"), 2, "of one key"},
		"no JSON":         {"x\n" + ask("a"), 1, "no JSON"},
		"no version":      {`{"methodName":"publicKey"}` + "\n", 1, "version"},
		"a line too long": {strings.Repeat("x", 3<<20), 0, "too long"},
	} {
		var out bytes.Buffer
		err := plugin.ServeStaying(strings.NewReader(row.in), &out, func(plugin.Init) plugin.Backend { return echo{} })
		if strings.Count(out.String(), "\n") != row.answers || (err == nil) != (row.err == "") || err != nil && !strings.Contains(err.Error(), row.err) {
			t.Errorf("%s: %q, %v", name, &out, err)
		}
	}
}
