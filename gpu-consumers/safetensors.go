// The form of files of weights: whether one is whole.

package gpu

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
)

const safetensorsHead = 100 << 20 // bytes, the format's own limit

// checkSafetensors says what is wrong with a file of weights: its head is a length (8
// bytes, the low ones first) and JSON with the place of each tensor in what follows
// (https://github.com/huggingface/safetensors#format).
func checkSafetensors(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot read the weights: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("cannot read the weights: %w", err)
	}
	var size [8]byte
	if _, err := io.ReadFull(f, size[:]); err != nil {
		return errors.New("the file of weights has no head")
	}
	n := binary.LittleEndian.Uint64(size[:])
	if n > safetensorsHead || n > math.MaxInt64 || int64(n)+8 > info.Size() {
		return errors.New("the file is no safetensors")
	}
	head := make([]byte, n)
	var tensors map[string]json.RawMessage
	if _, err := io.ReadFull(f, head); err != nil || json.Unmarshal(head, &tensors) != nil {
		return errors.New("the file is no safetensors")
	}
	var end int64
	count := 0
	for name, text := range tensors {
		var tensor struct {
			At [2]int64 `json:"data_offsets"`
		}
		if name == "__metadata__" {
			continue
		}
		if json.Unmarshal(text, &tensor) != nil {
			return errors.New("the file is no safetensors")
		}
		count++
		end = max(end, tensor.At[1])
	}
	if count == 0 || end <= 0 || info.Size() != int64(n)+8+end {
		return errors.New("the file of weights is cut or empty")
	}
	return nil
}

// wholeTorch says whether a file is what torch.save writes: a ZIP archive with its
// directory at the end. GPT-SoVITS replaces the first two bytes by its version.
func wholeTorch(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	const end = 22 // bytes of the end of central directory, without a comment
	if err != nil || !info.Mode().IsRegular() || info.Size() < end {
		return false
	}
	tail := make([]byte, 4)
	_, err = f.ReadAt(tail, info.Size()-end)
	return err == nil && string(tail) == "PK\x05\x06"
}
