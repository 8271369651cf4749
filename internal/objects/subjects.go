// Walking the bucket subject by subject, and deleting one: for whoever looks for what
// nothing needs any more.

package objects

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/minio/minio-go/v7"
)

// Folder is a subject with what lies in it.
type Folder struct {
	Subject string // <tenant>/<profile or "-">/<job or upload>
	Objects []Info // in key order
}

// Tenants are those that have anything in the bucket, in the order of their names.
func (s *Store) Tenants(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	found := map[string]bool{}
	for _, prefix := range []string{"", keyRoot + "/"} {
		for o := range s.s3.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: prefix}) {
			if o.Err != nil {
				return nil, fmt.Errorf("cannot list the tenants: %w", classify(ctx, o.Err))
			}
			if name, folder := strings.CutSuffix(strings.TrimPrefix(o.Key, prefix), "/"); folder && name != keyRoot && partForm.MatchString(name) {
				found[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// Folder is what lies in the subject's folder.
func (s *Store) Folder(ctx context.Context, subject string) (Folder, error) {
	f := Folder{Subject: subject}
	if err := CheckSubject(subject); err != nil {
		return f, err
	}
	for o, err := range s.List(ctx, subject+"/") {
		if err != nil {
			return f, err
		}
		f.Objects = append(f.Objects, o)
	}
	return f, nil
}

// Folders gives the tenant's subjects that belong to no profile, in the order of their names,
// one in memory at a time. It ends after the first error.
func (s *Store) Folders(ctx context.Context, tenant string) iter.Seq2[Folder, error] {
	return func(yield func(Folder, error) bool) {
		var f Folder
		for o, err := range s.List(ctx, tenant+"/"+NoProfile+"/") {
			if err != nil {
				yield(Folder{}, err)
				return
			}
			subject := path.Dir(strings.TrimPrefix(o.URI, s.uri("")))
			if subject != f.Subject {
				if f.Subject != "" && !yield(f, nil) {
					return
				}
				f = Folder{Subject: subject}
			}
			f.Objects = append(f.Objects, o)
		}
		if f.Subject != "" {
			yield(f, nil)
		}
	}
}

// EraseFolder deletes everything in the folder, with all versions that the bucket keeps, and
// says how many objects it found. The object at last goes last, so that it tells of the
// others as long as one of them is left.
func (s *Store) EraseFolder(ctx context.Context, f Folder, last string) (found int, err error) {
	if err := CheckSubject(f.Subject); err != nil {
		return 0, err
	}
	for _, o := range f.Objects {
		key, err := s.key(o.URI)
		if err != nil {
			return found, err
		}
		if o.URI == last {
			continue
		}
		n, err := s.wipe(ctx, key)
		if found += n; err != nil {
			return found, err
		}
	}
	n, err := s.wipe(ctx, f.Subject+"/")
	return found + n, err
}
