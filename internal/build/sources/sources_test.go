package sources_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/platforms"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerui"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/apicaps"
	"github.com/opencontainers/go-digest"

	"github.com/hallmark-dev/hallmark/internal/build/sources"
	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
)

var mu sync.Mutex

// table is what the images of these tests are configured with; all others exist
// and have no configuration.
var table = map[string]sources.Config{
	"docker.io/library/env:1": {Env: []string{"PATH=/image", "HOST=files.example.com", "FROM_IMAGE=yes", "EMPTY="}},
	"docker.io/library/onbuild:1": {OnBuild: []string{
		"ADD https://onbuild.example.com/${ARCH}/x /", "COPY --from=docker.io/library/inner:2 /a /b", "ARG ARCH=none", "ADD https://onbuild.example.com/${ARCH}/y /",
		"RUN --mount=from=mounted:3,target=/m true",
	}},
}

type configs struct{}

func (configs) Config(_ context.Context, ref, _ string) (sources.Config, error) {
	if strings.Contains(ref, "missing") {
		return sources.Config{}, errors.New("not found")
	}
	c := table[ref]
	c.Digest = digest.FromString(ref).String()
	if _, pinned, ok := strings.Cut(ref, "@"); ok {
		c.Digest = pinned
	}
	return c, nil
}

// ResolveImageConfig is what BuildKit's converter asks for.
func (c configs) ResolveImageConfig(ctx context.Context, ref string, _ sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	config, err := c.Config(ctx, ref, "")
	if err != nil {
		return "", "", nil, err
	}
	img := map[string]any{"os": "linux", "architecture": "amd64", "config": map[string]any{"Env": config.Env, "OnBuild": config.OnBuild},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{digest.FromString("layer").String()}}}
	data, err := json.Marshal(img)
	return ref, digest.Digest(config.Digest), data, err
}

// converter asks BuildKit's own converter for the sources of a target: those of the
// definition that a daemon would be sent, and the images that it asks for first.
func converter(t testing.TB, text string, o sources.Options, target string) ([]string, error) {
	t.Helper()
	p := platforms.MustParse(o.Platforms[0])
	b := platforms.MustParse(o.BuildPlatform)
	asked := &recorder{}
	opt := dockerfile2llb.ConvertOpt{TargetPlatform: &p, MetaResolver: asked}
	opt.BuildArgs, opt.Target, opt.BuildPlatforms = maps.Clone(o.Args), target, append(opt.BuildPlatforms, b)
	if len(o.Contexts) > 0 {
		frontend := map[string]string{"context": mainContext} // a folder would be read through a daemon
		for k, v := range o.Contexts {
			frontend["context:"+k] = v
		}
		client, err := dockerui.NewClient(&onlyImages{recorder: asked, opts: frontend})
		if err != nil {
			t.Fatal(err)
		}
		opt.Client = client
	}
	res, err := dockerfile2llb.Dockerfile2LLB(context.Background(), []byte(text), opt)
	if err != nil {
		return nil, err
	}
	def, err := res.State.Marshal(context.Background(), llb.Platform(p))
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for name := range asked.names {
		found["docker-image://"+name] = true
	}
	for _, dt := range def.Def {
		var op pb.Op
		if err := op.Unmarshal(dt); err != nil {
			t.Fatal(err)
		}
		src := op.GetSource()
		if src == nil {
			continue
		}
		id := src.Identifier
		if name, ok := strings.CutPrefix(id, "docker-image://"); ok {
			if i := strings.LastIndex(name, "@"); strings.Count(name, "@") == 1 && asked.names[name[:i]] {
				id = "docker-image://" + name[:i] // the digest is the one that it was answered
			}
		}
		if strings.HasPrefix(id, "local://") || src.Attrs["git.fullurl"] == mainContext {
			continue
		}
		found[spell(id, src.Attrs)] = true
	}
	return slices.Sorted(maps.Keys(found)), nil
}

const mainContext = "https://main.example.com/context.git"

func spell(id string, attrs map[string]string) string {
	for _, k := range slices.Sorted(maps.Keys(attrs)) {
		if !strings.HasPrefix(id, "docker-image://") {
			id += " " + k + "=" + attrs[k]
		}
	}
	return id
}

type recorder struct {
	configs
	names map[string]bool
}

func (r *recorder) ResolveImageConfig(ctx context.Context, ref string, o sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	mu.Lock()
	defer mu.Unlock()
	if r.names == nil {
		r.names = map[string]bool{}
	}
	r.names[ref] = true
	return r.configs.ResolveImageConfig(ctx, ref, o)
}

