# Hallmark as an image: the static binary and nothing else.
#
#   docker build .                          builds with the Go image
#   docker build --target prebuilt .        takes bin/hallmark of make build; needs no network
#   docker build --target verifier .        the same with bin/hallmark-verify
#
# GO_IMAGE may be any image with Go; its environment (GOPROXY and so on) is used.
ARG GO_IMAGE=golang:1.26

FROM ${GO_IMAGE} AS build
WORKDIR /src
COPY . .
ARG VERSION=dev
ENV CGO_ENABLED=0 GOMODCACHE=/cache/mod GOCACHE=/cache/build
RUN --mount=type=cache,target=/cache go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=${VERSION}" -o /out/hallmark ./cmd/hallmark

FROM scratch AS prebuilt
COPY bin/hallmark /hallmark
USER 65534:65534
ENTRYPOINT ["/hallmark"]

FROM scratch AS verifier
COPY bin/hallmark-verify /hallmark-verify
USER 65534:65534
ENTRYPOINT ["/hallmark-verify"]

FROM scratch
COPY --from=build /out/hallmark /hallmark
USER 65534:65534
ENTRYPOINT ["/hallmark"]
