// Results that may be used again: the manifests that name them, and copying objects
// from one subject to another, which shares nothing between the two.

package objects

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/minio/minio-go/v7"

	"github.com/myspinbot/myspinbot/events"
)

// resultsFolder lies in a tenant's folder. It cannot be taken for a profile's: its
// files lie in it, a profile's one level deeper.
const resultsFolder = "results"

// maxManifest bounds a manifest, in bytes.
const maxManifest = 1 << 20

func manifestKey(tenant, name string) (string, error) {
	if !partForm.MatchString(tenant) || tenant == keyRoot || !partForm.MatchString(name) {
		return "", fmt.Errorf("%w: no manifest is called %q of tenant %q", ErrForeign, name, tenant)
	}
	return tenant + "/" + resultsFolder + "/" + name + ".json", nil
}

// Manifest reads the tenant's manifest of that name, or says ErrMissing.
func (s *Store) Manifest(ctx context.Context, tenant, name string) ([]byte, error) {
	key, err := manifestKey(tenant, name)
	if err != nil {
		return nil, err
	}
	value, err := s.small(ctx, key, maxManifest+1)
	if err != nil {
		return nil, fmt.Errorf("cannot read object %s: %w", key, err)
	}
	if len(value) > maxManifest {
		return nil, fmt.Errorf("cannot use object %s: %w: it is longer than any manifest", key, ErrCorrupt)
	}
	return value, nil
}

// PutManifest writes the tenant's manifest of that name. One that is there already
// stays, unless replace says that it is of no use; written says which.
func (s *Store) PutManifest(ctx context.Context, tenant, name string, value []byte, replace bool) (written bool, err error) {
	key, err := manifestKey(tenant, name)
	if err != nil {
		return false, err
	}
	if len(value) > maxManifest {
		return false, fmt.Errorf("cannot store object %s: %d bytes are more than a manifest may have", key, len(value))
	}
	if replace {
		if err := s.remove(ctx, key); err != nil {
			return false, err
		}
	}
	if written, err = s.putOnce(ctx, key, value); err != nil {
		return false, fmt.Errorf("cannot store object %s: %w", key, err)
	}
	return written, nil
}

// Copy gives the subject an object of its own with the artifact's bytes, under the
// same digest, and returns the artifact with the new URI. It first checks that the
// artifact exists with its size and digest: ErrMissing, ErrCorrupt, ErrForeign or
// ErrUnavailable. The server copies where it can; otherwise the bytes pass through here.
func (s *Store) Copy(ctx context.Context, a events.Artifact, subject string) (events.Artifact, error) {
	from, err := s.key(a.URI)
	if err != nil {
		return a, err
	}
	if err := CheckSubject(subject); err != nil {
		return a, err
	}
	promised := source{size: a.Size, digest: a.SHA256}
	if err := s.verify(ctx, from, promised); err != nil {
		return a, fmt.Errorf("cannot copy object %s: %w", from, err)
	}
	to := subject + from[strings.LastIndexByte(from, '/'):]
	a.URI = s.uri(to)
	if to == from || s.verify(ctx, to, promised) == nil {
		return a, nil
	}
	_, err = s.s3.CopyObject(ctx, minio.CopyDestOptions{Bucket: s.bucket, Object: to}, minio.CopySrcOptions{Bucket: s.bucket, Object: from})
	if err == nil {
		err = s.verify(ctx, to, promised)
	}
	if err == nil {
		return a, nil
	}
	if err = classify(ctx, err); errors.Is(err, ErrMissing) || errors.Is(err, ErrUnavailable) || ctx.Err() != nil {
		return a, fmt.Errorf("cannot copy object %s to %s: %w", from, to, err)
	}
	return s.stream(ctx, a, from, subject)
}

// stream copies through this process, for servers that do not copy objects of every
// size or leave their metadata behind.
func (s *Store) stream(ctx context.Context, a events.Artifact, from, subject string) (_ events.Artifact, err error) {
	r, err := s.Open(ctx, s.uri(from))
	if err != nil {
		return a, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	copied, err := s.Put(ctx, subject, from[strings.LastIndexByte(from, '.')+1:], r.MediaType, r)
	if err != nil {
		return a, err
	}
	if copied.SHA256 != a.SHA256 || copied.Size != a.Size {
		return a, fmt.Errorf("cannot copy object %s: %w", from, ErrCorrupt)
	}
	a.URI = copied.URI
	return a, nil
}
