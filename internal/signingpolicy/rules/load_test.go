package rules_test

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/signingpolicy/rules"
)

// TestLoad: row 81 of the attack cases, and what is near it.
func TestLoad(t *testing.T) {
	t.Parallel()
	const big = "# a comment that fills the file\n"
	for name, c := range map[string]struct {
		files   map[string][]byte
		want    string // in a reason, "" compiles
		subject string
		hint    string
	}{
		"good":                    {folder(yes), "", "", ""},
		"with data":               {folder(yes+"deny_msg contains \"x\" if input.now < data.until", "data.json", `{"until": "2026-01-01T00:00:00Z"}`), "", "", ""},
		"two files":               {folder("default allow := false\n\nallow if good", "good.rego", "package hallmark.signing\n\ngood if input.git.isAnnotatedTag"), "", "", ""},
		"alias":                   {map[string][]byte{rules.Alias: folder(yes)["signing.rego"]}, "", "", ""},
		"with tests":              {folder(yes, "signing_test.rego", "this is not looked at"), "", "", ""},
		"alias and signing.rego":  {folder(yes, rules.Alias, yes), "a policy has one of the two", "signing.rego", ""},
		"no signing.rego":         {map[string][]byte{"policy.rego": []byte("package hallmark.signing\n\nallow if input.build.push")}, "no signing.rego", "", ""},
		"tests alone":             {map[string][]byte{"signing_test.rego": []byte("package hallmark.signing\n\nallow if input.build.push")}, "no signing.rego", "", ""},
		"nothing":                 {nil, "no signing.rego", "", ""},
		"another kind of file":    {folder(yes, "policy.cue", "x"), "*.rego files and data.json", "policy.cue", ""},
		"hidden file":             {folder(yes, ".hidden.rego", "package hallmark.signing"), "a file's name", ".hidden.rego", ""},
		"name with a line break":  {folder(yes, "a\nb.rego", "package hallmark.signing"), "a file's name", "a\nb.rego", ""},
		"empty":                   {map[string][]byte{"signing.rego": nil}, "empty", "signing.rego", ""},
		"typo":                    {folder(yes + `deny_msg contains "x" if input.tag.signer`), "undefined ref", "signing.rego:7", ""},
		"typo with a near name":   {folder(yes + `deny_msg contains "x" if input.git.isAnotatedTag`), "undefined ref", "signing.rego:7", "did you mean input.git.isAnnotatedTag?"},
		"schema of its own":       {map[string][]byte{"signing.rego": []byte("# METADATA\n# scope: package\n# schemas:\n#   - input: {type: object}\npackage hallmark.signing\n\nallow if input.tag.signer\n")}, "undefined ref", "signing.rego:7", ""},
		"typo in a list":          {folder(yes + `deny_msg contains a.principle if some a in input.approvals`), "undefined ref", "signing.rego:7", "principal"},
		"text for a boolean":      {folder(yes + `deny_msg contains "x" if input.git.isAnnotatedTag == "yes"`), "match error", "signing.rego:7", ""},
		"http.send":               {folder(yes + `deny_msg contains "x" if http.send({"method": "get", "url": "https://example.org"}).status_code != 200`), "undefined function http.send", "signing.rego:7", ""},
		"opa.runtime":             {folder(yes + `deny_msg contains "x" if opa.runtime().env.HOME`), "undefined function opa.runtime", "signing.rego:7", ""},
		"clock":                   {folder(yes + `deny_msg contains "x" if time.now_ns() > 3`), "undefined function time.now_ns", "signing.rego:7", ""},
		"dice":                    {folder(yes + `deny_msg contains "x" if rand.intn("a", 2) == 0`), "undefined function rand.intn", "signing.rego:7", ""},
		"uuid":                    {folder(yes + `deny_msg contains "x" if uuid.rfc4122("a") == ""`), "undefined function uuid.rfc4122", "signing.rego:7", ""},
		"network":                 {folder(yes + `deny_msg contains "x" if net.lookup_ip_addr("example.org") == {"x"}`), "undefined function net.lookup_ip_addr", "signing.rego:7", ""},
		"ranges":                  {folder(yes + `deny_msg contains "x" if count(numbers.range(1, 200000000)) > 1`), "undefined function numbers.range", "signing.rego:7", ""},
		"second package":          {folder(yes, "b.rego", "package hallmark.other\n\nx if input.build.push"), "rules must stand in package hallmark.signing", "b.rego:1", ""},
		"package below":           {folder(yes, "b.rego", "package hallmark.signing.more\n\nx if input.build.push"), "rules must stand in package hallmark.signing", "b.rego:1", ""},
		"the library's package":   {folder(yes, "b.rego", "package hallmark.lib\n\nquorum(a, b) if input.build.push"), "rules must stand in package hallmark.signing", "b.rego:1", ""},
		"data outside":            {folder(yes + `deny_msg contains "x" if data.secrets.x`), "neither a rule of this policy nor in its data.json", "signing.rego:7", ""},
		"import of data outside":  {map[string][]byte{"signing.rego": []byte("package hallmark.signing\n\nimport data.secrets\n\nallow if secrets.x")}, "neither a rule of this policy nor in its data.json", "signing.rego:5", ""},
		"missing data":            {folder(`default allow := false` + "\n\n" + `allow if lib.quorum(data.maintainers, 2)`), "data.maintainers is neither", "signing.rego:7", ""},
		"helper that is none":     {folder("default allow := false\n\nallow if lib.quorums({\"a\"}, 2)"), "quorums", "signing.rego:7", ""},
		"rule that nothing uses":  {folder(yes + `deny contains "x" if input.build.push`), "decides nothing", "signing.rego:7", ""},
		"data with rules' name":   {folder(yes, "data.json", `{"hallmark": {"signing": {"allow": true}}}`), "the name hallmark belongs to rules", "data.json", ""},
		"data as a list":          {folder(yes, "data.json", `[]`), "", "data.json", ""},
		"data twice":              {folder(yes, "data.json", `{"a": 1, "a": 2}`), "a", "data.json", ""},
		"data and more":           {folder(yes, "data.json", `{"a": 1} {}`), "", "data.json", ""},
		"old Rego":                {folder("default allow = false\n\nallow { input.build.push }"), "rego_parse_error", "signing.rego:5", ""},
		"the proposal's own text": {folder("allow if = {\n\tinput.git.isAnnotatedTag\n}"), "rego_parse_error", "signing.rego:3", ""},
		"too large":               {folder(yes + strings.Repeat(big, rules.MaxBundle/len(big))), "at most 262144", "", ""},
		"too large together":      {folder(yes, "data.json", `{"a": "`+strings.Repeat("x", rules.MaxBundle-1200)+`"}`), "at most 262144", "", ""},
		"fits":                    {folder(yes + strings.Repeat(big, (rules.MaxBundle-3000)/len(big))), "", "", ""},
	} {
		p, wrongs := rules.Load(c.files, rules.Options{})
		bad := c.want != "" || c.subject != ""
		switch {
		case (p == nil) != bad || (wrongs == nil) == bad:
			t.Errorf("%s: %v %+v", name, p != nil, wrongs)
		case bad && (codes(wrongs) != "POLICY_COMPILE" || !strings.Contains(wrongs[0].Message, c.want) || wrongs[0].Subject != c.subject || !strings.Contains(wrongs[0].Hint, c.hint)):
			t.Errorf("%s: %+v, want %q at %q", name, wrongs, c.want, c.subject)
		}
	}
}

