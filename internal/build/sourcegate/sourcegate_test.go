package sourcegate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	gateway "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	sourcepb "github.com/moby/buildkit/sourcepolicy/pb"
	"github.com/moby/buildkit/sourcepolicy/policysession"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
)

const (
	first  = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	second = "sha256:2222222222222222222222222222222222222222222222222222222222222222"
	commit = "3333333333333333333333333333333333333333"
)

// solve asks a session about a source until it decides, as the daemon does
// (solver/llbsolver/policy.go, evaluateSource), with answers that may be wrong in ways
// that a real one's are not. It returns the source that would be used.
func solve(t *testing.T, s *Session, op *pb.SourceOp, say func(*gateway.ResolveSourceMetaRequest) *gateway.ResolveSourceMetaResponse) (*pb.SourceOp, error) {
	t.Helper()
	req := &policysession.CheckPolicyRequest{Source: &gateway.ResolveSourceMetaResponse{Source: op}, Platform: &pb.Platform{OS: "linux", Architecture: "amd64"}}
	for range 10 {
		d, ask, err := s.check(context.Background(), req)
		switch {
		case err != nil:
			return nil, err
		case ask != nil:
			if ask.Source.Identifier != op.Identifier || !maps.Equal(ask.Source.Attrs, op.Attrs) {
				t.Fatalf("it asks about %v, not about %v", ask.Source, op)
			}
			if ask.Image.GetAttestationChain() || len(ask.Image.GetResolveAttestations()) > 0 {
				t.Fatal("it asks for an attestation chain, which ends BuildKit")
			}
			answer := say(ask)
			answer.Source = op
			req = &policysession.CheckPolicyRequest{Source: answer, Platform: req.Platform}
		case d.Action == sourcepb.PolicyAction_CONVERT:
			op = d.Update
			req = &policysession.CheckPolicyRequest{Source: &gateway.ResolveSourceMetaResponse{Source: op}, Platform: req.Platform}
		case d.Action == sourcepb.PolicyAction_ALLOW:
			return op, nil
		default:
			return nil, errors.New(d.Action.String())
		}
	}
	return nil, errors.New("too many policy requests")
}

