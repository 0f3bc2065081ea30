package authority

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/tuf"
	"github.com/hallmark-dev/hallmark/internal/key"
)

// Rotation is what a rotation changed, or would change.
type Rotation struct {
	Service string `json:"service"`
	Data    string `json:"data"`   // the folder
	DryRun  bool   `json:"dryRun"` // nothing was written
	// Resumed: it was decided before and interrupted; no other key was made.
	Resumed bool `json:"resumed"`
	// Old and New are the terms of the keys, of services whose keys have terms.
	Old *KeyTerm `json:"old,omitempty"`
	New *KeyTerm `json:"new,omitempty"`
	// OldKeys and NewKeys are ids of keys of TUF (of the roles root, targets, snapshot
	// and timestamp) and issuer; NewKeys is empty when they are not made yet.
	OldKeys []string     `json:"oldKeys,omitempty"`
	NewKeys []string     `json:"newKeys,omitempty"`
	Files   []FileChange `json:"files"`
	TUF     TUFChange    `json:"tuf"`
	// Todo says who must do what, and when.
	Todo []string `json:"todo"`
}

// KeyTerm is a key and the time in which it signs and is believed.
type KeyTerm struct {
	Number int `json:"number"` // from 1
	// Key is the fingerprint, "" of a key that would be made.
	Key   string     `json:"key,omitempty"`
	Kind  string     `json:"kind"`
	Where string     `json:"where"` // a file of the folder, or a reference
	From  time.Time  `json:"from"`  // believed from
	Signs time.Time  `json:"signs"` // signs from
	Until *time.Time `json:"until,omitempty"`
	// URL is the base URL of a log's shard, to which entries go while its key signs.
	URL string `json:"url,omitempty"`
}

// FileChange is a file or folder of the data folder, and what happens to it.
type FileChange struct {
	Path string `json:"path"`
	What string `json:"what"` // "made" or "replaced"
}

// TUFChange is the versions of the TUF repository's metadata.
type TUFChange struct {
	Before tuf.Versions `json:"before"`
	After  tuf.Versions `json:"after"`
}

// plan is what a decided rotation will change, of which nothing is written yet.
func (cfg *RotateConfig) plan(st *state, n int) (*Rotation, error) {
	r := &Rotation{Service: cfg.Service, Data: cfg.Dir, DryRun: cfg.DryRun, Files: []FileChange{}}
	if cfg.Key == nil {
		r.Files = append(r.Files, FileChange{filepath.Join(keyDir, keyName(cfg.Service, n)), "made"})
	}
	if cfg.Service == ServiceLog || cfg.Service == ServiceLogV1 {
		r.Files = append(r.Files, FileChange{shardDir(cfg.Service, n), "made"})
	}
	if _, err := cfg.preview(st, r); err != nil {
		return nil, err
	}
	r.setTerms(st.Keys[cfg.Service])
	if _, err := os.Stat(filepath.Join(cfg.Dir, keyDir, keyName(cfg.Service, n))); cfg.DryRun && cfg.Key == nil && err != nil {
		r.New.Key = "" // it was made to see what it would change, and is gone
	}
	r.todo(cfg.Dir, st)
	return r, nil
}

// preview adds what will be published to the changes, and returns TUF's newest root.
func (cfg *RotateConfig) preview(st *state, r *Rotation) (root []byte, err error) {
	i, err := st.info(cfg.Dir)
	if err != nil {
		return nil, err
	}
	p, err := newPublication(i, st)
	if err != nil {
		return nil, err
	}
	targets := maps.Clone(p.targets)
	maps.Copy(targets, p.files)
	rotated := r.Service == ServiceTUF && !r.Resumed
	r.TUF.Before, r.TUF.After, root, err = tuf.Preview(filepath.Join(cfg.Dir, tufDir), targets, p.custom, rotated, cfg.Now())
	if err != nil {
		return nil, err
	}
	if r.Service != ServiceOIDC { // of which it is as it was when all is done
		r.Files = append(r.Files, FileChange{stateFile, "replaced"})
	}
	if r.TUF.Before != r.TUF.After {
		r.Files = append(r.Files, FileChange{tufRepository, "replaced"})
	}
	if r.TUF.Before.Root != r.TUF.After.Root {
		r.Files = append(r.Files, FileChange{fileRoot, changed(cfg.Dir, fileRoot)})
	}
	for _, name := range slices.Sorted(maps.Keys(p.files)) {
		if have, err := os.ReadFile(filepath.Join(cfg.Dir, name)); err != nil || !bytes.Equal(have, p.files[name]) {
			r.Files = append(r.Files, FileChange{name, changed(cfg.Dir, name)})
		}
	}
	return root, nil
}

// changed is what happens to a file when it is written.
func changed(dir, name string) string {
	if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
		return "made"
	}
	return "replaced"
}

