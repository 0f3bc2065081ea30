# Hallmark as an image: the static binary, and the CAs by which it believes HTTPS.
#
#   docker build .                          builds with the Go image
#   docker build --target prebuilt .        takes bin/hallmark of make build
#   docker build --target verifier .        the same with bin/hallmark-verify
#
# GO_IMAGE may be any image with Go and with etc/ssl/certs/ca-certificates.crt, where Debian and
# Alpine have it; its environment (GOPROXY and so on) is used. Other CAs are those of a folder
# with that file, and a binary that is there needs no network then:
#
#   docker build --target prebuilt --build-context roots=FOLDER .
ARG GO_IMAGE=golang:1.26

FROM ${GO_IMAGE} AS roots

FROM ${GO_IMAGE} AS build
WORKDIR /src
COPY . .
ARG VERSION=dev
ENV CGO_ENABLED=0 GOMODCACHE=/cache/mod GOCACHE=/cache/build
RUN --mount=type=cache,target=/cache go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=${VERSION}" -o /out/hallmark ./cmd/hallmark

FROM scratch AS prebuilt
COPY --from=roots /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY bin/hallmark /hallmark
USER 65534:65534
ENTRYPOINT ["/hallmark"]

FROM scratch AS verifier
COPY --from=roots /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY bin/hallmark-verify /hallmark-verify
USER 65534:65534
ENTRYPOINT ["/hallmark-verify"]

FROM scratch
COPY --from=roots /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/hallmark /hallmark
USER 65534:65534
ENTRYPOINT ["/hallmark"]