func policyOf(t testing.TB, text string) *sourcepolicy.Set {
	t.Helper()
	p, err := sourcepolicy.Compile([]sourcepolicy.File{{Name: "p.rego", Data: []byte("package docker\n" + text)}}, sourcepolicy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return sourcepolicy.NewSet(p)
}

func imageSays(digest, label string) func(*gateway.ResolveSourceMetaRequest) *gateway.ResolveSourceMetaResponse {
	return func(*gateway.ResolveSourceMetaRequest) *gateway.ResolveSourceMetaResponse {
		config := fmt.Sprintf(`{"config":{"Labels":{"l":%q}}}`, label)
		return &gateway.ResolveSourceMetaResponse{Image: &gateway.ResolveSourceImageResponse{Digest: digest, Config: []byte(config)}}
	}
}

// What was judged is what the daemon is told to use.
func TestBound(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, rego string
		op         *pb.SourceOp
		say        func(*gateway.ResolveSourceMetaRequest) *gateway.ResolveSourceMetaResponse
		want       string
		attrs      map[string]string
		byName     bool // the decision rests on nothing else
	}{
		{name: "image, by name alone", rego: `decision := {"allow": input.image.tag == "1"}`,
			op: &pb.SourceOp{Identifier: "docker-image://example.com/a:1"}, say: imageSays(first, ""), want: "docker-image://example.com/a:1", byName: true},
		{name: "image", rego: `decision := {"allow": input.image.labels.l == "yes"}`,
			op: &pb.SourceOp{Identifier: "docker-image://example.com/a:1", Attrs: map[string]string{"x": "y"}}, say: imageSays(first, "yes"),
			want: "docker-image://example.com/a:1@" + first, attrs: map[string]string{"x": "y", "image.checksum": first}},
		{name: "image by digest", rego: `decision := {"allow": input.image.labels.l == "yes"}`,
			op: &pb.SourceOp{Identifier: "docker-image://example.com/a@" + first}, say: imageSays(first, "yes"),
			want: "docker-image://example.com/a@" + first},
		{name: "checkout", rego: `decision := {"allow": input.git.commitChecksum == "` + commit + `"}`,
			op: &pb.SourceOp{Identifier: "git://example.com/a.git#refs/tags/v1", Attrs: map[string]string{"git.fullurl": "https://example.com/a.git"}},
			say: func(*gateway.ResolveSourceMetaRequest) *gateway.ResolveSourceMetaResponse {
				return &gateway.ResolveSourceMetaResponse{Git: &gateway.ResolveSourceGitResponse{Ref: "refs/tags/v1", Checksum: commit}}
			}, want: "git://example.com/a.git#refs/tags/v1", attrs: map[string]string{"git.fullurl": "https://example.com/a.git", "git.checksum": commit}},
		{name: "checkout with a prefix of its checksum", rego: `decision := {"allow": input.git.commitChecksum == "` + commit + `"}`,
			op: &pb.SourceOp{Identifier: "git://example.com/a.git#refs/tags/v1", Attrs: map[string]string{"git.checksum": commit[:3]}},
			say: func(*gateway.ResolveSourceMetaRequest) *gateway.ResolveSourceMetaResponse {
				return &gateway.ResolveSourceMetaResponse{Git: &gateway.ResolveSourceGitResponse{Ref: "refs/tags/v1", Checksum: commit}}
			}, want: "git://example.com/a.git#refs/tags/v1", attrs: map[string]string{"git.checksum": commit}},
		{name: "download", rego: `decision := {"allow": input.http.checksum == "` + first + `"}`,
			op: &pb.SourceOp{Identifier: "https://example.com/f", Attrs: map[string]string{"http.filename": "f"}},
			say: func(*gateway.ResolveSourceMetaRequest) *gateway.ResolveSourceMetaResponse {
				return &gateway.ResolveSourceMetaResponse{HTTP: &gateway.ResolveSourceHTTPResponse{Checksum: first}}
			}, want: "https://example.com/f", attrs: map[string]string{"http.filename": "f", "http.checksum": first}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := New(Config{Policies: policyOf(t, c.rego)})
			for range 2 { // asked again, it answers the same
				got, err := solve(t, s, c.op, c.say)
				if err != nil || got.Identifier != c.want || c.attrs != nil && !maps.Equal(got.Attrs, c.attrs) {
					t.Fatalf("%v %v %+v", got, err, s.Decision())
				}
			}
			if d := s.Decision(); !d.Allowed || len(d.Reasons) > 0 {
				t.Errorf("%+v", d)
			}
			if all := s.Sources(); len(all) == 0 || !all[0].Allowed || (all[0].UsedAs != "") != (c.attrs != nil) || (len(all[0].Asked) > 0) == c.byName {
				t.Errorf("%+v", all)
			}
		})
	}
}

// A checksum that the source has already, and that is not what was judged, is no reason
// to use what was not judged, nor to drop what the author demands.
func TestAnotherChecksumIsUnbound(t *testing.T) {
	t.Parallel()
	const tagObject = "4444444444444444444444444444444444444444"
	for given, want := range map[string]string{"": tagObject, commit: tagObject, commit[:7]: tagObject, tagObject[:7]: tagObject, "3334": "", "44445": "", commit + "0": ""} {
		s := New(Config{Policies: policyOf(t, `decision := {"allow": input.git.commitChecksum == "`+commit+`"}`)})
		got, err := solve(t, s, &pb.SourceOp{Identifier: "git://example.com/a.git#refs/tags/v1", Attrs: map[string]string{"git.checksum": given}},
			func(*gateway.ResolveSourceMetaRequest) *gateway.ResolveSourceMetaResponse {
				return &gateway.ResolveSourceMetaResponse{Git: &gateway.ResolveSourceGitResponse{Ref: "refs/tags/v1", Checksum: tagObject, CommitChecksum: commit}}
			})
		switch d := s.Decision(); {
		case want != "" && (err != nil || got.Attrs["git.checksum"] != want):
			t.Errorf("%q: %v %v", given, got, err)
		case want == "" && (err == nil || d.Allowed || d.Reasons[0].Code != CodeUnbound):
			t.Errorf("%q: %v %+v", given, got, d)
		}
	}
}

