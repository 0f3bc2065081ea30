package registry_test

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/authority/registry"
	"github.com/hallmark-dev/hallmark/internal/hmtest/smalldisk"
)

// TestLossyDisk: a blob of which the disk loses something, while the rest is still coming or
// at the end, is not acknowledged.
func TestLossyDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("only root can mount a disk that loses what it takes: make test asks sudo")
	}
	t.Parallel()
	c := start(t, smalldisk.MountLossy(t, 32<<20), registry.Config{})
	for _, size := range []int64{1 << 20, 48 << 20} {
		h := sha256.New()
		if _, err := io.Copy(h, &zeros{left: size}); err != nil {
			t.Fatal(err)
		}
		digest := "sha256:" + hex.EncodeToString(h.Sum(nil))
		w := httptest.NewRecorder()
		c.srv.ServeHTTP(w, httptest.NewRequest("POST", "/v2/app/blobs/uploads/?digest="+digest, &zeros{left: size}))
		fits := size == 1<<20
		if fits != (w.Code == 201) || !fits && w.Code != 500 && w.Code != 507 { // the kernel says why as it likes
			t.Errorf("%d bytes: %d %s", size, w.Code, w.Body)
		}
		if r := c.do("HEAD", "/v2/app/blobs/"+digest, "", ""); fits != (r.status == 200) {
			t.Errorf("%d bytes: HEAD says %d", size, r.status)
		}
	}
}
