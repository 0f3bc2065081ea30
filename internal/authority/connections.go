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
// full the connection that has been idle for longest makes room: only those with
// a request under way, which stalls bounds in time, keep others waiting.
type crowd struct {
	net.Listener
	places chan struct{}
	close  sync.Once
	closed chan struct{}

	mu      sync.Mutex
	idle    map[net.Conn]time.Time // since when
	waiting bool                   // for a connection to become idle
}

func newCrowd(l net.Listener, places int) *crowd {
	return &crowd{Listener: l, places: make(chan struct{}, places), closed: make(chan struct{}), idle: map[net.Conn]time.Time{}}
}

// Accept waits until there is room, and then for a connection.
func (c *crowd) Accept() (net.Conn, error) {
	select {
	case c.places <- struct{}{}:
	default:
		c.makeRoom()
		select {
		case c.places <- struct{}{}:
		case <-c.closed:
			return nil, net.ErrClosed
		}
		c.mu.Lock()
		c.waiting = false
		c.mu.Unlock()
	}
	conn, err := c.Listener.Accept()
	if err != nil {
		<-c.places
		return nil, err
	}
	return &place{Conn: conn, leave: sync.OnceFunc(func() { <-c.places })}, nil
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
	if longest == nil {
		c.waiting = true
		return
	}
	delete(c.idle, longest)
	_ = longest.Close()
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
	default:
		delete(c.idle, conn)
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
