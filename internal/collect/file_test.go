package collect_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/collect"
	"github.com/hallmark-dev/hallmark/internal/evidence"
)

func TestFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pretty := func(v any) string {
		data, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	var raw json.RawMessage = []byte(cosignBundle)
	api := pretty(map[string]any{"attestations": []any{
		map[string]any{"bundle": raw, "repository_id": 1, "bundle_url": "https://blob.test/x?sig=1"}, map[string]any{"bundle": raw}, map[string]any{"bundle": map[string]any{}}}})
	for name, c := range map[string]struct {
		content string
		want    string // a letter for each item: claim, error
		err     string
	}{
		"a bundle":                    {cosignBundle, "c", ""},
		"a bundle over several lines": {pretty(raw), "c", ""},
		"lines":                       {cosignBundle + "\n" + cosignBundle + "\n", "cc", ""},
		"lines, blank and CRLF":       {"\r\n" + cosignBundle + "\r\n\r\n" + cosignBundle, "cc", ""},
		"lines, one broken":           {cosignBundle + "\n{\"a\":1}\nnonsense\n" + cosignBundle + "\n", "ceec", ""},
		"GitHub's answer":             {api, "cce", ""},
		"answer without attestations": {`{"attestations":[]}`, "", "no attestations"},
		"answer with addresses only":  {`{"attestations":[{"bundle":null,"bundle_url":"https://blob.test/x"}]}`, "", "bundle_url"},
		"answer twice":                {`{"attestations":[],"attestations":[{"bundle":` + cosignBundle + `}]}`, "e", ""},
		"answer of another shape":     {`{"attestations":{"bundle":{}}}`, "", "attestations:"},
		"in another case":             {`{"Attestations":[{"bundle":` + cosignBundle + `}]}`, "e", ""},
		"nothing":                     {" \n\n", "", "empty"},
		"no JSON":                     {"MEUC", "e", ""},
		"many lines":                  {strings.Repeat("{}\n", 1002), strings.Repeat("e", 1001), ""},
	} {
		file := filepath.Join(dir, "file")
		if err := os.WriteFile(file, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		items, err := collect.Files(file)
		if (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, want %q", name, err, c.err)
		}
		have := ""
		for _, it := range items {
			switch {
			case it.Claim != nil && it.Err == nil && it.Where.How == "file":
				have += "c"
			case it.Claim == nil && it.Err != nil:
				have += "e"
			default:
				have += "?"
			}
		}
		if have != c.want {
			t.Errorf("%s: %s, want %s", name, have, c.want)
		}
		if len(items) == 2 && (items[0].Where.Ref != file+"#1" || items[0].Where.Digest != evidence.SHA256([]byte(cosignBundle)) && !strings.Contains(name, "answer")) {
			t.Errorf("%s: %+v", name, items[0].Where)
		}
	}
	if _, err := collect.Files(filepath.Join(dir, "none")); !os.IsNotExist(err) && !strings.Contains(err.Error(), "no such file") {
		t.Errorf("%v", err)
	}
}

func FuzzBundleTexts(f *testing.F) {
	f.Add([]byte(cosignBundle))
	f.Add([]byte(cosignBundle + "\n" + cosignBundle))
	f.Add([]byte(`{"attestations":[{"bundle":{}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		texts, err := collect.BundleTexts(data)
		total := 0
		for _, text := range texts {
			total += len(text)
		}
		if (err == nil) == (len(texts) == 0) || total > len(data) {
			t.Errorf("%d texts of %d bytes out of %d: %v", len(texts), total, len(data), err)
		}
	})
}