// onlyImages is the side of BuildKit's gateway that named contexts need: it has no
// daemon and answers nothing but the configurations of images.
type onlyImages struct {
	gateway.Client
	*recorder
	opts map[string]string
}

func (c *onlyImages) ResolveImageConfig(ctx context.Context, ref string, o sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	return c.recorder.ResolveImageConfig(ctx, ref, o)
}

func (c *onlyImages) BuildOpts() gateway.BuildOpts {
	return gateway.BuildOpts{Opts: c.opts, LLBCaps: pb.Caps.CapSet(pb.Caps.All()), Caps: apicaps.CapSet{}}
}

// ours is the same from package sources.
func ours(text string, o sources.Options, target string) ([]string, error) {
	o.Target = target
	all, err := sources.List(context.Background(), sources.Dockerfile{Name: "Dockerfile", Text: []byte(text)}, o, configs{})
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for _, s := range all {
		if s.Kind == sources.Local {
			continue
		}
		found[spell(s.Identifier, s.Attrs)] = true
		// A build knows the source by its identifier, and the lock by its name.
		kind, name := sourcepolicy.Source{Identifier: s.Identifier, Attrs: s.Attrs, Platform: s.Platform}.LockName()
		if s.Kind != sources.Layout && (kind != string(s.Kind) || name != s.Name) {
			return nil, fmt.Errorf("the lock has %s %s, and a build looks for %s %s", s.Kind, s.Name, kind, name)
		}
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// dockerfiles are compared with BuildKit's converter for their last stage and each
// stage that is named in targets.
var dockerfiles = []struct {
	name, text string
	args       map[string]string
	contexts   map[string]string
	targets    []string
}{
	{name: "one image", text: "FROM alpine\n"},
	{name: "spellings of one image", text: "FROM docker.io/library/alpine:latest AS a\nFROM index.docker.io/alpine AS b\nCOPY --from=a / /\nFROM alpine@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\nCOPY --from=b / /\n"},
	{name: "tag and digest", text: "FROM registry.example.com:5000/a/b:1@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n"},
	{name: "scratch", text: "FROM scratch\nADD https://example.com/a /\n"},
	{name: "global args", text: "ARG V=3.20\nARG IMG=alpine:${V}\nFROM ${IMG:-x}\n"},
	{name: "a given arg wins", text: "ARG V=3.20\nFROM alpine:$V\n", args: map[string]string{"V": "3.19"}},
	{name: "modifiers", text: "ARG V=v1.2.3\nFROM alpine:${V#v}\nARG V\nADD https://example.com/${V%.*}/${V/1/9} /\nADD https://example.com/${NONE:+x}y /\n"},
	{name: "platform args", text: "FROM --platform=$BUILDPLATFORM alpine AS b\nARG TARGETARCH\nADD https://example.com/$TARGETARCH/${TARGETOS}x /\nFROM --platform=linux/s390x alpine\nCOPY --from=b / /\n"},
	{name: "target stage", text: "FROM img:$TARGETSTAGE AS one\nFROM img:$TARGETSTAGE AS two\n", targets: []string{"one", "two"}},
	{name: "args do not leak into stages", text: "ARG V=1\nFROM scratch\nADD https://example.com/a$V /\nARG V\nADD https://example.com/b$V /\n"},
	{name: "args come with the base stage", text: "FROM scratch AS a\nARG V=1\nENV E=$V\nFROM a\nADD https://example.com/$V/$E /\n"},
	{name: "env of the stage wins over its arg", text: "FROM scratch AS a\nENV V=env\nARG V=arg\nADD https://example.com/a/$V /\nFROM a\nADD https://example.com/b/$V /\n"},
	{name: "env of an image", text: "FROM env:1\nADD https://$HOST/$FROM_IMAGE$EMPTY$PATH /\nENV HOST=other.example.com\nADD https://$HOST/ /\n"},
	{name: "an arg without value hides nothing", text: "FROM env:1\nARG HOST\nADD https://$HOST/x /\n"},
	{name: "an arg over an image's env", text: "FROM env:1\nARG HOST=arg.example.com\nADD https://$HOST/x /\n"},
	{name: "env on one line sees the line before", text: "FROM scratch\nENV A=1\nENV A=2 B=$A\nADD https://example.com/$A/$B /\n"},
	{name: "predefined args", text: "FROM scratch\nADD https://example.com/$HTTP_PROXY /\nARG HTTP_PROXY\nADD https://example.com/$HTTP_PROXY/x /\n", args: map[string]string{"HTTP_PROXY": "p"}},
	{name: "stages by name and number", text: "FROM alpine AS a\nFROM busybox\nCOPY --from=0 / /\nCOPY --from=A / /\nCOPY --from=golang:1 / /\nCOPY --from=golang:1 / /x\n"},
	{name: "a stage that is not needed", text: "FROM a AS a\nADD https://example.com/a /\nFROM b AS b\nFROM c\nCOPY --from=b / /\n", targets: []string{"a", "b"}},
	{name: "an image of a stage's name in other case", text: "FROM alpine AS base\nFROM base\n"},
	{name: "mounts", text: "FROM alpine AS a\nFROM busybox\nRUN --mount=from=a,target=/a --mount=type=bind,from=img:2,target=/b --mount=type=cache,target=/c --mount=type=tmpfs,target=/d --mount=type=cache,from=seed:1,target=/e true\n"},
	{name: "add", text: "FROM scratch\nADD a b https://example.com/x.tar.gz https://example.com/?q=1 /d/\nADD --checksum=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef https://example.com/y /\nADD http://plain.example.com/ /\n"},
	{name: "git", text: "FROM scratch\nADD https://github.com/org/repo.git /a\nADD https://github.com/org/repo.git#v1:sub /b\nADD --keep-git-dir=true git@github.com:org/repo.git#main /c\nADD https://github.com/org/repo.git?tag=v2&submodules=false /d\nADD --checksum=0123456789abcdef0123456789abcdef01234567 https://github.com/org/repo.git#v1 /e\nADD ssh://git@example.com:22/x/y#main /f\nADD git://example.com/x /g\nADD https://github.com/org/repo /h\nADD github.com/org/repo /i\nADD https://user@github.com/org/repo.git?branch=b&subdir=s /j\n"},
	{name: "heredocs are no sources", text: "FROM scratch\nADD <<EOF https://example.com/z /\nhttps://example.com/no\nEOF\nCOPY <<EOF /x\nFROM no\nEOF\n"},
	{name: "continued lines and comments", text: "# escape=`\nFROM alp`\nine\n# FROM no\nADD `\n # a comment\n https://example.com/a `\n  /\n"},
	{name: "onbuild of an image", text: "FROM onbuild:1\nARG ARCH=late\nADD https://example.com/$ARCH /\n"},
	{name: "onbuild, with an arg", text: "FROM onbuild:1\n", args: map[string]string{"ARCH": "arm"}},
	{name: "onbuild of a stage", text: "FROM alpine AS a\nONBUILD ADD https://example.com/onbuild /\nONBUILD COPY --from=other:1 / /\nADD https://example.com/a /\nFROM a AS b\nADD https://example.com/b /\nFROM b\nADD https://example.com/c /\n", targets: []string{"a", "b"}},
	{name: "onbuild of what is copied from", text: "FROM scratch\nCOPY --from=onbuild:1 / /\n"},
	{name: "contexts", text: "FROM alpine AS a\nFROM built AS b\nADD https://$HOST/ /\nFROM busybox\nCOPY --from=a / /\nCOPY --from=extra / /\nCOPY --from=b / /\nCOPY --from=archive / /\n",
		contexts: map[string]string{"alpine": "docker-image://env:1", "built": "docker-image://env:1", "extra": "https://github.com/org/repo.git#v1", "archive": "https://example.com/a.tgz"}, targets: []string{"a", "b"}},
	{name: "a context in the place of a stage", text: "FROM alpine AS a\nADD https://example.com/a /\nCOPY --from=dep / /\nFROM a\nADD https://$HOST/b /\n", contexts: map[string]string{"a": "docker-image://env:1"}},
	{name: "a context for one platform", text: "FROM alpine\n", contexts: map[string]string{"alpine::linux/arm64": "docker-image://arm:1", "alpine": "docker-image://any:1"}},
	{name: "a context that is scratch's", text: "FROM alpine\nADD https://example.com/ /\n", contexts: map[string]string{"alpine": "git@example.com:a/b.git#v1"}},
}

// TestAgainstBuildKit: the sources are those of BuildKit's own converter.
func TestAgainstBuildKit(t *testing.T) {
	t.Parallel()
	for _, c := range dockerfiles {
		for _, platform := range []string{"linux/amd64", "linux/arm64"} {
			for _, target := range append(c.targets, "") {
				t.Run(strings.Join([]string{c.name, platform, target}, "/"), func(t *testing.T) {
					o := sources.Options{Args: c.args, Contexts: c.contexts, Platforms: []string{platform}, BuildPlatform: "linux/amd64"}
					want, err := converter(t, c.text, o, target)
					if err != nil {
						t.Fatalf("BuildKit: %v", err)
					}
					got, err := ours(c.text, o, target)
					if err != nil {
						t.Fatal(err)
					}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("BuildKit's (-) and ours (+):\n%s", diff)
					}
				})
			}
		}
	}
}

// TestAgainstBuildKit's inputs, changed: what BuildKit's converter takes, ours takes
// with the same sources, and nothing takes it down.
func FuzzList(f *testing.F) {
	for _, c := range dockerfiles {
		if c.args == nil && c.contexts == nil {
			f.Add(c.text)
		}
	}
	f.Add("# syntax=docker/dockerfile:1\nFROM a\n")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4096 || strings.Contains(text, "SOURCE_DATE_EPOCH") || strings.Contains(text, "BUILDKIT_SBOM") {
			return
		}
		o := sources.Options{Platforms: []string{"linux/amd64"}, BuildPlatform: "linux/amd64"}
		got, gotErr := ours(text, o, "")
		if _, _, _, other := parser.DetectSyntax([]byte(text)); other {
			return // the converter does not read that line
		}
		want, err := converter(t, text, o, "")
		if err != nil {
			return // ours need not know everything that a build would refuse
		}
		if gotErr != nil {
			t.Fatalf("BuildKit takes it, ours says: %v", gotErr)
		}
		// What is resolved only because of an image's triggers is listed, too.
		for _, s := range want {
			if !slices.Contains(got, s) {
				t.Fatalf("not listed: %s (listed: %q)", s, got)
			}
		}
	})
}

