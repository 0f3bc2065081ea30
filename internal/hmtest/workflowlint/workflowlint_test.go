package workflowlint_test

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/hallmark-dev/hallmark/internal/hmtest/workflowlint"
)

const sound = `on:
  workflow_call:
    inputs:
      name: {type: string}
permissions:
  contents: read
jobs:
  build:
    runs-on: ubuntu-24.04
    timeout-minutes: 60
    permissions:
      contents: read
      id-token: write
    container:
      image: docker.io/library/alpine@sha256:0000000000000000000000000000000000000000000000000000000000000000
    steps:
      - uses: actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd # v6.0.2
        with:
          persist-credentials: false
      - run: |
          echo "$NAME" >> "$GITHUB_OUTPUT"
        env:
          NAME: ${{ inputs.name }}
          TOKEN: ${{ secrets.token }}
  call:
    uses: ./.github/workflows/other.yml
    permissions:
      contents: read
`

func TestSound(t *testing.T) {
	t.Parallel()
	found, err := workflowlint.Check("sound.yml", []byte(sound))
	if err != nil || len(found) != 0 {
		t.Errorf("%v, %v", found, err)
	}
}

// ofPlan is a matrix that another job made.
const ofPlan = `strategy: {matrix: {include: "${{ fromJSON(needs.plan.outputs.parts || '[{\"runner\":\"ubuntu-24.04\"}]') }}"}}`

