package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const goodConfig = "origin: log.example.com\nkey: log.pem\nlisten: 127.0.0.1:0\nnewest: n\nstorage: {driver: posix, path: data}\n"

func TestConfig(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{ // want "" is accepted
		"posix": {goodConfig, ""},
		"mysql": {"origin: o\nkey: k\nnewest: n\nlisten: '[::1]:1'\nextends: e\ncheckpoint_every: 2s\nstorage: {driver: mysql, dsn_file: d}\n", ""},
		"aws":   {"origin: o\nkey: k\nnewest: n\nlisten: 0.0.0.0:1\ntls: {certificate: c, key: k}\nstorage: {driver: aws, bucket: b, prefix: p, dsn_file: d}\n", ""},
		"gcp":   {"origin: o\nkey: k\nnewest: n\nlisten: localhost:1\nstorage: {driver: gcp, bucket: b, spanner: s}\n", ""},

		"nothing":          {"", "want one YAML document"},
		"two":              {goodConfig + "---\n" + goodConfig, "want one YAML document"},
		"unknown word":     {goodConfig + "origins: x\n", "origins"},
		"twice":            {goodConfig + "origin: x\n", "origin"},
		"no origin":        {strings.Replace(goodConfig, "origin: log.example.com\n", "", 1), "origin and key are needed"},
		"no key":           {strings.Replace(goodConfig, "key: log.pem\n", "", 1), "origin and key are needed"},
		"origin with port": {strings.Replace(goodConfig, "log.example.com", "log.example.com:443", 1), "is not a host name"},
		"origin a URL":     {strings.Replace(goodConfig, "log.example.com", "https://log.example.com", 1), "is not a host name"},
		"no port":          {strings.Replace(goodConfig, "127.0.0.1:0", "127.0.0.1", 1), "is not host:port"},
		"public, no tls":   {strings.Replace(goodConfig, "127.0.0.1:0", "0.0.0.0:80", 1), "that needs tls"},
		"half a tls":       {goodConfig + "tls: {certificate: c}\n", "tls needs certificate and key"},
		"no driver":        {strings.Replace(goodConfig, "driver: posix, ", "", 1), `driver "" is none of`},
		"other driver":     {strings.Replace(goodConfig, "posix", "postgres", 1), `driver "postgres" is none of`},
		"no path":          {strings.Replace(goodConfig, ", path: data", "", 1), "needs path"},
		"posix bucket":     {strings.Replace(goodConfig, "path: data", "path: data, bucket: b", 1), "has no bucket"},
		"mysql password":   {strings.Replace(goodConfig, "posix, path: data", "mysql, dsn: root:secret@/x", 1), "dsn"},
		"gcp, no spanner":  {strings.Replace(goodConfig, "posix, path: data", "gcp, bucket: b", 1), "needs spanner"},
		"aws, no bucket":   {strings.Replace(goodConfig, "posix, path: data", "aws, dsn_file: d", 1), "needs bucket"},
		"no newest":        {strings.Replace(goodConfig, "newest: n\n", "", 1), "newest is needed"},
		"too often":        {goodConfig + "checkpoint_every: 50ms\n", "from 100ms"},
		"mysql, too often": {strings.Replace(goodConfig, "posix, path: data", "mysql, dsn_file: d", 1) + "checkpoint_every: 500ms\n", "from 1s"},
		"too seldom":       {goodConfig + "checkpoint_every: 2m\n", "to 1m"},
		"no time":          {goodConfig + "checkpoint_every: often\n", "is not a time"},
	} {
		_, err := parseConfig("log.yaml", []byte(c.text))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if err != nil && !strings.Contains(err.Error(), "log.yaml") {
			t.Errorf("%s: %v does not name the file", name, err)
		}
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(goodConfig))
	f.Add([]byte("origin: o\nkey: k\nnewest: n\nlisten: 0.0.0.0:1\ntls: {certificate: c, key: k}\nstorage: {driver: aws, bucket: b, dsn_file: d}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := parseConfig("f", data); err == nil && (c.Origin == "" || c.every < leastEvery[c.Storage.Driver] || leastEvery[c.Storage.Driver] == 0) {
			t.Errorf("%+v", c)
		}
	})
}

