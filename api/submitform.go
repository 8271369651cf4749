// A submission as a form: the fields of a JobRequest as parts, or one part called job that
// holds them as JSON, and files in place of the ids of uploads.
//
//  1. The parts are received one after another, the files into a folder of the request's own.
//  2. A file's name in the request is made of its digest, so that the same fields and files
//     are the same request, however the form is put together.
//  3. Every file is checked and written anew exactly like an upload. They go from there into
//     the job's folder, and only when nothing is left that could be refused.

package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"

	"github.com/myspinbot/myspinbot/events"
)

const (
	formParts   = 200 // a form may have
	formFiles   = 4   // times the bytes of one upload, of all files of a form together
	jobPart     = "job"
	fieldText   = "field_is_text"
	fieldsTwice = "field_repeated"
)

// jobForm is a form being read.
type jobForm struct {
	sub    *submitting
	texts  int                 // bytes that the fields may still have
	parts  int                 // so far
	values map[string][]string // by the name that the client wrote; a file by its id
}

// formFile is a file of the form, before and after it was written anew.
type formFile struct {
	dir     string // of its own; holds the file as received
	clean   upload
	refused *refusal // why it cannot be used
}

// received is where the file lies as it was sent.
func (f *formFile) received() string { return filepath.Join(f.dir, "upload") }

// formLimit is how many bytes the files of a form may have together.
func (s *Server) formLimit() int64 { return formFiles * s.cfg.Uploads.Bytes }

func (s *Server) formTooLarge() error {
	return refuse(codeTooLarge, "the files of a form may have %s together, also as they are stored; post them to /api/uploads one by one, and name their ids", mebibytes(s.formLimit()))
}

// readForm is the request that the form makes. Its files lie in a folder that discard deletes.
func (sub *submitting) readForm(c *fiber.Ctx) (object map[string]any, err error) {
	defer func() {
		if err != nil {
			// What is left of a large body is not worth reading.
			c.Context().SetConnectionClose()
		}
	}()
	s := sub.server
	ctx, cancel := context.WithTimeout(c.UserContext(), uploadTimeout)
	defer cancel()
	most := s.formLimit() + maxJSON + formSlack
	body, err := s.openForm(ctx, c, most, "send the form as multipart/form-data with its boundary")
	if err != nil {
		return nil, err
	}
	if int64(c.Request().Header.ContentLength()) > most {
		return nil, s.formTooLarge()
	}
	if sub.dir, err = os.MkdirTemp(s.cfg.TempDir, "myspinbot-upload-"); err != nil {
		return nil, fmt.Errorf("cannot make a folder for a form: %w", err)
	}
	sub.files = map[string]*formFile{}
	form := &jobForm{sub: sub, texts: maxJSON, values: map[string][]string{}}
	for {
		part, err := body.next()
		if err == nil {
			err = form.take(part)
		}
		switch {
		case errors.Is(err, io.EOF):
			return form.object()
		case errors.Is(err, errFormTooLarge):
			return nil, s.formTooLarge()
		case err != nil:
			return nil, err
		}
	}
}

// discard deletes what came with a form.
func (sub *submitting) discard() {
	if sub.dir == "" {
		return
	}
	if err := os.RemoveAll(sub.dir); err != nil {
		sub.server.log.Warn("the files of a form could not be deleted", "folder", sub.dir, "error", err)
	}
}

// take reads a part to its end.
func (f *jobForm) take(part *multipart.Part) error {
	name := part.FormName()
	at := "/" + escapePointer(name)
	list, takesFile := fileInputs[name]
	schema := f.sub.server.contract.field("JobRequest", f.ours(name))
	isFile := part.FileName() != "" && name != jobPart
	f.parts++
	switch {
	case f.parts > formParts:
		return refuse(codeTooLarge, "a form may have at most %d parts; post the files to /api/uploads one by one, and name their ids", formParts)
	case name == "":
		return refuse(codeRequestMalformed, "part %d of the form has no name; each needs Content-Disposition: form-data; name=\"…\"", f.parts)
	case isFile && !takesFile && schema != nil:
		return invalid(fault{Pointer: at, Code: fieldText, Detail: shortened(name) + " is a text: send it without a filename"})
	case isFile && !takesFile:
		return invalid(fault{Pointer: at, Code: "field_unknown", Detail: fmt.Sprintf("there is no file %q; files are %s", shortened(name), strings.Join(slices.Sorted(maps.Keys(fileInputs)), ", "))})
	case len(f.values[name]) > 0 && !list && fmt.Sprint(schema["type"]) != "array":
		return invalid(fault{Pointer: at, Code: fieldsTwice, Detail: shortened(name) + " is given twice"})
	}
	read := f.text
	if isFile {
		read = f.file
	}
	value, err := read(part, shortened(name))
	f.values[name] = append(f.values[name], value)
	return err
}

// ours is a field's name as the contract has it.
func (f *jobForm) ours(name string) string {
	if f.sub.camel {
		return toSnake(name)
	}
	return name
}