// TestBundle: what approvals bind is the text of the rules and the data, and nothing else.
func TestBundle(t *testing.T) {
	t.Parallel()
	digest := func(files map[string][]byte) string {
		t.Helper()
		p, wrongs := rules.Load(files, rules.Options{})
		if wrongs != nil {
			t.Fatalf("%+v", wrongs)
		}
		again, err := rules.OpenBundle(p.Bundle())
		if err != nil {
			t.Fatal(err)
		}
		q, wrongs := rules.Load(again, rules.Options{})
		if wrongs != nil || q.Digest() != p.Digest() {
			t.Errorf("%+v %s %s", wrongs, q.Digest(), p.Digest())
		}
		return p.Digest()
	}
	text := folder(yes)["signing.rego"]
	data := []byte(`{"a": 1}`)
	first := digest(map[string][]byte{"signing.rego": text, "data.json": data})
	// Written down once: a record of today names it for ever.
	if want := "sha256:5f07f44372acfa230cae2681627300300ad8a88c8c49a08799f299f76abacc69"; first != want {
		t.Errorf("digest %s, want %s", first, want)
	}
	for name, files := range map[string]map[string][]byte{
		"alias":        {rules.Alias: text, "data.json": data},
		"with folders": {".hallmark/signing.rego": text, ".hallmark/data.json": data},
		"with tests":   {"signing.rego": text, "data.json": data, "signing_test.rego": []byte("package x")},
	} {
		if got := digest(files); got != first {
			t.Errorf("%s: %s, want %s", name, got, first)
		}
	}
	for name, files := range map[string]map[string][]byte{
		"another rule":     {"signing.rego": append(text[:len(text):len(text)], '\n'), "data.json": data},
		"other data":       {"signing.rego": text, "data.json": []byte(`{"a": 2}`)},
		"data by spaces":   {"signing.rego": text, "data.json": []byte(`{"a":1}`)},
		"without data":     {"signing.rego": text},
		"one file more":    {"signing.rego": text, "data.json": data, "more.rego": []byte("package hallmark.signing\n")},
		"text as two":      {"signing.rego": []byte("package hallmark.signing\n"), "more.rego": text, "data.json": data},
		"names changed":    {"signing.rego": text, "data.json": data, "other.rego": []byte("package hallmark.signing\n")},
		"empty data":       {"signing.rego": text, "data.json": []byte(`{}`)},
		"rules as comment": {"signing.rego": append([]byte("# x\n"), text...), "data.json": data},
	} {
		if got := digest(files); got == first {
			t.Errorf("%s: the same digest", name)
		}
	}
}

