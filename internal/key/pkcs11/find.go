//go:build linux || darwin || freebsd

package pkcs11

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/hallmark-dev/hallmark/internal/key/pkcs11uri"
)

// moduleVariables are where the module's path may be; the second one is cosign's.
var moduleVariables = []string{"HALLMARK_PKCS11_MODULE", "COSIGN_PKCS11_MODULE_PATH"}

// pinVariables are where the PIN may be; the second one is cosign's.
var pinVariables = []string{"HALLMARK_PKCS11_PIN", "COSIGN_PKCS11_PIN"}

// modulePath is the module that a URI names, or a variable.
func modulePath(u *pkcs11uri.URI) (string, error) {
	if u.ModulePath != "" {
		return u.ModulePath, nil
	}
	if u.ModuleName != "" {
		for _, dir := range moduleFolders() {
			for _, file := range []string{u.ModuleName, u.ModuleName + ".so", "lib" + u.ModuleName + ".so", u.ModuleName + ".dylib", "lib" + u.ModuleName + ".dylib"} {
				path := filepath.Join(dir, file)
				if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
					return path, nil
				}
			}
		}
		return "", fmt.Errorf("no module is called %s in the usual folders; name it by its path, module-path", u.ModuleName)
	}
	for _, name := range moduleVariables {
		if path := os.Getenv(name); path != "" {
			if !filepath.IsAbs(path) {
				return "", fmt.Errorf("%s is not an absolute path", name)
			}
			return path, nil
		}
	}
	return "", fmt.Errorf("no PKCS #11 module is named: add ?module-path=/path/of/module.so to the URI, or set %s", moduleVariables[0])
}

func moduleFolders() []string {
	libraries := []string{"/usr/lib", "/usr/local/lib", "/usr/lib64"}
	switch runtime.GOARCH {
	case "amd64":
		libraries = append(libraries, "/usr/lib/x86_64-linux-gnu")
	case "arm64":
		libraries = append(libraries, "/usr/lib/aarch64-linux-gnu", "/opt/homebrew/lib")
	}
	var dirs []string
	for _, l := range libraries {
		dirs = append(dirs, l, filepath.Join(l, "pkcs11"), filepath.Join(l, "softhsm"))
	}
	return dirs
}

// maxPIN bounds a PIN, in bytes.
const maxPIN = 256

// findPIN is the PIN for a token; nil without one.
func findPIN(u *pkcs11uri.URI) ([]byte, error) {
	if u.PinValue != "" {
		return []byte(u.PinValue), nil
	}
	if u.PinSource != "" {
		pin, err := readPIN(u.PinSource)
		if err != nil {
			return nil, fmt.Errorf("pin-source %s: %w", u.PinSource, err)
		}
		return pin, nil
	}
	for _, name := range pinVariables {
		if pin := os.Getenv(name); pin != "" {
			if len(pin) > maxPIN {
				return nil, fmt.Errorf("%s holds more than %d bytes", name, maxPIN)
			}
			return []byte(pin), nil
		}
	}
	return nil, nil
}

// readPIN reads a file with a PIN and at most one newline.
func readPIN(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		var pe *os.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	buf := make([]byte, maxPIN+3)
	n := 0
	for n < len(buf) {
		m, err := f.Read(buf[n:])
		n += m
		if err != nil {
			break
		}
	}
	pin := buf[:n]
	if n > 0 && pin[n-1] == '\n' {
		pin = pin[:n-1]
		if k := len(pin); k > 0 && pin[k-1] == '\r' {
			pin = pin[:k-1]
		}
	}
	switch {
	case len(pin) == 0:
		return nil, errors.New("the file is empty")
	case len(pin) > maxPIN:
		return nil, fmt.Errorf("the file holds more than %d bytes; that is no PIN", maxPIN)
	}
	for _, b := range pin {
		if b == '\n' || b == 0 {
			return nil, errors.New("the file holds more than one line")
		}
	}
	return pin, nil
}
