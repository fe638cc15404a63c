package devpg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
	"time"

	"github.com/fusionspim/steward/internal/infra/pgprograms"
)

// manner is how the server comes to run under an account other than root.
type manner int

const (
	direct  manner = iota // as we are, being an ordinary user
	dropped               // we are root and the server becomes another account
	// we are root in name only: inside a user namespace our number looks like another account's
	mapped
)

// identity is the account that the server runs under. uid and gid are what the server sees itself
// as.
type identity struct {
	manner   manner
	name     string
	uid, gid uint32
}

// owner returns to whom the server's files belong, as seen from outside.
func (w identity) owner() (uid, gid int) {
	if w.manner == dropped {
		return int(w.uid), int(w.gid)
	}
	return os.Geteuid(), os.Getegid()
}

// give hands a directory of the server's own to its account.
func (w identity) give(path string) error {
	if w.manner != dropped {
		return nil
	}
	uid, gid := w.owner()
	return os.Lchown(path, uid, gid)
}

// chooseIdentity finds out under which account the server can run. Whether root may become another
// account depends on capabilities, user namespaces and security modules, so it is tried out rather
// than computed.
func chooseIdentity(ctx context.Context, p pgprograms.Programs) (identity, error) {
	if os.Geteuid() != 0 {
		return identity{manner: direct, uid: uint32(os.Geteuid()), gid: uint32(os.Getegid())}, nil
	}
	account, err := unprivilegedAccount()
	if err != nil {
		return identity{}, err
	}
	account.manner = dropped
	errDrop := account.try(ctx, p, "/")
	if errDrop == nil {
		return account, nil
	}
	// says nothing about what is allowed
	if errors.Is(errDrop, context.DeadlineExceeded) || errors.Is(errDrop, context.Canceled) {
		return identity{}, errDrop
	}
	if errors.Is(errDrop, syscall.EACCES) { // the change of account itself worked
		return identity{}, fmt.Errorf(
			"the account %s, as which PostgreSQL would run, may not execute it: %w",
			account.name,
			errDrop,
		)
	}
	account.manner = mapped
	errMap := account.try(ctx, p, "/")
	if errMap == nil {
		return account, nil
	}
	return identity{}, fmt.Errorf(
		"PostgreSQL refuses to run as root, and this process can neither become %s (%w) nor make a user namespace "+
			"(%w): start it as an ordinary user",
		account.name,
		errDrop,
		errMap,
	)
}

// try runs a harmless program under the account, standing in the given directory. The error matches
// EACCES where the account can't get to the program or into the directory; EPERM, EINVAL and others
// where the account itself can't be had; and the context's where that has ended.
func (w identity) try(ctx context.Context, p pgprograms.Programs, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	attributes, err := w.attributes(0)
	if err != nil {
		return err
	}
	command := exec.CommandContext(ctx, p.Path("postgres"), "--version")
	command.SysProcAttr = attributes
	command.Dir = dir
	command.Env = pgprograms.Environment()
	command.WaitDelay = time.Second
	if err := command.Run(); err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	return nil
}

// unprivilegedAccount returns the account that takes root's place. It must be one that the machine
// knows by name: initdb asks for it.
func unprivilegedAccount() (identity, error) {
	for _, name := range []string{"postgres", "_postgres", "nobody"} {
		account, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := parseID(account.Uid)
		gid, errGID := parseID(account.Gid)
		if errUID == nil && errGID == nil && uid != 0 {
			return identity{name: name, uid: uid, gid: gid}, nil
		}
	}
	return identity{}, errors.New(
		"PostgreSQL refuses to run as root, and there is neither an account postgres nor nobody to run it as: " +
			"start it as an ordinary user",
	)
}

// parseID reads a user's or group's number. macOS writes that of nobody as -2.
func parseID(text string) (uint32, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	return uint32(n), err
}