// TestDSN: no password and no entry goes over a network in the clear, and no error
// shows what the file holds.
func TestDSN(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	self := httptest.NewTLSServer(nil)
	defer self.Close()
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: self.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	client, key := clientPair(t)
	for name, data := range map[string][]byte{"client.pem": client, "client.key": key} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		text string
		good bool
	}{
		"socket":                {"u:secret@unix(/run/mysqld/s)/log", true},
		"loopback":              {"u:secret@tcp(127.0.0.1:3306)/log", true},
		"default":               {"u:secret@/log", true},
		"far, tls":              {"u:secret@tcp(db.example.com:3306)/log?tls=true", true},
		"far":                   {"u:secret@tcp(db.example.com:3306)/log", false},
		"far, false":            {"u:secret@tcp(db.example.com:3306)/log?tls=false", false},
		"far, anybody":          {"u:secret@tcp(db.example.com:3306)/log?tls=skip-verify", false},
		"far, maybe":            {"u:secret@tcp(db.example.com:3306)/log?tls=preferred", false},
		"far, falls back":       {"u:secret@tcp(db.example.com:3306)/log?tls=true&allowFallbackToPlaintext=true", false},
		"far, falls back, 1":    {"u:secret@tcp(db.example.com:3306)/log?allowFallbackToPlaintext=1&tls=true", false},
		"far, own CA, back":     {"u:secret@tcp(db.example.com:3306)/log?ca=ca.pem&allowFallbackToPlaintext=true", false},
		"far, own CA":           {"u:secret@tcp(db.example.com:3306)/log?ca=ca.pem", true},
		"far, client":           {"u:secret@tcp(db.example.com:3306)/log?ca=ca.pem&cert=client.pem&key=client.key", true},
		"far, client, any CA":   {"u:secret@tcp(db.example.com:3306)/log?cert=client.pem&key=client.key", true},
		"near, client":          {"u:secret@tcp(127.0.0.1:3306)/log?cert=client.pem&key=client.key", true},
		"client without key":    {"u:secret@tcp(db.example.com:3306)/log?ca=ca.pem&cert=client.pem", false},
		"key without client":    {"u:secret@tcp(127.0.0.1:3306)/log?key=client.key", false},
		"another's key":         {"u:secret@tcp(db.example.com:3306)/log?cert=ca.pem&key=client.key", false},
		"no key":                {"u:secret@tcp(db.example.com:3306)/log?cert=client.pem&key=missing.key", false},
		"no client":             {"u:secret@tcp(db.example.com:3306)/log?cert=missing.pem&key=client.key", false},
		"client, back":          {"u:secret@tcp(db.example.com:3306)/log?cert=client.pem&key=client.key&allowFallbackToPlaintext=true", false},
		"a CA without name":     {"u:secret@tcp(127.0.0.1:3306)/log?ca=", false},
		"far, does not":         {"u:secret@tcp(db.example.com:3306)/log?tls=true&allowFallbackToPlaintext=false", true},
		"far, tls, clear":       {"u:secret@tcp(db.example.com:3306)/log?tls=true&allowCleartextPasswords=true", true},
		"near, clear":           {"u:secret@tcp(127.0.0.1:3306)/log?allowCleartextPasswords=true", false},
		"near, maybe, clear":    {"u:secret@tcp(127.0.0.1:3306)/log?tls=preferred&allowCleartextPasswords=true", false},
		"near, anybody, clear":  {"u:secret@tcp(127.0.0.1:3306)/log?tls=skip-verify&allowCleartextPasswords=true", false},
		"far, clear, back":      {"u:secret@tcp(db.example.com:3306)/log?tls=true&allowCleartextPasswords=true&allowFallbackToPlaintext=true", false},
		"reads this machine":    {"u:secret@unix(/run/mysqld/s)/log?allowAllFiles=true", false},
		"reads it from far off": {"u:secret@tcp(db.example.com:3306)/log?tls=true&allowAllFiles=true", false},
		"far, no CA":            {"u:secret@tcp(db.example.com:3306)/log?ca=missing.pem", false},
		"no database":           {"u:secret@tcp(127.0.0.1:3306)/", false},
		"a URL":                 {"mysql://u:secret@127.0.0.1/log", false},
		"nothing":               {"", false},
		"unknown tls":           {"u:secret@tcp(db.example.com:3306)/log?tls=other", false},
		"no port":               {"u:secret@tcp(db.example.com)/log", false},
		"looks like us":         {"u:secret@tcp(127.0.0.1.example.com:3306)/log", false},
	} {
		got, err := parseDSN(filepath.Join(dir, "dsn"), c.text)
		if (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error shows the password: %v", name, err)
		}
		if err == nil && (got.ReadTimeout == 0 || got.Timeout == 0 || got.WriteTimeout == 0) {
			t.Errorf("%s: a server that says nothing is waited for without end", name)
		}
	}
}

