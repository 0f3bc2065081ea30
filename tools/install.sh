#!/bin/sh
# Builds the tools that the demo and the tests need, once, into a cache:
#
#   tools/install.sh [demo|test|bench|bake|race|lint]...     (default: demo test)
#
#   demo   git, ssh-keygen, runc, busybox-static (Debian) and buildkitd
#   test   demo's, and gnupg, openssl, strace, SoftHSM, MariaDB, Docker, Chromium, cosign,
#          cosign 2, oras, crane, notation, a KMS plugin of Sigstore's making with the tests of the
#          protocol, the OCI distribution specification's conformance suite, kube-apiserver
#          and etcd, an S3 server (versitygw), and the frontend that the pinned BuildKit has in it, as a program
#   bench  test's, buildx, distribution's registry and Sigstore's services: rekor-tiles,
#          fulcio and timestamp-authority
#   bake   hallmark-bake, which reads bake files for hallmark bake
#   race   a C compiler, which Go's race detector wants
#   lint   staticcheck, and actionlint for the workflows
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

build() { # module-folder[:part] usual-time ldflags [NAME=]import-path...
	dir=${1%%:*} usual=$2 ldflags=$3
	stamp=$BIN/.$(echo "$1" | tr : -).stamp # of each part of a module one: they are built one by one
	shift 3
	want=$(cat "$dir/go.mod" "$dir/go.sum" $(find "$dir" -mindepth 2 -name "*.go") | sha256sum | cut -c1-16)-$(go env GOVERSION)
	complete=yes
	for p in "$@"; do [ -x "$BIN/$(name "$p")" ] || complete=; done
	[ -n "$complete" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$want" ] && return
	names=
	for p in "$@"; do names="$names $(name "$p")"; done
	say "building$names (once; usually $usual on two cores)"
	t0=$(date +%s)
	for p in "$@"; do
		case $p in *=test:*)
			# A package's tests as a program; sigstore's of its plugin protocol have a tag.
			(cd "$dir" && CGO_ENABLED=0 GOFLAGS=-mod=readonly nice go test -c -tags signer_program -trimpath -ldflags "-s -w" -o "$BIN/$(name "$p")" "${p#*=test:}")
			continue
			;;
		esac
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
	pins
}
# The builder file of hallmark build --trusted for what is installed (docs/trusted-build.md).
pins() {
	runc=$(PATH=$PATH:/usr/sbin:/sbin command -v runc)
	reader=
	[ ! -x "$BIN/hallmark-bake" ] || reader=$(printf '  "hallmark-bake": [{"version": "1", "sha256": "%s"}],\n' "$(sha256sum "$BIN/hallmark-bake" | cut -d" " -f1)")
	printf '{\n  "version": 1,\n%s\n  "buildkitd": [{"version": "v0.33.1", "sha256": "%s"}],\n  "runc": [{"version": "%s", "sha256": "%s"}]\n}\n' \
		"$reader" "$(sha256sum "$BIN/buildkitd" | cut -d" " -f1)" "$("$runc" --version | sed -n 's/^runc version //p')" "$(sha256sum "$runc" | cut -d" " -f1)" >"$BIN/.builder.json"
	mv "$BIN/.builder.json" "$BIN/builder.json"
}
tests() {
	demo
	need gpg gnupg
	need openssl openssl
	need strace strace
	need unshare util-linux
	need softhsm2-util softhsm2
	need chromium chromium fonts-dejavu-core
	need dockerd docker.io # no service is needed: a test starts its own
	need mariadbd mariadb-server-core mariadb-client-core # no service: tests start their own
	build buildkit:frontend "some seconds" "-X github.com/moby/buildkit/version.Version=v0.33.1" \
		github.com/moby/buildkit/frontend/dockerfile/cmd/dockerfile-frontend github.com/moby/buildkit/cmd/buildctl
	build peers "1 to 3 minutes" "" github.com/sigstore/cosign/v3/cmd/cosign
	build cosign2 "2 to 8 minutes" "" cosign2=github.com/sigstore/cosign/v2/cmd/cosign
	build notation "half a minute" "" github.com/notaryproject/notation/cmd/notation
	build oci "half a minute" "" github.com/google/go-containerregistry/cmd/crane oras.land/oras/cmd/oras
	build kmsplugin "half a minute" "" ./sigstore-kms-files kms-conformance=test:github.com/sigstore/sigstore/pkg/signature/kms/cliplugin
	bake
	p=k8s.io/component-base/version
	build kube "3 to 6 minutes" "-X $p.gitVersion=v1.35.4 -X $p.gitMajor=1 -X $p.gitMinor=35" \
		k8s.io/kubernetes/cmd/kube-apiserver etcd=go.etcd.io/etcd/server/v3
	build s3 "1 to 2 minutes" "" github.com/versity/versitygw/cmd/versitygw
	build conformance "some seconds" "" github.com/opencontainers/distribution-spec/conformance
}
peers() {
	tests
	build buildx "1 to 3 minutes" "" github.com/docker/buildx/cmd/buildx
	build distribution "1 to 3 minutes" "" github.com/distribution/distribution/v3/cmd/registry
	build sigstore "2 to 6 minutes" "" rekor-server=github.com/sigstore/rekor-tiles/v2/cmd/rekor-server/posix \
		github.com/sigstore/fulcio github.com/sigstore/timestamp-authority/v2/cmd/timestamp-server
}
# Of this checkout: made anew when its files are others.
bake() {
	want=$(cd .. && cat bake/go.mod bake/go.sum bake/hallmark-bake/*.go | sha256sum | cut -c1-16)-$(go env GOVERSION)
	[ -x "$BIN/hallmark-bake" ] && [ "$(cat "$BIN/.bake.stamp" 2>/dev/null)" = "$want" ] && return
	say "building hallmark-bake (once; usually 1 to 3 minutes on two cores)"
	(cd ../bake && CGO_ENABLED=0 GOFLAGS=-mod=readonly nice go build -buildvcs=false -trimpath -ldflags "-s -w" -o "$BIN/hallmark-bake" ./hallmark-bake)
	printf '%s' "$want" >"$BIN/.bake.stamp"
	pins
}
race() { need gcc gcc libc6-dev; }
lint() { build lint "half a minute" "" honnef.co/go/tools/cmd/staticcheck github.com/rhysd/actionlint/cmd/actionlint; }

[ $# -gt 0 ] || set -- demo test
for what in "$@"; do
	case $what in
	demo) demo ;;
	test) tests ;;
	bench) peers ;;
	bake) bake ;;
	race) race ;;
	lint) lint ;;
	*) sed -n 2,18p "$0" >&2; exit 2 ;;
	esac
done
