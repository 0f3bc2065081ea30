package input_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/signingpolicy/input"
)

func value(t testing.TB, d *input.Document) map[string]any {
	t.Helper()
	v, wrongs := d.Value()
	if wrongs != nil {
		t.Fatalf("%+v", wrongs)
	}
	return v
}

// TestExample is complete, says what it says and is read back as it was.
func TestExample(t *testing.T) {
	t.Parallel()
	d := input.Example()
	data, err := json.Marshal(value(t, d))
	if err != nil {
		t.Fatal(err)
	}
	again, wrongs, err := input.Parse(data)
	if err != nil || wrongs != nil || !reflect.DeepEqual(again, d) {
		t.Errorf("%v %+v\n%+v", err, wrongs, again)
	}
	if wrongs := input.Check(d); wrongs != nil {
		t.Errorf("%+v", wrongs)
	}
}

// members are the paths of all members of a document, with the objects that hold them.
func members(path string, v any, do func(path string, in map[string]any, name string)) {
	switch v := v.(type) {
	case map[string]any:
		for name, e := range v {
			do(path+"."+name, v, name)
			members(path+"."+name, e, do)
		}
	case []any:
		for i, e := range v {
			members(fmt.Sprintf("%s[%d]", path, i), e, do)
		}
	}
}

// schemaAt is the schema of the member at a path of the example.
func schemaAt(t *testing.T, path string) map[string]any {
	t.Helper()
	at, _ := input.Schema().(map[string]any)
	for _, part := range strings.FieldsFunc(strings.TrimPrefix(path, "input"), func(r rune) bool { return r == '.' || r == '[' }) {
		if of, ok := at["anyOf"].([]any); ok {
			at, _ = of[0].(map[string]any)
		}
		if strings.HasSuffix(part, "]") {
			at, _ = at["items"].(map[string]any)
			continue
		}
		properties, _ := at["properties"].(map[string]any)
		if properties == nil {
			at, _ = at["additionalProperties"].(map[string]any)
			continue
		}
		if at, _ = properties[part].(map[string]any); at == nil {
			t.Fatalf("the schema has no %s", path)
		}
	}
	return at
}

// TestEachMember: each member of the example is in the schema; taken out, made null or of
// another kind, it is missed by its path, unless the schema lets it be absent or null.
func TestEachMember(t *testing.T) {
	t.Parallel()
	full := func() map[string]any {
		d := input.Example()
		pr, args := 7, map[string]string{"CI": "true"}
		signer := *d.Git.Tag.Signer
		d.Git.Tag.PGPSignature, d.Git.Commit.Signer = &input.PGPSignature{Version: 4, KeyID: "0A"}, &signer
		d.Approvals[0].PR, d.Build.Args = &pr, args
		d.Rejected = []input.Rejected{{Source: "signed", ClaimedPrincipal: "bob", Code: "APPROVAL_EXPIRED"}}
		d.SourceVSA = []input.SourceVSA{{VerifierID: "https://example.org", Levels: []string{"SLSA_SOURCE_LEVEL_3"}, Signer: d.Scans[0].Signer}}
		d.Org = &input.Org{Key: "github.com/owner/42", Digest: d.Policy.Digest}
		return value(t, d)
	}
	check := func(doc map[string]any) string {
		data, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		_, wrongs, err := input.Parse(data)
		if err != nil {
			return "error"
		}
		var paths []string
		for _, w := range wrongs {
			if w.Code != "INPUT_INCOMPLETE" || w.Message == "" {
				t.Errorf("%+v", w)
			}
			paths = append(paths, w.Subject)
		}
		return strings.Join(paths, " ")
	}
	var paths []string
	members("input", full(), func(path string, _ map[string]any, _ string) { paths = append(paths, path) })
	slices.Sort(paths)
	if len(paths) < 220 {
		t.Fatalf("%d members", len(paths))
	}
	for _, path := range paths {
		change := func(with func(in map[string]any, name string)) string {
			doc := full()
			type place struct {
				in   map[string]any
				name string
			}
			var found place
			members("input", doc, func(p string, in map[string]any, name string) {
				if p == path {
					found = place{in, name}
				}
			})
			with(found.in, found.name)
			return check(doc)
		}
		schema := schemaAt(t, path)
		_, nullable := schema["anyOf"]
		parent := schemaAt(t, path[:strings.LastIndexByte(path, '.')])
		required, _ := parent["required"].([]any)
		needed := slices.Contains(required, any(path[strings.LastIndexByte(path, '.')+1:]))

		gone := change(func(in map[string]any, name string) { delete(in, name) })
		// Of what may be absent some is there exactly when something else is.
		if needed && !strings.Contains(gone, path) || !needed && gone != "" && path != "input.git.tag" {
			t.Errorf("%s gone: %q, needed is %v", path, gone, needed)
		}
		null := change(func(in map[string]any, name string) { in[name] = nil })
		if whole := strings.HasPrefix(path, "input.run."); !nullable && null == "" || nullable && null != "" && !whole {
			t.Errorf("%s null: %q, nullable is %v", path, null, nullable)
		}
		for what, other := range map[string]any{"number": 1.5, "boolean": "true", "list": map[string]any{}, "object": []any{3}} {
			if got := change(func(in map[string]any, name string) { in[name] = other }); got == "" && !(what == "boolean" && schemaOfText(schema)) && !(what == "list" && schema["type"] == "object" && schema["properties"] == nil) {
				t.Errorf("%s as %v is accepted", path, other)
			}
		}
		if extra := change(func(in map[string]any, name string) { in[name+"2"] = in[name] }); extra != "error" && !strings.HasPrefix(path, "input.build.args.") {
			t.Errorf("%s2 beside it: %q", path, extra)
		}
	}
}

