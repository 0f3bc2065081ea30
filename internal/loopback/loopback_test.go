package loopback_test

import (
	"testing"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/loopback"
)

func TestHost(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{
		"localhost":             true,
		"LOCALHOST:80":          true,
		"127.0.0.1":             true,
		"127.0.0.1:8420":        true,
		"127.255.255.254:1":     true,
		"[::1]":                 true,
		"[::1]:8420":            true,
		"::1":                   true,
		"::ffff:127.0.0.1":      true,
		"":                      false,
		"localhost.example.com": false,
		"notlocalhost":          false,
		"127.0.0.1.example.com": false,
		"127.1":                 false,
		"0.0.0.0":               false,
		"[::]":                  false,
		"128.0.0.1":             false,
		"10.0.0.1":              false,
		"[::1%eth0]":            false,
		"[fe80::1]:80":          false,
		"2130706433":            false,
		"localhost:80:80":       false,
	} {
		if got := loopback.Host(host); got != want {
			t.Errorf("Host(%q) = %v", host, got)
		}
	}
}

func TestCheckURL(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		url   string
		plain bool
		ok    bool
	}{
		{"https://rekor.example.com", false, true},
		{"http://127.0.0.1:8420/x", false, true},
		{"http://rekor.example.com", true, true},
		{"http://rekor.example.com", false, false},
		{"http://localhost@evil.example.com", false, false},
		{"ftp://127.0.0.1", true, false},
		{"127.0.0.1:80", true, false},
		{"", true, false},
		{"https://", false, false},
	} {
		err := loopback.CheckURL("log", c.url, c.plain)
		if (err == nil) != c.ok {
			t.Errorf("CheckURL(%q, %v) = %v", c.url, c.plain, err)
		}
		if err != nil && fault.KindOf(err) != fault.Usage {
			t.Errorf("CheckURL(%q): kind %v", c.url, fault.KindOf(err))
		}
	}
}
