// The names of the topics and lanes, without the configurable prefix.

package events

// Topics. Their settings stand in internal/eventlog.
const (
	TopicJobCommands     = "jobs.commands"
	TopicJobEvents       = "jobs.events"
	TopicJobIndex        = "jobs.index"
	TopicJobReplies      = "jobs.replies"
	TopicProfileCommands = "profiles.commands"
	TopicProfileEvents   = "profiles.events"
	TopicTaskEvents      = "gpu.events"
	TopicTaskProgress    = "gpu.progress"
	TopicTaskControl     = "gpu.control"
	TopicWorkers         = "workers"
	TopicSettings        = "settings"
	TopicDeadLetters     = "deadletters"
	// TopicWebhookCommands and TopicWebhooks are partitioned as jobs.events is.
	TopicWebhookCommands = "webhooks.commands"
	TopicWebhooks        = "webhooks.deliveries"
)

// Lanes, in the order of a job's life.
const (
	LaneScript  = "script"
	LaneTrain   = "train"
	LaneTTS     = "tts"
	LaneRender  = "render"
	LaneLipsync = "lipsync"
	LaneUpscale = "upscale"
	LaneMedia   = "media"
)

// Lanes lists every lane.
func Lanes() []string {
	return []string{LaneScript, LaneTrain, LaneTTS, LaneRender, LaneLipsync, LaneUpscale, LaneMedia}
}

// LaneTopic is the command topic of a lane.
func LaneTopic(lane string) string { return "gpu." + lane + ".commands" }

// LaneBatchTopic is the lane's topic for commands that may wait.
func LaneBatchTopic(lane string) string { return "gpu." + lane + ".batch.commands" }
