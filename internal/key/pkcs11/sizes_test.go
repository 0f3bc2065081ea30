//go:build (linux || darwin || freebsd) && (amd64 || arm64)

package pkcs11

import (
	"testing"
	"unsafe"
)

// TestSizes: the structures are C's.
func TestSizes(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct{ got, want uintptr }{
		"CK_ATTRIBUTE": {unsafe.Sizeof(attribute{}), 24}, "CK_MECHANISM": {unsafe.Sizeof(mechanism{}), 24},
		"CK_SLOT_INFO": {unsafe.Sizeof(slotInfo{}), 112}, "CK_TOKEN_INFO": {unsafe.Sizeof(tokenInfo{}), 208},
		"CK_C_INITIALIZE_ARGS": {unsafe.Sizeof(initArgs{}), 48}, "CK_FUNCTION_LIST": {unsafe.Sizeof(functionList{}), 8 + 68*8},
	} {
		if row.got != row.want {
			t.Errorf("%s has %d bytes, not %d", name, row.got, row.want)
		}
	}
}
