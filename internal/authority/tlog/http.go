package tlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/hallmark-dev/hallmark/internal/authority/postings"
)

const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
	// maxRequest holds the base64 of an entry of maxEntry bytes and then some.
	maxRequest = 128 << 10
)

// Backend is what keeps a log whose entries come and go as a Rekor v2 log's do: a
// [Log], or one that has outgrown it.
type Backend interface {
	// KeyID is the logId of entries.
	KeyID() []byte
	// Write integrates a canonical entry, or finds it, and returns when a published
	// checkpoint covers it.
	Write(ctx context.Context, entry []byte) (Receipt, error)
	// Checkpoint is the published checkpoint, a signed note.
	Checkpoint() []byte
	// Tile is a tile of hashes, or one of entries with L = -1, of exactly the width
	// asked for; nil where the published checkpoint does not cover all of it.
	Tile(ctx context.Context, tile tlog.Tile) ([]byte, error)
	// Refuse answers a request that ended in an error, with WriteError.
	Refuse(w http.ResponseWriter, err error)
}

// NewHandler serves the Rekor v2 API and the tiles below /api/v2:
//
//	POST /api/v2/log/entries              add an entry, 201
//	GET  /api/v2/checkpoint               the signed checkpoint
//	GET  /api/v2/tile/<L>/<N>[.p/<W>]     hashes
//	GET  /api/v2/tile/entries/<N>[.p/<W>] entries
//
// Errors are objects {"code","message","details"} with gRPC codes, as Rekor's.
func NewHandler(b Backend) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v2/log/entries", func(w http.ResponseWriter, r *http.Request) { serveAdd(b, w, r) })
	return serveReads(mux, b, "/api/v2")
}

func serveReads(mux *http.ServeMux, b Backend, prefix string) http.Handler {
	mux.HandleFunc("GET "+prefix+"/checkpoint", func(w http.ResponseWriter, _ *http.Request) { serveCheckpoint(b, w) })
	mux.HandleFunc("GET "+prefix+"/tile/{path...}", func(w http.ResponseWriter, r *http.Request) { serveTile(b, w, r) })
	return mux
}

// Handler is [NewHandler] for this log.
func (l *Log) Handler() http.Handler { return l.unlessStopped(NewHandler(backend{l})) }

// ReadHandler serves only the checkpoint and the tiles, below prefix.
func (l *Log) ReadHandler(prefix string) http.Handler {
	return l.unlessStopped(serveReads(http.NewServeMux(), backend{l}, prefix))
}

