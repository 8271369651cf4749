// Writing: once per content, verified before anybody learns of it.

package objects

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/myspinbot/myspinbot/events"
)

// digestField is the user metadata field that holds the sha256 of the bytes, in hex.
const digestField = "Sha256"

// partSize is the most that one request uploads; minio-go holds one part in
// memory to put its MD5 in front of it.
const partSize = 16 << 20

// Put stores what r gives under <subject>/<sha256>.<ext> and returns the
// artifact's URI, SHA256, Size and MediaType; the other fields are the caller's.
// The bytes go through a temporary file first, because their digest names them.
// Equal bytes of one subject are stored once.
func (s *Store) Put(ctx context.Context, subject, ext, mediaType string, r io.Reader) (a events.Artifact, err error) {
	f, err := os.CreateTemp(s.tempDir, "myspinbot-put-")
	if err != nil {
		return a, fmt.Errorf("cannot make a temporary file for an object: %w", err)
	}
	// Without a name from the start, so that a process that is killed leaves nothing.
	// Where an open file keeps its name (Windows), it is removed at the end.
	named := os.Remove(f.Name()) != nil
	defer func() {
		err = errors.Join(err, f.Close())
		if named {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	h := sha256.New()
	size, err := io.Copy(io.MultiWriter(f, h), r)
	if err != nil {
		return a, fmt.Errorf("cannot read the bytes to store: %w", err)
	}
	return s.put(ctx, source{f, size, hex.EncodeToString(h.Sum(nil))}, subject, ext, mediaType)
}

// PutFile is Put of the file at path, read twice.
func (s *Store) PutFile(ctx context.Context, subject, ext, mediaType, path string) (a events.Artifact, err error) {
	f, err := os.Open(path)
	if err != nil {
		return a, fmt.Errorf("cannot open the file to store: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := sha256.New()
	size, err := io.Copy(h, f)
	if err != nil {
		return a, fmt.Errorf("cannot read the file to store: %w", err)
	}
	return s.put(ctx, source{f, size, hex.EncodeToString(h.Sum(nil))}, subject, ext, mediaType)
}

// source is a local file with its size and digest known.
type source struct {
	f      *os.File
	size   int64
	digest string
}

func (s *Store) put(ctx context.Context, from source, subject, ext, mediaType string) (events.Artifact, error) {
	if err := CheckSubject(subject); err != nil {
		return events.Artifact{}, err
	}
	if !extForm.MatchString(ext) {
		return events.Artifact{}, fmt.Errorf("cannot store an object with the extension %q: want 1 to 10 small letters or digits, without a dot", ext)
	}
	key := subject + "/" + from.digest + "." + ext
	a := events.Artifact{URI: s.uri(key), SHA256: from.digest, Size: from.size, MediaType: mediaType}
	// Most repeats are found here and cost no upload. An object that does not match
	// was damaged by the server's disk: it is written again.
	present := s.verify(ctx, key, from)
	if present == nil {
		return a, nil
	}
	if _, err := from.f.Seek(0, io.SeekStart); err != nil {
		return events.Artifact{}, fmt.Errorf("cannot read the file to store again: %w", err)
	}
	opts := minio.PutObjectOptions{
		ContentType:    mediaType,
		UserMetadata:   map[string]string{digestField: from.digest},
		SendContentMd5: true,
		PartSize:       partSize,
		NumThreads:     1,
	}
	if errors.Is(present, ErrMissing) {
		opts.SetMatchETagExcept("*") // If-None-Match: the first writer wins
	}
	_, err := s.s3.PutObject(ctx, s.bucket, key, from.f, from.size, opts)
	if err != nil && !exists(err) {
		return events.Artifact{}, fmt.Errorf("cannot store object %s: %w", key, classify(ctx, err))
	}
	if exists(err) {
		err = settled(ctx, func() error { return s.verify(ctx, key, from) })
	} else {
		err = s.verify(ctx, key, from)
	}
	if err != nil {
		return events.Artifact{}, fmt.Errorf("cannot verify object %s after storing it: %w", key, err)
	}
	return a, nil
}

// verify compares the stored size and digest with from: nil, ErrMissing, ErrCorrupt
// or what kept it from looking.
func (s *Store) verify(ctx context.Context, key string, from source) error {
	info, err := s.stat(ctx, key)
	if err != nil {
		return err
	}
	if info.Size != from.size || info.SHA256 != from.digest {
		return fmt.Errorf("%w: %d bytes with digest %q, want %d with %q", ErrCorrupt, info.Size, info.SHA256, from.size, from.digest)
	}
	return nil
}

// settleTime is how long the winner of two writers may take to become visible.
const settleTime = 2 * time.Second

// settled repeats look after a lost race. A server that keeps metadata in files of
// its own (versitygw's sidecar) refuses the second writer a moment before the first
// one's object can be read.
func settled(ctx context.Context, look func() error) error {
	give := time.NewTimer(settleTime)
	defer give.Stop()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		err := look()
		if !errors.Is(err, ErrMissing) && !errors.Is(err, ErrErased) && !errors.Is(err, ErrCorrupt) {
			return err
		}
		select {
		case <-again.C:
		case <-give.C:
			return err
		case <-ctx.Done():
			return err
		}
	}
}

// putOnce writes a small object unless the key is taken; created says which.
func (s *Store) putOnce(ctx context.Context, key string, value []byte) (created bool, err error) {
	opts := minio.PutObjectOptions{ContentType: "application/octet-stream", SendContentMd5: true}
	opts.SetMatchETagExcept("*")
	_, err = s.s3.PutObject(ctx, s.bucket, key, bytes.NewReader(value), int64(len(value)), opts)
	if exists(err) {
		return false, nil
	}
	return err == nil, classify(ctx, err)
}
