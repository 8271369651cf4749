// Package rounds counts what a test does over and over, such as seeds: as often as
// its environment says, or less when its time is up, which it then says.
//
// What belongs here: handing out rounds, and telling how many there were. What may
// not: what a round does. The program does not link it.
package rounds
