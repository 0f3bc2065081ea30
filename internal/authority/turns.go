package authority

import (
	"net/http"
	"slices"
	"time"
)

// turns is a service at one address whose key changes: who answers is a matter of time.
type turns struct {
	now func() time.Time
	at  []turn // the earliest first
}

// turn answers from a time on.
type turn struct {
	from time.Time
	http.Handler
}

// current is whose turn it is; before the first turn that is the first.
func (t turns) current() http.Handler {
	now := t.now()
	for i := len(t.at) - 1; i > 0; i-- {
		if !now.Before(t.at[i].from) {
			return t.at[i]
		}
	}
	return t.at[0]
}

func (t turns) ServeHTTP(w http.ResponseWriter, r *http.Request) { t.current().ServeHTTP(w, r) }

func terms(all []held) []*term {
	out := make([]*term, len(all))
	for i, h := range all {
		out[i] = h.term
	}
	return out
}

// at is the term that signs at a time.
func at(all []held, now time.Time) held { return all[signing(terms(all), now)-1] }

// changes are the times at which one of the services gets another key, from now on;
// the first is now.
func changes(now time.Time, services ...[]held) []time.Time {
	out := []time.Time{now}
	for _, all := range services {
		for _, h := range all {
			if h.Signs.After(now) {
				out = append(out, h.Signs)
			}
		}
	}
	slices.SortFunc(out, time.Time.Compare)
	return slices.CompactFunc(out, time.Time.Equal)
}
