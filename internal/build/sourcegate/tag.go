package sourcegate

import (
	"path"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
)

// A Dockerfile frontend asks twice about FROM NAME:TAG: by the tag, and then, with what
// it was told, by NAME:TAG@DIGEST. The second is the same image under the name that its
// author gave it, and is judged as the first: by its tag, with that digest. Only what
// the daemon itself found under the tag in this build is taken for it; of a digest that
// somebody wrote beside a tag nobody looked the tag up.

// tag reports whether the source is an image that is named by its tag alone.
func (k *source) tag() bool {
	return k.src.IsImage() && !strings.Contains(k.src.Identifier, "@") && strings.Contains(path.Base(k.src.Identifier), ":")
}

// answered reports whether there is an answer, maybe that it cannot be had.
func (k *source) answered(f sourcepolicy.Fact) bool {
	_, ok := k.known(sourcepolicy.Ask{Fact: f})
	return ok
}

// learnTag notes what the daemon found under a tag.
func (s *Session) learnTag(k *source) {
	if !k.tag() {
		return
	}
	if d := k.digest(); d != "" {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.tagged[k.src.Identifier+"@"+string(d)] = true
	}
}

// named is the source as it is judged, and the digest that it is known to have when it
// is judged by its tag.
func (s *Session) named(k *source) (sourcepolicy.Source, evidence.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.tagged[k.src.Identifier] {
		return k.src, ""
	}
	judged, d := k.src, k.digest()
	judged.Identifier, _, _ = strings.Cut(k.src.Identifier, "@")
	return judged, d
}