// TestEachNearMissIsFound changes one thing of the sound workflow at a time.
func TestEachNearMissIsFound(t *testing.T) {
	t.Parallel()
	const pinned = "actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd # v6.0.2"
	for _, tc := range []struct{ old, new, rule string }{
		{pinned, "actions/checkout@v6", workflowlint.RuleUnpinned},
		{pinned, "actions/checkout@main", workflowlint.RuleUnpinned},
		{pinned, "actions/checkout@de0fac2", workflowlint.RuleUnpinned},
		{pinned, "actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dda # v6.0.2", workflowlint.RuleUnpinned},
		{pinned, "actions/checkout", workflowlint.RuleUnpinned},
		{pinned, "actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd", workflowlint.RuleUnpinned},
		{pinned, "actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd # latest", workflowlint.RuleUnpinned},
		{pinned, "docker://alpine:3", workflowlint.RuleUnpinned},
		{"./.github/workflows/other.yml", "org/repo/.github/workflows/other.yml@v1", workflowlint.RuleUnpinned},
		{"@sha256:0000000000000000000000000000000000000000000000000000000000000000", ":3.20", workflowlint.RuleUnpinned},
		{"\n      image: docker.io/library/alpine@sha256:0000000000000000000000000000000000000000000000000000000000000000", " alpine:3", workflowlint.RuleUnpinned},
		{"    steps:\n", "    services:\n      db:\n        image: postgres:16\n    steps:\n", workflowlint.RuleUnpinned},
		{`echo "$NAME"`, `echo "${{ inputs.name }}"`, workflowlint.RuleInjection},
		{`echo "$NAME"`, `echo "${{ github.sha }}"`, workflowlint.RuleInjection},
		{"persist-credentials: false", "persist-credentials: false\n          script: console.log(\"${{ inputs.name }}\")", workflowlint.RuleInjection},
		{"permissions:\n  contents: read\njobs", "jobs", workflowlint.RulePermissions},
		{"permissions:\n  contents: read\njobs", "permissions: write-all\njobs", workflowlint.RulePermissions},
		{"permissions:\n  contents: read\njobs", "permissions: read-all\njobs", workflowlint.RulePermissions},
		{"permissions:\n  contents: read\njobs", "permissions:\n  id-token: write\njobs", workflowlint.RulePermissions},
		{"      contents: read\n      id-token: write\n", "      contents: write\n      id-token: write\n", workflowlint.RulePermissions},
		{"      contents: read\n      id-token: write\n", "      packages: write\n", workflowlint.RulePermissions},
		{"    permissions:\n      contents: read\n      id-token: write\n", "", workflowlint.RulePermissions},
		{"\n        with:\n          persist-credentials: false", "", workflowlint.RuleCredentials},
		{"persist-credentials: false", "persist-credentials: true", workflowlint.RuleCredentials},
		{"persist-credentials: false", "fetch-depth: 0", workflowlint.RuleCredentials},
		{"  workflow_call:\n    inputs:\n      name: {type: string}\n", "  pull_request_target:\n", workflowlint.RuleTrigger},
		{"on:\n  workflow_call:\n    inputs:\n      name: {type: string}\n", "on: [push, pull_request_target]\n", workflowlint.RuleTrigger},
		{"on:\n  workflow_call:\n    inputs:\n      name: {type: string}\n", "on: pull_request_target\n", workflowlint.RuleTrigger},
		{"  workflow_call:\n", "  workflow_run: {workflows: [x]}\n  workflow_call:\n", workflowlint.RuleTrigger},
		{"  workflow_call:\n", "  issue_comment:\n  workflow_call:\n", workflowlint.RuleTrigger},
		{"other.yml\n", "other.yml\n    secrets: inherit\n", workflowlint.RuleSecrets},
		{"${{ secrets.token }}", "${{ toJSON(secrets) }}", workflowlint.RuleSecrets},
		{"${{ secrets.token }}", "${{ secrets[inputs.name] }}", workflowlint.RuleSecrets},
		{"runs-on: ubuntu-24.04", "runs-on: ubuntu-latest", workflowlint.RuleRunner},
		{"runs-on: ubuntu-24.04", "runs-on: self-hosted", workflowlint.RuleRunner},
		{"runs-on: ubuntu-24.04", "runs-on: [self-hosted, linux]", workflowlint.RuleRunner},
		{"runs-on: ubuntu-24.04", "runs-on: ${{ inputs.name }}", workflowlint.RuleRunner},
		{"runs-on: ubuntu-24.04", "runs-on: ${{ matrix.runner }}", workflowlint.RuleRunner},
		{"runs-on: ubuntu-24.04", "strategy: {matrix: {include: \"${{ fromJSON(inputs.name) }}\"}}\n    runs-on: ${{ matrix.runner }}", workflowlint.RuleRunner},
		{"runs-on: ubuntu-24.04", "strategy: {matrix: {runner: [self-hosted]}}\n    runs-on: ${{ matrix.runner }}", workflowlint.RuleRunner},
		{"runs-on: ubuntu-24.04", "strategy: {matrix: {include: [{runner: self-hosted}]}}\n    runs-on: ${{ matrix.runner }}", workflowlint.RuleRunner},
		{"runs-on: ubuntu-24.04", ofPlan + "\n    runs-on: ${{ matrix.label }}", workflowlint.RuleRunner},
		{"runs-on: ubuntu-24.04", strings.Replace(ofPlan, "ubuntu-24.04", "self-hosted", 1) + "\n    runs-on: ${{ matrix.runner }}", workflowlint.RuleRunner},
		{"GITHUB_OUTPUT", "GITHUB_ENV", workflowlint.RuleEnvironment},
		{"GITHUB_OUTPUT", "GITHUB_PATH", workflowlint.RuleEnvironment},
		{`echo "$NAME" >>`, `echo "::set-env name=A::$NAME" >>`, workflowlint.RuleEnvironment},
		{"TOKEN: ", "LD_PRELOAD: ", workflowlint.RuleEnvironment},
		{"TOKEN: ", "ACTIONS_ALLOW_UNSECURE_COMMANDS: ", workflowlint.RuleEnvironment},
		{"    steps:\n", "    env:\n      NODE_OPTIONS: -r x\n    steps:\n", workflowlint.RuleEnvironment},
		{`echo "$NAME"`, `curl -fsSL https://example.com/x | sh; echo "$NAME"`, workflowlint.RuleDownload},
		{`echo "$NAME"`, `wget -qO- https://example.com/x | sudo bash; echo "$NAME"`, workflowlint.RuleDownload},
		{`echo "$NAME"`, `bash <(curl -s https://example.com/x); echo "$NAME"`, workflowlint.RuleDownload},
		{`echo "$NAME"`, `curl -k -o x https://example.com/x; echo "$NAME"`, workflowlint.RuleDownload},
		{`echo "$NAME"`, `curl -fsSL https://deb.nodesource.com/setup | sudo -E bash -; echo "$NAME"`, workflowlint.RuleDownload},
		{`echo "$NAME"`, `curl -fsSL https://example.com/x | sudo -u root A=b /bin/bash; echo "$NAME"`, workflowlint.RuleDownload},
		{`echo "$NAME"`, `curl -fsSL "https://example.com/x?a=1&b=2" | sh; echo "$NAME"`, workflowlint.RuleDownload},
		{`echo "$NAME"`, `curl -fsSL "https://example.com/x?a=1&&b;c" | sh; echo "$NAME"`, workflowlint.RuleDownload},
		{`echo "$NAME"`, "curl -fsSL https://example.com/x \\\n            | sh; echo \"$NAME\"", workflowlint.RuleDownload},
		{`echo "$NAME"`, `curl -fsSL https://example.com/x.gz | gunzip | sh; echo "$NAME"`, workflowlint.RuleDownload},
		{`echo "$NAME"`, `curl -fsSL https://example.com/x | python3 -; echo "$NAME"`, workflowlint.RuleDownload},
		{`echo "$NAME"`, `curl -fsSL https://example.com/x | node; echo "$NAME"`, workflowlint.RuleDownload},
		{`echo "$NAME"`, `bash -c "$(curl -fsSL https://example.com/x)"; echo "$NAME"`, workflowlint.RuleDownload},
		{`echo "$NAME"`, `. <(curl -fsSL https://example.com/x); echo "$NAME"`, workflowlint.RuleDownload},
		{`echo "$NAME"`, `curl -o x https://example.com/x && sh x; echo "$NAME"`, workflowlint.RuleDownload},
		{`echo "$NAME"`, "curl -sSLo /tmp/get.sh https://example.com/x\n          bash -x /tmp/get.sh; echo \"$NAME\"", workflowlint.RuleDownload},
		{`echo "$NAME"`, "curl https://example.com/x > \"tool\"\n          chmod +x tool; ./tool; echo \"$NAME\"", workflowlint.RuleDownload},
		{`echo "$NAME"`, `wget -qO tool https://example.com/x; sudo ./tool; echo "$NAME"`, workflowlint.RuleDownload},
		{"${{ secrets.token }}", "${{ tojson(secrets) }}", workflowlint.RuleSecrets},
		{"${{ secrets.token }}", "${{ toJSON( Secrets ) }}", workflowlint.RuleSecrets},
		{"${{ secrets.token }}", "${{ join(secrets.*, ',') }}", workflowlint.RuleSecrets},
		{"${{ secrets.token }}", "${{ format('{0}', secrets['token']) }}", workflowlint.RuleSecrets},
		{"persist-credentials: false", "persist-credentials: false\n          data: ${{ toJSON(secrets) }}", workflowlint.RuleSecrets},
		{"other.yml\n", "other.yml\n    with:\n      all: ${{ toJSON(secrets) }}\n", workflowlint.RuleSecrets},
		{"    steps:\n", "    env:\n      TOKEN: ${{ secrets.token }}\n    steps:\n", workflowlint.RuleSecrets},
		{"    steps:\n", "    env:\n      TOKEN: ${{ secrets.token != '' && secrets.token }}\n    steps:\n", workflowlint.RuleSecrets},
		{"permissions:\n  contents: read\njobs", "permissions:\n  contents: read\nenv:\n  TOKEN: ${{ secrets.token }}\njobs", workflowlint.RuleSecrets},
		{"    container:\n", "    container:\n      env:\n        TOKEN: ${{ secrets.token }}\n", workflowlint.RuleSecrets},
		{"persist-credentials: false", "persist-credentials: false\n          Script: console.log(\"${{ inputs.name }}\")", workflowlint.RuleInjection},
		{"persist-credentials: false", "persist-credentials: false\n          inlineScript: echo ${{ inputs.name }}", workflowlint.RuleInjection},
		{"persist-credentials: false", "persist-credentials: false\n          args: --name ${{ inputs.name }}", workflowlint.RuleInjection},
		{"      - run: |", "      - shell: bash -c \"${{ inputs.name }}\" {0}\n        run: |", workflowlint.RuleInjection},
		{"    steps:\n", "    defaults:\n      run:\n        shell: bash -c \"${{ inputs.name }}\" {0}\n    steps:\n", workflowlint.RuleInjection},
		{"jobs:\n", "defaults:\n  run:\n    shell: ${{ inputs.name }} {0}\njobs:\n", workflowlint.RuleInjection},
		{"    container:\n", "    container:\n      options: ${{ inputs.name }}\n", workflowlint.RuleInjection},
		{"    container:\n", "    container:\n      volumes:\n        - ${{ inputs.name }}:/x\n", workflowlint.RuleInjection},
		{"    steps:\n", "    services:\n      db:\n        image: x@sha256:0000000000000000000000000000000000000000000000000000000000000000\n        options: --privileged ${{ inputs.name }}\n    steps:\n", workflowlint.RuleInjection},
		{`echo "$NAME"`, `eval "$NAME"; echo "$NAME"`, workflowlint.RuleInjection},
		{`echo "$NAME"`, `bash -ec "$NAME"; echo "$NAME"`, workflowlint.RuleInjection},
		{pinned + "\n        with:\n          persist-credentials: false", "Actions/Checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd # v6.0.2", workflowlint.RuleCredentials},
		{pinned, "./.github/actions/x", workflowlint.RuleUnpinned},
		{"NAME: ${{ inputs.name }}", "\"${{ inputs.name }}\": x", workflowlint.RuleEnvironment},
		{"        env:\n          NAME: ${{ inputs.name }}\n          TOKEN: ${{ secrets.token }}\n", "        env: ${{ fromJSON(inputs.name) }}\n", workflowlint.RuleEnvironment},
		{"NAME: ${{ inputs.name }}", "F: ${{ github.env }}\n          NAME: x", workflowlint.RuleEnvironment},
		{"NAME: ${{ inputs.name }}", "F: ${{ GitHub['path'] }}\n          NAME: x", workflowlint.RuleEnvironment},
		{"  workflow_call:\n", "  discussion:\n  workflow_call:\n", workflowlint.RuleTrigger},
		{"    timeout-minutes: 60\n", "", workflowlint.RuleTimeout},
		{"      - run: |", "      - continue-on-error: true\n        run: |", workflowlint.RuleIgnored},
		{"    timeout-minutes: 60\n", "    timeout-minutes: 60\n    continue-on-error: true\n", workflowlint.RuleIgnored},
	} {
		if !strings.Contains(sound, tc.old) {
			t.Errorf("%q is not in the sound workflow", tc.old)
			continue
		}
		found, err := workflowlint.Check("x.yml", []byte(strings.Replace(sound, tc.old, tc.new, 1)))
		if err != nil {
			t.Errorf("%q: %v", tc.new, err)
			continue
		}
		if !slices.ContainsFunc(found, func(f workflowlint.Finding) bool { return f.Rule == tc.rule && f.Line > 0 }) {
			t.Errorf("%q: %v, want %s", tc.new, found, tc.rule)
		}
	}
}

