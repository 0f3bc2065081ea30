package registry_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

const hex64 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

func TestParseRef(t *testing.T) {
	t.Parallel()
	reg := func(host, repo, tag, digest string) registry.Ref {
		r := registry.Ref{Scheme: registry.SchemeRegistry, Host: host, Repository: repo, Tag: tag}
		if digest != "" {
			r = r.WithDigest("sha256:" + hex64)
			r.Tag = tag
		}
		return r
	}
	layout := func(dir, tag string, digest bool) registry.Ref {
		r := registry.Ref{Scheme: registry.SchemeLayout, Dir: dir, Tag: tag}
		if digest {
			r.Digest = "sha256:" + hex64
		}
		return r
	}
	for in, want := range map[string]registry.Ref{
		"busybox":                             reg("docker.io", "library/busybox", "latest", ""),
		"busybox:1.36":                        reg("docker.io", "library/busybox", "1.36", ""),
		"busybox@sha256:" + hex64:             reg("docker.io", "library/busybox", "", "d"),
		"docker.io/busybox":                   reg("docker.io", "library/busybox", "latest", ""),
		"index.docker.io/org/app":             reg("docker.io", "org/app", "latest", ""),
		"org/app:v1":                          reg("docker.io", "org/app", "v1", ""),
		"localhost/app":                       reg("localhost", "app", "latest", ""),
		"localhost:5000/app":                  reg("localhost:5000", "app", "latest", ""),
		"127.0.0.1:8420/a/b/c:x":              reg("127.0.0.1:8420", "a/b/c", "x", ""),
		"[::1]:8420/app:x":                    reg("[::1]:8420", "app", "x", ""),
		"GHCR.io/org/app:V1_2.3-x":            reg("ghcr.io", "org/app", "V1_2.3-x", ""),
		"ghcr.io/org/app:v1@sha256:" + hex64:  reg("ghcr.io", "org/app", "v1", "d"),
		"r.example/a--b/c__d/e.f_g":           reg("r.example", "a--b/c__d/e.f_g", "latest", ""),
		"oci:dir":                             layout("dir", "", false),
		"oci:/tmp/x/dir:v1":                   layout("/tmp/x/dir", "v1", false),
		"oci:./a:b/dir":                       layout("./a:b/dir", "", false),
		"oci:dir@sha256:" + hex64:             layout("dir", "", true),
		"oci:dir:v1@sha256:" + hex64:          layout("dir", "v1", true),
		"a.b/" + strings.Repeat("x", 255):     reg("a.b", strings.Repeat("x", 255), "latest", ""),
		"a.b/c:" + strings.Repeat("t", 128):   reg("a.b", "c", strings.Repeat("t", 128), ""),
		"registry.example.com:65535/x/y:0.01": reg("registry.example.com:65535", "x/y", "0.01", ""),
	} {
		got, err := registry.ParseRef(in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", in, d)
		}
		again, err := registry.ParseRef(got.String())
		if err != nil || again != got {
			t.Errorf("%s: String %s reads as %v, %v", in, got, again, err)
		}
	}
}

// Each of these is one step away from a reference that is accepted.
func TestParseRefNearMisses(t *testing.T) {
	t.Parallel()
	for in, why := range map[string]string{
		"":                         "empty",
		" busybox":                 "space",
		"busybox\n":                "space",
		"busy\u0007box":            "control",
		"bus\xffybox":              "UTF-8",
		"https://ghcr.io/org/app":  "leave out https://",
		"docker://ghcr.io/org/app": "leave out docker://",
		"Busybox":                  "upper-case",
		"ghcr.io/Org/app":          "upper-case",
		"ghcr.io/org//app":         "empty",
		"ghcr.io/org/app/":         "empty",
		"/app":                     "", // docker.io//app
		"ghcr.io/org/-app":         "begins",
		"ghcr.io/org/app-":         "ends",
		"ghcr.io/org/a..b":         "separator",
		"ghcr.io/org/a___b":        "separator",
		"ghcr.io/org/a._b":         "separator",
		"ghcr.io/org/a%2fb":        "character",
		"ghcr.io/../app":           "begins",
		"ghcr.io/org/app:":         "tag is empty",
		"ghcr.io/org/app:.x":       "tag",
		"ghcr.io/org/app:-x":       "tag",
		"ghcr.io/org/app:a+b":      "tag",
		"ghcr.io/org/app:" + strings.Repeat("t", 129):          "128",
		"ghcr.io/" + strings.Repeat("x", 256):                  "255",
		"ghcr.io/org/app@":                                     "digest",
		"ghcr.io/org/app@sha256":                               "digest",
		"ghcr.io/org/app@sha256:" + hex64[1:]:                  "64",
		"ghcr.io/org/app@sha256:" + hex64 + "0":                "64",
		"ghcr.io/org/app@sha256:" + strings.ToUpper(hex64):     "lower-case",
		"ghcr.io/org/app@md5:" + hex64[:32]:                    "sha256",
		"ghcr.io/org/app@sha256:" + hex64 + "@sha256:" + hex64: "64",
		"127.0.0.1:5000":                                       "no repository name",
		"ghcr.io:0/app":                                        "port",
		"ghcr.io:65536/app":                                    "port",
		"ghcr.io:080/app":                                      "port",
		"ghcr.io:/app":                                         "port",
		"user@ghcr.io/app":                                     "digest",
		"-ghcr.io/app":                                         "host name",
		"ghcr..io/app":                                         "host name",
		"ghcr.io./app":                                         "host name",
		"gh_cr.io/app":                                         "host name",
		"[::1/app":                                             "brackets",
		"[::1%25lo]/app":                                       "brackets",
		"[127.0.0.1]/app":                                      "brackets",
		"ghcr.io/org/app:v1:v2":                                "character",
		"oci:":                                                 "no folder",
		"oci::v1":                                              "no folder",
		"oci:dir:":                                             "tag is empty",
		"oci:dir:a b":                                          "space",
		"oci:dir@v1":                                           "digest",
	} {
		ref, err := registry.ParseRef(in)
		if err == nil {
			t.Errorf("%q was read as %v", in, ref)
			continue
		}
		if !strings.Contains(err.Error(), why) {
			t.Errorf("%q: error %q does not say %q", in, err, why)
		}
		if fault.KindOf(err) != fault.Usage {
			t.Errorf("%q: not a usage error", in)
		}
	}
}

func FuzzParseRef(f *testing.F) {
	for _, s := range []string{"busybox", "a.b:1/c/d:e@sha256:" + hex64, "oci:d:t", "oci:d@sha256:" + hex64, "[::1]:5/x", "localhost/x", "A/b", "x:y:z", "@", ":", "/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ref, err := registry.ParseRef(s)
		if err != nil {
			return
		}
		again, err := registry.ParseRef(ref.String())
		if err != nil || again != ref {
			t.Fatalf("%q -> %#v -> %q -> %#v, %v", s, ref, ref.String(), again, err)
		}
	})
}
