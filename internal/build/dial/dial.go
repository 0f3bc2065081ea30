// Package dial finds the way to a BuildKit daemon from its address, in the forms that
// buildctl and docker buildx know: a socket, a port, or a container that has one, which is
// reached by running "buildctl dial-stdio" in it.
package dial

import (
	"context"
	"net"
	"net/url"
	"os/exec"
	"regexp"

	"github.com/docker/cli/cli/connhelper/commandconn"
	"github.com/moby/buildkit/client"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/pattern"
	"github.com/hallmark-dev/hallmark/internal/spelling"
)

// Forms are the addresses that Options takes, for messages and help.
const Forms = "unix:///path/to/buildkitd.sock, tcp://host:port, docker-container://NAME[?context=CONTEXT] or " +
	"kube-pod://POD[?namespace=NAME&container=NAME&context=CONTEXT]"

// Names become arguments of docker and kubectl: none may begin with a dash.
var (
	containerName = pattern.New(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,252}$`)
	kubeName      = pattern.New(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)
	contextName   = pattern.New(`^[a-zA-Z0-9][a-zA-Z0-9_.:/@+-]{0,252}$`)
)

// way is how one kind of address is reached.
type way struct {
	program string
	// host and queries are what the address may have, with their forms.
	host    func() *regexp.Regexp
	queries map[string]func() *regexp.Regexp
	args    func(host string, q url.Values) []string
}

var ways = map[string]way{
	"docker-container": {"docker", containerName, map[string]func() *regexp.Regexp{"context": contextName},
		func(host string, q url.Values) []string {
			return append(flags(q, "context"), "exec", "-i", host, "buildctl", "dial-stdio")
		}},
	"kube-pod": {"kubectl", kubeName, map[string]func() *regexp.Regexp{"context": contextName, "namespace": kubeName, "container": kubeName},
		func(host string, q url.Values) []string {
			args := append(flags(q, "context", "namespace"), "exec", "-i", host)
			return append(append(args, flags(q, "container")...), "--", "buildctl", "dial-stdio")
		}},
}

func flags(q url.Values, names ...string) (args []string) {
	for _, name := range names {
		if v := q.Get(name); v != "" {
			args = append(args, "--"+name+"="+v)
		}
	}
	return args
}

// Options are the address and options for BuildKit's client. What is no address in one of
// Forms is a usage error; a program that is not there, one that says that we could not find out.
func Options(address string) (string, []client.ClientOpt, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", nil, fault.Usagef("BUILDKIT_HOST %q: want %s", address, Forms)
	}
	if u.Scheme == "unix" || u.Scheme == "tcp" {
		return address, nil, nil
	}
	w, known := ways[u.Scheme]
	if !known || u.User != nil || u.Port() != "" || u.Fragment != "" || u.Path != "" && u.Path != "/" || !w.host().MatchString(u.Hostname()) {
		return "", nil, fault.Usagef("BUILDKIT_HOST %q: want %s", address, Forms)
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return "", nil, fault.Usagef("BUILDKIT_HOST %q: want %s", address, Forms)
	}
	if err := w.check(address, q); err != nil {
		return "", nil, err
	}
	program, err := exec.LookPath(w.program)
	if err != nil {
		return "", nil, fault.Hint(fault.Unreachablef("BUILDKIT_HOST %s: %s is needed to reach it: %w", address, w.program, err),
			"install %s, or name a BuildKit that a socket or port leads to", w.program)
	}
	args := w.args(u.Hostname(), q)
	return address, []client.ClientOpt{client.WithContextDialer(func(context.Context, string) (net.Conn, error) {
		return commandconn.New(context.Background(), program, args...) // lives as long as the connection, not as the dialling
	})}, nil
}

func (w way) check(address string, q url.Values) error {
	known := make([]string, 0, len(w.queries))
	for name := range w.queries {
		known = append(known, name)
	}
	for name, values := range q {
		form, ok := w.queries[name]
		if !ok {
			return fault.Usagef("BUILDKIT_HOST %q: no such part %q%s; want %s", address, name, spelling.Hint(name, known), Forms)
		}
		if len(values) != 1 || !form().MatchString(values[0]) {
			return fault.Usagef("BUILDKIT_HOST %q: %s is given twice, or is no name; want %s", address, name, Forms)
		}
	}
	return nil
}
