package main

import (
	"context"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/build"
	"github.com/hallmark-dev/hallmark/internal/build/trusted"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
)

// Variables with logins of git servers, as BuildKit calls its secrets: of SOURCE's server,
// and with .HOST behind them of that one.
const (
	envGitToken  = "GIT_AUTH_TOKEN"
	envGitHeader = "GIT_AUTH_HEADER"
)

// takeLogins reads the login of SOURCE's server. BuildKit gets those of any server only
// when a variable of theirs is there.
func (j *buildJob) takeLogins() error {
	login, err := j.login(j.location.URL)
	if err != nil {
		return err
	}
	j.location = j.location.With(login)
	has := slices.ContainsFunc(os.Environ(), func(kv string) bool {
		name, value, _ := strings.Cut(kv, "=")
		return value != "" && (strings.HasPrefix(name, envGitToken) || strings.HasPrefix(name, envGitHeader))
	})
	if has {
		j.logins = build.NewGitLogins(func(remote string, submodules bool) git.Login {
			if j.o.trusted != "" && submodules && ofGitHub(remote) {
				return git.Login{}
			}
			login, _ := j.login(remote) // one that is none lets nobody in
			return login
		}, j.answers)
	}
	return nil
}

// ofGitHub reports whether BuildKit shows the login of a remote to all repositories of its
// server (BuildKit, source/git, tokenScope), so that a submodule, which the commit names,
// would be another repository that is fetched with it.
func ofGitHub(remote string) bool {
	u, err := url.Parse(remote)
	return err != nil || strings.HasSuffix(strings.ToLower(u.Hostname()), "github.com")
}

// answers looks whether a repository answers by itself, before BuildKit's git, which
// follows redirects with the login, asks it. SOURCE did, when it was resolved.
func (j *buildJob) answers(ctx context.Context, remote string, login git.Login) error {
	if remote == j.location.URL {
		return nil
	}
	at, err := git.ParseLocation(remote, false)
	if err == nil && at.URL != remote {
		err = fault.Usagef("%s: a login is for a URL in its plain spelling", at)
	}
	if err != nil {
		return err
	}
	return at.With(login).Answers(ctx)
}

// login is that of a remote. One without a host's name is for SOURCE's server alone: a
// Dockerfile that names another one does not get it sent there. In a trusted build there is a
// login for SOURCE and no other repository.
func (j *buildJob) login(remote string) (git.Login, error) {
	if !git.TakesLogin(remote) {
		return git.Login{}, nil
	}
	u, _ := url.Parse(remote) // TakesLogin has
	own, err := url.Parse(j.location.URL)
	if err != nil || j.o.trusted != "" && repositoryOf(u) != repositoryOf(own) {
		return git.Login{}, err
	}
	return j.app.gitLogin(remote, j.location.URL)
}

// gitLogin is what the variables say for a remote; one without a host's name is for the server
// of own alone, "" for none.
func (a *app) gitLogin(remote, own string) (git.Login, error) {
	u, err := url.Parse(remote)
	if err != nil || !git.TakesLogin(remote) {
		return git.Login{}, nil
	}
	suffixes := []string{"." + u.Host}
	if source, err := url.Parse(own); err == nil && u.Scheme == source.Scheme && u.Host == source.Host {
		suffixes = append(suffixes, "")
	}
	for _, suffix := range suffixes {
		if v := a.Env(envGitHeader + suffix); v != "" {
			return git.HeaderLogin(v)
		}
		if v := a.Env(envGitToken + suffix); v != "" {
			return git.TokenLogin(v)
		}
	}
	return git.Login{}, nil
}

// repositoryOf is a repository's URL, with or without .git at its end.
func repositoryOf(u *url.URL) string {
	return u.Scheme + "://" + u.Host + strings.TrimSuffix(strings.TrimSuffix(u.Path, "/"), ".git")
}

// withLogins makes sure that in a build with logins nothing of the source's runs that could
// ask for them: the Dockerfile is read by the frontend in BuildKit. Which login a repository is
// fetched with is said over the session of the source policies, so there is one.
func (j *buildJob) withLogins(ctx context.Context, src *git.Source, dockerfile string) (policy.Decision, error) {
	yes := policy.Decision{Allowed: true}
	if j.logins == nil || j.trusted != nil {
		return yes, nil
	}
	text, err := j.textOf(ctx, src, dockerfile)
	if err != nil {
		return policy.Decision{}, err
	}
	oldest := trusted.Builder{BuildKit: []trusted.Program{{Version: "v0.27.0"}}} // that asks source policies
	if _, why := oldest.Frontend(dockerfile, text); why != nil {
		why.Message = "a login for git is given, which a frontend of the source's own choice could read: " + why.Message
		why.Hint = "write docker/dockerfile:1, or no syntax line, to use the frontend in BuildKit; or build without the login"
		return policy.Deny(*why), nil
	}
	if j.sources == nil {
		p, err := sourcepolicy.CompileAny()
		if err != nil {
			return policy.Decision{}, err
		}
		j.needSources()
		j.sources.Policies = append(j.sources.Policies, build.SourcePolicy{Policy: p, Name: p.Name(), From: build.FromOperator})
	}
	return yes, nil
}