// schemaOfText reports whether any text is accepted.
func schemaOfText(schema map[string]any) bool {
	if list, ok := schema["anyOf"].([]any); ok {
		schema, _ = list[0].(map[string]any)
	}
	return schema["type"] == "string" && schema["enum"] == nil
}

// TestComplete: what no kind of JSON shows.
func TestComplete(t *testing.T) {
	t.Parallel()
	local := func(d *input.Document) {
		d.Source = input.Source{Provider: "local", ID: "local"}
		d.Run = input.Run{}
		d.Builder = input.Builder{ID: "local"}
		d.Policy.Version, d.Policy.Root, d.Policy.StoredAt, d.Policy.EffectiveAt, d.Policy.HeadTime = 0, "", nil, nil, nil
	}
	for name, c := range map[string]struct {
		change func(*input.Document)
		want   string
	}{
		"local":                    {local, ""},
		"local and a name":         {func(d *input.Document) { local(d); d.Source.Name = "org/app" }, ""},
		"local by its id alone":    {func(d *input.Document) { local(d); d.Source.Provider = "github.com" }, "input.source"},
		"local by its provider":    {func(d *input.Document) { d.Source.Provider = "local" }, "input.source.id"},
		"token without a run":      {func(d *input.Document) { d.Run = input.Run{} }, "input.run.id"},
		"token without an owner":   {func(d *input.Document) { d.Source.OwnerID = "" }, "input.source.ownerID"},
		"run without environment":  {func(d *input.Document) { d.Run.Environment = nil }, ""},
		"actor is nobody we know":  {func(d *input.Document) { d.Run.ActorPrincipal = nil }, ""},
		"lists that are empty":     {func(d *input.Document) { d.Approvals, d.Scans = []input.Approval{}, []input.Scan{} }, ""},
		"approvals not looked for": {func(d *input.Document) { d.Approvals = nil }, "input.approvals"},
		"scans not looked for":     {func(d *input.Document) { d.Scans = nil }, "input.scans"},
		"branches not looked for":  {func(d *input.Document) { d.Ancestry.ContainedIn = nil }, "input.ancestry.containedIn"},
		"roles not looked for":     {func(d *input.Document) { d.Git.Tag.Signer.Roles = nil }, "input.git.tag.signer.roles"},
		"another kind":             {func(d *input.Document) { d.Kind = "hallmark.signing.input/v2" }, "input.kind"},
		"another action":           {func(d *input.Document) { d.Action = "policy.recover" }, "input.action"},
		"no time":                  {func(d *input.Document) { d.Now = "" }, "input.now"},
		"time with a part":         {func(d *input.Document) { d.Now = "2026-11-20T12:00:00.5Z" }, "input.now"},
		"time elsewhere":           {func(d *input.Document) { d.Now = "2026-11-20T12:00:00+01:00" }, "input.now"},
		"short id":                 {func(d *input.Document) { d.Git.CommitChecksum = "56ae342" }, "input.git.commitChecksum"},
		"id in capitals":           {func(d *input.Document) { d.Git.CommitChecksum = strings.ToUpper(d.Git.CommitChecksum) }, "input.git.commitChecksum"},
		"SHA-256":                  {func(d *input.Document) { d.Git.CommitChecksum = strings.Repeat("a", 64) }, ""},
		"parent":                   {func(d *input.Document) { d.Git.Commit.Parents = []string{"x"} }, "input.git.commit.parents[0]"},
		"no parents":               {func(d *input.Document) { d.Git.Commit.Parents = []string{} }, ""},
		"short ref":                {func(d *input.Document) { d.Git.Ref = "v1.4.0" }, "input.git.ref"},
		"commit as ref":            {func(d *input.Document) { d.Git.Ref = d.Git.CommitChecksum }, ""},
		"tag that is none":         {func(d *input.Document) { d.Git.IsAnnotatedTag = false }, "input.git.tag"},
		"annotated without a tag":  {func(d *input.Document) { d.Git.Tag = nil }, "input.git.tag"},
		"repository 0":             {func(d *input.Document) { d.Source.ID = "0123" }, "input.source.id"},
		"digest":                   {func(d *input.Document) { d.Policy.Digest = "sha256:abc" }, "input.policy.digest"},
		"decision":                 {func(d *input.Document) { d.Approvals[0].Decision = "Approve" }, "input.approvals[0].decision"},
		"source":                   {func(d *input.Document) { d.Approvals[1].Source = "mail" }, "input.approvals[1].source"},
		"principal":                {func(d *input.Document) { d.Approvals[1].Principal = "" }, "input.approvals[1].principal"},
		"scope":                    {func(d *input.Document) { d.Scans[0].Scope = "me" }, "input.scans[0].scope"},
		"unknown severity":         {func(d *input.Document) { d.Scans[0].MaxSeverity = "odd" }, ""},
	} {
		d := input.Example()
		c.change(d)
		wrongs := input.Check(d)
		if (len(wrongs) == 0) != (c.want == "") || c.want != "" && wrongs[0].Subject != c.want && !strings.HasPrefix(wrongs[0].Subject, c.want+".") {
			t.Errorf("%s: %+v, want %q", name, wrongs, c.want)
		}
	}
}

