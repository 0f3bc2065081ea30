package authority

import (
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
// full the connection makes room that has been idle for longest, or that has not
// said what it wants for longer than silence: only those with a request under way,
// which stalls bounds in time, keep others waiting.
type crowd struct {
	net.Listener
	places chan struct{}
	close  sync.Once
	closed chan struct{}

	mu      sync.Mutex
	idle    map[net.Conn]time.Time // since when
	silent  map[net.Conn]time.Time // since when they are here without a whole head
	waiting bool                   // for a connection to become idle
}

// silence is how long a new connection has for the head of its first request when
// others wait for its place. (When nobody does it has headerTimeout.)
const silence = time.Second

func newCrowd(l net.Listener, places int) *crowd {
	return &crowd{Listener: l, places: make(chan struct{}, places), closed: make(chan struct{}), idle: map[net.Conn]time.Time{}, silent: map[net.Conn]time.Time{}}
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
}

// state is the http.Server's ConnState: it tells which connections are idle.
func (c *crowd) state(conn net.Conn, state http.ConnState) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
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
