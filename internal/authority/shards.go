package authority

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/monitor"
	"github.com/hallmark-dev/hallmark/internal/authority/tlog"
	"github.com/hallmark-dev/hallmark/internal/authority/witness"
	"github.com/hallmark-dev/hallmark/internal/fault"
)

// A log has a tree for each of its keys: a shard, in a folder of its own. A new key is
// a new shard with indexes from 0. The old one is closed when its key's term is over,
// and stays readable for ever.
//
// The log's first shard is at the base URL, the nth at /log-n: an address is of one
// tree, also for clients whose signing config is older. The log for older clients is
// at the base URL whichever shard is written to, as Rekor v1 has it; each shard
// can be read at /log-v1 and /log-v1-n, too.

// openLogs opens the shards of the log. Those that are closed need no private key.
func (a *Authority) openLogs(st *state, keys holders) error {
	cfg, all := a.cfg, keys[ServiceLog]
	if len(cfg.Witnesses) > 0 || cfg.WitnessQuorum != 0 {
		if st.Moved != nil {
			return fault.Hint(fault.Usagef("--witness: the log is written to at %s: no checkpoint is signed here", st.Moved.URL), "start it without --witness")
		}
		if names := st.treeNames(); !unique(names, len(names)) {
			return fault.Hint(fault.Usagef("--witness: %d trees of the log have the name %s, also the newest: no witness can tell them apart", len(slices.DeleteFunc(names, func(n string) bool { return n != st.treeName(len(all)) })), st.treeName(len(all))),
				"start it without --witness, or give the next tree a name of its own: hallmark authority rotate log --name HOST")
		}
		if err := a.openWitnesses(st); err != nil {
			return err
		}
		if !st.Witnessed {
			st.Witnessed = true
			if st.Version >= stateVersion { // else it is about to be saved
				if err := st.save(cfg.Dir); err != nil {
					return err
				}
			}
		}
	}
	for _, h := range all {
		name := st.treeName(h.n)
		if st.Moved.is(h.n) {
			a.logs = append(a.logs, nil)
			continue
		}
		signer, err := tlog.NewSigner(name, h.id.key)
		if err != nil {
			return fmt.Errorf("key of the log, %s: %w", h.where(ServiceLog, h.n), err)
		}
		l, err := tlog.Open(filepath.Join(cfg.Dir, shardDir(ServiceLog, h.n)), tlog.Config{Origin: name, Signer: signer, Now: cfg.Now, Log: cfg.Log, Witnesses: a.witnesses[name]})
		if err != nil {
			return fmt.Errorf("log: %w", err)
		}
		a.logs = append(a.logs, l)
	}
	return nil
}

// openWitnesses begins to ask witnesses about each tree whose name no other has. Of one
// that is closed its last checkpoint is cosigned again at each start.
func (a *Authority) openWitnesses(st *state) (err error) {
	a.witnesses = map[string]*witness.Group{}
	names := st.treeNames()
	for i, name := range names {
		if !unique(names, i+1) {
			continue
		}
		a.witnesses[name], err = witness.NewGroup(witness.GroupConfig{Targets: a.cfg.Witnesses, Quorum: a.cfg.WitnessQuorum, Now: a.cfg.Now, Log: a.cfg.Log})
		if err != nil {
			delete(a.witnesses, name)
			return fault.As(fault.Usage, err)
		}
	}
	return nil
}

// aboutWitnesses says how each tree's witnesses do, the newest first.
func (a *Authority) aboutWitnesses() string {
	var b strings.Builder
	for n := len(a.info.names); n > 0; n-- {
		name := a.info.names[n-1]
		if g := a.witnesses[name]; g != nil && len(a.witnesses) > 1 {
			for line := range strings.Lines(g.Describe()) {
				b.WriteString(name + ": " + line)
			}
		} else if g != nil {
			b.WriteString(g.Describe())
		}
	}
	return b.String()
}

// logPaths is what answers where, for all shards of the log.
func (a *Authority) logPaths(keys holders) map[string]http.Handler {
	out := map[string]http.Handler{}
	for i, h := range keys[ServiceLog] {
		c := closing{now: a.cfg.Now}
		if a.info.moved.is(h.n) {
			c.Handler = a.info.moved.handler(a.info.URL)
		} else {
			c.Handler = a.logs[i].Handler()
		}
		if h.Until != nil {
			c.until, c.next = *h.Until, a.info.shardURL(h.n+1)
		}
		if h.n == 1 {
			for _, path := range []string{"/api/v2/log/", "/api/v2/checkpoint", "/api/v2/tile/"} {
				out[path] = c
			}
			continue
		}
		prefix := "/" + shardDir(ServiceLog, h.n)
		out[prefix+"/"] = http.StripPrefix(prefix, c)
	}
	return out
}

// closing is a log's shard that takes entries until its key's term is over.
type closing struct {
	http.Handler
	now   func() time.Time
	until time.Time // zero: it takes entries
	next  string    // URL of the shard that follows
}

func (c closing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if c.until.IsZero() || r.Method == http.MethodGet || r.Method == http.MethodHead || !c.now().After(c.until) {
		c.Handler.ServeHTTP(w, r)
		return
	}
	const codeFailedPrecondition = 9 // google.rpc.Code
	gone(w, codeFailedPrecondition, fmt.Sprintf("this log is closed since %s, when its key was replaced; entries go to %s. Fetch the present signing config", c.until.Format(time.RFC3339), c.next))
}

// gone refuses what a shard does no more, in the form of both of Rekor's APIs.
func gone(w http.ResponseWriter, code int, message string) {
	body, _ := json.Marshal(struct { // strings and a number: cannot fail
		Code    int      `json:"code"`
		Message string   `json:"message"`
		Details []string `json:"details"`
	}{code, message, []string{}})
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusGone)
	_, _ = w.Write(append(body, '\n'))
}

// monitoredLogs are all shards for the status page.
func (a *Authority) monitoredLogs() []monitor.Log {
	var out []monitor.Log
	for i, l := range a.logs {
		if l == nil { // moved: how it does is said where it is
			continue
		}
		path := "/api/v2/checkpoint"
		if i > 0 {
			path = "/" + shardDir(ServiceLog, i+1) + path
		}
		out = append(out, monitor.Log{Origin: a.info.treeName(i + 1), Size: l.Size(), Stopped: l.Err(), Away: l.Away(), Full: l.Full(), Checkpoint: path})
	}
	for i, l := range a.logsV1 {
		path := "/api/v1/log"
		if i+1 < len(a.logsV1) {
			path = "/" + shardDir(ServiceLogV1, i+1) + path
		}
		out = append(out, monitor.Log{Origin: l.Origin(), Size: l.Size(), Stopped: l.Err(), Away: l.Away(), Full: l.Full(), Checkpoint: path})
	}
	return out
}
