// The memory of pictures being decoded: known from their headers, and bounded for all
// of them together. A picture of a few kilobytes can stand for gigabytes.

package api

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	decodeMemory  = 128 << 20        // bytes, of all pictures at once
	collectAfter  = 32 << 20         // bytes given away, after which what is free is collected
	decodeTimeout = 30 * time.Second // of one picture
	maxScans      = 100              // of a JPEG; ten are usual, and each costs a walk over the picture
)

// decoding hands out memory for pictures.
type decoding struct {
	room *semaphore.Weighted
	mu   sync.Mutex
	used int64 // bytes handed out since the last collection
}

func newDecoding() *decoding { return &decoding{room: semaphore.NewWeighted(decodeMemory)} }

// begin waits for need bytes, at most decodeMemory, until ctx ends.
func (d *decoding) begin(ctx context.Context, need int64) (end func(), err error) {
	if err := d.room.Acquire(ctx, need); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	// The collector waits for the heap to double: with two pictures in it, one of them
	// long done, that is more than the whole server may take.
	if d.used > collectAfter {
		runtime.GC()
		d.used = 0
	}
	d.used += need
	return func() { d.room.Release(need) }, nil
}

// cost is what a picture takes, in bytes.
type cost struct {
	decoding int64 // while it is decoded
	image    int64 // when it is
}

// need is the most that is taken at once. A copy, of 4 bytes a pixel, is made of what
// has to be turned or has more than 8 bits a colour.
func (c cost) need(copied bool, pixels int64) int64 {
	if copied {
		return max(c.decoding, c.image+4*pixels)
	}
	return c.decoding
}

// costOfPNG reads the header of a PNG (its specification, section 11.2.1).
func costOfPNG(f io.ReaderAt, pixels int64) (c cost, deep bool, err error) {
	var head [29]byte
	if _, err := f.ReadAt(head[:], 0); err != nil {
		return c, false, err
	}
	depth, kind, interlaced := head[24], head[25], head[28] != 0
	size := int64(4)
	switch {
	case depth == 16:
		size = 8
	case kind == 3:
		size = 1 // a palette
	}
	c = cost{size * pixels, size * pixels}
	if interlaced {
		c.decoding *= 2 // the seven passes are pictures themselves
	}
	return c, depth == 16, nil
}

// costOfJPEG reads the segments of a JPEG up to its frame header (ITU T.81, annex B.2).
func costOfJPEG(f io.ReaderAt, size, width, height int64) (c cost, err error) {
	r := bufio.NewReader(io.NewSectionReader(f, 2, size-2))
	rgb := false
	for {
		marker, err := nextMarker(r)
		if err != nil {
			return c, err
		}
		if marker == 0x01 || marker >= 0xd0 && marker <= 0xd8 { // these have no body
			continue
		}
		var length [2]byte
		if _, err := io.ReadFull(r, length[:]); err != nil {
			return c, err
		}
		left := int(binary.BigEndian.Uint16(length[:])) - 2
		if left < 0 || marker == 0xd9 || marker == 0xda {
			return c, errors.New("it has no frame")
		}
		body, err := r.Peek(min(left, 32))
		switch {
		case err != nil:
			return c, err
		case marker == 0xee && len(body) >= 12 && string(body[:5]) == "Adobe":
			rgb = body[11] == 0
		case marker >= 0xc0 && marker <= 0xc2:
			return costOfFrame(body, marker == 0xc2, rgb, width, height)
		}
		if _, err := r.Discard(left); err != nil {
			return c, err
		}
	}
}

func nextMarker(r *bufio.Reader) (byte, error) {
	for {
		b, err := r.ReadByte()
		for err == nil && b == 0xff {
			if b, err = r.ReadByte(); err == nil && b != 0 && b != 0xff {
				return b, nil
			}
		}
		if err != nil {
			return 0, err
		}
	}
}

func costOfFrame(body []byte, progressive, rgb bool, width, height int64) (c cost, err error) {
	if len(body) < 6 || len(body) < 6+3*int(body[5]) || body[5] == 0 {
		return c, errors.New("its frame header is too short")
	}
	samples, wide, high := int64(0), int64(1), int64(1)
	names := make([]byte, 0, 4)
	for i := range int(body[5]) {
		part := body[6+3*i:]
		h, v := int64(part[1]>>4), int64(part[1]&15)
		wide, high, samples = max(wide, h), max(high, v), samples+h*v
		names = append(names, part[0])
	}
	units := ((width + 8*wide - 1) / (8 * wide)) * ((height + 8*high - 1) / (8 * high))
	c.image = units * 64 * samples
	c.decoding = c.image
	if progressive {
		c.decoding += 4 * c.image // coefficients of four bytes
	}
	if len(names) == 4 || rgb || string(names) == "RGB" {
		c.decoding += 4 * width * height
		c.image = 4 * width * height
	}
	return c, nil
}

// patientFile reads a picture for a decoder, which knows no context, until its time or
// a JPEG's scans are too many.
type patientFile struct {
	from  *os.File
	ctx   context.Context //nolint:containedctx // lives as long as one decoding
	jpeg  bool
	last  byte
	scans int
}

var errScans = fmt.Errorf("it has more than %d scans; save it as a baseline JPEG", maxScans)

// Read implements io.Reader.
func (p *patientFile) Read(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := p.from.Read(b)
	if !p.jpeg {
		return n, err
	}
	for _, c := range b[:n] {
		if p.last == 0xff && c == 0xda {
			if p.scans++; p.scans > maxScans {
				return 0, errScans
			}
		}
		p.last = c
	}
	return n, err
}
