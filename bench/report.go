package main

// This file writes results: a table for people, JSON for programs.

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"text/tabwriter"
)

// printTable prints one line for each result.
func printTable(w io.Writer, results []Result) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "id\tvalue\tmin … max\tunit\tpeer\tpeer value\tratio\trounds")
	for _, r := range results {
		fmt.Fprintf(t, "%s\t%s\t%s … %s\t%s\t%s\t%s\t%s\t%d\n", r.ID, figure(&r.Value), figure(&r.Min), figure(&r.Max), r.Unit,
			orDash(r.Peer), figure(r.PeerValue), figure(r.Ratio), r.Rounds)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("cannot print the table: %w", err)
	}
	return nil
}

// figure shows three digits, more only before the point.
func figure(v *float64) string {
	switch {
	case v == nil:
		return "–"
	case *v >= 100 || *v <= -100:
		return strconv.FormatFloat(*v, 'f', 0, 64)
	default:
		return strconv.FormatFloat(*v, 'g', 3, 64)
	}
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

// writeResults replaces results.json in the folder, which is made when missing.
func writeResults(folder string, results []Result) error {
	data, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot put the results into JSON: %w", err)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("cannot make the folder of the results: %w", err)
	}
	if err := os.WriteFile(filepath.Join(folder, "results.json"), append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("cannot keep the results: %w", err)
	}
	return nil
}
