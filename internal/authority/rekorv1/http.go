package rekorv1

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"

	sumdb "golang.org/x/mod/sumdb/tlog"

	"github.com/hallmark-dev/hallmark/internal/authority/postings"
	"github.com/hallmark-dev/hallmark/internal/authority/tlog"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

const (
	// maxRequest holds an envelope that is to be logged; its hash is all that stays.
	maxRequest = 16 << 20
	// A request of more than smallRequest waits for one of maxLarge places and
	// must have come within largeTime: reading one takes about five times its size.
	smallRequest = 128 << 10
	maxLarge     = 2
	largeTime    = time.Minute

	maxRetrieve = 10     // entries of one request, as Rekor
	maxFound    = 10_000 // ids in the answer to a search
)

// Paths are what [Log.Handler] answers, as patterns for a ServeMux.
func Paths() []string {
	return []string{"/api/v1/log", "/api/v1/log/", "/api/v1/index/retrieve", "/api/v1/checkpoint", "/api/v1/tile/"}
}

// Handler serves the Rekor v1 API and, as C2SP tlog-tiles, what it stands on:
//
//	POST /api/v1/log/entries              add an entry: 201, or 409 with its Location
//	GET  /api/v1/log/entries?logIndex=N   an entry
//	GET  /api/v1/log/entries/{id}         an entry, by 64 or 80 hex digits
//	POST /api/v1/log/entries/retrieve     entries by id, index or content
//	GET  /api/v1/log                      size, root and checkpoint
//	GET  /api/v1/log/proof                consistency of two sizes
//	GET  /api/v1/log/publicKey            PEM
//	POST /api/v1/index/retrieve           ids by hash, name or key
//	GET  /api/v1/checkpoint, /api/v1/tile/…
//
// Errors are objects {"code","message"} with the HTTP status, as Rekor's. It
// bounds bodies itself.
func (l *Log) Handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, h func(*http.Request) (reply, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
			a, err := h(r)
			if err != nil {
				a = l.refuse(err)
			}
			a.write(w)
		})
	}
	handle("POST /api/v1/log/entries", l.add)
	handle("GET /api/v1/log/entries", l.byIndex)
	handle("GET /api/v1/log/entries/{id}", l.byID)
	handle("POST /api/v1/log/entries/retrieve", l.retrieve)
	handle("GET /api/v1/log", l.info)
	handle("GET /api/v1/log/proof", l.proof)
	handle("GET /api/v1/log/publicKey", l.publicKey)
	handle("POST /api/v1/index/retrieve", l.search)
	tiles := l.log.ReadHandler("/api/v1")
	mux.Handle("GET /api/v1/checkpoint", tiles)
	mux.Handle("GET /api/v1/tile/", tiles)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if l.log.Failed() != nil {
			l.refuse(refused(http.StatusServiceUnavailable, stoppedMessage)).write(w)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// stoppedMessage tells clients; the cause, which names paths, is in our log.
const stoppedMessage = "the transparency log has stopped because it could not read or write its folder; restart it when the disk is well"

// reply is an answer.
type reply struct {
	status      int
	contentType string // default application/json
	headers     map[string]string
	body        []byte
}

func answerJSON(status int, v any) (reply, error) {
	body, err := json.Marshal(v)
	return reply{status: status, body: append(body, '\n')}, err
}

func (a reply) write(w http.ResponseWriter) {
	if a.contentType == "" {
		a.contentType = "application/json"
	}
	w.Header().Set("Content-Type", a.contentType)
	w.Header().Set("Cache-Control", "no-store") // proofs are to the newest checkpoint
	for name, value := range a.headers {
		w.Header().Set(name, value)
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body)
}

// refusal is an error that the client is told.
type refusal struct {
	status  int
	message string
	headers map[string]string
}

func (e *refusal) Error() string { return e.message }

func refused(status int, format string, args ...any) error {
	return &refusal{status: status, message: fmt.Sprintf(format, args...)}
}

func (l *Log) refuse(err error) reply {
	var r *refusal
	switch {
	case errors.As(err, &r):
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		r = &refusal{status: http.StatusServiceUnavailable, message: "the request ended before the log could answer"}
	case errors.Is(err, tlog.ErrClosed):
		r = &refusal{status: http.StatusServiceUnavailable, message: "the transparency log is shutting down"}
	case errors.Is(err, postings.ErrUnmade):
		r = &refusal{status: http.StatusServiceUnavailable, message: postings.ErrUnmade.Error()}
	case errors.As(err, new(*tlog.SignerError)):
		l.slog.Error("rekor v1 log", "error", err)
		r = &refusal{status: http.StatusServiceUnavailable, message: tlog.SignerAway, headers: map[string]string{"Retry-After": tlog.SignerRetryAfter}}
	case errors.As(err, new(*tlog.RoomError)):
		r = &refusal{status: http.StatusServiceUnavailable, message: tlog.DiskFull, headers: map[string]string{"Retry-After": tlog.FullRetryAfter}}
	case l.log.Failed() != nil:
		r = &refusal{status: http.StatusServiceUnavailable, message: stoppedMessage}
	default:
		l.slog.Error("rekor v1 log", "error", err)
		r = &refusal{status: http.StatusInternalServerError, message: "the transparency log could not read its own state"}
	}
	a, _ := answerJSON(r.status, struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}{r.status, r.message})
	a.headers = r.headers
	return a
}

