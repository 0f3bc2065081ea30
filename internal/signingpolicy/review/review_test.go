package review_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/hmtest/gitrepo"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/review"
)

func of(t testing.TB, l git.Location, base, head string) *review.Review {
	t.Helper()
	r, why, err := git.OpenRepository(context.Background(), l)
	if why != nil || err != nil {
		t.Fatal(why, err)
	}
	defer r.Close()
	got, err := review.Of(context.Background(), r, base, head)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestOf: what git says of the same two commits.
func TestOf(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"sha1", "sha256"} {
		repo := gitrepo.New(t, format)
		for name, text := range map[string]string{
			"go.mod": "module x\n\ngo 1.26\n\nrequire (\n\ta.example/a v1.0.0\n\tb.example/b v1.0.0 // indirect\n)\n", "src/main.go": "package main\n\nfunc main() {\n}\n",
			"gone": "1\n2\n", "image.png": "\x89PNG\x00\x00", "run.sh": "#!/bin/sh\n", "turns/file": "x\n", "becomes": "y\n",
			"Dockerfile": "FROM golang:1.26 AS build\nRUN go build\nFROM scratch\nCOPY --from=build /x /x\n", "same": "s\n",
			"web/package.json": `{"dependencies":{"left-pad":"1.0.0"}}`, "requirements.txt": "requests==2.0\n",
		} {
			repo.Write(name, text)
		}
		base := repo.Commit("base")
		repo.Git("rm", "-q", "gone", "turns/file", "becomes")
		for name, text := range map[string]string{
			"go.mod":      "module x\n\ngo 1.26\n\nrequire (\n\ta.example/a v1.1.0\n\tb.example/b v1.0.0\n)\nrequire c.example/c v0.1.0\nreplace b.example/b => ../evil\n",
			"src/main.go": "package main\n\nfunc main() {\n\tprintln()\n}\n", "image.png": "\x89PNG\x00\x01", "turns": "x\n", "becomes/a/file": "y\n",
			"Dockerfile":               "# syntax=docker/dockerfile:1\nFROM golang:1.26 AS build\nRUN go build\nFROM --platform=linux/amd64 evil.example:5000/base:1@sha256:00\nCOPY --from=build /x /x\nCOPY --from=busybox:1 /bin /bin\n",
			"web/package.json":         `{"dependencies":{"left-pad":"1.0.1","right-pad":"^2"},"devDependencies":{"x":"git+ssh://y"}}`,
			"requirements.txt":         "# c\nrequests[socks] >= 2.1 ; python_version > '3' --hash=sha256:aa\nRequests==2.0\n-r more.txt\nfoo @ https://evil.example/x.whl\n",
			".github/workflows/ci.yml": "on: push\n", "deep/action.yml": "name: x\n", "evil\x1b[2Jname\u202e": "z\n",
		} {
			repo.Write(name, text)
		}
		repo.Git("update-index", "--chmod=+x", "run.sh")
		repo.Git("update-index", "--add", "--cacheinfo", "160000,"+base+",module")
		repo.Commit("one")
		head := repo.Commit("two")
		repo.Git("config", "uploadpack.allowAnySHA1InWant", "true")
		for _, l := range []git.Location{{Path: repo.Dir}, serve(t, repo)} {
			got := of(t, l, base, head)
			if !got.Range.Known || !got.Range.IsAncestor || got.Range.Count != 2 || !reflect.DeepEqual(got.Authors, []review.Author{{Name: "Ann Author", Email: "ann@example.com", Commits: 2}}) {
				t.Errorf("%+v %+v", got.Range, got.Authors)
			}
			var files []string
			for _, f := range got.Files {
				files = append(files, fmt.Sprintf("%s %s %d %d %v %s", f.Path, f.Status, f.Added, f.Removed, f.Binary, f.Mode))
			}
			want := `.github/workflows/ci.yml added 1 0 false 
Dockerfile changed 3 1 false 
becomes removed 0 1 false 
becomes/a/file added 1 0 false 
deep/action.yml added 1 0 false 
evil` + "\uFFFD[2Jname\uFFFD" + ` added 1 0 false 
go.mod changed 3 1 false 
gone removed 0 2 false 
image.png changed 0 0 true 
module added 0 0 false 160000
requirements.txt changed 5 1 false 
run.sh mode 0 0 false 100755
src/main.go changed 1 0 false 
turns added 1 0 false 
turns/file removed 0 1 false 
web/package.json changed 1 1 false `
			wantMore := strings.Replace(want, "go.mod changed 3 1", "go.mod changed 4 2", 1)
			if text := strings.Join(files, "\n"); text != want && text != wantMore {
				t.Errorf("%s\nwant\n%s", text, want)
			}
			if fmt.Sprint(got.Workflows) != "[.github/workflows/ci.yml deep/action.yml]" || got.Uncounted != 1 || got.FilesTotal != 16 || len(got.Unread) != 0 {
				t.Errorf("%v %d %d %v", got.Workflows, got.Uncounted, got.FilesTotal, got.Unread)
			}
			var packages []string
			for _, p := range got.NewPackages {
				packages = append(packages, fmt.Sprintf("%s %s %s %q was %q %v", p.Manifest, p.System, p.Name, strings.ReplaceAll(p.Version, base, "BASE"), p.Was, p.New))
			}
			wantPackages := `Dockerfile image busybox "1" was "" true
Dockerfile image docker/dockerfile "1" was "" true
Dockerfile image evil.example:5000/base "1@sha256:00" was "" true
go.mod go a.example/a "v1.1.0" was "v1.0.0" false
go.mod go b.example/b (replaced) "../evil" was "" true
go.mod go c.example/c "v0.1.0" was "" true
module submodule module "BASE" was "" true
requirements.txt pypi -r more.txt "" was "" true
requirements.txt pypi foo "@ https://evil.example/x.whl" was "" true
requirements.txt pypi requests[socks] ">= 2.1 ; python_version > '3'" was "" true
web/package.json npm left-pad "1.0.1" was "1.0.0" false
web/package.json npm right-pad "^2" was "" true
web/package.json npm x "git+ssh://y" was "" true`
			if text := strings.Join(packages, "\n"); text != wantPackages {
				t.Errorf("%s\nwant\n%s", text, wantPackages)
			}
			// git's own counts.
			added, removed := 0, 0
			for line := range strings.Lines(repo.Git("diff", "--numstat", "--no-renames", base, head)) {
				var a, r int
				if n, _ := fmt.Sscanf(line, "%d\t%d", &a, &r); n == 2 && !strings.Contains(line, "\tmodule") {
					added, removed = added+a, removed+r
				}
			}
			if got.Added != added || got.Removed != removed {
				t.Errorf("+%d -%d, git says +%d -%d", got.Added, got.Removed, added, removed)
			}
			all := of(t, l, "", head)
			if all.FilesTotal != 14 || all.Range.Count != 3 || all.Range.IsAncestor {
				t.Errorf("%d files, %+v", all.FilesTotal, all.Range)
			}
		}
	}
}

