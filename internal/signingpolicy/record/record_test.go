package record_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"
	"golang.org/x/crypto/ssh"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/hmtest/forge"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/record"
)

const commit = "56ae342c12a9bb032e762c6fc648270f8027db40"

func authorityJSON(t testing.TB) record.RawJSON {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return record.RawJSON(fmt.Sprintf(`{"principals": {"alice": {"keys": [{"kind": "ssh", "publicKey": %q, "protection": "software", "uses": ["approve", "update"]}]}},
		"roles": {"update": {"threshold": 1, "principals": ["alice"], "evidence": ["signed"]}}}`, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))))
}

func first(t testing.TB) record.Predicate {
	at := time.Date(2026, 11, 19, 12, 0, 0, 0, time.UTC)
	return record.Predicate{Key: "github.com/id/123456", Name: "github.com/org/app", OwnerID: "42", Version: 1, Action: record.Set,
		CreatedAt: at, EffectiveAt: at.Add(24 * time.Hour),
		Policy: &record.Policy{Bundle: evidence.SHA256([]byte("policy")), Size: 6, Entrypoint: record.Entrypoint, InputSchema: "v1", Lib: "v1", Mode: record.Enforce,
			Files: []record.File{{Path: ".hallmark/signing.rego", GitBlob: commit}}},
		Authority: authorityJSON(t), Source: record.Source{Commit: commit, Ref: "refs/heads/main"}, Evidence: []evidence.Digest{evidence.SHA256([]byte("approval"))}}
}

// later is a version after the first one.
func later(p record.Predicate, action record.Action) record.Predicate {
	p.Version, p.Action, p.Prev, p.Root = 2, action, evidence.SHA256([]byte("1")), evidence.SHA256([]byte("1"))
	return p
}

func TestRecordsThatKeepTheRules(t *testing.T) {
	p := first(t)
	owner := p
	owner.Key, owner.Name, owner.Owner, owner.Policy = "github.com/owner/42", "github.com/org", &record.Owner{Reserve: true}, nil
	tombstone := later(p, record.Tombstone)
	tombstone.Policy = nil
	reset := later(p, record.Reset)
	reset.Root = ""
	rebind := later(p, record.Rebind)
	rebind.Name, rebind.OwnerID = "gitHub.com/Other/App2", "77"
	deep := p
	deep.Key, deep.Name = "git.example.com/id/1", "git.example.com/group/sub/app"
	for why, p := range map[string]record.Predicate{"first": p, "next": later(p, record.Set), "owner": owner, "tombstone": tombstone, "reset": reset,
		"rebind": rebind, "recover": later(p, record.Recover), "groups": deep} {
		payload, reasons := p.Statement()
		if payload == nil {
			t.Errorf("%s: %v", why, reasons)
			continue
		}
		r, reasons := record.Parse(payload)
		if r == nil {
			t.Fatalf("%s: %v", why, reasons)
		}
		if r.Key != p.Key || r.Version != p.Version || r.Action != p.Action || !r.EffectiveAt.Equal(p.EffectiveAt) || r.Doc == nil || r.Digest != evidence.SHA256(payload) ||
			r.OfOwner() != (why == "owner") || r.Prev != p.Prev || len(r.Evidence) != 1 {
			t.Errorf("%s: read as %+v", why, r)
		}
		again, reasons := r.Predicate.Statement()
		if !bytes.Equal(again, payload) {
			t.Errorf("%s: %v\n%s\nis written again as\n%s", why, reasons, payload, again)
		}
	}
}

