package authority

import (
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/authority/oidc"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/loopback"
)

// A tree of the log is known by its name, the origin of its checkpoints, which verifiers
// of Sigstore bundles demand to be the host of its URL. Trees that share the authority's
// own host are told apart by their keys alone, which witnesses (c2sp.org/tlog-witness)
// do not: they remember one tree of each name. So a rotation can give the new tree a
// host name of its own, at which the same authority answers.

// treeName is the name of the log's nth tree.
func (st *state) treeName(n int) string {
	if t := st.termOf(ServiceLog, n); t != nil && t.Host != "" {
		return t.Host
	}
	return st.Host
}

// treeNames are the names of all trees of the log.
func (st *state) treeNames() []string {
	names := make([]string, max(1, len(st.Keys[ServiceLog])))
	for i := range names {
		names[i] = st.treeName(i + 1)
	}
	return names
}

// unique says that no other tree has the nth one's name: a witness can remember it.
func unique(names []string, n int) bool {
	for i, name := range names {
		if i+1 != n && name == names[n-1] {
			return false
		}
	}
	return true
}

// checkName refuses what cannot be the name of the next tree.
func (st *state) checkName(name string) error {
	if !validHost(name) {
		return fault.Usagef("--name: %.100q is no host name in small letters, such as log-2.sigstore.example.com", name)
	}
	for n, have := range st.treeNames() {
		if name == have {
			return fault.Usagef("--name: tree %d of the log has the name %s: a witness could not tell them apart", n+1, name)
		}
	}
	u, err := url.Parse(st.URL)
	if err != nil {
		return err
	}
	if u.Scheme == "http" && loopback.Host(u.Host) != loopback.Host(name) {
		return fault.Hint(fault.Usagef("--name: %s is another machine than %s, and clients speak plain HTTP to this one alone", name, u.Hostname()), "give a log that others write to an address with https")
	}
	return nil
}

func validHost(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	for _, label := range strings.Split(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.ContainsFunc(label, func(c rune) bool { return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' }) {
			return false
		}
	}
	return true
}

// treeName is the name of the log's nth tree.
func (i Info) treeName(n int) string {
	if n <= len(i.names) {
		return i.names[n-1]
	}
	return i.Host
}

// withHost is a base URL with another host name.
func withHost(base, host string) string {
	u, err := url.Parse(base)
	if err != nil { // it was parsed before
		return base
	}
	port := u.Port()
	if u.Host = host; port != "" {
		u.Host = net.JoinHostPort(host, port)
	}
	return u.String()
}

// hosts lets through what is meant for a tree of the log that has a name of its own: under
// that name nothing but that tree answers.
func (i Info) hosts(handler, others http.Handler) http.Handler {
	for n := 2; n <= len(i.names); n++ {
		own, err := url.Parse(i.shardURL(n))
		if err != nil || i.names[n-1] == i.Host {
			continue
		}
		tree, rest := guarded(own, handler), others
		others = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, own.Path+"/") && oidc.OwnHost(own, r.Host) {
				tree.ServeHTTP(w, r)
				return
			}
			rest.ServeHTTP(w, r)
		})
	}
	return others
}
