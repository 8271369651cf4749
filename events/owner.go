// Whose a file or a text is, which the places say where they lie.

package events

import "strings"

// DefaultTenant owns everything where there is no access control.
const DefaultTenant = "default"

// Owner is the tenant in whose folder the file lies, at s3://bucket/tenant/profile/job/name;
// empty where it lies in nobody's.
func (a Artifact) Owner() string {
	key, ok := strings.CutPrefix(a.URI, "s3://")
	parts := strings.Split(key, "/")
	if !ok || len(parts) != 5 {
		return ""
	}
	return parts[1]
}

// Owner is the tenant under whose key the text is sealed, keys/tenant/profile/job; empty
// for a key that is nobody's.
func (s Sealed) Owner() string {
	parts := strings.Split(s.Key, "/")
	if len(parts) != 4 || parts[0] != "keys" {
		return ""
	}
	return parts[1]
}
