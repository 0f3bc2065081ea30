package sourcepolicy_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
)

// The decisions whose cost docs state: on ready input, at most 0.1 ms.
func BenchmarkEvaluate(b *testing.B) {
	for name, tc := range map[string]struct {
		rule, source string
		known        sourcepolicy.Facts
		allowed      bool
	}{
		"local":       {`allow if input.local`, ".", sourcepolicy.Facts{}, true},
		"image":       {`allow if input.image.repo == "alpine"`, "alpine:3", sourcepolicy.Facts{}, true},
		"image-deny":  {`allow if input.image.repo == "alpine"`, "debian:12", sourcepolicy.Facts{}, false},
		"image-label": {`allow if input.image.labels.team == "a"`, "alpine:3", image(), true},
		"helper":      {`allow if not docker_github_builder_tag(input.image, "org/app", input.image.tag)`, "alpine:3", image(), true},
		"http":        {`allow if input.http.host == "example.org"`, "https://example.org/a.tar.gz", sourcepolicy.Facts{}, true},
	} {
		b.Run(name, func(b *testing.B) {
			s := compile(b, head+tc.rule)
			src := source(b, tc.source)
			b.ReportAllocs()
			before := cpu(b)
			for b.Loop() {
				d, err := s.Evaluate(b.Context(), sourcepolicy.Request{Source: src, Now: noon, Known: tc.known})
				if err != nil || d.Allowed != tc.allowed {
					b.Fatal(d, err)
				}
			}
			b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op") // ns/op counts a busy machine's other work, too
		})
	}
}

// cpu is the time that this process has computed, in nanoseconds.
func cpu(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		compile(b, head+`allow if input.image.repo == "alpine"`)
	}
}

// BenchmarkTests is a policy with 100 tests, from the files to the results.
func BenchmarkTests(b *testing.B) {
	var text strings.Builder
	text.WriteString("package docker\n")
	for i := range 100 {
		fmt.Fprintf(&text, "test_%d if decision.allow with input as {\"image\": {\"repo\": \"alpine\", \"tag\": \"%d\"}}\n", i, i)
	}
	policy := []sourcepolicy.File{{Name: "Dockerfile.rego", Data: []byte(head + `allow if input.image.repo == "alpine"`)}}
	before := cpu(b)
	for b.Loop() {
		suite, err := sourcepolicy.CompileTests(policy, []sourcepolicy.File{{Name: "a_test.rego", Data: []byte(text.String())}}, sourcepolicy.Options{})
		if err != nil {
			b.Fatal(err)
		}
		if results, err := suite.Run(b.Context(), nil); err != nil || len(results) != 100 || !results[0].Passed {
			b.Fatal(results, err)
		}
	}
	b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op")
}
