package week_test

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// serve starts a server and waits until it is ready.
func (w *week) serve(line string) {
	w.t.Helper()
	if err := w.start(w.server(line)); err != nil {
		w.t.Fatalf("%s\n%v", line, err)
	}
}

// server is one that is not started yet.
func (w *week) server(line string) *server {
	s := &server{line: line, ended: make(chan struct{}), cmd: exec.Command("bash", "-c", "exec "+w.here(line))}
	s.cmd.Dir, s.cmd.Env = w.dir, w.env()
	return s
}

// start may be called beside what the page does.
func (w *week) start(s *server) error {
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.out
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	go func() { _ = s.cmd.Wait(); close(s.ended) }()
	w.mu.Lock()
	w.servers = append(w.servers, s)
	w.mu.Unlock()
	w.t.Cleanup(func() { _ = s.cmd.Process.Kill(); <-s.ended })
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if strings.Contains(s.out.String(), " is ready: ") {
			return nil
		}
		select {
		case <-s.ended:
			return errors.New("it ended: " + s.out.String())
		default:
		}
	}
	return errors.New("it is not ready: " + s.out.String())
}

// running is the hallmark up that runs, nil when none does.
func (w *week) running() *server {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.servers {
		select {
		case <-s.ended:
		default:
			if strings.HasPrefix(s.line, "hallmark up ") {
				return s
			}
		}
	}
	return nil
}

// stop ends hallmark up by a signal, and returns its line.
func (w *week) stop(by os.Signal) string {
	w.t.Helper()
	s := w.running()
	if s == nil {
		w.t.Fatal("no hallmark up is running")
	}
	if err := s.cmd.Process.Signal(by); err != nil {
		w.t.Fatal(err)
	}
	select {
	case <-s.ended:
	case <-time.After(time.Minute):
		w.t.Fatal("hallmark up does not end")
	}
	if code := s.cmd.ProcessState.ExitCode(); by == syscall.SIGINT && code != 0 {
		w.t.Errorf("hallmark up ended with %d: %s", code, s.out.String())
	}
	return s.line
}
