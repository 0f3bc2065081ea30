package build

import (
	"fmt"

	"github.com/docker/cli/cli/config"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth/authprovider"
	"github.com/tonistiigi/fsutil"
)

// solveOpt is the request in BuildKit's words.
func (r Request) solveOpt() (*client.SolveOpt, error) {
	if err := r.Options.Check(); err != nil {
		return nil, err
	}
	if (r.Context.Dir == "") == (r.Context.GitURL == "") {
		return nil, fmt.Errorf("a build context is a folder or a git URL")
	}
	if r.Context.GitURL != "" && !FetchesGit(r.Context.GitURL) {
		return nil, fmt.Errorf("BuildKit would not take %s for a git repository", r.Context.GitURL)
	}
	export := map[string]string{
		"name": r.Image.Name(), "push": "true", "push-by-digest": "true", "name-canonical": "true",
		"oci-mediatypes": "true", "oci-artifact": "true",
	}
	if r.Insecure {
		export["registry.insecure"] = "true"
	}
	opt := &client.SolveOpt{
		Frontend: "dockerfile.v0", FrontendAttrs: r.frontendAttrs(),
		Exports: []client.ExportEntry{{Type: client.ExporterImage, Attrs: export}},
	}
	if r.Context.Dir != "" {
		tree, err := fsutil.NewFS(r.Context.Dir)
		if err != nil {
			return nil, fmt.Errorf("reading the exported tree: %w", err)
		}
		opt.LocalMounts = map[string]fsutil.FS{"context": tree, "dockerfile": tree}
	}
	// Registry logins are those of the docker configuration; they reach the
	// daemon as short-lived tokens over the session, only for hosts it asks for.
	logins, err := config.Load(config.Dir())
	if err != nil {
		return nil, fmt.Errorf("reading the docker configuration: %w", err)
	}
	opt.Session = []session.Attachable{authprovider.NewDockerAuthProvider(authprovider.DockerAuthProviderConfig{
		AuthConfigProvider: authprovider.LoadAuthConfig(logins),
	})}
	return opt, nil
}
