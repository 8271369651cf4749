// What was measured of attempts, kept for later processes: a file beside the account of the
// card, whose workers all read and write it.

package gpu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	peaksFile = "peaks.json"
	// mostPeaks bounds the file: models come and go. Those that were written last stay.
	mostPeaks = 1000
	peaksTime = 2 * time.Second // for the others to let go of it
)

// keptPeak is one entry of the file.
type keptPeak struct {
	Task       string `json:"task"`
	Engine     string `json:"engine"`
	Model      string `json:"model,omitempty"`
	Resolution string `json:"resolution,omitempty"`
	MiB        int    `json:"mib"`
	Own        bool   `json:"own,omitempty"` // told by the engine's server
}

func (k keptPeak) of() peakOf { return peakOf{k.Task, k.Engine, k.Model, k.Resolution} }

// readPeaks reads what is kept in the account's folder; nothing where there is no file, or
// beside an error.
func readPeaks(folder string) (map[peakOf]peak, error) {
	kept, err := keptPeaks(folder)
	peaks := map[peakOf]peak{}
	for _, k := range kept {
		if k.MiB > 0 && k.MiB < 1<<24 {
			peaks[k.of()] = peak{k.MiB, k.Own}
		}
	}
	return peaks, err
}

func keptPeaks(folder string) (kept []keptPeak, err error) {
	path := filepath.Join(folder, peaksFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &kept)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read %s; remove it if it is damaged: %w", path, err)
	}
	return kept, nil
}

// keepPeak writes one down. A reader sees the file as it was before or is afterwards.
func keepPeak(folder string, of peakOf, p peak) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), peaksTime)
	defer cancel()
	release, err := machineLock{filepath.Join(folder, peaksFile+".lock")}.hold(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	kept, err := keptPeaks(folder)
	if err != nil {
		kept = nil // it is damaged, and what is measured from now on is worth more
	}
	k := keptPeak{of.task, of.engine, of.model, of.resolution, p.MiB, p.Own}
	for _, other := range kept { // of another worker
		if other.of() == of && !p.Own && !other.Own {
			k.MiB = max(k.MiB, other.MiB)
		}
	}
	kept = append(slices.DeleteFunc(kept, func(other keptPeak) bool { return other.of() == of }), k)
	text, err := json.MarshalIndent(kept[max(0, len(kept)-mostPeaks):], "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(folder, peaksFile), text)
}

// replaceFile writes a whole file in the place of another.
func replaceFile(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), strings.TrimSuffix(filepath.Base(path), ".json")+"-*.new")
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
