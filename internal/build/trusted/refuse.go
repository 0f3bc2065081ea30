package trusted

import (
	"maps"
	"slices"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/fault"
)

// refused is what other builders take and a trusted build does not, by the names of
// their options (docker buildx build and bake, github-builder).
var refused = map[string]string{
	"add-host":        "a name would mean another machine here than elsewhere",
	"allow":           "an entitlement lets steps out of their sandbox",
	"attest":          "which attestations are made is not the caller's choice",
	"build-context":   "what is in it, no commit says",
	"builder":         "BuildKit is started for this build, from the file of --trusted",
	"cache-from":      "whoever can write the cache could make the image; --cache takes what this builder signed",
	"cache-to":        "what a later build takes from a cache, nobody has verified; --cache leaves what is signed",
	"cgroup-parent":   "steps run in a control group of the build's own",
	"push":            "an image is always pushed, to the name of --tag",
	"pull":            "a tag is looked up anew in each build",
	"call":            "hallmark policy eval and hallmark policy lock look at a Dockerfile without building it",
	"load":            "the result would go to a daemon of this machine, without its signatures",
	"metadata-file":   "--json has it",
	"network":         "steps run in the build's own network, or in none with --hermetic",
	"provenance":      "provenance is always made, and its mode is not the caller's choice",
	"sbom":            "the builder file names the scanner",
	"secret":          "what a secret does to the result, no provenance says",
	"security-opt":    "it would let steps out of their sandbox",
	"ssh":             "what an agent of this machine can fetch, others cannot",
	"plain-http":      "what is fetched would be what anybody on the way says",
	"no-sign":         "nothing unsigned comes out of it",
	"builder-id":      "who built is for the identity's issuer to say",
	"export":          "the source would come from this machine, and the provenance could not name it with its checksum",
	"SOURCE":          "a folder of this machine is no source that others can look at; name the repository's URL",
	"SSH":             "fetching over SSH needs keys of this machine; name the repository's https URL",
	"secrets":         "what a secret does to the result, no provenance says",
	"contexts":        "what is in it, no commit says",
	"extra-hosts":     "a name would mean another machine here than elsewhere",
	"entitlements":    "an entitlement lets steps out of their sandbox",
	"secret-envs":     "what a secret does to the result, no provenance says",
	"secret-files":    "what a secret does to the result, no provenance says",
	"build-contexts":  "what is in it, no commit says",
	"add-hosts":       "a name would mean another machine here than elsewhere",
	"no-cache-filter": "the daemon is new, and has no cache",
}

// Refused says why an option of other builders, or of the plain build, is not taken.
func Refused(option string) (why string, ok bool) {
	why, ok = refused[option]
	return why, ok
}

// Refuse is the usage error for an option that is not taken, as it was written.
func Refuse(written, option string) error {
	return fault.Usagef("a trusted build takes no %s: %s", written, refused[option])
}

// CheckEnvironment refuses variables that would reach the daemon or its steps. The
// daemon gets none of them; that they are there means that somebody expects it.
func CheckEnvironment(env func(string) string) error {
	for _, name := range slices.Sorted(maps.Keys(environment)) {
		if env(name) != "" {
			return fault.Hint(fault.Usagef("a trusted build takes no %s: %s", name, environment[name]), "unset %s", name)
		}
	}
	return nil
}

var environment = map[string]string{
	"BUILDKIT_HOST": "a daemon that was there before has a configuration and a cache that nobody has verified",
	"HTTP_PROXY":    viaProxy, "HTTPS_PROXY": viaProxy, "ALL_PROXY": viaProxy,
	"http_proxy": viaProxy, "https_proxy": viaProxy, "all_proxy": viaProxy,
	"SSL_CERT_FILE": whoIsWho, "SSL_CERT_DIR": whoIsWho,
}

const (
	viaProxy = "what the build fetches would be what the proxy says"
	whoIsWho = "which servers are believed would be this machine's choice"
)

// CheckArgs refuses build arguments that BuildKit itself takes for more than a value:
// proxies, which every step sees and no provenance has, and what overrides the source.
func CheckArgs(args map[string]string) error {
	proxies := []string{"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"}
	for name := range args {
		switch {
		case slices.Contains(proxies, strings.ToUpper(name)):
			return fault.Usagef("a trusted build takes no --build-arg %s: %s", name, viaProxy)
		case name == "SOURCE_DATE_EPOCH":
			return fault.Usagef("a trusted build takes no --build-arg %s: the image is dated as the commit", name)
		}
	}
	return nil
}
