package authority

import (
	"context"
	"crypto"
	"net"
	"net/http"
	"os"
)

// Internals that the tests look at from outside.
var (
	NewServer  = newServer
	Stalls     = stalls
	LoadLogins = loadLogins
	OwnHost    = ownHost
	Guarded    = guarded
)

// Check is check.
func (l *logins) Check(user, password string) bool {
	return l.check(context.Background(), user, password)
}

// NewCrowd is newCrowd with its ConnState.
func NewCrowd(l net.Listener, places int) (net.Listener, func(net.Conn, http.ConnState)) {
	c := newCrowd(l, places)
	return c, c.state
}

// Lock is the file that locks the folder.
func (a *Authority) Lock() *os.File { return a.lock }

// RotateKilled is Rotate that ends at its nth write (from 0) as a kill would; it
// reports what would have been written, "" when there are fewer writes.
func RotateKilled(cfg RotateConfig, n int) (at string, err error) {
	cfg.wrote = func(what string) error {
		if n--; n < 0 {
			at = what
			return os.ErrDeadlineExceeded
		}
		return nil
	}
	_, err = Rotate(cfg)
	return at, err
}

// Reached is a key of the CT log elsewhere.
func Reached(ref KeyRef, open OpenKey) (crypto.Signer, error) {
	id, err := keyring{open: open}.byRef(ServiceCT, ref)
	return id.key, err
}

// Handler is everything that the server answers with, guards included.
func (a *Authority) Handler() http.Handler { return a.server.Handler }

// Sizes are the numbers of entries of the newest trees of both logs.
func (a *Authority) Sizes() [2]int64 {
	return [2]int64{a.logs[len(a.logs)-1].Size(), a.logsV1[len(a.logsV1)-1].Size()}
}

// SameBase is of addresses of a log.
var SameBase = sameBase
