package sandbox

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What a process may not do, the system refuses.
func TestConfined(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w := work(t)
	t.Setenv("HALLMARK_CANARY", "leaked")
	for _, c := range []struct{ do, text, says string }{
		{"connect", l.Addr().String(), "operation not permitted"},
		{"connect", "example.com:443", "lookup example.com"},
		{"run", "", "operation not permitted"},
		{"signal", "", "operation not permitted"},
		{"write", "", "operation not permitted"},
	} {
		if got, err := do(t, w, c.do, c.text); err != nil || !strings.Contains(got, c.says) {
			t.Errorf("%s: %q %v", c.do, got, err)
		}
	}
	if got, err := do(t, w, "environment", ""); err != nil || got != "" {
		t.Errorf("the environment is %q, %v", got, err)
	}
}

func init() {
	ofSystem["forbidden"] = func(file string) (any, error) { return strings.Join(forbidden(file), ", "), nil }
	ofSystem["threads"] = threads
	if len(os.Args) == 2 && strings.HasPrefix(os.Args[1], "leaving") {
		leave(os.Args[1] == "leaving-session")
	}
}

// leave is what a process may do before it binds itself: it dies and leaves a child that
// holds its pipes, in a session of its own or not.
func leave(session bool) {
	c := &Conn{os.Stdin, os.Stdout}
	child := exec.Command("/bin/sleep", "3600")
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: session}
	err := write(c.out, greeting)
	if err == nil {
		_, err = c.next()
	}
	if err == nil {
		err = child.Start()
	}
	if err == nil {
		err = c.Ask(child.Process.Pid, new(string))
	}
	if err != nil {
		os.Exit(3)
	}
	os.Exit(0)
}

// A call ends when it must, whoever holds the pipes of the process then. What the process
// left behind in its group is ended, too.
func TestPipesAreHeld(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"leaving", "leaving-session"} {
		w := New(name)
		defer w.Close()
		child := 0
		ctx, cancel := context.WithCancel(t.Context())
		learn := func(q json.RawMessage) (any, error) {
			cancel()
			return "", json.Unmarshal(q, &child)
		}
		late := time.AfterFunc(5*time.Minute, func() { panic("a call that was cancelled has not returned for minutes") })
		err := w.Call(ctx, asked{}, time.Hour, learn, new(string))
		late.Stop()
		if !errors.Is(err, context.Canceled) || child == 0 {
			t.Fatalf("%s: %v, child %d", name, err, child)
		}
		if name == "leaving-session" {
			_ = syscall.Kill(child, syscall.SIGKILL)
		}
		for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", child))
			if err != nil || strings.Contains(string(stat), ") Z ") {
				break
			}
			if time.Now().After(end) {
				_ = syscall.Kill(child, syscall.SIGKILL)
				t.Fatalf("%s: the child lives: %s", name, stat)
			}
		}
	}
}

