package rules

import (
	"path"
	"slices"

	"github.com/hallmark-dev/hallmark/docs/policies/signing"
)

// Ready are the names of the policies that a repository can start from, from the least to
// the most demanding: open, solo, team, strict.
func Ready() []string { return []string{"open", "solo", "team", "strict"} }

// ReadyFiles are the files of a ready policy: signing.rego, signing_test.rego and
// data.json, whose people and numbers are placeholders. Nil for a name that is none. The
// tests hold whatever data.json says.
func ReadyFiles(name string) map[string][]byte {
	if !slices.Contains(Ready(), name) {
		return nil
	}
	files := map[string][]byte{}
	for _, file := range []string{RulesFile, "signing_test.rego", DataFile} {
		text, err := signing.Ready.ReadFile(path.Join(name, file))
		if err == nil { // it is embedded
			files[file] = text
		}
	}
	return files
}
