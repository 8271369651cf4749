// Where a job stands in the queue and how long it will take, in words.

package main

import (
	"fmt"
	"time"
)

// forecastDoc is what the API foresees of a job that has not ended.
type forecastDoc struct {
	QueuePosition *int   `json:"queue_position"` // 1: next on its lane
	EtaSeconds    *int64 `json:"eta_seconds"`
	EtaRange      *struct {
		Low  int64 `json:"low"`
		High int64 `json:"high"`
	} `json:"eta_range"`
}

// left is how long the job will still take, empty where nobody knows.
func (f forecastDoc) left() string {
	if f.EtaSeconds == nil {
		return ""
	}
	return spokenSeconds(*f.EtaSeconds)
}

// place is where the job stands, with the spread of the forecast where the server tells it.
func (f forecastDoc) place() string {
	text := ""
	switch p := f.QueuePosition; {
	case p != nil && *p == 1:
		text = "next on its lane"
	case p != nil:
		text = fmt.Sprintf("%d on its lane", *p)
	}
	if f.EtaSeconds == nil {
		return text
	}
	if text != "" {
		text += "; "
	}
	text += "done in about " + f.left()
	if r := f.EtaRange; r != nil {
		text += fmt.Sprintf(" (eight of ten such jobs: %s to %s)", spokenSeconds(r.Low), spokenSeconds(r.High))
	}
	return text
}

func spokenSeconds(n int64) string { return (time.Duration(n) * time.Second).String() }
