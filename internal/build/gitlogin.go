package build

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"sync"

	"github.com/moby/buildkit/session"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/hallmark-dev/hallmark/internal/git"
)

// GitLogins are the logins that BuildKit fetches git repositories with.
//
// BuildKit gets such a login as a secret of the session, and any step may mount a secret of
// the session whose name it knows: with the names that every builder uses (GIT_AUTH_TOKEN) a
// line in the Dockerfile reads the token. So here each host's login has a name that nobody can
// guess, made for this build. It is written into the source that BuildKit is about to fetch
// (sourcegate, Config.Login), which the Dockerfile's language cannot look at; a frontend
// that the source brings could, and is not run in such a build. Nothing is
// served under any other name, and no login is for a host that it was not given for.
//
// Git shows such a header wherever a server sends it: after a redirect the request that
// follows has it, too, on another host. So a login is handed out only for a repository that
// answers by itself.
type GitLogins struct {
	header  func(remote string, submodules bool) git.Login
	answers func(ctx context.Context, remote string, login git.Login) error

	mu    sync.Mutex
	named map[string]string    // URL to the secret's name
	held  map[string]*gitLogin // by what BuildKit asks for
}

// gitLogin is the login of a repository, which is asked once whether it answers by itself.
type gitLogin struct {
	login  git.Login
	remote string
	once   sync.Once
	why    error // why it is not handed out; with mu held
}

// NewGitLogins asks header for the login of a remote's URL, which is the zero Login when
// there is none; submodules says that BuildKit fetches those of the remote, too. Before a
// login is handed out answers is to say, by an error, that the remote redirects.
func NewGitLogins(header func(remote string, submodules bool) git.Login, answers func(context.Context, string, git.Login) error) *GitLogins {
	return &GitLogins{header: header, answers: answers, named: map[string]string{}, held: map[string]*gitLogin{}}
}

// secret is the name of the secret to fetch a remote with, "" without a login.
func (l *GitLogins) secret(remote string, submodules bool) string {
	if l == nil {
		return ""
	}
	login := l.header(remote, submodules)
	u, err := url.Parse(remote)
	if login == (git.Login{}) || err != nil {
		return ""
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	name := l.named[remote]
	if name == "" {
		name = fmt.Sprintf("hallmark-git-%s", rand.Text())
		l.named[remote] = name
		l.held[name+"."+u.Host] = &gitLogin{login: login, remote: remote}
	}
	return name
}

// get is what is served under a name; "" for every other.
func (l *GitLogins) get(ctx context.Context, id string) (header string, err error) {
	l.mu.Lock()
	held := l.held[id]
	l.mu.Unlock()
	if held == nil {
		return "", nil
	}
	held.once.Do(func() {
		err := l.answers(ctx, held.remote, held.login)
		l.mu.Lock()
		held.why = err
		l.mu.Unlock()
	})
	if held.why != nil { // which once has written
		return "", held.why
	}
	return held.login.Header(), nil
}

// explain says beside a build's failure why a login was not handed out: BuildKit goes on
// without it, and does not say. The failure may be another one, so it is kept.
func (l *GitLogins) explain(err error) error {
	if l == nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, held := range l.held {
		if held.why != nil {
			return errors.Join(err, fmt.Errorf("no login is shown there: %w", held.why))
		}
	}
	return err
}

// Register implements session.Attachable: the service moby.buildkit.secrets.v1.Secrets
// (BuildKit, session/secrets/secrets.proto). Its request has the secret's name as field 1, and
// its response the secret, which are the wire formats of StringValue and BytesValue.
func (l *GitLogins) Register(server *grpc.Server) {
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "moby.buildkit.secrets.v1.Secrets", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "GetSecret", Handler: serveLogin}},
	}, l)
}

func serveLogin(srv any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	var id wrapperspb.StringValue
	if err := decode(&id); err != nil {
		return nil, err
	}
	header, err := srv.(*GitLogins).get(ctx, id.Value)
	switch {
	case err != nil:
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	case header == "":
		return nil, status.Error(codes.NotFound, "not found")
	}
	return &wrapperspb.BytesValue{Value: []byte(header)}, nil
}

// attachable serves the logins to the daemon; none without.
func (l *GitLogins) attachable() []session.Attachable {
	if l == nil {
		return nil
	}
	return []session.Attachable{l}
}
