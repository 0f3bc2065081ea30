package sign

import (
	"time"

	"github.com/hallmark-dev/hallmark/internal/trust"
)

// ServicesFrom picks the services of a signing config that are valid now. The
// CA is left out when a key signs: nothing would ask it.
func ServicesFrom(c *trust.SigningConfig, now time.Time, keyless bool) Services {
	var s Services
	if c == nil {
		return s
	}
	if keyless {
		s.CA, _ = c.CA(now)
	}
	s.Logs, s.TSAs = c.Logs(now), c.TSAs(now)
	return s
}
