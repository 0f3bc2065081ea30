package oidc

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/scrypt"

	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

const (
	usersFile = "users.json" // sealed
	maxUsers  = 10_000

	// scrypt's cost: 32 MiB and about 60 ms a try. The secrets are random, so
	// this guards only those that a later version may let people choose.
	scryptN, scryptR, scryptP = 1 << 15, 8, 1

	maxOneTime = 64
)

// userList is the content of users.json.
type userList struct {
	Version int    `json:"version" strict:"required"` // 1
	Users   []user `json:"users" strict:"required"`
}

type user struct {
	Email string `json:"email" strict:"required"`
	Salt  []byte `json:"salt" strict:"required"`
	Hash  []byte `json:"hash" strict:"required"` // scrypt N=32768 r=8 p=1, 32 bytes
}

// AddUser makes a login secret for email in dir and returns it: the only time
// that it is seen. A user who is there already gets a new secret, the old one is
// void. A running issuer takes it at the next login. dir must exist.
func AddUser(dir, email string) (secret string, err error) {
	if err := checkEmail(email); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "users.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", fmt.Errorf("adding a user: %w", err)
	}
	defer func() { _ = lock.Close() }() // and with it the lock
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("adding a user: locking %s: %w", lock.Name(), err)
	}
	list, err := readUsers(dir)
	if err != nil {
		return "", err
	}
	secret = readable(5, 5) // 125 bits
	added := user{Email: email, Salt: make([]byte, 16)}
	_, _ = rand.Read(added.Salt) // never fails
	if added.Hash, err = hashSecret(secret, added.Salt); err != nil {
		return "", err
	}
	kept := list.Users[:0]
	for _, u := range list.Users {
		if u.Email != email {
			kept = append(kept, u)
		}
	}
	if len(kept) >= maxUsers {
		return "", fmt.Errorf("adding a user: there are %d already", maxUsers)
	}
	list.Users = append(kept, added)
	sort.Slice(list.Users, func(i, j int) bool { return list.Users[i].Email < list.Users[j].Email })
	data, err := json.Marshal(list)
	if err != nil {
		return "", err
	}
	if err := durable.WriteSealed(filepath.Join(dir, usersFile), data, 0o600); err != nil {
		return "", fmt.Errorf("adding a user: %w", err)
	}
	return secret, nil
}

// AddUser is [AddUser] in the provider's folder.
func (p *Provider) AddUser(email string) (string, error) { return AddUser(p.dir, email) }

func readUsers(dir string) (userList, error) {
	list := userList{Version: 1, Users: []user{}}
	path := filepath.Join(dir, usersFile)
	data, err := durable.ReadSealed(path)
	if errors.Is(err, fs.ErrNotExist) {
		return list, nil
	}
	if err != nil {
		return list, fmt.Errorf("users: %w", err)
	}
	if err := strictjson.Unmarshal(data, &list); err != nil {
		return list, fmt.Errorf("users: %s: %w", path, err)
	}
	if list.Version != 1 {
		return list, fmt.Errorf("users: %s has version %d; this program knows 1", path, list.Version)
	}
	return list, nil
}

// readable is a random secret of groups that a person can type: base32 without
// the letters and digits that look alike (I, O, 0, 1 are not in its alphabet).
func readable(groups, each int) string {
	alphabet := base32.NewEncoding("ABCDEFGHJKLMNPQRSTUVWXYZ23456789").WithPadding(base32.NoPadding)
	n := groups * each
	b := make([]byte, (n*5+7)/8)
	_, _ = rand.Read(b) // never fails
	text := alphabet.EncodeToString(b)[:n]
	var parts []string
	for i := 0; i < n; i += each {
		parts = append(parts, text[i:i+each])
	}
	return strings.Join(parts, "-")
}

// plain undoes what people do to a secret when they type it.
func plain(secret string) string {
	return strings.ToUpper(strings.NewReplacer("-", "", " ", "").Replace(secret))
}

