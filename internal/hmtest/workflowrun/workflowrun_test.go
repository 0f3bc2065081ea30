package workflowrun_test

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hallmark-dev/hallmark/internal/hmtest/workflowrun"
)

const small = `on:
  workflow_call:
    inputs:
      name: {type: string, required: true}
      loud: {type: boolean, default: false}
      times: {type: number, default: 2}
    secrets:
      word: {required: false}
    outputs:
      said: {value: "${{ jobs.a.outputs.said }}"}
      many: {value: "${{ jobs.a.outputs.many }}"}
jobs:
  a:
    env: {WITH: "${{ secrets.word != '' }}"}
    outputs:
      said: ${{ steps.say.outputs.said || 'nothing' }}
      many: ${{ steps.say.outputs.many }}
    steps:
      - name: Quiet
        if: "!inputs.loud && env.WITH == 'true'"
        id: say
        env: {NAME: "${{ inputs.name }}", ALL: "${{ toJSON(inputs) }}"}
        run: |
          echo "said=$NAME" >> "$GITHUB_OUTPUT"
          printf 'many<<E\n%s\nE\n' "$ALL" >> "$GITHUB_OUTPUT"
      - name: Action
        if: (inputs.loud || inputs.name == 'x') && env.WITH != 'true'
        uses: a/b@0000
        with: {to: "${{ inputs.name }}"}
      - name: Fail
        if: inputs.times == '3'
        run: "false | true"
`

func TestRun(t *testing.T) {
	t.Parallel()
	call := func(with, secrets map[string]any) (*workflowrun.Result, string, error) {
		var got string
		r, err := workflowrun.Run(t.Context(), workflowrun.Call{Workflow: []byte(small), With: with, Secrets: secrets, Dir: t.TempDir(),
			Env: []string{"PATH=" + os.Getenv("PATH")},
			Uses: map[string]func(map[string]string) (map[string]any, error){"a/b": func(with map[string]string) (map[string]any, error) {
				got = with["to"]
				return nil, nil
			}}})
		return r, got, err
	}
	r, _, err := call(map[string]any{"name": "a $(false) 'b'"}, map[string]any{"word": "w"})
	if err != nil || r.Outputs["said"] != "a $(false) 'b'" || !strings.Contains(r.Outputs["many"].(string), `"times": 2`) {
		t.Errorf("%+v, %v", r, err)
	}
	r, to, err := call(map[string]any{"name": "x", "loud": true}, nil)
	if err != nil || to != "x" || r.Outputs["said"] != "nothing" || cmp.Diff([]string{"Action"}, r.Steps) != "" {
		t.Errorf("%+v, %v, %v", r, to, err)
	}
	for name, tc := range map[string]struct{ with, secrets map[string]any }{
		"missing input":  {nil, nil},
		"unknown input":  {map[string]any{"name": "x", "nmae": "y"}, nil},
		"wrong type":     {map[string]any{"name": "x", "loud": "yes"}, nil},
		"unknown secret": {map[string]any{"name": "x"}, map[string]any{"wrod": "w"}},
		"failed pipe":    {map[string]any{"name": "x", "times": 3}, nil},
	} {
		if r, _, err := call(tc.with, tc.secrets); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
	for old, text := range map[string]string{"inputs.name == 'x'": "contains(inputs.name, 'x')", "a/b@0000": "a/c@0000", "inputs.times == '3'": "matrix.x"} {
		if r, err := workflowrun.Run(t.Context(), workflowrun.Call{Workflow: []byte(strings.Replace(small, old, text, 1)),
			With: map[string]any{"name": "x", "loud": true}, Dir: t.TempDir()}); err == nil {
			t.Errorf("%s: %+v", text, r)
		}
	}
}
