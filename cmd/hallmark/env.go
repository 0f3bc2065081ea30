package main

import (
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/key"
)

// environment is the closed list of variables that hallmark reads; there is no
// other hidden configuration. docs/manual.md shows the same table.
var environment = []struct {
	name, what string
	secret     bool
}{
	{"HALLMARK_DATA", "data folder of hallmark up", false},
	{cli.EnvTrustedRoot, "trust root that verify, sign and build use", false},
	{cli.EnvTrust, "trust bundle of hallmark trust, for verify, admit and sign", false},
	{cli.EnvSigningConfig, "signing config that sign, attest and build use", false},
	{envPatience, "how long signing services that do not answer are asked again", false},
	{"HALLMARK_TOOLS", "folder with buildkitd", false},
	{"BUILDKIT_HOST", "address of a running BuildKit", false},
	{envProgress, "how build and bake are shown, where --progress does not say it", false},
	{"DOCKER_CONFIG", "folder with registry logins", false},
	{cli.EnvSignatureRepository, "repository with signatures, for verify and convert", false},
	{envGitToken, "build, bake, policy: token of SOURCE's git server; of another one with .HOST behind the name", true},
	{envGitHeader, "build, bake, policy: Authorization header in its place", true},
	{"COSIGN_PASSWORD", "password of a key file, PIN of a token", true},
	{key.EnvPIN, "PIN of a PKCS #11 token", true},
	{"HALLMARK_PKCS11_MODULE", "PKCS #11 module, for sigstore-kms-pkcs11", false},
	{"SSH_AUTH_SOCK", "ssh-agent, for keys in it", false},
	{"SIGSTORE_ID_TOKEN", "identity token", true},
	{"ACTIONS_ID_TOKEN_REQUEST_URL", "GitHub Actions: where to get an identity token", false},
	{"ACTIONS_ID_TOKEN_REQUEST_TOKEN", "GitHub Actions: leave to get one", true},
	{"GITHUB_EVENT_NAME", "build --inputs: what started the job", false},
	{"CI_PIPELINE_SOURCE", "build --inputs: what started the job, in GitLab", false},
	{"GITHUB_EVENT_PATH", "build --inputs: the event, for the default branch and labels", false},
	{"CI_DEFAULT_BRANCH", "build --inputs: the default branch, in GitLab", false},
	{"GITHUB_SERVER_URL", "hallmark up --rehearse-github: where the repositories are", false},
	{"BUILDKITE_AGENT_ACCESS_TOKEN", "Buildkite: leave to get an identity token", true},
	{"SPIFFE_ENDPOINT_SOCKET", "SPIFFE workload API", false},
	{"GCE_METADATA_HOST", "Google's metadata server, when not the usual one", false},
}

// environmentAnswer is what env --json prints.
type environmentAnswer struct {
	Variables []variableAnswer `json:"variables"`
}

type variableAnswer struct {
	Name  string `json:"name"`
	What  string `json:"what"`
	Set   bool   `json:"set"`
	Value string `json:"value,omitempty"` // never of a secret
}

func newEnvCommand(a *app) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "env",
		Short: "Show the environment variables that hallmark reads",
		Example: `  hallmark env
  hallmark env --json`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			var answer environmentAnswer
			for _, e := range environment {
				v := variableAnswer{Name: e.name, What: e.what, Set: a.Env(e.name) != ""}
				if !e.secret {
					v.Value = a.Env(e.name)
				}
				answer.Variables = append(answer.Variables, v)
			}
			if asJSON {
				return a.PrintJSON(answer)
			}
			w := tabwriter.NewWriter(a.Stdout, 0, 0, 2, ' ', 0)
			for _, v := range answer.Variables {
				value := v.Value
				switch {
				case !v.Set:
					value = "-"
				case value == "":
					value = "(set, not shown)"
				}
				if _, err := w.Write([]byte(v.Name + "\t" + v.What + "\t" + value + "\n")); err != nil {
					return err
				}
			}
			return w.Flush()
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}