// TestOpenBundle: one policy has one bundle.
func TestOpenBundle(t *testing.T) {
	t.Parallel()
	p, wrongs := rules.Load(folder(yes, "data.json", `{"a": 1}`), rules.Options{})
	if wrongs != nil {
		t.Fatal(wrongs)
	}
	good := p.Bundle()
	for i := range good {
		bad := append([]byte(nil), good...)
		bad[i] ^= 1
		files, err := rules.OpenBundle(bad)
		if err == nil && maps.EqualFunc(files, map[string][]byte{"signing.rego": folder(yes)["signing.rego"], "data.json": []byte(`{"a": 1}`)}, func(a, b []byte) bool { return string(a) == string(b) }) {
			t.Fatalf("with byte %d flipped the bundle is accepted as the same", i)
		}
	}
	for name, bad := range map[string][]byte{
		"nothing":        nil,
		"cut":            good[:len(good)-512],
		"longer":         append(good[:len(good):len(good)], make([]byte, 512)...),
		"followed":       append(good[:len(good):len(good)], 'x'),
		"no tar":         []byte("package hallmark.signing"),
		"more than that": make([]byte, rules.MaxBundle+1),
	} {
		if files, err := rules.OpenBundle(bad); err == nil && name != "nothing" || len(files) > 0 {
			t.Errorf("%s: accepted as %v", name, files)
		}
	}
}

// FuzzOpenBundle: what is accepted has names that a policy's files have, and nothing beside
// them: sizes and padding account for each byte.
func FuzzOpenBundle(f *testing.F) {
	p, wrongs := rules.Load(rules.ReadyFiles("open"), rules.Options{})
	if wrongs != nil {
		f.Fatal(wrongs)
	}
	f.Add(p.Bundle())
	f.Add([]byte("package hallmark.signing"))
	f.Fuzz(func(t *testing.T, bundle []byte) {
		files, err := rules.OpenBundle(bundle)
		if err != nil {
			return
		}
		size := 1024
		for name, text := range files {
			if strings.ContainsAny(name, "/\\\x00 ") || strings.HasPrefix(name, ".") {
				t.Errorf("%q", name)
			}
			size += 512 + (len(text)+511)/512*512
		}
		if size != len(bundle) {
			t.Errorf("%d bytes, of which %d are files", len(bundle), size)
		}
	})
}

func TestReadFolder(t *testing.T) {
	t.Parallel()
	write := func(dir string, files map[string]string) {
		for name, text := range files {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		files map[string]string
		link  string // name=target
		want  string // in a reason
		names string
	}{
		"whole":             {map[string]string{"signing.rego": "x", "signing_test.rego": "y", "data.json": "{}", "authority.json": "{}", "README.md": ""}, "", "", "data.json signing.rego signing_test.rego"},
		"alias":             {map[string]string{"github-builder.rego": "x"}, "", "", "github-builder.rego"},
		"alias beside it":   {map[string]string{"github-builder.rego": "x", "signing.rego": "x"}, "", "one of the two", ""},
		"no rules":          {map[string]string{"data.json": "{}"}, "", "no signing.rego", ""},
		"below":             {map[string]string{"signing.rego": "x", "more/deny.rego": "x"}, "", "would be overlooked", ""},
		"tests below":       {map[string]string{"signing.rego": "x", "more/deny_test.rego": "x"}, "", "", "signing.rego"},
		"capitals":          {map[string]string{"signing.rego": "x", "deny.Rego": "x"}, "", "would be overlooked", ""},
		"too large":         {map[string]string{"signing.rego": strings.Repeat("x", rules.MaxBundle+1)}, "", "at most", ""},
		"folder of a name":  {map[string]string{"signing.rego": "x", "data.json/x": "x"}, "", "", "signing.rego"},
		"link within":       {map[string]string{"real.rego": "x"}, "signing.rego=real.rego", "", "real.rego signing.rego"},
		"link out of it":    {map[string]string{"signing.rego": "x"}, "data.json=/etc/hostname", "error", ""},
		"link to the above": {map[string]string{"signing.rego": "x"}, "data.json=../../secret", "error", ""},
	} {
		dir := t.TempDir()
		write(dir, c.files)
		if link, target, ok := strings.Cut(c.link, "="); ok {
			if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
				t.Fatal(err)
			}
		}
		files, wrongs, err := rules.ReadFolder(dir)
		var names []string
		for n := range files {
			names = append(names, n)
		}
		switch {
		case c.want == "error":
			if err == nil {
				t.Errorf("%s: %v %+v", name, names, wrongs)
			}
		case err != nil || (wrongs == nil) != (c.want == "") || wrongs != nil && !strings.Contains(wrongs[0].Message, c.want):
			t.Errorf("%s: %v %+v, want %q", name, err, wrongs, c.want)
		case len(names) != len(strings.Fields(c.names)):
			t.Errorf("%s: %v, want %s", name, names, c.names)
		}
	}
	if _, _, err := rules.ReadFolder(filepath.Join(t.TempDir(), "nowhere")); err == nil {
		t.Error("a folder that is none")
	}
}
