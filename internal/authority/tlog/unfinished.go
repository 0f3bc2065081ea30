package tlog

import (
	"errors"
	"fmt"
	"time"
)

// SignerError is a signer that failed, such as one that is away. The log goes on when it
// is back; nothing is lost or doubled by asking again.
type SignerError struct{ Err error }

func (e *SignerError) Error() string { return fmt.Sprintf("the log's key does not sign: %v", e.Err) }
func (e *SignerError) Unwrap() error { return e.Err }

// What a client is told then; why, which may name places, is in our log.
const (
	SignerAway       = "the transparency log's key does not sign now; the same request can be made again"
	SignerRetryAfter = "2" // seconds
)

// signing tells a signer's errors from those of the disk.
type signing struct{ Signer }

func (s signing) Sign(msg []byte) ([]byte, error) {
	sig, err := s.Signer.Sign(msg)
	if err != nil {
		return nil, &SignerError{err}
	}
	return sig, nil
}

// askAgain is how long a signer that failed is left alone, and a full disk.
const askAgain = time.Second

// unfinished is a tree whose entries are on disk and whose checkpoint is not, because its
// key did not sign or the disk had no room; there is none when tree is nil.
type unfinished struct {
	tree  *tree
	why   error // of the last try: a *SignerError or a *RoomError
	timer *time.Timer
	wait  time.Duration // between tries
}

// again fires when it may be tried again, or when a full disk may be looked at again.
func (u *unfinished) again() <-chan time.Time {
	if u.timer == nil {
		return nil
	}
	return u.timer.C
}

func (u *unfinished) set(t *tree, why error) {
	if u.timer != nil {
		u.timer.Stop()
		u.timer = nil
	}
	if u.tree, u.why = t, why; why != nil {
		u.timer = time.NewTimer(u.wait)
	}
}

// finishFirst publishes the tree that is unfinished, if there is one. It does not ask a
// signer each time: that would make clients wait for what does not answer.
func (l *Log) finishFirst() error {
	if l.unfinished.tree == nil {
		return nil
	}
	if errors.As(l.unfinished.why, new(*RoomError)) {
		return l.finish()
	}
	select {
	case <-l.unfinished.again():
		return l.finish()
	default:
		return l.unfinished.why
	}
}

// finish tries to publish the tree that is unfinished again.
func (l *Log) finish() error {
	if err := l.failed(); err != nil {
		l.unfinished.set(nil, nil)
		return err
	}
	_, err := l.publish(l.unfinished.tree)
	return err
}

// lookAgain tries again what failed before, when nobody waits for it any more.
func (l *Log) lookAgain() {
	if l.failed() != nil {
		l.unfinished.set(nil, nil)
		return
	}
	if l.unfinished.tree != nil {
		if err := l.finish(); err != nil && !passes(err) {
			_ = l.fail(err)
		}
		return
	}
	err := l.disk.probe()
	if err == nil {
		err = l.derived.index.Room() // without it no entry is taken, either
	}
	if err != nil { // what failed does not matter: nothing is believed of it
		l.unfinished.set(nil, err)
		return
	}
	l.unfinished.set(nil, nil)
	l.setFull(nil)
}

// passes says that an error is one after which the log goes on.
func passes(err error) bool {
	return errors.As(err, new(*SignerError)) || errors.As(err, new(*RoomError))
}

// Away is why the log's key does not sign, nil while it does.
func (l *Log) Away() error {
	if p := l.away.Load(); p != nil {
		return *p
	}
	return nil
}

func (l *Log) setAway(err error) {
	was := l.away.Load() != nil
	switch {
	case err == nil && was:
		l.away.Store(nil)
		l.cfg.Log.Info("the transparency log's key signs again")
	case err != nil:
		l.away.Store(&err)
		if !was {
			l.cfg.Log.Error("the transparency log takes no entries until its key signs again", "error", err)
		}
	}
}
