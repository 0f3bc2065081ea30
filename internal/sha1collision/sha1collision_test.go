package sha1collision_test

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // what is attacked
	"math/rand/v2"
	"os"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/sha1collision"
)

func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestPublishedCollisions: both pairs that researchers published (shattered.io, 2017: an
// identical prefix; sha-mbles.github.io, 2020: a chosen one), whatever follows them.
func TestPublishedCollisions(t *testing.T) {
	t.Parallel()
	for _, pair := range [][2]string{{"shattered-1", "shattered-2"}, {"sha-mbles-1", "sha-mbles-2"}} {
		one, other := read(t, pair[0]), read(t, pair[1])
		if bytes.Equal(one, other) || sha1.Sum(one) != sha1.Sum(other) {
			t.Fatal(pair, "is no collision")
		}
		for _, message := range [][]byte{one, other} {
			if !sha1collision.Attacked(message) || !sha1collision.Attacked(message, []byte("and more of it")) || !sha1collision.Attacked(message[:100], message[100:]) {
				t.Error(pair, "is not seen")
			}
			// Behind another prefix it collides with nothing, and is not one.
			if sha1collision.Attacked([]byte("blob 320\x00"), message) {
				t.Error(pair, "is seen where it is none")
			}
			changed := bytes.Clone(message)
			changed[len(changed)-1] ^= 0x80
			if sha1collision.Attacked(changed) {
				t.Error(pair, "is seen after it was changed")
			}
		}
	}
}

func TestHonest(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for size := range 300 {
		message := make([]byte, size)
		for i := range message {
			message[i] = byte(random.Uint32())
		}
		if sha1collision.Attacked(message) {
			t.Errorf("%x", message)
		}
	}
	if sha1collision.Attacked() || sha1collision.Attacked(make([]byte, 1<<16)) {
		t.Error("nothing, or zeros")
	}
}

func BenchmarkAttacked(b *testing.B) {
	message := make([]byte, 1024)
	b.SetBytes(int64(len(message)))
	for b.Loop() {
		sha1collision.Attacked(message)
	}
}
