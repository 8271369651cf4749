// Files to a ComfyUI server and back.

package gpu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/myspinbot/myspinbot/events"
)

// comfyFile is a file by its name on the server.
type comfyFile struct {
	Filename  string `json:"filename"`
	Subfolder string `json:"subfolder"`
	Type      string `json:"type"` // input, output or temp
}

// upload sends a file into the server's input folder and gives the name by which a
// graph loads it. Pictures, sound and films all go through the route for pictures. The
// server keeps the name for the same bytes and invents another for others, so that
// only its answer counts.
func (c *comfyClient) upload(ctx context.Context, file, folder, name string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("cannot open a file for ComfyUI: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("cannot open a file for ComfyUI: %w", err)
	}
	if info.Size() > comfyUpload {
		return "", &TaskError{Class: events.ClassInvalidInput, Message: fmt.Sprintf("a file of %d MiB is larger than ComfyUI takes (%d MiB)", info.Size()>>20, comfyUpload>>20),
			Hint: "use a shorter clip or a smaller picture"}
	}
	body, feed := io.Pipe()
	form := multipart.NewWriter(feed)
	go func() {
		_ = feed.CloseWithError(writeForm(form, f, name, map[string]string{"type": "input", "subfolder": folder, "overwrite": "false"})) // never fails
	}()
	var kept struct {
		Name      string `json:"name"`
		Subfolder string `json:"subfolder"`
	}
	err = c.send(ctx, http.MethodPost, "/upload/image", form.FormDataContentType(), body, func(res *http.Response) error { return decodeComfy(res, &kept) })
	_ = body.CloseWithError(io.ErrClosedPipe) // ends the writer where the request ended early; never fails
	if err == nil && kept.Name == "" {
		err = errComfyFormat
	}
	if err != nil {
		return "", err
	}
	return path.Join(strings.ReplaceAll(kept.Subfolder, `\`, "/"), kept.Name), nil
}

func writeForm(form *multipart.Writer, file io.Reader, name string, fields map[string]string) error {
	for key, value := range fields {
		if err := form.WriteField(key, value); err != nil {
			return err
		}
	}
	part, err := form.CreateFormFile("image", name)
	if err != nil {
		return err
	}
	if _, err := io.Copy(part, file); err != nil {
		return err
	}
	return form.Close()
}

// comfyOutput picks a node's result by its extension: the key under which it lies
// differs from node to node (images, gifs, video, …).
func comfyOutput(outputs map[string]map[string]json.RawMessage, node string, extensions []string) (comfyFile, bool) {
	keys := make([]string, 0, len(outputs[node]))
	for key := range outputs[node] {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		var files []json.RawMessage
		if json.Unmarshal(outputs[node][key], &files) != nil {
			continue // a flag or a number
		}
		for _, text := range files {
			var f comfyFile
			if json.Unmarshal(text, &f) != nil || f.Filename == "" || f.Type == "input" {
				continue
			}
			if slices.Contains(extensions, strings.ToLower(path.Ext(f.Filename))) {
				return f, true
			}
		}
	}
	return comfyFile{}, false
}

// download fetches a result into a new local file.
func (c *comfyClient) download(ctx context.Context, f comfyFile, into string) (err error) {
	out, err := os.OpenFile(into, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("cannot write ComfyUI's result: %w", err)
	}
	query := url.Values{"filename": {f.Filename}, "subfolder": {f.Subfolder}, "type": {f.Type}}
	var n int64
	err = c.send(ctx, http.MethodGet, "/view?"+query.Encode(), "", nil, func(res *http.Response) (err error) {
		n, err = io.Copy(out, io.LimitReader(res.Body, comfyDownload+1))
		return err
	})
	if closeErr := out.Close(); err == nil {
		err = closeErr
	}
	if err == nil && (n == 0 || n > comfyDownload) {
		err = &TaskError{Class: events.ClassEngineRejected, Message: fmt.Sprintf("ComfyUI's result has %d bytes", n), Hint: "look at the graph's output node"}
	}
	var status *comfyStatus
	if errors.As(err, &status) && status.code == http.StatusNotFound {
		err = &TaskError{Class: events.ClassEngineUnavailable, Message: "ComfyUI names a result that is no longer in its output folder",
			Hint: "another attempt makes it again; does something empty that folder?"}
	}
	return err
}
