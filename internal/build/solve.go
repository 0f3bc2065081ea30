package build

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/docker/cli/cli/config"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth/authprovider"
	"github.com/tonistiigi/fsutil"
)

// push exports to the image's repository, by digest.
func (r Request) push() client.ExportEntry {
	names := []string{r.Image.Name()}
	for _, also := range r.Also {
		names = append(names, also.Name())
	}
	attrs := map[string]string{
		"name": strings.Join(names, ","), "push": "true", "push-by-digest": "true", "name-canonical": "true",
		"oci-mediatypes": "true", "oci-artifact": "true",
	}
	if r.Insecure {
		attrs["registry.insecure"] = "true"
	}
	for name, value := range r.Options.Annotations {
		levels, key, err := annotationLevels(name)
		for _, level := range levels {
			if err == nil { // which Check has seen
				attrs[map[string]string{"manifest": "annotation.", "index": "annotation-index."}[level]+key] = value
			}
		}
	}
	return client.ExportEntry{Type: client.ExporterImage, Attrs: attrs}
}

// solveOpt is the request in BuildKit's words.
func (r Request) solveOpt(export client.ExportEntry) (*client.SolveOpt, error) {
	if err := r.Options.Check(); err != nil {
		return nil, err
	}
	if (r.Context.Dir == "") == (r.Context.GitURL == "") {
		return nil, fmt.Errorf("a build context is a folder or a git URL")
	}
	if r.Context.GitURL != "" && !FetchesGit(r.Context.GitURL) {
		return nil, fmt.Errorf("BuildKit would not take %s for a git repository", r.Context.GitURL)
	}
	opt := &client.SolveOpt{
		Frontend: r.Trusted.frontend(), FrontendAttrs: r.frontendAttrs(),
		Exports: []client.ExportEntry{export},
	}
	if r.Context.Dir != "" {
		tree, err := fsutil.NewFS(filepath.Join(r.Context.Dir, filepath.FromSlash(r.Options.Dir)))
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
	opt.Session = append(opt.Session, r.Logins.attachable()...)
	r.Cache.add(opt)
	return opt, nil
}
