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
	errWrong    = errors.New("the e-mail address or the secret is wrong")
	errTooMany  = errors.New("too many wrong logins; wait a minute and try again")
	errFull     = errors.New("too many logins are under way; wait a minute and try again; nothing was used up")
	errNoDevice = errors.New("nobody waits for this code; look at the terminal again")
	errLost     = errors.New("the page was used already")
)

// sentence is an error as a page shows it.
func sentence(err error) string {
	s := err.Error()
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

// proof is who a person proved to be.
type proof struct {
	email   string
	oneTime *[32]byte // the one-time code that proved it; nil when it was a secret
}

// authenticate returns who a person proved to be, and spends nothing: settle does.
// email may be "" with a one-time code, which belongs to one address anyway.
//
// One-time codes have 80 random bits: they need no limit, and so nobody can shut
// out the person who started this. A right login secret costs nothing from the
// allowance in the end, a wrong one does, whoever it is for.
func (p *Provider) authenticate(email, secret string) (proof, error) {
	if who, ok := p.findOneTime(email, secret); ok {
		return who, nil
	}
	if !p.allow(email) {
		return proof{}, errTooMany
	}
	list, err := readUsers(p.dir)
	if err != nil {
		return proof{}, err
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
		return proof{}, err
	}
	if subtle.ConstantTimeCompare(hash, found.Hash) != 1 || !known {
		return proof{}, errWrong
	}
	return proof{email: email}, nil
}

func (p *Provider) findOneTime(email, secret string) (proof, bool) {
	sum := sha256.Sum256([]byte(plain(secret)))
	p.mu.Lock()
	defer p.mu.Unlock()
	who, ok := p.oneTime[sum]
	if !ok || (email != "" && email != who) {
		return proof{}, false
	}
	return proof{who, &sum}, true
}

// holds reports whether a proof is still good: another request may have spent its
// one-time code. The caller holds mu.
func (p *Provider) holds(who proof) bool {
	return who.oneTime == nil || p.oneTime[*who.oneTime] == who.email
}

// spend takes the one-time code of a login that succeeded, or gives back what its
// secret took from the allowance. The caller holds mu.
func (p *Provider) spend(who proof) {
	if who.oneTime != nil {
		delete(p.oneTime, *who.oneTime)
		return
	}
	delete(p.attempts, "of "+who.email)
	if a := p.attempts[everybody]; a != nil {
		a.left++
	}
}

// allowance is how many wrong attempts are left.
type allowance struct {
	left float64
	at   time.Time
}

const (
	burst       = 10              // wrong attempts in a row
	refill      = 6 * time.Second // for one more
	maxAttempts = 1024            // allowances that are remembered
	everybody   = ""              // key of the allowance of all together
	burstAll    = 100
)

// allow takes one attempt from the address and one from all together, or nothing.
// Attempts are taken before the secret is looked at, so that parallel ones count
// too. The allowance of all together is looked at first: it bounds how many
// addresses can be made up, and how many hashes anybody can make us compute.
func (p *Provider) allow(email string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.left(everybody, burstAll)
	if all.left < 1 {
		return false
	}
	one := p.left("of "+email, burst)
	if one == nil || one.left < 1 {
		return false
	}
	all.left--
	one.left--
	return true
}

// left is the allowance of key, up to date; nil when there is no room for it. The
// caller holds mu.
func (p *Provider) left(key string, most float64) *allowance {
	now := p.cfg.Now()
	a := p.attempts[key]
	if a == nil {
		if len(p.attempts) >= maxAttempts {
			for key, a := range p.attempts {
				if key != everybody && now.Sub(a.at) > burst*refill {
					delete(p.attempts, key)
				}
			}
		}
		if len(p.attempts) >= maxAttempts && key != everybody {
			return nil
		}
		a = &allowance{left: most, at: now}
		p.attempts[key] = a
	}
	// A clock that was set back takes nothing away.
	a.left = min(most, a.left+float64(max(0, now.Sub(a.at)))/float64(refill)*most/burst)
	a.at = now
	return a
}
