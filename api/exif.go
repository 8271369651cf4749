// The one thing that is read from a picture's metadata: which way is up (EXIF 2.3, tag 0x0112).

package api

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

const (
	tagOrientation = 0x0112
	exifLimit      = 256 << 10 // bytes of a file's start in which EXIF is looked for
)

// orientation is the picture's EXIF orientation, 1 (upright) where there is none.
// Broken metadata counts as none: it is dropped anyway.
func orientation(f *os.File, format string) (int, error) {
	head := make([]byte, exifLimit)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("cannot read an upload again: %w", err)
	}
	var tiff []byte
	switch head = head[:n]; format {
	case "jpeg":
		tiff = exifOfJPEG(head)
	case "png":
		tiff = chunk(head, 8, "eXIf", binary.BigEndian, 4, 4)
	case "webp":
		tiff = bytes.TrimPrefix(chunk(head, 12, "EXIF", binary.LittleEndian, 0, 0), []byte("Exif\x00\x00"))
	}
	return orientationOf(tiff), nil
}

// exifOfJPEG finds the APP1 segment (JPEG Exif, section 4.5.4).
func exifOfJPEG(b []byte) []byte {
	for at := 2; at+4 <= len(b) && b[at] == 0xff; {
		length := int(binary.BigEndian.Uint16(b[at+2:]))
		if b[at+1] == 0xda || length < 2 || at+2+length > len(b) {
			return nil
		}
		body := b[at+4 : at+2+length]
		if tiff, ok := bytes.CutPrefix(body, []byte("Exif\x00\x00")); b[at+1] == 0xe1 && ok {
			return tiff
		}
		at += 2 + length
	}
	return nil
}

// chunk finds a chunk of PNG (length, name, body, check) or RIFF (name, length,
// body, padding to an even length). nameAt is the offset of the name, tail the
// bytes behind the body.
func chunk(b []byte, at int, name string, order binary.ByteOrder, nameAt, tail int) []byte {
	for at+8 <= len(b) {
		length := int(order.Uint32(b[at+4-nameAt:]))
		if length > len(b)-at-8 {
			return nil
		}
		if string(b[at+nameAt:][:4]) == name {
			return b[at+8:][:length]
		}
		at += 8 + length + tail
		if tail == 0 {
			at += length & 1
		}
	}
	return nil
}

// orientationOf reads the tag from the first directory of a TIFF block.
func orientationOf(b []byte) int {
	var order binary.ByteOrder = binary.BigEndian
	switch {
	case bytes.HasPrefix(b, []byte("II*\x00")):
		order = binary.LittleEndian
	case !bytes.HasPrefix(b, []byte("MM\x00*")):
		return 1
	}
	if len(b) < 8 {
		return 1
	}
	at := uint64(order.Uint32(b[4:]))
	if at+2 > uint64(len(b)) {
		return 1
	}
	entries := b[at+2:]
	for range order.Uint16(b[at:]) {
		if len(entries) < 12 {
			return 1
		}
		if order.Uint16(entries) == tagOrientation {
			if v := int(order.Uint16(entries[8:])); v >= 1 && v <= 8 {
				return v
			}
			return 1
		}
		entries = entries[12:]
	}
	return 1
}
