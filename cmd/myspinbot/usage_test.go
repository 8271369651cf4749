// Every command tells how it is used.

package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
)

func TestEveryCommandHelps(t *testing.T) {
	t.Parallel()
	for _, c := range commands() {
		for _, args := range [][]string{{"--help"}, {"-h"}} {
			var stdout, stderr bytes.Buffer
			if status := c.run(context.Background(), args, &stdout, &stderr); status != 0 || !strings.Contains(stdout.String()+stderr.String(), "myspinbot "+c.name) {
				t.Errorf("%s %v: status %d, printed %q and %q", c.name, args, status, stdout.String(), stderr.String())
			}
		}
	}
	var stdout, stderr bytes.Buffer
	runDev(context.Background(), []string{"--help"}, &stdout, &stderr)
	if !strings.Contains(stdout.String(), "-data") || !strings.Contains(stdout.String(), "a real Apache Kafka") {
		t.Errorf("dev does not tell its flags: %s", stdout.String())
	}
}

func TestUnknownWords(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args   []string
		status int
		says   string
	}{
		{nil, 2, "usage"}, {[]string{"help"}, 0, "usage"}, {[]string{"dance"}, 2, "dance"}, {[]string{"dev", "now"}, 2, "now"}, {[]string{"job", "show"}, 2, "myspinbot jobs show ID"},
		{[]string{"run", "--roles", "handler"}, 1, "kafka.brokers"}, {[]string{"replay"}, 2, "rebuild"}, {[]string{"log", "head"}, 2, "log tail"},
		{[]string{"deadletters", "burn"}, 2, "discard ID"}, {[]string{"deadletters", "show"}, 2, "show ID"},
		{[]string{"dev", "--log", "paper", "--data", t.TempDir()}, 1, "embedded or kafka"},
	} {
		var stdout, stderr bytes.Buffer
		status := dispatch(context.Background(), c.args, &stdout, &stderr)
		if status != c.status || !strings.Contains(stdout.String()+stderr.String(), c.says) {
			t.Errorf("%v: status %d, %q %q", c.args, status, stdout.String(), stderr.String())
		}
	}
}
