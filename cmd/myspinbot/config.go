// The configuration: every key that any role reads, declared once. A field's
// comment is what `myspinbot config schema` prints about its key, its tags hold
// the key's name, default and limits.

package main

import (
	_ "embed"
	"encoding/base64"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

//go:embed config.go
var configSource string // the comments below, for the schema

// Config is everything that the roles can be told. loadConfig fills it.
type Config struct {
	// Name of this process among its peers, the same after every restart; the log knows its group members by it. Default: the host's name. Set it when two processes of one role share a host name.
	Instance string `key:"instance"`
	// Roles that `myspinbot run` plays in this process. Leave it alone on one machine; in a cluster give each process its own.
	Roles []string `key:"roles" default:"api,handler,projector,notifier,gpu" oneof:"api handler projector notifier gpu"`
	// Folder for temporary files, of uploads and of running stages; this process empties its own part of it at start. Empty: the system's temporary folder. Set it where that is small, or where two systems share a machine.
	Work string `key:"work"`

	Kafka    KafkaConfig    `key:"kafka"`
	Postgres PostgresConfig `key:"postgres"`
	S3       S3Config       `key:"s3"`
	Secrets  SecretsConfig  `key:"secrets"`
	HTTP     HTTPConfig     `key:"http"`
	Access   AccessConfig   `key:"access"`
	Ops      OpsConfig      `key:"ops"`
	GPU      GPUConfig      `key:"gpu"`
	Lanes    LanesConfig    `key:"lanes"`
	Engines  EnginesConfig  `key:"engines"`
	Job      JobConfig      `key:"job"`
	Limits   LimitsConfig   `key:"limits"`
	Uploads  UploadsConfig  `key:"uploads"`
	Webhooks WebhooksConfig `key:"webhooks"`
	Log      LogConfig      `key:"log"`

	Pipelines PipelinesConfig `key:"pipelines"`
}

// KafkaConfig reaches the log: Redpanda, or any other Kafka-compatible broker.
type KafkaConfig struct {
	// Addresses of some brokers, each host:port; the others are found through them. No default. `myspinbot dev` brings a log of its own.
	Brokers []string `key:"brokers"`
	// Put before every topic, group and transactional id. Change it only to let two systems share one cluster, and never afterwards: another prefix is another, empty log.
	Prefix string `key:"prefix" default:"myspinbot."`
	// Partitions of the topics keyed by job or profile, which bound how many handlers and projectors can share the work. It never changes in place: a log made with another number is refused at start.
	Partitions int `key:"partitions" default:"12" min:"1" max:"1000"`
	// Copies of every topic, -1 for the broker's own default. With three brokers or more choose 3.
	Replication int `key:"replication" default:"-1" min:"-1" max:"9"`
	// Silence after which the work of a handler or worker that has gone is given to others. Lower it where that must be quick, but not below the broker's own least (6 s); raise it where machines pause for longer than that.
	SessionTimeout time.Duration `key:"session_timeout" default:"10s" min:"1s" max:"5m"`
}

// PostgresConfig reaches the tables, which can be rebuilt from the log.
type PostgresConfig struct {
	// Address of the database, postgres://user:password@host:port/name. No default. `myspinbot dev` brings a database of its own.
	URL Secret `key:"url"`
}

// S3Config reaches the object store that holds every file.
type S3Config struct {
	// Address of the store, host:port; http:// or https:// before it decides over s3.secure. No default. `myspinbot dev` brings a store of its own.
	Endpoint string `key:"endpoint"`
	// Access key of the store. No default.
	AccessKey Secret `key:"access_key"`
	// Secret key of the store. No default.
	SecretKey Secret `key:"secret_key"`
	// The one private bucket; it is made when missing. Change it only when the name is taken.
	Bucket string `key:"bucket" default:"myspinbot"`
	// Region that requests are signed for. Most stores of one's own accept the default.
	Region string `key:"region" default:"us-east-1"`
	// Speak TLS with the store. Switch it on unless the store is on a private network.
	Secure bool `key:"secure" default:"false"`
}

// SecretsConfig holds the key that protects all free text on the log.
type SecretsConfig struct {
	// Master key that wraps the key of every job: 32 bytes in base64. No default; make one with `head -c 32 /dev/urandom | base64`. Whoever loses it loses every prompt and script.
	MasterKey Secret `key:"master_key"`
	// File that holds the master key in base64, in place of secrets.master_key. Use it where secrets are mounted as files.
	MasterKeyFile string `key:"master_key_file"`
}

// HTTPConfig is where the API listens.
type HTTPConfig struct {
	// Address of the API, host:port. Without access control (access.keys, access.oidc.issuer) on this machine's loopback alone, since everybody may do everything then. Port 0 takes a free one. The API speaks no TLS: reach it from elsewhere through a proxy that does, or a tunnel.
	Listen string `key:"listen" default:"127.0.0.1:8080"`
	// Names, beside localhost and the address that a client connects to, under which it is reached, such as a proxy's. Others are refused, so that no foreign web page reaches the API by a name of its own.
	Hosts []string `key:"hosts"`
	// Live streams and WebSockets that may be open at once, over which events are pushed. One more is refused with 503. Each costs a connection and some 130 KB.
	MaxStreams int `key:"max_streams" default:"2048" min:"1" max:"100000"`
	// Connections that may be open at once; one more is told so and closed. Raise it together with the process's limit of open files.
	MaxConnections int `key:"max_connections" default:"10000" min:"1" max:"1000000"`
	// Of them, those from one address (of IPv6, from one network of 64 bits). 0: no bound of its own, which is right on loopback, where all programs and a proxy have the same address.
	MaxConnectionsPerAddress int `key:"max_connections_per_address" default:"0" min:"0" max:"1000000"`
	// Requests a second that one address may send in the long run; more are answered 429. 0: no limit. Set it behind a proxy, together with http.client_header. Health, readiness and metrics are not counted.
	RequestsPerSecond float64 `key:"requests_per_second" default:"0" min:"0" max:"1000000"`
	// Requests that one address may send at once before http.requests_per_second holds it back.
	RequestBurst int `key:"request_burst" default:"100" min:"1" max:"1000000"`
	// Header in which the proxy in front names the client, such as X-Forwarded-For; of a list the last counts. Empty: the connection's other end. Set it only where every request comes through that proxy, for others can write what they like.
	ClientHeader string `key:"client_header"`
}

// OpsConfig is where a process without the API shows how it is.
type OpsConfig struct {
	// Address, host:port, of /health and /metrics in a process that does not play the api role, which has both itself. Empty: none. Set it where a collector reaches each process; nothing private is shown there.
	Listen string `key:"listen"`
}

// GPUConfig says what the gpu role of this process works on.
type GPUConfig struct {
	// Lanes that this process works on; empty means all of them. Set it to keep a machine for the work that its card is for.
	Lanes []string `key:"lanes" flag:"lanes" oneof:"script train tts render lipsync upscale media"`
	// How long this process may be silent before an attempt that it runs is taken for lost and another one follows. It beats three times as often, and at least every 5 s. Raise it where the network has longer gaps than that.
	Lease time.Duration `key:"lease" default:"15s" min:"1s" max:"10m"`
	// Memory in MiB that all processes on the graphics card may take together, whatever their lanes. 0: all that the card has, as nvidia-smi or ComfyUI says; where neither does, nothing is counted. -1: nothing is counted. Set it where others use the card as well, or a server keeps its models loaded for good.
	VRAM int `key:"vram_mb" default:"0" min:"-1" max:"10000000"`
	// Index or UUID of the card as nvidia-smi knows it. Set it where the engines work on another than the first.
	Device string `key:"device" default:"0"`
	// Folder in which the processes on the card keep the account of its memory, the same for all of them; containers share it. Empty: one in the system's temporary folder, by the name of the device.
	Account string `key:"account"`
	// What attempts take of the card in MiB, where engines do not know it or are wrong: TASK=MIB, or TASK/ENGINE@RESOLUTION=MIB, such as render_video@1080p=14000. What says most about an attempt counts, and what is measured counts if it is more.
	Needs []string `key:"needs"`
}

// LanesConfig has one table per lane.
type LanesConfig struct {
	Script  LaneConfig `key:"script"`
	Train   LaneConfig `key:"train"`
	TTS     LaneConfig `key:"tts"`
	Render  LaneConfig `key:"render"`
	Lipsync LaneConfig `key:"lipsync"`
	Upscale LaneConfig `key:"upscale"`
	Media   LaneConfig `key:"media"`
}

// LaneConfig bounds one lane.
type LaneConfig struct {
	// How many of the lane's commands run at once in the whole cluster: the partitions of its topic. Like kafka.partitions it never changes in place.
	Partitions int `key:"partitions" default:"2" min:"1" max:"1000"`
	// How many of the lane's commands this process runs at once. Leave it at 1 for work that fills a card or all cores.
	Slots int `key:"slots" default:"1" min:"1" max:"100"`
}

// EnginesConfig finds the programs, weights and servers that do the work.
type EnginesConfig struct {
	// Path of ffmpeg. Empty: the one on PATH.
	FFmpeg string `key:"ffmpeg"`
	// Path of ffprobe. Empty: the one on PATH.
	FFprobe string `key:"ffprobe"`
	// Path of flite, the built-in voice. Empty: the one on PATH.
	Flite string `key:"flite"`
	// Announce the engine that makes nothing, for jobs in the diagnostic mode: smoke tests, chaos tests and benches. Leave it off where people wait for videos.
	Noop     bool           `key:"noop" default:"false"`
	Face     FaceConfig     `key:"face"`
	Ollama   OllamaConfig   `key:"ollama"`
	Chat     ChatConfig     `key:"chat"`
	Script   ScriptConfig   `key:"script"`
	Safety   SafetyConfig   `key:"safety"`
	Speech   SpeechConfig   `key:"speech"`
	ComfyUI  ComfyUIConfig  `key:"comfyui"`
	Lipsync  LipsyncConfig  `key:"lipsync"`
	Training TrainingConfig `key:"training"`
}

// FaceConfig is for the built-in talking photo.
type FaceConfig struct {
	// Folder with the weights of the face networks. Empty: the one that `make deps` fills, .deps/face in the checkout. Without weights the talking photo is announced as missing.
	Weights string `key:"weights"`
}

// ComfyUIConfig reaches the server that renders, has portraits speak and enlarges on a graphics card.
type ComfyUIConfig struct {
	// Base URL of a ComfyUI server, such as http://127.0.0.1:8188. Empty: none; the built-in engines do its work. ComfyUI itself asks nobody for a key: keep it on loopback or a private network.
	URL string `key:"url"`
	// Key that a proxy in front of ComfyUI asks for, sent as a bearer token. Empty: none is sent.
	APIKey Secret `key:"api_key"`
	// Folder with templates of your own, *.json; one named as a built-in template takes its place. Empty: the built-in ones alone.
	Workflows string `key:"workflows"`
	// Names of the templates to offer, in the order of preference. Empty: your own, then svd, s2v, infinitetalk, latentsync and upscale. Set it to leave out what this card should not do.
	Templates []string `key:"templates"`
	// Longest silence of a running graph before its attempt is given up. Raise it where models load from a slow disk for longer than that.
	Idle time.Duration `key:"idle" default:"10m" min:"10s" max:"4h"`
}

// JobConfig is how stubborn and how patient jobs are.
type JobConfig struct {
	// Attempts of one stage before its job fails. 1 never repeats.
	MaxAttempts int `key:"max_attempts" default:"3" min:"1" max:"20"`
	// Wait before the second attempt; it doubles with every further one.
	BackOff time.Duration `key:"back_off" default:"2s" min:"0s" max:"1h"`
	// Longest life of a job, waiting included; then it ends as failed.
	Deadline time.Duration `key:"deadline" default:"24h" min:"1m" max:"720h"`
	// How long a job waits for its script to be approved; then it ends as failed.
	ApprovalExpiry time.Duration `key:"approval_expiry" default:"12h" min:"1s" max:"720h"`
	// Engines that may work for jobs which say nothing about it, as the api role goes by: auto lets built-in engines stand in for configured ones that are away, real refuses that, preview uses the built-in ones alone. Set real where a preview is of no use to anybody.
	Engines string `key:"engines" default:"auto" oneof:"auto real preview"`
}

// PipelinesConfig is where pipelines of one's own lie.
type PipelinesConfig struct {
	// Folder with pipelines of your own, *.json, which the api role offers beside the built-in ones. A process that is told of a folder with a fault in it does not start. Handlers need none: a job carries the definition of its pipeline.
	Dir string `key:"dir"`
}

// LimitsConfig is what one job may ask for.
type LimitsConfig struct {
	// Longest scene that a job may ask for, in seconds.
	MaxDurationSeconds int `key:"max_duration_seconds" default:"60" min:"1" max:"60"`
	// Largest picture that a job may ask for, by its short side.
	MaxResolution string `key:"max_resolution" default:"1080p" oneof:"576p 720p 1080p"`
	// Jobs that may be open at once: scheduled, queued, running or waiting for somebody. One more is answered 429. Each API process counts for itself, so that several together may take a few more. 0: no limit.
	MaxOpenJobs int `key:"max_open_jobs" default:"10000" min:"0" max:"10000000"`
	// Jobs that may be open at once of one tenant, so that none takes all places. One more is answered 429. 0: no limit but the one of all.
	MaxOpenJobsPerTenant int `key:"max_open_jobs_per_tenant" default:"0" min:"0" max:"10000000"`
}

// UploadsConfig bounds what clients upload; api reads it.
type UploadsConfig struct {
	// Largest file that may be sent to the API itself, in MiB. Larger ones go to the object store under a ticket.
	MaxMiB int `key:"max_mib" default:"64" min:"1" max:"1024"`
	// Largest file that may be posted to the object store under a ticket, in MiB. While it is checked, the file and what is made of it lie in the work folder.
	TicketMiB int `key:"ticket_mib" default:"512" min:"1" max:"5120"`
	// Largest image, in millions of pixels. What takes more than 128 MiB to decode is refused whatever this says.
	MaxMegapixels int `key:"max_megapixels" default:"16" min:"1" max:"32"`
	// Longest recording that is taken. Raise it where voices are trained on whole lectures; checking takes time and room in proportion.
	MaxAudio time.Duration `key:"max_audio" default:"10m" min:"1s" max:"2h"`
	// How long an upload can be named by a job or a profile; then it is deleted. They have copies of their own. Raise it where people prepare files days ahead.
	Keep time.Duration `key:"keep" default:"24h" min:"1h" max:"720h"`
}

// WebhooksConfig is about telling others of jobs; api and notifier read it.
type WebhooksConfig struct {
	// Hosts, as name or name:port, that webhooks may reach although their addresses are private, and over plain http. Empty: public addresses alone, over https. Name only hosts that any user of the API may send messages to; addresses where clouds keep their secrets stay closed.
	AllowPrivate []string `key:"allow_private"`
	// Addresses that are told of every job, beside whom a job itself asks for: https, and public or allowed above. Set them for api and notifier alike. Empty: nobody.
	Endpoints []string `key:"endpoints"`
	// What those addresses are told of, such as job.submitted, job.failed. Empty: how jobs end.
	EndpointEvents []string `key:"endpoint_events"`
	// Secret that messages to those addresses are signed with: whsec_ and 24 to 64 bytes in base64. Several sign each, as webhooks.receivers.NAME.secret has it. No default.
	EndpointSecret Secret `key:"endpoint_secret"`
	// File that holds that secret, or several, one a line; for secrets that are mounted as files.
	EndpointSecretFile string `key:"endpoint_secret_file"`
	// Least time between two messages about one job's progress, for webhooks that ask for it.
	Progress time.Duration `key:"progress" default:"10s" min:"1s" max:"1h"`

	Receivers map[string]*ReceiverConfig `key:"receivers"`
}

// LogConfig is about the lines that the program writes on standard error.
type LogConfig struct {
	// Least important lines that are written.
	Level string `key:"level" default:"info" oneof:"debug info warn error"`
	// text for people, json for collectors.
	Format string `key:"format" default:"text" oneof:"text json"`
}

// Secret is a value that is never printed: every way of formatting it says so.
type Secret string

// hidden stands for a secret wherever one would be printed.
const hidden = "(secret)"

// Reveal gives the secret itself, for the one place that needs it.
func (s Secret) Reveal() string { return string(s) }

func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return hidden
}

