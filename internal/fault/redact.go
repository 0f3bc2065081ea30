package fault

import (
	"strings"

	"github.com/hallmark-dev/hallmark/internal/pattern"
)

// What of a URL may be a secret: who logs in (all up to the last @ before the path, as
// url.Parse has it), and the query, where tokens and signatures of links stand. A single
// quote may stand in both: a text that has a URL in single quotes loses the second one.
var (
	urlLogin = pattern.New(`([A-Za-z][A-Za-z0-9+.-]*://)[^/?#\s"<>]*@`)
	urlQuery = pattern.New(`([A-Za-z][A-Za-z0-9+.-]*://[^?#\s"<>]*)\?[^#\s"<>]+`)
	// git's USER:PASSWORD@HOST:PATH, which has no scheme.
	scpLogin   = pattern.New(`[^\s/@:"'<>(,=]+:[^\s/"<>]*@([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):`)
	digestName = pattern.New(`^(?i:sha)[0-9]+$`)
)

// Redact is a text without the logins and queries of the URLs in it. It needs no URL that
// parses: a Dockerfile's may hold variables, as https://${USER}:secret@host/?t=${T}.
func Redact(text string) string {
	text = urlLogin().ReplaceAllString(text, "${1}…@")
	text = urlQuery().ReplaceAllString(text, "${1}?…")
	return scpLogin().ReplaceAllStringFunc(text, func(found string) string {
		host := found[strings.LastIndexByte(found, '@')+1 : len(found)-1]
		if digestName().MatchString(host) { // NAME:TAG@sha256:…
			return found
		}
		return "…@" + host + ":"
	})
}
