package build

import (
	"cmp"
	"maps"
	"net/url"
	"path"
	"strconv"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/pattern"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// Check refuses options that are not of the closed list's form.
func (o Options) Check() error {
	if o.File != "" && !inside(o.File) {
		return fault.Usagef("--file %q: want a path inside the repository, like docker/Dockerfile", o.File)
	}
	if o.Dir != "" && (!inside(o.Dir) || o.Dir == ".") {
		return fault.Usagef("context %q: want a folder of the repository, like docker/app", o.Dir)
	}
	if err := o.checkContexts(); err != nil {
		return err
	}
	for _, p := range o.Platforms {
		if err := CheckPlatform(p); err != nil {
			return err
		}
	}
	for name := range o.Args {
		if !plainName(name) {
			return fault.Usagef("--build-arg %q: not the name of a build argument", name)
		}
		if strings.HasPrefix(name, "BUILDKIT_") {
			return fault.Usagef("--build-arg %s: arguments that change BuildKit itself are not accepted", name)
		}
	}
	for name := range o.Labels {
		if name == "" || strings.ContainsAny(name, "= \t\n") {
			return fault.Usagef("--label %q: not the name of a label", name)
		}
	}
	for name := range o.Annotations {
		if _, _, err := annotationLevels(name); err != nil {
			return err
		}
	}
	if o.ShmSize != "" && !sizeText().MatchString(o.ShmSize) {
		return fault.Usagef("shm-size %q: want a size like 64m", o.ShmSize)
	}
	for _, u := range o.Ulimits {
		if !ulimitText().MatchString(u) {
			return fault.Usagef("ulimit %q: want NAME=SOFT or NAME=SOFT:HARD, like nofile=1024:2048", u)
		}
	}
	if strings.ContainsAny(o.Target, " \t\n") {
		return fault.Usagef("--target %q: not the name of a build stage", o.Target)
	}
	u, err := url.Parse(o.BuilderID)
	if err != nil || o.BuilderID != "" && (!u.IsAbs() || strings.ContainsAny(o.BuilderID, ",\" \t\n")) {
		return fault.Usagef("--builder-id %q: want a URI", o.BuilderID)
	}
	return nil
}

func plainName(s string) bool {
	for i, c := range []byte(s) {
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// inside reports whether a path is a clean one that does not lead out.
func inside(p string) bool {
	return path.Clean(p) == p && !strings.HasPrefix(p, "../") && p != ".." && !path.IsAbs(p) && !strings.ContainsAny(p, "\\\x00\n")
}

// checkContexts refuses named contexts that only the caller's machine has.
func (o Options) checkContexts() error {
	for name, value := range o.Contexts {
		if !contextName().MatchString(name) || strings.Contains(name, "::") {
			return fault.Usagef("named context %q: not a name", name)
		}
		image, isImage := strings.CutPrefix(value, "docker-image://")
		if isImage {
			if ref, err := registry.ParseRef(image); err != nil || ref.Scheme != registry.SchemeRegistry {
				return fault.Usagef("named context %s=%s: not an image in a registry", name, value)
			}
			continue
		}
		if u, err := url.Parse(value); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || strings.ContainsAny(value, " \t\n") {
			return fault.Usagef("named context %s=%s: want docker-image://IMAGE or an https URL; what is in anything else, no commit says", name, value)
		}
	}
	return nil
}

var (
	contextName = pattern.New(`^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,255}$`)
	sizeText    = pattern.New(`^[1-9][0-9]{0,17}[bkmgBKMG]?$`)
	ulimitText  = pattern.New(`^[a-z]{1,16}=-?[0-9]{1,18}(:-?[0-9]{1,18})?$`)
)

// annotationLevels says on which of manifest and index an annotation stands, and its key.
func annotationLevels(name string) (levels []string, key string, err error) {
	prefix, key, found := strings.Cut(name, ":")
	if !found || strings.ContainsAny(prefix, "./") { // a key may have a colon itself
		prefix, key = "manifest", name
	}
	levels = strings.Split(prefix, ",")
	for _, l := range levels {
		if l != "manifest" && l != "index" {
			return nil, "", fault.Usagef("annotation %q: %q is not known; annotations are of manifest or index", name, l)
		}
	}
	if key == "" || strings.ContainsAny(key, "= \t\n") {
		return nil, "", fault.Usagef("annotation %q: not the name of an annotation", name)
	}
	return levels, key, nil
}

// labels are the caller's and, where they say nothing, the source's
// (OCI image-spec, annotations.md).
func (r Request) labels() map[string]string {
	l := map[string]string{"org.opencontainers.image.revision": r.Context.Commit}
	if version, ok := strings.CutPrefix(r.Context.Ref, "refs/tags/"); ok {
		l["org.opencontainers.image.version"] = version
	}
	if strings.HasPrefix(r.Context.Remote, "https://") {
		l["org.opencontainers.image.source"] = r.Context.Remote
	}
	maps.Copy(l, r.Options.Labels)
	return l
}

// frontendAttrs are the Dockerfile frontend's options.
func (r Request) frontendAttrs() map[string]string {
	o := r.Options
	attrs := map[string]string{
		"attest:provenance": "version=v1,builder-id=" + r.BuilderID() + r.Trusted.provenance(),
		// The image is dated as the commit, not as the build (reproducible-builds.org, SOURCE_DATE_EPOCH).
		"build-arg:SOURCE_DATE_EPOCH": strconv.FormatInt(r.Context.When.Unix(), 10),
	}
	if o.File != "" {
		attrs["filename"] = o.File
	}
	if o.Target != "" {
		attrs["target"] = o.Target
	}
	for name, value := range o.Contexts {
		attrs["context:"+name] = value
	}
	if o.Dir != "" {
		attrs["vcs:localdir:context"] = o.Dir // as buildx calls it
	}
	if len(o.Platforms) > 0 {
		attrs["platform"] = strings.Join(o.Platforms, ",")
	}
	if o.NoCache {
		attrs["no-cache"] = ""
	}
	if o.Hermetic {
		attrs["force-network-mode"] = "none"
	}
	if o.ShmSize != "" {
		attrs["shm-size"] = o.ShmSize
	}
	if len(o.Ulimits) > 0 {
		attrs["ulimit"] = strings.Join(o.Ulimits, ",")
	}
	for k, v := range o.Args {
		attrs["build-arg:"+k] = v
	}
	for k, v := range r.labels() {
		attrs["label:"+k] = v
	}
	if r.Context.GitURL != "" {
		attrs["context"] = r.gitContext()
		if o.Dir != "" {
			// Not by the URL's subdir: with files dated as the commit BuildKit 0.33 fails on that.
			attrs["contextsubdir"], attrs["filename"] = o.Dir, path.Join(o.Dir, cmp.Or(o.File, "Dockerfile"))
		}
	}
	if r.Logins != nil { // the frontend in BuildKit, whatever a "# syntax" line says: see GitLogins
		attrs["cmdline"] = "dockerfile.v0"
	}
	r.Trusted.attrs(attrs)
	attrs["vcs:source"], attrs["vcs:revision"] = r.Context.Remote, r.Context.Commit
	if r.Sources != nil {
		// The frontend does not know this option; the provenance lists it with the others.
		attrs[policiesAttr] = r.Sources.record()
		if r.Sources.Proxied() && !r.Sources.Fresh {
			attrs["no-cache"] = "" // nobody asked about the requests of a step that another build ran
		}
	}
	return attrs
}

// gitContext pins the daemon's git source to the commit. The ref is kept for
// the provenance; the daemon does not resolve it again, we did.
func (r Request) gitContext() string {
	q := url.Values{"checksum": {r.Context.Commit}, "submodules": {"false"}, "fetch-by-commit": {"true"}, "mtime": {"commit"}}
	if r.Context.Ref != "" {
		q.Set("ref", r.Context.Ref)
	}
	return r.Context.GitURL + "?" + q.Encode()
}