// read reads a JSON body. done is to be called when it is not needed any more.
func (l *Log) read(r *http.Request) (body []byte, done func(), err error) {
	if ct := r.Header.Get("Content-Type"); ct != "" {
		if mt, _, err := mime.ParseMediaType(ct); err != nil || mt != "application/json" {
			return nil, nil, refused(http.StatusUnsupportedMediaType, "the request must be application/json")
		}
	}
	if r.ContentLength > maxRequest { // nothing of it is read
		return nil, nil, refused(http.StatusRequestEntityTooLarge, "the request is larger than %d bytes", maxRequest)
	}
	done = func() {}
	body, err = io.ReadAll(io.LimitReader(r.Body, smallRequest))
	if err == nil && len(body) == smallRequest {
		select {
		case l.large <- struct{}{}:
		case <-r.Context().Done():
			return nil, nil, r.Context().Err()
		}
		done = func() { <-l.large }
		var rest []byte
		rest, err = io.ReadAll(&hurried{r.Body, time.Now().Add(largeTime)})
		body = append(body, rest...)
	}
	if err == nil {
		return body, done, nil
	}
	done()
	if errors.As(err, new(*http.MaxBytesError)) {
		return nil, nil, refused(http.StatusRequestEntityTooLarge, "the request is larger than %d bytes", maxRequest)
	}
	if r := (*refusal)(nil); errors.As(err, &r) {
		return nil, nil, err
	}
	return nil, nil, refused(http.StatusBadRequest, "the request could not be read")
}

// hurried ends a body that takes too long: its place is wanted by others.
type hurried struct {
	io.Reader
	until time.Time
}

func (h *hurried) Read(p []byte) (int, error) {
	if time.Now().After(h.until) {
		return 0, refused(http.StatusRequestTimeout, "the request did not come within %s", largeTime)
	}
	return h.Reader.Read(p)
}

// readEntry reads a proposed entry and returns its canonical body.
func (l *Log) readEntry(r *http.Request) ([]byte, error) {
	data, done, err := l.read(r)
	if err != nil {
		return nil, err
	}
	defer done()
	return proposed(data)
}

func proposed(data []byte) ([]byte, error) {
	body, err := canonicalize(data)
	if err != nil {
		return nil, refused(http.StatusBadRequest, "error processing entry: %v", err)
	}
	if len(body) > tlog.MaxEntry {
		return nil, refused(http.StatusBadRequest, "error processing entry: it has %d bytes; at most %d are logged", len(body), tlog.MaxEntry)
	}
	return body, nil
}

func (l *Log) add(r *http.Request) (reply, error) {
	body, err := l.readEntry(r)
	if err != nil {
		return reply{}, err
	}
	added, err := l.log.Append(r.Context(), body)
	if err != nil {
		return reply{}, err
	}
	l.index.note()
	id := l.id(sumdb.RecordHash(body))
	location := "/api/v1/log/entries/" + id
	if !added.New {
		return reply{}, &refusal{http.StatusConflict, "an equivalent entry already exists in the transparency log with UUID " + id,
			map[string]string{"Location": location}}
	}
	e, err := l.answer(added.View, added.Index, body)
	if err != nil {
		return reply{}, err
	}
	a, err := answerJSON(http.StatusCreated, e)
	// Without quotes, which RFC 9110 wants: Rekor's clients take it for the id.
	a.headers = map[string]string{"Location": location, "ETag": id}
	return a, err
}

func (l *Log) byIndex(r *http.Request) (reply, error) {
	index, ok := number(r.URL.Query().Get("logIndex"), 0)
	if !ok {
		return reply{}, refused(http.StatusBadRequest, "logIndex must be a number from 0")
	}
	view := l.log.View()
	if index >= view.Size() {
		return reply{}, refused(http.StatusNotFound, "the log has no entry %d; it has %d", index, view.Size())
	}
	e, err := l.stored(view, index)
	if err != nil {
		return reply{}, err
	}
	return answerJSON(http.StatusOK, e)
}

func (l *Log) byID(r *http.Request) (reply, error) {
	view := l.log.View()
	index, found, well, err := l.find(view, r.PathValue("id"))
	if err != nil {
		return reply{}, err
	}
	if !well {
		return reply{}, refused(http.StatusBadRequest, "an entry's UUID has 64 or 80 hexadecimal digits")
	}
	if !found {
		return reply{}, refused(http.StatusNotFound, "the log has no such entry")
	}
	e, err := l.stored(view, index)
	if err != nil {
		return reply{}, err
	}
	return answerJSON(http.StatusOK, e)
}

