// The hostile corpus: files that are two things at once, bombs, headers that lie, and
// requests that do not end. The children of the program are measured elsewhere.

package api

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// zipFile is an archive of one empty file, as it stands at the end of a polyglot.
func zipFile() []byte {
	name := "x.class"
	local := binary.LittleEndian.AppendUint16([]byte("PK\x03\x04\x0a\x00"+strings.Repeat("\x00", 20)), uint16(len(name)))
	local = append(append(local, 0, 0), name...)
	central := binary.LittleEndian.AppendUint16([]byte("PK\x01\x02\x0a\x00\x0a\x00"+strings.Repeat("\x00", 20)), uint16(len(name)))
	central = append(append(central, make([]byte, 16)...), name...)
	end := []byte("PK\x05\x06\x00\x00\x00\x00\x01\x00\x01\x00")
	end = binary.LittleEndian.AppendUint32(end, uint32(len(central)))
	end = binary.LittleEndian.AppendUint32(end, uint32(len(local)))
	return append(append(append(local, central...), end...), 0, 0)
}

// scansFile is a progressive JPEG of w×h grey pixels with very many scans.
func scansFile(w, h, scans int) []byte {
	out := []byte{0xff, 0xd8, 0xff, 0xdb, 0, 67, 0}
	out = append(out, bytes.Repeat([]byte{1}, 64)...)
	out = append(out, 0xff, 0xc2, 0, 11, 8, byte(h>>8), byte(h), byte(w>>8), byte(w), 1, 1, 0x11, 0)
	// One code, 0, of each class: no difference; and the end of a band.
	for _, class := range []byte{0x00, 0x10} {
		out = append(out, 0xff, 0xc4, 0, 20, class, 1)
		out = append(append(out, make([]byte, 15)...), 0)
	}
	blocks := ((w + 7) / 8) * ((h + 7) / 8)
	for i := range scans {
		from, to := byte(1), byte(63)
		if i == 0 {
			from, to = 0, 0
		}
		out = append(out, 0xff, 0xda, 0, 8, 1, 1, 0x00, from, to, 0)
		out = append(out, make([]byte, (blocks+7)/8)...)
	}
	return append(out, 0xff, 0xd9)
}

// headOfPNG is a PNG's start that claims a size, a depth and a kind.
func headOfPNG(w, h uint32, depth, kind, interlaced byte) []byte {
	head := binary.BigEndian.AppendUint32([]byte("IHDR"), w)
	head = append(binary.BigEndian.AppendUint32(head, h), depth, kind, 0, 0, interlaced)
	out := append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x0d"), head...)
	return binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(head))
}

// bits writes least significant bits first, as lossless WebP does.
type bits struct {
	out []byte
	n   int
}

func (b *bits) put(v uint32, n int) {
	for i := range n {
		if b.n%8 == 0 {
			b.out = append(b.out, 0)
		}
		b.out[len(b.out)-1] |= byte(v>>i&1) << (b.n % 8)
		b.n++
	}
}

// tablesFile is a lossless WebP with 65,536 groups of code tables, all of which a
// decoder has to keep: a small file that takes hundreds of megabytes.
func tablesFile(w, h uint32) []byte {
	b := &bits{}
	b.put(0x2f, 8)
	b.put(w-1, 14)
	b.put(h-1, 14)
	b.put(0, 1+3) // no alpha, version 0
	b.put(0, 1)   // no transform
	b.put(0, 1)   // no colour cache
	b.put(1, 1)   // groups, one per tile
	b.put(0, 3)   // of 4×4 pixels
	b.put(0, 1)   // no colour cache
	wide, high := (w+3)/4, (h+3)/4
	// The picture of groups: green and red are the number. Two-symbol codes would not
	// do, so each has all 256 symbols with 8 bits.
	full := func(symbols int) {
		b.put(0, 1)
		b.put(12-4, 4) // lengths of code lengths, in the order 17 18 0 1 2 3 4 5 16 6 7 8
		for i := range 12 {
			v := uint32(0)
			if i == 2 || i == 11 {
				v = 1
			}
			b.put(v, 3)
		}
		b.put(0, 1)
		for i := range symbols {
			if i < 256 {
				b.put(1, 1)
			} else {
				b.put(0, 1)
			}
		}
	}
	one := func() { b.put(0b0001, 4) } // simple, one symbol, of one bit: 0
	full(256 + 24)
	full(256)
	one()
	one()
	one()
	for i := range wide * high {
		b.put(reversed(byte(i)), 8)
		b.put(reversed(byte(i>>8)), 8)
	}
	for range 65_536 * 5 {
		one()
	}
	body := binary.LittleEndian.AppendUint32([]byte("WEBPVP8L"), uint32(len(b.out)))
	body = append(body, b.out...)
	if len(b.out)%2 == 1 {
		body = append(body, 0)
	}
	return append(binary.LittleEndian.AppendUint32([]byte("RIFF"), uint32(len(body))), body...)
}

