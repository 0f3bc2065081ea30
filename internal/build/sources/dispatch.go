package sources

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/dockerfile/dfgitutil"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/util/system"
	"github.com/opencontainers/go-digest"

	"github.com/hallmark-dev/hallmark/internal/fault"
)

// dispatch runs the instructions that give variables a value or fetch something, in
// the order of the stages: one that another begins with comes before it.
func (e *evaluation) dispatch(ctx context.Context) error {
	needed, err := e.reachable()
	if err != nil {
		return err
	}
	for _, s := range e.states {
		if !needed[s] || s.extern {
			continue
		}
		if err := e.begin(s); err != nil {
			return parser.WithLocation(err, s.stage.Location)
		}
		if s.fixed {
			continue
		}
		for _, c := range s.commands {
			if err := e.command(ctx, s, c); err != nil {
				return parser.WithLocation(err, c.Location())
			}
		}
	}
	return nil
}

// begin gives a stage the variables that it starts with: the base stage's, ARGs among
// them, and above them those of the image's configuration.
func (e *evaluation) begin(s *state) error {
	s.vars = newEnv()
	if s.base != nil && s.base.vars != nil {
		if e.copied += len(s.base.vars.keys) + len(s.base.config); e.copied > maxCopied {
			return fmt.Errorf("stages that take over more than %d variables", maxCopied)
		}
		s.vars, s.config = s.base.vars.clone(), slices.Clone(s.base.config)
		if s.platform == nil {
			s.platform = s.base.platform
		}
	}
	platform := e.target
	if s.platform != nil {
		platform = *s.platform
	}
	if platform.OS != "windows" && !slices.ContainsFunc(s.config, func(v string) bool { return strings.HasPrefix(v, "PATH=") }) {
		s.config = append(s.config, "PATH="+system.DefaultPathEnv(platform.OS))
	}
	s.vars.add(s.config)
	return tooMany(s.config)
}

// tooMany bounds the variables of one stage.
func tooMany(config []string) error {
	if len(config) > maxVariables {
		return fmt.Errorf("more than %d variables", maxVariables)
	}
	return nil
}

const maxVariables = 10_000

// maxCopied bounds how many variables stages take over from those that they begin with.
const maxCopied = 1_000_000

func (e *evaluation) command(ctx context.Context, s *state, c command) error {
	expand := func(word string) (string, error) {
		return s.vars.replace(e.lex, word)
	}
	switch cmd := c.Command.(type) {
	case *instructions.EnvCommand:
		if err := cmd.Expand(expand); err != nil {
			return err
		}
		for _, kv := range cmd.Env {
			s.vars.set(kv.Key, kv.Value)
			s.config = setEntry(s.config, kv.Key, kv.Value)
			if err := tooMany(s.config); err != nil {
				return err
			}
		}
	case *instructions.ArgCommand:
		return e.arg(s, cmd)
	case *instructions.AddCommand:
		written := slices.Clone(cmd.SourcePaths)
		if err := cmd.Expand(expand); err != nil {
			return err
		}
		return e.add(ctx, c, cmd, written)
	case *instructions.CopyCommand:
		if err := cmd.Expand(expand); err != nil {
			return err
		}
		for _, src := range cmd.SourcePaths {
			if g, isGit, err := dfgitutil.ParseGitRef(src); isHTTP(src) || err == nil && isGit && !g.IndistinguishableFromLocal {
				return fmt.Errorf("COPY %s: only ADD fetches a URL", src)
			}
		}
	}
	return nil
}

// arg gives a declared argument its value: the caller's, its default, or that of the
// argument of this name before the first FROM.
func (e *evaluation) arg(s *state, c *instructions.ArgCommand) error {
	for _, kv := range c.Args {
		v, given := e.o.Args[kv.Key]
		switch {
		case given:
		case kv.Value != nil:
			var err error
			if v, err = s.vars.replace(e.lex, *kv.Value); err != nil {
				return err
			}
		default:
			var ok bool
			if v, ok = e.globals.Get(kv.Key); !ok {
				continue
			}
		}
		if kv.Key != "BUILDKIT_SBOM_SCAN_CONTEXT" && kv.Key != "BUILDKIT_SBOM_SCAN_STAGE" { // these name no variable
			s.vars.set(kv.Key, v)
		}
	}
	return nil
}

func setEntry(config []string, key, value string) []string {
	for i, entry := range config {
		if k, _, _ := strings.Cut(entry, "="); k == key {
			config[i] = key + "=" + value
			return config
		}
	}
	return append(config, key+"="+value)
}