// retrieveWire is the body of POST /api/v1/log/entries/retrieve.
type retrieveWire struct {
	EntryUUIDs *[]string          `json:"entryUUIDs"`
	LogIndexes *[]int64           `json:"logIndexes"`
	Entries    *[]json.RawMessage `json:"entries"`
}

func (l *Log) retrieve(r *http.Request) (reply, error) {
	data, done, err := l.read(r)
	if err != nil {
		return reply{}, err
	}
	defer done()
	var w retrieveWire
	if err := strictjson.Unmarshal(data, &w); err != nil {
		return reply{}, refused(http.StatusBadRequest, "%v", err)
	}
	ids, indexes, entries := list(w.EntryUUIDs), list(w.LogIndexes), list(w.Entries)
	if n := len(ids) + len(indexes) + len(entries); n > maxRetrieve {
		return reply{}, refused(http.StatusUnprocessableEntity, "more than max allowed %d entries in request", maxRetrieve)
	}
	view := l.log.View()
	var found []int64
	for _, id := range ids {
		index, ok, well, err := l.find(view, id)
		if err != nil {
			return reply{}, err
		}
		if !well {
			return reply{}, refused(http.StatusBadRequest, "entryUUIDs: %.100q has not 64 or 80 hexadecimal digits", id)
		}
		if ok {
			found = append(found, index)
		}
	}
	for _, e := range entries {
		body, err := proposed(e)
		if err != nil {
			return reply{}, err
		}
		index, ok, err := view.Find(sumdb.RecordHash(body))
		if err != nil {
			return reply{}, err
		}
		if ok {
			found = append(found, index)
		}
	}
	for _, index := range indexes {
		if index < 0 {
			return reply{}, refused(http.StatusBadRequest, "logIndexes: %d is below 0", index)
		}
		if index < view.Size() {
			found = append(found, index)
		}
	}
	out := make([]logEntry, len(found)) // [], not null
	for i, index := range found {
		if out[i], err = l.stored(view, index); err != nil {
			return reply{}, err
		}
	}
	return answerJSON(http.StatusOK, out)
}

func list[T any](p *[]T) []T {
	if p == nil {
		return nil
	}
	return *p
}

func (l *Log) info(*http.Request) (reply, error) {
	view := l.log.View()
	return answerJSON(http.StatusOK, logInfo{
		InactiveShards: []struct{}{}, RootHash: fmt.Sprintf("%x", view.Root()), SignedTreeHead: string(view.Checkpoint()),
		TreeID: strconv.FormatInt(l.treeID, 10), TreeSize: view.Size(),
	})
}

// wantTree refuses the number of a tree that is not this one.
func (l *Log) wantTree(r *http.Request) error {
	if id := r.URL.Query().Get("treeID"); id != "" && id != strconv.FormatInt(l.treeID, 10) {
		return refused(http.StatusBadRequest, "this log has only the tree %d", l.treeID)
	}
	return nil
}

func (l *Log) publicKey(r *http.Request) (reply, error) {
	if err := l.wantTree(r); err != nil {
		return reply{}, err
	}
	return reply{status: http.StatusOK, contentType: "application/x-pem-file", body: l.public}, nil
}

func (l *Log) proof(r *http.Request) (reply, error) {
	if err := l.wantTree(r); err != nil {
		return reply{}, err
	}
	q := r.URL.Query()
	first, last := int64(1), int64(0)
	firstOK, lastOK := true, false
	if text := q.Get("firstSize"); text != "" {
		first, firstOK = number(text, 1)
	}
	last, lastOK = number(q.Get("lastSize"), 1)
	view := l.log.View()
	switch {
	case !firstOK || !lastOK:
		return reply{}, refused(http.StatusBadRequest, "firstSize and lastSize must be numbers from 1")
	case first > last:
		return reply{}, refused(http.StatusBadRequest, "firstSize(%d) must be less than lastSize(%d)", first, last)
	case last > view.Size():
		return reply{}, refused(http.StatusBadRequest, "the tree size requested(%d) was greater than what is currently observable(%d)", last, view.Size())
	}
	hashes, err := view.Consistency(first, last)
	if err != nil {
		return reply{}, err
	}
	return answerJSON(http.StatusOK, consistencyProof{Hashes: hexes(hashes), RootHash: fmt.Sprintf("%x", view.Root())})
}

func (l *Log) search(r *http.Request) (reply, error) {
	data, done, err := l.read(r)
	if err != nil {
		return reply{}, err
	}
	defer done()
	var q queryWire
	if err := strictjson.Unmarshal(data, &q); err != nil {
		return reply{}, refused(http.StatusBadRequest, "%v", err)
	}
	keys, and, err := q.keys()
	if err != nil {
		return reply{}, refused(http.StatusBadRequest, "%v", err)
	}
	view := l.log.View()
	found, err := l.index.search(r.Context(), view, keys, and, maxFound)
	if err != nil {
		return reply{}, err
	}
	ids := make([]string, len(found))
	for i, index := range found {
		leaf, err := view.Leaf(index)
		if err != nil {
			return reply{}, err
		}
		ids[i] = l.id(leaf)
	}
	return answerJSON(http.StatusOK, ids)
}
