package authority

import (
	"context"
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

// Handler is everything that the server answers with, guards included.
func (a *Authority) Handler() http.Handler { return a.server.Handler }

// Sizes are the numbers of entries of both logs.
func (a *Authority) Sizes() [2]int64 { return [2]int64{a.log.Size(), a.logV1.Size()} }
