package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/sign"
)

// resume finishes what --later kept, several at a time. A file goes when its
// signature is attached; one that fails stops no other.
func (a *app) resume(ctx context.Context, o *signOptions) error {
	if o.key != "" || o.identityToken != "" || o.identityProvider != "" || o.later != "" || o.bundle != "" || o.recursive != "" || len(o.annotations) > 0 || o.ci || o.again {
		return fault.Usagef("--resume finishes signatures that are made: who signs and what is settled")
	}
	entries, err := os.ReadDir(o.resume)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // --later makes it when there is something to keep
		return err
	}
	var files []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), sign.LaterSuffix) {
			files = append(files, filepath.Join(o.resume, e.Name()))
		}
	}
	slices.Sort(files)
	release, err := alone(o.resume)
	if err != nil {
		return err
	}
	defer release()
	cfg := sign.Config{}
	if cfg.Services, err = a.resumeServices(ctx, o); err != nil {
		return err
	}
	believed, err := a.TrustBundle("")
	if err != nil {
		return err
	}
	cfg.Revoked = believed.Revocations()
	answer := signedAnswer{}
	inOrder(len(files), signers, func(i int) signedImage {
		return a.finishOne(ctx, o, cfg, files[i])
	}, func(r signedImage) {
		o.publish(r.public)
		answer.Images = append(answer.Images, r)
		if !o.json && (r.err == nil || len(files) > 1) {
			a.reportSigned(r)
		}
	})
	if len(files) == 0 && !o.json {
		a.Say("nothing waits in %s", cli.Plain(o.resume))
	}
	return a.finish(&o.signerOptions, &answer)
}

// alone keeps a second one from finishing the same signatures at the same time: each
// would have them logged and stamped. A folder that is not there needs nobody.
func alone(dir string) (release func(), err error) {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return func() {}, nil
	} else if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fault.Unreachablef("another hallmark sign --resume works on %s", dir)
		}
		return nil, fmt.Errorf("locking %s: %w", dir, err)
	}
	return func() {
		// A child process that is being started, a credential helper say, has a copy of it.
		_ = unix.Flock(int(f.Fd()), unix.LOCK_UN)
		_ = f.Close()
	}, nil
}

func (a *app) resumeServices(ctx context.Context, o *signOptions) (sign.Services, error) {
	if cmp.Or(o.signingConfig, a.Env(cli.EnvSigningConfig)) == "" {
		// Never the public instance by itself: keys may have made what waits.
		return sign.Services{}, fault.Usagef("--resume: name the services that finish it with --signing-config or %s", cli.EnvSigningConfig)
	}
	config, err := a.signingConfig(ctx, &o.serviceFlags, true)
	if err != nil {
		return sign.Services{}, err
	}
	s := sign.ServicesFrom(config, time.Now(), false)
	s.PlainHTTP, s.UserAgent, s.Waiting = a.PlainHTTP, a.UserAgent(), a.sayOnce("%s; asking again")
	s.Patience, err = a.patience()
	return s, err
}

func (a *app) finishOne(ctx context.Context, o *signOptions, cfg sign.Config, file string) signedImage {
	r := signedImage{Image: file, Status: "kept", Kept: file}
	if u, err := sign.LoadUnfinished(file); err == nil {
		r.Image = u.Image
		r.public, r.err = a.finishPrivately(ctx, o, cfg, u)
	}
	var done *sign.Attached
	if r.err != nil {
		r.Error = cli.OneLine(r.err.Error())
		return r
	}
	if done, r.err = sign.Finish(ctx, cfg, a.RegistryClient(), file); r.err == nil {
		r.err = errors.Join(os.Remove(file), durable.SyncDir(filepath.Dir(file)))
	}
	if r.err != nil {
		r.Error = cli.OneLine(r.err.Error())
		return r
	}
	r.Status, r.Kept = "signed", ""
	r.Bundle, r.LogIndex, r.signer = done.Ref, done.LogIndex, done.Signer
	return r
}

// finishPrivately looks again whether the image is private when a public log is to
// have its signature that was not among those that it was made for, and says what the
// user agreed to.
func (a *app) finishPrivately(ctx context.Context, o *signOptions, cfg sign.Config, u *sign.Unfinished) (*madePublic, error) {
	if u.NeedLogEntries <= len(u.LogEntries) {
		return nil, nil
	}
	hosts, err := a.publicHosts(cfg.Services, o.configSource(a, false))
	if err != nil {
		return nil, err
	}
	hosts = slices.DeleteFunc(hosts, func(h string) bool { return slices.Contains(u.LogHosts, h) })
	mine := o.signerOptions // several are finished at a time
	err = a.keepPrivate(ctx, &mine, hosts, a.privateImages(u.Image))
	return mine.madePublic, err
}
