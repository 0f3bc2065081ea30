package dockerd

import (
	"os"
	"os/exec"
	"regexp"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/hmtest"
	"github.com/hallmark-dev/hallmark/internal/hmtest/testimage"
)

// rootfs is a layer with BuildKit's programs, and runc with the libraries that it is linked to.
func rootfs(t testing.TB) []byte {
	t.Helper()
	runc, err := exec.LookPath("runc")
	if err != nil {
		runc = "/usr/sbin/runc"
	}
	files := []testimage.File{{Path: "etc/"}, {Path: "run/"}, {Path: "var/"}, {Path: "tmp/", Mode: 0o1777}}
	add := func(from, to string) {
		t.Helper()
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, testimage.File{Path: to, Data: data, Mode: 0o755})
	}
	add(hmtest.Tool(t, "buildkitd"), "bin/buildkitd")
	add(hmtest.Tool(t, "buildctl"), "bin/buildctl")
	add(runc, "bin/runc")
	libraries, _ := exec.Command("ldd", runc).Output() // of a static program ldd says so, and fails
	for _, m := range regexp.MustCompile(`(?m)(/[^ ]+) \(0x`).FindAllStringSubmatch(string(libraries), -1) {
		add(m[1], m[1][1:])
	}
	layer, err := testimage.Tar(files)
	if err != nil {
		t.Fatal(err)
	}
	return layer
}
