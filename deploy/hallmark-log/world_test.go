package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	sumtlog "golang.org/x/mod/sumdb/tlog"

	"github.com/hallmark-dev/hallmark/internal/authority/tlog"
	"github.com/hallmark-dev/hallmark/internal/hmtest/output"
	"github.com/hallmark-dev/hallmark/internal/translog"
)

// asProgram makes the test's own binary the program: what is killed is a process.
const asProgram = "HALLMARK_LOG_AS_PROGRAM"

const testOrigin = "127.0.0.1"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		os.Exit(0)
	}
	code := m.Run()
	stopMariaDB()
	stopS3()
	_ = os.RemoveAll(built.dir)
	os.Exit(code)
}

// mariadb is one private server for all tests of the package, on a Unix socket.
var mariadb struct {
	once    sync.Once
	err     error
	dir     string
	socket  string
	process *exec.Cmd
	ended   chan struct{}
	names   int
	mu      sync.Mutex
}

func startMariaDB() error {
	server, err := lookTool("mariadbd")
	if err != nil {
		return err
	}
	install, err := lookTool("mariadb-install-db")
	if err != nil {
		return err
	}
	if mariadb.dir, err = os.MkdirTemp("", "hallmark-log-db-"); err != nil {
		return err
	}
	data := filepath.Join(mariadb.dir, "data")
	who := []string{}
	if os.Getuid() == 0 {
		who = append(who, "--user=root")
	}
	// fsync is slow on what CI has and no power is cut here: the server runs with its
	// own defaults all the same, because the program refuses others.
	args := append([]string{"--no-defaults", "--datadir=" + data, "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-log-bin"}, who...)
	if out, err := exec.Command(install, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("mariadb-install-db: %w\n%s", err, out)
	}
	mariadb.socket = filepath.Join(mariadb.dir, "s")
	mariadb.process = exec.Command(server, append([]string{"--no-defaults", "--datadir=" + data, "--socket=" + mariadb.socket,
		"--skip-networking", "--pid-file=" + filepath.Join(mariadb.dir, "pid"), "--innodb-buffer-pool-size=32M"}, who...)...)
	var log output.Buffer
	mariadb.process.Stderr = &log
	mariadb.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := mariadb.process.Start(); err != nil {
		return err
	}
	mariadb.ended = make(chan struct{})
	go func() { _ = mariadb.process.Wait(); close(mariadb.ended) }()
	db, err := sql.Open("mysql", "root@unix("+mariadb.socket+")/")
	if err != nil {
		return err
	}
	defer db.Close()
	for { // as long as the machine takes: go test has a limit
		if err = db.Ping(); err == nil {
			return nil
		}
		select {
		case <-mariadb.ended:
			return fmt.Errorf("MariaDB has ended: %w\n%s", err, log.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func lookTool(name string) (string, error) {
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		if path := filepath.Join(dir, name); dir != "" && exec.Command("test", "-x", path).Run() == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not there: run tools/install.sh test", name)
}

// ownAddress is a host and port for a server that cannot choose its port itself, of a
// loopback address that nobody else uses: no connection and no other test takes the port
// before the server has it.
func ownAddress() (string, error) {
	var ip [3]byte
	_, _ = rand.Read(ip[:])
	l, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 1+ip[0]%254, ip[1], 1+ip[2]%254))
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// builtTools is where tools/install.sh puts what it builds.
func builtTools() string {
	if dir := os.Getenv("HALLMARK_TOOLS"); dir != "" {
		return dir
	}
	return filepath.Join(os.Getenv("HOME"), ".cache/hallmark/tools/bin")
}

func stopMariaDB() {
	if mariadb.ended != nil {
		_ = mariadb.process.Process.Kill()
		<-mariadb.ended
	}
	if mariadb.dir != "" {
		_ = os.RemoveAll(mariadb.dir)
	}
}

// newDatabase is the data source name of an empty database.
func newDatabase(t testing.TB) string {
	t.Helper()
	mariadb.once.Do(func() { mariadb.err = startMariaDB() })
	if mariadb.err != nil {
		t.Fatal(mariadb.err)
	}
	mariadb.mu.Lock()
	mariadb.names++
	name := "log" + strconv.Itoa(mariadb.names)
	mariadb.mu.Unlock()
	db, err := sql.Open("mysql", "root@unix("+mariadb.socket+")/")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("CREATE DATABASE " + name); err != nil {
		t.Fatal(err)
	}
	return "root@unix(" + mariadb.socket + ")/" + name
}

func newKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// site is a configuration on disk: one log, on which several writers may be started.
type site struct {
	dir    string
	driver string
	key    ed25519.PrivateKey
	known  translog.Log
	env    []string // of its writers, beside ours
}

func newSite(t testing.TB, driver string, key ed25519.PrivateKey) *site {
	t.Helper()
	s := &site{dir: t.TempDir(), driver: driver, key: key}
	var err error
	if s.known, err = translog.NewLog(testOrigin, key.Public()); err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "log.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	where := "path: data"
	if driver == "mysql" {
		s.write(t, "dsn", []byte(newDatabase(t)+"\n"))
		where = "dsn_file: dsn"
	} else if driver == "aws" {
		s.write(t, "dsn", []byte(newDatabase(t)+"\n"))
		var bucket string
		bucket, s.env = newBucket(t)
		where = "bucket: " + bucket + "\n  prefix: tree\n  dsn_file: dsn"
	}
	s.write(t, "log.yaml", fmt.Appendf(nil, "origin: %s\nkey: log.pem\nlisten: 127.0.0.1:0\nnewest: newest\nstorage:\n  driver: %s\n  %s\n", testOrigin, driver, where))
	return s
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

func (s *site) write(t testing.TB, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(s.path(name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// extend adds a line to the configuration.
func (s *site) extend(t testing.TB, line string) {
	t.Helper()
	data, err := os.ReadFile(s.path("log.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "log.yaml", append(data, line+"\n"...))
}

func (s *site) database(t testing.TB) *sql.DB {
	t.Helper()
	dsn, err := os.ReadFile(s.path("dsn"))
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("mysql", strings.TrimSpace(string(dsn)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// writer is a running hallmark-log.
type writer struct {
	cmd   *exec.Cmd
	url   string
	log   *bytes.Buffer
	ended chan struct{}
}

var readyLine = regexp.MustCompile(`^hallmark-log is ready: (\S+) has (\d+) entries`)

// start starts a writer; one that ends before it is ready is an error with what it said.
func (s *site) start(args ...string) (*writer, error) {
	w := &writer{log: new(bytes.Buffer), ended: make(chan struct{})}
	w.cmd = exec.Command(os.Args[0], append([]string{"serve", "--config", s.path("log.yaml")}, args...)...)
	w.cmd.Env = append(append(os.Environ(), asProgram+"=1"), s.env...)
	w.cmd.Stderr = w.log
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := w.cmd.Start(); err != nil {
		return nil, err
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	go func() { _ = w.cmd.Wait(); close(w.ended) }()
	m := readyLine.FindStringSubmatch(line)
	if m == nil {
		_ = w.cmd.Process.Kill()
		<-w.ended
		return nil, errors.New(w.log.String())
	}
	w.url = m[1]
	return w, nil
}

func (s *site) mustStart(t testing.TB, args ...string) *writer {
	t.Helper()
	w, err := s.start(args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.kill() })
	return w
}

func (w *writer) kill() {
	_ = w.cmd.Process.Kill()
	<-w.ended
}

// stop ends a writer as an operator does.
func (w *writer) stop(t testing.TB) {
	t.Helper()
	if err := w.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-w.ended:
	case <-time.After(40 * time.Second):
		t.Fatal("the writer does not end")
	}
	if code := w.cmd.ProcessState.ExitCode(); code != 0 {
		t.Fatalf("exit code %d\n%s", code, w.log)
	}
}

// entrySigner makes requests whose signatures hold.
type entrySigner struct {
	key *ecdsa.PrivateKey
	der []byte
}

func newEntrySigner(t testing.TB) *entrySigner {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return &entrySigner{key, der}
}

// request is a CreateEntryRequest over a digest of its own.
func (s *entrySigner) request(t testing.TB) []byte {
	t.Helper()
	var secret [32]byte
	_, _ = rand.Read(secret[:])
	digest := sha256.Sum256(secret[:])
	sig, err := s.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, `{"hashedRekordRequestV002":{"digest":%q,"signature":{"content":%q,"verifier":{"publicKey":{"rawBytes":%q},"keyDetails":"PKIX_ECDSA_P256_SHA_256"}}}}`,
		b64(digest[:]), b64(sig), b64(s.der))
}

// receipt is the answer that acknowledges an entry.
type receipt struct {
	LogIndex       int64 `json:"logIndex,string"`
	InclusionProof struct {
		LogIndex   int64    `json:"logIndex,string"`
		RootHash   []byte   `json:"rootHash"`
		TreeSize   int64    `json:"treeSize,string"`
		Hashes     [][]byte `json:"hashes"`
		Checkpoint struct {
			Envelope string `json:"envelope"`
		} `json:"checkpoint"`
	} `json:"inclusionProof"`
	CanonicalizedBody []byte `json:"canonicalizedBody"`
}

var client = &http.Client{Timeout: 60 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

// submit adds an entry. An answer other than 201 is an error with its text.
func submit(ctx context.Context, url string, request []byte) (*receipt, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/api/v2/log/entries", bytes.NewReader(request))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusCreated {
		return nil, fmt.Errorf("%s: %s", resp.Status, body)
	}
	r := new(receipt)
	return r, json.Unmarshal(body, r)
}

func get(url string) (status int, body []byte, err error) {
	resp, err := client.Get(url)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

// checkReceipt verifies a receipt as a client does.
func (s *site) checkReceipt(r *receipt) error {
	c, err := s.known.ParseCheckpoint([]byte(r.InclusionProof.Checkpoint.Envelope), time.Now())
	if err != nil {
		return err
	}
	p := r.InclusionProof
	if c.Size != p.TreeSize || !bytes.Equal(c.Root[:], p.RootHash) || p.LogIndex != r.LogIndex {
		return errors.New("the proof is not to its checkpoint")
	}
	var proof sumtlog.RecordProof
	for _, h := range p.Hashes {
		proof = append(proof, sumtlog.Hash(h))
	}
	return sumtlog.CheckRecord(proof, c.Size, c.Root, r.LogIndex, sumtlog.RecordHash(r.CanonicalizedBody))
}

// entries reads every entry of the log below a URL through its tiles, each compared
// with the signed root.
func (s *site) entries(t testing.TB, url string) (*translog.Checkpoint, [][]byte) {
	t.Helper()
	source, err := translog.HTTPSource(t.Context(), url, translog.HTTPOptions{})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := source.Get(t.Context(), "checkpoint", translog.MaxCheckpoint)
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.known.ParseCheckpoint(raw, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := translog.Full(t.Context(), c, source, func(int64, int64) {}); err != nil {
		t.Fatal(err)
	}
	var all [][]byte
	view := translog.NewView(c, source, nil)
	for n := int64(0); n*translog.Width < c.Size; n++ {
		b, err := view.Bundle(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	return c, all
}

// rootsOf are the roots of the trees of the first n entries, for every n, computed
// from the entries alone.
func rootsOf(t testing.TB, entries [][]byte) []sumtlog.Hash {
	t.Helper()
	var stored []sumtlog.Hash
	read := sumtlog.HashReaderFunc(func(indexes []int64) ([]sumtlog.Hash, error) {
		out := make([]sumtlog.Hash, len(indexes))
		for i, n := range indexes {
			out[i] = stored[n]
		}
		return out, nil
	})
	roots := make([]sumtlog.Hash, 0, len(entries)+1)
	for n := range len(entries) + 1 {
		root, err := sumtlog.TreeHash(int64(n), read)
		if err != nil {
			t.Fatal(err)
		}
		roots = append(roots, root)
		if n == len(entries) {
			break
		}
		more, err := sumtlog.StoredHashes(int64(n), entries[n], read)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, more...)
	}
	return roots
}

// sign makes a checkpoint of any tree with the log's key.
func (s *site) sign(t testing.TB, size int64, root sumtlog.Hash) []byte {
	t.Helper()
	text := fmt.Sprintf("%s\n%d\n%s\n", testOrigin, size, base64.StdEncoding.EncodeToString(root[:]))
	signer, err := tlog.NewSigner(testOrigin, s.key)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := note.Sign(&note.Note{Text: text}, signer)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}
