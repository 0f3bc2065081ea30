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

// Handler serves the Rekor v2 API and the tiles below /api/v2:
//
//	POST /api/v2/log/entries              add an entry, 201
//	GET  /api/v2/checkpoint               the signed checkpoint
//	GET  /api/v2/tile/<L>/<N>[.p/<W>]     hashes
//	GET  /api/v2/tile/entries/<N>[.p/<W>] entries
//
// Errors are objects {"code","message","details"} with gRPC codes, as Rekor's.
func (l *Log) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v2/log/entries", l.serveAdd)
	return l.serve(mux, "/api/v2")
}

// ReadHandler serves only the checkpoint and the tiles, below prefix.
func (l *Log) ReadHandler(prefix string) http.Handler { return l.serve(http.NewServeMux(), prefix) }

func (l *Log) serve(mux *http.ServeMux, prefix string) http.Handler {
	mux.HandleFunc("GET "+prefix+"/checkpoint", l.serveCheckpoint)
	mux.HandleFunc("GET "+prefix+"/tile/{path...}", l.serveTile)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := l.failed(); err != nil {
			writeError(w, http.StatusServiceUnavailable, codeUnavailable, stoppedMessage)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// stoppedMessage tells clients; the cause, which names paths, is in our log.
const stoppedMessage = "the transparency log has stopped because it could not read or write its folder; restart it when the disk is well"

// The gRPC codes that we answer with (google.rpc.Code).
const (
	codeCanceled        = 1
	codeInvalidArgument = 3
	codeNotFound        = 5
	codeInternal        = 13
	codeUnavailable     = 14
)

func writeError(w http.ResponseWriter, status, code int, message string) {
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

func (l *Log) serveAdd(w http.ResponseWriter, r *http.Request) {
	if ct := r.Header.Get("Content-Type"); ct != "" {
		if mt, _, err := mime.ParseMediaType(ct); err != nil || mt != "application/json" {
			writeError(w, http.StatusUnsupportedMediaType, codeInvalidArgument, "the request must be application/json")
			return
		}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		writeError(w, http.StatusRequestEntityTooLarge, codeInvalidArgument, fmt.Sprintf("the request is larger than %d bytes", maxRequest))
		return
	} else if err != nil {
		writeError(w, http.StatusBadRequest, codeCanceled, "the request could not be read")
		return
	}
	entry, err := parseRequest(body)
	if err != nil {
		writeError(w, http.StatusBadRequest, codeInvalidArgument, "invalid hashedrekord request: "+err.Error())
		return
	}
	canonical := entry.canonical()
	if len(canonical) > maxEntry {
		writeError(w, http.StatusBadRequest, codeInvalidArgument, fmt.Sprintf("the entry has %d bytes, the limit is %d", len(canonical), maxEntry))
		return
	}
	index, t, err := l.append(r.Context(), canonical)
	if err != nil {
		l.refuse(w, err)
		return
	}
	answer, err := l.answerBody(index, t, canonical)
	if err != nil {
		l.refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusCreated)
	_, _ = w.Write(answer)
}

func (l *Log) refuse(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		writeError(w, http.StatusServiceUnavailable, codeCanceled, "the request ended before the entry was integrated")
	case errors.Is(err, ErrClosed):
		writeError(w, http.StatusServiceUnavailable, codeUnavailable, "the transparency log is shutting down")
	case errors.Is(err, postings.ErrUnmade):
		writeError(w, http.StatusServiceUnavailable, codeUnavailable, err.Error())
	case l.failed() != nil:
		writeError(w, http.StatusServiceUnavailable, codeUnavailable, stoppedMessage)
	default:
		l.cfg.Log.Error("transparency log", "error", err)
		writeError(w, http.StatusInternalServerError, codeInternal, "the transparency log could not read its own state")
	}
}

func (l *Log) serveCheckpoint(w http.ResponseWriter, _ *http.Request) {
	// c2sp.org/tlog-tiles: text/plain, and it must not be served stale.
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	_, _ = w.Write(l.published.Load().note)
}

func (l *Log) serveTile(w http.ResponseWriter, r *http.Request) {
	tile, err := parseTilePath(r.PathValue("path"))
	if err != nil {
		writeError(w, http.StatusBadRequest, codeInvalidArgument, err.Error())
		return
	}
	t := l.published.Load()
	if !t.has(tile) {
		writeError(w, http.StatusNotFound, codeNotFound, "the log has no such tile yet")
		return
	}
	var data []byte
	if tile.L >= 0 {
		data, err = t.tile(tile)
	} else {
		data, err = t.bundle(l.store, tile)
	}
	if err != nil {
		l.refuse(w, err)
		return
	}
	// A tile, partial ones included, never changes.
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	_, _ = w.Write(data)
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
