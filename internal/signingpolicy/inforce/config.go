// Package inforce asks a policy store which signing policy is in force for a repository, and makes
// of the answer what package judge needs: people, rules, record, and those of the owner.
//
// Trusted: the configuration, which the operator of a builder installs, and the files that it names.
// All that the store says is verified by package chain.
package inforce

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/chain"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// MaxConfig is the size of the largest configuration, in bytes.
const MaxConfig = 64 << 10

// maxDelay bounds the durations of a configuration.
const maxDelay = 366 * 24 * time.Hour

// PublicRoot names Sigstore's public instance in place of a trust root's file.
const PublicRoot = "public"

// Config says which store is asked, and what is believed of it (docs/signing-policy.md, "By a
// store").
type Config struct {
	Store       string // URL, or a folder
	Trust       string // file that says who the log is and who must cosign (ledger.ParseTrust)
	TrustedRoot string // file with what vouches for the updater, or PublicRoot
	Updaters    []policy.Identity
	AnyRunner   bool          // the updater may run on a self-hosted machine
	Require     bool          // a repository without a policy is denied
	MaxAge      time.Duration // of the head; 0 is chain.DefaultMaxAge
	// FirstDelay is how long a first record waits: 0 is chain.DefaultFirstDelay, negative not at all.
	FirstDelay time.Duration
	Memory     string      // file for the largest head that was seen; "" for none
	Cache      string      // folder for tiles; "" for none
	Floor      chain.Point // a state of the log that is known
}

type wireConfig struct {
	Version     int           `json:"version" strict:"required"`
	Store       string        `json:"store" strict:"required"`
	Trust       string        `json:"trust" strict:"required"`
	TrustedRoot string        `json:"trustedRoot" strict:"required"`
	Updaters    []wireUpdater `json:"updaters" strict:"required,max=8"`
	AnyRunner   bool          `json:"anyRunner"`
	Require     bool          `json:"require"`
	MaxAge      string        `json:"maxAge"`
	FirstDelay  string        `json:"firstDelay"`
	Memory      string        `json:"memory"`
	Cache       string        `json:"cache"`
	Floor       *wirePoint    `json:"floor"`
}

type wireUpdater struct {
	Identity string `json:"identity" strict:"required"`
	Issuer   string `json:"issuer" strict:"required"`
}

type wirePoint struct {
	Size int64  `json:"size" strict:"required"`
	Root string `json:"root" strict:"required"`
}

// Parse reads a configuration, strictly. Every error says what is wrong in it. Relative paths stay as
// they are.
func Parse(data []byte) (*Config, error) {
	if len(data) > MaxConfig {
		return nil, fmt.Errorf("longer than %d bytes", MaxConfig)
	}
	var w wireConfig
	if err := strictjson.Unmarshal(data, &w); err != nil {
		return nil, err
	}
	if w.Version != 1 {
		return nil, fmt.Errorf("version: %d is not known; want 1", w.Version)
	}
	c := &Config{Store: w.Store, Trust: w.Trust, TrustedRoot: w.TrustedRoot, AnyRunner: w.AnyRunner, Require: w.Require, Memory: w.Memory, Cache: w.Cache}
	for name, value := range map[string]string{"store": w.Store, "trust": w.Trust, "trustedRoot": w.TrustedRoot} {
		if value == "" {
			return nil, fmt.Errorf("%s: is empty", name)
		}
	}
	if len(w.Updaters) == 0 {
		return nil, errors.New("updaters: names nobody")
	}
	for i, u := range w.Updaters {
		if u.Identity == "" || u.Issuer == "" {
			return nil, fmt.Errorf("updaters[%d]: identity or issuer is empty", i)
		}
		c.Updaters = append(c.Updaters, policy.Identity{Subject: u.Identity, Issuer: u.Issuer})
	}
	var err error
	if c.MaxAge, err = duration("maxAge", w.MaxAge); err != nil {
		return nil, err
	}
	if w.MaxAge != "" && c.MaxAge == 0 {
		return nil, errors.New("maxAge: no head is that young")
	}
	if c.FirstDelay, err = duration("firstDelay", w.FirstDelay); err != nil {
		return nil, err
	}
	if w.FirstDelay != "" && c.FirstDelay == 0 {
		c.FirstDelay = -1
	}
	if w.Floor == nil {
		return c, nil
	}
	root, err := base64.StdEncoding.Strict().DecodeString(w.Floor.Root)
	if err != nil || len(root) != tlog.HashSize || w.Floor.Size < 1 {
		return nil, errors.New("floor: want the size of a log, from 1, and its root, 32 bytes in base64")
	}
	c.Floor = chain.Point{Size: w.Floor.Size, Root: tlog.Hash(root)}
	return c, nil
}

func duration(name, text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > maxDelay {
		return 0, fmt.Errorf("%s: %.40q is no duration such as 24h", name, text)
	}
	return d, nil
}

// Read reads a configuration's file. Relative paths in it are from its folder.
func Read(file string) (*Config, error) {
	data, err := readBounded(file, MaxConfig)
	if err != nil {
		return nil, err
	}
	c, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	dir := filepath.Dir(file)
	for _, p := range []*string{&c.Store, &c.Trust, &c.TrustedRoot, &c.Memory, &c.Cache} {
		if *p != "" && !filepath.IsAbs(*p) && !(p == &c.Store && c.remote()) && !(p == &c.TrustedRoot && *p == PublicRoot) {
			*p = filepath.Join(dir, *p)
		}
	}
	return c, nil
}

func (c *Config) remote() bool { return strings.Contains(c.Store, "://") }

// Files are what the configuration names and believes.
func (c *Config) Files() []string {
	out := []string{c.Trust}
	if c.TrustedRoot != PublicRoot {
		out = append(out, c.TrustedRoot)
	}
	if c.Memory != "" {
		out = append(out, c.Memory)
	}
	return out
}

// readBounded reads a file of at most limit bytes.
func readBounded(file string, limit int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("longer than %d bytes", limit)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return data, nil
}
