package authority

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/crypto/bcrypt"

	"github.com/hallmark-dev/hallmark/internal/fault"
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

// check reports whether this is a user with this password.
func (l *logins) check(user, password string) bool {
	hash, known := l.hashes[user]
	if !known {
		return false
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
	l.checking <- struct{}{}
	defer func() { <-l.checking }()
	if bcrypt.CompareHashAndPassword(hash, []byte(password)) != nil {
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
