package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// s3 is one private S3 server for all tests of the package: Versity's gateway, whose buckets
// are folders. Database and bucket are what the aws driver wants of a cloud.
var s3 struct {
	once    sync.Once
	err     error
	dir     string
	address string
	process *exec.Cmd
	ended   chan struct{}
	names   int
	mu      sync.Mutex
}

const s3Key, s3Secret, s3Region = "tests", "not-a-secret", "eu-central-1"

func startS3() (err error) {
	server := filepath.Join(builtTools(), "versitygw")
	if _, err := os.Stat(server); err != nil {
		return fmt.Errorf("%w: run tools/install.sh test", err)
	}
	if s3.dir, err = os.MkdirTemp("", "hallmark-log-s3-"); err != nil {
		return err
	}
	if s3.address, err = ownAddress(); err != nil {
		return err
	}
	said, err := os.Create(s3.dir + ".log")
	if err != nil {
		return err
	}
	defer said.Close()
	s3.process = exec.Command(server, "--port="+s3.address, "--region="+s3Region, "--quiet", "posix", s3.dir)
	s3.process.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+s3Key, "ROOT_SECRET_KEY="+s3Secret)
	s3.process.Stdout, s3.process.Stderr = said, said
	s3.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s3.process.Start(); err != nil {
		return err
	}
	s3.ended = make(chan struct{})
	go func() { _ = s3.process.Wait(); close(s3.ended) }()
	for { // as long as the machine takes: go test has a limit
		conn, err := net.Dial("tcp", s3.address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-s3.ended:
			text, _ := os.ReadFile(said.Name())
			return fmt.Errorf("versitygw has ended: %w\n%s", err, text)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func stopS3() {
	if s3.ended != nil {
		_ = s3.process.Process.Kill()
		<-s3.ended
	}
	if s3.dir != "" {
		_, _ = os.RemoveAll(s3.dir), os.Remove(s3.dir+".log")
	}
}

// newBucket is the name of an empty bucket, and the environment in which the SDK finds it.
func newBucket(t testing.TB) (name string, env []string) {
	t.Helper()
	s3.once.Do(func() { s3.err = startS3() })
	if s3.err != nil {
		t.Fatal(s3.err)
	}
	s3.mu.Lock()
	s3.names++
	name = "log-" + strconv.Itoa(s3.names)
	s3.mu.Unlock()
	if err := os.Mkdir(filepath.Join(s3.dir, name), 0o700); err != nil {
		t.Fatal(err)
	}
	return name, []string{"AWS_ENDPOINT_URL_S3=http://" + s3.address, "AWS_REGION=" + s3Region, "AWS_ACCESS_KEY_ID=" + s3Key, "AWS_SECRET_ACCESS_KEY=" + s3Secret,
		"AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=" + os.DevNull, "AWS_SHARED_CREDENTIALS_FILE=" + os.DevNull}
}