// TestProposalDigest: what people approve is the canonical form of the predicate without what
// comes after them, by another implementation of RFC 8785.
func TestProposalDigest(t *testing.T) {
	p := first(t)
	payload, _ := p.Statement()
	var s struct {
		Predicate map[string]any `json:"predicate"`
	}
	if err := json.Unmarshal(payload, &s); err != nil {
		t.Fatal(err)
	}
	for _, later := range []string{"createdAt", "effectiveAt", "evidence", "proposalDigest"} {
		delete(s.Predicate, later)
	}
	text, err := json.Marshal(s.Predicate)
	if err != nil {
		t.Fatal(err)
	}
	canonical, err := jsoncanonicalizer.Transform(text)
	if err != nil {
		t.Fatal(err)
	}
	before, err := p.Propose()
	if err != nil || before != evidence.SHA256(canonical) {
		t.Errorf("%s, %v, want %s", before, err, evidence.SHA256(canonical))
	}
	p.Evidence, p.CreatedAt, p.EffectiveAt = append(p.Evidence, evidence.SHA256(nil)), p.CreatedAt.Add(time.Hour), p.EffectiveAt.Add(time.Hour)
	if same, err := p.Propose(); err != nil || same != before {
		t.Errorf("approvals and times change the proposal: %s, %v", same, err)
	}
	p.Policy.Mode = record.Warn
	if other, err := p.Propose(); err != nil || other == before {
		t.Errorf("the mode does not change the proposal: %v", err)
	}
}