func (l *Log) unlessStopped(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := l.failed(); err != nil {
			WriteError(w, http.StatusServiceUnavailable, CodeUnavailable, stoppedMessage)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// stoppedMessage tells clients; the cause, which names paths, is in our log.
const stoppedMessage = "the transparency log has stopped because it could not read or write its folder; restart it when the disk is well"

// The gRPC codes that we answer with (google.rpc.Code).
const (
	CodeCanceled        = 1
	CodeInvalidArgument = 3
	CodeNotFound        = 5
	CodeInternal        = 13
	CodeUnavailable     = 14
)

// WriteError answers with an error as Rekor v2 does; code is one of the above.
func WriteError(w http.ResponseWriter, status, code int, message string) {
	body, _ := json.Marshal(struct {
		Code    int      `json:"code"`
		Message string   `json:"message"`
		Details []string `json:"details"`
	}{code, message, []string{}})
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}

func serveAdd(b Backend, w http.ResponseWriter, r *http.Request) {
	if ct := r.Header.Get("Content-Type"); ct != "" {
		if mt, _, err := mime.ParseMediaType(ct); err != nil || mt != "application/json" {
			WriteError(w, http.StatusUnsupportedMediaType, CodeInvalidArgument, "the request must be application/json")
			return
		}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		WriteError(w, http.StatusRequestEntityTooLarge, CodeInvalidArgument, fmt.Sprintf("the request is larger than %d bytes", maxRequest))
		return
	} else if err != nil {
		WriteError(w, http.StatusBadRequest, CodeCanceled, "the request could not be read")
		return
	}
	entry, err := parseRequest(body)
	if err != nil {
		WriteError(w, http.StatusBadRequest, CodeInvalidArgument, "invalid hashedrekord request: "+err.Error())
		return
	}
	canonical := entry.canonical()
	if len(canonical) > maxEntry {
		WriteError(w, http.StatusBadRequest, CodeInvalidArgument, fmt.Sprintf("the entry has %d bytes, the limit is %d", len(canonical), maxEntry))
		return
	}
	receipt, err := b.Write(r.Context(), canonical)
	if err != nil {
		b.Refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusCreated)
	_, _ = w.Write(receipt.answer(b.KeyID(), canonical))
}

func serveCheckpoint(b Backend, w http.ResponseWriter) {
	// c2sp.org/tlog-tiles: text/plain, and it must not be served stale.
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	_, _ = w.Write(b.Checkpoint())
}

func serveTile(b Backend, w http.ResponseWriter, r *http.Request) {
	tile, err := parseTilePath(r.PathValue("path"))
	if err != nil {
		WriteError(w, http.StatusBadRequest, CodeInvalidArgument, err.Error())
		return
	}
	data, err := b.Tile(r.Context(), tile)
	if err != nil {
		b.Refuse(w, err)
		return
	}
	if data == nil {
		WriteError(w, http.StatusNotFound, CodeNotFound, "the log has no such tile yet")
		return
	}
	// A tile, partial ones included, never changes.
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	_, _ = w.Write(data)
}

// backend shows a Log as others show theirs.
type backend struct{ *Log }

var _ Backend = backend{}

func (b backend) Write(ctx context.Context, entry []byte) (Receipt, error) {
	index, t, err := b.append(ctx, entry)
	if err != nil {
		return Receipt{}, err
	}
	proof, err := t.inclusion(index)
	return Receipt{Index: index, Size: t.size(), Root: t.root, Proof: proof, Checkpoint: t.note}, err
}

func (b backend) Checkpoint() []byte { return b.published.Load().note }

func (b backend) Tile(_ context.Context, tile tlog.Tile) ([]byte, error) {
	t := b.published.Load()
	switch {
	case !t.has(tile):
		return nil, nil
	case tile.L >= 0:
		return t.tile(tile)
	}
	return t.bundle(b.store, tile)
}

func (b backend) Refuse(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		WriteError(w, http.StatusServiceUnavailable, CodeCanceled, "the request ended before the entry was integrated")
	case errors.Is(err, ErrClosed):
		WriteError(w, http.StatusServiceUnavailable, CodeUnavailable, "the transparency log is shutting down")
	case errors.Is(err, postings.ErrUnmade):
		WriteError(w, http.StatusServiceUnavailable, CodeUnavailable, err.Error())
	case errors.As(err, new(*SignerError)):
		w.Header().Set("Retry-After", SignerRetryAfter)
		WriteError(w, http.StatusServiceUnavailable, CodeUnavailable, SignerAway)
	case errors.As(err, new(*RoomError)):
		w.Header().Set("Retry-After", FullRetryAfter)
		WriteError(w, http.StatusServiceUnavailable, CodeUnavailable, DiskFull)
	case b.failed() != nil:
		WriteError(w, http.StatusServiceUnavailable, CodeUnavailable, stoppedMessage)
	default:
		b.cfg.Log.Error("transparency log", "error", err)
		WriteError(w, http.StatusInternalServerError, CodeInternal, "the transparency log could not read its own state")
	}
}

// parseTilePath reads "<L>/<N>[.p/<W>]" or "entries/<N>[.p/<W>]"
// (c2sp.org/tlog-tiles, Merkle tree). L is -1 for entries. Only the one
// spelling of each tile that the specification gives is accepted.
func parseTilePath(path string) (tlog.Tile, error) {
	// Six levels of three digits and a partial width are more than any tree.
	const maxPath = 48
	bad := errors.New("not a tile path")
	if len(path) > maxPath {
		return tlog.Tile{}, bad
	}
	// Package tlog's paths differ in naming the height and in calling entries data.
	rest, isEntries := strings.CutPrefix(path, "entries/")
	if isEntries {
		rest = "data/" + rest
	} else if strings.HasPrefix(rest, "data/") {
		return tlog.Tile{}, bad
	}
	tile, err := tlog.ParseTilePath("tile/" + strconv.Itoa(tileHeight) + "/" + rest)
	if err != nil || tile.L > 63 || tile.N < 0 {
		return tlog.Tile{}, bad
	}
	return tile, nil
}
