package authority

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/authority/rekorv1"
)

// openLogsV1 opens the shards of the log for older clients, and makes the first in a
// folder that has none.
func (a *Authority) openLogsV1(st *state, keys holders) error {
	for _, h := range keys[ServiceLogV1] {
		tree, err := rekorv1.NewTreeID(h.id.key.Public())
		if err != nil {
			return err
		}
		if h.n == 1 && st.LogV1 == nil {
			st.LogV1 = &logV1State{TreeID: tree}
		}
		l, err := rekorv1.Open(filepath.Join(a.cfg.Dir, shardDir(ServiceLogV1, h.n)), rekorv1.Config{
			Host: st.Host, Key: h.id.key, TreeID: st.treeOf(h.n, tree), Now: a.cfg.Now, Log: a.cfg.Log,
		})
		if err != nil {
			return fmt.Errorf("log for older clients: %w", err)
		}
		a.logsV1 = append(a.logsV1, l)
	}
	return nil
}

// treeOf is the number of the nth tree of the log for older clients, whose key gives
// it one; that of the first is in the state.
func (st *state) treeOf(n int, ofKey int64) int64 {
	if n == 1 && st.LogV1 != nil {
		return st.LogV1.TreeID
	}
	return ofKey
}

// logV1Handlers is what answers for the log for older clients: at the base URL, and
// for each shard below a path of its own.
func (a *Authority) logV1Handlers(keys holders) (http.Handler, map[string]http.Handler) {
	all := shardsV1{current: turns{now: a.cfg.Now}, byTree: map[string]http.Handler{}}
	shards := map[string]http.Handler{}
	for i, h := range keys[ServiceLogV1] {
		l := a.logsV1[i]
		own := l.Handler()
		all.current.at = append(all.current.at, turn{h.Signs, own})
		all.byTree[l.Tree()] = own
		prefix := "/" + shardDir(ServiceLogV1, h.n)
		shards[prefix+"/"] = http.StripPrefix(prefix, readOnly(own, a.info.URL))
	}
	if len(all.current.at) == 1 {
		return all.current, shards
	}
	return all, shards
}

// shardsV1 are all trees of the log for older clients at one address. What is looked
// up by its content is looked up in all of them; an index, and what asks for the state
// of the log, is of the one that is written to.
type shardsV1 struct {
	current turns
	byTree  map[string]http.Handler // by the number that ids of entries begin with
}

func (s shardsV1) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const byID = "/api/v1/log/entries/"
	switch {
	case r.URL.Path == byID+"retrieve" || r.URL.Path == "/api/v1/index/retrieve":
		s.search(w, r)
	case strings.HasPrefix(r.URL.Path, byID) && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		s.entry(w, r, strings.ToLower(strings.TrimPrefix(r.URL.Path, byID)))
	default:
		s.current.ServeHTTP(w, r)
	}
}

// entry finds an entry by its id, which with 80 digits begins with its tree's number.
func (s shardsV1) entry(w http.ResponseWriter, r *http.Request, id string) {
	const tree, long = 16, 80
	if len(id) == long {
		h, ok := s.byTree[id[:tree]]
		if !ok {
			h = s.current
		}
		h.ServeHTTP(w, r)
		return
	}
	for i := len(s.current.at) - 1; ; i-- {
		var a answer
		s.current.at[i].ServeHTTP(&a, r)
		if a.status != http.StatusNotFound || i == 0 {
			a.write(w)
			return
		}
	}
}

// search asks all trees, the newest first, and joins the lists that they answer with.
func (s shardsV1) search(w http.ResponseWriter, r *http.Request) {
	start, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	whole := r.Body
	again := func() { r.Body = readCloser{io.MultiReader(bytes.NewReader(start), whole), whole} }
	// A whole envelope that is looked up again would be read once for each tree.
	if again(); err != nil || len(start) > maxBody || r.Method != http.MethodPost || bytes.Contains(start, []byte(`"logIndexes"`)) {
		s.current.ServeHTTP(w, r)
		return
	}
	var joined []json.RawMessage
	var last answer
	for i := len(s.current.at) - 1; i >= 0; i-- {
		again()
		last = answer{}
		s.current.at[i].ServeHTTP(&last, r)
		var list []json.RawMessage
		if last.status != http.StatusOK || json.Unmarshal(last.body.Bytes(), &list) != nil {
			last.write(w)
			return
		}
		joined = append(joined, list...)
	}
	last.body.Reset()
	last.body.WriteByte('[')
	for i, one := range joined {
		if i > 0 {
			last.body.WriteByte(',')
		}
		last.body.Write(one)
	}
	last.body.WriteString("]\n")
	last.write(w)
}

type readCloser struct {
	io.Reader
	io.Closer
}

// answer keeps an answer that may not be the one that is given.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header {
	if a.header == nil {
		a.header = http.Header{}
	}
	return a.header
}

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

func (a *answer) Write(data []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(data)
}

func (a *answer) write(w http.ResponseWriter) {
	for name, values := range a.header {
		w.Header()[name] = values
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body.Bytes())
}

// readOnly refuses to add entries to a shard of the log for older clients.
func readOnly(h http.Handler, base string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.URL.Path == "/api/v1/log/entries" {
			gone(w, http.StatusGone, "here one tree of the log is read; entries go to "+base)
			return
		}
		h.ServeHTTP(w, r)
	})
}
