package draft_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/hallmark-dev/hallmark/internal/signingpolicy/authority"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/draft"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/judge"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/rules"
)

func line(t *testing.T) string {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k)))
}

func person(t *testing.T, name string) draft.Principal {
	t.Helper()
	keys, err := draft.ReadKeys([]byte(line(t) + " " + name + "@desk\n"))
	if err != nil {
		t.Fatal(err)
	}
	return draft.Principal{Name: name, Keys: keys}
}

// TestReadyPolicies: each ready policy with these people is one that compiles, has no trap
// and passes its tests.
func TestReadyPolicies(t *testing.T) {
	t.Parallel()
	for _, ready := range append(rules.Ready(), "") {
		files, why, err := draft.Make(draft.Wish{Ready: ready, People: []draft.Principal{person(t, "rita"), person(t, "sam"), person(t, "tom")},
			Machines: []draft.Principal{{Name: "hsm", Keys: person(t, "x").Keys, Protection: authority.HSM}},
			Recovery: []draft.Principal{person(t, "cold-1"), person(t, "cold-2"), person(t, "cold-3")}, Branch: "stable"})
		if err != nil || len(why) > 0 {
			t.Fatal(ready, err, why)
		}
		dir := t.TempDir()
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		folder, why, err := judge.ReadFolder(dir, rules.Options{Obligations: rules.ObligationTypes()})
		if err != nil || len(why) > 0 {
			t.Fatal(ready, err, why)
		}
		if found := folder.Rules.Lint(); len(found) > 0 {
			t.Errorf("%s: %v", ready, found)
		}
		delete(files, judge.AuthorityFile)
		results, _, why, err := rules.Test(t.Context(), files, nil)
		if err != nil || len(why) > 0 || len(results) == 0 {
			t.Fatal(ready, err, why, results)
		}
		for _, r := range results {
			if !r.Passed {
				t.Errorf("%s: %s failed", ready, r.Name)
			}
		}
		update, _ := folder.Authority.Role(authority.RoleUpdate)
		if update.Threshold != 2 || !slices.Equal(update.Principals, []string{"rita", "sam", "tom"}) {
			t.Errorf("%s: %+v", ready, update)
		}
		if recovery, _ := folder.Authority.Role(authority.RoleRecover); recovery.Threshold != 2 {
			t.Errorf("%s: %+v", ready, recovery)
		}
		if !strings.Contains(string(files["data.json"]), `"stable"`) {
			t.Errorf("%s: %s", ready, files["data.json"])
		}
	}
}

// TestTestsHold: the shipped tests hold for the very people of their inputs, however many
// of those are maintainers.
func TestTestsHold(t *testing.T) {
	t.Parallel()
	all := []draft.Principal{person(t, "alice"), person(t, "bob"), person(t, "carol")}
	for _, ready := range rules.Ready() {
		for n := 1; n <= len(all); n++ {
			files, why, err := draft.Make(draft.Wish{Ready: ready, People: all[:n]})
			if err != nil || len(why) > 0 {
				t.Fatal(ready, err, why)
			}
			delete(files, judge.AuthorityFile)
			results, _, why, err := rules.Test(t.Context(), files, nil)
			if err != nil || len(why) > 0 || len(results) == 0 {
				t.Fatal(ready, err, why, results)
			}
			for _, r := range results {
				if !r.Passed {
					t.Errorf("%s of %d: %s failed", ready, n, r.Name)
				}
			}
		}
	}
}

// TestUnmet: a policy that no release can meet is named, and its near misses are not.
func TestUnmet(t *testing.T) {
	t.Parallel()
	rita, sam := person(t, "rita"), person(t, "sam")
	with := func(p draft.Principal, protection string) draft.Principal {
		p.Protection = protection
		return p
	}
	fido := draft.Principal{Name: "fay", Keys: []draft.Key{{Kind: authority.SSH, Public: "sk-", Security: true}}}
	hsm := []draft.Principal{with(person(t, "hsm"), authority.HSM)}
	two := []draft.Principal{with(rita, authority.HSM), fido}
	for name, c := range map[string]struct {
		w    draft.Wish
		want []string
	}{
		"open":                      {draft.Wish{Ready: "open", People: []draft.Principal{rita}}, nil},
		"team":                      {draft.Wish{Ready: "team", People: []draft.Principal{rita, sam}}, nil},
		"one with a file":           {draft.Wish{People: []draft.Principal{rita}}, []string{"FIDO"}},
		"solo with an HSM":          {draft.Wish{Ready: "solo", People: []draft.Principal{with(rita, authority.HSM)}}, []string{"FIDO"}},
		"solo":                      {draft.Wish{People: []draft.Principal{fido}}, nil},
		"strict":                    {draft.Wish{Ready: "strict", People: two, Machines: hsm}, nil},
		"strict, people's HSM":      {draft.Wish{Ready: "strict", People: two}, nil},
		"strict, tags with a file":  {draft.Wish{Ready: "strict", People: two, Machines: []draft.Principal{sam}}, []string{"HSM"}},
		"strict, one of two":        {draft.Wish{Ready: "strict", People: []draft.Principal{fido, sam}, Machines: hsm}, []string{"1 of the people"}},
		"strict, one of one wanted": {draft.Wish{Ready: "strict", People: []draft.Principal{fido, sam}, Machines: hsm, Approvals: 1}, nil},
		"strict with files":         {draft.Wish{Ready: "strict", People: []draft.Principal{rita, sam}}, []string{"0 of the people", "HSM"}},
		"what Make refuses":         {draft.Wish{Ready: "strict"}, nil},
	} {
		got := draft.Unmet(c.w)
		if len(got) != len(c.want) {
			t.Errorf("%s: %q", name, got)
			continue
		}
		for i := range got {
			if !strings.Contains(got[i], c.want[i]) {
				t.Errorf("%s: %q, want %q", name, got[i], c.want[i])
			}
		}
	}
}

