package sourcepolicy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/policy/sandbox"
	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
)

// sandboxedTests has the policies of all tests evaluated by a process of their own.
const sandboxedTests = "HALLMARK_TEST_SANDBOXED"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "policy-process" {
		if err := sourcepolicy.ServeSandbox(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) == 2 && os.Args[1] == "hiding" {
		if err := sandbox.Serve(os.Stdin, os.Stdout, hide()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// hide is a process that reads first.txt when it compiles a policy and says nothing of it,
// forgets the policy, and reads second.txt when it compiles it again.
func hide() func(*sandbox.Conn, json.RawMessage) (any, error) {
	compiled := 0
	return func(c *sandbox.Conn, request json.RawMessage) (any, error) {
		var order struct{ Compile json.RawMessage }
		if err := json.Unmarshal(request, &order); err != nil {
			return nil, err
		}
		type answer map[string]any
		if order.Compile == nil {
			if compiled == 1 {
				return answer{"unheard": true}, nil
			}
			return answer{"value": answer{"allow": true}}, nil
		}
		compiled++
		name := []string{"", "first.txt", "second.txt"}[compiled]
		return answer{}, c.Ask(answer{"name": name, "read": true}, new(any))
	}
}

// TestSandboxedImports: whatever a process reads when it compiles a policy is a file of the
// policy, whether it says so or not, and it is the same when it compiles it again.
func TestSandboxedImports(t *testing.T) {
	t.Parallel()
	w := sandbox.New("hiding")
	t.Cleanup(w.Close)
	s := sandboxed(t, w, "package docker", "first.txt", "1", "second.txt", "2")
	if p := s.Policies()[0]; string(p.Files()["first.txt"]) != "1" || len(p.Files()) != 2 {
		t.Errorf("%v", p.Files())
	}
	if d := evaluate(t, s, "alpine:3", nil); d.Allowed {
		t.Errorf("a policy with another file: %+v", d.Decision)
	}
}

var workers = sync.OnceValue(func() *sandbox.Worker { return sandbox.New("policy-process") })

// worker is one process for all tests: it ends with them.
func worker(testing.TB) *sandbox.Worker { return workers() }

// TestAllInASandbox: a policy decides in a process of its own as it does here.
func TestAllInASandbox(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.skip=^Test(AllInASandbox|HostilePolicies|ProcessIsKilled|Sandboxed|Tests|Schema|Lint|Examples)", "-test.v")
	cmd.Env = append(os.Environ(), sandboxedTests+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%.20000s", err, out)
	}
	if n := strings.Count(string(out), "--- PASS: "); n < 100 {
		t.Errorf("only %d tests ran", n)
	}
}

func sandboxed(t *testing.T, w *sandbox.Worker, text string, files ...string) *sourcepolicy.Set {
	t.Helper()
	folder := fstest.MapFS{}
	for i := 0; i < len(files); i += 2 {
		folder[files[i]] = &fstest.MapFile{Data: []byte(files[i+1])}
	}
	o := sourcepolicy.Options{FS: folder}
	if strings.Contains(text, "long := ") { // memory alone is to end it, however slow the machine is
		o.Timeout = time.Minute
	}
	p, err := sourcepolicy.CompileSandboxed(t.Context(), w, []sourcepolicy.File{{Name: "Dockerfile.rego", Data: []byte(text)}}, o)
	if err != nil {
		t.Fatal(err)
	}
	return sourcepolicy.NewSet(p)
}

// TestHostilePolicies: whatever a policy does to its process denies with POLICY_EVAL, and the
// next decision, of the same policy and of another one of the process, is right again.
func TestHostilePolicies(t *testing.T) {
	t.Parallel()
	list := "l := [" + strings.Repeat("1,", 999) + "1]\n"
	for name, c := range map[string]struct{ rule, say string }{
		"memory": {list + "bad if count([sprintf(\"%d %s\", [i, long]) | some i, _ in l; some _ in l]) > 0\nlong := \"" + strings.Repeat("x", 4000) + "\"", "memory"},
		"time":   {list + "bad if { some a in l; some b in l; some c in l; some d in l; a + b + c + d == 5 }", "longer than"},
		"size":   {"bad := [x | some i in numbers.range(1, 2000); x := sprintf(\"%d %s\", [i, \"" + strings.Repeat("x", 1000) + "\"])]", "bytes"},
		"values": {"bad := array.concat(numbers.range(1, 60000), numbers.range(1, 60000))", "than its process may say"},
		"errors": {`bad := to_number("x")`, "to_number"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := sandbox.New("policy-process")
			t.Cleanup(w.Close)
			other := sandboxed(t, w, "package docker\ndecision := {\"allow\": input.image.repo == \"alpine\"}")
			hostile := sandboxed(t, w, "package docker\ndefault bad := false\ndecision := {\"allow\": true, \"x\": bad} if input.image.repo == \"evil\"\ndecision := {\"allow\": true} if input.image.repo != \"evil\"\n"+c.rule)
			for range 2 {
				if d := evaluate(t, hostile, "evil:1", nil); d.Allowed || d.Reasons[0].Code != "POLICY_EVAL" || !strings.Contains(d.Reasons[0].Message, c.say) {
					t.Errorf("%+v", d.Decision)
				}
				if d := evaluate(t, hostile, "alpine:3", nil); !d.Allowed {
					t.Errorf("the same policy: %+v", d.Decision)
				}
				if d := evaluate(t, other, "alpine:3", nil); !d.Allowed {
					t.Errorf("another policy: %+v", d.Decision)
				}
			}
		})
	}
}

// TestProcessIsKilled: a process that dies between two decisions, or in the middle of one,
// denies that one, and the next has a new process.
func TestProcessIsKilled(t *testing.T) {
	t.Parallel()
	w := sandbox.New("policy-process")
	t.Cleanup(w.Close)
	s := sandboxed(t, w, "package docker\ndecision := {\"allow\": input.image.labels.team == \"a\"}")
	facts := map[string]sourcepolicy.Facts{"docker-image://docker.io/library/alpine:3": image()}
	killing := killer{&world{t: t, facts: facts}, func() { _ = syscall.Kill(w.PID(), syscall.SIGKILL) }}
	if d := evaluate(t, s, "alpine:3", killing); d.Allowed || d.Reasons[0].Code != "POLICY_EVAL" || !strings.Contains(d.Reasons[0].Message, "process was stopped") {
		t.Errorf("%+v", d.Decision)
	}
	if d := evaluate(t, s, "alpine:3", &world{t: t, facts: facts}); !d.Allowed || d.Passes != 2 {
		t.Errorf("%+v", d)
	}
}

// killer ends the process while a fact is fetched.
type killer struct {
	*world
	kill func()
}

func (k killer) Resolve(ctx context.Context, src sourcepolicy.Source, asks []sourcepolicy.Ask) (sourcepolicy.Facts, error) {
	k.kill()
	return k.world.Resolve(ctx, src, asks)
}

// TestSandboxedPolicy: what is recorded of a policy is the same in its process as here, and
// a policy that does not compile has the same reasons.
func TestSandboxedPolicy(t *testing.T) {
	t.Parallel()
	const text = "package docker\nimport data.lib.names\ndecision := {\"allow\": input.image.repo in names.ok, \"at\": time.now_ns()}\n"
	files := []string{"lib/names.rego", "package lib.names\nok := {\"alpine\"}", "unread.rego", "package x"}
	w := sandbox.New("policy-process")
	t.Cleanup(w.Close)
	here, there := compile(t, text, files...).Policies()[0], sandboxed(t, w, text, files...).Policies()[0]
	if here.Digest() != there.Digest() || here.Cacheable() || there.Cacheable() || fmt.Sprint(here.Fields()) != fmt.Sprint(there.Fields()) || len(there.Files()) != 2 {
		t.Errorf("%s %s %v %v", here.Digest(), there.Digest(), here.Fields(), there.Fields())
	}
	wrong := []sourcepolicy.File{{Name: "Dockerfile.rego", Data: []byte("package docker\ndecision := {\"allow\": input.image.rebo == \"a\"}")}}
	_, mine := sourcepolicy.Compile(wrong, sourcepolicy.Options{})
	_, its := sourcepolicy.CompileSandboxed(t.Context(), w, wrong, sourcepolicy.Options{})
	if mine == nil || its == nil || mine.Error() != its.Error() {
		t.Errorf("%v\n%v", mine, its)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := sourcepolicy.NewSet(there).Evaluate(ctx, sourcepolicy.Request{Source: source(t, "alpine:3"), Now: time.Now()}); err == nil {
		t.Error("no error for a context that ended")
	}
}

// TestSandboxedAsks: a pass asks for so much at once and no more, in a process of its own or here.
func TestSandboxedAsks(t *testing.T) {
	t.Parallel()
	w := sandbox.New("policy-process")
	t.Cleanup(w.Close)
	src := sourcepolicy.Request{Source: sourcepolicy.Source{Identifier: "https://example.com/x"},
		Known: sourcepolicy.Facts{Checksum: evidence.SHA256([]byte("x"))}}
	for n, asks := range map[int]int{4000: 4000, 4001: 0} {
		text := fmt.Sprintf("package docker\ndecision := {\"allow\": true} if {\n\tsome i in numbers.range(1, %d)\n\tgithub_attestation(input.http, sprintf(\"a/%%d\", [i])).x\n}\n", n)
		for name, set := range map[string]*sourcepolicy.Set{"here": compile(t, text), "there": sandboxed(t, w, text)} {
			d, wants, err := set.Begin(src).Step(t.Context())
			got := 0
			for _, w := range wants {
				got += len(w.Asks)
			}
			if err != nil || got != asks || asks == 0 && (d.Reasons[0].Code != "POLICY_EVAL" || !strings.Contains(d.Reasons[0].Message, "more than 4000")) {
				t.Errorf("%s, %d: %d asks, %+v, %v", name, n, got, d.Reasons, err)
			}
		}
	}
}

// TestSandboxedZones: a confined process opens no file. The time zones are part of the program.
func TestSandboxedZones(t *testing.T) {
	t.Parallel()
	w := sandbox.New("policy-process")
	t.Cleanup(w.Close)
	for zone, hour := range map[string]int{"UTC": 22, "America/New_York": 17, "Asia/Tokyo": 7} {
		text := fmt.Sprintf("package docker\ndecision := {\"allow\": time.clock([1700000000000000000, %q])[0] == %d}", zone, hour)
		if d := evaluate(t, sandboxed(t, w, text), "alpine:3", nil); !d.Allowed {
			t.Errorf("%s: %+v", zone, d.Decision)
		}
	}
}

// BenchmarkSandboxed is a decision with the way to the process and back.
func BenchmarkSandboxed(b *testing.B) {
	w := sandbox.New("policy-process")
	b.Cleanup(w.Close)
	p, err := sourcepolicy.CompileSandboxed(b.Context(), w, []sourcepolicy.File{{Name: "p.rego", Data: []byte("package docker\ndecision := {\"allow\": input.image.repo == \"alpine\"}")}}, sourcepolicy.Options{})
	if err != nil {
		b.Fatal(err)
	}
	s := sourcepolicy.NewSet(p)
	for b.Loop() {
		if d := evaluate(b, s, "alpine:3", nil); !d.Allowed {
			b.Fatal(d)
		}
	}
}
