// Wav2Lip and SadTalker as they really behave (their inference.py).

package gpu

import (
	"cmp"
	"path/filepath"
	"slices"
	"strings"
)

// wav2Lip lays a speaking mouth on a face, in a clip or in a photo.
//
// Its traps: it writes temp/ where it runs and does not make it; what follows the first
// dot of the whole path is taken for the face's extension; the paths of sound and result
// reach a shell unquoted; it does not look how its ffmpeg ended; and its two bars look
// alike, of which the first one is about finding faces until "Model loaded" is printed.
func wav2Lip(c LipsyncProgramConfig) *lipsyncProgram {
	checkpoint := cmp.Or(c.Checkpoint, filepath.Join(c.Folder, "checkpoints", "wav2lip_gan.pth"))
	hint := "check out Wav2Lip into engines.lipsync.wav2lip.folder, with its requirements in an environment of its own and its weights beside it"
	return &lipsyncProgram{
		programConfig: programConfig{Env: append(slices.Clone(pythonEnv), c.Env...), Timeout: c.Timeout, Idle: c.Idle, Memory: c.Memory},
		name:          "wav2lip", model: strings.TrimSuffix(filepath.Base(checkpoint), filepath.Ext(checkpoint)), face: faceOfAny, folder: c.Folder, checkpoint: checkpoint, hint: hint,
		note: strings.TrimSpace("the lips were moved with Wav2Lip, whose weights are for research and other non-commercial use alone. " + c.Note),
		argv: append([]string{cmp.Or(c.Python, "python3"), "{folder}/inference.py", "--checkpoint_path", "{checkpoint}", "--face", "{face}", "--audio", "{speech}",
			"--outfile", "{out}", "--fps", "{fps}", "--face_det_batch_size", "{face_batch}", "--wav2lip_batch_size", "{batch}"}, c.Args...),
		needs: []needed{
			{filepath.Join(c.Folder, "inference.py"), "Wav2Lip's inference.py", hint, false},
			{checkpoint, "its checkpoint", "download wav2lip_gan.pth or wav2lip.pth, and set engines.lipsync.wav2lip.checkpoint to it", false},
			{filepath.Join(c.Folder, "face_detection", "detection", "sfd", "s3fd.pth"), "its face detector", "download s3fd.pth and put it there", false},
		},
		phases: []phase{{"", 0, 45, 0}, {"Model loaded", 45, 100, 0}},
		noFace: []string{"Face not detected!"},
		signs: []refusalRule{{words: []string{"image too big to run face detection"}, class: outOfMemory.class,
			message: "ran out of the card's memory while it looked for faces", hint: outOfMemory.hint}},
		batches: func(reduce int) (int, int, int) {
			return max(4, 128>>(2*min(reduce, 3))), max(1, 16>>(2*min(reduce, 3))), 512
		},
	}
}

// sadTalker has a portrait speak and move its head.
//
// Its traps: the result lies beside a folder that is named after the time, with dots, and
// its last line says where; with no face in the picture it says so and ends well without
// a file; weights of its face detector are looked for below where it runs, and downloaded
// if they are not there; and without memory it waits and tries again for ever.
func sadTalker(c LipsyncProgramConfig) *lipsyncProgram {
	checkpoint := cmp.Or(c.Checkpoint, filepath.Join(c.Folder, "checkpoints"))
	hint := "check out SadTalker into engines.lipsync.sadtalker.folder, with its requirements in an environment of its own, and run its scripts/download_models.sh"
	return &lipsyncProgram{
		programConfig: programConfig{Env: append(slices.Clone(pythonEnv), c.Env...), Timeout: c.Timeout, Idle: c.Idle, Memory: c.Memory},
		name:          "sadtalker", model: "SadTalker", face: faceOfPortrait, folder: c.Folder, checkpoint: checkpoint, hint: hint, note: c.Note,
		argv: append([]string{cmp.Or(c.Python, "python3"), "{folder}/inference.py", "--driven_audio", "{speech}", "--source_image", "{face}", "--result_dir", "{out_dir}",
			"--checkpoint_dir", "{checkpoint}", "--size", "{size}", "--batch_size", "{batch}", "--preprocess", "full", "--still"}, c.Args...),
		needs: []needed{
			{filepath.Join(c.Folder, "inference.py"), "SadTalker's inference.py", hint, false},
			{checkpoint, "its folder of checkpoints", hint, true},
			{filepath.Join(c.Folder, "gfpgan", "weights"), "the folder with the weights of its face detector", hint, true},
		},
		links: []string{"gfpgan"},
		phases: []phase{{"", 0, 2, 0}, {"landmark Det:", 2, 6, 0}, {"3DMM Extraction In Video:", 6, 10, 0}, {"mel:", 10, 15, 0}, {"audio2exp:", 15, 25, 0},
			{"Face Renderer:", 25, 75, 0}, {"seamlessClone:", 75, 90, 0}, {"Face Enhancer:", 90, 100, 0}},
		noFace:  []string{"Can't get the coeffs of the input", "No face is detected in the input file", "No face detected in this image", "can not detect the landmark"},
		circles: "Warning: out of memory, sleep",
		named:   "The generated video is named:",
		batches: func(reduce int) (int, int, int) { return max(1, 2-reduce), 1, 512 >> min(reduce, 1) },
	}
}
