package registry

import (
	"sync"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// seen remembers what clients were lately told is in a repository. They may go on
// to push what refers to it, so garbage collection leaves it alone; and a blob
// that is wanted in one repository may be mounted from another where it was seen.
type seen struct {
	now func() time.Time

	mu       sync.Mutex
	at       map[seenIn]time.Time
	where    map[evidence.Digest]string // the repository of a blob
	overflow time.Time                  // when something had to be forgotten
}

type seenIn struct {
	repo   string
	digest evidence.Digest
}

const maxSeen = 100_000

func newSeen(now func() time.Time) *seen {
	return &seen{now: now, at: map[seenIn]time.Time{}, where: map[evidence.Digest]string{}}
}

func (s *seen) note(repo string, d evidence.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.at) >= maxSeen {
		clear(s.at)
		s.overflow = s.now()
	}
	s.at[seenIn{repo, d}] = s.now()
}

// blob is note for a blob, which others may mount.
func (s *seen) blob(repo string, d evidence.Digest) {
	s.note(repo, d)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.where) >= maxSeen {
		clear(s.where)
	}
	s.where[d] = repo
}

// repositoryOf is a repository in which the blob was lately seen, "" when none is known.
func (s *seen) repositoryOf(d evidence.Digest) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.where[d]
}

// within reports whether d was seen in repo after t, or may have been.
func (s *seen) within(repo string, d evidence.Digest, t time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at[seenIn{repo, d}].After(t) || s.overflow.After(t)
}
