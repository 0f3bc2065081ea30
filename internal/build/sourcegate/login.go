package sourcegate

import (
	"maps"
	"strings"

	"github.com/moby/buildkit/solver/pb"

	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
)

// withLogin is a checkout to be fetched by the secret that its login has in this build; nil
// when there is no login, or the source has it already. The names of secrets that frontends
// write there (GIT_AUTH_TOKEN) are those that a step can ask for, too, and are taken out.
func (s *Session) withLogin(src sourcepolicy.Source) *sourcepolicy.Source {
	if s.cfg.Login == nil || !strings.HasPrefix(src.Identifier, "git://") {
		return nil
	}
	in, err := sourcepolicy.SourceToInput(src)
	if err != nil || in.Git == nil {
		return nil // which is denied in a moment
	}
	name := s.cfg.Login(in.Git.Remote, src.Attrs[pb.AttrGitSkipSubmodules] != "true")
	if name == "" || src.Attrs[pb.AttrAuthHeaderSecret] == name && src.Attrs[pb.AttrAuthTokenSecret] == "" {
		return nil
	}
	attrs := maps.Clone(src.Attrs)
	if attrs == nil {
		attrs = map[string]string{}
	}
	delete(attrs, pb.AttrAuthTokenSecret)
	attrs[pb.AttrAuthHeaderSecret] = name
	src.Attrs = attrs
	return &src
}