// Format hides the secret from every verb, %q, %x and %#v included.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, s.String()) }

// MarshalText hides the secret from encoders.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue hides the secret from slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MasterKeyBytes is the master key, 32 bytes, or nil when none was given.
func (c SecretsConfig) MasterKeyBytes() []byte {
	key, err := base64.StdEncoding.DecodeString(c.MasterKey.Reveal())
	if err != nil || len(key) == 0 {
		return nil // loadConfig refuses what does not decode
	}
	return key
}

// byLane gives each lane's table by the lane's name.
func (c LanesConfig) byLane() map[string]LaneConfig {
	return map[string]LaneConfig{
		"script": c.Script, "train": c.Train, "tts": c.TTS, "render": c.Render,
		"lipsync": c.Lipsync, "upscale": c.Upscale, "media": c.Media,
	}
}

// Partitions gives the bound of each lane by its name.
func (c LanesConfig) Partitions() map[string]int {
	out := map[string]int{}
	for name, lane := range c.byLane() {
		out[name] = lane.Partitions
	}
	return out
}

// Slots gives the slots that this process has for each of its lanes, by name;
// only is the list of its lanes, empty for all.
func (c LanesConfig) Slots(only []string) map[string]int {
	out := map[string]int{}
	for name, lane := range c.byLane() {
		if len(only) == 0 || slices.Contains(only, name) {
			out[name] = lane.Slots
		}
	}
	return out
}
