// What an operator has set, kept on the topic settings: the newest record of a key holds.

package events

import "strings"

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

const apiKeyPrefix = AggregateAPIKey + "/"

// APIKeyKey is the record key of an API key's settings.
func APIKeyKey(id string) string { return apiKeyPrefix + id }

// APIKeyID is the id of the API key that a record key of settings is about; false for others.
func APIKeyID(recordKey string) (id string, ok bool) {
	return strings.CutPrefix(recordKey, apiKeyPrefix)
}

// APIKeyIssued says that whoever shows the API key, whose id is the aggregate id, may ask for
// what its scopes allow. The key itself is nowhere on the log.
type APIKeyIssued struct {
	v1
	Name              string   `json:"name"` // the actor of what is asked with it is "key:" and the name
	Tenant            string   `json:"tenant"`
	Scopes            []string `json:"scopes"`                        // read, write, operate
	Digest            string   `json:"digest"`                        // SHA-256 of the key's text, as hex
	RequestsPerSecond float64  `json:"requests_per_second,omitempty"` // over time; 0: no limit
	Burst             int      `json:"burst,omitempty"`               // requests at once
	ExpiresMS         int64    `json:"expires_ms,omitempty"`          // Unix time in milliseconds; 0: never
}

// EventType implements Payload.
func (APIKeyIssued) EventType() string { return "api_key.issued" }

// APIKeyRevoked says that the API key opens nothing any more.
type APIKeyRevoked struct {
	v1
	Name string `json:"name"`
}

// EventType implements Payload.
func (APIKeyRevoked) EventType() string { return "api_key.revoked" }
