package main

import (
	"crypto"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/key"
	"github.com/hallmark-dev/hallmark/internal/loopback"
	"github.com/hallmark-dev/hallmark/internal/strictyaml"
)

// Config is the whole configuration: one YAML document, in which every word must be
// understood. Paths are relative to its folder.
type Config struct {
	// Origin is the first line of each checkpoint: the host name in the log's URL.
	Origin string `yaml:"origin"`
	// Key is a file with the Ed25519 key, keys/log.pem of a data folder or PEM, or another
	// reference of [key.Open].
	Key string `yaml:"key"`
	// PasswordEnv is the variable with its password or PIN; default COSIGN_PASSWORD.
	PasswordEnv string `yaml:"password_env"`
	// Listen is host:port; beyond this machine it needs TLS.
	Listen string     `yaml:"listen"`
	TLS    *TLSConfig `yaml:"tls"`
	// Extends is a file with a checkpoint that everything signed here must extend: the
	// last one of the log that this one continues.
	Extends string `yaml:"extends"`
	// Newest is a file that is kept here: the newest checkpoint that this host signed or
	// showed. It must not be where the storage is, with which it would go back.
	Newest  string        `yaml:"newest"`
	Storage StorageConfig `yaml:"storage"`
	// CheckpointEvery is how often a checkpoint is published at most; so long, about,
	// does a client wait for its answer. Default 100ms (posix), 1s (mysql, aws) or 1.2s (gcp),
	// which are also the least.
	CheckpointEvery string `yaml:"checkpoint_every"`
	Pos             strictyaml.Pos

	every time.Duration
	key   crypto.Signer
}

// TLSConfig are PEM files.
type TLSConfig struct {
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
	Pos         strictyaml.Pos
}

// StorageConfig says which of Tessera's drivers keeps the log, and where.
type StorageConfig struct {
	Driver string `yaml:"driver"` // posix, mysql, aws or gcp
	// Path is posix' folder: a file system of this host, or one whose fcntl locks and
	// fsync hold between hosts.
	Path string `yaml:"path"`
	// DSNFile names a file with the data source name of mysql and aws, which may hold a
	// password: user:password@tcp(host:3306)/database?tls=true.
	DSNFile string `yaml:"dsn_file"`
	// Bucket of S3 or Cloud Storage, with a prefix for the log's paths.
	Bucket string `yaml:"bucket"`
	Prefix string `yaml:"prefix"`
	// Spanner is gcp's database: projects/P/instances/I/databases/D.
	Spanner string `yaml:"spanner"`
	Pos     strictyaml.Pos
}

// leastEvery is how often the drivers publish at most.
var leastEvery = map[string]time.Duration{
	"posix": 100 * time.Millisecond, "mysql": time.Second, "aws": time.Second, "gcp": 1200 * time.Millisecond,
}

const maxSecretFile = 64 << 10

// ReadConfig reads a configuration and the key that it names.
func ReadConfig(path string) (*Config, error) {
	data, err := readLimited(path, strictyaml.MaxSize)
	if err != nil {
		return nil, err
	}
	c, err := parseConfig(path, data)
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	for _, p := range []*string{&c.Extends, &c.Newest, &c.Storage.Path, &c.Storage.DSNFile} {
		*p = below(dir, *p)
	}
	if c.TLS != nil {
		c.TLS.Certificate, c.TLS.Key = below(dir, c.TLS.Certificate), below(dir, c.TLS.Key)
	}
	if c.Storage.Path != "" && within(c.Newest, c.Storage.Path) {
		return nil, c.Pos.Errorf("newest %s is in the storage's folder: it must outlive the storage", c.Newest)
	}
	if c.Newest == c.Extends {
		return nil, c.Pos.Errorf("newest and extends are one file: newest is written by hallmark-log alone")
	}
	c.key, err = openKey(dir, c.Key, c.PasswordEnv)
	return c, err
}

func below(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

func parseConfig(file string, data []byte) (*Config, error) {
	docs, err := strictyaml.Documents(file, data)
	if err != nil {
		return nil, err
	}
	if len(docs) != 1 {
		return nil, fmt.Errorf("%s: want one YAML document, found %d", file, len(docs))
	}
	c := new(Config)
	if err := docs[0].Decode(c); err != nil {
		return nil, err
	}
	if c.Origin == "" || c.Key == "" {
		return nil, c.Pos.Errorf("origin and key are needed")
	}
	if c.PasswordEnv != "" && !key.IsVariable(c.PasswordEnv) {
		return nil, c.Pos.Errorf("password_env is not the name of an environment variable")
	}
	if c.Newest == "" {
		return nil, c.Pos.Errorf("newest is needed: a file, not in the storage, in which the newest checkpoint is remembered")
	}
	if strings.ContainsAny(c.Origin, " +:/\t\n") {
		return nil, c.Pos.Errorf("origin %q is not a host name", c.Origin)
	}
	if c.TLS != nil && (c.TLS.Certificate == "" || c.TLS.Key == "") {
		return nil, c.TLS.Pos.Errorf("tls needs certificate and key")
	}
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return nil, c.Pos.Errorf("listen %q is not host:port", c.Listen)
	}
	if !loopback.Host(host) && c.TLS == nil {
		return nil, c.Pos.Errorf("listen %s can be reached from other machines: that needs tls", c.Listen)
	}
	if err := c.Storage.check(); err != nil {
		return nil, err
	}
	c.every = leastEvery[c.Storage.Driver]
	if c.CheckpointEvery != "" {
		d, err := time.ParseDuration(c.CheckpointEvery)
		if err != nil || d < c.every || d > time.Minute {
			return nil, c.Pos.Errorf("checkpoint_every %q is not a time from %s to 1m, such as 2s", c.CheckpointEvery, c.every)
		}
		c.every = d
	}
	return c, nil
}

// check demands of each driver what is its own and refuses what is another's: a
// bucket beside driver posix was meant otherwise.
func (s *StorageConfig) check() error {
	fields := map[string]string{"path": s.Path, "dsn_file": s.DSNFile, "bucket": s.Bucket, "prefix": s.Prefix, "spanner": s.Spanner}
	type rule struct{ need, may []string }
	rules := map[string]rule{
		"posix": {need: []string{"path"}},
		"mysql": {need: []string{"dsn_file"}},
		"aws":   {need: []string{"bucket", "dsn_file"}, may: []string{"prefix"}},
		"gcp":   {need: []string{"bucket", "spanner"}, may: []string{"prefix"}},
	}
	r, ok := rules[s.Driver]
	if !ok {
		return s.Pos.Errorf("driver %q is none of posix, mysql, aws and gcp", s.Driver)
	}
	known := map[string]bool{}
	for _, name := range append(r.need, r.may...) {
		known[name] = true
	}
	for _, name := range r.need {
		if fields[name] == "" {
			return s.Pos.Errorf("driver %s needs %s", s.Driver, name)
		}
	}
	for _, name := range []string{"path", "dsn_file", "bucket", "prefix", "spanner"} {
		if fields[name] != "" && !known[name] {
			return s.Pos.Errorf("driver %s has no %s", s.Driver, name)
		}
	}
	return nil
}

// readLimited reads a file of at most limit bytes.
func readLimited(path string, limit int64) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Size() > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	if !st.Mode().IsRegular() {
		return nil, errors.New(path + " is not a file")
	}
	return os.ReadFile(path)
}
