package buildx

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/docker/buildx/policy"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/session"
	spb "github.com/moby/buildkit/sourcepolicy/pb"
	"github.com/moby/buildkit/sourcepolicy/policysession"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	distribution "github.com/hallmark-dev/hallmark/internal/authority/registry"
	"github.com/hallmark-dev/hallmark/internal/build/daemon"
	"github.com/hallmark-dev/hallmark/internal/build/sourcegate"
	"github.com/hallmark-dev/hallmark/internal/hmtest/testimage"
	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

const (
	buildSources = 20
	buildRounds  = 30
)

// platform is that of the images, which are nobody's to run.
var platform = ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}

// BenchmarkBuilds is what policies cost a build of 20 sources that are all in the cache,
// by a real daemon. Builds take turns: those of a session that allows everything, or
// everything after it was told the configuration; those that ours judges, by a rule about
// the name or about a label; and those that buildx's judges. Of each round, each is
// compared with the session that is told as much. The figures are medians, in microseconds
// for each source: by the clock, which on a busy machine is the other work's, and of this
// process's processor time, of which the sessions are a part and the daemon is not.
func BenchmarkBuilds(b *testing.B) {
	kit, def := twentySources(b)
	const byName, byLabel = `allow if endswith(input.image.repo, "a")`, `allow if input.image.labels.l == "yes"`
	kinds := []struct {
		name  string
		open  func() (session.Attachable, func())
		least int // which it is compared with
	}{
		{"allow-all", allowAll(b, false), 0}, {"allow-all-told", allowAll(b, true), 1},
		{"hallmark-name", ours(b, byName), 0}, {"hallmark-label", ours(b, byLabel), 1},
		{"buildx-name", theirs(byName), 0}, {"buildx-label", theirs(byLabel), 1},
	}
	build := func(i int) (clock, cpu float64) {
		judge, check := kinds[i].open()
		before, t0 := processor(b), time.Now()
		if _, err := kit.Solve(b.Context(), def, client.SolveOpt{SourcePolicyProvider: judge}, nil); err != nil {
			b.Fatal(err)
		}
		clock, cpu = float64(time.Since(t0).Microseconds())/buildSources, processor(b)-before
		check()
		return clock, cpu / buildSources
	}
	turns := rand.New(rand.NewPCG(1, 2))
	clock, cpu := make([][]float64, len(kinds)), make([][]float64, len(kinds))
	for round := range buildRounds + 1 { // the first fills the cache
		var took, used [8]float64
		for _, i := range turns.Perm(len(kinds)) { // what one leaves for the next to do, it leaves to each
			took[i], used[i] = build(i)
		}
		for i, k := range kinds {
			if least := k.least; round > 0 && i != least {
				clock[i], cpu[i] = append(clock[i], took[i]-took[least]), append(cpu[i], used[i]-used[least])
			} else if round > 0 {
				clock[i], cpu[i] = append(clock[i], took[i]), append(cpu[i], used[i])
			}
		}
	}
	b.ReportMetric(0, "ns/op") // the time of all builds says nothing
	for i, k := range kinds {
		b.ReportMetric(middle(clock[i]), k.name+"-µs")
		b.ReportMetric(middle(cpu[i]), k.name+"-cpu-µs")
	}
}

// allowAll judges nothing; told wants each source's configuration first.
func allowAll(b *testing.B, told bool) func() (session.Attachable, func()) {
	return func() (session.Attachable, func()) {
		var asked atomic.Int64
		return policysession.NewPolicyProvider(func(_ context.Context, r *policysession.CheckPolicyRequest) (*policysession.DecisionResponse, *gwpb.ResolveSourceMetaRequest, error) {
				asked.Add(1)
				if told && r.Source.Image == nil {
					return nil, &gwpb.ResolveSourceMetaRequest{Source: r.Source.Source, Platform: r.Platform, Image: &gwpb.ResolveSourceImageRequest{}}, nil
				}
				return &policysession.DecisionResponse{Action: spb.PolicyAction_ALLOW}, nil, nil
			}), func() {
				if n := asked.Load(); n < buildSources || told && n < 2*buildSources {
					b.Fatalf("the daemon asked %d times", n)
				}
			}
	}
}

// processor is what this process has computed, in microseconds.
func processor(b *testing.B) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1000
}

func middle(of []float64) float64 { return slices.Sorted(slices.Values(of))[len(of)/2] }

func policyText(rule string) string {
	return "package docker\ndefault allow := false\nallow if input.local\n" + rule + "\ndecision := {\"allow\": allow}\n"
}

// ours opens the session of a build, as hallmark build does.
func ours(b *testing.B, rule string) func() (session.Attachable, func()) {
	p, err := sourcepolicy.Compile([]sourcepolicy.File{{Name: "Dockerfile.rego", Data: []byte(policyText(rule))}}, sourcepolicy.Options{})
	if err != nil {
		b.Fatal(err)
	}
	set := sourcepolicy.NewSet(p)
	return func() (session.Attachable, func()) {
		s := sourcegate.New(sourcegate.Config{Policies: set, Platform: "linux/" + runtime.GOARCH})
		return s.Attachable(), func() {
			if d := s.Decision(); !d.Allowed {
				b.Fatal(d.Reasons)
			}
		}
	}
}

// theirs opens that of a build by buildx.
func theirs(rule string) func() (session.Attachable, func()) {
	return func() (session.Attachable, func()) {
		p := policy.NewPolicy(policy.Opt{
			Files: []policy.File{{Filename: "Dockerfile.rego", Data: []byte(policyText(rule))}},
			FS:    func() (fs.StatFS, func() error, error) { return fstest.MapFS{}, nil, nil },
		})
		return policysession.NewPolicyProvider(p.CheckPolicy), func() {}
	}
}

// twentySources is a daemon, and a build that copies a file from each of 20 images, which
// are named by digest so that no registry is asked once they are there.
func twentySources(b *testing.B) (*client.Client, *llb.Definition) {
	server, err := distribution.Open(b.TempDir(), distribution.Config{})
	if err != nil {
		b.Fatal(err)
	}
	at := httptest.NewServer(server)
	b.Cleanup(at.Close)
	c := registry.NewClient(registry.Options{})
	state := llb.Scratch()
	for i := range buildSources {
		ref, err := registry.ParseRef(fmt.Sprintf("%s/a:%d", strings.TrimPrefix(at.URL, "http://"), i))
		if err != nil {
			b.Fatal(err)
		}
		d, err := testimage.Push(b.Context(), c, ref, testimage.Image{Labels: map[string]string{"l": "yes"},
			Layers: [][]testimage.File{{{Path: "n", Data: fmt.Appendln(nil, i)}}}})
		if err != nil {
			b.Fatal(err)
		}
		image := llb.Image(ref.Name()+"@"+d.Digest.String(), llb.Platform(platform))
		state = state.File(llb.Copy(image, "/n", fmt.Sprintf("/n%d", i)))
	}
	def, err := state.Marshal(b.Context(), llb.Platform(platform))
	if err != nil {
		b.Fatal(err)
	}
	tools := os.Getenv("HALLMARK_TOOLS")
	if home, err := os.UserHomeDir(); tools == "" && err == nil {
		tools = filepath.Join(home, ".cache/hallmark/tools/bin")
	}
	d, err := daemon.Start(b.Context(), daemon.Config{Tools: tools})
	if err != nil {
		b.Fatalf("%v (tools/install.sh builds what is missing)", err)
	}
	b.Cleanup(func() { _ = d.Stop() })
	kit, err := client.New(b.Context(), d.Address)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = kit.Close() })
	return kit, def
}
