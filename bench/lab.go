package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/hmtest/testimage"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// lab is an authority with a registry, a token and keys, on loopback; both
// sides of every comparison use the same one.
type lab struct {
	up        *exec.Cmd
	authority struct {
		URL           string `json:"url"`
		Registry      string `json:"registry"`
		Issuer        string `json:"issuer"`
		TUF           string `json:"tuf"`
		TrustedRoot   string `json:"trusted_root"`
		SigningConfig string `json:"signing_config"`
	}
	client *registry.Client
	data   string // folder of the authority
	token  string // file
	images int
}

const identity = "bench@example.com"

func (b *bench) openLab(ctx context.Context) (l *lab, err error) {
	l = &lab{client: registry.NewClient(registry.Options{})}
	data := filepath.Join(b.dir, "authority")
	l.data = data
	l.up = exec.CommandContext(ctx, b.hallmark, "up", "--data", data, "--listen", "127.0.0.1:0", "--json")
	l.up.Env, l.up.Stderr = b.env, os.Stderr
	out, err := l.up.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := l.up.Start(); err != nil {
		return nil, err
	}
	up := l
	defer func() {
		if err != nil { // it would go on without us
			up.close()
		}
	}()
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("hallmark up did not become ready: %w", err)
	}
	if err := json.Unmarshal(line, &l.authority); err != nil {
		return nil, err
	}
	b.env = append(b.env,
		"HALLMARK_TRUSTED_ROOT="+l.authority.TrustedRoot,
		"HALLMARK_SIGNING_CONFIG="+l.authority.SigningConfig)
	token, err := b.output(ctx, b.hallmark, "token", "--data", data, "--email", identity)
	if err != nil {
		return nil, err
	}
	l.token = filepath.Join(b.dir, "token")
	if err := os.WriteFile(l.token, []byte(strings.TrimSpace(token)), 0o600); err != nil {
		return nil, err
	}
	for _, args := range [][]string{
		{"generate-key-pair", "--output-key-prefix", filepath.Join(b.dir, "bench")},
		{"signing-config", "create", "--out", filepath.Join(b.dir, "none.json")},
	} {
		if _, err := b.output(ctx, b.cosign, args...); err != nil {
			return nil, err
		}
	}
	return l, nil
}

func (b *bench) output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env, cmd.Dir = b.env, b.dir
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, exit.Stderr)
	}
	return string(out), err
}

func (l *lab) close() {
	_ = l.up.Process.Signal(os.Interrupt)
	time.AfterFunc(5*time.Second, func() { _ = l.up.Process.Kill() })
	_ = l.up.Wait()
}

// newImage pushes a small image that nobody has signed yet and names it by digest.
func (l *lab) newImage(ctx context.Context) (string, error) {
	l.images++
	ref, err := registry.ParseRef(fmt.Sprintf("%s/bench/app:%d", l.authority.Registry, l.images))
	if err != nil {
		return "", err
	}
	desc, err := testimage.Push(ctx, l.client, ref, testimage.Image{
		Layers: [][]testimage.File{{{Path: "n", Data: fmt.Appendln(nil, l.images)}}},
	})
	return ref.Name() + "@" + desc.Digest.String(), err
}
