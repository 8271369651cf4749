package main

// This file tells what the figures were measured on. What a system does not tell is "unknown".

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"time"
)

const unknown = "unknown"

// machine describes processor, memory and versions, one a line.
func machine(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	release, err := exec.CommandContext(ctx, "uname", "-sr").Output()
	if err != nil {
		release = []byte(runtime.GOOS)
	}
	ffmpeg, err := exec.CommandContext(ctx, "ffmpeg", "-version").Output()
	if err != nil {
		ffmpeg = nil
	}
	return fmt.Sprintf("machine: %s, %d cores, %s of memory\nsystem:  %s, %s, ffmpeg %s\n",
		first(`(?m)^model name\s*: (.+)$`, fileText("/proc/cpuinfo")), runtime.NumCPU(), first(`(?m)^MemTotal:\s*(.+)$`, fileText("/proc/meminfo")),
		strings.TrimSpace(string(release)), runtime.Version(), first(`^ffmpeg version (\S+)`, string(ffmpeg)))
}

// loadAverage is the number of processes that wanted a processor in the last 1, 5 and 15 minutes.
func loadAverage() string { return first(`^(\S+ \S+ \S+)`, fileText("/proc/loadavg")) }

// first is what the pattern's group catches in the text.
func first(pattern, text string) string {
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		return unknown
	}
	return m[1]
}

// fileText is the content of a file that need not exist.
func fileText(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(data)
}
