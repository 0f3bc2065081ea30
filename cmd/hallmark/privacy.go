package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/idtoken"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/sign"
	"github.com/hallmark-dev/hallmark/internal/visibility"
)

// CodePrivateSource refuses to make something about a private source public.
const CodePrivateSource = "PRIVATE_SOURCE"

// agreement is the flag --yes: to what the user agrees before being asked.
type agreement string

const (
	agreedPerson  agreement = "public"  // that a person's identity becomes public
	agreedPrivate agreement = "private" // and that something about a private source does
)

func (g *agreement) String() string { return string(*g) }
func (g *agreement) Type() string   { return "string" }

// Set takes the words of a switch, too: --yes had no value before.
func (g *agreement) Set(word string) error {
	switch word {
	case "true", string(agreedPerson):
		*g = agreedPerson
	case "false":
		*g = ""
	case string(agreedPrivate):
		*g = agreedPrivate
	default:
		return fmt.Errorf("write --yes, or --yes=%s", agreedPrivate)
	}
	return nil
}

// madePublic says where something about a private source became public, and why it
// is private.
type madePublic struct {
	Hosts   []string `json:"hosts"`
	Private []string `json:"private"`
}

// String is a line for people.
func (m *madePublic) String() string {
	return fmt.Sprintf("at %s, though %s", strings.Join(m.Hosts, " and "), strings.Join(m.Private, "; "))
}

// sayMadePublic says it of what was signed. Where nothing was, a service may have
// published what it was sent, and nobody can tell.
func (a *app) sayMadePublic(o *signerOptions, signed bool) {
	switch {
	case o.madePublic == nil:
	case signed:
		a.Say("  public %s", o.madePublic)
	default:
		a.Say("  public perhaps, %s", o.madePublic)
	}
}

// privateFunc finds out why what is about to be signed is private, as far as that is
// known before anybody says who signs.
type privateFunc func(ctx context.Context) (why []string, err error)

// publicHosts are those of the services that publish what they are sent: logs, and
// CAs, whose certificates go to a log of their own.
func (a *app) publicHosts(s sign.Services, source string) ([]string, error) {
	var hosts []string
	known := sync.OnceValues(a.knownPublic) // which reads the trust bundle and its public root
	for _, raw := range append([]string{s.CA}, s.Logs.URLs...) {
		u, err := url.Parse(raw)
		if err != nil || u.Host == "" || slices.Contains(hosts, u.Host) {
			continue
		}
		if source == cli.PublicInstance {
			hosts = append(hosts, u.Host)
			continue
		}
		public, err := known()
		if err != nil {
			return nil, err
		}
		if public(u.Hostname()) {
			hosts = append(hosts, u.Host)
		}
	}
	return hosts, nil
}

// knownPublic tells the hosts of Sigstore's public instance and of its staging
// instance, by their domains and by the root that the trust calls public.
func (a *app) knownPublic() (func(host string) bool, error) {
	f, err := a.TrustBundle("")
	if err == nil {
		f, err = f.WithRoots(true)
	}
	if err != nil {
		return nil, err
	}
	var named []string
	for _, root := range f.SigstoreRoots() {
		for _, l := range root.TLogs {
			named = append(named, l.BaseURL)
		}
		for _, ca := range root.CAs {
			named = append(named, ca.URI)
		}
	}
	for i, raw := range named {
		if u, err := url.Parse(raw); err == nil {
			named[i] = strings.ToLower(u.Hostname())
		}
	}
	return func(host string) bool {
		host = strings.ToLower(strings.TrimSuffix(host, "."))
		for _, domain := range []string{"sigstore.dev", "sigstage.dev"} {
			if host == domain || strings.HasSuffix(host, "."+domain) {
				return true
			}
		}
		return slices.Contains(named, host)
	}, nil
}

// keepPrivate refuses, before anybody is asked to sign or log, to publish something
// about a private source, unless the user agreed to exactly that. All that is known
// is said.
func (a *app) keepPrivate(ctx context.Context, o *signerOptions, hosts []string, look privateFunc) error {
	if len(hosts) == 0 || look == nil {
		return nil
	}
	why, err := look(ctx)
	switch {
	case err != nil && o.yes != agreedPrivate:
		return fault.Hint(fault.As(fault.KindOf(err), fmt.Errorf("whether it is private could not be found out, and nothing was sent to %s: %w", strings.Join(hosts, " and "), err)),
			"sign with a Sigstore of your own (hallmark up, --signing-config FILE); if it may become public in any case: --yes=%s", agreedPrivate)
	case err != nil:
		why = []string{"whether it is private could not be found out"}
	case len(why) == 0:
		return nil
	}
	slices.Sort(why)
	why = slices.Compact(why)
	if o.yes != agreedPrivate {
		return fault.Hint(fault.As(fault.Denied, fmt.Errorf("[%s] who signs and a digest would become public at %s, and stay so, but %s: nothing was sent",
			CodePrivateSource, strings.Join(hosts, " and "), strings.Join(why, "; "))),
			"sign with a Sigstore of your own (hallmark up, --signing-config FILE), or with --key and a signing config that names no log; if it is meant to become public: --yes=%s", agreedPrivate)
	}
	o.publish(&madePublic{hosts, why})
	return nil
}

// publish notes what becomes public beside what does already.
func (o *signerOptions) publish(m *madePublic) {
	if m == nil {
		return
	}
	if o.madePublic == nil {
		o.madePublic = new(madePublic)
	}
	add := func(to *[]string, more []string) {
		for _, s := range more {
			if !slices.Contains(*to, s) {
				*to = append(*to, s)
			}
		}
	}
	add(&o.madePublic.Hosts, m.Hosts)
	add(&o.madePublic.Private, m.Private)
}

// privateImages looks at the images that are signed.
func (a *app) privateImages(refs ...string) privateFunc {
	return func(ctx context.Context) ([]string, error) {
		client := registry.NewClient(registry.Options{PlainHTTP: a.PlainHTTP, UserAgent: a.UserAgent(), Anonymous: true})
		found := make([]string, len(refs))
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(signers)
		for i, raw := range refs {
			g.Go(func() error {
				ref, err := registry.ParseRef(raw)
				if err == nil {
					found[i], err = visibility.Image(ctx, client, ref)
				}
				return err
			})
		}
		err := g.Wait()
		return slices.DeleteFunc(found, func(w string) bool { return w == "" }), err
	}
}

// privateSubjects looks at the images that were resolved; those in them are where
// they are.
func (a *app) privateSubjects(subjects []subject) privateFunc {
	var refs []string
	for _, s := range subjects {
		if s.err == nil && s.ref.Scheme == registry.SchemeRegistry {
			refs = append(refs, s.targets[0].String())
		}
	}
	return a.privateImages(refs...)
}

// privateBuild looks at the repository, and where the image goes: whether everybody
// sees that is known when it is there.
func (a *app) privateBuild(src *git.Source, image registry.Ref) privateFunc {
	return func(ctx context.Context) (why []string, err error) {
		repository, rerr := visibility.Repository(ctx, src)
		where, err := visibility.Registry(ctx, image)
		for _, w := range []string{repository, where} {
			if w != "" {
				why = append(why, w)
			}
		}
		if len(why) > 0 { // one reason is enough
			return why, nil
		}
		return nil, errors.Join(rerr, err)
	}
}

// privateProject is what the identity token says.
func privateProject(t idtoken.Token) privateFunc {
	return func(context.Context) (why []string, err error) {
		if w := visibility.Project(t); w != "" {
			why = []string{w}
		}
		return why, nil
	}
}