// clientPair is a certificate and its key in PEM.
func clientPair(t *testing.T) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

func FuzzDSN(f *testing.F) {
	f.Add("u:secret@tcp(db.example.com:3306)/log?tls=true")
	f.Add("u@unix(/s)/log?timeout=1s&ca=x")
	f.Add("u@tcp(h:1)/log?cert=a&key=b")
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := parseDSN("/nonexistent/dsn", text); err == nil && c.DBName == "" {
			t.Errorf("%q", text)
		}
	})
}

func TestUsage(t *testing.T) {
	t.Parallel()
	s := newSite(t, "posix", newKey(t))
	for _, args := range [][]string{
		{"server"}, {"serve"}, {"serve", "--config"}, {"serve", "--config", s.path("log.yaml"), "x"}, {"serve", "--config", s.path("log.yaml"), "--from", "x"}, {"serve", "--config", s.path("log.yaml"), "--while-running"},
		{"migrate", "--config", s.path("log.yaml")}, {"migrate", "--config", s.path("log.yaml"), "--from", "x", "--create"},
		{"serve", "--config", s.path("log.yaml"), "--log-format", "xml"},
	} {
		var out bytes.Buffer
		if err := run(context.Background(), args, &out, &out); !errors.As(err, new(usageError)) {
			t.Errorf("%v: %v", args, err)
		}
	}
	var out bytes.Buffer
	if err := run(context.Background(), []string{"help"}, &out, &out); err != nil || out.String() != usage {
		t.Errorf("help: %v", err)
	}
	if err := run(context.Background(), []string{"serve", "--config", s.path("missing")}, &out, &out); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a configuration that is missing: %v", err)
	}
}

// TestNewestOutlivesTheStorage: what is remembered beside the storage must not go back
// with it, and is not what somebody else writes.
func TestNewestOutlivesTheStorage(t *testing.T) {
	t.Parallel()
	s := newSite(t, "posix", newKey(t))
	good, err := os.ReadFile(s.path("log.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ newest, want string }{
		"beside":        {"newest", ""},
		"looks alike":   {"data-newest", ""},
		"in it":         {"data/newest", "is in the storage's folder"},
		"it":            {"data", "is in the storage's folder"},
		"around it":     {"x/../data/y/../newest", "is in the storage's folder"},
		"absolute":      {s.path("data/.state/newest"), "is in the storage's folder"},
		"what migrated": {"last", "one file"},
	} {
		s.write(t, "log.yaml", []byte(strings.Replace(string(good), "newest: newest", "extends: last\nnewest: "+c.newest, 1)))
		_, err := ReadConfig(s.path("log.yaml"))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
