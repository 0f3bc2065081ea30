package main

import (
	"os"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hallmark-dev/hallmark/internal/hmtest/softhsm"
)

// scriptSoftHSM is the verb "softhsm TOKEN OBJECT=ALGORITHM...": a token of SoftHSM
// with these keys, in a folder of tokens that the script's programs see, and the plugin
// on their PATH. The algorithm is P-256, P-384 or rsa:BITS. It sets MODULE, the module's
// path, PIN_FILE, a file with the PIN, and PIN.
func scriptSoftHSM(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: softhsm TOKEN OBJECT=ALGORITHM...")
	}
	hsm := softhsm.Make(ts.MkAbs("softhsm"), ts.Check)
	for name, value := range map[string]string{
		"SOFTHSM2_CONF": hsm.Conf, "MODULE": hsm.Module, "PIN_FILE": hsm.PINFile, "PIN": softhsm.PIN,
		"PATH": hsm.Bin + string(os.PathListSeparator) + ts.Getenv("PATH"),
	} {
		ts.Setenv(name, value)
	}
	hsm.Init(args[0])
	for i, key := range args[1:] {
		object, algorithm, _ := strings.Cut(key, "=")
		hsm.Import(args[0], object, "0"+string('1'+rune(i)), algorithm)
	}
}
