package devpg

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// attributes are those of a child process under this account. The kernel sends it the given signal
// when the thread that started it ends, so that thread must stay. The child leads a process group
// of its own: an interrupt from the keyboard is for us, and the server must outlive our own orderly
// end.
func (w identity) attributes(onOurDeath syscall.Signal) (*syscall.SysProcAttr, error) {
	attributes := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: onOurDeath}
	switch w.manner {
	case dropped:
		attributes.Credential = &syscall.Credential{Uid: w.uid, Gid: w.gid}
	case mapped:
		attributes.Cloneflags = syscall.CLONE_NEWUSER
		attributes.UidMappings = []syscall.SysProcIDMap{{ContainerID: int(w.uid), HostID: os.Geteuid(), Size: 1}}
		attributes.GidMappings = []syscall.SysProcIDMap{{ContainerID: int(w.gid), HostID: os.Getegid(), Size: 1}}
	}
	return attributes, nil
}

// commandLine returns what a running process was started with, its words joined by spaces; it is
// empty for a process that has ended and that nobody has waited for. The error matches
// os.ErrNotExist if there is no such process.
func commandLine(pid int) (string, error) {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(bytes.ReplaceAll(line, []byte{0}, []byte{' '}))), nil
}

// workingDirectory returns where a running process stands. A PostgreSQL, with all its processes,
// stands in its data directory.
func workingDirectory(pid int) (string, error) {
	return os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
}
