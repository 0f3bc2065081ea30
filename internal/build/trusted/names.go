package trusted

// Names reports whether the file names what another machine ran: the very program, or,
// where exact is not asked for, a release of BuildKit, whatever its digest on that machine is.
func (b *Builder) Names(tool Tool, exact bool) bool {
	list := b.BuildKit
	switch {
	case tool.Name == "runc" && !exact: // of the machine's system, which the workflow does not choose
		return true
	case tool.Name == "runc":
		list = b.Runc
	case tool.Name != "buildkitd":
		return false
	}
	for i := range list {
		if list[i].Version == tool.Version && (!exact || list[i].SHA256 == tool.SHA256) {
			return true
		}
	}
	return false
}
