// Package folder is what programs beside hallmark up must know of its data folder before
// they take a log from it: whether somebody is writing to it, and whether the log is still
// kept there.
package folder

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/hallmark-dev/hallmark/internal/durable"
)

// Names in a data folder.
const (
	StateFile = "authority.json" // sealed; its presence says that the folder is one
	LockFile  = "lock"           // held while the folder is in use
)

// InUseError is of a lock that another process holds.
type InUseError struct {
	Dir     string
	Process int // 0: it does not say
}

func (e *InUseError) Error() string {
	who := ""
	if e.Process != 0 {
		who = fmt.Sprintf(" (process %d)", e.Process)
	}
	return fmt.Sprintf("another hallmark up%s is running on %s", who, e.Dir)
}

// Lock takes a data folder for this process, or fails with an [InUseError]. Closing the
// file gives it back.
func Lock(dir string) (*os.File, error) {
	path := filepath.Join(dir, LockFile)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		who, _ := os.ReadFile(path)
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			process, _ := strconv.Atoi(strings.TrimSpace(string(who)))
			return nil, &InUseError{dir, process}
		}
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	// The process number is for people; nothing depends on it.
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return f, nil
}

// Of is the data folder that a log's folder lies in, "" for one that lies in none.
func Of(log string) string {
	dir := filepath.Dir(filepath.Clean(log))
	if st, err := os.Stat(filepath.Join(dir, StateFile)); err != nil || !st.Mode().IsRegular() {
		return ""
	}
	return dir
}

// LogMoved is the URL at which another program goes on with the log of a data folder,
// "" while the log is written to in the folder.
func LogMoved(dir string) (string, error) {
	path := filepath.Join(dir, StateFile)
	data, err := durable.ReadSealed(path)
	if err != nil {
		return "", err
	}
	return logMoved(path, data)
}

func logMoved(path string, data []byte) (string, error) {
	var st struct {
		Moved *struct {
			URL string `json:"url"`
		} `json:"moved"`
	}
	if err := json.Unmarshal(data, &st); err != nil {
		return "", &durable.CorruptError{Path: path, Why: "it is not the JSON that belongs here"}
	}
	if st.Moved == nil {
		return "", nil
	}
	if st.Moved.URL == "" {
		return "", &durable.CorruptError{Path: path, Why: "it says that the log was moved, and not where"}
	}
	return st.Moved.URL, nil
}
