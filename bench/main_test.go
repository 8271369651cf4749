package main

// Tests of the command: what it prints and writes, and how it fails.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// fakes are two measures that work and one that fails.
func fakes() []measure {
	return []measure{
		{"compared", func(_ context.Context, s setting) ([]Result, error) {
			rounds := slices.Repeat([]float64{1.5}, s.rounds)
			return []Result{newResult("compared", "x", rounds).against("limit", []float64{3})}, nil
		}},
		{"broken", func(context.Context, setting) ([]Result, error) { return nil, errors.New("no such thing") }},
		{"alone", func(_ context.Context, s setting) ([]Result, error) {
			if err := os.WriteFile(filepath.Join(s.dir, "scratch"), nil, 0o600); err != nil {
				return nil, err
			}
			return []Result{newResult("alone.size", "MB", []float64{1234})}, nil
		}},
	}
}

// bench runs the command with the fakes and returns its status, its two outputs and the rows of results.json.
func bench(t *testing.T, args ...string) (status int, stdout, stderr string, rows []map[string]any) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "results")
	var o, e bytes.Buffer
	status = run(context.Background(), append([]string{"-out", out}, args...), fakes(), &o, &e)
	data, err := os.ReadFile(filepath.Join(out, "results.json"))
	if err == nil {
		if err := json.Unmarshal(data, &rows); err != nil {
			t.Fatalf("results.json is not a list of objects: %v", err)
		}
	}
	return status, o.String(), e.String(), rows
}

func TestResultsHaveEveryKeyAndNullForNoPeer(t *testing.T) {
	t.Parallel()
	status, stdout, stderr, rows := bench(t, "-only", "compared,alone", "-rounds", "4")
	if status != 0 || len(rows) != 2 {
		t.Fatalf("status %d, %d rows, %s", status, len(rows), stderr)
	}
	want := []string{"id", "max", "min", "peer", "peer_value", "ratio", "rounds", "unit", "value"}
	for _, row := range rows {
		var keys []string
		for k := range row {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		if !slices.Equal(keys, want) {
			t.Errorf("the keys are %v, want %v", keys, want)
		}
	}
	if r := rows[0]; r["id"] != "compared" || r["value"] != 1.5 || r["peer_value"] != 3. || r["ratio"] != .5 || r["rounds"] != 4. {
		t.Errorf("got %v", r)
	}
	if r := rows[1]; r["peer"] != "" || r["peer_value"] != nil || r["ratio"] != nil {
		t.Errorf("a row without a peer compares: %v", r)
	}
	for _, part := range []string{"machine: ", "load before: ", "compared", "limit", "alone.size", "1234"} {
		if !strings.Contains(stdout, part) {
			t.Errorf("the output lacks %q:\n%s", part, stdout)
		}
	}
}

func TestAFailedMeasureKeepsTheOthersAndFailsTheRun(t *testing.T) {
	t.Parallel()
	status, _, stderr, rows := bench(t)
	if status != 1 || !strings.Contains(stderr, "broken could not be measured: no such thing") {
		t.Errorf("status %d: %s", status, stderr)
	}
	if len(rows) != 2 || rows[0]["rounds"] != 5. {
		t.Errorf("want the other two, in five rounds: %v", rows)
	}
}

func TestNothingMeasuredIsAnEmptyList(t *testing.T) {
	t.Parallel()
	if _, _, _, rows := bench(t, "-only", "broken"); rows == nil || len(rows) != 0 {
		t.Errorf("got %v, want an empty list", rows)
	}
}

func TestWrongUsageRunsNothing(t *testing.T) {
	t.Parallel()
	for sentence, args := range map[string][]string{
		`there is no measure "x"; choose from compared, broken, alone`: {"-only", "compared,x"},
		"0 rounds are not possible: use 1 to 1000":                     {"-rounds", "0"},
		`bench takes flags only, not "alone"`:                          {"alone"},
		`invalid value "many" for flag -rounds`:                        {"-rounds", "many"},
	} {
		status, _, stderr, rows := bench(t, args...)
		if status != 2 || rows != nil || !strings.Contains(stderr, sentence) {
			t.Errorf("%v: status %d, %v, %s", args, status, rows, stderr)
		}
	}
}

func TestAFolderThatCannotBeMadeIsNamed(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	status := run(context.Background(), []string{"-only", "alone", "-out", filepath.Join(file, "below")}, fakes(), &stdout, &stderr)
	if status != 1 || !strings.Contains(stderr.String(), file) || !strings.Contains(stdout.String(), "alone.size") {
		t.Errorf("status %d: %s%s", status, &stdout, &stderr)
	}
}

func TestFiguresShowThreeDigits(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{2.0729: "2.07", 35.71: "35.7", 0.11234: "0.112", 1234.6: "1235"} {
		if got := figure(&v); got != want {
			t.Errorf("%v is shown as %s, want %s", v, got, want)
		}
	}
}

func TestTheMachineIsDescribedAndGapsAreNamed(t *testing.T) {
	t.Parallel()
	if got := machine(context.Background()); !strings.Contains(got, "go1.") || !strings.Contains(got, "cores") {
		t.Errorf("got %q", got)
	}
	if got := first(`(?m)^model name\s*: (.+)$`, "vendor_id\t: A\nmodel name\t: B 7\n"); got != "B 7" {
		t.Errorf("got %q", got)
	}
	if got := first("x(y)", fileText(filepath.Join(t.TempDir(), "missing"))); got != unknown {
		t.Errorf("got %q", got)
	}
}
