package build

import (
	"testing"

	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/apicaps"
	caps "github.com/moby/buildkit/util/apicaps/pb"

	"github.com/hallmark-dev/hallmark/internal/build/sourcegate"
)

// A daemon that does not ask policies, or cannot have steps go through its proxy when a
// policy wants that, does not build.
func TestOldDaemons(t *testing.T) {
	t.Parallel()
	with := func(ids ...apicaps.CapID) apicaps.CapSet {
		var all []*caps.APICap
		for _, id := range ids {
			all = append(all, &caps.APICap{ID: string(id), Enabled: true})
		}
		return pb.Caps.CapSet(all)
	}
	old, asks, proxies := with(pb.CapSourceImage), with(pb.CapSourcePolicySession), with(pb.CapSourcePolicySession, pb.CapExecMetaNetworkProxy)
	for name, c := range map[string]struct {
		gate *sourceGate
		caps apicaps.CapSet
		able bool
	}{
		"no policies":               {nil, old, true},
		"old":                       {&sourceGate{}, old, false},
		"asks":                      {&sourceGate{}, asks, true},
		"asks and has no proxy":     {&sourceGate{proxy: true}, asks, false},
		"asks and has a proxy":      {&sourceGate{proxy: true}, proxies, true},
		"has a proxy, does not ask": {&sourceGate{proxy: true}, with(pb.CapExecMetaNetworkProxy), false},
	} {
		why := c.gate.supported(c.caps)
		if (why == nil) != c.able || why != nil && (why.Code != sourcegate.CodeNotAsked || why.Hint == "") {
			t.Errorf("%s: %+v", name, why)
		}
	}
}
