package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/ocsp"
	"golang.org/x/sys/unix"

	"github.com/hallmark-dev/hallmark/internal/cli"
)

// scriptCA is the verb "ca NAME DAYS": a CA that ends after so many days, which
// may be negative. It writes NAME.pem, NAME.der, the revocation list NAME.crl and
// an OCSP response NAME.ocsp, and sets the upper-case NAME to the SHA-256 of NAME.pem.
func scriptCA(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: ca NAME DAYS")
	}
	days, err := time.ParseDuration(args[1] + "h")
	ts.Check(err)
	cert, crl, response, err := makeCA(args[0], time.Now().Add(24*days))
	ts.Check(err)
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	for name, data := range map[string][]byte{".pem": text, ".der": cert, ".crl": crl, ".ocsp": response} {
		ts.Check(os.WriteFile(ts.MkAbs(args[0]+name), data, 0o600))
	}
	sum := sha256.Sum256(text)
	ts.Setenv(strings.ToUpper(args[0]), hex.EncodeToString(sum[:]))
}

// makeCA is a CA's certificate, its revocation list, and its answer about a
// certificate, both good as long.
func makeCA(name string, end time.Time) (cert, crl, response []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name, Organization: []string{"Acme"}, Country: []string{"NL"}},
		NotBefore: time.Now().AddDate(-2, 0, 0), NotAfter: end, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	if cert, err = x509.CreateCertificate(rand.Reader, template, template, key.Public(), key); err != nil {
		return nil, nil, nil, err
	}
	parsed, err := x509.ParseCertificate(cert)
	if err != nil {
		return nil, nil, nil, err
	}
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().AddDate(-1, 0, 0), NextUpdate: end}
	crl, err = x509.CreateRevocationList(rand.Reader, list, parsed, key)
	if err != nil {
		return nil, nil, nil, err
	}
	response, err = ocsp.CreateResponse(parsed, parsed, ocsp.Response{Status: ocsp.Good, SerialNumber: big.NewInt(2), ThisUpdate: list.ThisUpdate, NextUpdate: end}, key)
	return cert, crl, response, err
}

// scriptServe is the verb "serve DIR": the files of a folder over HTTP on this
// machine. It sets SERVE; below $SERVE/away/ requests are sent on to another host.
func scriptServe(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: serve DIR")
	}
	mux := http.NewServeMux()
	mux.Handle("/", http.FileServer(http.Dir(ts.MkAbs(args[0]))))
	mux.HandleFunc("/away/", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://elsewhere.invalid/", http.StatusFound)
	})
	server := httptest.NewServer(mux)
	ts.Defer(server.Close)
	ts.Setenv("SERVE", server.URL)
}

// scriptAsked is the verb "asked ANSWER ARG...": hallmark with these arguments in
// front of a terminal on which a person types ANSWER. What it printed on stdout and
// on the terminal is in the files asked.stdout and asked.tty.
func scriptAsked(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: asked ANSWER ARG...")
	}
	person, tty, err := openTerminal()
	ts.Check(err)
	_, err = person.WriteString(args[0] + "\n")
	ts.Check(err)
	shown := make(chan []byte)
	go func() {
		all, _ := io.ReadAll(person) // ends with an error when the terminal is closed
		shown <- all
	}()
	var stdout bytes.Buffer
	code := run(args[1:], &app{&cli.App{Stdin: tty, Stdout: &stdout, Stderr: tty, Env: ts.Getenv}})
	ts.Check(tty.Close())
	ts.Check(os.WriteFile(ts.MkAbs("asked.tty"), <-shown, 0o600))
	ts.Check(person.Close())
	ts.Check(os.WriteFile(ts.MkAbs("asked.stdout"), stdout.Bytes(), 0o600))
	if (code != 0) != neg {
		ts.Fatalf("exit code %d\n%s", code, stdout.Bytes())
	}
}

// openTerminal opens a pseudo-terminal and its other end, where the person sits.
func openTerminal() (person, tty *os.File, err error) {
	if person, err = os.OpenFile("/dev/ptmx", os.O_RDWR, 0); err != nil {
		return nil, nil, err
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		return nil, nil, err
	}
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, err
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	return person, tty, err
}
