package tlog_test

import (
	"bytes"
	"encoding/binary"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/authority/tlog"
	"github.com/hallmark-dev/hallmark/internal/durable"
)

// TestCheckNamesTheBrokenByte: every flipped byte of the entries is found, in the
// entry that it is in, and where the form breaks at that very byte.
func TestCheckNamesTheBrokenByte(t *testing.T) {
	t.Parallel()
	dir, key := t.TempDir(), newKey(t)
	l := openLog(t, dir, key)
	srv := httptest.NewServer(l.Handler())
	signer := p256(t)
	for _, message := range []string{"a", "b", "c"} {
		accept(t, srv.URL, l, signP256(t, signer, message).json())
	}
	srv.Close()
	cfg := tlog.Config{Origin: origin, Key: key}
	check := func() (found []durable.Damage) {
		t.Helper()
		size, err := tlog.Check(dir, cfg, func(d durable.Damage) { found = append(found, d) })
		if err != nil {
			t.Fatal(err)
		}
		if len(found) == 0 && size != 3 {
			t.Errorf("%d entries, want 3", size)
		}
		return found
	}
	if found := check(); len(found) > 0 { // while the log is open
		t.Fatalf("a good log: %v", found)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "entries")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(data []byte) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	starts := []int64{0}
	for at := 0; at < len(whole); {
		at += 2 + int(binary.BigEndian.Uint16(whole[at:]))
		starts = append(starts, int64(at))
	}
	for i := range whole {
		broken := bytes.Clone(whole)
		broken[i] ^= 0x80 // no form has such a byte
		write(broken)
		found := check()
		if len(found) == 0 {
			t.Fatalf("byte %d flipped, and nothing was found", i)
		}
		entry := 0
		for starts[entry+1] <= int64(i) {
			entry++
		}
		first := found[0].Offset
		inLength := int64(i) < starts[entry]+2
		if first < starts[entry] || !inLength && first > int64(i) {
			t.Errorf("byte %d of entry %d flipped: %s", i, entry, found[0])
		}
		if !inLength && first != int64(i) {
			t.Errorf("byte %d flipped, said to be %s", i, found[0])
		}
	}
	for name, data := range map[string][]byte{
		"cut":       whole[:len(whole)-1],
		"cut short": whole[:starts[2]],
		"swapped":   append(bytes.Clone(whole[starts[1]:starts[2]]), append(bytes.Clone(whole[:starts[1]]), whole[starts[2]:]...)...),
		"a letter of a signature": func() []byte {
			b := bytes.Clone(whole)
			at := bytes.Index(b, []byte(`"content":"`)) + 30
			b[at] = 'A' + (b[at]-'A'+1)%26
			return b
		}(),
	} {
		write(data)
		if found := check(); len(found) == 0 {
			t.Errorf("%s: nothing was found", name)
		}
	}
	write(append(bytes.Clone(whole), "what a crash left behind"...))
	if found := check(); len(found) > 0 {
		t.Errorf("bytes that no checkpoint covers: %v", found)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if found := check(); len(found) != 1 || !strings.Contains(found[0].Why, "missing") {
		t.Errorf("no entries: %v", found)
	}
	write(whole)
	head := filepath.Join(dir, "checkpoint.sealed")
	if err := os.Rename(head, head+".old"); err != nil {
		t.Fatal(err)
	}
	if found := check(); len(found) != 1 || found[0].Path != head {
		t.Errorf("no checkpoint: %v", found)
	}
	if err := durable.WriteSealed(head, []byte("0\nno note"), 0o600); err != nil {
		t.Fatal(err)
	}
	if found := check(); len(found) != 1 || !strings.Contains(found[0].Why, "not a checkpoint") {
		t.Errorf("no note: %v", found)
	}
}
