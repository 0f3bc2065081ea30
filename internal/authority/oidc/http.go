package oidc

import (
	"encoding/json"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

const (
	maxBody  = 16 << 10 // bytes of a form
	maxValue = 2048     // bytes of one parameter
)

func writeJSON(w http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(data)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n'))
}

// oauthError answers as RFC 6749, 5.2 says. description never repeats what was sent.
func oauthError(w http.ResponseWriter, status int, code, description string) {
	writeJSON(w, status, map[string]string{"error": code, "error_description": description})
}

// form reads a posted form; ok is false when it has answered already. Repeated
// parameters are refused (RFC 6749, 3.1 and 3.2), and so are parameters in the URL.
func form(w http.ResponseWriter, r *http.Request) (values url.Values, ok bool) {
	refuse := func(status int, why string) (url.Values, bool) {
		oauthError(w, status, "invalid_request", why)
		return nil, false
	}
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/x-www-form-urlencoded" {
		return refuse(http.StatusUnsupportedMediaType, "want Content-Type application/x-www-form-urlencoded")
	}
	if r.URL.RawQuery != "" {
		return refuse(http.StatusBadRequest, "parameters belong in the body, not in the address")
	}
	if err := r.ParseForm(); err != nil {
		return refuse(http.StatusBadRequest, "the form cannot be read or is too large")
	}
	if why := wellFormed(r.PostForm); why != "" {
		return refuse(http.StatusBadRequest, why)
	}
	return r.PostForm, true
}

// wellFormed says what is wrong with parameters, "" when nothing is.
func wellFormed(values url.Values) string {
	for _, vs := range values {
		if len(vs) > 1 {
			return "a parameter occurs twice"
		}
		if len(vs[0]) > maxValue || strings.ContainsFunc(vs[0], func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return "a parameter is too long or has control characters"
		}
	}
	return ""
}