// What is known of an image is not asked for again under its digest.
func TestAskedOnce(t *testing.T) {
	t.Parallel()
	s := New(Config{Policies: policyOf(t, `decision := {"allow": input.image.labels.l == "yes"}`)})
	asked := 0
	say := func(r *gateway.ResolveSourceMetaRequest) *gateway.ResolveSourceMetaResponse {
		asked++
		return imageSays(first, "yes")(r)
	}
	for _, name := range []string{"docker-image://example.com/a:1", "docker-image://example.com/a:1@" + first, "docker-image://example.com/a:1"} {
		if _, err := solve(t, s, &pb.SourceOp{Identifier: name}, say); err != nil {
			t.Error(err)
		}
	}
	if asked != 1 {
		t.Errorf("the daemon was asked %d times", asked)
	}
}

// Each answer is told once, with what the source is used as; one that becomes another only for
// its login is told of when it was judged, and a denial after a login is a denial.
func TestTold(t *testing.T) {
	t.Parallel()
	var told []string
	tell := func(s Source, asked time.Time) {
		if asked.IsZero() || time.Since(asked) < 0 {
			t.Errorf("%s was asked about at %s", s.Source, asked)
		}
		told = append(told, fmt.Sprintf("%s %v %s %d", s.Source, s.Allowed, s.UsedAs, len(s.Reasons)))
	}
	const a, b, repo = "docker-image://example.com/a:1", "docker-image://example.com/b:1", "git://git.example/app.git#" + commit
	s := New(Config{Tell: tell, Policies: policyOf(t, `decision := {"allow": count(deny) == 0, "deny_msg": deny}
deny contains "no b" if endswith(input.image.repo, "/b")
deny contains "no labels" if input.image.labels.l != "yes"
deny contains "no git" if input.git`), Login: func(string, bool) string { return "secret" }})
	for _, name := range []string{a, a, b, b, "local://context", repo} {
		op := &pb.SourceOp{Identifier: name}
		if name == repo {
			op.Attrs = map[string]string{pb.AttrFullRemoteURL: "https://git.example/app.git", pb.AttrGitSkipSubmodules: "true"}
		}
		_, _ = solve(t, s, op, imageSays(first, "yes"))
	}
	want := []string{a + " true " + first + " 0", a + "@" + first + " true  0", b + " false  1", "local://context true  0", repo + " false  1"}
	if fmt.Sprint(told) != fmt.Sprint(want) {
		t.Errorf("told\n%s\nwant\n%s", strings.Join(told, "\n"), strings.Join(want, "\n"))
	}
}

