//go:build linux || darwin || freebsd

// Package pkcs11 signs with keys in PKCS #11 tokens (OASIS PKCS #11 2.40): HSMs, smart
// cards, SoftHSM. It loads the vendor's module into the process without cgo, so that
// only a program of its own should use it.
package pkcs11

import (
	"fmt"
	"strings"
	"unsafe"

	"github.com/ebitengine/purego"
)

// ulong is CK_ULONG, C's unsigned long, on all Unix systems as large as a pointer.
type ulong = uintptr

// attribute is CK_ATTRIBUTE, mechanism CK_MECHANISM: without padding on Unix.
type attribute struct {
	typ   ulong
	value unsafe.Pointer
	size  ulong
}

type mechanism struct {
	typ ulong
	_   unsafe.Pointer // no mechanism here has a parameter
	_   ulong
}

// slotInfo is CK_SLOT_INFO, tokenInfo CK_TOKEN_INFO.
type slotInfo struct {
	description  [64]byte
	manufacturer [32]byte
	_            ulong   // flags
	_            [4]byte // versions
}

type tokenInfo struct {
	label, manufacturer [32]byte
	model, serial       [16]byte
	flags               ulong
	_                   [10]ulong // limits and counts
	_                   [4]byte   // versions
	_                   [16]byte  // UTC
}

// initArgs is CK_C_INITIALIZE_ARGS.
type initArgs struct {
	_     [4]uintptr // functions for mutexes
	flags ulong
	_     unsafe.Pointer
}

// Places in CK_FUNCTION_LIST, behind its version.
const (
	fInitialize        = 0
	fFinalize          = 1
	fGetSlotList       = 4
	fGetSlotInfo       = 5
	fGetTokenInfo      = 6
	fOpenSession       = 12
	fLogin             = 18
	fGetAttributeValue = 24
	fFindObjectsInit   = 26
	fFindObjects       = 27
	fFindObjectsFinal  = 28
	fSignInit          = 42
	fSign              = 43
	fGenerateKeyPair   = 59
)

// module is a loaded module, initialised. Its calls are made one after the other.
type module struct {
	path string

	finalize        func(unsafe.Pointer) ulong
	getSlotList     func(present byte, slots *ulong, n *ulong) ulong
	getSlotInfo     func(slot ulong, info *slotInfo) ulong
	getTokenInfo    func(slot ulong, info *tokenInfo) ulong
	openSession     func(slot, flags ulong, app, notify unsafe.Pointer, session *ulong) ulong
	login           func(session, user ulong, pin *byte, n ulong) ulong
	getAttributes   func(session, object ulong, attrs *attribute, n ulong) ulong
	findInit        func(session ulong, attrs *attribute, n ulong) ulong
	find            func(session ulong, objects *ulong, max ulong, n *ulong) ulong
	findFinal       func(session ulong) ulong
	signInit        func(session ulong, m *mechanism, key ulong) ulong
	sign            func(session ulong, data *byte, n ulong, sig *byte, sigLen *ulong) ulong
	generateKeyPair func(session ulong, m *mechanism, public *attribute, nPublic ulong, private *attribute, nPrivate ulong, publicKey, privateKey *ulong) ulong
}

// load loads and initialises the module at an absolute path.
func load(path string) (*module, error) {
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("the module %s cannot be loaded: %s", path, strings.TrimPrefix(err.Error(), path+": "))
	}
	symbol, err := purego.Dlsym(handle, "C_GetFunctionList")
	if err != nil {
		return nil, fmt.Errorf("%s is no PKCS #11 module: it has no C_GetFunctionList", path)
	}
	var getFunctionList func(**functionList) ulong
	purego.RegisterFunc(&getFunctionList, symbol)
	var list *functionList
	if rv := getFunctionList(&list); rv != 0 || list == nil {
		return nil, fmt.Errorf("%s: C_GetFunctionList: %w", path, rvError(rv))
	}
	if list.version[0] < 2 {
		return nil, fmt.Errorf("%s speaks PKCS #11 %d.%d; 2.20 or later is needed", path, list.version[0], list.version[1])
	}
	m := &module{path: path}
	var initialize func(*initArgs) ulong
	for _, f := range []struct {
		to any
		n  int
	}{
		{&initialize, fInitialize}, {&m.finalize, fFinalize},
		{&m.getSlotList, fGetSlotList}, {&m.getSlotInfo, fGetSlotInfo}, {&m.getTokenInfo, fGetTokenInfo},
		{&m.openSession, fOpenSession}, {&m.login, fLogin}, {&m.getAttributes, fGetAttributeValue},
		{&m.findInit, fFindObjectsInit}, {&m.find, fFindObjects}, {&m.findFinal, fFindObjectsFinal},
		{&m.signInit, fSignInit}, {&m.sign, fSign}, {&m.generateKeyPair, fGenerateKeyPair},
	} {
		if list.functions[f.n] == 0 {
			return nil, fmt.Errorf("%s has no function %d of PKCS #11", path, f.n)
		}
		purego.RegisterFunc(f.to, list.functions[f.n])
	}
	// Go moves calls from thread to thread: the module must use locks, or none at all.
	rv := initialize(&initArgs{flags: ckfOSLockingOK})
	if rv == ckrCantLock || rv == ckrNeedToCreateThreads {
		rv = initialize(nil)
	}
	if rv != 0 && rv != ckrAlreadyInitialized {
		return nil, fmt.Errorf("%s: C_Initialize: %w", path, rvError(rv))
	}
	return m, nil
}

