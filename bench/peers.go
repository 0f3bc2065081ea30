package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/ca"
	"github.com/hallmark-dev/hallmark/internal/authority/tsa"
)

// Sigstore's own services, each a process on loopback as tools/install.sh builds
// it, with keys of the kinds that hallmark up has.

// peerService is a running one.
type peerService struct {
	address string // host:port
	cmd     *exec.Cmd
}

func (s *peerService) stop() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// process is its id; 0 when it was not started.
func (s *peerService) process() int {
	if s.cmd == nil {
		return 0
	}
	return s.cmd.Process.Pid
}

// freePorts are so many addresses of loopback that nothing listens on.
func freePorts(n int) (addresses []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}

func portOf(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

// serve starts a program, whose output goes to a file, and waits until it listens.
func (b *bench) serve(ctx context.Context, address, name string, args ...string) (*peerService, error) {
	if b.alone {
		return new(peerService), nil
	}
	said := filepath.Join(b.dir, filepath.Base(name)+".log")
	out, err := os.OpenFile(said, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	s := &peerService{address: address, cmd: exec.CommandContext(ctx, name, args...)}
	s.cmd.Env, s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = b.env, b.dir, out, out
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w (tools/install.sh bench builds the peers)", err)
	}
	if err := answers(address); err != nil {
		s.stop()
		tail, _ := os.ReadFile(said)
		return nil, fmt.Errorf("%s: %w\n%s", name, err, tail[max(0, len(tail)-2000):])
	}
	return s, nil
}

// answers waits until something listens.
func answers(address string) error {
	for range 1000 {
		if conn, err := net.Dial("tcp", address); err == nil {
			return conn.Close()
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("nothing answers on %s", address)
}

// pemFile writes blocks of PEM and names the file.
func (b *bench) pemFile(name string, blocks ...*pem.Block) (string, error) {
	var data []byte
	for _, block := range blocks {
		data = append(data, pem.EncodeToMemory(block)...)
	}
	path := filepath.Join(b.dir, name)
	return path, os.WriteFile(path, data, 0o600)
}

func (b *bench) keyFile(name string, key crypto.Signer) (string, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", err
	}
	return b.pemFile(name, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func (b *bench) chainFile(name string, chain ...*x509.Certificate) (string, error) {
	var blocks []*pem.Block
	for _, c := range chain {
		blocks = append(blocks, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	return b.pemFile(name, blocks...)
}

// startRekor runs rekor-tiles with its POSIX driver. It answers when a checkpoint
// covers the entry, for which it looks once a second, whatever its flags say; the
// checkpoint interval is the shortest that Tessera takes, and batches wait 50 ms.
func (b *bench) startRekor(ctx context.Context) (*peerService, ed25519.PublicKey, error) {
	at, err := freePorts(3)
	if err != nil {
		return nil, nil, err
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	key, err := b.keyFile("rekor.key", private)
	if err != nil {
		return nil, nil, err
	}
	folder, err := os.MkdirTemp(b.dir, "rekor")
	if err != nil {
		return nil, nil, err
	}
	s, err := b.serve(ctx, at[0], b.rekor, "serve", "--http-address", "127.0.0.1", "--http-port", portOf(at[0]),
		"--grpc-port", portOf(at[1]), "--http-metrics-port", portOf(at[2]), "--hostname", "127.0.0.1", "--storage-dir", folder,
		"--signer-filepath", key, "--checkpoint-interval", "100ms", "--batch-max-age", "50ms", "--log-level", "error")
	return s, public, err
}

// startFulcio runs fulcio with a CA file, for tokens of the lab's issuer. Without a
// CT log it embeds no SCT, which ours always does.
func (b *bench) startFulcio(ctx context.Context, ctLog string) (*peerService, error) {
	at, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	private, cert, err := ca.NewRoot(time.Now(), "bench", "fulcio's root")
	if err != nil {
		return nil, err
	}
	key, err := b.keyFile("fulcio.key", private)
	if err != nil {
		return nil, err
	}
	chain, err := b.chainFile("fulcio.pem", cert)
	if err != nil {
		return nil, err
	}
	issuer := b.lab.authority.Issuer
	config := filepath.Join(b.dir, "fulcio.yaml")
	text := fmt.Sprintf("oidc-issuers:\n  %q:\n    issuer-url: %q\n    client-id: sigstore\n    type: email\n    contact: bench@example.com\n    description: bench\n", issuer, issuer)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return b.serve(ctx, at[0], b.fulcio, "serve", "--host", "127.0.0.1", "--port", portOf(at[0]), "--grpc-host", "127.0.0.1",
		"--grpc-port", portOf(at[1]), "--metrics-port", portOf(at[2]), "--legacy-unix-domain-socket", filepath.Join(b.dir, "fulcio-"+portOf(at[0])),
		"--ca", "fileca", "--fileca-cert", chain, "--fileca-key", key, "--fileca-key-passwd", "", "--fileca-watch=false",
		"--ct-log-url", ctLog, "--config-path", config, "--log_type", "prod")
}

// startTSA runs timestamp-authority with a key file, P-256 as ours.
func (b *bench) startTSA(ctx context.Context) (*peerService, error) {
	at, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	private, certs, err := tsa.NewChain(time.Now())
	if err != nil {
		return nil, err
	}
	key, err := b.keyFile("tsa.key", private)
	if err != nil {
		return nil, err
	}
	chain, err := b.chainFile("tsa.pem", certs...)
	if err != nil {
		return nil, err
	}
	return b.serve(ctx, at[0], b.tsaServer, "serve", "--host", "127.0.0.1", "--port", portOf(at[0]), "--timestamp-signer", "file",
		"--file-signer-key-path", key, "--certificate-chain-path", chain, "--disable-ntp-monitoring", "--log-type", "prod")
}

// playCTLog is a CT log for fulcio that keeps nothing: an answer costs one request
// and one signature. Fulcio embeds the SCT and does not check it, as it is told no key.
func playCTLog() (address string, stop func(), err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return "", nil, err
	}
	id := sha256.Sum256(spki)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var request struct {
			Chain [][]byte `json:"chain"`
		}
		if err := json.NewDecoder(r.Body).Decode(&request); err != nil || len(request.Chain) == 0 {
			http.Error(w, "no chain", http.StatusBadRequest)
			return
		}
		digest := sha256.Sum256(request.Chain[0])
		sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
		if err != nil {
			http.Error(w, "signing failed", http.StatusInternalServerError)
			return
		}
		// RFC 5246, 4.7: SHA-256, ECDSA, the signature with its length.
		signed := append([]byte{4, 3, byte(len(sig) >> 8), byte(len(sig))}, sig...)
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"sct_version": 0, "id": id[:], "timestamp": time.Now().UnixMilli(), "extensions": "", "signature": signed})
	})}
	go func() { _ = server.Serve(l) }()
	return "http://" + l.Addr().String(), func() { _ = server.Close() }, nil
}
