// The memory of the API as a process of its own, while it is sent what is meant to fill it.

package main

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/png"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const uploadMemory = 256 << 20 // bytes that the API's process may take

func TestUploadsKeepTheProcessSmall(t *testing.T) {
	t.Parallel()
	s, env := startServices(t)
	work := t.TempDir()
	api := startProgram(t, append(env, "MYSPINBOT_WORK="+work), "run", "--roles", "api", "--http-listen", "127.0.0.1:0")
	s.servedBy(api)
	before := peakMemory(t, api.cmd.Process.Pid)
	picture := largestPicture(t)
	tag := append([]byte("ID3\x04\x00\x00\x02\x40\x00\x00TXXX\x02\x3f\x7f\x76\x00\x00\x03"), bytes.Repeat([]byte{'a'}, 5<<20)...)
	upload, portrait := formField{path: "/api/uploads", name: "file"}, formField{path: "/api/train", name: "portrait"}
	for _, c := range []struct {
		name   string
		to     formField
		begin  []byte
		zeros  int64
		status int
		says   string
	}{
		{"1 GB in chunks", upload, nil, 1 << 30, 413, "take a ticket"},
		{"256 megapixels", upload, bombOf(t, 16_000, 16_000), 0, 422, "at most 16 megapixels"},
		{"60 MB of a sound's title", upload, tag, 50 << 20, 422, "export it again"},
		{"60 MB of what is no sound", upload, []byte("\xff\xfb\x90\x00"), 60 << 20, 422, ""},
		{"the largest picture", upload, picture, 0, 201, ""},
		{"the largest picture, on its side", upload, onItsSide(picture), 0, 201, ""},
		{"1 GB in a job's form", portrait, nil, 1 << 30, 413, "portrait: a file sent here"},
		{"1 GB of text in a job's form", formField{path: "/api/train", name: "script", text: true}, nil, 1 << 30, 413, "at most 256 KiB"},
		{"256 megapixels in a job's form", portrait, bombOf(t, 16_000, 16_000), 0, 422, "at most 16 megapixels"},
		{"the largest picture, on its side, in a job's form", portrait, onItsSide(picture), 0, 422, "prompt"},
	} {
		var wait sync.WaitGroup
		for range 4 {
			wait.Go(func() {
				status, said, sent := sendUpload(t, s.url, c.to, c.begin, c.zeros)
				if status != c.status || !strings.Contains(said, c.says) {
					t.Errorf("%s: %d %s; want %d with %q", c.name, status, said, c.status, c.says)
				}
				if sent > 256<<20 {
					t.Errorf("%s: %d bytes were sent before it was cut", c.name, sent)
				}
			})
		}
		wait.Wait()
		now := peakMemory(t, api.cmd.Process.Pid)
		t.Logf("%s: at most %d MiB so far, %d when it began", c.name, now>>20, before>>20)
		if now > uploadMemory {
			t.Fatalf("%s: the process took %d MiB, more than %d", c.name, now>>20, uploadMemory>>20)
		}
	}
	s.eventually(10*time.Second, "the work folder is empty", func() error {
		left, err := os.ReadDir(work)
		for _, f := range left {
			if strings.HasPrefix(f.Name(), "myspinbot-upload-") {
				return fmt.Errorf("%s is left", f.Name())
			}
		}
		return err
	})
	api.terminate(t)
}

// formField is where bytes go.
type formField struct {
	path, name string
	text       bool
}

// sendUpload streams begin and then zeros, in chunks, and counts what was sent until the answer.
func sendUpload(t *testing.T, url string, to formField, begin []byte, zeros int64) (status int, said string, sent int64) {
	t.Helper()
	out, in := io.Pipe()
	form := multipart.NewWriter(in)
	var count atomic.Int64
	go func() {
		create := func() (io.Writer, error) { return form.CreateFormFile(to.name, "a") }
		if to.text {
			create = func() (io.Writer, error) { return form.CreateFormField(to.name) }
		}
		part, err := create()
		if err == nil {
			_, err = part.Write(begin)
		}
		for block := make([]byte, 64<<10); err == nil && zeros > 0; zeros -= int64(len(block)) {
			_, err = part.Write(block)
			count.Add(int64(len(block)))
		}
		in.CloseWithError(errors.Join(err, form.Close()))
	}()
	res, err := http.Post(url+to.path, form.FormDataContentType(), out)
	if err != nil {
		t.Error(err)
		return 0, "", count.Load()
	}
	defer func() { _, _ = res.Body.Close(), out.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Error(err)
	}
	return res.StatusCode, string(body), count.Load()
}

// largestPicture has 16 megapixels of four bytes and is small as a file.
func largestPicture(t *testing.T) []byte {
	t.Helper()
	p := image.NewNRGBA(image.Rect(0, 0, 4000, 4000))
	p.Pix[0] = 1 // not opaque
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(&b, p); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// onItsSide is a PNG with an EXIF orientation, of which a turned copy has to be made.
func onItsSide(picture []byte) []byte {
	const afterHead = 8 + 12 + 13
	return slices.Concat(picture[:afterHead], chunkOf("eXIf", "MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"), picture[afterHead:])
}

func chunkOf(name, body string) []byte {
	out := append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), name+body...)
	return binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE([]byte(name+body)))
}

// bombOf is a valid grey PNG whose pixels are all alike.
func bombOf(t *testing.T, w, h int) []byte {
	t.Helper()
	var pixels bytes.Buffer
	z := zlib.NewWriter(&pixels)
	for line, y := make([]byte, w+1), 0; y < h; y++ {
		if _, err := z.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	head := binary.BigEndian.AppendUint32(nil, uint32(w))
	head = append(binary.BigEndian.AppendUint32(head, uint32(h)), 8, 0, 0, 0, 0)
	return slices.Concat([]byte("\x89PNG\r\n\x1a\n"), chunkOf("IHDR", string(head)), chunkOf("IDAT", pixels.String()), chunkOf("IEND", ""))
}

var peakLine = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// peakMemory is the most that the process has had resident, in bytes.
func peakMemory(t *testing.T, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	m := peakLine.FindSubmatch(status)
	if m == nil {
		t.Fatalf("no peak in %s", status)
	}
	kb, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kb << 10
}
