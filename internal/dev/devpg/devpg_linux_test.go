package devpg

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/fusionspim/steward/internal/infra/pgprograms"
)

// TestAsRootWithoutCapabilities repeats the tests as a root that may not become anybody else, as in
// a container without capabilities: a user namespace with no other number than root's. Where the
// machine forbids user namespaces there is only the refusal to be tested.
func TestAsRootWithoutCapabilities(t *testing.T) {
	t.Parallel()
	account, err := unprivilegedAccount()
	if err != nil {
		t.Fatal(err)
	}
	attributes := &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}
	probe := exec.Command("true")
	probe.SysProcAttr = attributes
	if err := probe.Run(); err != nil {
		t.Logf("no user namespaces here: %v", err)
		found, errFind := pgprograms.Machine().First()
		if errFind != nil {
			t.Fatal(errFind)
		}
		account.manner = mapped
		if account.try(t.Context(), found, "/") == nil {
			t.Error("a user namespace was to be had after all")
		}
		return
	}
	repeat(t, account, attributes)
}

func TestCommandLineOfAnEndedProcess(t *testing.T) {
	t.Parallel()
	ended := exec.Command("true")
	if err := ended.Start(); err != nil {
		t.Fatal(err)
	}
	var line string
	for {
		var err error
		if line, err = commandLine(ended.Process.Pid); err != nil || line == "" || !strings.Contains(line, "true") {
			break
		}
	}
	// a zombie: nobody has waited for it
	if state, err := stateOf(ended.Process.Pid, "/data"); state != stranger || err != nil {
		t.Errorf("state %d, %v", state, err)
	}
	if err := ended.Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := commandLine(ended.Process.Pid); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("commandLine gave %v, want os.ErrNotExist", err)
	}
}
