// What an operator has set, kept on the topic settings: the newest record of a key holds.

package events

// LaneKey is the record key of a lane's settings.
func LaneKey(lane string) string { return AggregateLane + "/" + lane }

// LanePaused says that the lane, which is the aggregate id, accepts nothing: what runs
// goes on to its end, and the queue stays.
type LanePaused struct{ v1 }

// EventType implements Payload.
func (LanePaused) EventType() string { return "lane.paused" }

// LaneResumed says that a paused lane accepts commands again.
type LaneResumed struct{ v1 }

// EventType implements Payload.
func (LaneResumed) EventType() string { return "lane.resumed" }