// functionList is CK_FUNCTION_LIST of 2.20 to 2.40.
type functionList struct {
	version   [2]byte
	functions [68]uintptr
}

// close ends the module's use; all sessions and logins end with it.
func (m *module) close() { m.finalize(nil) }

// slots are those with a token in them.
func (m *module) slots() ([]ulong, error) {
	var n ulong
	if rv := m.getSlotList(1, nil, &n); rv != 0 {
		return nil, fmt.Errorf("%s: C_GetSlotList: %w", m.path, rvError(rv))
	}
	if n == 0 {
		return nil, nil
	}
	if n > maxSlots {
		return nil, fmt.Errorf("%s has more than %d slots", m.path, maxSlots)
	}
	slots := make([]ulong, n)
	if rv := m.getSlotList(1, &slots[0], &n); rv != 0 {
		return nil, fmt.Errorf("%s: C_GetSlotList: %w", m.path, rvError(rv))
	}
	return slots[:min(n, ulong(len(slots)))], nil
}

// objects finds the handles of up to maxObjects objects with all these attributes.
func (m *module) objects(session ulong, attrs []attribute) ([]ulong, error) {
	if rv := m.findInit(session, &attrs[0], ulong(len(attrs))); rv != 0 {
		return nil, fmt.Errorf("C_FindObjectsInit: %w", rvError(rv))
	}
	defer m.findFinal(session)
	found := make([]ulong, maxObjects)
	var total ulong
	for total < maxObjects {
		var n ulong
		if rv := m.find(session, &found[total], maxObjects-total, &n); rv != 0 {
			return nil, fmt.Errorf("C_FindObjects: %w", rvError(rv))
		}
		if n == 0 {
			break
		}
		if total += n; total > maxObjects {
			return nil, fmt.Errorf("C_FindObjects gave more objects than it was asked for")
		}
	}
	return found[:total], nil
}

// attr reads one attribute; nil when the object has none that may be read.
func (m *module) attr(session, object, typ ulong) ([]byte, error) {
	a := &attribute{typ: typ}
	switch rv := m.getAttributes(session, object, a, 1); {
	case rv == ckrAttributeTypeInvalid || rv == ckrAttributeSensitive || rv == 0 && (a.size == 0 || a.size == ckUnavailable):
		return nil, nil
	case rv != 0:
		return nil, fmt.Errorf("C_GetAttributeValue: %w", rvError(rv))
	case a.size > maxAttribute:
		return nil, fmt.Errorf("an attribute of more than %d bytes", maxAttribute)
	}
	value := make([]byte, a.size)
	a.value = unsafe.Pointer(&value[0])
	if rv := m.getAttributes(session, object, a, 1); rv != 0 {
		return nil, fmt.Errorf("C_GetAttributeValue: %w", rvError(rv))
	}
	if a.size > ulong(len(value)) {
		return nil, fmt.Errorf("an attribute that changed while it was read")
	}
	return value[:a.size], nil
}

// attrULong reads an attribute that is a number; false when there is none.
func (m *module) attrULong(session, object, typ ulong) (ulong, bool, error) {
	b, err := m.attr(session, object, typ)
	if err != nil || len(b) != int(unsafe.Sizeof(ulong(0))) {
		return 0, false, err
	}
	return *(*ulong)(unsafe.Pointer(&b[0])), true, nil
}

// bytesAttr, ulongAttr and boolAttr make attributes of templates.
func bytesAttr(typ ulong, value []byte) attribute {
	if len(value) == 0 {
		return attribute{typ: typ}
	}
	return attribute{typ, unsafe.Pointer(&value[0]), ulong(len(value))}
}

func ulongAttr(typ, value ulong) attribute {
	v := &value
	return attribute{typ, unsafe.Pointer(v), unsafe.Sizeof(value)}
}

func boolAttr(typ ulong, value bool) attribute {
	b := new(byte)
	if value {
		*b = 1
	}
	return attribute{typ, unsafe.Pointer(b), 1}
}
