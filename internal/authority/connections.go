package authority

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// maxConnections is how many connections are served at a time; more wait in the
// kernel's queue.
const maxConnections = 1024

// connectionLimit leaves three of four open files for what requests open: each
// connection takes one, and its request a few for a moment.
func connectionLimit() int {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil || files.Cur/4 > maxConnections {
		return maxConnections
	}
	return max(int(files.Cur/4), 8)
}

// crowd is a listener with room for so many connections at a time. When it is
// full the connection makes room that has been idle for longest; without one, all
// that have not said what they want for longer than silence, and whose clients lag
// behind with sending a body or taking an answer: only those whose requests go on
// keep others waiting, and stalls bounds them in time.
type crowd struct {
	net.Listener
	places chan struct{}
	close  sync.Once
	closed chan struct{}

	mu      sync.Mutex
	idle    map[net.Conn]time.Time // since when
	silent  map[net.Conn]time.Time // since when they are here without a whole head
	busy    map[net.Conn]*pace     // with a request under way
	waiting bool                   // for a connection to become idle
}

// silence is how long a new connection has for the head of its first request when
// others wait for its place. (When nobody does it has headerTimeout.)
const silence = time.Second

func newCrowd(l net.Listener, places int) *crowd {
	return &crowd{Listener: l, places: make(chan struct{}, places), closed: make(chan struct{}), idle: map[net.Conn]time.Time{}, silent: map[net.Conn]time.Time{}, busy: map[net.Conn]*pace{}}
}

// Accept waits until there is room, and then for a connection.
func (c *crowd) Accept() (net.Conn, error) {
	select {
	case c.places <- struct{}{}:
	default:
		if err := c.wait(); err != nil {
			return nil, err
		}
	}
	conn, err := c.Listener.Accept()
	if err != nil {
		<-c.places
		return nil, err
	}
	return &place{Conn: conn, leave: sync.OnceFunc(func() { <-c.places })}, nil
}

// wait takes a place as soon as one is free, and makes one free when it can.
func (c *crowd) wait() error {
	for again := time.NewTicker(silence); ; {
		c.makeRoom()
		select {
		case c.places <- struct{}{}:
			again.Stop()
			c.mu.Lock()
			c.waiting = false
			c.mu.Unlock()
			return nil
		case <-c.closed:
			again.Stop()
			return net.ErrClosed
		case <-again.C:
		}
	}
}

// Close also ends an Accept that waits for room.
func (c *crowd) Close() error {
	c.close.Do(func() { close(c.closed) })
	return c.Listener.Close()
}

func (c *crowd) makeRoom() {
	c.mu.Lock()
	defer c.mu.Unlock()
	var longest net.Conn
	for conn, since := range c.idle {
		if longest == nil || since.Before(c.idle[longest]) {
			longest = conn
		}
	}
	if longest != nil {
		delete(c.idle, longest)
		_ = longest.Close()
		return
	}
	c.waiting = true
	now := time.Now()
	for conn, since := range c.silent { // all at once: whoever comes next finds room, too
		if now.Sub(since) > silence {
			delete(c.silent, conn)
			_ = conn.Close()
		}
	}
	for conn, p := range c.busy {
		if p.lags(now) {
			delete(c.busy, conn)
			_ = conn.Close()
		}
	}
}

// crowdKey is where a request's context has its connection.
type crowdKey struct{}

// member is a connection in its crowd.
type member struct {
	crowd *crowd
	conn  net.Conn
}

// context is the http.Server's ConnContext.
func (c *crowd) context(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, crowdKey{}, member{c, bare(conn)})
}

// bare is the connection as it was accepted.
func bare(conn net.Conn) net.Conn {
	if t, ok := conn.(*tls.Conn); ok {
		return t.NetConn()
	}
	return conn
}

// works notes that the last request of a connection has this pace.
func works(ctx context.Context, p *pace) {
	m, ok := ctx.Value(crowdKey{}).(member)
	if !ok {
		return
	}
	m.crowd.mu.Lock()
	defer m.crowd.mu.Unlock()
	m.crowd.busy[m.conn] = p
}

// state is the http.Server's ConnState: it tells which connections are idle.
func (c *crowd) state(conn net.Conn, state http.ConnState) {
	conn = bare(conn)
	c.mu.Lock()
	defer c.mu.Unlock()
	if state != http.StateActive { // no request is under way, also none that ended with its body on the way
		delete(c.busy, conn)
	}
	switch {
	case state == http.StateIdle && c.waiting:
		c.waiting = false
		_ = conn.Close()
	case state == http.StateIdle:
		c.idle[conn] = time.Now()
	case state == http.StateNew:
		c.silent[conn] = time.Now()
	default:
		delete(c.idle, conn)
		delete(c.silent, conn)
	}
}

// place is a connection that was let in.
type place struct {
	net.Conn
	leave func()
}

// Close gives the place to the next connection.
func (p *place) Close() error {
	defer p.leave()
	return p.Conn.Close()
}

// CloseWrite lets the http.Server end an answer to a client that is still sending,
// so that it is read.
func (p *place) CloseWrite() error {
	if half, ok := p.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
