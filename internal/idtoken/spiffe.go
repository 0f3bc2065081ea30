package idtoken

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/hallmark-dev/hallmark/internal/fault"
)

// The SPIFFE Workload API gives a process its JWT-SVID over gRPC on a local
// socket. Only the generated client is used: go-spiffe's own adds trust bundles
// and a second JWT parser that a signer does not need.
func (c *client) onSPIFFE() bool { return c.Env("SPIFFE_ENDPOINT_SOCKET") != "" }

func (c *client) spiffe(ctx context.Context) (string, error) {
	const step = "SPIFFE workload API"
	network, address, err := spiffeAddress(c.Env("SPIFFE_ENDPOINT_SOCKET"))
	if err != nil {
		return "", fault.Usagef("%s: %v", step, err)
	}
	if network == "tcp" {
		if err := c.alone(step); err != nil {
			return "", err
		}
	}
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()), // local by specification, section 3
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}))
	if err != nil {
		return "", fault.Unreachablef("%s: %s: %w", step, address, err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	// SPIFFE Workload Endpoint, section 5: without this header a server must refuse.
	ctx = metadata.AppendToOutgoingContext(ctx, "workload.spiffe.io", "true")
	answer, err := workload.NewSpiffeWorkloadAPIClient(conn).FetchJWTSVID(ctx, &workload.JWTSVIDRequest{Audience: []string{c.ClientID}})
	if err != nil {
		return "", fault.Unreachablef("%s: %s: %w", step, address, err)
	}
	if len(answer.GetSvids()) == 0 {
		return "", fmt.Errorf("%s: %s has no identity for this process", step, address)
	}
	return answer.GetSvids()[0].GetSvid(), nil // the first is the default identity
}

// spiffeAddress reads SPIFFE_ENDPOINT_SOCKET (SPIFFE Workload Endpoint, section 4):
// unix:///path or tcp://IP:port, and the bare path that cosign takes.
func spiffeAddress(socket string) (network, address string, err error) {
	if strings.HasPrefix(socket, "/") {
		return "unix", socket, nil
	}
	u, err := url.Parse(socket)
	if err != nil || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return "", "", errors.New("SPIFFE_ENDPOINT_SOCKET is not unix:///path or tcp://IP:port")
	}
	switch {
	case u.Scheme == "unix" && u.Host == "" && strings.HasPrefix(u.Path, "/"):
		return "unix", u.Path, nil
	case u.Scheme == "tcp" && u.Path == "":
		if _, err := netip.ParseAddrPort(u.Host); err == nil {
			return "tcp", u.Host, nil
		}
	}
	return "", "", errors.New("SPIFFE_ENDPOINT_SOCKET is not unix:///path or tcp://IP:port")
}