func serve(t testing.TB, repo *gitrepo.Repo) git.Location {
	t.Helper()
	l, err := git.ParseLocation(gitrepo.Serve(t, repo), false)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestLinesAgainstGit: as many lines as git diff counts with its most careful algorithm.
func TestLinesAgainstGit(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	repo := gitrepo.New(t, "sha1")
	text := func() string {
		var b strings.Builder
		for range random.IntN(60) {
			fmt.Fprintf(&b, "%d\n", random.IntN(12))
		}
		if random.IntN(4) == 0 {
			b.WriteString("no line feed")
		}
		return b.String()
	}
	for i := range 60 {
		repo.Write(fmt.Sprint("f", i), text())
	}
	base := repo.Commit("base")
	for i := range 60 {
		repo.Write(fmt.Sprint("f", i), text())
	}
	head := repo.Commit("head")
	got := of(t, git.Location{Path: repo.Dir}, base, head)
	counts := map[string][2]int{}
	for _, f := range got.Files {
		counts[f.Path] = [2]int{f.Added, f.Removed}
	}
	for line := range strings.Lines(repo.Git("diff", "--numstat", "--minimal", "--no-renames", base, head)) {
		var a, r int
		var name string
		if _, err := fmt.Sscanf(line, "%d\t%d\t%s", &a, &r, &name); err != nil {
			t.Fatal(err)
		}
		if counts[name] != [2]int{a, r} {
			t.Errorf("%s: %v, git says %d %d", name, counts[name], a, r)
		}
	}
}

// TestLargeChanges: files whose lines are all different, and too large ones, are bounded.
func TestLargeChanges(t *testing.T) {
	t.Parallel()
	repo := gitrepo.New(t, "sha1")
	lines := func(prefix string, n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintln(&b, prefix, i)
		}
		return b.String()
	}
	repo.Write("many", lines("a", 20_000))
	repo.Write("large", strings.Repeat("x", 2<<20))
	base := repo.Commit("base")
	repo.Write("many", lines("b", 10_000)+lines("a", 5))
	repo.Write("large", strings.Repeat("y", 2<<20))
	repo.Write("package.json", `{"dependencies":{"a":"1"},`)
	repo.Write("sub/go.mod", strings.Repeat("// x\n", 200_000))
	got := of(t, git.Location{Path: repo.Dir}, base, repo.Commit("head"))
	if got.Files[0].Path != "large" || !got.Files[0].Binary || got.Files[1].Added != 10_000 || got.Files[1].Removed != 19_995 {
		t.Errorf("%+v", got.Files)
	}
	if fmt.Sprint(got.Unread) != "[package.json sub/go.mod]" {
		t.Errorf("%v", got.Unread)
	}
}