func hashSecret(secret string, salt []byte) ([]byte, error) {
	return scrypt.Key([]byte(plain(secret)), salt, scryptN, scryptR, scryptP, 32)
}

// NewOneTimeCode makes a code with which one login as email succeeds, once, while
// this provider lives. `up` prints one for the person who started it.
func (p *Provider) NewOneTimeCode(email string) (string, error) {
	if err := checkEmail(email); err != nil {
		return "", err
	}
	code := readable(4, 4) // 80 bits
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.oneTime) >= maxOneTime {
		return "", fmt.Errorf("there are %d unused one-time codes", maxOneTime)
	}
	p.oneTime[sha256.Sum256([]byte(plain(code)))] = email
	return code, nil
}

// Why a login failed; see sentence.
var (
	errWrong   = errors.New("the e-mail address or the secret is wrong")
	errTooMany = errors.New("too many wrong logins; wait a minute and try again")
)

// sentence is an error as a page shows it.
func sentence(err error) string {
	s := err.Error()
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

// authenticate returns who a person proved to be. email may be "" with a one-time
// code, which belongs to one address anyway. A right secret costs nothing from the
// allowance, a wrong one does, whoever it is for.
func (p *Provider) authenticate(email, secret string) (string, error) {
	if !p.allow(email) {
		return "", errTooMany
	}
	if who, ok := p.useOneTime(email, secret); ok {
		p.forgive(email)
		return who, nil
	}
	list, err := readUsers(p.dir)
	if err != nil {
		return "", err
	}
	// An unknown address takes as long as a known one.
	found := user{Salt: make([]byte, 16), Hash: make([]byte, 32)}
	known := false
	for _, u := range list.Users {
		if u.Email == email {
			found, known = u, true
		}
	}
	p.hashing.Lock()
	hash, err := hashSecret(secret, found.Salt)
	p.hashing.Unlock()
	if err != nil {
		return "", err
	}
	if subtle.ConstantTimeCompare(hash, found.Hash) != 1 || !known {
		return "", errWrong
	}
	p.forgive(email)
	return email, nil
}

// useOneTime spends a code; it is gone before the login goes on.
func (p *Provider) useOneTime(email, secret string) (string, bool) {
	sum := sha256.Sum256([]byte(plain(secret)))
	p.mu.Lock()
	defer p.mu.Unlock()
	who, ok := p.oneTime[sum]
	if !ok || (email != "" && email != who) {
		return "", false
	}
	delete(p.oneTime, sum)
	return who, true
}

// allowance is how many wrong logins one address has left.
type allowance struct {
	left float64
	at   time.Time
}

const (
	burst       = 10              // wrong logins in a row
	refill      = 6 * time.Second // for one more
	maxAttempts = 1024            // addresses that are remembered
	everybody   = ""              // key of the allowance of all together
	burstAll    = 100
)

// allow takes one attempt from the address and one from all together. Attempts
// are taken before the secret is looked at, so that parallel ones count too.
func (p *Provider) allow(email string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.cfg.Now()
	if len(p.attempts) >= maxAttempts {
		for key, a := range p.attempts {
			if key != everybody && now.Sub(a.at) > burst*refill {
				delete(p.attempts, key)
			}
		}
	}
	take := func(key string, most float64) bool {
		a := p.attempts[key]
		if a == nil {
			if len(p.attempts) >= maxAttempts && key != everybody {
				return false
			}
			a = &allowance{left: most, at: now}
			p.attempts[key] = a
		}
		a.left = min(most, a.left+float64(now.Sub(a.at))/float64(refill)*most/burst)
		a.at = now
		if a.left < 1 {
			return false
		}
		a.left--
		return true
	}
	return take("of "+email, burst) && take(everybody, burstAll)
}

// forgive gives back what a right login took.
func (p *Provider) forgive(email string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.attempts, "of "+email)
	if a := p.attempts[everybody]; a != nil {
		a.left++
	}
}
