// Whether the mouth in the final video moves: the lips of a face that is followed through
// frames of the speech.

package gpu

import (
	"context"
	"errors"
	"fmt"
	"image"
	"math"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/talkingphoto"
)

const (
	mouthFrames = 16    // that are looked at, spread over the speech
	mouthRate   = 12.0  // of them a second, at most
	mouthWidth  = 720   // pixels of the short side that they are looked at in, at most
	mouthFaces  = 4     // frames in which a face is looked for
	mouthLeast  = 6     // frames that must show the face, for the lips to be judged
	mouthMoves  = 0.007 // standard deviation of the gap between the lips over the distance of the eyes
)

// mouthMoves lies between what was measured on seven portraits, in every shape and size
// of the picture, drafts among them: 0.0006 to 0.0046 for faces that are still, under a
// moving camera too, which is the networks' own trembling; 0.0102 to 0.0155 for one that
// speaks under a full beard, and 0.018 to 0.055 for all others, slow and quiet speech included.

// mouth gives the reasons against the face, or a note where nobody looked.
func (k *checker) mouth(ctx context.Context, a *Attempt, path string, info *mediaInfo, speech float64) ([]events.Reason, string, error) {
	if stillAllowed(a) {
		return nil, "a video without a speaking face was allowed: movement and mouth were not judged", nil
	}
	model, err := k.faces.load()
	if err != nil {
		return nil, "whether the mouth moves was not checked: " + err.Error(), nil
	}
	v := info.Video
	scale := min(1, float64(mouthWidth)/float64(min(v.Width, v.Height)))
	w, h := max(2, int(float64(v.Width)*scale)&^1), max(2, int(float64(v.Height)*scale)&^1)
	rate := min(mouthRate, mouthFrames/max(0.1, min(speech, v.Seconds)))
	frames, err := k.media.stills(ctx, a.Dir, path, rate, mouthFrames, []string{fmt.Sprintf("scale=%d:%d", w, h)}, w, h)
	if err != nil {
		return nil, "", decodable(err)
	}
	gaps, err := lips(ctx, model, frames)
	switch {
	case err != nil:
		return nil, "", err
	case len(gaps) == 0:
		return []events.Reason{{Code: "no_face", Detail: "the final video shows no face"}}, "", nil
	case len(frames) < mouthLeast:
		return nil, "the video is too short to tell whether the mouth moves", nil
	case len(gaps) < mouthLeast:
		return []events.Reason{{Code: "face_lost", Detail: fmt.Sprintf("the face can be seen in %d of %d frames only", len(gaps), len(frames))}}, "", nil
	}
	if moved := deviation(gaps); moved < mouthMoves {
		return []events.Reason{{Code: "mouth_still", Detail: fmt.Sprintf("the mouth does not move with the speech: its lips move by %.1f %% of the distance of the eyes, and should by %.1f %% at least",
			100*moved, 100*mouthMoves)}}, "", nil
	}
	return nil, "", nil
}

// decodable passes no error about a video that cannot be decoded: the other part of the
// check gives that as its reason.
func decodable(err error) error {
	var refused *TaskError
	if errors.As(err, &refused) && refused.Class == events.ClassEngineRejected {
		return nil
	}
	return err
}

// lips are the gaps between the lips in the frames that show the face.
func lips(ctx context.Context, model *talkingphoto.FaceModel, frames []*image.RGBA) (gaps []float64, err error) {
	var marks *talkingphoto.Landmarks
	tried := 0
	for _, f := range frames {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("looking at the mouth was stopped: %w", err)
		}
		if marks == nil {
			if tried++; tried > mouthFaces {
				break
			}
			found, _, err := locate(ctx, model, f)
			if err != nil {
				continue
			}
			marks = &found
		}
		next, err := model.Follow(f, *marks)
		if err != nil {
			marks = nil
			continue
		}
		marks = &next
		gaps = append(gaps, next.MouthGap())
	}
	return gaps, nil
}

func deviation(v []float64) float64 {
	mean, square := 0.0, 0.0
	for _, x := range v {
		mean += x / float64(len(v))
	}
	for _, x := range v {
		square += (x - mean) * (x - mean) / float64(len(v))
	}
	return math.Sqrt(square)
}
