// Files that are two things at once, and headers that lie about what follows. What is
// stored is encoded anew, so that nothing of these would survive; but who sends them
// means no good, or has a broken file, and is told so.

package api

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// disguiseSpan is how much of a file's start and end is looked at: browsers guess by
// the first kilobyte, readers of archives by the last 64.
const disguiseSpan = 66 << 10

// disguise is a mark of another kind of file. Markup is compared in small letters.
type disguise struct{ mark, is string }

var disguises = []disguise{
	{"<script", "a web page"}, {"</script", "a web page"}, {"<!doctype html", "a web page"}, {"<html", "a web page"}, {"</html", "a web page"},
	{"<iframe", "a web page"}, {"<?php", "a PHP script"}, {`xmlns="http://www.w3.org/2000/svg"`, "an SVG document"},
	{"#extm3u", "a playlist"}, {"ffconcat version", "a playlist"},
	{"%pdf-1.", "a PDF document"}, {"rar!\x1a\x07", "a RAR archive"}, {"7z\xbc\xaf\x27\x1c", "a 7z archive"},
}

// openUpload opens a file that was uploaded, and says how many bytes it has.
func openUpload(path string) (f *os.File, size int64, err error) {
	if f, err = os.Open(path); err != nil {
		return nil, 0, fmt.Errorf("cannot read an upload back: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("cannot look at an upload: %w", err), f.Close())
	}
	return f, info.Size(), nil
}

// checkDisguise refuses a picture or a sound that is something else as well.
func checkDisguise(path string) error {
	f, size, err := openUpload(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, from := range []int64{0, max(0, size-disguiseSpan)} {
		part := make([]byte, disguiseSpan)
		n, err := f.ReadAt(part, from)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("cannot read an upload back: %w", err)
		}
		if is := disguised(part[:n]); is != "" {
			return refuseFile("the file is also %s; save the picture or recording again, with nothing attached to it", is)
		}
	}
	return nil
}

func disguised(part []byte) string {
	if zipEnd(part) {
		return "a ZIP archive"
	}
	lower := bytes.ToLower(part)
	for _, d := range disguises {
		if bytes.Contains(lower, []byte(d.mark)) {
			return d.is
		}
	}
	return ""
}

// zipEnd says whether a ZIP archive's last record is there (APPNOTE 4.3.16): its
// archive is on one disk.
func zipEnd(part []byte) bool {
	for {
		at := bytes.Index(part, []byte("PK\x05\x06\x00\x00\x00\x00"))
		if at < 0 {
			return false
		}
		if part = part[at:]; len(part) >= 22 && bytes.Equal(part[8:10], part[10:12]) {
			return true
		}
		part = part[1:]
	}
}

// checkRIFF refuses a file that is shorter than its first header says.
func checkRIFF(path string) error {
	f, size, err := openUpload(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return riffHolds(f, size)
}

func riffHolds(f io.ReaderAt, size int64) error {
	var head [8]byte
	if _, err := f.ReadAt(head[:], 0); err != nil {
		return fmt.Errorf("cannot read an upload back: %w", err)
	}
	if promised := int64(binary.LittleEndian.Uint32(head[4:])) + 8; promised > size {
		return refuseFile("the file ends too early: its header promises %d bytes, and there are %d; export it again", promised, size)
	}
	return nil
}

// checkWAV refuses sound whose header promises more than there is, or what no sound has.
func checkWAV(path, demuxer string) error {
	if demuxer != "wav" {
		return nil
	}
	f, size, err := openUpload(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := riffHolds(f, size); err != nil {
		return err
	}
	var head [24]byte
	for at := int64(12); ; {
		n, err := f.ReadAt(head[:], at)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("cannot read an upload back: %w", err)
		}
		if n < 8 {
			return refuseFile("the WAV file holds no sound; export it again")
		}
		length := int64(binary.LittleEndian.Uint32(head[4:]))
		if left := size - at - 8; length > left {
			return refuseFile("the WAV file's header promises %d bytes of its part %q, and there are %d; export it again", length, shortened(string(head[:4])), left)
		}
		switch string(head[:4]) {
		case "data":
			return nil
		case "fmt ":
			channels, rate := binary.LittleEndian.Uint16(head[10:]), binary.LittleEndian.Uint32(head[12:])
			if n < len(head) || channels == 0 || channels > 32 || rate < 1_000 || rate > 768_000 {
				return refuseFile("the WAV file's header speaks of %d channels and %d samples a second; export it again", channels, rate)
			}
		}
		at += 8 + length + length&1
	}
}
