package authority

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
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
		if len(all) > 1 {
			return fault.Hint(fault.Usagef("--witness: the log has had %d keys, and its trees have one name: no witness can tell them apart", len(all)),
				"start it without --witness")
		}
		var err error
		a.witnesses, err = witness.NewGroup(witness.GroupConfig{Targets: cfg.Witnesses, Quorum: cfg.WitnessQuorum, Now: cfg.Now, Log: cfg.Log})
		if err != nil {
			return fault.As(fault.Usage, err)
		}
	}
	for _, h := range all {
		signer, err := tlog.NewSigner(st.Host, h.id.key)
		if err != nil {
			return fmt.Errorf("key of the log, %s: %w", h.where(ServiceLog, h.n), err)
		}
		l, err := tlog.Open(filepath.Join(cfg.Dir, shardDir(ServiceLog, h.n)), tlog.Config{Origin: st.Host, Signer: signer, Now: cfg.Now, Log: cfg.Log, Witnesses: a.witnesses})
		if err != nil {
			return fmt.Errorf("log: %w", err)
		}
		a.logs = append(a.logs, l)
	}
	return nil
}

// logPaths is what answers where, for all shards of the log.
func (a *Authority) logPaths(keys holders) map[string]http.Handler {
	out := map[string]http.Handler{}
	for i, h := range keys[ServiceLog] {
		c := closing{Handler: a.logs[i].Handler(), now: a.cfg.Now}
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
		path := "/api/v2/checkpoint"
		if i > 0 {
			path = "/" + shardDir(ServiceLog, i+1) + path
		}
		out = append(out, monitor.Log{Origin: a.info.Host, Size: l.Size(), Stopped: l.Err(), Checkpoint: path})
	}
	for i, l := range a.logsV1 {
		path := "/api/v1/log"
		if i+1 < len(a.logsV1) {
			path = "/" + shardDir(ServiceLogV1, i+1) + path
		}
		out = append(out, monitor.Log{Origin: l.Origin(), Size: l.Size(), Stopped: l.Err(), Checkpoint: path})
	}
	return out
}