func isHTTP(s string) bool {
	return strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://")
}

// add is what an ADD instruction fetches: git repositories and URLs.
func (e *evaluation) add(ctx context.Context, c command, cmd *instructions.AddCommand, written []string) error {
	use := Use{Line: line(cmd.Location()), Instruction: "ADD"}
	if c.onBuild {
		use.Instruction = "ONBUILD ADD"
	}
	for i, src := range cmd.SourcePaths {
		use.Written = src
		if i < len(written) {
			use.Written = written[i]
		}
		ref, isGit, err := dfgitutil.ParseGitRef(src)
		switch {
		case err != nil && isGit:
			return fmt.Errorf("ADD %s: %w", fault.Redact(src), err)
		case err == nil && !ref.IndistinguishableFromLocal:
			checksum, err := agree(cmd.Checksum, ref.Checksum)
			if err != nil {
				return fmt.Errorf("ADD %s: %w", fault.Redact(src), err)
			}
			keep := ref.KeepGitDir
			if keep == nil {
				keep = cmd.KeepGitDir
			} else if cmd.KeepGitDir != nil && *keep != *cmd.KeepGitDir {
				return fmt.Errorf("ADD %s: the URL and --keep-git-dir disagree", fault.Redact(src))
			}
			ref.Checksum, ref.KeepGitDir, ref.MTime = checksum, keep, ""
			s, err := gitSource(ctx, ref)
			if err != nil {
				return err
			}
			if err := e.found.add(s, use); err != nil {
				return err
			}
		case isHTTP(src):
			s, err := httpSource(ctx, src, cmd.Checksum)
			if err != nil {
				return err
			}
			if err := e.found.add(s, use); err != nil {
				return err
			}
		case cmd.Checksum != "":
			return errors.New("ADD --checksum: only for one URL or git repository")
		}
	}
	if cmd.Checksum != "" && len(cmd.SourcePaths) != 1 {
		return errors.New("ADD --checksum: only for one URL or git repository")
	}
	return nil
}

func agree(flag, query string) (string, error) {
	if flag != "" && query != "" && flag != query {
		return "", errors.New("the URL and --checksum disagree")
	}
	return flag + strings.TrimPrefix(query, flag), nil
}

// httpSource is a URL as ADD fetches it (frontend/dockerfile/dockerfile2llb, dispatchCopy).
func httpSource(ctx context.Context, raw, checksum string) (Source, error) {
	opts := []llb.HTTPOption{llb.Filename(httpFilename(raw))}
	if checksum != "" {
		d, err := digest.Parse(checksum)
		if err != nil {
			return Source{}, fmt.Errorf("ADD --checksum=%s: want sha256:<64 hexadecimal digits>", checksum)
		}
		opts = append(opts, llb.Checksum(d))
	}
	id, attrs, err := operation(ctx, llb.HTTP(raw, opts...))
	return Source{Kind: HTTP, Name: raw, Identifier: id, Attrs: attrs, Checksum: checksum}, err
}

func httpFilename(raw string) string {
	if u, err := url.Parse(raw); err == nil {
		if base := path.Base(u.Path); base != "." && base != "/" {
			return base
		}
	}
	return "__unnamed__"
}

// gitSource is a repository as BuildKit's git source fetches it.
func gitSource(ctx context.Context, g *dfgitutil.GitRef) (Source, error) {
	opts := []llb.GitOption{llb.GitRef(g.Ref)}
	if g.KeepGitDir != nil && *g.KeepGitDir {
		opts = append(opts, llb.KeepGitDir())
	}
	if g.Checksum != "" {
		opts = append(opts, llb.GitChecksum(g.Checksum))
	}
	if g.SubDir != "" {
		opts = append(opts, llb.GitSubDir(g.SubDir))
	}
	if g.Submodules != nil && !*g.Submodules {
		opts = append(opts, llb.GitSkipSubmodules())
	}
	if g.MTime != "" {
		opts = append(opts, llb.GitMTime(g.MTime))
	}
	if g.FetchByCommit {
		opts = append(opts, llb.GitFetchByCommit())
	}
	id, attrs, err := operation(ctx, llb.Git(g.Remote, "", opts...))
	name := g.Remote
	if g.Ref != "" {
		name += "#" + g.Ref
	}
	return Source{Kind: Git, Name: name, Identifier: id, Attrs: attrs, Checksum: g.Checksum, Remote: g.Remote, Ref: g.Ref}, err
}
