package trusted_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/build/trusted"
	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

const entry = `{"repository": "docker.io/docker/dockerfile", "identities": ["https://ci.example/bake.yml@refs/tags/v1", "https://ci.example/bake.yml@refs/tags/v2"],
	"issuer": "https://tokens.example", "sourceRepository": "https://git.example/moby/buildkit", "ref": "refs/tags/dockerfile/*", "trustedRoot": "public"}`

// signedFile is a builder file with entries of signed, and a scanner.
func signedFile(scanner string, entries ...string) []byte {
	sum := strings.Repeat("a", 64)
	return fmt.Appendf(nil, `{"version": 1, "buildkitd": [{"version": "v0.33.1", "sha256": %q}], "runc": [{"version": "1.1.5", "sha256": %q}], "scanner": %q, "signed": [%s]}`,
		sum, sum, scanner, strings.Join(entries, ","))
}

// TestSignedFile: an entry says who, for what, and under which trust, or the file is refused.
func TestSignedFile(t *testing.T) {
	t.Parallel()
	b, err := trusted.ParseBuilder(signedFile("docker/dockerfile:1.9", entry))
	if err != nil || len(b.Signed) != 1 || b.Signed[0].Root != nil || b.Scanner != "docker.io/docker/dockerfile:1.9" {
		t.Fatalf("%v %+v", err, b)
	}
	for name, change := range map[string][2]string{
		"a tag":               {`docker/dockerfile"`, `docker/dockerfile:1"`},
		"not a whole name":    {`docker.io/docker/dockerfile"`, `docker/dockerfile"`},
		"a pattern":           {`docker.io/docker/dockerfile"`, `docker.io/docker/*"`},
		"nobody":              {`["https://ci.example/bake.yml@refs/tags/v1", "https://ci.example/bake.yml@refs/tags/v2"]`, `[]`},
		"an empty name":       {`"https://ci.example/bake.yml@refs/tags/v2"`, `""`},
		"no issuer":           {`"https://tokens.example"`, `""`},
		"no source":           {`"https://git.example/moby/buildkit"`, `"moby/buildkit"`},
		"a branch":            {`refs/tags/dockerfile/*`, `refs/heads/*`},
		"no version":          {`dockerfile/*"`, `dockerfile/1"`},
		"two versions":        {`dockerfile/*"`, `*/*"`},
		"no trust":            {`"public"`, `""`},
		"another trust":       {`"public"`, `"private"`},
		"trust that is none":  {`"public"`, `{}`},
		"an unknown member":   {`"issuer"`, `"Issuer"`},
		"trust is left out":   {`, "trustedRoot": "public"`, ``},
		"the ref is left out": {`"ref": "refs/tags/dockerfile/*", `, ``},
	} {
		changed := strings.Replace(entry, change[0], change[1], 1)
		if changed == entry {
			t.Fatalf("%s: nothing changed", name)
		}
		if b, err := trusted.ParseBuilder(signedFile("", changed)); err == nil {
			t.Errorf("%s: %+v", name, b.Signed[0])
		}
	}
	if _, err := trusted.ParseBuilder(signedFile("", entry, entry)); err == nil {
		t.Error("twice the same repository")
	}
	for _, scanner := range []string{"docker/dockerfile:latest", "docker/dockerfile", "docker/scanner:1.9", "docker/dockerfile:1.9@sha256:12"} {
		if b, err := trusted.ParseBuilder(signedFile(scanner, entry)); err == nil {
			t.Errorf("the scanner %s: %+v", scanner, b)
		}
	}
}