// TestOnePerson: without a machine people sign tags, and one alone is solo.
func TestOnePerson(t *testing.T) {
	t.Parallel()
	files, why, err := draft.Make(draft.Wish{People: []draft.Principal{person(t, "rita")}})
	if err != nil || len(why) > 0 {
		t.Fatal(err, why)
	}
	doc, why := authority.Parse(files["authority.json"])
	if len(why) > 0 {
		t.Fatal(why)
	}
	if keys := doc.RoleKeys(authority.RoleRelease, authority.UseTag); len(keys) != 1 || keys[0].Principal.Name != "rita" {
		t.Errorf("who signs tags: %+v", keys)
	}
	if !strings.Contains(string(files["signing.rego"]), "# Solo") {
		t.Errorf("not solo:\n%s", files["signing.rego"])
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	rita, sam := person(t, "rita"), person(t, "sam")
	for name, w := range map[string]draft.Wish{
		"nobody":            {},
		"too many":          {People: []draft.Principal{rita}, Approvals: 2},
		"fewer than none":   {People: []draft.Principal{rita}, Approvals: -1},
		"unknown policy":    {People: []draft.Principal{rita}, Ready: "lax"},
		"a name twice":      {People: []draft.Principal{rita, rita}},
		"person as machine": {People: []draft.Principal{rita}, Machines: []draft.Principal{rita}},
		"one key of two":    {People: []draft.Principal{rita, {Name: "sam", Keys: rita.Keys}}},
		"bad name":          {People: []draft.Principal{{Name: "Rita S", Keys: rita.Keys}}},
		"no key":            {People: []draft.Principal{sam, {Name: "rita"}}, Approvals: 2},
		"bad branch":        {People: []draft.Principal{rita}, Branch: "a b"},
		"bad protection":    {People: []draft.Principal{{Name: "rita", Keys: rita.Keys, Protection: "safe"}}},
	} {
		if files, why, err := draft.Make(w); err == nil && len(why) == 0 {
			t.Errorf("%s: made %v", name, slices.Sorted(maps.Keys(files)))
		}
	}
}

func TestReadKeys(t *testing.T) {
	t.Parallel()
	a, b := line(t), line(t)
	for name, c := range map[string]struct {
		text string
		want int // 0: refused
	}{
		"one":               {a, 1},
		"a forge's list":    {a + "\n" + b + "\n", 2},
		"comments":          {"# mine\n\n" + a + " rita@desk\n", 1},
		"windows lines":     {a + "\r\n" + b + "\r\n", 2},
		"nothing":           {"\n# none\n", 0},
		"options":           {`command="x" ` + a, 0},
		"not a key":         {"ssh-ed25519 AAAA", 0},
		"half a key":        {a[:40], 0},
		"a private key":     {"-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blb\n-----END OPENSSH PRIVATE KEY-----\n", 0},
		"certificate":       {string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}})), 1}, // authority.Parse looks into it
		"two certificates":  {strings.Repeat(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}})), 2), 0},
		"a page of a forge": {"<!DOCTYPE html>", 0},
	} {
		keys, err := draft.ReadKeys([]byte(c.text))
		if len(keys) != c.want || (err == nil) != (c.want > 0) {
			t.Errorf("%s: %d keys, %v", name, len(keys), err)
		}
		if err != nil && strings.Contains(err.Error(), "b3Blb") {
			t.Errorf("%s: the error shows the key: %v", name, err)
		}
	}
}

func TestReadSigners(t *testing.T) {
	t.Parallel()
	a, b := line(t), line(t)
	people, err := draft.ReadSigners([]byte("# people\nRita@example.com,r@x namespaces=\"git\" " + a + "\nrita@example.com " + b + "\nsam valid-after=\"20250101\" " + line(t) + "\n"))
	if err != nil || len(people) != 2 || people[0].Name != "rita" || len(people[0].Keys) != 2 || people[1].Name != "sam" {
		t.Fatalf("%+v %v", people, err)
	}
	for _, bad := range []string{"", "rita", a, "rita cert-authority " + a, "rita ssh-ed25519", "rita ssh-ed25519 AAAA"} {
		if people, err := draft.ReadSigners([]byte(bad)); err == nil {
			t.Errorf("%.30q: %+v", bad, people)
		}
	}
}

// FuzzReadKeys: keys that are read are written as they can be read again.
func FuzzReadKeys(f *testing.F) {
	f.Add([]byte("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOCT1cKFGjObBLz0tjMVIQudBmrGpDqOh0sl5UiW93UQ rita\n"))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAQ==\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := draft.ReadKeys(data)
		if err != nil {
			return
		}
		for _, k := range keys {
			if again, err := draft.ReadKeys([]byte(k.Public)); err != nil || len(again) != 1 || again[0] != k {
				t.Fatalf("%+v: %+v %v", k, again, err)
			}
		}
	})
}

// FuzzReadSigners: whoever is read has a key.
func FuzzReadSigners(f *testing.F) {
	f.Add([]byte("rita namespaces=\"git\" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOCT1cKFGjObBLz0tjMVIQudBmrGpDqOh0sl5UiW93UQ\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		people, err := draft.ReadSigners(data)
		for _, p := range people {
			if err == nil && len(p.Keys) == 0 {
				t.Fatalf("%+v", p)
			}
		}
	})
}
