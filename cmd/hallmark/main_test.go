package main

import (
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/cli/check"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"hallmark": main,
		"hallmark-verify": func() {
			a := cli.New(version)
			os.Exit(a.Execute(check.Root(a), os.Args[1:]))
		},
	})
}

// TestScripts runs testdata/*.txtar: each starts with the promise that it guards.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup:               setupScript,
		Cmds:                scriptCommands,
	})
}

// setupScript gives every script a home of its own and no proxies.
func setupScript(env *testscript.Env) error {
	env.Setenv("HOME", env.WorkDir)
	env.Setenv("DOCKER_CONFIG", env.WorkDir+"/.docker")
	for _, kv := range os.Environ() {
		if strings.HasPrefix(kv, "GOCOVERDIR=") || strings.HasPrefix(kv, "GORACE=") {
			env.Vars = append(env.Vars, kv)
		}
	}
	return nil
}

// scriptCommands are the verbs that scripts have besides testscript's own.
var scriptCommands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"authority":   scriptAuthority,   // a whole authority; sets REG, ISSUER, HALLMARK_…
	"image":       scriptImage,       // a small image
	"tool":        scriptTool,        // the path of a peer
	"index":       scriptIndex,       // an index of two platforms
	"source":      scriptSource,      // a repository with tags, keys and allowed_signers
	"buildkit":    scriptBuildkit,    // buildkitd and a base image
	"gitserver":   scriptGitServer,   // a repository over HTTP
	"dockerfiles": scriptDockerfiles, // those of our own images
	"tagmover":    scriptTagMover,    // a URL that moves a tag
	"onfetch":     scriptOnFetch,     // a URL that runs a script
	"registry":    registryCommand,
	"showcase":    showcaseCommand,
	"waitup":      scriptWaitUp,      // until an authority answers; sets URL, REGISTRY, HALLMARK_…
	"fetch":       scriptFetch,       // an HTTP status
	"asked":       scriptAsked,       // hallmark in front of a terminal
	"ca":          scriptCA,          // a CA, and its revocation list
	"serve":       scriptServe,       // a folder over HTTP
	"flip":        scriptFlip,        // a bit of a file
	"revocable":   scriptRevocable,   // a Notary signature whose certificates can be revoked
	"witness":     scriptWitness,     // cosigns a bundle's checkpoint
	"softhsm":     scriptSoftHSM,     // tokens with keys, and the plugin; sets MODULE, PIN_FILE
	"policies":    scriptPolicies,    // the policies of docs/policies
	"forge":       scriptForge,       // repositories, their CI's issuer, and an authority that takes its tokens
	"job":         scriptJob,         // the token of a job of the forge
	"builder":     scriptBuilder,     // builder.json for what is installed
	"blobs":       scriptBlobs,       // everything in a registry, uncompressed
	"policystore": scriptPolicyStore, // a store of signing policies whose records are old enough
	"rekor1":      scriptRekor,       // a log of version 1; sets REKOR1, HALLMARK_TRUSTED_ROOT
}