// A daemon whose answers do not agree, or that does not answer, does not get an image past
// a policy.
func TestDaemonThatAnswersWrongly(t *testing.T) {
	t.Parallel()
	image := &pb.SourceOp{Identifier: "docker-image://example.com/a:1"}
	byLabel := `decision := {"allow": count(deny) == 0, "deny_msg": deny}
deny contains "no label" if input.image.labels.l != "yes"`
	for _, c := range []struct {
		name, rego, code, say string
		op                    *pb.SourceOp
		answer                func(*gateway.ResolveSourceMetaRequest) *gateway.ResolveSourceMetaResponse
	}{
		{"no configuration", byLabel, "INPUT_INCOMPLETE", "BuildKit does not say it", image, func(*gateway.ResolveSourceMetaRequest) *gateway.ResolveSourceMetaResponse {
			return &gateway.ResolveSourceMetaResponse{Image: &gateway.ResolveSourceImageResponse{Digest: first}}
		}},
		{"no digest", byLabel, "INPUT_INCOMPLETE", "image.config", image, imageSays("", "yes")},
		{"another digest", byLabel, "INPUT_INCOMPLETE", "it was " + first + " at first and is " + second + " now", &pb.SourceOp{Identifier: image.Identifier + "@" + first}, imageSays(second, "yes")},
		{"a configuration that is none", byLabel, "INPUT_INCOMPLETE", "cannot be read", image, func(*gateway.ResolveSourceMetaRequest) *gateway.ResolveSourceMetaResponse {
			return &gateway.ResolveSourceMetaResponse{Image: &gateway.ResolveSourceImageResponse{Digest: first, Config: []byte(`{"config":3}`)}}
		}},
		{"an answer of another kind", byLabel, "INPUT_INCOMPLETE", "BuildKit does not say it", image, func(*gateway.ResolveSourceMetaRequest) *gateway.ResolveSourceMetaResponse {
			return &gateway.ResolveSourceMetaResponse{HTTP: &gateway.ResolveSourceHTTPResponse{Checksum: first}}
		}},
		{"objects of another commit", `decision := {"allow": input.git.commit.message != ""}`, "INPUT_INCOMPLETE", "git.objects", &pb.SourceOp{Identifier: "git://example.com/a.git#main"},
			func(*gateway.ResolveSourceMetaRequest) *gateway.ResolveSourceMetaResponse {
				return &gateway.ResolveSourceMetaResponse{Git: &gateway.ResolveSourceGitResponse{Ref: "refs/heads/main", Checksum: commit, CommitObject: []byte("tree x")}}
			}},
		{"attestations, and nobody to ask", `decision := {"allow": input.image.hasProvenance}`, "INPUT_INCOMPLETE", "cannot be looked up here", image, imageSays(first, "yes")},
		{"a layout", `decision := {"allow": true}`, "SOURCE_UNSUPPORTED", "oci-layout", &pb.SourceOp{Identifier: "oci-layout://x@" + first}, nil},
		{"a blob", `decision := {"allow": true}`, "SOURCE_UNSUPPORTED", "docker-image+blob", &pb.SourceOp{Identifier: "docker-image+blob://example.com/a@" + first}, nil},
		{"nothing", `decision := {"allow": true}`, "SOURCE_UNSUPPORTED", "invalid source identifier", &pb.SourceOp{}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := New(Config{Policies: policyOf(t, c.rego)})
			if got, err := solve(t, s, c.op, c.answer); err == nil {
				t.Fatalf("allowed as %v", got)
			}
			d := s.Decision()
			if d.Allowed || len(d.Reasons) != 1 || d.Reasons[0].Code != c.code || !strings.Contains(d.Reasons[0].Message, c.say) {
				t.Errorf("%+v", d)
			}
			if all := s.Sources(); len(all) != 1 || all[0].Allowed {
				t.Errorf("%+v", all)
			}
		})
	}
	t.Run("a question without a source", func(t *testing.T) {
		t.Parallel()
		s := New(Config{Policies: policyOf(t, `decision := {"allow": true}`)})
		d, _, err := s.check(context.Background(), &policysession.CheckPolicyRequest{})
		if err != nil || d.Action != sourcepb.PolicyAction_DENY || s.Decision().Allowed {
			t.Errorf("%v %v", d, err)
		}
	})
	t.Run("no question", func(t *testing.T) {
		t.Parallel()
		d := New(Config{Policies: policyOf(t, `decision := {"allow": true}`)}).Decision()
		if d.Allowed || d.Reasons[0].Code != CodeNotAsked {
			t.Errorf("%+v", d)
		}
	})
}

// A tag that moves while a policy pins elsewhere does not go round for ever.
func TestPinnedEachTime(t *testing.T) {
	t.Parallel()
	n := 0
	s := New(Config{Policies: policyOf(t, `decision := {"allow": pin_image(input.image, sprintf("sha256:%064d", [count(input.image.checksum) + to_number(substring(input.image.checksum, 65, 6)) + 1]))}`)})
	_, err := solve(t, s, &pb.SourceOp{Identifier: "docker-image://example.com/a:1"}, func(r *gateway.ResolveSourceMetaRequest) *gateway.ResolveSourceMetaResponse {
		n++
		digest := fmt.Sprintf("sha256:%064d", n)
		if _, d, ok := strings.Cut(r.Source.Identifier, "@"); ok {
			digest = d
		}
		return imageSays(digest, "")(r)
	})
	if d := s.Decision(); err == nil || d.Allowed || d.Reasons[0].Code != "POLICY_PIN" {
		t.Errorf("%v %+v", err, d)
	}
}

// A secret in a URL is told to nobody.
func TestSecretsAreNotTold(t *testing.T) {
	t.Parallel()
	s := New(Config{Policies: policyOf(t, `decision := {"allow": false}`)})
	_, _ = solve(t, s, &pb.SourceOp{Identifier: "https://user:s3cret@example.com/f?token=s3cret"}, nil)
	_, _ = solve(t, s, &pb.SourceOp{Identifier: "git://user:s3cret@example.com/f.git#main", Attrs: map[string]string{"git.fullurl": "https://user:s3cret@example.com/f.git"}}, nil)
	text, err := json.Marshal([]any{s.Decision(), s.Sources()})
	if err != nil || strings.Contains(string(text), "s3cret") || strings.Count(string(text), "example.com") < 4 {
		t.Errorf("%s %v", text, err)
	}
}

