// Names: the parts of an object's key, and the URIs that events carry.

package objects

import (
	"fmt"
	"regexp"
	"strings"
)

const (
	scheme  = "s3://"
	keyRoot = "keys" // key objects lie below; nothing else does
	// NoProfile stands in a subject for a job without a profile.
	NoProfile = "-"
)

var (
	partForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
	extForm  = regexp.MustCompile(`^[a-z0-9]{1,10}$`)
)

// Subject is the folder of a job's objects: <tenant>/<profile or "-">/<job>. An
// empty profile means none. Each part is 1 to 128 letters, digits, dots, dashes
// and underscores, and begins with a letter or digit.
func Subject(tenant, profile, job string) (string, error) {
	if profile == "" {
		profile = NoProfile
	}
	subject := tenant + "/" + profile + "/" + job
	return subject, CheckSubject(subject)
}

// CheckTenant refuses what cannot be a tenant's name, which is its folder.
func CheckTenant(name string) error {
	if !partForm.MatchString(name) || name == keyRoot {
		return fmt.Errorf("a tenant cannot be called %.128q: 1 to 128 letters, digits, dots, dashes or underscores, beginning with a letter or digit, and not %q", name, keyRoot)
	}
	return nil
}

// KeyID is the id of the content key of a subject: the name of its key object.
func KeyID(subject string) string { return keyRoot + "/" + subject }

// CheckSubject refuses what Subject would not make.
func CheckSubject(subject string) error {
	parts := strings.Split(subject, "/")
	if len(parts) != 3 {
		return fmt.Errorf("cannot use %q as an object folder: want tenant/profile/job", subject)
	}
	for i, p := range parts {
		if i == 1 && p == NoProfile {
			continue
		}
		if !partForm.MatchString(p) {
			return fmt.Errorf("cannot use %q in an object folder: want 1 to 128 letters, digits, dots, dashes or underscores, beginning with a letter or digit", p)
		}
	}
	if parts[0] == keyRoot {
		return fmt.Errorf("cannot use %q as a tenant's folder: it holds the key objects", keyRoot)
	}
	return nil
}

// checkKeyID refuses what is not the id of a content key.
func checkKeyID(id string) error {
	subject, found := strings.CutPrefix(id, keyRoot+"/")
	if !found {
		return fmt.Errorf("cannot use %q as a key id: want keys/tenant/profile/job", id)
	}
	return CheckSubject(subject)
}

// uri is the address of a key in events.
func (s *Store) uri(key string) string { return scheme + s.bucket + "/" + key }

// key is the inverse of uri. It refuses every URI but those of objects that Put
// made, above all those of key objects.
func (s *Store) key(uri string) (string, error) {
	key, found := strings.CutPrefix(uri, scheme+s.bucket+"/")
	folder, name := key[:max(strings.LastIndexByte(key, '/'), 0)], key[strings.LastIndexByte(key, '/')+1:]
	if !found || !partForm.MatchString(name) || CheckSubject(folder) != nil {
		return "", fmt.Errorf("%w: %q, want %s%s/tenant/profile/job/file", ErrForeign, uri, scheme, s.bucket)
	}
	return key, nil
}
