//go:build !linux

// Where a child's memory cannot be bounded from outside, ffmpeg's own limits remain.

package api

func boundMemory(int) {}
