// Erasing a profile: every key and every object of it, with all versions that the
// bucket keeps. Whatever was done once is found done when it is asked for again.

package objects

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path"
	"strings"

	"github.com/minio/minio-go/v7"
)

// profileFolder is what the keys of a profile's objects begin with.
func profileFolder(tenant, profile string) (string, error) {
	if profile == "" || profile == NoProfile {
		return "", errors.New("cannot erase a profile without an id")
	}
	subject, err := Subject(tenant, profile, "x")
	return strings.TrimSuffix(subject, "x"), err
}

// Jobs are the subjects of the profile that have a content key: its jobs, and the
// profile itself where it has texts of its own. Their keys are gone after EraseProfile.
func (k *Keyring) Jobs(ctx context.Context, tenant, profile string) (jobs []string, err error) {
	folder, err := profileFolder(tenant, profile)
	if err != nil {
		return nil, err
	}
	for o, err := range k.store.below(ctx, KeyID(folder), false) {
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, path.Base(o.Key))
	}
	return jobs, nil
}

// EraseProfile deletes every content key of the profile and says how many it found. What
// was sealed under them is unreadable here at once and elsewhere within 30 seconds.
func (k *Keyring) EraseProfile(ctx context.Context, tenant, profile string) (found int, err error) {
	folder, err := profileFolder(tenant, profile)
	if err != nil {
		return 0, err
	}
	found, err = k.store.wipe(ctx, KeyID(folder))
	k.mu.Lock()
	defer k.mu.Unlock()
	for id := range k.cache {
		if strings.HasPrefix(id, KeyID(folder)) {
			delete(k.cache, id)
		}
	}
	return found, err
}

// EraseProfile deletes every object of the profile, and the uploads of the tenant with
// the same bytes as one of them, and says how many objects it found. Uploads go first:
// whoever is interrupted knows them again as long as an object of the profile is left.
func (s *Store) EraseProfile(ctx context.Context, tenant, profile string) (found int, err error) {
	folder, err := profileFolder(tenant, profile)
	if err != nil {
		return 0, err
	}
	digests := map[string]bool{}
	for o, err := range s.below(ctx, folder, false) {
		if err != nil {
			return 0, err
		}
		digests[digestOf(o.Key)] = true
	}
	folders := []string{folder}
	if len(digests) > 0 {
		uploads, err := s.uploadsOf(ctx, tenant, digests)
		if err != nil {
			return 0, err
		}
		folders = append(uploads, folder)
	}
	for _, f := range folders {
		n, err := s.wipe(ctx, f)
		found += n
		if err != nil {
			return found, err
		}
	}
	return found, nil
}

// digestOf is the digest that names the object.
func digestOf(key string) string {
	name := path.Base(key)
	return strings.TrimSuffix(name, path.Ext(name))
}

// uploadsOf are the folders of uploads that hold one of the digests.
func (s *Store) uploadsOf(ctx context.Context, tenant string, digests map[string]bool) (folders []string, err error) {
	for o, err := range s.below(ctx, tenant+"/"+NoProfile+"/", false) {
		if err != nil {
			return nil, err
		}
		if digests[digestOf(o.Key)] {
			folders = append(folders, path.Dir(o.Key)+"/")
		}
	}
	return folders, nil
}

// wipe removes everything below the prefix: objects, older versions and the markers of
// deleted ones, and the parts of uploads that were never completed.
func (s *Store) wipe(ctx context.Context, prefix string) (found int, err error) {
	versions, err := s.keepsVersions(ctx)
	if err != nil {
		return 0, err
	}
	for o, err := range s.below(ctx, prefix, versions) {
		if err != nil {
			return found, err
		}
		found++
		err := classify(ctx, s.s3.RemoveObject(ctx, s.bucket, o.Key, minio.RemoveObjectOptions{VersionID: o.VersionID}))
		if err != nil && !errors.Is(err, ErrMissing) {
			return found, fmt.Errorf("cannot delete object %s: %w", o.Key, err)
		}
	}
	listing, cancel := context.WithCancel(ctx)
	defer cancel() // ends the goroutine that lists
	for u := range s.s3.ListIncompleteUploads(listing, s.bucket, prefix, true) {
		if u.Err != nil {
			return found, fmt.Errorf("cannot list the unfinished uploads under %q: %w", prefix, classify(ctx, u.Err))
		}
		found++
		if err := s.s3.RemoveIncompleteUpload(ctx, s.bucket, u.Key); err != nil {
			return found, fmt.Errorf("cannot remove the unfinished upload %s: %w", u.Key, classify(ctx, err))
		}
	}
	return found, nil
}

// keepsVersions says whether the bucket keeps, or ever kept, what was overwritten and deleted.
func (s *Store) keepsVersions(ctx context.Context) (bool, error) {
	v, err := s.s3.GetBucketVersioning(ctx, s.bucket)
	switch code := minio.ToErrorResponse(err).Code; {
	case err == nil:
		return v.Enabled() || v.Suspended(), nil
	case code == "NotImplemented", code == "VersioningNotConfigured": // a store without versions
		return false, nil
	}
	return false, fmt.Errorf("cannot ask whether bucket %q keeps versions: %w", s.bucket, classify(ctx, err))
}

// below gives everything whose key begins with the prefix, key objects too, with all
// versions if asked for. It ends after the first error.
func (s *Store) below(ctx context.Context, prefix string, versions bool) iter.Seq2[minio.ObjectInfo, error] {
	return func(yield func(minio.ObjectInfo, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		for o := range s.s3.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true, WithVersions: versions}) {
			if o.Err != nil {
				yield(o, fmt.Errorf("cannot list objects under %q: %w", prefix, classify(ctx, o.Err)))
				return
			}
			if !yield(o, nil) {
				return
			}
		}
	}
}
