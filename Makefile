# make build   bin/hallmark, and beside it hallmark-verify, hallmark-conformance and the plugin
#              sigstore-kms-pkcs11, which loads PKCS #11 modules without cgo; needs only Go
# make log     bin/hallmark-log, for a log that has outgrown hallmark up (docs/outgrown.md)
# make bake    hallmark-bake, which reads bake files for hallmark bake (docs/trusted-build.md), into the cache
# make demo    the whole story on real parts (REPO=path-or-url REF=tag: on yours; SELF=1: on Hallmark itself; KEEP=1: leave it running)
# make test    installs what the tests need and runs them all
# make bench   the benchmark table, beside the peers
# make tools   builds buildkitd, cosign 3 and 2, oras, crane, notation into the cache

SHELL := /bin/bash
export CGO_ENABLED := 0
export HALLMARK_TOOLS ?= $(HOME)/.cache/hallmark/tools/bin

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
# The binary is kept below 45 MB: no request tracing in gRPC, functions aligned to
# 16 bytes, and no inlining where no hot path runs through: large libraries, servers,
# command lines. Verification, evidence, gate and Rego decisions keep theirs. And
# templates call no methods, or the linker would keep all of them (tools/methodless.sh).
LDFLAGS := -s -w -funcalign=16 -X main.version=$(VERSION)
OURS := github.com/hallmark-dev/hallmark
COLD := cuelang.org/go/... github.com/moby/buildkit/... github.com/lestrrat-go/... github.com/vektah/gqlparser/... \
	google.golang.org/grpc/... go.opentelemetry.io/... github.com/containerd/... google.golang.org/protobuf/... \
	github.com/open-policy-agent/opa/v1/ast/... github.com/ProtonMail/... github.com/cloudflare/... github.com/spf13/... \
	go.yaml.in/... golang.org/x/net/... golang.org/x/text/... golang.org/x/mod/... golang.org/x/sys/... \
	github.com/tonistiigi/... github.com/theupdateframework/... github.com/sigstore/... github.com/spiffe/... \
	github.com/google/... github.com/opencontainers/... github.com/cockroachdb/... oras.land/... \
	html/template text/template/... archive/... net/http crypto/tls vendor/... \
	$(addprefix github.com/open-policy-agent/opa/,internal/... v1/loader/...) \
	github.com/emicklei/... github.com/pelletier/... github.com/secure-systems-lab/... github.com/docker/... github.com/moby/... \
	golang.org/x/crypto/ssh/... encoding/gob encoding/xml go/... image/... mime/... net log/slog text/tabwriter \
	github.com/sirupsen/... google.golang.org/genproto/... github.com/protocolbuffers/... github.com/go-logr/... regexp/syntax net/mail math/big os io/fs path/filepath syscall internal/poll internal/syscall/... encoding/asn1 crypto/x509/pkix bufio compress/... unicode/utf16 text/scanner encoding/csv encoding/base32 github.com/open-policy-agent/opa/v1/types github.com/open-policy-agent/opa/v1/ir/... github.com/open-policy-agent/opa/v1/bundle flag os/exec net/url net/textproto net/netip \
	github.com/open-policy-agent/opa/v1/topdown/durationparser $(addprefix github.com/open-policy-agent/opa/v1/,format/... storage/... config/... plugins/...) \
	$(OURS)/cmd/... $(foreach p,cli authority translog build git sign idtoken policy policybundle admission trust rewrite registry collect key sourcefacts webfile lockfile rekor visibility ociartifact evidence/convert assess durable strictyaml fault pattern sshsignature cms jcs signingpolicy,$(OURS)/internal/$(p)/...)
BUILDFLAGS := -trimpath -tags grpcnotrace -ldflags "$(LDFLAGS)" $(foreach p,$(COLD),-gcflags=$(p)=-l)
BIN ?= bin
PROGRAMS ?= ./cmd/...

# Packages whose tests run programs wait for the tools; all others start at once.
TOOL_PKGS := $(shell grep -rlE 'hmtest\.Tool|HALLMARK_TOOLS|exec\.Command|gitrepo\.|smalldisk\.|Busybox' --include='*_test.go' cmd demo internal | xargs -n1 dirname | sort -u | sed 's|^|./|')
TESTFLAGS ?=
# The module of the oracles and peers, which are too heavy for go.mod: its tests
# are run, too, and its benchmark of the verifier as a library is part of bench.
ORACLE := $(patsubst %/go.mod,%,$(wildcard test/oracle/go.mod))
# All modules beside the first one whose tests are run: the oracles (buildx's policies in a
# module of their own), and what outgrew hallmark up, with its cloud SDKs.
MODULES := $(ORACLE) $(patsubst %/go.mod,%,$(wildcard test/buildx/go.mod deploy/go.mod bake/go.mod))

# Starting BuildKit needs root. Without root, and without a BuildKit that runs
# already (BUILDKIT_HOST), what starts it runs under sudo.
ifeq ($(BUILDKIT_HOST)$(filter 0,$(shell id -u)),)
AS_ROOT := sudo env "PATH=$(PATH)" "HALLMARK_TOOLS=$(HALLMARK_TOOLS)" "GOMODCACHE=$(shell go env GOMODCACHE)" "GORACE=atexit_sleep_ms=50"
TEST_AS_ROOT := -exec '$(AS_ROOT)'
endif