// TestRefusals: what cannot be known is an error with its place, never left out.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, text, want string
		o                sources.Options
	}{
		{name: "empty", text: "", want: "Dockerfile: file with no instructions"},
		{name: "no stage", text: "ARG A=1\n", want: "Dockerfile: there is no stage to build"},
		{name: "unknown instruction", text: "FROM a\nFETCH b\n", want: "Dockerfile:2: unknown instruction: FETCH"},
		{name: "no value", text: "FROM scratch\nFROM $V\n", want: "Dockerfile:2: FROM $V: the name of the base image is empty"},
		{name: "required", text: "ARG V\nFROM ${V:?unset}\n", want: "V: unset"},
		{name: "no image name", text: "FROM Alpine\n", want: "Dockerfile:1: Alpine: neither a stage nor the name of an image"},
		{name: "image not there", text: "FROM scratch\nFROM missing AS x\n", want: "Dockerfile:2: not found"},
		{name: "no such target", text: "FROM a\n", o: sources.Options{Target: "b"}, want: "--target b: there is no stage of this name"},
		{name: "a variable in --from", text: "ARG A=x\nFROM a\nCOPY --from=$A / /\n", want: "Dockerfile:3: COPY --from=$A: a variable is not replaced here"},
		{name: "no such number", text: "FROM a\nCOPY --from=7 / /\n", want: "Dockerfile:2: COPY --from=7: there is no stage of this number"},
		{name: "copied from a URL", text: "FROM a\nCOPY https://example.com/ /\n", want: "Dockerfile:2: COPY https://example.com/: only ADD fetches a URL"},
		{name: "copied from git", text: "FROM a\nCOPY git@example.com:x/y /\n", want: "only ADD fetches a URL"},
		{name: "checksum of a file", text: "FROM a\nADD --checksum=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef x /\n", want: "Dockerfile:2: ADD --checksum: only for one URL"},
		{name: "short checksum", text: "FROM a\nADD --checksum=sha256:0123 https://example.com/ /\n", want: "Dockerfile:2: ADD --checksum=sha256:0123: want sha256:"},
		{name: "two checksums", text: "FROM a\nADD --checksum=aa https://example.com/x.git?checksum=bb /\n", want: "the URL and --checksum disagree"},
		{name: "login in a message", text: "FROM a\nADD https://u:hunter2@example.com/x.git?nope=1 /\n", want: "https://…@example.com/x.git?…:"},
		{name: "platform", text: "FROM --platform=$NONE a\n", want: "Dockerfile:1: --platform=$NONE: the platform is empty"},
		{name: "another language", text: "# syntax=example.com/buildpacks:1\nfrom nowhere\n", want: "Dockerfile:1: # syntax=example.com/buildpacks:1: what a file in another language fetches cannot be known"},
		{name: "another language by argument", text: "FROM a\n", o: sources.Options{Args: map[string]string{"BUILDKIT_SYNTAX": "example.com/x"}}, want: "another language"},
		{name: "a name like the frontend's", text: "# syntax=docker/dockerfile-evil\nFROM a\n", want: "another language"},
		{name: "date of a stage", text: "FROM a AS b\nFROM b\n", o: sources.Options{Args: map[string]string{"SOURCE_DATE_EPOCH": "b"}}, want: "SOURCE_DATE_EPOCH=b: only a number of seconds"},
		{name: "context", text: "FROM a\n", o: sources.Options{Contexts: map[string]string{"a": "ftp://example.com/"}}, want: "Dockerfile:1: context ftp://example.com/: not known how to fetch this"},
		{name: "layout without digest", text: "FROM a\n", o: sources.Options{Contexts: map[string]string{"a": "oci-layout://dir:tag"}}, want: "want FOLDER@DIGEST"},
		{name: "a platform of the call", text: "FROM a\n", o: sources.Options{Platforms: []string{"linux/arm/v7/x"}}, want: `platform "linux/arm/v7/x"`},
		{name: "a variable that doubles", text: "FROM scratch\nARG A=xxxxxxxxxxxxxxxx\n" + strings.Repeat("ARG A=$A$A\n", 40), want: "Dockerfile:20: the variables of a word of 4 bytes"},
		{name: "a global one that doubles", text: "ARG A=xxxxxxxxxxxxxxxx\n" + strings.Repeat("ARG A=$A$A\n", 40) + "FROM scratch\n", want: "could become more than"},
		{name: "letters that become words", text: "FROM scratch\nARG A=" + strings.Repeat("a", 60_000) + "\nENV B=${A//a/" + strings.Repeat("b", 1000) + "}\n", want: "Dockerfile:3: the variables of a word"},
		{name: "stages that inherit too much", text: "FROM scratch AS s0\nENV " + strings.TrimPrefix(strings.Join(many(5000, " a%d=1"), ""), " ") + "\n" + strings.Join(many(500, "FROM s%d AS s%[2]d\n"), ""), want: "stages that take over more than"},
		{name: "too many variables", text: "FROM scratch\n" + strings.Repeat("ENV "+strings.Join(many(5000, "a%d=1 "), "")+"\n", 2) + "ENV " + strings.Join(many(6000, "b%d=1 "), "") + "\n", want: "Dockerfile:4: more than 10000 variables"},
		{name: "too many stages", text: strings.Repeat("FROM scratch\n", 1001), want: "1001 stages; at most 1000"},
		{name: "too many sources", text: "FROM scratch\n" + strings.Join(many(2001, "ADD https://example.com/%d /\n"), ""), want: "more than 2000 sources"},
		{name: "too long", text: strings.Repeat("#", sources.MaxDockerfile+1), want: "at most"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := sources.List(context.Background(), sources.Dockerfile{Name: "Dockerfile", Text: []byte(c.text)}, c.o, configs{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v, want %q", err, c.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%v repeats a password", err)
			}
		})
	}
}