func reversed(c byte) (v uint32) {
	for i := range 8 {
		v |= uint32(c>>i&1) << (7 - i)
	}
	return v
}

// disguisedFiles are polyglots, and files whose headers lie.
func disguisedFiles(t testing.TB) []hostile {
	t.Helper()
	page := "<html><script>alert(1)</script></html>"
	photo, picture, tone := jpegFile(t, 96, 64, 1), pngFile(t, 80, 80), wavFile(1)
	comment := append([]byte{0xff, 0xd8, 0xff, 0xfe, 0, byte(2 + len(page))}, page...)
	with := func(file []byte, at int, bytes string) []byte {
		out := append([]byte(nil), file...)
		copy(out[at:], bytes)
		return out
	}
	return []hostile{
		{"GIFAR", append([]byte("GIF89a\x40\x00\x40\x00\x00\x00\x00"), zipFile()...), 415, "JPEG, PNG, WebP"},
		{"JPEG and archive", append(append([]byte(nil), photo...), zipFile()...), 422, "also a ZIP archive; save"},
		{"PNG and archive", append(append([]byte(nil), picture...), zipFile()...), 422, "also a ZIP archive; save"},
		{"JPEG and page behind", append(append([]byte(nil), photo...), page...), 422, "also a web page; save"},
		{"JPEG and page within", append(comment, photo[2:]...), 422, "also a web page; save"},
		{"PNG and PHP", append(append([]byte(nil), picture...), "<?php system('id');"...), 422, "also a PHP script"},
		{"JPEG and PDF", append(append([]byte(nil), photo...), "%PDF-1.7"...), 422, "also a PDF"},
		{"ID3 and page", append([]byte("ID3\x03\x00\x00\x00\x00\x00\x10"), page...), 422, "also a web page"},
		{"WAV and archive", append(append([]byte(nil), tone...), zipFile()...), 422, "also a ZIP archive"},
		{"SVG called PNG", append([]byte("\x89PNG\r\n\x1a\n"), `<svg xmlns="http://www.w3.org/2000/svg"/>`...), 422, "also an SVG"},
		{"a PNG of 2^31 by 2^31", headOfPNG(1<<31-1, 1<<31-1, 8, 6, 0), 422, "the image"},
		{"a JPEG of 65,535 by 65,535", append(bytes.TrimSuffix(scansFile(65_535, 65_535, 0), []byte{0xff, 0xd9}), "\xff\xda\x00\x08\x01\x01\x00\x00\x00\x00"...), 422, "at most 16 megapixels"},
		{"a PNG too deep", headOfPNG(4_000, 4_000, 16, 6, 0), 422, "save it with 8 bits a colour"},
		{"a PNG too interlaced", headOfPNG(4_000, 4_000, 16, 6, 1), 422, "save it with 8 bits a colour"},
		{"a JPEG of many scans", scansFile(512, 512, 5_000), 422, "more than 100 scans; save it as a baseline JPEG"},
		{"half a WebP", []byte("RIFF\xff\xff\x00\x00WEBPVP8L\xf0\xff\x00\x00\x2f\x4f\xc0\x13\x00"), 422, "ends too early"},
		{"WAV of 2 GiB in its data", with(tone, 40, "\xff\xff\xff\x7f"), 422, "promises 2147483647 bytes"},
		{"WAV of 4 GiB in its head", with(tone, 4, "\xff\xff\xff\xff"), 422, "ends too early"},
		{"WAV of 65,535 channels", with(tone, 22, "\xff\xff"), 422, "65535 channels"},
		{"WAV of 4 GHz", with(tone, 24, "\xff\xff\xff\xff"), 422, "4294967295 samples"},
		{"WAV without sound", tone[:36], 422, "header"},
		{"half a WAV", tone[:len(tone)/2], 422, "ends too early"},
		{"zeros", make([]byte, 100_000), 415, "allowed are"},
		{"MP3 of noise", append([]byte("ID3\x04\x00\x00\x00\x00\x00\x00"), bytes.Repeat([]byte("\xff\x00\x55"), 100_000)...), 422, "export it again"},
	}
}

