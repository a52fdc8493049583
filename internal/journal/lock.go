package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/lockkeeper/lockkeeper"
)

// A Lock is one process's hold on a data folder. The kernel lets go of it when
// the process ends, however it ends.
type Lock struct{ file *os.File }

// LockFolder makes the folder if there is none (mode 0700) and takes it for
// this process. It refuses a folder that another process holds (Conflict
// folder_in_use) or that cannot be written (Unavailable folder_unusable).
func LockFolder(dir string) (*Lock, error) {
	unusable := func(err error) error {
		return lockkeeper.Unavailable.Errorf("folder_unusable", "The data folder %s cannot be used: %v.", dir, err).
			WithNext("Name a folder that this account can write to.").WithField(dir).WithCause(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, unusable(err)
	}
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, unusable(err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(file.Name())
		file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, lockkeeper.Conflict.Errorf("folder_in_use", "Another server (process %s) uses the data folder %s.", strings.TrimSpace(string(holder)), dir).
				WithNext("Stop it, or name another folder.").WithField(dir)
		}
		return nil, unusable(err)
	}
	// Who holds it is for people only, so a failure to write it down is none.
	if err := file.Truncate(0); err == nil {
		fmt.Fprintf(file, "%d\n", os.Getpid())
	}
	return &Lock{file}, nil
}

// Release lets go of the folder.
func (l *Lock) Release() error { return l.file.Close() }