// forbidden tries what a process may not do, and names what the system did not refuse.
func forbidden(file string) (done []string) {
	name, err := unix.BytePtrFromString(file)
	if err != nil {
		return []string{err.Error()}
	}
	text, caller := uintptr(unsafe.Pointer(name)), unix.Getppid()
	path := func(name string) uintptr {
		p, _ := unix.BytePtrFromString(name)
		return uintptr(unsafe.Pointer(p))
	}
	var block [64]byte
	memory := uintptr(unsafe.Pointer(&block))
	here := ^uintptr(99) // AT_FDCWD, -100
	for _, c := range []struct {
		what    string
		number  uintptr
		a, b, c uintptr
		answer  syscall.Errno
	}{
		{"open to read", unix.SYS_OPENAT, here, text, unix.O_RDONLY, 0},
		{"open a folder", unix.SYS_OPENAT, here, path("/"), unix.O_DIRECTORY, 0},
		{"open /proc/PPID/environ", unix.SYS_OPENAT, here, path(fmt.Sprintf("/proc/%d/environ", caller)), unix.O_RDONLY, 0},
		{"open /proc/PPID/mem", unix.SYS_OPENAT, here, path(fmt.Sprintf("/proc/%d/mem", caller)), unix.O_RDWR, 0},
		{"open /proc/self/mem", unix.SYS_OPENAT, here, path("/proc/self/mem"), unix.O_RDWR, 0},
		{"openat2", unix.SYS_OPENAT2, here, text, memory, 0},
		{"open by handle", unix.SYS_OPEN_BY_HANDLE_AT, here, memory, 0, 0},
		{"truncate", unix.SYS_TRUNCATE, text, 0, 0, 0},
		{"ftruncate", unix.SYS_FTRUNCATE, 0, 0, 0, 0},
		{"unlink", unix.SYS_UNLINKAT, here, text, 0, 0},
		{"rename", unix.SYS_RENAMEAT2, here, text, here, 0},
		{"link", unix.SYS_LINKAT, here, text, here, 0},
		{"symlink", unix.SYS_SYMLINKAT, text, here, text, 0},
		{"mkdir", unix.SYS_MKDIRAT, here, text, 0o700, 0},
		{"mknod", unix.SYS_MKNODAT, here, text, unix.S_IFIFO, 0},
		{"chmod", unix.SYS_FCHMODAT, here, text, 0, 0},
		{"chown", unix.SYS_FCHOWNAT, here, text, 0, 0},
		{"times", unix.SYS_UTIMENSAT, here, text, 0, 0},
		{"stat", unix.SYS_STATX, here, text, 0, 0},
		{"access", unix.SYS_FACCESSAT, here, text, 0, 0},
		{"readlink", unix.SYS_READLINKAT, here, path("/proc/self/exe"), memory, 0},
		{"attribute", unix.SYS_SETXATTR, text, text, memory, 0},
		{"chdir", unix.SYS_CHDIR, path("/"), 0, 0, 0},
		{"chroot", unix.SYS_CHROOT, path("/"), 0, 0, 0},
		{"memfd", unix.SYS_MEMFD_CREATE, text, 0, 0, 0},
		{"dup", unix.SYS_DUP, 0, 0, 0, 0},
		{"fcntl F_SETOWN", unix.SYS_FCNTL, 0, unix.F_SETOWN, uintptr(caller), 0},
		{"ioctl", unix.SYS_IOCTL, 0, unix.TCGETS, memory, 0},
		{"socket", unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM, 0, 0},
		{"netlink", unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW, 0, 0},
		{"socketpair", unix.SYS_SOCKETPAIR, unix.AF_UNIX, unix.SOCK_STREAM, 0, 0},
		{"io_uring", unix.SYS_IO_URING_SETUP, 1, memory, 0, 0},
		{"signal 0 to the caller", unix.SYS_KILL, uintptr(caller), 0, 0, 0},
		{"signal 0 to the caller's thread", unix.SYS_TGKILL, uintptr(caller), uintptr(caller), 0, 0},
		{"the same with a higher half", unix.SYS_TGKILL, uintptr(unix.Getpid())<<32 | uintptr(caller), uintptr(caller), 0, 0},
		{"signal 0 to a thread", unix.SYS_TKILL, uintptr(caller), 0, 0, 0},
		{"a queued signal", unix.SYS_RT_SIGQUEUEINFO, uintptr(caller), 0, memory, 0},
		{"pidfd", unix.SYS_PIDFD_OPEN, uintptr(caller), 0, 0, 0},
		{"pidfd's signal", unix.SYS_PIDFD_SEND_SIGNAL, 0, 0, 0, 0},
		{"pidfd's file", unix.SYS_PIDFD_GETFD, 0, 0, 0, 0},
		{"ptrace", unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(caller), 0, 0},
		{"read the caller's memory", unix.SYS_PROCESS_VM_READV, uintptr(caller), memory, 0, 0},
		{"write the caller's memory", unix.SYS_PROCESS_VM_WRITEV, uintptr(caller), memory, 0, 0},
		{"advise the caller's memory", unix.SYS_PROCESS_MADVISE, 0, memory, 0, 0},
		{"limits", unix.SYS_PRLIMIT64, uintptr(caller), unix.RLIMIT_CORE, 0, 0},
		{"priority", unix.SYS_SETPRIORITY, 0, uintptr(caller), 10, 0},
		{"prctl", unix.SYS_PRCTL, unix.PR_GET_DUMPABLE, 0, 0, 0},
		{"seccomp", unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, memory, 0},
		{"fork", unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0},
		{"clone3", unix.SYS_CLONE3, 0, 0, 0, unix.ENOSYS},
		{"execve", unix.SYS_EXECVE, path("/nothing"), 0, 0, 0},
		{"execveat", unix.SYS_EXECVEAT, here, path("/nothing"), 0, 0},
		{"setsid", unix.SYS_SETSID, 0, 0, 0, 0},
		{"setuid", unix.SYS_SETUID, uintptr(unix.Getuid()), 0, 0, 0},
		{"unshare", unix.SYS_UNSHARE, 0, 0, 0, 0},
		{"setns", unix.SYS_SETNS, 0, 0, 0, 0},
		{"mount", unix.SYS_MOUNT, text, text, 0, 0},
		{"umount", unix.SYS_UMOUNT2, text, 0, 0, 0},
		{"keys", unix.SYS_KEYCTL, 0, 0, 0, 0},
		{"bpf", unix.SYS_BPF, 0, memory, 0, 0},
		{"perf", unix.SYS_PERF_EVENT_OPEN, memory, 0, 0, 0},
		{"userfaultfd", unix.SYS_USERFAULTFD, 0, 0, 0, 0},
		{"shared memory", unix.SYS_SHMGET, 0, 4096, unix.IPC_CREAT, 0},
		{"message queue", unix.SYS_MSGGET, 0, unix.IPC_CREAT, 0, 0},
	} {
		r, _, errno := unix.RawSyscall(c.number, c.a, c.b, c.c)
		if c.what == "fork" && r == 0 && errno == 0 {
			_, _, _ = unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
		if c.answer == 0 {
			c.answer = unix.EPERM
		}
		if errno != c.answer {
			done = append(done, fmt.Sprintf("%s: %v", c.what, errno))
		}
	}
	runtime.KeepAlive(name)
	return done
}

// threads needs new threads of the system, timers, random numbers and a signal to itself.
func threads(string) (any, error) {
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			runtime.LockOSThread() // and so the thread ends with it
			time.Sleep(time.Millisecond)
			_, _ = rand.Read(make([]byte, 16))
			_ = bytes.Repeat([]byte("x"), 1<<20)
		})
	}
	group.Wait()
	runtime.GC()
	return "done", unix.Tgkill(unix.Getpid(), unix.Gettid(), 0)
}

// Whatever is tried beside, the system refuses, and the runtime has what it needs.
func TestForbidden(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := work(t)
	if got, err := do(t, w, "forbidden", file); err != nil || got != "" {
		t.Errorf("it may %s; %v", got, err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "secret" {
		t.Errorf("the file holds %q, %v", text, err)
	}
	var reply string
	if err := w.Call(t.Context(), asked{Do: "threads"}, time.Minute, nothing, &reply); err != nil || reply != "done" {
		t.Error(reply, err)
	}
}
