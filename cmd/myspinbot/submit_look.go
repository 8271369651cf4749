// The flags of submit for the language and for what people want of a video: each is an option of the pipeline
// under a name of its own.

package main

import "flag"

// look adds the flags. What they are given counts as --option does, and twice is refused
// in the same way.
func (s *submission) look(f *flag.FlagSet) {
	for _, o := range []struct{ flag, option, usage string }{
		{"language", "language", "of script and voice by its code of ISO 639-1, with or without a region: en (default), de, pt-BR"},
		{"aspect", "aspect", "shape of the picture: 1:1 (default), 16:9 or 9:16"},
		{"resolution", "resolution", "short side of the picture: 576p, 720p (default) or 1080p"},
		{"fit", "fit", "how a picture of another shape fills the frame: cover (default), contain or blur"},
		{"captions", "captions", "file (default): beside the video; burned: in the picture as well"},
		{"music-level", "music_level", "loudness of the music in the pauses, in LU against the speech: -40 to 0; default -12"},
		{"seed", "seed", "what the picture is drawn by; the same seed makes the same"},
		{"takes", "takes", "how many variants of the picture are made: 1 (default) to 4"},
	} {
		f.Func(o.flag, o.usage, func(v string) error { return s.options.Set(o.option + "=" + v) })
	}
	for _, o := range []struct{ flag, option, usage string }{
		{"draft", "draft", "small and fast, to see what it will be"},
		{"visible-label", "label", `the words "AI generated" in a corner of the picture`},
	} {
		f.BoolFunc(o.flag, o.usage, func(v string) error { return s.options.Set(o.option + "=" + v) })
	}
}
