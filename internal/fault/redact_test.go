package fault_test

import (
	"testing"

	"github.com/hallmark-dev/hallmark/internal/fault"
)

func TestRedact(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"http://bob:canary@h/a?t=canary#f":                    "http://…@h/a?…#f",
		"https://canary@h/a.git":                              "https://…@h/a.git",
		"https://bob:can@ary@h/a":                             "https://…@h/a",
		"https://${U}:canary@${H}/a?t=${canary}":              "https://…@${H}/a?…",
		"git://https://bob:canary@h/a.git?ref=canary":         "git://https://…@h/a.git?…",
		"no http://a:canary@h, nor ftp://b:canary@h/?canary":  "no http://…@h, nor ftp://…@h/?…",
		"http://h?canary":                                     "http://h?…",
		"http://h/a@b:c":                                      "http://h/a@b:c",
		"docker-image://docker.io/library/alpine:3@sha256:aa": "docker-image://docker.io/library/alpine:3@sha256:aa",
		"git@github.com:org/app.git":                          "git@github.com:org/app.git",
		"is this allowed? no":                                 "is this allowed? no",
		"https://bob:can'ary@h/a":                             "https://…@h/a",
		"https://'canary'@h/a?t=can'ary&u=canary#f":           "https://…@h/a?…#f",
		"fetch 'https://bob:canary@h/a': no":                  "fetch 'https://…@h/a': no",
		"bob:canary@h:org/a.git":                              "…@h:org/a.git",
		"source \"bob:can'ary@h.example:a\": no":              "source \"…@h.example:a\": no",
		"bob:can@ary@h:a":                                     "…@h:a",
		"bob:canary@[::1]:a":                                  "…@[::1]:a",
		"library/bob:canary@h:a":                              "library/…@h:a",
		"alpine:3@sha256:aa":                                  "alpine:3@sha256:aa",
		"127.0.0.1:8420/app:1.0@sha512:aa":                    "127.0.0.1:8420/app:1.0@sha512:aa",
		"key:a b@c:d":                                         "key:a b@c:d",
		"rita@example.com: not a signer":                      "rita@example.com: not a signer",
		"${BASE}:v1":                                          "${BASE}:v1",
		"":                                                    "",
	} {
		if got := fault.Redact(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
