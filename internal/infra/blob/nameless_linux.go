package blob

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// nameless opens a file that no folder knows: nothing is left of it if it gets no name, not even by
// a crash, and there is no other name to take away afterwards. The error is errors.ErrUnsupported
// where the file system does not know such files.
func nameless(root string) (*os.File, naming, error) {
	descriptor, err := unix.Open(root, unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	// Kernels and file systems that do not know them take the folder for what is to be opened for
	// writing.
	if err == unix.EISDIR || err == unix.ENOENT || err == unix.EINVAL ||
		err == unix.EOPNOTSUPP { //nolint:errorlint // the system's own numbers
		return nil, naming{}, errors.ErrUnsupported
	}
	if err != nil {
		return nil, naming{}, &os.PathError{Op: "open", Path: root, Err: err}
	}
	by := fmt.Sprintf("/proc/self/fd/%d", descriptor)
	file := os.NewFile(uintptr(descriptor), "an object without a name")
	if _, err := os.Lstat(by); err != nil { // without it the file could never be named
		return nil, naming{}, errors.Join(errors.ErrUnsupported, file.Close())
	}
	return file, naming{
		name: func(target string) error {
			if err := unix.Linkat(unix.AT_FDCWD, by, unix.AT_FDCWD, target, unix.AT_SYMLINK_FOLLOW); err != nil {
				return &os.LinkError{Op: "link", Old: by, New: target, Err: err}
			}
			return nil
		},
		up: file.Close,
	}, nil
}
