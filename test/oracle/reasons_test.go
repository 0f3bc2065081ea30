package oracle_test

import "strings"

// reason says where and why we refuse what sigstore-go accepts.
type reason struct {
	code    string   // of our refusal
	message string   // which it holds
	kinds   []string // of mutations that can lead to it; none: any
	why     string
}

// anywhere are mutations that can hit every place.
var anywhere = []string{"bit", "byte", "type", "swap"}

func or(more ...string) []string { return append(more, anywhere...) }

// reasons are all of them. A refusal by us alone that none fits fails the test.
var reasons = []reason{
	// What JSON and protobuf's mapping of it leave open.
	{"PARSE", "not base64", or("base64"), "bits of the last digit that mean nothing must be zero: one value, one spelling"},
	{"PARSE", "the string is not an integer", or("integer"), "an integer in a string has no spaces, sign +, fraction or exponent"},
	{"PARSE", "want a comma or '}'", or("integer"), "an integer has no fraction or exponent"},
	{"PARSE", "minus zero is no integer", or("integer"), "minus zero is a second spelling of zero"},
	{"PARSE", `algorithm: "`, or("text"), "a hash algorithm that the messages do not define is not passed over"},

	// What a bundle must have.
	{"PARSE", "kindVersion: missing", or("missing", "null", "text"), "a log entry must name its kind and version"},
	{"PARSE", "signedEntryTimestamp: empty", or("missing", "null", "text"), "an inclusion promise that is there must be one"},
	{"PARSE", "inclusionProof.logIndex: ", or("integer", "missing", "null", "text"), "a proof must be about a leaf of its tree (sigstore-go takes the size from the checkpoint)"},
	{"PARSE", "rootHash: ", or("decoded length", "missing", "null", "base64"), "a proof must name the root that it leads to (sigstore-go takes it from the checkpoint)"},
	{"PARSE", "rfc3161Timestamps[", or("array", "missing", "null"), "a timestamp that is there must be one"},
	{"PARSE", "x509CertificateChain", or("array", "null", "missing"), "a certificate of the chain that is there must be one"},
	{"PARSE", "certificate ", or("array", "null", "missing"), "a certificate of the chain that is there must be one"},
	{"PARSE", "came with bundle version 0.3", or("text"), "a single certificate came with version 0.3"},
	{"PARSE", "is not a Sigstore bundle of version", or("text"), "media types of versions that do not exist are not guessed at"},

	// What the claim says twice it must say the same way.
	{"MALFORMED", "the log entry says that it is", or("text", "missing", "null"), "an entry's kind and version must be its body's (sigstore-go compares them with themselves)"},
	{"MALFORMED", "which is not read", or("text", "missing", "null"), "an entry's kind and version must be known ones"},
	{"LOG_PROOF_BAD", `the checkpoint of "log2.test" is not signed`, or("text"), "an entry that does not say that it is of Rekor v2 is judged by the rules of v1 (the same)"},
	{"MALFORMED", "carries a time or promise", or("integer", "text", "missing"), "Rekor v2 gives no times: one that is there is made up"},
	{"MALFORMED", "names its artifact by a", or("text", "missing", "null"), "the artifact's digest must say by which algorithm it was made"},
	{"WRONG_SUBJECT", "names its artifact by a", or("text", "missing", "null"), "a digest by another algorithm than the artifact's cannot be compared"},
	{"LOG_MISMATCH", "the log entry is about another signature, signer or artifact", or("decoded bit", "decoded length", "base64"), "the leaf of Rekor v2 that the bundle brings must be the one that is proven (sigstore-go only looks at the one that it builds)"},
	{"LOG_PROOF_BAD", "the log's checkpoint is of another tree", or("decoded bit", "integer", "text"), "size and root of the proof must be the checkpoint's (sigstore-go takes the checkpoint's)"},
	{"LOG_PROOF_BAD", "the log entry is of index", or("integer", "missing", "null", "text"), "a Rekor v2 entry has one index"},

	// Checkpoints.
	{"LOG_PROOF_BAD", `the checkpoint of "`, or("checkpoint"), "a Rekor v1 checkpoint's signatures are all by the log under its name (sigstore-go asks for one and not for the name)"},
	{"LOG_PROOF_BAD", "signature lines are not those of a note", or("checkpoint"), "a note's signature line has a name and base64 as the format wants them"},
	{"LOG_PROOF_BAD", "the checkpoint is not signed by the log", or("checkpoint"), "a line under the log's name and key that is not its signature refuses the checkpoint"},

	// Certificates and timestamps.
	{"MALFORMED", "a second certificate that is no CA's", or("array"), "a chain has one leaf"},
	{"TIME_UNTRUSTED", "a timestamp of the claim is about another signature", or("array"), "a timestamp that is about something else is not passed over"},
	{"TIME_UNTRUSTED", "a timestamp of the claim cannot be believed", or("array", "decoded bit"), "parts of a timestamp that no signature covers must be what they have to be"},
	{"MALFORMED", "the claim carries the same timestamp twice", or("array"), "the same proof twice is no second proof"},
}

// stricterBecause is the sentence of the reason that fits, "" when none does.
func stricterBecause(ours error, kind string) string {
	text := ours.Error()
	for _, r := range reasons {
		if !strings.HasPrefix(text, r.code+" ") || !strings.Contains(text, r.message) {
			continue
		}
		if len(r.kinds) == 0 {
			return r.why
		}
		for _, k := range r.kinds {
			if k == kind {
				return r.why
			}
		}
	}
	return ""
}
