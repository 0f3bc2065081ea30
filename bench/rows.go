package main

import (
	"context"
	"os"
	"path/filepath"
	"time"
)

// programs are our binaries that are measured beside cosign, each with its
// targets: of version's wall time and memory, of a verification's, and its size.
func (b *bench) programs() []program {
	return []program{
		{"hallmark", b.hallmark, [2]string{"<= 15 ms, <= 0.55", "<= 34 MB"}, [2]string{"<= 0.6", "<= 0.6"}, "< 45 MB"},
		{"hallmark-verify", b.verifier, [2]string{"<= 4 ms", ""}, [2]string{"<= 0.33", "<= 0.25"}, "<= 12 MB"},
	}
}

type program struct {
	name, path      string
	version, verify [2]string
	size            string
}

// start measures what every call pays: the process itself.
func (b *bench) start(ctx context.Context) (rows []row, err error) {
	fixed := func(name string) command {
		return func(int) (string, []string, error) { return name, []string{"version"}, nil }
	}
	for _, p := range b.programs() {
		ours, peer, err := b.pairs(ctx, 2*b.runs, fixed(p.path), fixed(b.cosign))
		if err != nil {
			return nil, err
		}
		rows = append(rows,
			row{p.name + " version, wall", of(ours, wall), of(peer, wall), "ms", p.version[0]},
			row{p.name + " version, peak memory", of(ours, rss), of(peer, rss), "MB", p.version[1]})
	}
	return rows, nil
}

func (b *bench) size(context.Context) (rows []row, err error) {
	peer, err := os.Stat(b.cosign)
	if err != nil {
		return nil, err
	}
	for _, p := range b.programs() {
		ours, err := os.Stat(p.path)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row{p.name + ", stripped", sample{float64(ours.Size()) / 1e6}, sample{float64(peer.Size()) / 1e6}, "MB", p.size})
	}
	return rows, nil
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