func (f *jobForm) text(part *multipart.Part, name string) (string, error) {
	text, err := io.ReadAll(io.LimitReader(part, int64(f.texts)+1))
	f.texts -= len(text)
	switch {
	case errors.Is(err, errFormTooLarge):
		return "", err
	case err != nil:
		return "", refuse(codeRequestMalformed, "the form broke off within %s", name)
	case f.texts < 0:
		return "", refuse(codeTooLarge, "the fields of a form may have at most %d KiB together, without the files", maxJSON>>10)
	case !utf8.Valid(text):
		return "", refuse(codeRequestMalformed, "%s is not valid UTF-8; a file needs a filename", name)
	}
	return string(text), nil
}

// file receives a file, and gives the id that stands for it in the request.
func (f *jobForm) file(part *multipart.Part, name string) (string, error) {
	file := &formFile{dir: filepath.Join(f.sub.dir, strconv.Itoa(f.parts))}
	if err := os.Mkdir(file.dir, 0o700); err != nil {
		return "", fmt.Errorf("cannot make a folder for a file of a form: %w", err)
	}
	sum := sha256.New()
	err := f.sub.server.receiveFile(io.TeeReader(part, sum), file.received())
	id := events.NameID("file", hex.EncodeToString(sum.Sum(nil)))
	if r := asRefusal(err); err != nil && r.code == codeFileInvalid { // it is empty
		err, file.refused = nil, r
	}
	if same := f.sub.files[id]; same != nil {
		return id, errors.Join(err, os.RemoveAll(file.dir))
	}
	f.sub.files[id] = file
	return id, named(err, name)
}

// named says which file of several a refusal is about.
func named(err error, name string) error {
	var r *refusal
	if !errors.As(err, &r) {
		return err
	}
	about := *r
	about.detail = name + ": " + r.detail
	return &about
}

// object is the request as JSON would give it.
func (f *jobForm) object() (map[string]any, error) {
	object := map[string]any{}
	if job := f.values[jobPart]; job != nil {
		var err error
		if object, err = parseObject([]byte(job[0]), "", "the part "+jobPart); err != nil {
			return nil, err
		}
	}
	for name, values := range f.values {
		if name == jobPart {
			continue
		}
		at := "/" + escapePointer(name)
		_, takesFile := fileInputs[name]
		_, twice := object[name]
		switch {
		case twice:
			return nil, invalid(fault{Pointer: at, Code: fieldsTwice, Detail: shortened(name) + " is given twice, also in the part " + jobPart})
		case f.values[jobPart] != nil && !takesFile:
			return nil, invalid(fault{Pointer: at, Code: "field_unknown", Detail: fmt.Sprintf("beside the part %s there are files alone; write %s into it", jobPart, shortened(name))})
		}
		value, err := f.value(name, values)
		if err != nil {
			return nil, err
		}
		object[name] = value
	}
	return object, nil
}

// value is what the texts of a field say, by the type that the contract gives it. What is
// of no such type stays a text, of which the contract's check says what is wrong.
func (f *jobForm) value(name string, texts []string) (any, error) {
	switch f.sub.server.contract.field("JobRequest", f.ours(name))["type"] {
	case "array":
		items := make([]any, len(texts))
		for i, text := range texts {
			items[i] = text
		}
		return items, nil
	case "object":
		return parseObject([]byte(texts[0]), "/"+escapePointer(name), shortened(name))
	case "boolean":
		if b := texts[0]; b == "true" || b == "false" {
			return b == "true", nil
		}
	}
	return texts[0], nil
}

// cleanFiles writes the form's files anew. What cannot be used is said of each when the
// request is planned.
func (sub *submitting) cleanFiles(ctx context.Context) error {
	s := sub.server
	ctx, cancel := context.WithTimeout(ctx, uploadTimeout)
	defer cancel()
	if err := begin(ctx, s.completing); err != nil {
		return err
	}
	defer func() { <-s.completing }()
	left := s.formLimit()
	for id, file := range sub.files {
		if file.refused != nil {
			continue
		}
		made, err := s.clean(ctx, file.dir, file.received())
		r := asRefusal(err)
		switch {
		case err == nil:
			file.clean, err = made.upload(id)
		case kinds[r.code].status < fiber.StatusInternalServerError:
			file.refused, err = r, nil
		}
		if err = errors.Join(err, os.Remove(file.received())); err != nil {
			return err
		}
		if left -= file.clean.Size; left < 0 {
			return s.formTooLarge()
		}
	}
	return nil
}

// upload is the file as the record of an upload that is not stored yet.
func (f cleaned) upload(id string) (upload, error) {
	info, err := os.Stat(f.path)
	if err != nil {
		return upload{}, fmt.Errorf("cannot look at a cleaned upload: %w", err)
	}
	return upload{ID: id, Type: f.kind, MediaType: f.mediaType, Size: info.Size(), Width: f.width, Height: f.height, DurationMS: f.duration.Milliseconds(), unstored: f}, nil
}
