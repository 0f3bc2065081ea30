package sourcefacts

import (
	"strings"
	"testing"
)

func TestUnsnappy(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 70)
	for name, tc := range map[string]struct{ in, want string }{
		"empty":        {"\x00", ""},
		"literal":      {"\x02\x04{}", "{}"},
		"long literal": {"\x46\xf0\x45" + long, long},
		"copy":         {"\x08\x0cabcd\x01\x04", "abcdabcd"},
		"overlap":      {"\x09\x00a\x11\x01", "aaaaaaaaa"},
		"copy 2":       {"\x08\x0cabcd\x0e\x04\x00", "abcdabcd"},
		"copy 4":       {"\x08\x0cabcd\x0f\x04\x00\x00\x00", "abcdabcd"},
	} {
		if got, err := unsnappy([]byte(tc.in), 1000); err != nil || string(got) != tc.want {
			t.Errorf("%s: %q %v", name, got, err)
		}
	}
	for name, in := range map[string]string{
		"nothing": "", "no size": "\x80", "too big": "\xff\xff\x7f\x00a", "short": "\x05\x04{}", "long": "\x01\x04{}",
		"cut literal": "\x08\x0cabc", "cut copy": "\x08\x0cabcd\x01", "offset 0": "\x08\x0cabcd\x01\x00", "before the start": "\x08\x0cabcd\x01\x05",
		"huge literal": "\x02\xfc\xff\xff\xff\xff", "cut length": "\x02\xf4\x01",
	} {
		if got, err := unsnappy([]byte(in), 1000); err == nil {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// FuzzUnsnappy: whatever GitHub stores, decoding it ends within the limit.
func FuzzUnsnappy(f *testing.F) {
	f.Add([]byte("\x08\x0cabcd\x01\x04"))
	f.Fuzz(func(t *testing.T, in []byte) {
		if out, err := unsnappy(in, 1<<16); err == nil && len(out) > 1<<16 {
			t.Error(len(out))
		}
	})
}

// FuzzConfiguration: an image's configuration is read or refused.
func FuzzConfiguration(f *testing.F) {
	f.Add([]byte(`{"created":"2026-01-01T00:00:00Z","config":{"User":"a","Volumes":{"/v":{}},"Labels":{"a":"b"}}}`))
	f.Fuzz(func(_ *testing.T, in []byte) { _, _ = ParseConfiguration(in) })
}
