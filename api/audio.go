// Uploaded audio: its container forced by its first bytes, probed, and transcoded
// to FLAC without metadata, by ffmpeg with fixed arguments.

package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"
)

const (
	minAudio     = 200 * time.Millisecond
	probeTimeout = 20 * time.Second
	audioTimeout = 2 * time.Minute
)

// audioDemuxer names the demuxer by the first bytes, or nothing. Playlists, concat
// scripts and image sequences are not among them: they make ffmpeg read other files.
func audioDemuxer(head []byte) string {
	at := func(offset int, magic string) bool {
		return len(head) >= offset+len(magic) && string(head[offset:offset+len(magic)]) == magic
	}
	switch {
	case at(0, "RIFF") && at(8, "WAVE"):
		return "wav"
	case at(0, "fLaC"):
		return "flac"
	case at(0, "OggS"):
		return "ogg"
	case at(4, "ftyp"):
		return "mov"
	case at(0, "ID3"), at(0, "\xff\xfb"), at(0, "\xff\xfa"), at(0, "\xff\xf3"), at(0, "\xff\xf2"):
		return "mp3"
	}
	return ""
}

// exactLength are the demuxers whose length is written in the file; others guess it from the bit rate.
var exactLength = map[string]bool{"wav": true, "flac": true, "mov": true}

// cleanAudio makes a FLAC file of the sound at path.
func (s *Server) cleanAudio(ctx context.Context, dir, path, demuxer string) (cleaned, error) {
	if err := checkWAV(path, demuxer); err != nil {
		return cleaned{}, err
	}
	source, err := s.probe(ctx, path, demuxer)
	if err != nil {
		return cleaned{}, err
	}
	if source.video {
		return cleaned{}, refuseFile("the file is a video; upload its sound alone (WAV, FLAC, MP3, OGG or M4A)")
	}
	out := cleaned{path: filepath.Join(dir, "clean.flac"), kind: uploadAudio, ext: "flac", mediaType: "audio/flac"}
	args := append(safeInput(path, demuxer),
		"-map", "0:a:0", "-vn", "-sn", "-dn", "-map_metadata", "-1", "-map_chapters", "-1", "-fflags", "+bitexact", "-flags:a", "+bitexact",
		// A second more than allowed is enough to know; a header may lie about the length.
		"-t", strconv.Itoa(int(s.cfg.Uploads.Audio.Seconds())+1),
		"-ac", strconv.Itoa(min(max(source.channels, 1), 2)), "-ar", strconv.Itoa(min(max(source.rate, 8_000), 48_000)), "-sample_fmt", "s16",
		"-c:a", "flac", "-f", "flac", "file:"+out.path)
	if _, err := runTool(ctx, s.cfg.FFmpeg, dir, audioTimeout, append(quietFFmpeg(), args...)); err != nil {
		return cleaned{}, asDamaged(err)
	}
	made, err := s.probe(ctx, out.path, "flac")
	if err != nil {
		return cleaned{}, err
	}
	switch out.duration = made.length; {
	case made.length > s.cfg.Uploads.Audio:
		return cleaned{}, refuseFile("the audio is longer than %s; upload a shorter piece", spokenTime(s.cfg.Uploads.Audio))
	case exactLength[demuxer] && made.length < source.length*9/10-time.Second:
		return cleaned{}, refuseFile("the audio ends too early: its header promises %v, and there are %v; record or export it again",
			source.length.Round(time.Second/10), made.length.Round(time.Second/10))
	case made.length < minAudio:
		return cleaned{}, refuseFile("the audio is shorter than %v; upload a longer piece", minAudio)
	}
	return out, nil
}

// safeInput opens one local file with one demuxer and nothing else.
func safeInput(path, demuxer string) []string {
	return []string{"-protocol_whitelist", "file", "-format_whitelist", demuxer, "-f", demuxer, "-i", "file:" + path}
}

type sound struct {
	length         time.Duration
	rate, channels int
	video          bool
}

// probe reads what ffprobe says of a file's streams.
func (s *Server) probe(ctx context.Context, path, demuxer string) (sound, error) {
	// Only what is needed: tags may be as large as the file.
	args := append([]string{"-hide_banner", "-v", "error", "-max_alloc", toolAlloc, "-of", "json", "-show_entries",
		"format=duration:stream=codec_type,sample_rate,channels:stream_disposition=attached_pic"}, safeInput(path, demuxer)...)
	out, err := runTool(ctx, s.cfg.FFprobe, filepath.Dir(path), probeTimeout, args)
	if err != nil {
		return sound{}, asDamaged(err)
	}
	var raw struct {
		Streams []struct {
			Type        string `json:"codec_type"`
			Rate        string `json:"sample_rate"`
			Channels    int    `json:"channels"`
			Disposition struct {
				Cover int `json:"attached_pic"`
			} `json:"disposition"`
		} `json:"streams"`
		Format struct {
			Duration string `json:"duration"`
		} `json:"format"`
	}
	if err := json.Unmarshal(out, &raw); err != nil {
		return sound{}, fmt.Errorf("cannot read what ffprobe printed: %w", err)
	}
	found, heard := sound{}, false
	for _, st := range raw.Streams {
		switch {
		case st.Type == "video" && st.Disposition.Cover == 0:
			found.video = true
		case st.Type == "audio" && !heard:
			heard = true
			found.channels = st.Channels
			found.rate, _ = strconv.Atoi(st.Rate) // 0 where ffprobe does not know
		}
	}
	if !heard {
		return sound{}, refuseFile("the file holds no sound; %s", s.cfg.Uploads.allowed())
	}
	if seconds, err := strconv.ParseFloat(raw.Format.Duration, 64); err == nil {
		found.length = time.Duration(seconds * float64(time.Second))
	}
	return found, nil
}

// asDamaged turns the refusal of a program into one of the file.
func asDamaged(err error) error {
	if !errors.Is(err, errTool) {
		return err
	}
	r := asRefusal(refuseFile("the file cannot be read; it seems damaged, or is not what its first bytes say: export it again"))
	r.cause = err
	return r
}
