package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The signing policy's gate, whole process, on a repository on this machine. Nobody else
// has one: beside it stands what git takes to verify the tag's one signature.

const garbageApprovals = 10_000

func (b *bench) gates(ctx context.Context) ([]row, error) {
	folder := filepath.Join(b.dir, "gate")
	if err := b.approvedRelease(ctx, folder); err != nil {
		return nil, err
	}
	ours := inFolder(folder, b.hallmark, "gate", "check", "app", "v1.0.0", "--policy", "policy")()
	peer := inFolder(folder, "git", "-C", "app", "-c", "gpg.ssh.allowedSignersFile="+filepath.Join(folder, "allowed"), "verify-tag", "v1.0.0")()
	x, y, err := b.pairs(ctx, 2*b.runs, ours, peer)
	if err != nil {
		return nil, err
	}
	rows := []row{{"gate check, 2 approvals, wall", of(x, wall), of(y, wall), "ms", "<= 60 ms"}}
	if err := flood(ctx, filepath.Join(folder, "app")); err != nil {
		return nil, err
	}
	x, y, err = b.pairs(ctx, b.runs, ours, peer)
	what := fmt.Sprintf("gate check, and %d garbage approvals, ", garbageApprovals)
	return append(rows, row{what + "wall", of(x, wall), of(y, wall), "ms", "<= 2 s"}, row{what + "peak memory", of(x, rss), of(y, rss), "MB", "<= 100 MB"}), err
}

// approvedRelease makes a repository with a release that two people approved.
func (b *bench) approvedRelease(ctx context.Context, folder string) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "sh", "-e", "-c", `
for who in alice bob hsm; do ssh-keygen -q -t ed25519 -N '' -f $who; done
echo "release namespaces=\"git\" $(cat hsm.pub)" > allowed
"$0" signing-policy init policy --person alice=alice.pub --person bob=bob.pub --machine hsm=hsm.pub
git init -q -b main app
git -C app config user.name bench
git -C app config user.email bench@example.com
echo FROM scratch > app/Dockerfile
git -C app add Dockerfile
git -C app commit -qm one
"$0" tag v1.0.0 -C app --key hsm --repository github.com/id/1
"$0" approve v1.0.0 -C app --policy policy --key alice
"$0" approve v1.0.0 -C app --policy policy --key bob
`, b.hallmark)
	cmd.Dir, cmd.Env = folder, b.env
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("making a release: %w\n%s", err, out)
	}
	return nil
}

// flood puts approvals that are none beside the good ones, as whoever can push might.
func flood(ctx context.Context, repo string) error {
	head, err := exec.CommandContext(ctx, "git", "-C", repo, "rev-parse", "HEAD").Output()
	if err != nil {
		return err
	}
	var stream bytes.Buffer
	for i := range garbageApprovals {
		text := fmt.Sprintf(`{"payload":"%064d","payloadType":"application/vnd.in-toto+json","signatures":[{"sig":"AAAA"}]}`, i)
		fmt.Fprintf(&stream, "commit refs/hallmark/approvals/%s/%064x\ncommitter x <x@x> 0 +0000\ndata 0\nM 100644 inline approval.json\ndata %d\n%s\n\n", strings.TrimSpace(string(head)), i+1, len(text), text)
	}
	cmd := exec.CommandContext(ctx, "git", "-C", repo, "fast-import", "--quiet")
	cmd.Stdin = &stream
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("git fast-import: %w\n%s", err, out)
	}
	return nil
}
