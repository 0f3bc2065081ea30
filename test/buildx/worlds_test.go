package buildx

import (
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/hmtest/gitrepo"
)

const (
	digest1 = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	digest2 = "sha256:2222222222222222222222222222222222222222222222222222222222222222"
	config  = `{"created":"2026-01-01T10:00:00+02:00","config":{"Labels":{"team":"a","org.opencontainers.image.version":"3"},"Env":["PATH=/bin","A=b"],"User":"app","WorkingDir":"/w","Volumes":{"/data":{}}}}`

	slsa1 = `{"buildDefinition":{"buildType":"https://b/type","externalParameters":{"configSource":{"uri":"https://github.com/o/r.git#refs/heads/main","digest":{"sha1":"52b004d2afe20c5c80967cc1784e718b52d69dae"},"path":"Dockerfile"},"request":{"frontend":"dockerfile.v0","args":{"build-arg:V":"1","target":"t"}}},
"resolvedDependencies":[{"uri":"pkg:docker/alpine@3.19?platform=linux%2Famd64","digest":{"sha256":"` + "3333333333333333333333333333333333333333333333333333333333333333" + `"}},{"uri":"https://github.com/o/r.git#refs/heads/main","digest":{"sha1":"52b004d2afe20c5c80967cc1784e718b52d69dae"}},{"uri":"https://example.org/f.tgz","digest":{"sha256":"` + "4444444444444444444444444444444444444444444444444444444444444444" + `"}}]},
"runDetails":{"builder":{"id":"https://b/id"},"metadata":{"invocationID":"i1","startedOn":"2026-02-03T04:05:06Z","finishedOn":"2026-02-03T04:06:06Z","buildkit_completeness":{"request":true,"resolvedDependencies":false},"buildkit_reproducible":true,"buildkit_hermetic":true}}}`
	slsa02 = `{"builder":{"id":"https://b/id"},"buildType":"https://b/type","invocation":{"configSource":{"uri":"https://github.com/o/r.git#refs/heads/main","digest":{"sha1":"52b004d2afe20c5c80967cc1784e718b52d69dae"},"entryPoint":"Dockerfile"},"parameters":{"frontend":"dockerfile.v0","args":{"build-arg:V":"1","target":"t"}},"environment":{}},
"materials":[{"uri":"pkg:docker/alpine@3.19?platform=linux%2Famd64","digest":{"sha256":"` + "3333333333333333333333333333333333333333333333333333333333333333" + `"}}],
"metadata":{"buildInvocationID":"i1","buildStartedOn":"2026-02-03T04:05:06Z","buildFinishedOn":"2026-02-03T04:06:06Z","completeness":{"parameters":true,"environment":true,"materials":false},"reproducible":true,"https://mobyproject.org/buildkit@v1#hermetic":true}}`
)

// worlds are sources of every kind, by name.
func worlds(t *testing.T) map[string]World {
	t.Helper()
	repo := gitrepo.New(t, "sha1")
	commit := repo.Commit("first\n\nmore")
	key := gitrepo.NewKey(t, "ed25519", 0)
	tag := repo.SignTag(key, "v1", commit)
	keys[t.Name()] = key.Public
	rawCommit, rawTag := repo.Raw("commit", commit), repo.Raw("tag", tag)
	image := func(id string) World { return World{ID: "docker-image://" + id, Digest: digest1, Config: config} }
	attested := func(w World, kind, predicate string) World {
		w.Attested, w.Provenance = true, map[string]string{kind: predicate}
		return w
	}
	signed := attested(image("docker.io/org/app:v1"), "https://slsa.dev/provenance/v1", slsa1)
	signed.Signature = builderSignature("org/app", "refs/tags/v1")
	bare := image("docker.io/library/bare:1")
	bare.Config = `{"config":{}}`
	return map[string]World{
		"alpine":    image("docker.io/library/alpine:3.19"),
		"canonical": image("docker.io/library/alpine:3.19@" + digest1),
		"port":      image("127.0.0.1:5077/base/idx:1"),
		"bare":      bare,
		"v1":        attested(image("docker.io/org/att:1"), "https://slsa.dev/provenance/v1", slsa1),
		"v0.2":      attested(image("docker.io/org/att:2"), "https://slsa.dev/provenance/v0.2", slsa02),
		"signed":    signed,
		"http":      {ID: "https://example.org:8443/dir/f.tgz?a=1&a=2&b=3", Body: "body"},
		"http auth": {ID: "http://example.org/f", Attrs: map[string]string{"http.authheadersecret": "s"}, Body: "body"},
		"release":   {ID: "https://github.com/org/app/releases/download/v1/app.tgz", Body: "body", Signature: builderSignature("org/app", "refs/tags/v1")},
		"tag":       {ID: "git://example.org/app.git#refs/tags/v1", Attrs: map[string]string{"git.fullurl": "https://example.org/app.git"}, Ref: "refs/tags/v1", Checksum: tag, CommitChecksum: commit, Commit: rawCommit, Tag: rawTag},
		"short":     {ID: "git://example.org/app.git#v1:sub", Ref: "refs/tags/v1", Checksum: tag, CommitChecksum: commit, Commit: rawCommit, Tag: rawTag},
		"branch":    {ID: "git://example.org/app.git#main", Attrs: map[string]string{"git.fullurl": "git@example.org:app.git"}, Ref: "refs/heads/main", Checksum: commit, CommitChecksum: commit, Commit: rawCommit},
		"commit":    {ID: "git://example.org/app.git#" + commit, Ref: commit, Checksum: commit, CommitChecksum: commit, Commit: rawCommit},
		"local":     {ID: "local://context"},
	}
}

