//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package shoreguard

import (
	"errors"
	"os"
)

// tryLock fails: this system has no flock, so that other programs could use the same refresh token.
func tryLock(*os.File) (bool, error) {
	return false, errors.New("a stored session cannot be refreshed on this system: use an API key")
}
