package registry

import (
	"hash"
	"io"
	"sync"
)

// What a body passes through on its way to the disk: while one piece is received and
// written, the one before is hashed, on another processor if there is one. A large push
// takes as long as the slower of both, not as both together.

const (
	pieceSize = 256 << 10
	maxPieces = 4 // in memory for one body

	// maxExtra is how many pieces there are beside the one that each body has, for all of
	// them: many pushes at once wait for the processors, not in memory.
	maxExtra = 64
)

var extraPieces = make(chan struct{}, maxExtra)

var pieceBuffers = sync.Pool{New: func() any { b := make([]byte, pieceSize); return &b }}

// piece is what was written and is to be hashed.
type piece struct {
	buffer *[]byte
	n      int
}

// copyHashed copies src to dst and gives h, when it is not nil, exactly the bytes that dst
// took, n of them; it has them all when copyHashed returns, also with an error.
func copyHashed(dst io.Writer, h hash.Hash, src io.Reader) (n int64, err error) {
	p := pipe{h: h, free: make(chan *[]byte, maxPieces)}
	defer p.end()
	for {
		buffer := p.buffer()
		got, rerr := src.Read(*buffer)
		took, werr := 0, error(nil)
		if got > 0 {
			took, werr = dst.Write((*buffer)[:got])
		}
		n += int64(took)
		p.hash(piece{buffer, took}, n)
		switch {
		case werr != nil:
			return n, werr
		case rerr == io.EOF:
			return n, nil
		case rerr != nil:
			return n, rerr
		}
	}
}

// pipe gives a hash its pieces, beside other work as soon as there are several.
type pipe struct {
	h    hash.Hash
	free chan *[]byte // hashed, to be filled again
	made int          // buffers that are in use
	todo chan piece   // nil while hashing is done at once
	done sync.WaitGroup
}

// buffer is one that nobody reads; it waits for the hash when all are in use.
func (p *pipe) buffer() *[]byte {
	select {
	case b := <-p.free:
		return b
	default:
	}
	if p.made > 0 && (p.made == maxPieces || !another()) {
		return <-p.free
	}
	p.made++
	return pieceBuffers.Get().(*[]byte)
}

// another says that there may be one more of the extra pieces.
func another() bool {
	select {
	case extraPieces <- struct{}{}:
		return true
	default:
		return false
	}
}

// hash takes a piece; n bytes were written so far.
func (p *pipe) hash(what piece, n int64) {
	switch {
	case p.h == nil || what.n == 0:
		p.free <- what.buffer
	case p.todo == nil && n <= pieceSize: // a small body is not worth it
		p.h.Write((*what.buffer)[:what.n])
		p.free <- what.buffer
	default:
		if p.todo == nil {
			p.todo = make(chan piece, maxPieces)
			p.done.Go(func() {
				for next := range p.todo {
					p.h.Write((*next.buffer)[:next.n])
					p.free <- next.buffer
				}
			})
		}
		p.todo <- what
	}
}

// end waits for the hash, and gives the buffers back.
func (p *pipe) end() {
	if p.todo != nil {
		close(p.todo)
		p.done.Wait()
	}
	for ; p.made > 1; p.made-- {
		<-extraPieces
	}
	for {
		select {
		case b := <-p.free:
			pieceBuffers.Put(b)
		default: // one is elsewhere when reading or writing panicked
			return
		}
	}
}