func TestRecordsThatBreakARule(t *testing.T) {
	p := first(t)
	change := func(of record.Predicate, f func(p *record.Predicate)) record.Predicate {
		if of.Policy != nil {
			policy := *of.Policy
			of.Policy = &policy
		}
		f(&of)
		return of
	}
	next := later(p, record.Set)
	d := evidence.SHA256([]byte("x"))
	for why, c := range map[string]struct {
		p    record.Predicate
		code string
	}{
		"version 0":               {change(p, func(p *record.Predicate) { p.Version = 0 }), record.CodeBroken},
		"version too large":       {change(next, func(p *record.Predicate) { p.Version = 1<<53 + 2 }), record.CodeBroken},
		"first with prev":         {change(p, func(p *record.Predicate) { p.Prev = d }), record.CodeBroken},
		"first with root":         {change(p, func(p *record.Predicate) { p.Root = d }), record.CodeBroken},
		"first is a recover":      {change(p, func(p *record.Predicate) { p.Action = record.Recover }), record.CodeBroken},
		"first is a tombstone":    {change(p, func(p *record.Predicate) { p.Action, p.Policy = record.Tombstone, nil }), record.CodeBroken},
		"later without prev":      {change(next, func(p *record.Predicate) { p.Prev = "" }), record.CodeBroken},
		"later without root":      {change(next, func(p *record.Predicate) { p.Root = "" }), record.CodeBroken},
		"reset with root":         {later(p, record.Reset), record.CodeBroken},
		"unknown action":          {later(p, "Set"), record.CodeBroken},
		"no action":               {later(p, ""), record.CodeBroken},
		"tombstone with policy":   {later(p, record.Tombstone), record.CodeBroken},
		"set without policy":      {change(next, func(p *record.Predicate) { p.Policy = nil }), record.CodeBroken},
		"recover without policy":  {change(later(p, record.Recover), func(p *record.Predicate) { p.Policy = nil }), record.CodeBroken},
		"owner on a repository":   {change(p, func(p *record.Predicate) { p.Owner = &record.Owner{} }), record.CodeBroken},
		"key":                     {change(p, func(p *record.Predicate) { p.Key = "github.com/123456" }), record.CodeBroken},
		"key of a name":           {change(p, func(p *record.Predicate) { p.Key = "github.com/name/org/app" }), record.CodeBroken},
		"key with a zero":         {change(p, func(p *record.Predicate) { p.Key = "github.com/id/0123456" }), record.CodeBroken},
		"name on another host":    {change(p, func(p *record.Predicate) { p.Name = "gitlab.com/org/app" }), record.CodeBroken},
		"name of an owner":        {change(p, func(p *record.Predicate) { p.Name = "github.com/org" }), record.CodeBroken},
		"name with a blank":       {change(p, func(p *record.Predicate) { p.Name = "github.com/org/a b" }), record.CodeBroken},
		"owner id":                {change(p, func(p *record.Predicate) { p.OwnerID = "org" }), record.CodeBroken},
		"other owner's record":    {change(p, func(p *record.Predicate) { p.Key, p.Name = "github.com/owner/43", "github.com/org" }), record.CodeBroken},
		"repository's name there": {change(p, func(p *record.Predicate) { p.Key = "github.com/owner/42" }), record.CodeBroken},
		"mode":                    {change(p, func(p *record.Predicate) { p.Policy.Mode = "off" }), record.CodeBroken},
		"entrypoint":              {change(p, func(p *record.Predicate) { p.Policy.Entrypoint = "data.evil" }), record.CodeBroken},
		"schema":                  {change(p, func(p *record.Predicate) { p.Policy.InputSchema = "1" }), record.CodeBroken},
		"empty bundle":            {change(p, func(p *record.Predicate) { p.Policy.Size = 0 }), record.CodeBroken},
		"large bundle":            {change(p, func(p *record.Predicate) { p.Policy.Size = record.MaxPolicy + 1 }), record.CodeBroken},
		"climbing path":           {change(p, func(p *record.Predicate) { p.Policy.Files = []record.File{{Path: "../x", GitBlob: commit}} }), record.CodeBroken},
		"file twice": {change(p, func(p *record.Predicate) {
			p.Policy.Files = []record.File{{Path: "x", GitBlob: commit}, {Path: "x", GitBlob: commit}}
		}), record.CodeBroken},
		"commit":         {change(p, func(p *record.Predicate) { p.Source.Commit = commit[1:] }), record.CodeBroken},
		"source is tag":  {change(p, func(p *record.Predicate) { p.Source.Ref = "refs/tags/v1" }), record.CodeBroken},
		"no evidence":    {change(p, func(p *record.Predicate) { p.Evidence = nil }), record.CodeBroken},
		"evidence twice": {change(p, func(p *record.Predicate) { p.Evidence = []evidence.Digest{d, d} }), record.CodeBroken},
		"sha512":         {change(p, func(p *record.Predicate) { p.Policy.Bundle = evidence.Digest("sha512:" + strings.Repeat("0", 128)) }), record.CodeBroken},
		"before 2000":    {change(p, func(p *record.Predicate) { p.EffectiveAt = time.Time{} }), record.CodeBroken},
		"authority": {change(p, func(p *record.Predicate) {
			p.Authority = record.RawJSON(strings.Replace(string(p.Authority), `"threshold": 1`, `"threshold": 0`, 1))
		}), "AUTHORITY_THRESHOLD"},
		"above the people": {change(p, func(p *record.Predicate) {
			p.Authority = record.RawJSON(strings.Replace(string(p.Authority), `"threshold": 1`, `"threshold": 2`, 1))
		}), "AUTHORITY_THRESHOLD"},
	} {
		payload, reasons := c.p.Statement()
		if payload != nil || len(reasons) == 0 || reasons[0].Code != c.code {
			t.Errorf("%s: %v", why, reasons)
		}
	}
	good, _ := p.Statement()
	for why, bad := range map[string]string{
		"duplicate":       strings.Replace(string(good), `"version":1`, `"version":1,"version":1`, 1),
		"unknown":         strings.Replace(string(good), `"version":1`, `"version":1,"note":""`, 1),
		"other case":      strings.Replace(string(good), `"version":1`, `"Version":1`, 1),
		"trailing":        string(good) + "{}",
		"offset":          strings.Replace(string(good), `2026-11-19T12:00:00Z`, `2026-11-19T12:00:00+00:00`, 1),
		"fraction":        strings.Replace(string(good), `2026-11-19T12:00:00Z`, `2026-11-19T12:00:00.5Z`, 1),
		"no such day":     strings.Replace(string(good), `2026-11-19T12:00:00Z`, `2026-11-31T12:00:00Z`, 1),
		"other predicate": strings.Replace(string(good), record.PredicateType, "https://hallmark.dev/attestation/approval/v1", 1),
		"other subject":   strings.Replace(string(good), "hallmark-policy:github.com/id/123456", "hallmark-policy:github.com/id/123457", 1),
		"other text":      strings.Replace(string(good), `"size":6`, `"size":7`, 1), // proposalDigest
		"too long":        strings.Repeat(" ", record.MaxSize) + string(good),
		"nothing":         "",
		"null":            "null",
		"no object":       "[]",
		"null inside":     strings.Replace(string(good), `"prev":""`, `"prev":null`, 1),
		"missing":         strings.Replace(string(good), `"prev":"",`, ``, 1),
	} {
		if r, reasons := record.Parse([]byte(bad)); r != nil || len(reasons) == 0 {
			t.Errorf("%s is taken: %s", why, bad)
		}
	}
}

