package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hallmark-dev/hallmark/internal/build/daemon"
)

// Source policies beside docker buildx, whole processes. buildx asks a BuildKit daemon
// about images, which is started for it and has seen the image before; ours asks the
// registry. Decisions in process and builds are measured in test/buildx.

const policyTests = 100

// policies measures a policy's tests, and a question about an image that is named by digest.
func (b *bench) policies(ctx context.Context) ([]row, error) {
	folder, err := b.policyFolder()
	if err != nil {
		return nil, err
	}
	kit, err := daemon.Start(ctx, daemon.Config{Tools: filepath.Dir(b.buildx)})
	if err != nil {
		return nil, err
	}
	defer func() { _ = kit.Stop() }()
	// Both read policies from the folder that they are in.
	ours := inFolder(folder, b.hallmark, "policy")
	peer := inFolder(folder, b.buildx, "--builder", "bench", "policy")
	if _, err := b.output(ctx, b.buildx, "create", "--name", "bench", "--driver", "remote", kit.Address); err != nil {
		return nil, err
	}
	var rows []row
	pair := func(what, aim string, a, p []string) error {
		x, y, err := b.pairs(ctx, 2*b.runs, ours(a...), peer(p...))
		rows = append(rows, row{what + ", wall", of(x, wall), of(y, wall), "ms", aim}, row{what + ", processor", of(x, cpu), of(y, cpu), "ms", ""})
		return err
	}
	if err := pair(fmt.Sprintf("policy test, %d tests", policyTests), "<= 100 ms", []string{"test", "."}, []string{"test", "."}); err != nil {
		return nil, err
	}
	image, err := b.lab.newImage(ctx)
	if err != nil {
		return nil, err
	}
	err = pair("policy eval, an image by digest", "<= 60 ms", []string{"eval", "-f", "eval/Dockerfile.rego", image}, []string{"eval", "-f", "eval/Dockerfile", "docker-image://" + image})
	return rows, err
}

// policyFolder has a policy with its tests, and one that asks for an image's configuration.
func (b *bench) policyFolder() (string, error) {
	folder := filepath.Join(b.dir, "policies")
	if err := os.MkdirAll(filepath.Join(folder, "eval"), 0o700); err != nil {
		return "", err
	}
	var tests bytes.Buffer
	fmt.Fprintln(&tests, "package docker")
	for i := range policyTests {
		fmt.Fprintf(&tests, "test_%d if decision.allow with input as {\"image\": {\"repo\": \"alpine\", \"tag\": \"%d\"}}\n", i, i)
	}
	const policy = "package docker\ndefault allow := false\nallow if input.local\nallow if input.image.%s\ndecision := {\"allow\": allow}\n"
	for name, text := range map[string]string{
		"Dockerfile.rego":      fmt.Sprintf(policy, `repo == "alpine"`),
		"Dockerfile_test.rego": tests.String(),
		"eval/Dockerfile.rego": fmt.Sprintf(policy, `os == "linux"`),
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	return folder, nil
}

// inFolder runs a program in a folder, at the cost of a shell for either side.
func inFolder(folder, name string, first ...string) func(...string) command {
	return func(more ...string) command {
		args := append([]string{"-c", `cd "$0" && exec "$@"`, folder, name}, first...)
		return always("/bin/sh", append(args, more...))
	}
}

func cpu(u usage) float64 { return u.CPU }
