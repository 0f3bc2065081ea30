package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/hmtest/testimage"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// scriptAuthority is the verb "authority": a whole authority on loopback until
// the script ends. It sets REG (host:port), ISSUER, TUF, TUF_SHA256, HALLMARK_TRUSTED_ROOT and
// HALLMARK_SIGNING_CONFIG, and for each name given a file NAME.token with an
// identity token for NAME@example.com.
func scriptAuthority(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: authority NAME...")
	}
	startScriptAuthority(ts, authority.Config{}, args)
}

func startScriptAuthority(ts *testscript.TestScript, cfg authority.Config, names []string) {
	cfg.Dir, cfg.Listen = ts.MkAbs("authority"), "127.0.0.1:0"
	a, err := authority.Open(cfg)
	ts.Check(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Serve(ctx) }()
	ts.Defer(func() {
		cancel()
		ts.Check(<-done)
		ts.Check(a.Close())
	})
	i := a.Info()
	for name, value := range map[string]string{
		"REG": i.Registry, "ISSUER": i.URL, "TUF": i.TUF, "TUF_SHA256": i.TUFRootSHA256, cli.EnvTrustedRoot: i.TrustedRoot, cli.EnvSigningConfig: i.SigningConfig,
	} {
		ts.Setenv(name, value)
	}
	for _, name := range names {
		token, err := a.Mint(name + "@example.com")
		ts.Check(err)
		ts.Check(os.WriteFile(ts.MkAbs(name+".token"), []byte(token), 0o600))
	}
}

// scriptImage is the verb "image NAME...": it pushes an image of its own to
// $REG/NAME:v1 and sets the upper-case NAME to its reference by digest.
func scriptImage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: image NAME...")
	}
	for _, name := range args {
		pushScriptImage(ts, name, "v1", name, nil)
	}
}

// scriptIndex is the verb "index NAME": it pushes an index of two platforms and
// a BuildKit-like attestation manifest to $REG/NAME:v1 and sets the upper-case
// NAME, NAME_AMD64, NAME_ARM64 and NAME_ATT.
func scriptIndex(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: index NAME")
	}
	name := args[0]
	upper := strings.ToUpper(name)
	var all []ocispec.Descriptor
	for _, arch := range []string{"amd64", "arm64", "att"} {
		d := pushScriptImage(ts, name, arch, name+arch, &ocispec.Platform{OS: "linux", Architecture: arch})
		ts.Setenv(upper+"_"+strings.ToUpper(arch), ts.Getenv("REG")+"/"+name+"@"+d.Digest.String())
		if arch == "att" {
			d.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
			d.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": all[0].Digest.String()}
		}
		all = append(all, d)
	}
	ref, err := registry.ParseRef(ts.Getenv("REG") + "/" + name + ":v1")
	ts.Check(err)
	d, err := testimage.PushIndex(context.Background(), registry.NewClient(registry.Options{}), ref, all...)
	ts.Check(err)
	ts.Setenv(upper, ts.Getenv("REG")+"/"+name+"@"+d.Digest.String())
}

func pushScriptImage(ts *testscript.TestScript, name, tag, content string, platform *ocispec.Platform) ocispec.Descriptor {
	ref, err := registry.ParseRef(ts.Getenv("REG") + "/" + name + ":" + tag)
	ts.Check(err)
	img := testimage.Image{Layers: [][]testimage.File{{{Path: "content", Data: []byte(content)}}}}
	if platform != nil {
		img.OS, img.Arch = platform.OS, platform.Architecture
	}
	d, err := testimage.Push(context.Background(), registry.NewClient(registry.Options{}), ref, img)
	ts.Check(err)
	d.Platform = platform
	ts.Setenv(strings.ToUpper(name), ts.Getenv("REG")+"/"+name+"@"+d.Digest.String())
	ts.Setenv(strings.ToUpper(name)+"_DIGEST", d.Digest.String())
	return d
}

// scriptTool is the verb "tool NAME...": it sets the upper-case NAME to the path
// of a program that make tools builds.
func scriptTool(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: tool NAME...")
	}
	dir := os.Getenv("HALLMARK_TOOLS")
	if dir == "" {
		home, err := os.UserHomeDir()
		ts.Check(err)
		dir = filepath.Join(home, ".cache", "hallmark", "tools", "bin")
	}
	for _, name := range args {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err != nil {
			ts.Fatalf("%s is not there: run make tools", path)
		}
		ts.Setenv(strings.ToUpper(name), path)
	}
}
