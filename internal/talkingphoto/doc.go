// Package talkingphoto makes a still portrait speak: it finds the face and its
// 68 landmarks, turns timed phones into mouth shapes, and moves the photo's own
// pixels accordingly. It needs no GPU, no cgo and no Python; two small networks
// (0.55 MB, MIT, from @vladmandic/face-api) are read from a folder at run time.
//
// What belongs here: everything between a decoded photo plus speech and the
// frames of the talking clip, and the measurements that tell whether a finished
// clip is good. What does not: encoding, queues, jobs, storage, speech synthesis
// and the choice of an engine; those belong to gpu-consumers.
//
// The result is a preview: plausible, clearly the person of the photo, but not
// a neural render. Callers label it so.
package talkingphoto
