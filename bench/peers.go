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
	"encoding/binary"
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
	"github.com/hallmark-dev/hallmark/internal/hmtest/ctlog"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

// Sigstore's own services, each a process on loopback as tools/install.sh builds
// it, with keys of the kinds that hallmark up has.

// peerService is a running one.
type peerService struct {
	address string // host:port
	cmd     *exec.Cmd
	known   trust.RootSpec // by what its answers are verified
}

// rootOf is a trusted root of services.
func rootOf(services ...*peerService) (*trust.Root, error) {
	var all trust.RootSpec
	for _, s := range services {
		all.CAs, all.TSAs = append(all.CAs, s.known.CAs...), append(all.TSAs, s.known.TSAs...)
		all.TLogs, all.CTLogs = append(all.TLogs, s.known.TLogs...), append(all.CTLogs, s.known.CTLogs...)
	}
	data, err := all.JSON()
	if err != nil {
		return nil, err
	}
	return trust.ParseTrustedRoot(data)
}

// authorityOf is how a CA or TSA is known that was made just now.
func authorityOf(chain ...*x509.Certificate) []trust.AuthoritySpec {
	return []trust.AuthoritySpec{{URI: "http://127.0.0.1", Organization: "bench", CommonName: "bench", Chain: chain, Start: chain[0].NotBefore}}
}

func logOf(key crypto.PublicKey, origin string) []trust.LogSpec {
	return []trust.LogSpec{{BaseURL: "http://127.0.0.1", Key: key, Origin: origin, Start: time.Now().Add(-time.Hour)}}
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
	if err := listens(address); err != nil {
		s.stop()
		tail, _ := os.ReadFile(said)
		return nil, fmt.Errorf("%s: %w\n%s", name, err, tail[max(0, len(tail)-2000):])
	}
	return s, nil
}

// listens waits until something listens.
func listens(address string) error {
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
	if err == nil {
		s.known.TLogs = logOf(public, "127.0.0.1")
	}
	return s, public, err
}

// startFulcio runs fulcio with a CA file, for tokens of the lab's issuer. Without a
// CT log it embeds no SCT, which ours always does.
func (b *bench) startFulcio(ctx context.Context, log *playedLog) (*peerService, error) {
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
	ctLog := ""
	if log != nil {
		ctLog = log.address
	}
	s, err := b.serve(ctx, at[0], b.fulcio, "serve", "--host", "127.0.0.1", "--port", portOf(at[0]), "--grpc-host", "127.0.0.1",
		"--grpc-port", portOf(at[1]), "--metrics-port", portOf(at[2]), "--legacy-unix-domain-socket", filepath.Join(b.dir, "fulcio-"+portOf(at[0])),
		"--ca", "fileca", "--fileca-cert", chain, "--fileca-key", key, "--fileca-key-passwd", "", "--fileca-watch=false",
		"--ct-log-url", ctLog, "--config-path", config, "--log_type", "prod")
	if err == nil {
		s.known.CAs = authorityOf(cert)
		if log != nil {
			s.known.CTLogs = logOf(log.key.Public(), "")
		}
	}
	return s, err
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
	s, err := b.serve(ctx, at[0], b.tsaServer, "serve", "--host", "127.0.0.1", "--port", portOf(at[0]), "--timestamp-signer", "file",
		"--file-signer-key-path", key, "--certificate-chain-path", chain, "--disable-ntp-monitoring", "--log-type", "prod")
	if err == nil {
		s.known.TSAs = authorityOf(certs...)
	}
	return s, err
}

// playedLog is a CT log for fulcio that keeps nothing: an answer costs one request, the
// precertificate's parsing and one signature. Fulcio embeds the SCT without checking it,
// as it is told no key; who verifies the certificate checks it.
type playedLog struct {
	address string // its base URL
	key     *ecdsa.PrivateKey
	id      [32]byte
	server  *http.Server
}

func playCTLog() (*playedLog, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	at, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &playedLog{address: "http://" + at.Addr().String(), key: key, id: sha256.Sum256(spki)}
	l.server = &http.Server{Handler: l}
	go func() { _ = l.server.Serve(at) }()
	return l, nil
}

func (l *playedLog) stop() { _ = l.server.Close() }

func (l *playedLog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var request struct {
		Chain [][]byte `json:"chain"`
	}
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil || len(request.Chain) < 2 {
		http.Error(w, "no chain", http.StatusBadRequest)
		return
	}
	at := time.Now().UnixMilli()
	sig, err := l.sign(at, request.Chain[0], request.Chain[1])
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"sct_version": 0, "id": l.id[:], "timestamp": at, "extensions": "", "signature": sig})
}

// sign is an SCT's signature (RFC 6962, 3.2).
func (l *playedLog) sign(at int64, precertificate, issuer []byte) ([]byte, error) {
	c, err := x509.ParseCertificate(precertificate)
	if err != nil {
		return nil, err
	}
	by, err := x509.ParseCertificate(issuer)
	if err != nil {
		return nil, err
	}
	tbs, _, err := ctlog.Without(c.RawTBSCertificate, "1.3.6.1.4.1.11129.2.4.3")
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256(by.RawSubjectPublicKeyInfo)
	signed := binary.BigEndian.AppendUint64([]byte{0, 0}, uint64(at)) // version 1, certificate_timestamp
	signed = append(append(signed, 0, 1), hash[:]...)                 // precert_entry
	signed = append(signed, byte(len(tbs)>>16), byte(len(tbs)>>8), byte(len(tbs)))
	signed = append(append(signed, tbs...), 0, 0) // no extensions
	digest := sha256.Sum256(signed)
	sig, err := ecdsa.SignASN1(rand.Reader, l.key, digest[:])
	// RFC 5246, 4.7: SHA-256, ECDSA, the signature with its length.
	return append([]byte{4, 3, byte(len(sig) >> 8), byte(len(sig))}, sig...), err
}