// TestNoFalseAlarm: what is a word away from a near-miss, and sound.
func TestNoFalseAlarm(t *testing.T) {
	t.Parallel()
	for old, changes := range map[string][]string{
		`echo "$NAME"`: {
			`curl -fsS https://example.com/x.json | jq .; echo "$NAME"`,
			`curl -fsS https://example.com/x.json | python3 -m json.tool; echo "$NAME"`,
			`curl -fsS https://example.com/x.json | bash -c 'cat'; echo "$NAME"`,
			`curl -fsSo x https://example.com/x && echo "$SUM  x" | sha256sum -c && sh x; echo "$NAME"`,
			`curl -fsSo x https://example.com/x && cosign verify-blob --bundle y x && chmod +x x; echo "$NAME"`,
			`curl -fsSo page.html https://example.com/x; ./check page.html; echo "$NAME"`,
			`cat script | sh; echo "$NAME"`,
			`sh -c 'echo "$1"' sh "$NAME"; echo "$NAME"`,
			`echo medieval curls; echo "$NAME"`,
		},
		"    steps:\n": {
			"    env:\n      WITH: ${{ secrets.token != '' }}\n    steps:\n",
			"    env:\n      NAME: ${{ inputs.name }}\n    steps:\n",
			"    defaults:\n      run:\n        shell: bash\n    steps:\n",
		},
		"NAME: ${{ inputs.name }}": {
			"NAME: ${{ github.event_path }}",
			"NAME: ${{ format('secrets {0}', inputs.name) }}",
			"NAME: ${{ env.PATHS }}",
		},
		"runs-on: ubuntu-24.04": {
			ofPlan + "\n    runs-on: ${{ matrix.runner }}",
			"strategy: {matrix: {include: \"${{ fromJSON(needs.plan.outputs.parts) }}\"}}\n    runs-on: ${{ matrix.runner }}",
		},
		"persist-credentials: false": {
			"persist-credentials: false\n          build-args: ${{ inputs.name }}",
			"persist-credentials: false\n          token: ${{ secrets.token }}",
		},
	} {
		for _, changed := range changes {
			if !strings.Contains(sound, old) {
				t.Fatalf("%q is not in the sound workflow", old)
			}
			if found, err := workflowlint.Check("x.yml", []byte(strings.Replace(sound, old, changed, 1))); err != nil || len(found) > 0 {
				t.Errorf("%q: %v, %v", changed, found, err)
			}
		}
	}
}

