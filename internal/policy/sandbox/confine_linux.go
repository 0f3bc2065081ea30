package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// confine takes memory, network, files, and other programs from this process. RLIMIT_DATA is set
// here and not by the caller: RLIMIT_AS would kill the runtime at its start, which reserves
// more addresses than it uses.
func confine() error {
	frugal(Memory * 5 / 8)
	data := uint64(Memory) << raceFactor
	for _, l := range []struct {
		name     string
		resource int
		value    uint64
	}{
		{"RLIMIT_DATA", unix.RLIMIT_DATA, data},
		{"RLIMIT_CORE", unix.RLIMIT_CORE, 0},
		{"RLIMIT_FSIZE", unix.RLIMIT_FSIZE, 0},
	} {
		if err := unix.Setrlimit(l.resource, &unix.Rlimit{Cur: l.value, Max: l.value}); err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
	}
	// Out of memory, this process goes first, and not its caller. It is a wish.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0)
	return filterCalls()
}

// alone gives the process a group of its own, for [killGroup].
func alone(cmd *exec.Cmd) { cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true} }

// killGroup ends what a process has started, too.
func killGroup(pid int) { _ = unix.Kill(-pid, unix.SIGKILL) }

// allowed are the system calls that are left: what Go's runtime needs for memory, threads and
// time, and reading and writing what is open already. No file is opened, by whatever name:
// /proc has the caller's memory. Without fcntl and ioctl nothing that is open signals others.
func allowed() []uint32 {
	return []uint32{
		unix.SYS_READ, unix.SYS_WRITE, unix.SYS_PREAD64, unix.SYS_CLOSE,
		unix.SYS_MMAP, unix.SYS_MUNMAP, unix.SYS_MREMAP, unix.SYS_MPROTECT, unix.SYS_MADVISE, unix.SYS_MINCORE, unix.SYS_BRK,
		unix.SYS_FUTEX, unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY, unix.SYS_GETTID, unix.SYS_GETPID, unix.SYS_GETPPID,
		unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ, // of threads that are the C library's, with the race detector
		unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_CLOCK_GETTIME, unix.SYS_RESTART_SYSCALL, unix.SYS_GETRANDOM,
		unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK,
		unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EVENTFD2,
		unix.SYS_EXIT, unix.SYS_EXIT_GROUP,
	}
}

// filterCalls installs a filter of system calls (seccomp) for all threads, those to come, too.
func filterCalls() error {
	var arch uint32
	switch runtime.GOARCH {
	case "amd64":
		arch = unix.AUDIT_ARCH_X86_64
	case "arm64":
		arch = unix.AUDIT_ARCH_AARCH64
	default:
		return fmt.Errorf("system calls of %s are not known", runtime.GOARCH)
	}
	const (
		load    = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal   = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		atLeast = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
		has     = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		answer  = unix.BPF_RET | unix.BPF_K

		offsetNumber, offsetArch, offsetFirst = 0, 4, 16 // in struct seccomp_data; the first argument's lower half

		x32    = 0x40000000
		eperm  = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
		enosys = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	)
	f := []unix.SockFilter{
		{Code: load, K: offsetArch},
		{Code: equal, K: arch, Jt: 1},
		{Code: answer, K: eperm},
		{Code: load, K: offsetNumber},
		{Code: atLeast, K: x32, Jf: 1},
		{Code: answer, K: eperm},
	}
	for _, n := range allowed() {
		f = append(f, unix.SockFilter{Code: equal, K: n, Jf: 1}, unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_ALLOW})
	}
	f = append(f,
		unix.SockFilter{Code: equal, K: unix.SYS_CLONE3, Jf: 1}, // its flags are in memory: whoever calls it goes on with clone
		unix.SockFilter{Code: answer, K: enosys},
		unix.SockFilter{Code: equal, K: unix.SYS_CLONE, Jf: 3}, // threads alone
		unix.SockFilter{Code: load, K: offsetFirst},
		unix.SockFilter{Code: has, K: unix.CLONE_THREAD, Jf: 4},
		unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: equal, K: unix.SYS_TGKILL, Jf: 2}, // the process itself alone
		unix.SockFilter{Code: load, K: offsetFirst},
		unix.SockFilter{Code: equal, K: uint32(os.Getpid()), Jt: 1},
		unix.SockFilter{Code: answer, K: eperm},
		unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_ALLOW})
	program := unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}

	runtime.LockOSThread() // both calls are for a thread; the second takes all others along
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	r, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	runtime.KeepAlive(f)
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	if r != 0 {
		return fmt.Errorf("seccomp: thread %d has another filter", r)
	}
	return nil
}
