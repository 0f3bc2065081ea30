package main

import (
	"context"
	"os"
	"path/filepath"
	"time"
)

// start measures what every call pays: the process itself.
func (b *bench) start(ctx context.Context) ([]row, error) {
	fixed := func(name string) command {
		return func(int) (string, []string, error) { return name, []string{"version"}, nil }
	}
	a, p, err := b.pairs(ctx, 2*b.runs, fixed(b.hallmark), fixed(b.cosign))
	return []row{
		{"version, wall", of(a, wall), of(p, wall), "ms", "<= 15 ms, <= 0.55"},
		{"version, peak memory", of(a, rss), of(p, rss), "MB", "<= 34 MB"},
	}, err
}

func (b *bench) size(context.Context) ([]row, error) {
	ours, err := os.Stat(b.hallmark)
	if err != nil {
		return nil, err
	}
	peer, err := os.Stat(b.cosign)
	if err != nil {
		return nil, err
	}
	return []row{{"binary, stripped", sample{float64(ours.Size()) / 1e6}, sample{float64(peer.Size()) / 1e6}, "MB", "< 45 MB"}}, nil
}

// keyless signs a new image each time, with certificate, timestamp and log
// entry, against the same authority.
func (b *bench) keyless(ctx context.Context) ([]row, error) {
	sign := func(name string, extra ...string) command {
		return func(int) (string, []string, error) {
			image, err := b.lab.newImage(ctx)
			return name, append(append([]string{"sign", "--identity-token", b.lab.token}, extra...), image), err
		}
	}
	// Both are given the services and the trust as files, so that neither pays for TUF.
	files := []string{"--signing-config", b.lab.authority.SigningConfig, "--trusted-root", b.lab.authority.TrustedRoot}
	a, p, err := b.pairs(ctx, b.runs, sign(b.hallmark, files...), sign(b.cosign, append(files, "--yes")...))
	return []row{
		{"sign keyless, one image, wall", of(a, wall), of(p, wall), "ms", "<= 0.5"},
		{"sign keyless, peak memory", of(a, rss), of(p, rss), "MB", ""},
	}, err
}

// keyed signs many images in one call, as many for either side. cosign takes
// some 18 seconds for them, so there are three runs; images per second are compared.
func (b *bench) keyed(ctx context.Context) ([]row, error) {
	const images = 100
	key := filepath.Join(b.dir, "bench.key")
	sign := func(name string, extra ...string) command {
		return func(int) (string, []string, error) {
			args := append([]string{"sign", "--key", key, "--signing-config", filepath.Join(b.dir, "none.json")}, extra...)
			for range images {
				image, err := b.lab.newImage(ctx)
				if err != nil {
					return "", nil, err
				}
				args = append(args, image)
			}
			return name, args, nil
		}
	}
	a, p, err := b.pairs(ctx, 3, sign(b.hallmark), sign(b.cosign, "--yes"))
	perSecond := func(u usage) float64 { return images / u.Wall * float64(time.Second/time.Millisecond) }
	return []row{{"sign --key, 100 images a call", of(a, perSecond), of(p, perSecond), "images/s", ">= 15"}}, err
}

// verify checks one keyless signature, whole process, on a loopback registry.
func (b *bench) verify(ctx context.Context) ([]row, error) {
	image, err := b.lab.newImage(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := b.measure(ctx, b.hallmark, "sign", "--identity-token", b.lab.token, image); err != nil {
		return nil, err
	}
	ours := func(int) (string, []string, error) {
		return b.hallmark, []string{"verify", "--trusted-root", b.lab.authority.TrustedRoot, "--identity", identity, "--issuer", b.lab.authority.Issuer, image}, nil
	}
	peer := func(int) (string, []string, error) {
		return b.cosign, []string{"verify", "--trusted-root", b.lab.authority.TrustedRoot, "--certificate-identity", identity, "--certificate-oidc-issuer", b.lab.authority.Issuer, image}, nil
	}
	a, p, err := b.pairs(ctx, b.runs, ours, peer)
	return []row{
		{"verify keyless, one image, wall", of(a, wall), of(p, wall), "ms", ""},
		{"verify keyless, peak memory", of(a, rss), of(p, rss), "MB", ""},
	}, err
}