func TestDisguisedFilesAreRefusedAndLeaveNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true})
	for _, h := range disguisedFiles(t) {
		a := w.upload(h.file)
		var p problem
		a.decode(t, &p)
		if a.status != h.status || !strings.Contains(p.Detail, h.says) {
			t.Errorf("%s: %d %s; want %d with %q", h.name, a.status, a.body, h.status, h.says)
		}
	}
	w.leavesNothing()
	// What is turned away is the disguise, not the picture.
	w.want(http.StatusCreated, w.upload(scansFile(512, 512, 20)))
	// And tables without end cost a process of their own some memory, which is bounded.
	w.want(http.StatusCreated, w.upload(tablesFile(1_024, 1_024)))
}

func (w *world) leavesNothing() {
	w.t.Helper()
	if n, posted := w.stored(), w.incoming(); n != 0 || posted != 0 {
		w.t.Errorf("%d objects and %d posted files are left in the store", n, posted)
	}
	w.emptyFolder()
}

// emptyFolder says whether files of requests are left on this machine.
func (w *world) emptyFolder() {
	w.t.Helper()
	left, err := os.ReadDir(w.server.cfg.TempDir)
	if err != nil || len(left) > 0 {
		w.t.Errorf("left in the temporary folder: %v, %v", left, err)
	}
}

// Should a playlist pass for sound, ffmpeg still does not follow it.
func TestPlaylistsAreNotFollowedByTheDecoder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true})
	secret := filepath.Join(t.TempDir(), "secret.wav")
	ok(t, os.WriteFile(secret, wavFile(1), 0o600))
	for _, playlist := range []string{
		"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://" + secret + "\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile '" + secret + "'\n",
	} {
		for _, demuxer := range []string{"wav", "mov", "mp3", "flac", "ogg"} {
			dir := t.TempDir()
			path := filepath.Join(dir, "upload")
			ok(t, os.WriteFile(path, append([]byte("ID3\x04\x00\x00\x00\x00\x00\x00\x00\x00"), playlist...), 0o600))
			if made, err := w.server.cleanAudio(t.Context(), dir, path, demuxer); err == nil || asRefusal(err).code != codeFileInvalid {
				t.Errorf("%s: %+v, %v", demuxer, made, err)
			}
			ok(t, os.WriteFile(path, []byte(playlist), 0o600))
			if made, err := w.server.probe(t.Context(), path, demuxer); err == nil && made != (sound{}) {
				t.Errorf("%s: ffprobe says %+v", demuxer, made)
			}
		}
	}
}

// raw sends the head of an upload and then what from gives, until it is answered.
func (w *world) raw(head string, from io.Reader) (status int, said string, sent int64) {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.server.Addr())
	ok(w.t, err)
	defer func() { _ = conn.Close() }()
	ok(w.t, conn.SetDeadline(time.Now().Add(30*time.Second)))
	_, err = fmt.Fprintf(conn, "POST /api/uploads HTTP/1.1\r\nHost: %s\r\nContent-Type: multipart/form-data; boundary=x\r\n%s\r\n\r\n", w.server.Addr(), head)
	ok(w.t, err)
	written := make(chan int64, 1)
	answered := make(chan struct{})
	go func() {
		n, _ := io.Copy(conn, &untilAnswered{from, answered})
		written <- n
	}()
	var b bytes.Buffer
	part := make([]byte, 4096)
	for !bytes.Contains(b.Bytes(), []byte("trace_id")) {
		n, err := conn.Read(part)
		b.Write(part[:n])
		if err != nil {
			break
		}
	}
	close(answered)
	_ = conn.Close()
	_, _ = fmt.Sscanf(b.String(), "HTTP/1.1 %d", &status)
	return status, b.String(), <-written
}

