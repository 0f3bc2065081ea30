package sandbox

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "sandboxed" {
		if err := Serve(os.Stdin, os.Stdout, answer); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// ofSystem is what one system's process does beside.
var ofSystem = map[string]func(string) (any, error){}

type asked struct {
	Do   string
	Text string
}

// answer is what the tests' process does.
func answer(c *Conn, request json.RawMessage) (any, error) {
	var r asked
	if err := json.Unmarshal(request, &r); err != nil {
		return nil, err
	}
	if f := ofSystem[r.Do]; f != nil {
		return f(r.Text)
	}
	switch r.Do {
	case "echo":
		return r.Text, nil
	case "ask":
		var back string
		err := c.Ask(r.Text, &back)
		return fmt.Sprint(back, err), nil
	case "environment":
		return strings.Join(os.Environ(), " "), nil
	case "connect":
		_, err := net.Dial("tcp", r.Text)
		return fmt.Sprint(err), nil
	case "run":
		return fmt.Sprint(exec.Command("/bin/true").Run()), nil
	case "signal":
		return fmt.Sprint(syscall.Kill(os.Getppid(), 0)), nil
	case "write":
		f, err := os.CreateTemp("", "")
		if err != nil {
			return err.Error(), nil
		}
		defer os.Remove(f.Name())
		_, err = f.WriteString("x")
		return fmt.Sprint(err), nil
	case "memory":
		for all := [][]byte{}; ; {
			all = append(all, bytes.Repeat([]byte{1}, 1<<20))
			runtime.KeepAlive(all)
		}
	case "deep":
		return deep(0, [128]int{}), nil
	case "forever":
		for {
			runtime.Gosched()
		}
	case "garbage":
		_, _ = c.out.Write([]byte("\x00\x00\x00\x02}{"))
	case "long":
		_ = binary.Write(c.out, binary.BigEndian, uint32(MaxAnswer+1))
	case "many parts":
		return json.RawMessage("[" + strings.Repeat("{},", maxParts/2) + "0]"), nil
	case "half":
		_, _ = c.out.Write([]byte("\x00\x00\x10\x00{"))
	case "many":
		for {
			if err := c.Ask("again", new(string)); err != nil {
				return nil, err
			}
		}
	case "long text":
		return strings.Repeat("x", MaxAnswer), nil
	case "big":
		return strings.Repeat("x", MaxMessage), nil
	}
	return nil, errors.New("no")
}

// values counts what was decoded, the members of an object by its value alone.
func values(v any) int {
	n := 1
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			n += values(e)
		}
	case map[string]any:
		for _, e := range v {
			n += values(e)
		}
	}
	return n
}

func deep(n int, pad [128]int) int {
	if n < 0 { // it never is
		return n
	}
	pad[n%128] = n
	return deep(n+1, pad) + pad[0]
}

func work(t *testing.T) *Worker {
	t.Helper()
	w := New("sandboxed")
	t.Cleanup(w.Close)
	return w
}

func nothing(json.RawMessage) (any, error) { return nil, errors.New("nobody answers") }

func do(t *testing.T, w *Worker, what, text string) (string, error) {
	t.Helper()
	var reply string
	err := w.Call(t.Context(), asked{what, text}, time.Second, nothing, &reply)
	return reply, err
}

// A process answers as often as it is asked, and may ask back.
func TestCalls(t *testing.T) {
	t.Parallel()
	w := work(t)
	for _, text := range []string{"", "one", `"<&>`, strings.Repeat("long", 1<<18)} {
		if got, err := do(t, w, "echo", text); err != nil || got != text {
			t.Fatalf("%.20q %v", got, err)
		}
	}
	pid := w.PID()
	var reply string
	err := w.Call(t.Context(), asked{"ask", "who?"}, time.Second, func(q json.RawMessage) (any, error) { return "you asked " + string(q), nil }, &reply)
	if err != nil || reply != `you asked "who?"<nil>` {
		t.Error(reply, err)
	}
	if got, err := do(t, w, "ask", "who?"); err != nil || got != "nobody answers" {
		t.Error(got, err)
	}
	if w.PID() != pid {
		t.Error("another process answered")
	}
}