// setTerms describes the last two terms of a service.
func (r *Rotation) setTerms(all []*term) {
	describe := func(n int) *KeyTerm {
		t := all[n-1]
		k := &KeyTerm{Number: n, Key: t.fingerprint(), Where: t.where(r.Service, n), From: t.From, Signs: t.Signs, Until: t.Until}
		if public, err := t.public(); err == nil {
			k.Kind = keyKind(public)
		}
		return k
	}
	r.Old, r.New = describe(len(all)-1), describe(len(all))
}

// todo says who must do what about a new key.
func (r *Rotation) todo(dir string, st *state) {
	say := func(format string, args ...any) { r.Todo = append(r.Todo, fmt.Sprintf(format, args...)) }
	signs, until := r.New.Signs.Format(time.RFC3339), r.Old.Until.Format(time.RFC3339)
	say("operator: start hallmark up, which serves the new trust; back up the folder, for older backups lack the new key")
	if old := st.Keys[r.Service][r.Old.Number-1]; old.Ref != "" {
		if r.Service == ServiceLogV1 {
			say("operator: keep %s within reach for ever: what it promised is signed again whenever it is read", old.Ref)
		} else {
			say("operator: keep %s within reach until %s", old.Ref, until)
		}
		if made := st.Keys[r.Service][r.New.Number-1]; made.Ref != "" {
			say("operator: if hallmark up is started with --keys, name %s for %s in that file, or take %s out of it: with the old key there it does not start", made.Ref, r.Service, r.Service)
		} else {
			say("operator: if hallmark up is started with --keys, take %s out of that file: with the old key there it does not start", r.Service)
		}
	}
	if slices.Contains(replicated(), r.Service) {
		say("replicas: copy %s and %s again and start them anew before %s; until then those of before sign with the old key", stateFile, keyDir, signs)
	}
	say("who fetches trust through TUF: nothing; whoever has fetched it once before %s notices nothing", signs)
	say("who keeps a copy of %s, a trust bundle or the TrustRoot of a cluster: replace it before %s; an older one goes on to verify what was signed before, and nothing after", fileTrustedRoot, signs)
	if r.Service == ServiceLog {
		i, err := st.info(dir)
		if err == nil {
			r.Old.URL, r.New.URL = i.shardURL(r.Old.Number), i.shardURL(r.New.Number)
		}
		names := st.treeNames()
		switch was := unique(names[:r.Old.Number], r.Old.Number); {
		case unique(names, r.New.Number) && names[r.New.Number-1] != st.Host:
			say("operator: let %s lead to where %s leads, in DNS, certificates and proxies, before %s", names[r.New.Number-1], st.Host, signs)
			say("witnesses of this log: take up the new tree, with its origin %s and its key (hallmark log witness --trusted-root reads both), before %s; the old one stays as it is", names[r.New.Number-1], signs)
		case was:
			say("operator: start hallmark up without --witness from now on, until a rotation gives a tree a name of its own (--name): no witness can tell trees of one name apart")
			say("who demands witnesses of this log (witnessQuorum of a trust bundle): demand none from %s on: what is signed then has no cosignatures", signs)
		}
		say("who keeps a copy of %s: replace it before %s; the log at %s is closed then, and entries go to %s", fileSigningConfig, until, r.Old.URL, r.New.URL)
		say("who watches or mirrors the log: follow %s, too; the old one stays readable where it is", r.New.URL)
	}
}

func (r *Rotation) todoTUF() {
	r.Todo = []string{
		"operator: start hallmark up, which serves the new metadata; back up the folder, for older backups lack the new keys",
		"who fetches trust through TUF: nothing; clients follow from the root that they have",
		"who begins anew: take the new " + fileRoot + ", whose SHA-256 hallmark up prints; an older one leads there, too",
	}
}

func (r *Rotation) todoOIDC() {
	r.Todo = []string{
		"operator: start hallmark up, which signs with the new key; back up the folder, for older backups lack it",
		"who verifies identity tokens elsewhere: nothing, if unknown keys are fetched; the old key's tokens are taken until they expire",
		"replicas: nothing; they ask hallmark up for the new key when they see a token of it",
	}
}

// tufKeys are the ids of a root's keys, of the roles root, targets, snapshot and
// timestamp; each has one.
func tufKeys(root []byte) ([]string, error) {
	ids, err := tuf.KeyIDs(root)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, role := range []string{"root", "targets", "snapshot", "timestamp"} {
		if len(ids[role]) != 1 {
			return nil, fmt.Errorf("the TUF root has %d keys for %s", len(ids[role]), role)
		}
		out = append(out, ids[role][0])
	}
	return out, nil
}

// keyKind names a public key's kind for people.
func keyKind(public any) string {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		return "ECDSA " + k.Curve.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return key.Fingerprint(public)
}
