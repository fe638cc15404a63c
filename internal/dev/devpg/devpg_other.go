//go:build unix && !linux

package devpg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// attributes are those of a child process under this account. Only Linux tells a child of its
// parent's death: elsewhere a server outlives a killed parent until the next Start on its directory
// ends it, see clearRemains.
func (w identity) attributes(syscall.Signal) (*syscall.SysProcAttr, error) {
	attributes := &syscall.SysProcAttr{Setpgid: true}
	switch w.manner {
	case dropped:
		attributes.Credential = &syscall.Credential{Uid: w.uid, Gid: w.gid}
	case mapped:
		return nil, errors.New("only Linux has user namespaces")
	}
	return attributes, nil
}

// commandLine returns what a running process was started with, its words joined by spaces. The
// error matches os.ErrNotExist if there is no such process.
func commandLine(pid int) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	line, err := exec.CommandContext(ctx, "ps", "-ww", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "", fmt.Errorf("no process %d: %w", pid, os.ErrNotExist)
	}
	return strings.TrimSpace(string(line)), err
}

// workingDirectory is not to be had without further programs.
func workingDirectory(int) (string, error) { return "", errors.ErrUnsupported }