// keys are the public keys that signed a test's tag.
var keys = map[string]string{}

// rules by the kind of source that they speak of; each is asked as a reason to allow
// and as a reason to deny.
var rules = map[string][]string{
	"image": {
		`input.image.repo == "alpine"`, `input.image.fullRepo == "docker.io/library/alpine"`, `input.image.host == "docker.io"`,
		`input.image.tag == "3.19"`, `input.image.ref == "docker.io/library/alpine:3.19"`, `startswith(input.image.ref, "docker.io/")`, `input.image.isCanonical`,
		`not input.image.isCanonical`, `input.image.checksum == "` + digest1 + `"`, `input.image.checksum != "` + digest1 + `"`,
		`input.image.platform == "linux/amd64"`, `input.image.os == "linux"`, `input.image.arch == "amd64"`, `input.image.variant`,
		`input.image.labels.team == "a"`, `input.image.labels["org.opencontainers.image.version"] == "3"`, `"A=b" in input.image.env`, `input.image.user == "app"`,
		`not input.image.user`, `input.image.workingDir == "/w"`, `"/data" in input.image.volumes`, `not input.image.labels`, `not input.image.volumes`,
		`input.image.createdTime`, `input.image.createdTime == "2026-01-01T10:00:00+02:00"`, `input.image.createdTime < "2027"`,
		`input.image.hasProvenance`, `not input.image.hasProvenance`, `input.image.provenance`, `input.image.provenance.builderID == "https://b/id"`,
		`input.image.provenance.buildType == "https://b/type"`, `input.image.provenance.predicateType == "https://slsa.dev/provenance/v1"`,
		`input.image.provenance.invocationID == "i1"`, `input.image.provenance.startedOn == "2026-02-03T04:05:06Z"`, `input.image.provenance.finishedOn > "2026"`,
		`input.image.provenance.frontend == "dockerfile.v0"`, `input.image.provenance.reproducible`, `input.image.provenance.hermetic == true`,
		`input.image.provenance.configSource.uri == "https://github.com/o/r.git#refs/heads/main"`, `input.image.provenance.configSource.path == "Dockerfile"`,
		`input.image.provenance.configSource.digest.sha1`, `input.image.provenance.buildArgs.V == "1"`, `input.image.provenance.rawArgs.target == "t"`,
		`input.image.provenance.completeness.parameters`, `input.image.provenance.completeness.environment`, `input.image.provenance.completeness.materials == false`,
		`count(input.image.provenance.materials) > 0`, `input.image.provenance.materials[0].image.repo == "alpine"`, `input.image.provenance.materials[0].image.isCanonical`,
		`input.image.provenance.materials[0].image.platform == "linux/amd64"`, `input.image.provenance.materials[0].env.depth == 1`,
		`input.image.provenance.materials[1].git.host == "github.com"`, `input.image.provenance.materials[2].http.url == "https://example.org/f.tgz"`,
		`some m in input.image.provenance.materials; m.git.branch == "main"`, `input.image.signatures[0].kind == "docker-github-builder"`,
		`some s in input.image.signatures; s.signer.sourceRepositoryRef == "refs/tags/v1"`, `input.image.signatures[_].type == "bundle-v0.3"`,
		`input.image.signatures[_].timestamps[0].type == "Tlog"`, `not input.image.signatures`, `input.image.signatures[_].signer.buildTrigger == "push"`,
		`docker_github_builder(input.image, "org/app")`, `docker_github_builder_tag(input.image, "org/app", input.image.tag)`, `docker_github_builder_tag(input.image, "org/app", "v2")`,
		`docker_github_builder(input.image, "org/other")`, `pin_image(input.image, "` + digest1 + `")`, `pin_image(input.image, "` + digest2 + `")`, `input.image.tag in load_json("tags.json")`,
		`semver.compare(input.image.tag, "1.0.0") > 0`, `x := input.image; x.labels.team == "a"`, `input.image.isCanonical == false`, `input.image.hasProvenance == false`,
		`some m in input.image.provenance.materials; m.image.labels.team == "a"`,
		`count([1 | some m in input.image.provenance.materials; m.image.user == "app"]) == 1`, `every l in input.image.labels { l != "z" }`, `count(input.image.signatures) == 0`, `glob.match("alp*", [], input.image.repo)`, `regex.match("^3\\.", input.image.tag)`,
	},
	"http": {
		`input.http.url == "https://example.org:8443/dir/f.tgz?a=1&a=2&b=3"`, `input.http.schema == "https"`, `input.http.host == "example.org"`, `input.http.host == "example.org:8443"`,
		`input.http.path == "/dir/f.tgz"`, `input.http.query.a == ["1", "2"]`, `input.http.query.b[0] == "3"`, `input.http.hasAuth`, `not input.http.hasAuth`, `input.http.checksum`,
		`input.http.checksum == "sha256:230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5"`, `input.http.hasAuth == false`, `not input.http.query`,
		`docker_github_builder_bundle(input.http, "app.sigstore.json", "org/app")`, `artifact_attestation(input.http, "app.sigstore.json").kind == "docker-github-builder"`,
		`artifact_attestation(input.http, "nope.json")`, `endswith(input.http.path, ".tgz")`,
	},
	"git": {
		`input.git.schema == "https"`, `input.git.host == "example.org"`, `input.git.remote == "https://example.org/app.git"`, `input.git.fullURL`, `input.git.ref == "refs/tags/v1"`,
		`input.git.tagName == "v1"`, `input.git.branch == "main"`, `input.git.subDir == "sub"`, `input.git.isCommitRef`, `not input.git.isCommitRef`, `input.git.isAnnotatedTag`, `not input.git.isAnnotatedTag`,
		`input.git.isSHA256`, `input.git.checksum != input.git.commitChecksum`, `input.git.checksum == input.git.commitChecksum`, `input.git.commit.message == "first\n\nmore"`,
		`input.git.commit.author.name == "Ann Author"`, `input.git.commit.committer.email == "carl@example.com"`, `input.git.commit.author.when == "2023-11-14T23:13:20+01:00"`,
		`input.git.commit.tree`, `not input.git.commit.parents`, `input.git.commit.sshSignature`, `input.git.tag.tag == "v1"`, `input.git.tag.type == "commit"`, `input.git.tag.object == input.git.commitChecksum`,
		`input.git.tag.tagger.name`, `input.git.tag.message`, `input.git.tag.sshSignature.version == 1`, `startswith(input.git.tag.sshSignature.pubKey, "SHA256:")`, `input.git.tag.pgpSignature`,
		`verify_git_signature(input.git.tag, "key.pub")`, `verify_git_signature(input.git.commit, "key.pub")`, `verify_git_signature(input.git.tag, "other.pub")`, `verify_git_signature(input.git.tag, "nope.pub")`,
		`input.git.isSHA256 == false`, `input.git.isAnnotatedTag == false`,
	},
	"local": {`input.local`, `input.local.name == "context"`, `input.local.name != "context"`, `input.image`, `not input.image`},
	"env": {
		`input.env.args.VERSION == "1"`, `input.env.args.NOT`, `input.env.labels.l == "x"`, `input.env.target == "release"`, `input.env.filename == "Dockerfile"`, `input.env.depth == 0`,
		`input.env.capsRequest`, `not input.env.capsRequest`, `not input.env.args.MISSING`, `input.env.depth > 0`, `input.env.capsRequest == false`, `input.env.args.NULL == null`,
	},
}

func kindOf(w World) string {
	switch {
	case strings.HasPrefix(w.ID, "docker-image:"):
		return "image"
	case strings.HasPrefix(w.ID, "git:"):
		return "git"
	case strings.HasPrefix(w.ID, "local:"):
		return "local"
	}
	return "http"
}
