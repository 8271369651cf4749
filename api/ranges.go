// What a client asks of a file: a range, a version, a name to save it under
// (RFC 9110, sections 13 and 14).

package api

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"

	"github.com/gofiber/fiber/v2"

	"github.com/myspinbot/myspinbot/projections"
)

// matches compares an If-None-Match with our tag, weakly.
func matches(header, tag string) bool {
	for one := range strings.SplitSeq(header, ",") {
		if one = strings.TrimSpace(one); one == "*" || strings.TrimPrefix(one, "W/") == tag {
			return true
		}
	}
	return false
}

// byteRange reads Range: one range of bytes, from, and to behind its last. Other methods
// than GET, several ranges, other units, and an If-Range that does not match ask for the whole.
func byteRange(c *fiber.Ctx, a *projections.Artifact) (from, to int64, partial bool, err error) {
	unit, spec, ok := strings.Cut(c.Get(fiber.HeaderRange), "=")
	condition := c.Get(fiber.HeaderIfRange)
	if !ok || c.Method() != fiber.MethodGet || !strings.EqualFold(strings.TrimSpace(unit), "bytes") ||
		strings.Contains(spec, ",") || (condition != "" && condition != etag(a)) {
		return 0, a.Size, false, nil
	}
	if from, to, ok = oneRange(strings.TrimSpace(spec), a.Size); !ok {
		c.Set(fiber.HeaderContentRange, fmt.Sprintf("bytes */%d", a.Size))
		return 0, 0, false, refuse(codeRange, "the file has %d bytes; ask for a range within it, such as bytes=0-1023", a.Size)
	}
	return from, to, true, nil
}

// oneRange reads first-last, first- or -length, of a file of size bytes.
func oneRange(spec string, size int64) (from, to int64, ok bool) {
	first, last, ok := strings.Cut(spec, "-")
	if !ok {
		return 0, 0, false
	}
	to = size
	if last != "" {
		if to, ok = bytePosition(last); !ok {
			return 0, 0, false
		}
	}
	switch {
	case first == "" && last != "":
		return max(0, size-to), size, to > 0 && size > 0
	case first == "":
		return 0, 0, false
	case last != "":
		to = min(to, size-1) + 1
	}
	from, ok = bytePosition(first)
	return from, to, ok && from < size && from < to
}

// bytePosition reads digits; more of them than any file has bytes are the largest number.
func bytePosition(digits string) (int64, bool) {
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		n = math.MaxInt64
	}
	return n, true
}

const maxName = 120 // letters

// safeName is a name under which any system may save a file: no folders, no control
// characters, no letters that turn the reading direction around, and not hidden.
func safeName(name string) string {
	name = strings.Map(func(r rune) rune {
		switch {
		case strings.ContainsRune(`/\:*?"<>|`, r):
			return '_'
		case r == unicode.ReplacementChar, !unicode.IsPrint(r):
			return -1
		}
		return r
	}, name)
	name = strings.Trim(name, ". ")
	if letters := []rune(name); len(letters) > maxName {
		name = string(letters[len(letters)-maxName:]) // the end says what it is
	}
	if name == "" {
		return "file"
	}
	return name
}
