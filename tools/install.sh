#!/bin/sh
# Builds the tools that the demo and the tests need, once, into a cache:
#
#   tools/install.sh [demo|test|bench|race|lint]...     (default: demo test)
#
#   demo   git, ssh-keygen, runc, busybox-static (Debian) and buildkitd
#   test   demo's, and gnupg, openssl, strace, cosign, cosign 2, oras, crane, notation,
#          and the OCI distribution specification's conformance suite
#   bench  test's, and distribution's registry and Sigstore's services: rekor-tiles,
#          fulcio and timestamp-authority
#   race   a C compiler, which Go's race detector wants
#   lint   staticcheck
#
# Binaries go to $HALLMARK_TOOLS (default ~/.cache/hallmark/tools/bin). Each is
# built from a pinned module below tools/ and rebuilt when its go.sum changes.
set -eu
cd "$(dirname "$0")"
self=$PWD/$(basename "$0")
BIN=${HALLMARK_TOOLS:-$HOME/.cache/hallmark/tools/bin}
mkdir -p "$BIN"
say() { printf '%s\n' "$*" >&2; }

# One installer at a time: make demo and make test may run beside each other.
if [ "${HALLMARK_TOOLS_LOCKED:-}" != 1 ] && command -v flock >/dev/null; then
	HALLMARK_TOOLS_LOCKED=1 exec flock "$BIN/.lock" "$self" "$@"
fi

need() { # command packages...: installs Debian packages when the command is missing
	PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null 2>&1 && return
	missing=$1
	shift
	say "installing $* ($missing is missing)"
	SUDO=
	[ "$(id -u)" = 0 ] || SUDO=sudo
	command -v apt-get >/dev/null || { say "error: $missing is missing and this is not Debian or Ubuntu: install it and call again"; exit 1; }
	$SUDO apt-get install -y --no-install-recommends "$@" >/dev/null 2>&1 ||
		{ $SUDO apt-get update >/dev/null && $SUDO apt-get install -y --no-install-recommends "$@" >/dev/null; }
}

name() { # [NAME=]import-path: what the binary is called
	case $1 in *=*) echo "${1%%=*}" ;; *) basename "$1" ;; esac
}

build() { # module-folder usual-time ldflags [NAME=]import-path...
	dir=$1 usual=$2 ldflags=$3
	shift 3
	want=$(cat "$dir/go.mod" "$dir/go.sum" | sha256sum | cut -c1-16)-$(go env GOVERSION)
	stamp=$BIN/.$dir.stamp
	complete=yes
	for p in "$@"; do [ -x "$BIN/$(name "$p")" ] || complete=; done
	[ -n "$complete" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$want" ] && return
	names=
	for p in "$@"; do names="$names $(name "$p")"; done
	say "building$names (once; usually $usual on two cores)"
	t0=$(date +%s)
	for p in "$@"; do
		(cd "$dir" && CGO_ENABLED=0 GOFLAGS=-mod=readonly nice go build -buildvcs=false -trimpath -ldflags "-s -w $ldflags" -o "$BIN/$(name "$p")" "${p#*=}")
	done
	printf '%s' "$want" >"$stamp"
	say "built$names in $(($(date +%s) - t0)) s"
}

demo() {
	need git git
	need ssh-keygen openssh-client
	need runc runc
	need busybox busybox-static
	build buildkit "1 to 3 minutes" "-X github.com/moby/buildkit/version.Version=v0.33.1" \
		github.com/moby/buildkit/cmd/buildkitd
}
tests() {
	demo
	need gpg gnupg
	need openssl openssl
	need strace strace
	need unshare util-linux
	build peers "1 to 3 minutes" "" github.com/sigstore/cosign/v3/cmd/cosign
	build cosign2 "2 to 8 minutes" "" cosign2=github.com/sigstore/cosign/v2/cmd/cosign
	build notation "half a minute" "" github.com/notaryproject/notation/cmd/notation
	build oci "half a minute" "" github.com/google/go-containerregistry/cmd/crane oras.land/oras/cmd/oras
	build conformance "some seconds" "" github.com/opencontainers/distribution-spec/conformance
}
peers() {
	tests
	build distribution "1 to 3 minutes" "" github.com/distribution/distribution/v3/cmd/registry
	build sigstore "2 to 6 minutes" "" rekor-server=github.com/sigstore/rekor-tiles/v2/cmd/rekor-server/posix \
		github.com/sigstore/fulcio github.com/sigstore/timestamp-authority/v2/cmd/timestamp-server
}
race() { need gcc gcc libc6-dev; }
lint() { build lint "half a minute" "" honnef.co/go/tools/cmd/staticcheck; }

[ $# -gt 0 ] || set -- demo test
for what in "$@"; do
	case $what in
	demo) demo ;;
	test) tests ;;
	bench) peers ;;
	race) race ;;
	lint) lint ;;
	*) sed -n 2,16p "$0" >&2; exit 2 ;;
	esac
done
