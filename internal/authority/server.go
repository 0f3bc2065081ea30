package authority

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"sync"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/oidc"
)

// Limits of the one HTTP server.
const (
	headerTimeout = 10 * time.Second // for a request's head
	stallTimeout  = 30 * time.Second // without a byte of a body, either way
	slowness      = time.Minute      // of waiting for a body that comes slower than slowestBody
	slowestBody   = 1 << 10          // bytes a second
	leastPiece    = 32 << 10         // bytes written at a time to a client of which nothing is known, or that is slow
	largestPiece  = 128 << 10        // to one that takes them within a second
	lag           = 5 * time.Second  // of waiting for such a client when others wait for its place
	idleTimeout   = 2 * time.Minute
	drainTimeout  = 3 * time.Second // for requests under way at the end
	maxHeader     = 64 << 10        // bytes
	maxBody       = 1 << 20         // bytes, of everything but the registry and the log for older clients, which have limits of their own
)

// calm is how many bytes the garbage collector takes for used beside what is. It begins
// when as much garbage has come together as there is in use: at 4 MB, that is after every
// eighty certificates, and takes a tenth of the processors. What is never touched takes no
// memory; only so much more garbage does.
const calm = 8 << 20

// newServer is an http.Server that a slow or greedy client cannot hold.
func newServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		// "OPTIONS *" goes through our handler too, with its deadlines.
		DisableGeneralOptionsHandler: true,
		IdleTimeout:                  idleTimeout,
		MaxHeaderBytes:               maxHeader,
		ErrorLog:                     slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// ownHost answers only requests that were meant for us. A web page can make a
// browser connect to this machine under a name of its own (DNS rebinding); the
// Host header then gives it away. A page under its own name that just sends is
// stopped by the browser's Sec-Fetch-Site and Origin headers.
func ownHost(base *url.URL, next http.Handler) http.Handler {
	crossOrigin := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !oidc.OwnHost(base, r.Host) {
			http.Error(w, "this is "+base.Host+"; the request is for another host", http.StatusMisdirectedRequest)
			return
		}
		if err := crossOrigin.Check(r); err != nil {
			http.Error(w, "requests from other web pages are refused", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// guarded is all that stands before a request is looked at. Deadlines come first:
// a request that is refused can have a body too.
func guarded(base *url.URL, next http.Handler) http.Handler { return stalls(ownHost(base, next)) }

// stalls ends requests whose client stops sending or receiving, or sends next to
// nothing. An upload of an hour is fine; half a minute without a byte is not, nor
// is a minute of waiting for less than a kilobyte a second. Receiving has the
// same bound: a slow client is written leastPiece at a time, which has half a minute
// to be taken, however large what a handler writes.
func stalls(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := &pace{control: http.NewResponseController(w)}
		p.reading = r.Body != nil && r.Body != http.NoBody
		p.move()
		if p.reading {
			r.Body = &pacedBody{r.Body, p}
		}
		works(r.Context(), p)
		next.ServeHTTP(&pacedWriter{w, p, leastPiece}, r)
		if p.reading { // the server reads on, to see whether the next request follows
			p.await()
		}
	})
}

// limited is a request's body that ends in an error after so many bytes; of one that
// is announced as longer nothing is read.
func limited(w http.ResponseWriter, r *http.Request, most int64) io.ReadCloser {
	if r.ContentLength > most {
		return struct {
			io.Reader
			io.Closer
		}{tooLarge{most}, r.Body}
	}
	return http.MaxBytesReader(w, r.Body, most)
}

// tooLarge is a body that is not read.
type tooLarge struct{ most int64 }

func (t tooLarge) Read([]byte) (int, error) { return 0, &http.MaxBytesError{Limit: t.most} }

// pace moves a connection's deadlines on, at most once a second.
type pace struct {
	control *http.ResponseController
	reading bool // the body has not ended
	last    time.Time

	mu     sync.Mutex
	waited time.Duration // for the body; our own slowness does not count
	bytes  int64         // of the body
	since  time.Time     // when the client began to be waited for, with a body or an answer; zero while it is not
}

// await notes that the client is waited for, and returns what ends it.
func (p *pace) await() (done func(body int)) {
	start := time.Now()
	p.mu.Lock()
	p.since = start
	p.mu.Unlock()
	return func(body int) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.since = time.Time{}
		if body >= 0 {
			p.waited += time.Since(start)
			p.bytes += int64(body)
		}
	}
}

// lags reports whether the client is waited for and comes slower than slowestBody,
// or not at all.
func (p *pace) lags(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.since.IsZero() {
		return false
	}
	wait := now.Sub(p.since)
	return wait > lag || p.waited+wait > lag && float64(p.bytes) < (p.waited+wait).Seconds()*slowestBody
}

func (p *pace) move() {
	now := time.Now()
	if now.Sub(p.last) < time.Second {
		return
	}
	p.last = now
	_ = p.control.SetWriteDeadline(now.Add(stallTimeout))
	if p.reading {
		p.mu.Lock()
		left := slowness + time.Duration(p.bytes/slowestBody)*time.Second - p.waited
		p.mu.Unlock()
		_ = p.control.SetReadDeadline(now.Add(min(stallTimeout, left)))
	}
}

// done lifts the deadline of reading, so that a long answer is not taken for a
// stalled client.
func (p *pace) done() {
	if p.reading {
		p.reading = false
		_ = p.control.SetReadDeadline(time.Time{})
	}
}

type pacedBody struct {
	io.ReadCloser
	pace *pace
}

func (b *pacedBody) Read(p []byte) (int, error) {
	b.pace.move()
	done := b.pace.await()
	n, err := b.ReadCloser.Read(p)
	done(n)
	switch {
	case err == io.EOF:
		b.pace.done()
	case err != nil:
		b.pace.reading = false // no more time for a client that stalled
	}
	return n, err
}

type pacedWriter struct {
	http.ResponseWriter
	pace *pace
	most int // bytes to write at a time
}

func (w *pacedWriter) WriteHeader(status int) {
	w.pace.move()
	w.ResponseWriter.WriteHeader(status)
}

func (w *pacedWriter) Write(p []byte) (n int, err error) {
	for {
		start := time.Now()
		w.pace.move()
		done := w.pace.await()
		m, err := w.ResponseWriter.Write(p[n:min(len(p), n+w.most)])
		done(-1)
		if n += m; err != nil || n >= len(p) {
			return n, err
		}
		if w.most = min(2*w.most, largestPiece); time.Since(start) > time.Second {
			w.most = leastPiece
		}
	}
}

// Unwrap lets http.ResponseController see the connection.
func (w *pacedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Serve answers requests until ctx ends, then lets those under way finish. It
// returns nil after a clean end.
func (a *Authority) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer runtime.KeepAlive(make([]byte, calm))
	var background sync.WaitGroup
	if !a.cfg.replica {
		background.Go(func() { a.tuf.Run(ctx) })
		background.Go(func() { a.registry.Run(ctx) })
	}
	served := make(chan error, 1)
	go func() { served <- a.server.Serve(a.listener) }()
	var err error
	select {
	case <-ctx.Done():
	case err = <-served:
	}
	drain, stop := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer stop()
	if serr := a.server.Shutdown(drain); errors.Is(serr, context.DeadlineExceeded) {
		_ = a.server.Close()
	}
	cancel()
	background.Wait()
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
