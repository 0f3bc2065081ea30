package authority

import "os"

// Internals that the tests look at from outside.
var (
	NewServer  = newServer
	Stalls     = stalls
	LoadLogins = loadLogins
	OwnHost    = ownHost
)

// Check is check.
func (l *logins) Check(user, password string) bool { return l.check(user, password) }

// Lock is the file that locks the folder.
func (a *Authority) Lock() *os.File { return a.lock }
