// train_lora without a trainer: the pictures made into a training set that LoRA
// trainers take, and said so.

package gpu

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"io"
	"os"
	"path/filepath"

	"github.com/myspinbot/myspinbot/events"
)

const (
	maxTrainingImages = 60
	advisedImages     = 10
	trainingSide      = 1024 // pixels, at most
	trainingLeast     = 512  // pixels, at least
	trainingSource    = 256  // pixels that a picture's shorter side must have
	trainingCaption   = "a photo of the person"
)

// trainingSet prepares sets.
type trainingSet struct{}

// Capability implements engine. The work is done in Go and needs nothing else.
func (trainingSet) Capability(context.Context) (events.TaskCapability, *events.TaskGap) {
	return events.TaskCapability{Task: "train_lora", Lane: events.LaneTrain, Engine: "dataset", Version: "1", Fidelity: events.FidelityPrepared, Builtin: true}, nil
}

// setDescription is the set's metadata.json.
type setDescription struct {
	Images    int    `json:"images"`
	Caption   string `json:"caption"`
	MaxSteps  int    `json:"max_steps"`
	Rank      int    `json:"rank"`
	Scheduler string `json:"scheduler"`
	Note      string `json:"note"`
}

// Run implements engine: images in, lora out: a ZIP with NNNN.jpg (square, 512
// to 1024 pixels), NNNN.txt with its caption, and metadata.json.
func (t trainingSet) Run(ctx context.Context, a *Attempt) (*Output, error) {
	steps, err := a.span("max_steps", 1, 10000, 800)
	if err != nil {
		return nil, err
	}
	rank, err := a.span("rank", 1, 256, 16)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(a.Dir, "training-set.zip")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot write the training set: %w", err)
	}
	defer file.Close()
	archive := zip.NewWriter(file)
	kept, notes, err := t.add(ctx, a, func(name string, content []byte) error {
		method := zip.Deflate
		if filepath.Ext(name) == ".jpg" {
			method = zip.Store
		}
		return addFile(archive, name, method, content)
	}, "no LoRA was trained, because no trainer is connected")
	if err != nil {
		return nil, err
	}
	description, err := json.MarshalIndent(setDescription{Images: kept, Caption: trainingCaption, MaxSteps: int(steps), Rank: int(rank),
		Scheduler: a.text("scheduler", "cosine"), Note: "a prepared training set; no weights were trained"}, "", "  ")
	if err == nil {
		err = addFile(archive, "metadata.json", zip.Deflate, description)
	}
	if closeErr := archive.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, fmt.Errorf("cannot write the training set: %w", err)
	}
	return &Output{
		Files:    map[string][]File{"lora": {{Path: path, Artifact: events.Artifact{Name: "training-set.zip", Type: "dataset", MediaType: "application/zip"}}}},
		Fidelity: events.FidelityPrepared, Engine: "dataset", Version: "1", Notes: notes,
	}, nil
}

// add puts the usable pictures and their captions somewhere, one at a time in memory.
// What it leaves out stands in the notes, with what became of the set; when nothing is
// left, that is an error.
func (trainingSet) add(ctx context.Context, a *Attempt, put func(name string, content []byte) error, became string) (kept int, notes []string, err error) {
	images := a.Files["images"]
	if len(images) == 0 || len(images) > maxTrainingImages {
		return 0, nil, &TaskError{Class: events.ClassInvalidInput, Message: fmt.Sprintf("there are %d training pictures", len(images)), Hint: fmt.Sprintf("give 1 to %d pictures", maxTrainingImages)}
	}
	seen := map[[32]byte]bool{}
	var doubles, small int
	var refusal *TaskError
	refused := 0
	for i, in := range images {
		if err := ctx.Err(); err != nil {
			return 0, nil, fmt.Errorf("preparing the training set was stopped: %w", err)
		}
		photo, err := loadPicture(in.Path)
		if errors.As(err, &refusal) {
			refused++
			continue
		}
		if err != nil {
			return 0, nil, err
		}
		square := trainingSquare(photo)
		if square == nil {
			small++
			continue
		}
		if digest := sha256.Sum256(square.Pix); seen[digest] {
			doubles++
			continue
		} else {
			seen[digest] = true
		}
		kept++
		if err := addPicture(put, kept, square); err != nil {
			return 0, nil, fmt.Errorf("cannot write the training set: %w", err)
		}
		a.report(95*float64(i+1)/float64(len(images)), "preparing pictures")
	}
	if kept == 0 && refusal != nil {
		return 0, nil, refusal
	}
	if kept == 0 {
		return 0, nil, &TaskError{Class: events.ClassInvalidInput, Message: fmt.Sprintf("no training picture is at least %d pixels wide and high", trainingSource), Hint: "upload larger pictures"}
	}
	return kept, setNotes(kept, doubles, small, refused, became), nil
}

func setNotes(kept, doubles, small, refused int, became string) []string {
	notes := []string{fmt.Sprintf("a training set of %d pictures was prepared; %s", kept, became)}
	for _, n := range []struct {
		count int
		what  string
	}{
		{doubles, "were the same as others and left out"}, {refused, "were refused: damaged, too large, or no JPEG, PNG or WebP"},
		{small, fmt.Sprintf("were smaller than %d pixels and left out", trainingSource)},
	} {
		if n.count > 0 {
			notes = append(notes, fmt.Sprintf("%d pictures %s", n.count, n.what))
		}
	}
	if kept < advisedImages {
		notes = append(notes, fmt.Sprintf("%d or more different pictures are advised", advisedImages))
	}
	return notes
}

// trainingSquare crops and scales a photo; nil says that it is too small.
func trainingSquare(photo *image.RGBA) *image.RGBA {
	crop := frameCrop(photo.Rect.Dx(), photo.Rect.Dy(), 1, 1)
	if crop.Dx() < trainingSource {
		return nil
	}
	side := max(trainingLeast, min(trainingSide, crop.Dx()/64*64)) // trainers work in blocks of 64 pixels
	return scaleCrop(photo, crop, side, side)
}

func addPicture(put func(name string, content []byte) error, n int, img image.Image) error {
	var encoded bytes.Buffer
	if err := jpeg.Encode(&encoded, img, &jpeg.Options{Quality: 95}); err != nil {
		return err
	}
	if err := put(fmt.Sprintf("%04d.jpg", n), encoded.Bytes()); err != nil {
		return err
	}
	return put(fmt.Sprintf("%04d.txt", n), []byte(trainingCaption+"\n"))
}

// addFile keeps times out of the archive, so that equal pictures give equal bytes.
func addFile(archive *zip.Writer, name string, method uint16, content []byte) error {
	w, err := archive.CreateHeader(&zip.FileHeader{Name: name, Method: method})
	if err != nil {
		return err
	}
	_, err = io.Copy(w, bytes.NewReader(content))
	return err
}
