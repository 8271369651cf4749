// Running a child of root as an ordinary user, and letting that user reach its files.

package devstack

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// unprivileged returns the user that root's PostgreSQL runs as: postgres where a package made it,
// else nobody. A number without an entry in the password file is refused by PostgreSQL.
func unprivileged() (*syscall.Credential, string, error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, "", fmt.Errorf("cannot use the user %s: its number is %q", name, u.Uid)
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, "", fmt.Errorf("cannot use the user %s: the number of its group is %q", name, u.Gid)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, name, nil
	}
	return nil, "", errors.New("cannot run PostgreSQL from root: there is neither a user postgres nor a user nobody; start this program as an ordinary user")
}

// openWay sees to it that every user can reach dir. Directories strictly below temp are mere
// scratch space (a test's is made with mode 0700): they get the search permission, which shows no
// names. Elsewhere a closed directory is somebody's decision, and an error.
func openWay(dir, temp string) error {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return fmt.Errorf("%s cannot be resolved: %w", dir, err)
	}
	if temp, err = filepath.EvalSymlinks(temp); err != nil {
		return fmt.Errorf("%s cannot be resolved: %w", temp, err)
	}
	for at := dir; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err != nil {
			return err
		}
		if mode := info.Mode().Perm(); mode&0o001 == 0 {
			if !strings.HasPrefix(at, temp+string(filepath.Separator)) {
				return fmt.Errorf("%s cannot be reached, because %s has mode %04o: use a directory below /var/lib or %s, or start this program as an ordinary user", dir, at, mode, temp)
			}
			if err := os.Chmod(at, mode|0o011); err != nil {
				return fmt.Errorf("%s cannot be opened to other users: %w", at, err)
			}
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}
