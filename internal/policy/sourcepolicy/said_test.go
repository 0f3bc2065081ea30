package sourcepolicy_test

import (
	"slices"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
)

// TestNotSaid: what nobody said is not known, and a deny rule about it is not silent.
func TestNotSaid(t *testing.T) {
	t.Parallel()
	locked := func(d string) *sourcepolicy.Locked { return &sourcepolicy.Locked{Digest: digestOf(d)} }
	const unknown, denied = "INPUT_INCOMPLETE", "POLICY_DENIED"
	moved := `deny_msg contains "moved" if input.image.moved`
	bad := func(rule string) string {
		return "deny_msg contains \"x\" if bad\nparts := [\"mo\", \"ved\"]\nname := concat(\"\", parts)\n" + rule
	}
	for _, c := range []struct {
		name, rule string
		lock       *sourcepolicy.Locked
		build      *sourcepolicy.Build
		want       string // the code of the denial
	}{
		{"moved, no lock", moved, nil, nil, unknown},
		{"moved, not in the lock", moved, locked(""), nil, unknown},
		{"moved, and it is so", moved, locked("2"), nil, denied},
		{"moved, and it is not so", moved, locked("1"), nil, ""},
		{"moved, by a variable", "deny_msg contains \"moved\" if {\n k := \"moved\"\n input.image[k]\n}", nil, nil, unknown},
		{"moved, of a material", "deny_msg contains \"moved\" if {\n some m in input.image.provenance.materials\n m.image.moved\n}", locked("1"), nil, unknown},
		{"not locked, no lock", `deny_msg contains "not locked" if not input.image.locked`, nil, nil, unknown},
		{"not locked, not in the lock", `deny_msg contains "not locked" if not input.image.locked`, locked(""), nil, denied},
		{"locked as another", `deny_msg contains "other" if input.image.locked == "sha256:00"`, nil, nil, unknown},
		{"locked as another, and it is not so", `deny_msg contains "other" if input.image.locked == "sha256:00"`, locked("1"), nil, ""},
		{"network", `deny_msg contains "network" if input.build.network`, nil, nil, unknown},
		{"network, and it is so", `deny_msg contains "network" if input.build.network`, nil, &sourcepolicy.Build{Network: true}, denied},
		{"network, and it is not so", `deny_msg contains "network" if input.build.network`, nil, &sourcepolicy.Build{}, ""},
		{"no build", `deny_msg contains "no build" if not input.build`, nil, nil, unknown},
		{"a policy that asks for none of it", `deny_msg contains "x" if count(input.image) > 100`, nil, nil, ""},
		{"names of all members", `deny_msg contains "x" if "none" in object.keys(input.image)`, nil, nil, ""},
		{"all members", "deny_msg contains \"x\" if {\n some k, v in input.image\n v == \"none\"\n}", nil, nil, ""},
		{"moved, put together", bad(`bad if input.image[name]`), nil, nil, unknown},
		{"moved, put together, and it is so", bad(`bad if input.image[name]`), locked("2"), nil, denied},
		{"moved, put together, and it is not so", bad(`bad if input.image[name]`), locked("1"), nil, ""},
		{"moved, in brackets", bad(`bad if input["image"]["mo\u0076ed"]`), nil, nil, unknown},
		{"moved, by get", bad(`bad if object.get(input.image, name, false)`), nil, nil, unknown},
		{"moved, by get with a path", bad(`bad if object.get(input, ["image", name], false)`), nil, nil, unknown},
		{"moved, by get after all members", bad("bad if {\n count(input.image) > 0\n object.get(input.image, name, false)\n}"), nil, nil, unknown},
		{"moved, by a filter", bad(`bad if json.filter(input, [concat("/", ["image", name])]).image != {}`), nil, nil, unknown},
		{"moved, by a filter of names", bad(`bad if object.filter(input.image, {name}) != {}`), nil, nil, unknown},
		{"moved, by a subset", bad(`bad if object.subset(input.image, {name: true})`), nil, nil, unknown},
		{"moved, of a copy", bad("bad if {\n c := object.union(input.image, {})\n c[name]\n}"), nil, nil, unknown},
		{"moved, by a function", bad("bad if of(input.image, name)\nof(i, k) if i[k]"), nil, nil, unknown},
		{"moved, in a comprehension", bad("bad if count([1 | some k in [name]; input.image[k]]) > 0"), nil, nil, unknown},
		{"moved, in every", bad("bad if every k in [name] { input.image[k] }"), nil, nil, unknown},
		{"moved, by a nested key", bad(`bad if input.image[[name][_]]`), nil, nil, unknown},
		{"moved, by a key of an object", bad("bad if {\n some k, _ in {name: 1}\n input.image[k]\n}"), nil, nil, unknown},
		{"moved, by a key out of a text", bad("bad if {\n some k, _ in json.unmarshal(\"{\\\"m\\\\u006fved\\\": 1}\")\n input.image[k]\n}"), nil, nil, unknown},
		{"moved, of a material, put together", bad("bad if {\n some m in input.image.provenance.materials\n m.image[name]\n}"), locked("1"), nil, unknown},
		{"not moved, put together", bad(`bad if not input.image[name]`), nil, nil, unknown},
		{"a name that is not theirs", bad(`bad if input.image[concat("", [name, "x"])]`), nil, nil, ""},
		{"all members, with a name of them", "deny_msg contains \"moved\" if {\n some k, v in input.image\n k == \"moved\"\n v\n}", nil, nil, unknown},
	} {
		w := tree(t)
		app := w.facts[appID]
		app.Attestations = &[]sourcepolicy.Attestation{}
		w.facts[appID] = app
		d, err := compile(t, denyHead+c.rule).Evaluate(t.Context(), sourcepolicy.Request{
			Source: source(t, "org/app:1"), Locked: c.lock, Build: c.build, Now: noon, Resolver: w,
		})
		if err != nil {
			t.Fatal(err)
		}
		if d.Allowed != (c.want == "") || c.want != "" && d.Reasons[0].Code != c.want {
			t.Errorf("%s: want %q, %+v", c.name, c.want, d.Decision)
		}
		if d.Unknown == nil && c.want == unknown {
			t.Errorf("%s: it does not say what is unknown", c.name)
		}
	}
	// Whether it moved is looked up when it is asked for, and only then.
	for rule, asked := range map[string][]string{moved: {"image.checksum"}, `deny_msg contains "x" if not input.image.locked`: nil} {
		w := tree(t)
		d, err := compile(t, denyHead+rule).Evaluate(t.Context(), sourcepolicy.Request{Source: source(t, "org/app:1"), Locked: locked("1"), Now: noon, Resolver: w})
		if err != nil || !d.Allowed || !slices.Equal(d.Asked, asked) || d.Input.Image.Locked != string(digest1) || (d.Input.Image.Moved != nil) != (asked != nil) {
			t.Errorf("%s: %v %v %+v", rule, err, d.Asked, d.Decision)
		}
	}
	// A digest that cannot be found out is no digest that moved or stayed.
	d, err := compile(t, denyHead+moved).Evaluate(t.Context(), sourcepolicy.Request{Source: source(t, "org/gone:1"), Locked: locked("1"), Now: noon, Resolver: tree(t)})
	if err != nil || d.Allowed || d.Reasons[0].Code != unknown {
		t.Errorf("%v %+v", err, d.Decision)
	}
}
