//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package shoreguard

import (
	"errors"
	"io/fs"
	"os"
)

// tryLock fails: this system has no flock, so that other programs could use the same refresh token.
func tryLock(*os.File) (bool, error) {
	return false, errors.New("a stored session cannot be refreshed on this system: use an API key")
}

// ownerOf says nothing: this system has no user ids.
func ownerOf(fs.FileInfo) (owner int, ok bool) {
	return 0, false
}