// Whatever breaks the bounds is a breach with a sentence, and the next call is answered.
func TestBreaches(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ do, why string }{
		{"memory", "needs more than 256 MiB"},
		{"deep", "needs more than 256 MiB"},
		{"forever", "took longer than 1s"},
		{"garbage", "no message"},
		{"long", "at most"},
		{"many parts", "100000 things"},
		{"half", "ended with exit code 1"},
		{"many", "asks more than"},
		{"big", "ended with exit code 1"},
		{"long text", "at most 2097152"},
		{"unheard of", "ended with exit code 1"},
	} {
		if raceFactor > 0 && strings.Contains(c.why, "MiB") {
			continue // with the detector's shadow the bound is 4096 times as wide, which nothing reaches in time
		}
		t.Run(c.do, func(t *testing.T) {
			t.Parallel()
			w := work(t)
			if _, err := do(t, w, "echo", ""); err != nil {
				t.Fatal(err)
			}
			var reply string
			within := time.Minute
			if strings.Contains(c.why, "longer") {
				within = time.Second
			}
			ask := func(json.RawMessage) (any, error) { return "", nil }
			err := w.Call(t.Context(), asked{Do: c.do}, within, ask, &reply)
			var breach *Breach
			if !errors.As(err, &breach) || !strings.Contains(breach.Why, c.why) {
				t.Errorf("%v", err)
			}
			if w.PID() != 0 {
				t.Error("the process is still there")
			}
			if got, err := do(t, w, "echo", "alive"); err != nil || got != "alive" {
				t.Error(got, err)
			}
		})
	}
}

// A process that somebody kills is a breach, while it is asked and between two calls.
func TestKilled(t *testing.T) {
	t.Parallel()
	w := work(t)
	var reply string
	kill := func(json.RawMessage) (any, error) { return "", syscall.Kill(w.PID(), syscall.SIGKILL) }
	var breach *Breach
	if err := w.Call(t.Context(), asked{Do: "ask"}, time.Minute, kill, &reply); !errors.As(err, &breach) || breach.Why != "it was killed" {
		t.Error(err)
	}
	if got, err := do(t, w, "echo", "alive"); err != nil || got != "alive" {
		t.Fatal(got, err)
	}
	if err := syscall.Kill(w.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := do(t, w, "echo", "dead"); !errors.As(err, &breach) {
		t.Error(err)
	}
	if got, err := do(t, w, "echo", "alive"); err != nil || got != "alive" {
		t.Error(got, err)
	}
}

// An end of the caller's context is not the process's fault.
func TestCancelled(t *testing.T) {
	t.Parallel()
	w := work(t)
	ctx, cancel := context.WithCancel(t.Context())
	stop := func(json.RawMessage) (any, error) { cancel(); return "", nil }
	var reply string
	if err := w.Call(ctx, asked{Do: "many"}, time.Minute, stop, &reply); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if got, err := do(t, w, "echo", "alive"); err != nil || got != "alive" {
		t.Error(got, err)
	}
}

// A request that is too long is not sent, and harms nobody.
func TestLongRequest(t *testing.T) {
	t.Parallel()
	w := work(t)
	var breach *Breach
	if _, err := do(t, w, "echo", strings.Repeat("x", MaxMessage/2)); err == nil || errors.As(err, &breach) {
		t.Error(err)
	}
	if got, err := do(t, w, "echo", "alive"); err != nil || got != "alive" {
		t.Error(got, err)
	}
}

// What no string holds is counted as a value, so that there are no more than that.
func TestParts(t *testing.T) {
	t.Parallel()
	for text, n := range map[string]int{
		`1`: 0, `"a,b,[{"`: 0, `[1,2,3]`: 3, `{"a":[],"b":{}}`: 4, `["\\","\",",","\\\"","x"]`: 4,
	} {
		if got := parts([]byte(text)); got != n {
			t.Errorf("%s: %d, want %d", text, got, n)
		}
	}
	list := json.RawMessage("[" + strings.Repeat("0,", maxParts) + "0]")
	if !Fits("x") || Fits(list) || Fits(strings.Repeat("x", MaxAnswer)) {
		t.Error("what fits is not what may be answered")
	}
}

// A message is whole or refused, whatever stands there.
func FuzzMessage(f *testing.F) {
	var b bytes.Buffer
	if err := write(&b, frame{Call: []byte(`{"a":1}`)}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Add([]byte("\x00\x00\x00\x02{}{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		text, err := heard(bytes.NewReader(data))
		if err != nil {
			return
		}
		if len(text) > len(data)-4 {
			t.Fatalf("%d bytes of %d", len(text), len(data))
		}
		var v any
		if strict(text, &v) == nil && values(v) > parts(text)+1 {
			t.Fatalf("%d values, %d parts", values(v), parts(text))
		}
		var fr frame
		if strict(text, &fr) != nil {
			return
		}
		var again bytes.Buffer
		if err := write(&again, fr); err != nil {
			t.Fatal(err)
		}
	})
}
