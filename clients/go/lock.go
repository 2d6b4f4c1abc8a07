//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package shoreguard

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// tryLock locks an open file with flock, as the command line and the other SDKs do, until the file is closed. It
// returns false if another program has locked it.
func tryLock(file *os.File) (bool, error) {
	err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR) {
		return false, nil
	}
	return err == nil, err
}

// ownerOf returns the user id of the owner of a file.
func ownerOf(info fs.FileInfo) (owner int, ok bool) {
	about, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(about.Uid), true
}