// TestNoByteOfARecordIsFree: each byte that is changed either makes the payload unreadable or gives it
// another digest, which is what the log has.
func TestNoByteOfARecordIsFree(t *testing.T) {
	p := first(t)
	payload, _ := p.Statement()
	file := forge.Bundle(forge.New(forge.Options{}).Claim(forge.ClaimOptions{Payload: payload, Logs: []string{"v2"}, Token: true}), "0.3")
	file, err := record.Normalize(file)
	if err != nil {
		t.Fatal(err)
	}
	good, reasons := record.Open(file)
	if good == nil || !bytes.Equal(good.Payload, payload) {
		t.Fatal(reasons)
	}
	for i := range payload {
		bad := bytes.Clone(payload)
		bad[i] ^= 1
		if r, _ := record.Parse(bad); r != nil && r.Digest == good.Digest { // names and times can be others
			t.Fatalf("byte %d", i)
		}
	}
	for why, bad := range map[string][]byte{
		"white space":   append([]byte(" "), file...),
		"a second line": append(bytes.Clone(file), '\n'),
		"older version": bytes.Replace(file, []byte("bundle.v0.3+json"), []byte("bundle+json;version=0.2"), 1),
		"url alphabet":  bytes.ReplaceAll(file, []byte("+"), []byte("-")),
		"not a bundle":  payload,
		"too long":      append(bytes.Clone(file), bytes.Repeat([]byte(" "), record.MaxFile)...),
	} {
		if r, _ := record.Open(bad); r != nil {
			t.Errorf("%s is taken", why)
		}
	}
	message := forge.Bundle(forge.New(forge.Options{}).Claim(forge.ClaimOptions{Logs: []string{"v2"}, Token: true}), "0.3")
	if r, _ := record.Open(message); r != nil {
		t.Error("a signature over a file is taken for a record")
	}
}

func FuzzRecord(f *testing.F) {
	p := first(f)
	payload, _ := p.Statement()
	f.Add(payload)
	tombstone := later(p, record.Tombstone)
	tombstone.Policy = nil
	payload, _ = tombstone.Statement()
	f.Add(payload)
	f.Fuzz(func(t *testing.T, data []byte) {
		r, reasons := record.Parse(data)
		if (r == nil) == (len(reasons) == 0) {
			t.Fatal("neither a record nor a reason")
		}
		if r == nil {
			return
		}
		again, reasons := r.Predicate.Statement() // another spelling of the same record
		second, _ := record.Parse(again)
		if second == nil || second.ProposalDigest != r.ProposalDigest || second.Key != r.Key || second.Version != r.Version {
			t.Fatalf("%v\n%s\nis written as\n%s", reasons, data, again)
		}
	})
}

func FuzzFile(f *testing.F) {
	p := first(f)
	payload, _ := p.Statement()
	file := forge.Bundle(forge.New(forge.Options{}).Claim(forge.ClaimOptions{Payload: payload, Logs: []string{"v2"}, Token: true}), "0.3")
	f.Add(file)
	if n, err := record.Normalize(file); err == nil {
		f.Add(n)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, reasons := record.Open(data)
		if (r == nil) == (len(reasons) == 0) {
			t.Fatal("neither a record nor a reason")
		}
	})
}
