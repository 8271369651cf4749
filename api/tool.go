// Programs that read what strangers sent: without a shell, without our environment,
// with an end, and with bounds on memory and on what they print.

package api

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	stdoutLimit = 1 << 20     // bytes; more is an error
	stderrTail  = 2 << 10     // bytes kept of what a program complains
	toolAlloc   = "134217728" // bytes that ffmpeg may ask for at once
	toolMemory  = 1 << 30     // bytes of data that a program may have
)

// errTool says that the program ran and did not like its input.
var errTool = errors.New("the program refused the file")

// quietFFmpeg are the arguments that every call of ffmpeg begins with.
func quietFFmpeg() []string {
	return []string{"-nostdin", "-hide_banner", "-v", "error", "-y", "-max_alloc", toolAlloc, "-threads", "1"}
}

// runTool runs ffmpeg or ffprobe and gives what it prints. Its complaints are for the log alone.
func runTool(ctx context.Context, program, dir string, limit time.Duration, args []string) ([]byte, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return nil, &refusal{code: codeToolMissing, detail: "the file cannot be checked: " + filepath.Base(program) + " is not installed on this server", cause: err}
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir, cmd.Env, cmd.WaitDelay = dir, []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + dir, "TMPDIR=" + dir}, time.Second
	out, complaints := &bounded{limit: stdoutLimit}, &tail{limit: stderrTail}
	cmd.Stdout, cmd.Stderr = out, complaints
	err = cmd.Start()
	if err == nil {
		boundMemory(cmd.Process.Pid)
		err = cmd.Wait()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w: %s", errTool, filepath.Base(program), err, strings.ToValidUTF8(string(complaints.kept), "�"))
	}
	return out.kept, nil
}

// bounded keeps what is written, and refuses more than its limit.
type bounded struct {
	kept  []byte
	limit int
}

// Write implements io.Writer.
func (b *bounded) Write(p []byte) (int, error) {
	if len(b.kept)+len(p) > b.limit {
		return 0, fmt.Errorf("it printed more than %d bytes", b.limit)
	}
	b.kept = append(b.kept, p...)
	return len(p), nil
}

// tail keeps the end of what is written.
type tail struct {
	kept  []byte
	limit int
}

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p[max(0, len(p)-t.limit):]...)
	t.kept = t.kept[max(0, len(t.kept)-t.limit):]
	return len(p), nil
}