// TestRunsNothing of a repository that is set up against whoever compares its commits.
func TestRunsNothing(t *testing.T) {
	t.Parallel()
	repo := gitrepo.New(t, "sha1")
	sentinel := filepath.Join(t.TempDir(), "ran")
	repo.Write(".gitattributes", "* diff=evil filter=evil\n")
	repo.Write("go.mod", "module x\n")
	base := repo.Commit("base")
	repo.Write("go.mod", "module x\n\nrequire a.example v1.0.0\n")
	head := repo.Commit("head")
	for _, k := range []string{"diff.evil.textconv", "diff.evil.command", "diff.external", "filter.evil.smudge", "filter.evil.process", "core.fsmonitor", "core.pager"} {
		repo.Git("config", k, "touch "+sentinel+"; cat")
	}
	if got := of(t, git.Location{Path: repo.Dir}, base, head); len(got.NewPackages) != 1 {
		t.Errorf("%+v", got)
	}
	if _, err := os.Stat(sentinel); err == nil {
		t.Error("the repository made us run its command")
	}
}

func TestIsWorkflow(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		".github/workflows/a.yml": true, ".gitlab-ci.yml": true, "Jenkinsfile": true, "x/action.yaml": true, ".hallmark/signing.rego": true,
		".github/CODEOWNERS": false, "docs/.github/workflows/a.yml": false, "src/Jenkinsfile": false, ".github/workflows": false,
	} {
		if review.IsWorkflow(name) != want {
			t.Error(name)
		}
	}
}

// FuzzManifests: nothing in a manifest ends the review, or gets to a terminal.
func FuzzManifests(f *testing.F) {
	f.Add("require (\na v1\n)\nreplace a => b\n")
	f.Add(`{"dependencies":{"a":"1"}}`)
	f.Add("FROM --x a:1@b AS c\nCOPY --from=c x y\nRUN --mount=from=d,x=y\n#syntax=a\n")
	f.Add("a[b]>=1 # c\n-r x\n\\\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, name := range []string{"go.mod", "package.json", "requirements-dev.txt", "Dockerfile.x"} {
			objects := one{name, text}
			got, err := review.Compare(context.Background(), objects, "", "tree")
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range got.NewPackages {
				if strings.ContainsAny(p.Name+p.Version+p.Was, "\x00\x1b\n\r\x7f") {
					t.Errorf("%+v", p)
				}
			}
		}
	})
}

// one is a tree of one file.
type one struct{ name, text string }

func (o one) Tree(string) ([]git.Entry, error) {
	return []git.Entry{{Mode: "100644", Name: o.name, ID: "blob"}}, nil
}
func (o one) Blob(_ string, limit int64) ([]byte, int64, error) {
	if int64(len(o.text)) > limit {
		return nil, int64(len(o.text)), nil
	}
	return []byte(o.text), int64(len(o.text)), nil
}
