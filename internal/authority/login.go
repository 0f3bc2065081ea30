package authority

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/crypto/bcrypt"

	"github.com/hallmark-dev/hallmark/internal/authority/registry"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/strictyaml"
)

// logins are the people and machines that may use the registry: an htpasswd
// file with bcrypt hashes (htpasswd -B).
type logins struct {
	hashes map[string][]byte
	secret [32]byte // keys the cache, so that it holds no password
	// checking bounds the hashes that are computed at once: each takes 50 ms of
	// a core, and anyone may ask for them.
	checking chan struct{}

	mu   sync.Mutex
	good map[[32]byte]bool
}

const (
	maxLoginFile = 1 << 20
	maxLogins    = 1000 // remembered good logins
	maxChecking  = 2
)

func loadLogins(path string) (*logins, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("registry user file: %w", err)
	}
	if len(data) > maxLoginFile {
		return nil, fmt.Errorf("registry user file %s has more than %d bytes", path, maxLoginFile)
	}
	l := &logins{hashes: map[string][]byte{}, good: map[[32]byte]bool{}, checking: make(chan struct{}, maxChecking)}
	_, _ = rand.Read(l.secret[:])
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		user, hash, ok := strings.Cut(line, ":")
		if _, err := bcrypt.Cost([]byte(hash)); !ok || user == "" || err != nil {
			return nil, fault.Hint(fault.Usagef("registry user file %s, line %d is not user:bcrypt-hash", path, n),
				"make lines with: htpasswd -nB USER")
		}
		if _, twice := l.hashes[user]; twice {
			return nil, fault.Usagef("registry user file %s, line %d: user %s appears twice", path, n, user)
		}
		if user == registry.IdentityUser {
			return nil, fault.Usagef("registry user file %s, line %d: %s is no user but how identity tokens log in", path, n, user)
		}
		l.hashes[user] = []byte(hash)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("registry user file %s: %w", path, err)
	}
	if len(l.hashes) == 0 {
		return nil, fault.Usagef("registry user file %s has no user", path)
	}
	return l, nil
}

// nobody is a hash that no password has been chosen for, of the usual cost: who
// asks for a user that does not exist waits as long as for a wrong password.
const nobody = "$2a$10$EbggjfJaYKDm/naQP/d00e4jbfE9iiF.ahf6Z9J7RiMFgbgeinvBq"

// check reports whether this is a user with this password. A caller that gives up
// meanwhile is nobody.
func (l *logins) check(ctx context.Context, user, password string) bool {
	hash, known := l.hashes[user]
	if !known {
		hash = []byte(nobody)
	}
	mac := hmac.New(sha256.New, l.secret[:])
	fmt.Fprintf(mac, "%d:%s%s", len(user), user, password)
	key := [32]byte(mac.Sum(nil))
	l.mu.Lock()
	good := l.good[key]
	l.mu.Unlock()
	if good {
		return true
	}
	select {
	case l.checking <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	defer func() { <-l.checking }()
	if bcrypt.CompareHashAndPassword(hash, []byte(password)) != nil || !known {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.good) >= maxLogins {
		clear(l.good)
	}
	l.good[key] = true
	return true
}

// loadRules reads the registry's configuration.
func loadRules(path string) (*registry.Rules, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("registry configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, strictyaml.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("registry configuration: %w", err)
	}
	rules, err := registry.ParseRules(path, data)
	return rules, fault.As(fault.Usage, err)
}

// registryLogin is who a user with a password is to the registry: a user of the
// htpasswd file, or, where rights say what identities may do, whom an identity
// token of our own issuer names.
func (a *Authority) registryLogin(ctx context.Context, user, password string) (registry.Principal, bool) {
	switch {
	case user == registry.IdentityUser:
		if a.rules == nil {
			return registry.Anonymous, false
		}
		name, err := a.ca.Identify(ctx, password, a.info.Issuer)
		if err != nil {
			a.cfg.Log.DebugContext(ctx, "identity token refused by the registry", "err", err.Error())
			return registry.Anonymous, false
		}
		return registry.Principal("identity:" + name), true
	case a.users != nil && a.users.check(ctx, user, password):
		return registry.Principal("user:" + user), true
	}
	return registry.Anonymous, false
}