// askedOnce counts how often each image is looked up.
type askedOnce struct {
	mu sync.Mutex
	n  map[string]int
}

func (a *askedOnce) Resolve(_ context.Context, src sourcepolicy.Source, asks []sourcepolicy.Ask) (sourcepolicy.Facts, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	yes := true
	for _, ask := range asks {
		a.n[src.Identifier+" "+ask.Key()]++
	}
	return sourcepolicy.Facts{Attested: &yes, Checksum: evidence.Digest(src.Identifier[strings.Index(src.Identifier, "@")+1:])}, nil
}

// silentRegistry does not answer.
type silentRegistry struct{}

func (silentRegistry) Resolve(context.Context, sourcepolicy.Source, []sourcepolicy.Ask) (sourcepolicy.Facts, error) {
	return sourcepolicy.Facts{}, fault.Unreachablef("example.com: no answer")
}

// An outage denies, and is told from a denial.
func TestOutage(t *testing.T) {
	t.Parallel()
	s := New(Config{Policies: policyOf(t, `decision := {"allow": input.image.hasProvenance} if input.image
decision := {"allow": false} if input.local`), Resolver: silentRegistry{}})
	if s.Outage() != nil {
		t.Error("an outage before anything was asked")
	}
	if got, err := solve(t, s, &pb.SourceOp{Identifier: "docker-image://example.com/a:1"}, imageSays(first, "")); err == nil {
		t.Errorf("allowed as %v", got)
	}
	if err := s.Outage(); fault.KindOf(err) != fault.Unreachable || !strings.Contains(err.Error(), "example.com: no answer") || s.Decision().Allowed {
		t.Errorf("%v %+v", err, s.Decision())
	}
	if _, err := solve(t, s, &pb.SourceOp{Identifier: "local://context"}, nil); err == nil || s.Outage() != nil {
		t.Errorf("%v %v", err, s.Outage())
	}
}

// Many questions at the same time, about few sources.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	look := &askedOnce{n: map[string]int{}}
	s := New(Config{Policies: policyOf(t, `decision := {"allow": input.image.hasProvenance}`), Resolver: look})
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			digest := fmt.Sprintf("sha256:%064d", i%4)
			got, err := solve(t, s, &pb.SourceOp{Identifier: fmt.Sprintf("docker-image://example.com/a:%d", i%4)}, imageSays(digest, ""))
			if err != nil || !strings.HasSuffix(got.Identifier, "@"+digest) {
				t.Errorf("%v %v", got, err)
			}
		})
	}
	all.Wait()
	for what, n := range look.n {
		if n != 1 || len(look.n) != 4 {
			t.Errorf("%s was looked up %d times", what, n)
		}
	}
}

// An ended build ends the question.
func TestEnded(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s := New(Config{Policies: policyOf(t, `decision := {"allow": true}`)})
	_, _, err := s.check(ctx, &policysession.CheckPolicyRequest{Source: &gateway.ResolveSourceMetaResponse{Source: &pb.SourceOp{Identifier: "local://context"}}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// BenchmarkCheck is one question that the name answers, and one that needs the image's
// configuration, which is known already.
func BenchmarkCheck(b *testing.B) {
	for name, rego := range map[string]string{
		"name":  `decision := {"allow": input.image.repo == "example.com/a"}`,
		"label": `decision := {"allow": input.image.labels.l == "yes"}`,
	} {
		b.Run(name, func(b *testing.B) {
			s := New(Config{Policies: policyOf(b, rego), Now: time.Now()})
			req := &policysession.CheckPolicyRequest{Platform: &pb.Platform{OS: "linux", Architecture: "amd64"},
				Source: &gateway.ResolveSourceMetaResponse{Source: &pb.SourceOp{Identifier: "docker-image://example.com/a@" + first},
					Image: &gateway.ResolveSourceImageResponse{Digest: first, Config: []byte(`{"config":{"Labels":{"l":"yes"}}}`)}}}
			for b.Loop() {
				if d, _, err := s.check(context.Background(), req); err != nil || d == nil || d.Action != sourcepb.PolicyAction_ALLOW {
					b.Fatal(d, err)
				}
			}
		})
	}
}
