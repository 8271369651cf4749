package talkingphoto

// This file reads the weights of the two face networks and refuses anything
// that is not exactly what the networks need.

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// weight is one de-quantised parameter.
type weight struct {
	shape []int
	data  []float32
}

// FaceModel holds the weights of the face detector and of the landmark network.
// It is immutable after LoadFaceModel and safe for concurrent use.
type FaceModel struct {
	detector  map[string]weight
	landmarks map[string]weight
}

const (
	detectorName = "tiny_face_detector_model"
	landmarkName = "face_landmark_68_model"
	weightsHelp  = `run "make deps" or set engines.face.weights to the folder that holds it`
)

// pins are the SHA-256 sums of the files in the npm package
// @vladmandic/face-api 1.7.15 (MIT), folder model/.
var pins = map[string]string{
	detectorName + "-weights_manifest.json": "5d1af4849ac48d5b985f4a9b16010c512353ddd6fcc63d50fd0bc9e9e64296e5",
	detectorName + ".bin":                   "b7503ce7df31039b1c43316a9b865cab6a70dd748cc602d3fa28b551503c3871",
	landmarkName + "-weights_manifest.json": "ca4886639f86e99b39fed0c155f81b63317225773bd9616716e887b0153389c9",
	landmarkName + ".bin":                   "4611ef65c87d836d03d684b30eec4d195d8b219fa1dd58fc58945831c6b9299b",
}

// LoadFaceModel reads the two networks from dir, which holds the manifest and
// the .bin file of each, without sub-folders. Every file must have the pinned
// SHA-256 sum; a missing, truncated or foreign file is named in the error
// together with what to do about it.
func LoadFaceModel(dir string) (*FaceModel, error) { return loadFaceModel(dir, pins) }

// loadFaceModel checks the sums of sums; nil checks shapes and lengths alone.
func loadFaceModel(dir string, sums map[string]string) (*FaceModel, error) {
	detector, err := loadNetwork(dir, detectorName, detectorShapes(), sums)
	if err != nil {
		return nil, err
	}
	landmarks, err := loadNetwork(dir, landmarkName, landmarkShapes(), sums)
	if err != nil {
		return nil, err
	}
	return &FaceModel{detector: detector, landmarks: landmarks}, nil
}

// manifestGroup is the part of a TensorFlow.js weights manifest that is used.
type manifestGroup struct {
	Weights []struct {
		Name         string `json:"name"`
		Shape        []int  `json:"shape"`
		Quantization *struct {
			Dtype string  `json:"dtype"`
			Scale float64 `json:"scale"`
			Min   float64 `json:"min"`
		} `json:"quantization"`
	} `json:"weights"`
}

func loadNetwork(dir, name string, want map[string][]int, sums map[string]string) (map[string]weight, error) {
	manifestPath := filepath.Join(dir, name+"-weights_manifest.json")
	manifest, err := readPinned(manifestPath, sums)
	if err != nil {
		return nil, err
	}
	binPath := filepath.Join(dir, name+".bin")
	raw, err := readPinned(binPath, sums)
	if err != nil {
		return nil, err
	}
	var groups []manifestGroup
	if err := json.Unmarshal(manifest, &groups); err != nil {
		return nil, fmt.Errorf("cannot read the face weights: %s is not a weights manifest (%w): %s", manifestPath, err, weightsHelp)
	}
	out := make(map[string]weight, len(want))
	offset := 0
	for _, g := range groups {
		for _, w := range g.Weights {
			shape, known := want[w.Name]
			if !known || !slices.Equal(shape, w.Shape) {
				return nil, fmt.Errorf("cannot read the face weights: %s describes %q with shape %v, which is not of the %s network: %s",
					manifestPath, w.Name, w.Shape, name, weightsHelp)
			}
			if w.Quantization == nil || w.Quantization.Dtype != "uint8" {
				return nil, fmt.Errorf("cannot read the face weights: %q in %s is not quantised to uint8: %s", w.Name, manifestPath, weightsHelp)
			}
			n := 1
			for _, s := range shape {
				n *= s
			}
			if offset+n > len(raw) {
				return nil, fmt.Errorf("cannot read the face weights: %s ends after %d bytes, inside %q (truncated?): %s", binPath, len(raw), w.Name, weightsHelp)
			}
			data := make([]float32, n)
			for i, q := range raw[offset : offset+n] {
				data[i] = float32(float64(q)*w.Quantization.Scale + w.Quantization.Min)
			}
			offset += n
			out[w.Name] = weight{shape: shape, data: data}
		}
	}
	for wanted := range want {
		if _, ok := out[wanted]; !ok {
			return nil, fmt.Errorf("cannot read the face weights: %s lacks %q: %s", manifestPath, wanted, weightsHelp)
		}
	}
	if offset != len(raw) {
		return nil, fmt.Errorf("cannot read the face weights: %s has %d bytes, %d were expected: %s", binPath, len(raw), offset, weightsHelp)
	}
	return out, nil
}

func readPinned(path string, sums map[string]string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the face weights are missing: there is no file %s: %s", path, weightsHelp)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the face weights: %w: %s", err, weightsHelp)
	}
	if pin, ok := sums[filepath.Base(path)]; ok {
		if got := sha256.Sum256(data); hex.EncodeToString(got[:]) != pin {
			return nil, fmt.Errorf("cannot use the face weights: %s (%d bytes) is not the file of @vladmandic/face-api 1.7.15, its SHA-256 differs: %s",
				path, len(data), weightsHelp)
		}
	}
	return data, nil
}

func detectorShapes() map[string][]int {
	m := map[string][]int{
		"conv0/filters": {3, 3, 3, 16}, "conv0/bias": {16},
		"conv8/filters": {1, 1, 512, 25}, "conv8/bias": {25},
	}
	for i, in := range []int{16, 32, 64, 128, 256} {
		addSeparable(m, fmt.Sprintf("conv%d", i+1), in, in*2)
	}
	return m
}

func landmarkShapes() map[string][]int {
	m := map[string][]int{
		"dense0/conv0/filters": {3, 3, 3, 32}, "dense0/conv0/bias": {32},
		"fc/weights": {256, 136}, "fc/bias": {136},
	}
	for block, width := range []int{32, 64, 128, 256} {
		for layer := range 4 {
			name, in := fmt.Sprintf("dense%d/conv%d", block, layer), width
			if layer == 0 {
				if block == 0 {
					continue
				}
				in = width / 2
			}
			addSeparable(m, name, in, width)
		}
	}
	return m
}

func addSeparable(m map[string][]int, name string, in, out int) {
	m[name+"/depthwise_filter"] = []int{3, 3, in, 1}
	m[name+"/pointwise_filter"] = []int{1, 1, in, out}
	m[name+"/bias"] = []int{out}
}