// TestActions: the steps of a composite action are steps.
func TestActions(t *testing.T) {
	t.Parallel()
	const action = "name: x\ninputs:\n  n: {required: true}\nruns:\n  using: composite\n  steps:\n    - run: echo \"$N\"\n      shell: bash\n      env:\n        N: ${{ inputs.n }}\n" +
		"    - uses: a/b@de0fac2e4500dabe0009e67214ff5f5447ce83dd # v1\n"
	if found, err := workflowlint.Check("action.yml", []byte(action)); err != nil || len(found) > 0 {
		t.Errorf("%v, %v", found, err)
	}
	for _, tc := range []struct{ old, new, rule string }{
		{`"$N"`, "${{ inputs.n }}", workflowlint.RuleInjection},
		{"shell: bash", "shell: ${{ inputs.n }}", workflowlint.RuleInjection},
		{"@de0fac2e4500dabe0009e67214ff5f5447ce83dd # v1", "@main", workflowlint.RuleUnpinned},
		{"a/b@de0fac2e4500dabe0009e67214ff5f5447ce83dd # v1", "./x", workflowlint.RuleUnpinned},
		{"N: ${{ inputs.n }}", "N: ${{ toJSON(secrets) }}", workflowlint.RuleSecrets},
		{"using: composite\n", "using: docker\n  image: docker://alpine:3\n", workflowlint.RuleUnpinned},
		{"using: composite\n", "using: docker\n  image: Dockerfile\n  args: [\"${{ inputs.n }}\"]\n", workflowlint.RuleInjection},
	} {
		found, err := workflowlint.Check("action.yml", []byte(strings.Replace(action, tc.old, tc.new, 1)))
		if err != nil || !slices.ContainsFunc(found, func(f workflowlint.Finding) bool { return f.Rule == tc.rule && f.Line > 0 }) {
			t.Errorf("%q: %v, %v, want %s", tc.new, found, err, tc.rule)
		}
	}
}

func TestFormsThatAreRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "a", "- a", "on: push\non: push\n", sound + "---\n" + sound, "a: &b c\nd: *b\n", "{"} {
		if found, err := workflowlint.Check("x.yml", []byte(text)); err == nil {
			t.Errorf("%q: %v", text, found)
		}
	}
}

// workflows are the workflows of this repository, and those that its documents show.
func workflows(t *testing.T) map[string][]byte {
	t.Helper()
	const root = "../../.."
	all := map[string][]byte{}
	var files []string
	for _, pattern := range []string{".github/workflows/*.yml", ".github/workflows/*.yaml", "action.y*ml", ".github/actions/*/action.y*ml"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) < 3 {
		t.Fatal("no workflows", files)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimPrefix(f, root)] = data
	}
	doc, err := os.ReadFile(filepath.Join(root, "docs/github.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(doc, -1) {
		if strings.Contains(string(m[1]), "jobs:") {
			all["github.md-"+string('a'+rune(len(all)))+".yml"] = m[1]
		}
	}
	return all
}

func TestOurWorkflows(t *testing.T) {
	t.Parallel()
	for name, data := range workflows(t) {
		found, err := workflowlint.Check(name, data)
		if err != nil {
			t.Error(err)
		}
		for _, f := range found {
			t.Errorf("%s: %v", name, f)
		}
	}
}

// TestStepsOfOneName: the jobs of a workflow have the builder, its checks and its logins
// alike; a workflow has no way to write them once.
func TestStepsOfOneName(t *testing.T) {
	t.Parallel()
	shared := 0
	for name, data := range workflows(t) {
		var w struct {
			Jobs map[string]struct{ Steps []map[string]any }
		}
		if err := yaml.Unmarshal(data, &w); err != nil {
			t.Fatal(err)
		}
		seen := map[any]map[string]any{}
		for job, j := range w.Jobs {
			for _, step := range j.Steps {
				before, again := seen[step["name"]]
				if again && !reflect.DeepEqual(before, step) {
					t.Errorf("%s: step %q of job %s is another than that of another job", name, step["name"], job)
				}
				if again && step["name"] != nil {
					shared++
				}
				if step["name"] != nil {
					seen[step["name"]] = step
				}
			}
		}
	}
	if shared < 10 {
		t.Errorf("%d steps are there more than once", shared)
	}
}

// FuzzCheck: no workflow makes it panic.
func FuzzCheck(f *testing.F) {
	f.Add([]byte(sound))
	f.Add([]byte("on: {push: }\njobs: [a]\npermissions: [x]\n"))
	f.Add([]byte("jobs: {a: {steps: {b: c}, uses: [x], runs-on: {}, container: []}}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if found, err := workflowlint.Check("x.yml", data); err == nil && len(found) == 0 && !strings.Contains(string(data), "permissions") && !strings.Contains(string(data), "runs") {
			t.Errorf("nothing found in %q", data)
		}
	})
}