.PHONY: build log bake demo test bench tools lint race fuzz clean

build:
	@mkdir -p $(BIN)
	go build $(BUILDFLAGS) $$(tools/methodless.sh $(BIN)/.methodless) -o $(BIN)/ $(PROGRAMS)

log:
	@mkdir -p $(BIN)
	cd deploy && go build -trimpath -ldflags "-s -w" -o $(abspath $(BIN))/ ./hallmark-log

bake:
	@tools/install.sh demo bake

demo: build
	@tools/install.sh demo
	@go build -trimpath -o bin/demo ./demo
	@$(AS_ROOT) bin/demo -hallmark bin/hallmark $(if $(REPO),-repo "$(REPO)") $(if $(REF),-ref "$(REF)") $(if $(POLICY),-policy "$(POLICY)") $(if $(SELF),-self) $(if $(KEEP),-keep)

# The tools start building first, beside the tests that do not need them.
test:
	@tools/install.sh test & installer=$$!; \
	go vet ./... && \
	go test $(TESTFLAGS) $$(go list ./... | grep -v -F -x -f <(go list $(TOOL_PKGS))); rc=$$?; \
	wait $$installer || exit 1; \
	[ $$rc = 0 ] || exit $$rc; \
	go test -timeout 30m $(TESTFLAGS) $(TEST_AS_ROOT) $(TOOL_PKGS)
	@for m in $(MODULES); do (cd $$m && go vet ./... && go test -timeout 30m $(TESTFLAGS) ./...) || exit 1; done

# A program with the race detector waits a second at its end, which scripts with hundreds of
# commands would pay each time: 50 ms are enough for a report. Tests that do little but run
# programs one after the other (all scripts and examples, the week, the rehearsals) have been
# run already; here are those of them in which hallmark itself does several things at once.
RACE_SCRIPTS := authority|build|build_sources|trusted_image|bake|log|sign|up|verify_many|admit|policy_eval
race: tools
	@tools/install.sh race
	export GORACE=atexit_sleep_ms=50 CGO_ENABLED=1 && \
	go test -race -timeout 50m $(TEST_AS_ROOT) $$(go list ./... | grep -v -E '/cmd/hallmark$$|/demo$$|/hmtest/(week|interop|workflowrun)$$') && \
	go test -race -timeout 50m -run 'TestScripts/($(RACE_SCRIPTS))$$' $(TEST_AS_ROOT) ./cmd/hallmark && \
	cd deploy && go test -race -timeout 50m ./...

lint:
	@tools/install.sh lint
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$unformatted" ] || { echo "not gofmt'ed: $$unformatted"; exit 1; }
	go vet ./...
	$(HALLMARK_TOOLS)/staticcheck ./...
	$(HALLMARK_TOOLS)/actionlint
	GOOS=darwin GOARCH=arm64 go build -o /dev/null ./cmd/... # compiles on a Mac, where nothing is run
	@for m in $(MODULES); do (cd $$m && $(HALLMARK_TOOLS)/staticcheck ./...) || exit 1; done

# A short fuzz of every target: FUZZTIME each. Go's coordinator may take the end of that
# time for a failure when the machine is busy (golang/go#75804, mended in Go 1.27): such a
# run, which names no input, is done again.
FUZZTIME ?= 5s
fuzz:
	@for m in . $(MODULES); do cd $(CURDIR)/$$m && for p in $$(go list ./...); do \
		for f in $$(go test -list '^Fuzz' $$p | grep '^Fuzz'); do \
			for try in 1 2 3; do \
				echo "fuzz $$p $$f"; \
				out=$$(go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$p 2>&1); rc=$$?; printf '%s\n' "$$out"; \
				[ $$rc != 0 ] || break; \
				[[ "$$out" == *'    context deadline exceeded'* && "$$out" != *'Failing input written'* ]] || exit 1; \
			done; \
			[ $$rc = 0 ] || exit 1; \
		done; \
	done; done

bench: build
	@tools/install.sh bench
	@go build -trimpath -o bin/bench ./bench
	@$(if $(ORACLE),cd $(ORACLE) && go build -trimpath -o $(CURDIR)/bin/verifybench ./cmd/verifybench)
	@bin/bench -hallmark bin/hallmark -hallmark-verify bin/hallmark-verify -cosign $(HALLMARK_TOOLS)/cosign -distribution $(HALLMARK_TOOLS)/registry \
		-rekor $(HALLMARK_TOOLS)/rekor-server -fulcio $(HALLMARK_TOOLS)/fulcio -timestamp-server $(HALLMARK_TOOLS)/timestamp-server -buildx $(HALLMARK_TOOLS)/buildx
	@$(if $(ORACLE),echo; bin/verifybench)
	@echo; cd test/buildx && go test -run '^$$' -bench 'Decision|Builds' .

tools:
	@tools/install.sh demo test

clean:
	rm -rf bin .hallmark
