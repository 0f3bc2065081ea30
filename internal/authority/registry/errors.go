package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// apiError is an answer of spec.md, "Error Codes".
type apiError struct {
	status  int
	code    string
	message string
}

func (e *apiError) Error() string { return e.code + ": " + e.message }

// with is e with a message of its own.
func (e *apiError) with(format string, args ...any) *apiError {
	return &apiError{e.status, e.code, fmt.Sprintf(format, args...)}
}

// The answers, with the message that is used when there is nothing better to say.
// They are never modified.
var (
	errBlobUnknown     = &apiError{http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to this repository"}
	errUploadInvalid   = &apiError{http.StatusBadRequest, "BLOB_UPLOAD_INVALID", "blob upload invalid"}
	errUploadUnknown   = &apiError{http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "no such upload in this repository"}
	errDigest          = &apiError{http.StatusBadRequest, "DIGEST_INVALID", "the content does not match its digest"}
	errManifestMissing = &apiError{http.StatusNotFound, "MANIFEST_BLOB_UNKNOWN", "the manifest names content that this repository does not have"}
	errManifestInvalid = &apiError{http.StatusBadRequest, "MANIFEST_INVALID", "manifest invalid"}
	errManifestUnknown = &apiError{http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown to this repository"}
	errManifestTooBig  = &apiError{http.StatusRequestEntityTooLarge, "MANIFEST_INVALID", "the manifest is too large"}
	errName            = &apiError{http.StatusBadRequest, "NAME_INVALID", "invalid repository name"}
	errNameUnknown     = &apiError{http.StatusNotFound, "NAME_UNKNOWN", "repository unknown to this registry"}
	errTag             = &apiError{http.StatusBadRequest, "MANIFEST_INVALID", "invalid tag"}
	errSize            = &apiError{http.StatusBadRequest, "SIZE_INVALID", "the content does not have the size that was announced"}
	errBlobTooBig      = &apiError{http.StatusRequestEntityTooLarge, "SIZE_INVALID", "the blob is too large"}
	errRange           = &apiError{http.StatusRequestedRangeNotSatisfiable, "BLOB_UPLOAD_INVALID", "the chunk does not follow what was received"}
	errPage            = &apiError{http.StatusBadRequest, "PAGINATION_NUMBER_INVALID", "n must be a number from 0"}
	errDenied          = &apiError{http.StatusForbidden, "DENIED", "this is not yours to do in this repository"}
	errQuota           = &apiError{http.StatusForbidden, "DENIED", "the quota is used up"}
	errTokenRequest    = &apiError{http.StatusBadRequest, "INVALID_REQUEST", "the token request cannot be answered"}
	errUnauthorized    = &apiError{http.StatusUnauthorized, "UNAUTHORIZED", "log in to this registry"}
	errFull            = &apiError{http.StatusInsufficientStorage, "UNKNOWN", "the registry's disk is full"}
	errUnsupported     = &apiError{http.StatusMethodNotAllowed, "UNSUPPORTED", "the method is not supported here"}
	errNoEndpoint      = &apiError{http.StatusNotFound, "UNSUPPORTED", "no such endpoint"}
)

// damagedError is a file that does not hold what its name or seal says.
type damagedError struct{ path, why string }

func (e *damagedError) Error() string { return e.path + " is damaged: " + e.why }

// full reports that there is no room: on the disk, or for this user.
func full(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// fail answers with err. What is not an apiError is the registry's own trouble:
// the client learns that, the log learns what.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	var api *apiError
	if !errors.As(err, &api) {
		attrs := []any{"method", r.Method, "path", r.URL.Path, "err", err.Error()}
		api = &apiError{http.StatusInternalServerError, "UNKNOWN", "the registry could not do this; its log says why"}
		if full(err) {
			api = errFull
		}
		var damaged *damagedError
		if errors.As(err, &damaged) {
			api.message = "the stored content is damaged and is not served; the registry's log names the file"
			attrs = append(attrs, "file", damaged.path)
		}
		s.cfg.Log.ErrorContext(r.Context(), "registry request failed", attrs...)
	}
	body, jerr := json.Marshal(map[string]any{"errors": []map[string]string{{"code": api.code, "message": api.message}}})
	if jerr != nil {
		body = []byte(`{"errors":[{"code":"UNKNOWN"}]}`)
	}
	h := w.Header()
	for _, k := range []string{"Etag", "Docker-Content-Digest", "Link", "Cache-Control"} {
		h.Del(k)
	}
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(api.status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}

// allow answers 405 with an Allow header unless the method is one of methods.
func allow(w http.ResponseWriter, r *http.Request, methods ...string) error {
	if slices.Contains(methods, r.Method) {
		return nil
	}
	w.Header().Set("Allow", strings.Join(methods, ", "))
	return errUnsupported
}

// writeJSON answers 200 with a body.
func writeJSON(w http.ResponseWriter, r *http.Request, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}
