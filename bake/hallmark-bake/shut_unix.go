//go:build unix

package main

import (
	"fmt"
	"os"
	"syscall"
)

// maxData is how much memory reading may take, in bytes; the program itself has some 50 MB.
const maxData = 512 << 20

// shut takes the environment and the files away: with a limit of no descriptors nothing
// can be opened, neither files nor sockets. What is open already (standard input and output, the
// runtime's own) stays. Memory is bounded, too: a short bake file can ask for any amount.
//
// This shuts what the languages of bake files can ask of their reader. It is no cage for
// somebody who runs code of their own in it: root could raise the limits again.
func shut() error {
	clearEnvironment()
	if err := syscall.Setrlimit(syscall.RLIMIT_DATA, &syscall.Rlimit{Cur: maxData, Max: maxData}); err != nil {
		return fmt.Errorf("bounding the memory: %w", err)
	}
	none := syscall.Rlimit{}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
		return fmt.Errorf("closing the door to files: %w", err)
	}
	if f, err := os.Open("/"); err == nil {
		f.Close()
		return fmt.Errorf("closing the door to files: a file can still be opened")
	}
	return nil
}
