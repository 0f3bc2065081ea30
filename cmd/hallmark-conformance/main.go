// Command hallmark-conformance speaks the command line protocol of the Sigstore
// conformance suite (sigstore/sigstore-conformance, docs/cli_protocol.md), so that
// anyone can run the suite against this verifier and signer:
//
//	hallmark-conformance sign-bundle [--staging] [--in-toto] --identity-token TOKEN --bundle FILE
//	    [--trusted-root FILE] [--signing-config FILE] FILE
//	hallmark-conformance verify-bundle [--staging] --bundle FILE
//	    (--certificate-identity ID --certificate-oidc-issuer URL | --key FILE)
//	    [--trusted-root FILE] FILE_OR_DIGEST
//
// Exit code 0 says accepted or signed; the others are those of hallmark itself.
// For people there is hallmark verify: it says more and takes images, too.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
)

// version is set by the linker (-X main.version); a plain go build leaves "dev".
var version = "dev"

func main() { os.Exit(run(os.Args[1:], cli.New(version))) }

// run executes one call of the suite and returns its exit code.
func run(argv []string, a *cli.App) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return a.Exit(ctx, dispatch(ctx, a, argv))
}

func dispatch(ctx context.Context, a *cli.App, argv []string) error {
	c, err := parseCall(argv)
	if err != nil {
		return fault.Hint(fault.As(fault.Usage, err), "the protocol is docs/cli_protocol.md of sigstore/sigstore-conformance")
	}
	if c.command == cmdSign {
		return signBundle(ctx, a, c)
	}
	return verifyBundle(ctx, a, c)
}

// errStaging is what --staging means here: Sigstore's staging instance changes
// its keys at will, so its trust is never built in.
var errStaging = fault.Hint(fault.Usagef("--staging: the staging instance's trust is not built in"),
	"give its files with --trusted-root and, to sign, --signing-config")

// check refuses what no instance of Sigstore could answer.
func (c *call) check() error {
	if c.file == "" {
		return errors.New("what is to be signed or verified is missing")
	}
	if c.bundle == "" {
		return errors.New("--bundle is missing")
	}
	return nil
}
