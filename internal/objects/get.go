// Reading: open with ranges, fetch verified, look, list, sign, delete.

package objects

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"mime"
	"net/url"
	"os"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/myspinbot/myspinbot/events"
)

// Info is what the store knows about an object.
type Info struct {
	URI       string
	Size      int64  // bytes
	SHA256    string // hex; as the writer said, see Fetch; empty in a List
	MediaType string // empty in a List
	Modified  time.Time
}

// Reader is an open object. Seek and ReadAt make range requests, so that a player
// reads only what it shows. Close it.
type Reader struct {
	Info
	object *minio.Object
	ctx    context.Context //nolint:containedctx // minio.Object is bound to it as well
}

// Open opens the object at uri, or says ErrMissing, ErrForeign or ErrUnavailable.
// Reading ends when ctx does.
func (s *Store) Open(ctx context.Context, uri string) (*Reader, error) {
	key, err := s.key(uri)
	if err != nil {
		return nil, err
	}
	info, err := s.stat(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("cannot open object %s: %w", key, err)
	}
	object, err := s.s3.GetObject(ctx, s.bucket, key, minio.GetObjectOptions{})
	if err != nil {
		return nil, fmt.Errorf("cannot open object %s: %w", key, classify(ctx, err))
	}
	return &Reader{Info: info, object: object, ctx: ctx}, nil
}

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	n, err := r.object.Read(p)
	return n, r.explain(err)
}

// ReadAt implements io.ReaderAt with a range request.
func (r *Reader) ReadAt(p []byte, at int64) (int, error) {
	n, err := r.object.ReadAt(p, at)
	return n, r.explain(err)
}

// Seek implements io.Seeker; the next Read asks for the range from there.
func (r *Reader) Seek(offset int64, whence int) (int64, error) {
	n, err := r.object.Seek(offset, whence)
	return n, r.explain(err)
}

// Close implements io.Closer.
func (r *Reader) Close() error { return r.object.Close() }

// explain leaves io.EOF alone, which readers compare with ==.
func (r *Reader) explain(err error) error {
	if err == nil || err == io.EOF { //nolint:errorlint // minio-go returns io.EOF itself
		return err
	}
	return fmt.Errorf("cannot read object %s: %w", r.URI, classify(r.ctx, err))
}

// Fetch copies the artifact's bytes into a new file at path and checks size and
// digest on the way: ErrMissing, ErrCorrupt, ErrForeign or ErrUnavailable. After
// an error there is no file.
func (s *Store) Fetch(ctx context.Context, a events.Artifact, path string) (err error) {
	r, err := s.Open(ctx, a.URI)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("cannot make the file for an object: %w", err)
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	h := sha256.New()
	// One byte more than promised is enough to know.
	n, err := io.Copy(io.MultiWriter(f, h), io.LimitReader(r, a.Size+1))
	if err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); n != a.Size || got != a.SHA256 {
		return fmt.Errorf("cannot use object %s: %w", a.URI, ErrCorrupt)
	}
	return nil
}

// Stat looks at the object at uri without opening it.
func (s *Store) Stat(ctx context.Context, uri string) (Info, error) {
	key, err := s.key(uri)
	if err != nil {
		return Info{}, err
	}
	info, err := s.stat(ctx, key)
	if err != nil {
		return Info{}, fmt.Errorf("cannot look at object %s: %w", key, err)
	}
	return info, nil
}

func (s *Store) stat(ctx context.Context, key string) (Info, error) {
	o, err := s.s3.StatObject(ctx, s.bucket, key, minio.StatObjectOptions{})
	if err != nil {
		return Info{}, classify(ctx, err)
	}
	return Info{
		URI: s.uri(key), Size: o.Size, SHA256: o.UserMetadata[digestField],
		MediaType: o.ContentType, Modified: o.LastModified,
	}, nil
}

// Presign makes a link that reads the object without a login until ttl (1 s to
// 7 days) is over. With a file name, a browser saves under it; without, it plays.
// The object is not looked at.
func (s *Store) Presign(ctx context.Context, uri string, ttl time.Duration, filename string) (*url.URL, error) {
	key, err := s.key(uri)
	if err != nil {
		return nil, err
	}
	query := url.Values{}
	if filename != "" {
		query.Set("response-content-disposition", mime.FormatMediaType("attachment", map[string]string{"filename": filename}))
	}
	link, err := s.public.PresignedGetObject(ctx, s.bucket, key, ttl, query)
	if err != nil {
		return nil, fmt.Errorf("cannot sign a link to object %s: %w", key, classify(ctx, err))
	}
	return link, nil
}

// Delete removes the object at uri; an absent one is no error.
func (s *Store) Delete(ctx context.Context, uri string) error {
	key, err := s.key(uri)
	if err != nil {
		return err
	}
	return s.remove(ctx, key)
}

func (s *Store) remove(ctx context.Context, key string) error {
	err := classify(ctx, s.s3.RemoveObject(ctx, s.bucket, key, minio.RemoveObjectOptions{}))
	if err != nil && !errors.Is(err, ErrMissing) {
		return fmt.Errorf("cannot delete object %s: %w", key, err)
	}
	return nil
}

// List gives every object whose key begins with prefix, such as a subject or a
// tenant with a slash behind it, in key order and without key objects. It ends
// after the first error.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		for o := range s.s3.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
			if o.Err != nil {
				yield(Info{}, fmt.Errorf("cannot list objects under %q: %w", prefix, classify(ctx, o.Err)))
				return
			}
			if _, err := s.key(s.uri(o.Key)); err != nil {
				continue
			}
			if !yield(Info{URI: s.uri(o.Key), Size: o.Size, Modified: o.LastModified}, nil) {
				return
			}
		}
	}
}