func many(n int, format string) []string {
	var out []string
	for i := range n {
		if strings.Contains(format, "%[2]d") {
			out = append(out, fmt.Sprintf(format, i, i+1))
		} else {
			out = append(out, fmt.Sprintf(format, i))
		}
	}
	return out
}

// TestUses: each source is listed once, with each place that names it.
func TestUses(t *testing.T) {
	t.Parallel()
	const text = "# syntax=docker/dockerfile:1\nARG V=3\nFROM alpine:$V AS a\nARG V\nADD https://example.com/$V /\nFROM alpine:3\nCOPY --from=alpine:3 / /\nRUN --mount=from=tools,target=/t true\n"
	all, err := sources.List(context.Background(), sources.Dockerfile{Name: "Dockerfile", Text: []byte(text)},
		sources.Options{AllStages: true, Platforms: []string{"linux/amd64", "linux/arm64"}, BuildPlatform: "linux/amd64"}, configs{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range all {
		row := string(s.Kind) + " " + s.Name + " " + s.Platform
		for _, u := range s.Uses {
			row += fmt.Sprintf(" | %d %s %s", u.Line, u.Instruction, u.Written)
		}
		got = append(got, row)
	}
	want := []string{
		"image docker.io/docker/dockerfile:1 linux/amd64 | 1 # syntax docker/dockerfile:1",
		"local dockerfile  | 0 context dockerfile",
		"local context  | 0 context context",
		"image docker.io/library/alpine:3 linux/amd64 | 3 FROM alpine:$V | 6 FROM alpine:3 | 7 COPY --from alpine:3",
		"image docker.io/library/tools:latest linux/amd64 | 8 RUN --mount tools",
		"http https://example.com/3  | 5 ADD https://example.com/$V",
		"image docker.io/library/alpine:3 linux/arm64 | 3 FROM alpine:$V | 6 FROM alpine:3 | 7 COPY --from alpine:3",
		"image docker.io/library/tools:latest linux/arm64 | 8 RUN --mount tools",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
