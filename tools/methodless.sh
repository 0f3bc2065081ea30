#!/bin/sh
# Prints the flag by which go build makes templates that call no methods, and writes the
# two files for it into the folder that is named.
#
# text/template looks methods up by names that only the template knows. So the linker has to
# keep every exported method of every type, which is 5.2 of the 44.9 MB of hallmark. No
# template in hallmark calls a method, and those in CUE policies work on maps and lists. In
# this build the look-up finds nothing, and a template that calls a method fails.
#
# The file is that of the Go that builds, with this one look-up changed. When it is not there
# exactly once, the build goes on without, larger, and TestMethodless fails.
set -eu
dir=$1
source=$(go list -f '{{.Dir}}' text/template)/exec.go
lookup='ptr\.MethodByName(fieldName)'
if [ "$(grep -c "$lookup" "$source")" != 1 ]; then
	echo "tools/methodless.sh: $source is not as it was known; the binary gets larger, and is otherwise the same" >&2
	exit 0
fi
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
sed "s/$lookup/ptr.MethodByName(\"\")/" "$source" >"$dir/exec.go"
printf '{"Replace": {"%s": "%s"}}\n' "$source" "$dir/exec.go" >"$dir/overlay.json"
echo "-overlay=$dir/overlay.json"
