// Incoming files: what a client posts to the store itself, under a policy that bounds
// its size. They are nobody's objects yet: no URI names them, and List does not show them.

package objects

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
)

// incomingFolder lies in a tenant's folder, as resultsFolder does.
const incomingFolder = "incoming"

// incomingMedia is what the store gives an incoming file out as, whatever it is.
const incomingMedia = "application/octet-stream"

func incomingKey(tenant, id string) (string, error) {
	if !partForm.MatchString(tenant) || tenant == keyRoot || !partForm.MatchString(id) {
		return "", fmt.Errorf("%w: no incoming file is called %q of tenant %q", ErrForeign, id, tenant)
	}
	return tenant + "/" + incomingFolder + "/" + id, nil
}

// Incoming is a file that was posted.
type Incoming struct {
	Tenant   string
	ID       string
	Size     int64 // bytes
	Modified time.Time
}

// PostPolicy lets whoever has it post one file of 1 to most bytes under the id, until
// expires. The file goes to url as multipart/form-data: first the fields as they are,
// then the file in a field called file.
func (s *Store) PostPolicy(ctx context.Context, tenant, id string, most int64, expires time.Time) (url string, fields map[string]string, err error) {
	key, err := incomingKey(tenant, id)
	if err != nil {
		return "", nil, err
	}
	p := minio.NewPostPolicy()
	err = errors.Join(p.SetBucket(s.bucket), p.SetKey(key), p.SetExpires(expires), p.SetContentType(incomingMedia),
		p.SetContentLengthRange(1, most), p.SetSuccessStatusAction("204"))
	if err != nil {
		return "", nil, fmt.Errorf("cannot write the policy for incoming file %s: %w", id, err)
	}
	to, fields, err := s.public.PresignedPostPolicy(ctx, p)
	if err != nil {
		return "", nil, fmt.Errorf("cannot sign the policy for incoming file %s: %w", id, classify(ctx, err))
	}
	return to.String(), fields, nil
}

// StatIncoming looks at the file posted under the id, or says ErrMissing.
func (s *Store) StatIncoming(ctx context.Context, tenant, id string) (Incoming, error) {
	key, err := incomingKey(tenant, id)
	if err != nil {
		return Incoming{}, err
	}
	info, err := s.stat(ctx, key)
	if err != nil {
		return Incoming{}, fmt.Errorf("cannot look at incoming file %s: %w", id, err)
	}
	return Incoming{Tenant: tenant, ID: id, Size: info.Size, Modified: info.Modified}, nil
}

// FetchIncoming copies the file into a new one at path: at most most bytes of it, and
// n says how many. After an error there is no file.
func (s *Store) FetchIncoming(ctx context.Context, tenant, id, path string, most int64) (n int64, err error) {
	key, err := incomingKey(tenant, id)
	if err != nil {
		return 0, err
	}
	object, err := s.s3.GetObject(ctx, s.bucket, key, minio.GetObjectOptions{})
	if err != nil {
		return 0, fmt.Errorf("cannot open incoming file %s: %w", id, classify(ctx, err))
	}
	defer func() { err = errors.Join(err, object.Close()) }()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, fmt.Errorf("cannot make the file for incoming file %s: %w", id, err)
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	if n, err = io.Copy(f, io.LimitReader(object, most)); err != nil {
		return 0, fmt.Errorf("cannot read incoming file %s: %w", id, classify(ctx, err))
	}
	return n, nil
}

// RemoveIncoming deletes the file; an absent one is no error.
func (s *Store) RemoveIncoming(ctx context.Context, tenant, id string) error {
	key, err := incomingKey(tenant, id)
	if err != nil {
		return err
	}
	return s.remove(ctx, key)
}

// ListIncoming gives every file of every tenant that was posted and not removed, the oldest
// id of each tenant first.
func (s *Store) ListIncoming(ctx context.Context) ([]Incoming, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var files []Incoming
	for folder := range s.s3.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{}) { // what lies at the top
		if folder.Err != nil {
			return nil, fmt.Errorf("cannot list the tenants: %w", classify(ctx, folder.Err))
		}
		tenant := strings.TrimSuffix(folder.Key, "/")
		prefix, err := incomingKey(tenant, "x")
		if err != nil {
			continue // it is no tenant's
		}
		prefix = strings.TrimSuffix(prefix, "x")
		for o := range s.s3.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
			if o.Err != nil {
				return nil, fmt.Errorf("cannot list incoming files: %w", classify(ctx, o.Err))
			}
			files = append(files, Incoming{Tenant: tenant, ID: strings.TrimPrefix(o.Key, prefix), Size: o.Size, Modified: o.LastModified})
		}
	}
	return files, nil
}