type untilAnswered struct {
	from     io.Reader
	answered chan struct{}
}

func (u *untilAnswered) Read(p []byte) (int, error) {
	select {
	case <-u.answered:
		return 0, io.EOF
	default:
		return u.from.Read(p)
	}
}

// chunks is a body in chunks of zeros behind the head of a form; nothing of it is kept.
type chunks struct {
	begin string
	left  int64
	ready []byte
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.ready) == 0 {
		data := []byte(c.begin)
		if c.begin = ""; len(data) == 0 {
			if c.left <= 0 {
				return 0, io.EOF
			}
			data = make([]byte, 64<<10)
			c.left -= int64(len(data))
		}
		c.ready = fmt.Appendf(nil, "%x\r\n%s\r\n", len(data), data)
	}
	n := copy(p, c.ready)
	c.ready = c.ready[n:]
	return n, nil
}

// zeros gives that many.
type zeros struct{ left int64 }

func (z *zeros) Read(p []byte) (int, error) {
	if z.left <= 0 {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), z.left))
	clear(p[:n])
	z.left -= int64(n)
	return n, nil
}

const partHead = "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.png\"\r\n\r\n"

func TestBodiesWithoutEndAreCutByTheLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true, config: func(c *Config) { c.Uploads.Bytes = 4 << 20; c.ReadTimeout = 2 * time.Second }})
	const gigabyte = 1 << 30
	for _, c := range []struct {
		name, head string
		body       io.Reader
		status     int
		says       string
		most       int64 // bytes sent until the answer, beyond which the limit did not cut
	}{
		{"1 GB in chunks", "Transfer-Encoding: chunked", &chunks{begin: partHead, left: gigabyte}, 413, "at most 4 MiB", gigabyte / 4},
		{"1 GB before the form", "Transfer-Encoding: chunked", &chunks{left: gigabyte}, 400, "multipart/form-data", gigabyte / 4},
		{"1 GB of headers in a part", "Transfer-Encoding: chunked", &chunks{begin: "--x\r\nX-Endless: ", left: gigabyte}, 400, "multipart/form-data", gigabyte / 4},
		{"1 GB announced", fmt.Sprintf("Content-Length: %d", gigabyte), io.MultiReader(strings.NewReader(partHead), &zeros{gigabyte}), 413, "at most 4 MiB", gigabyte / 4},
		{"less than announced", "Content-Length: 100000", strings.NewReader(partHead + "x"), 408, "too slowly", gigabyte},
		{"more than announced", fmt.Sprintf("Content-Length: %d", len(partHead)+1), strings.NewReader(partHead + "xyz\r\n--x--\r\n"), 400, "broke off", gigabyte},
		{"many parts", "Transfer-Encoding: chunked", &chunks{begin: strings.Repeat("--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n", 10_000)}, 422, "one field, called file", gigabyte},
		{"many headers", "Transfer-Encoding: chunked", &chunks{begin: "--x\r\n" + strings.Repeat("A: b\r\n", 20_000) + "\r\n"}, 400, "multipart/form-data", gigabyte},
	} {
		status, said, sent := w.raw(c.head, c.body)
		if status != c.status || !strings.Contains(said, c.says) || sent > c.most {
			t.Errorf("%s: %d after %d bytes: %s; want %d with %q", c.name, status, sent, said, c.status, c.says)
		}
	}
	w.want(415, w.do("POST", "/api/uploads", map[string]string{"Content-Type": "multipart/form-data"}, strings.NewReader(partHead)))
	w.leavesNothing()
}