// TestParse: what strict JSON refuses.
func TestParse(t *testing.T) {
	t.Parallel()
	good, err := json.Marshal(input.Example())
	if err != nil {
		t.Fatal(err)
	}
	text := string(good)
	for name, bad := range map[string]string{
		"nothing":          "",
		"null":             "null",
		"a list":           "[" + text + "]",
		"twice":            text + text,
		"followed":         text + "x",
		"cut":              text[:len(text)-1],
		"duplicate member": strings.Replace(text, `"action":"build"`, `"action":"build","action":"build"`, 1),
		"unknown member":   strings.Replace(text, `"action":"build"`, `"action":"build","deny":false`, 1),
		"other spelling":   strings.Replace(text, `"action"`, `"Action"`, 1),
		"no text":          strings.Replace(text, `"build"`, "\"bu\xffild\"", 1),
		"too large":        strings.Repeat(" ", input.MaxDocument) + text,
	} {
		if _, _, err := input.Parse([]byte(bad)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	good, err := json.Marshal(input.Example())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"kind":"hallmark.signing.input/v1"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, wrongs, err := input.Parse(data)
		if err != nil || wrongs != nil {
			return
		}
		// What was complete as text is complete as structs, and the same.
		again, err := json.Marshal(value(t, d))
		if err != nil {
			t.Fatal(err)
		}
		e, wrongs, err := input.Parse(again)
		if err != nil || wrongs != nil || !reflect.DeepEqual(d, e) {
			t.Errorf("%v %+v\n%s", err, wrongs, again)
		}
	})
}

// TestTime: texts of times compare as times do.
func TestTime(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 20, 12, 0, 0, 999, time.FixedZone("", 3600))
	if got := input.At(at); got != "2026-11-20T11:00:00Z" || input.At(at.Add(time.Second)) <= got {
		t.Error(got)
	}
}

// TestPaths: what a linter asks.
func TestPaths(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"now": "", "git.ref": "", "git": "", "approvals": "", "run.id": "null", "policy.storedAt": "null",
		"git.tag": "absent", "git.tag.tag": "absent", "git.tag.signer": "absent", "git.tag.signer.signedAt": "absent null",
		"ancestry.lastReleaseIsAncestor": "absent", "org.require": "absent", "sourceVSA": "absent",
		"git.tags": "absent", "tag.signer": "absent", "build.args": "", "build.args.CI": "absent", "now.x": "absent",
	} {
		var got []string
		if input.Optional(strings.Split(path, ".")) {
			got = append(got, "absent")
		}
		if input.Nullable(strings.Split(path, ".")) {
			got = append(got, "null")
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %q", path, got, want)
		}
	}
}
