package sourcepolicy

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/policy/sandbox"
)

func passOf(t testing.TB, id string) *pass {
	t.Helper()
	src := Source{Identifier: id}
	e := NewSet(&Policy{}).Begin(Request{Source: src})
	if e.root == nil {
		t.Fatalf("%s: %+v", id, e.denied)
	}
	return &pass{evaluation: e, policy: &Policy{}, wants: map[*known]*Want{}, pins: map[evidence.Digest]bool{}}
}

// TestAnswersOfAnotherKind: what no policy could have come to is a breach.
func TestAnswersOfAnotherKind(t *testing.T) {
	t.Parallel()
	const image, file = "docker-image://docker.io/library/alpine:3", "https://example.org/a"
	for name, c := range map[string]struct {
		id, answer string
		fine       bool
	}{
		"an image's labels":       {image, `{"asks":[{"ask":{"Fact":"image.config"}}]}`, true},
		"a file's body":           {file, `{"asks":[{"ask":{"Fact":"http.digest","Algorithm":"sha512"}}]}`, true},
		"a pin":                   {image, `{"pins":["sha256:1111111111111111111111111111111111111111111111111111111111111111"]}`, true},
		"what the lock says":      {image, `{"asks":[{"ask":{"Fact":"hallmark.lock"}}]}`, true},
		"a material there is not": {image, `{"asks":[{"node":"material 0","ask":{"Fact":"image.config"}}]}`, false},
		"a fact of another kind":  {file, `{"asks":[{"ask":{"Fact":"image.config"}}]}`, false},
		"a fact there is not":     {image, `{"asks":[{"ask":{"Fact":"image.secrets"}}]}`, false},
		"a strange hash":          {file, `{"asks":[{"ask":{"Fact":"http.digest","Algorithm":"md5"}}]}`, false},
		"another body":            {file, `{"asks":[{"ask":{"Fact":"bundle.signature","Digest":"sha256:1111111111111111111111111111111111111111111111111111111111111111"}}]}`, false},
		"no repository":           {file, `{"asks":[{"ask":{"Fact":"github.attestation","Repo":"../x"}}]}`, false},
		"a pin of a file":         {file, `{"pins":["sha256:1111111111111111111111111111111111111111111111111111111111111111"]}`, false},
		"as much as it may":       {file, `{"asks":[` + hashes(maxPassAsks) + `]}`, true},
		"the same many times":     {image, `{"asks":[` + strings.Repeat(`{"ask":{"Fact":"image.config"}},`, maxPassAsks) + `{"ask":{"Fact":"image.config"}}]}`, false},
		"more than it may":        {file, `{"asks":[` + hashes(maxPassAsks+1) + `]}`, false},
		"lines and notes":         {image, `{"printed":[` + list("x", maxPrinted+1) + `],"notes":[` + list("x", maxMessages) + `]}`, true},
		"too many lines":          {image, `{"printed":[` + list("x", maxPrinted+2) + `]}`, false},
		"too many notes":          {image, `{"notes":[` + list("x", maxMessages+1) + `]}`, false},
		"a long decision":         {image, `{"value":[` + list(strings.Repeat("x", maxValue), 1) + `]}`, false},
		"a pin that is none":      {image, `{"pins":["latest"]}`, false},
	} {
		var a runAnswer
		if err := json.Unmarshal([]byte(c.answer), &a); err != nil {
			t.Fatal(err)
		}
		var breach *sandbox.Breach
		if err := passOf(t, c.id).take(&a); (err == nil) != c.fine || err != nil && !errors.As(err, &breach) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func list(s string, n int) string { return strings.TrimSuffix(strings.Repeat(`"`+s+`",`, n), ",") }

// hashes are n different asks.
func hashes(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(`{"ask":{"Fact":"http.digest","Algorithm":"sha256","Suffix":"%08d"}}`, i))
	}
	return strings.Join(all, ",")
}

// Whatever a process answers is taken or a breach.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"value":{"allow":true},"asks":[{"node":"material 0","ask":{"Fact":"image.config"}}],"pins":["sha256:00"],"notes":["x"],"printed":["y"]}`))
	f.Add([]byte(`{"unheard":true,"denied":{"code":"X","message":"y"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var a runAnswer
		if json.Unmarshal(data, &a) != nil {
			return
		}
		p := passOf(t, "docker-image://docker.io/library/alpine:3")
		var breach *sandbox.Breach
		if err := p.take(&a); err != nil && !errors.As(err, &breach) {
			t.Fatal(err)
		}
		p.decide(rawJSON(a.Value), nil)
		if !p.decision.Allowed && len(p.decision.Reasons) == 0 {
			t.Fatal("denied without a reason")
		}
	})
}

// What a process reads of the policy's folder is bounded, whenever it reads it.
func TestFilesOfAProcess(t *testing.T) {
	t.Parallel()
	fsys := fstest.MapFS{}
	for i := range maxFiles + 1 {
		fsys[fmt.Sprint("f", i)] = &fstest.MapFile{Data: []byte("x")}
	}
	for i := range 9 {
		fsys[fmt.Sprint("big", i)] = &fstest.MapFile{Data: make([]byte, maxBundle)}
	}
	for name, n := range map[string]int{"f": maxFiles, "big": maxAllFiles / maxBundle} {
		ask := files(&folder{fs: fsys})
		for i := range n + 1 {
			for range 2 {
				if _, err := ask(json.RawMessage(fmt.Sprintf(`{"name":"%s%d","read":true}`, name, i))); (err == nil) != (i < n) {
					t.Errorf("%s%d: %v", name, i, err)
				}
			}
		}
	}
}
