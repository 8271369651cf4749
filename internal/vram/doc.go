// Package vram keeps the account of a graphics card's memory: who works in it, who
// waits for it, which models stay loaded. All processes on one card share one account.
//
// What belongs here: the rules of admission, and the files by which processes on one
// machine know of one another. What may not: engines and how they unload, lanes, what
// an attempt needs.
package vram