// TestSignedFrontend: a release by its tag is one to be looked at; anything else is denied.
func TestSignedFrontend(t *testing.T) {
	t.Parallel()
	b, err := trusted.ParseBuilder(signedFile("", entry))
	if err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"docker/dockerfile:1":                                      "built in",
		"docker/dockerfile:1.27":                                   "built in",
		"docker/dockerfile:1.28":                                   "docker.io/docker/dockerfile:1.28",
		"docker.io/docker/dockerfile:1.28.1":                       "docker.io/docker/dockerfile:1.28.1",
		"docker/dockerfile:2":                                      "docker.io/docker/dockerfile:2",
		"docker/dockerfile:1.28-labs":                              "docker.io/docker/dockerfile:1.28-labs",
		"docker/dockerfile:latest":                                 "denied",
		"docker/dockerfile":                                        "denied",
		"docker/dockerfile:01.28":                                  "denied",
		"docker/dockerfile:1.28.1.1":                               "denied",
		"docker/dockerfile:1.28-rc1":                               "denied",
		"docker/dockerfile:1.28 --more":                            "denied",
		"docker/dockerfile-upstream:1.28":                          "denied",
		"example.com/docker/dockerfile:1.28":                       "denied",
		"docker/dockerfile:1.28@sha256:" + strings.Repeat("a", 64): "denied", // the digest is not in frontends
	} {
		f, why := b.Frontend("Dockerfile", []byte("# syntax="+line+"\nFROM scratch\n"))
		got := f.Image
		switch {
		case why != nil:
			got = "denied"
		case got == "" && f.Syntax != "":
			got = "built in"
		}
		if got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}

// TestReleaseBy: every part of a signer counts, and the git ref must be of the tag's line.
func TestReleaseBy(t *testing.T) {
	t.Parallel()
	b, err := trusted.ParseBuilder(signedFile("", entry))
	if err != nil {
		t.Fatal(err)
	}
	ok := sourcepolicy.Signer{SubjectAlternativeName: "https://ci.example/bake.yml@refs/tags/v2", Issuer: "https://tokens.example",
		SourceRepositoryURI: "https://git.example/moby/buildkit", SourceRepositoryRef: "refs/tags/dockerfile/1.28.1"}
	by := func(s *sourcepolicy.Signer, tag string) bool {
		_, found := b.Signed[0].By([]sourcepolicy.Signature{{}, {Signer: s}}, tag)
		return found
	}
	for name, change := range map[string]func(*sourcepolicy.Signer){
		"identity":   func(s *sourcepolicy.Signer) { s.SubjectAlternativeName += "0" },
		"issuer":     func(s *sourcepolicy.Signer) { s.Issuer += "/" },
		"repository": func(s *sourcepolicy.Signer) { s.SourceRepositoryURI += "2" },
		"branch":     func(s *sourcepolicy.Signer) { s.SourceRepositoryRef = "refs/heads/dockerfile/1.28.1" },
		"other tag":  func(s *sourcepolicy.Signer) { s.SourceRepositoryRef = "refs/tags/v1.28.1" },
		"no ref":     func(s *sourcepolicy.Signer) { s.SourceRepositoryRef = "" },
	} {
		s := ok
		change(&s)
		if by(&s, "1.28.1") {
			t.Errorf("another %s counts", name)
		}
	}
	for tag, want := range map[string]bool{"1": true, "1.28": true, "1.28.1": true, "1.2": false, "1.28.10": false, "1.28.1.0": false, "2": false, "1-labs": false, "1.28.1-labs": false} {
		if by(&ok, tag) != want {
			t.Errorf("%s: %t", tag, !want)
		}
	}
	ok.SourceRepositoryRef = "refs/tags/dockerfile/1.28.1-labs"
	if !by(&ok, "1.28-labs") || by(&ok, "1.28") {
		t.Error("labs and no labs are taken for each other")
	}
	tool, found := b.Signed[0].By([]sourcepolicy.Signature{{Signer: &ok}}, "1-labs")
	if data, err := json.Marshal(tool); err != nil || !found || !strings.Contains(string(data), "moby/buildkit#refs/tags/dockerfile/1.28.1-labs") {
		t.Errorf("%s %v", data, err)
	}
	if ref, err := registry.ParseRef("docker/dockerfile:1"); err != nil || b.Release(ref) == nil {
		t.Errorf("%v", err)
	}
}

func FuzzSignedFile(f *testing.F) {
	f.Add(signedFile("", entry))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := trusted.ParseBuilder(data)
		if err != nil {
			return
		}
		for _, r := range b.Signed {
			if len(r.Identities) == 0 || r.Issuer == "" || r.SourceRepository == "" || !strings.HasPrefix(r.Ref, "refs/tags/") {
				t.Fatalf("%+v", r)
			}
		}
	})
}
