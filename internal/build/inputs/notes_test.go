package inputs_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hallmark-dev/hallmark/internal/build/inputs"
)

// TestNotes: each input that has less effect than its caller may think is told, and no other.
func TestNotes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		``:                          "",
		`"platforms":"linux/amd64"`: "",
		`"distribute":true`:         "",
		`"runner":"ubuntu-24.04"`:   "",
		`"runner":"charm-1"`:        "runner",
		`"runner":"ubuntu-22.04"`:   "runner",
		`"runner":"my-large"`:       "runner",
		`"platforms":"linux/arm64"`: "",
		`"platforms":"linux/arm64","runner":"ubuntu-24.04"`:                       "setup-qemu",
		`"platforms":"linux/amd64","runner":"ubuntu-24.04-arm"`:                   "setup-qemu",
		`"platforms":"linux/s390x"`:                                               "setup-qemu",
		`"platforms":"linux/arm64","setup-qemu":true,"runner":"ubuntu-24.04"`:     "",
		`"platforms":"linux/arm64","setup-qemu":true,"runner":"ubuntu-24.04-arm"`: "",
		`"platforms":"linux/arm64","setup-qemu":true,"distribute":false`:          "",
		`"platforms":"linux/amd64,linux/386"`:                                     "",
		`"platforms":"linux/amd64,linux/arm/v7"`:                                  "",
		`"platforms":"linux/amd64,linux/arm64","distribute":false`:                "setup-qemu",
		`"cache-scope":"web"`:                                                     "cache-scope",
		`"job-name-prefix":"app: "`:                                               "",
		`"job-name-prefix":"[web, #1] "`:                                          "",
		`"cache":true`:                                                            "cache",
	} {
		in, err := inputs.Read("inputs", []byte(strings.TrimSuffix(`{"output":"image","meta-images":"a/b",`+text, ",")+"}"))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		var got []string
		for _, n := range in.Notes() {
			name, _, _ := strings.Cut(n, ":")
			got = append(got, name)
		}
		if d := cmp.Diff(want, strings.Join(got, " ")); d != "" {
			t.Errorf("%s: %s", text, d)
		}
	}
	local, err := inputs.Read("inputs", []byte(`{"output":"local","artifact-upload":true,"platforms":"linux/amd64,linux/386","runner":"large"}`))
	if err != nil || cmp.Diff([]string{"distribute: one job builds the files of all platforms", "runner: the one job is on ubuntu-24.04, and nothing is built on large"}, local.Notes()) != "" {
		t.Errorf("%+v, %v", local, err)
	}
	if in, err := inputs.Read("inputs", []byte(`{"output":"local"}`)); err != nil || len(in.Notes()) != 1 || !strings.Contains(in.Notes()[0], "not kept") {
		t.Errorf("%+v, %v", in, err)
	}
}

// TestParts: a platform each where an index is put together of them, on GitHub's own machines.
func TestParts(t *testing.T) {
	t.Parallel()
	const both = `"output":"image","meta-images":"a/b","platforms":"linux/amd64,linux/arm64"`
	for text, want := range map[string]string{
		both:                              "linux/amd64 on ubuntu-24.04 as linux-amd64; linux/arm64 on ubuntu-24.04-arm as linux-arm64",
		both + `,"runner":"ubuntu-22.04"`: "linux/amd64 on ubuntu-22.04 as linux-amd64; linux/arm64 on ubuntu-22.04 as linux-arm64",
		both + `,"runner":"default=ubuntu-24.04\nlinux/amd64=ubuntu-22.04"`: "linux/amd64 on ubuntu-22.04 as linux-amd64; linux/arm64 on ubuntu-24.04 as linux-arm64",
		both + `,"distribute":false`:                                        " on ubuntu-24.04 as ",
		both + `,"distribute":false,"runner":"large"`:                       " on ubuntu-24.04 as ",
		`"output":"image","meta-images":"a/b"`:                              " on ubuntu-24.04 as ",
		`"output":"image","meta-images":"a/b","platforms":"linux/arm64"`:    "linux/arm64 on ubuntu-24.04-arm as linux-arm64",
		`"output":"local","platforms":"linux/arm64"`:                        "linux/arm64 on ubuntu-24.04-arm as linux-arm64",
		`"output":"local","platforms":"linux/amd64,linux/arm64"`:            " on ubuntu-24.04 as ",
		both + `,"runner":"large"`:                                          "",
		both + `,"runner":"ubuntu-latest"`:                                  "",
		both + `,"runner":"self-hosted"`:                                    "",
		both + `,"runner":"ubuntu-20.04"`:                                   "", // was GitHub's
		both + `,"runner":"ubuntu-98.04-arm"`:                               "", // is nobody's yet
		both + `,"runner":"ubuntu-24.04-arm64"`:                             "",
		both + `,"runner":"my-ubuntu-24.04"`:                                "",
		both + `,"runner":"default=ubuntu-24.04\nlinux/arm64=charm"`:        "",
		`"output":"local","platforms":"linux/arm64","runner":"charm"`:       "",
	} {
		in, err := inputs.Read("inputs", []byte("{"+text+"}"))
		if err != nil {
			if want != "" || !strings.Contains(err.Error(), "a machine that is not GitHub's own") {
				t.Errorf("%s: %v", text, err)
			}
			continue
		}
		var got []string
		for _, p := range in.Parts() {
			got = append(got, p.Platform+" on "+p.Runner+" as "+p.Name)
		}
		if d := cmp.Diff(want, strings.Join(got, "; ")); d != "" {
			t.Errorf("%s: %s", text, d)
		}
	}
	if in, err := inputs.ReadBake("inputs", []byte(`{"output":"image","meta-images":"a/b"}`)); err != nil || len(in.Parts()) != 1 || in.Parts()[0].Platform != "" {
		t.Errorf("%+v, %v", in, err)
	}
}
