//go:build linux || darwin || freebsd

package pkcs11

import "fmt"

const (
	maxSlots     = 4096
	maxObjects   = 16 // more than one is an error already
	maxAttribute = 64 << 10
)

// Numbers of PKCS #11 2.40, 3.0 for those of Ed25519.
const (
	ckfOSLockingOK = 2

	ckfLoginRequired       = 0x4
	ckfProtectedPath       = 0x100
	ckfTokenInitialized    = 0x400
	ckfUserPINFinalTry     = 0x20000
	ckfUserPINLocked       = 0x40000
	ckfRWSession           = 2
	ckfSerialSession       = 4
	ckuUser                = 1
	ckuContextSpecific     = 2
	ckUnavailable          = ^ulong(0)
	ckoCertificate         = 1
	ckoPublicKey           = 2
	ckoPrivateKey          = 3
	ckkRSA                 = 0
	ckkEC                  = 3
	ckkECEdwards           = 0x40
	ckmRSAKeyPairGen       = 0
	ckmRSAPKCS             = 1
	ckmECKeyPairGen        = 0x1040
	ckmECDSA               = 0x1041
	ckmEdDSA               = 0x1057
	ckmECEdwardsKeyPairGen = 0x1055

	ckaClass              = 0
	ckaToken              = 1
	ckaPrivate            = 2
	ckaLabel              = 3
	ckaValue              = 0x11
	ckaKeyType            = 0x100
	ckaID                 = 0x102
	ckaSensitive          = 0x103
	ckaSign               = 0x108
	ckaVerify             = 0x10a
	ckaModulus            = 0x120
	ckaModulusBits        = 0x121
	ckaPublicExponent     = 0x122
	ckaPublicKeyInfo      = 0x129
	ckaExtractable        = 0x162
	ckaECParams           = 0x180
	ckaECPoint            = 0x181
	ckaAlwaysAuthenticate = 0x202

	ckrCantLock             = 0xa
	ckrNeedToCreateThreads  = 9
	ckrAttributeSensitive   = 0x11
	ckrAttributeTypeInvalid = 0x12
	ckrPINIncorrect         = 0xa0
	ckrPINInvalid           = 0xa1
	ckrPINLenRange          = 0xa2
	ckrPINExpired           = 0xa3
	ckrPINLocked            = 0xa4
	ckrUserAlreadyLoggedIn  = 0x100
	ckrAlreadyInitialized   = 0x191
)

// rvError is a CKR_ return value.
type rvError ulong

var rvNames = map[rvError]string{
	0x1: "CKR_CANCEL", 0x2: "CKR_HOST_MEMORY", 0x3: "CKR_SLOT_ID_INVALID", 0x5: "CKR_GENERAL_ERROR", 0x6: "CKR_FUNCTION_FAILED",
	0x7: "CKR_ARGUMENTS_BAD", ckrCantLock: "CKR_CANT_LOCK", ckrNeedToCreateThreads: "CKR_NEED_TO_CREATE_THREADS",
	ckrAttributeSensitive: "CKR_ATTRIBUTE_SENSITIVE", ckrAttributeTypeInvalid: "CKR_ATTRIBUTE_TYPE_INVALID", 0x13: "CKR_ATTRIBUTE_VALUE_INVALID",
	0x20: "CKR_DATA_INVALID", 0x21: "CKR_DATA_LEN_RANGE", 0x30: "CKR_DEVICE_ERROR", 0x31: "CKR_DEVICE_MEMORY", 0x32: "CKR_DEVICE_REMOVED",
	0x50: "CKR_FUNCTION_CANCELED", 0x54: "CKR_FUNCTION_NOT_SUPPORTED", 0x60: "CKR_KEY_HANDLE_INVALID", 0x62: "CKR_KEY_SIZE_RANGE",
	0x63: "CKR_KEY_TYPE_INCONSISTENT", 0x68: "CKR_KEY_FUNCTION_NOT_PERMITTED", 0x70: "CKR_MECHANISM_INVALID", 0x71: "CKR_MECHANISM_PARAM_INVALID",
	ckrPINIncorrect: "CKR_PIN_INCORRECT", ckrPINInvalid: "CKR_PIN_INVALID", ckrPINLenRange: "CKR_PIN_LEN_RANGE", ckrPINExpired: "CKR_PIN_EXPIRED",
	ckrPINLocked: "CKR_PIN_LOCKED", 0xb1: "CKR_SESSION_COUNT", 0xb3: "CKR_SESSION_HANDLE_INVALID", 0xb5: "CKR_SESSION_READ_ONLY",
	0xd0: "CKR_TEMPLATE_INCOMPLETE", 0xd1: "CKR_TEMPLATE_INCONSISTENT", 0xe0: "CKR_TOKEN_NOT_PRESENT", 0xe1: "CKR_TOKEN_NOT_RECOGNIZED",
	0xe2: "CKR_TOKEN_WRITE_PROTECTED", ckrUserAlreadyLoggedIn: "CKR_USER_ALREADY_LOGGED_IN", 0x101: "CKR_USER_NOT_LOGGED_IN",
	0x102: "CKR_USER_PIN_NOT_INITIALIZED", 0x130: "CKR_DOMAIN_PARAMS_INVALID", 0x140: "CKR_CURVE_NOT_SUPPORTED", 0x150: "CKR_BUFFER_TOO_SMALL", 0x190: "CKR_CRYPTOKI_NOT_INITIALIZED",
	ckrAlreadyInitialized: "CKR_CRYPTOKI_ALREADY_INITIALIZED",
}

func (e rvError) Error() string {
	if name := rvNames[e]; name != "" {
		return name
	}
	return fmt.Sprintf("CKR 0x%x", uintptr(e))
}
