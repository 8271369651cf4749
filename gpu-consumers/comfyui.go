// ComfyUI as an engine: one for each template, which does the template's task when the
// server has all that it needs.

package gpu

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// builtinTemplates is the order of preference among the templates that come along; a
// folder's own stand before them.
var builtinTemplates = []string{"svd", "s2v", "infinitetalk", "latentsync", "upscale"}

// ComfyUIEngines are the engines behind a ComfyUI server, in the order of preference;
// none without an address. They belong before the built-in ones, which take what a
// template does not, and everything while the server is away.
func ComfyUIEngines(c ComfyUIConfig, programs EngineConfig) ([]engine, error) {
	if c.URL == "" {
		return nil, nil
	}
	client, err := newComfyClient(c)
	if err != nil {
		return nil, err
	}
	all, err := loadTemplates(c.Workflows)
	if err != nil {
		return nil, fmt.Errorf("cannot read ComfyUI's templates: %w", err)
	}
	names := c.Templates
	if len(names) == 0 {
		own := slices.DeleteFunc(slices.Sorted(maps.Keys(all)), func(n string) bool { return slices.Contains(builtinTemplates, n) })
		names = append(own, builtinTemplates...)
	}
	media := programs.media()
	server := &comfyServer{client: client, lock: make(chan struct{}, 1)}
	var engines []engine
	for _, name := range names {
		t, known := all[name]
		if !known {
			return nil, fmt.Errorf("cannot use the ComfyUI template %q: choose among %s", name, strings.Join(slices.Sorted(maps.Keys(all)), ", "))
		}
		for _, node := range t.Graph {
			if !slices.Contains(server.wanted, node.Class) {
				server.wanted = append(server.wanted, node.Class)
			}
		}
		engines = append(engines, &comfyEngine{server: server, t: t, media: media, framing: &kenBurns{media, &faceNetworks{folder: programs.FaceWeights}}})
	}
	slices.Sort(server.wanted)
	return engines, nil
}

// InspectComfyUI says which templates the server can run now, and of the others what
// they lack and how to get it. It is an error when none can.
func InspectComfyUI(ctx context.Context, c ComfyUIConfig, programs EngineConfig) (string, error) {
	engines, err := ComfyUIEngines(c, programs)
	if err != nil {
		return "", err
	}
	var able, unable []string
	reasons := map[string]bool{}
	for _, e := range engines {
		can, gap := e.Capability(ctx)
		if gap != nil {
			unable = append(unable, fmt.Sprintf("%s: %s (%s)", gap.Engine, gap.Reason, gap.Hint))
			reasons[gap.Reason] = true
			continue
		}
		able = append(able, can.Engine+" is ready")
	}
	switch {
	case len(able) == 0 && len(reasons) == 1: // it is about the server
		return "", errors.New(slices.Collect(maps.Keys(reasons))[0])
	case len(able) == 0:
		return "", errors.New(strings.Join(unable, "; "))
	}
	return strings.Join(append(able, unable...), "; "), nil
}

// comfyServer is a server and what was last seen of it, shared by its engines.
type comfyServer struct {
	client *comfyClient
	wanted []string      // node classes of all templates
	lock   chan struct{} // holds one while somebody looks

	seen    time.Time // when classes were read
	classes map[string]comfyClass
	asked   time.Time // when stats were read
	stats   comfyStats
	err     error
}

const (
	comfyStatsAge   = 2 * time.Second // engines ask together
	comfyClassesAge = time.Minute     // reading them has the server look through its model folders
)

// look gives what the server is and has.
func (s *comfyServer) look(ctx context.Context) (comfyStats, map[string]comfyClass, error) {
	select {
	case s.lock <- struct{}{}:
		defer func() { <-s.lock }()
	case <-ctx.Done():
		return comfyStats{}, nil, ctx.Err()
	}
	if time.Since(s.asked) < comfyStatsAge {
		return s.stats, s.classes, s.err
	}
	s.stats, s.err = s.client.stats(ctx)
	if s.err == nil && time.Since(s.seen) > comfyClassesAge {
		var classes map[string]comfyClass
		if classes, s.err = s.client.classes(ctx, s.wanted); s.err == nil {
			s.classes, s.seen = classes, time.Now()
		}
	}
	if s.err != nil {
		s.seen = time.Time{} // it may come back as another
	}
	s.asked = time.Now()
	return s.stats, s.classes, s.err
}

// doubt has the next look ask again, however recent the last one is.
func (s *comfyServer) doubt() {
	s.lock <- struct{}{}
	s.asked = time.Time{}
	<-s.lock
}

// comfyEngine does one template's task.
type comfyEngine struct {
	server  *comfyServer
	t       *comfyTemplate
	media   *mediaTool
	framing *kenBurns // crops portraits as the built-in renderer does
}

// Capability implements engine.
func (e *comfyEngine) Capability(ctx context.Context) (events.TaskCapability, *events.TaskGap) {
	if _, err := e.media.able(ctx); err != nil {
		return events.TaskCapability{}, e.t.gap(err.Error(), ffmpegInstall)
	}
	stats, classes, err := e.server.look(ctx)
	if err != nil {
		return events.TaskCapability{}, e.t.gap(e.server.client.absence(ctx, err))
	}
	reasons, hints := e.t.gaps(classes)
	if small := e.t.tooSmall(stats.Devices); small != "" {
		reasons, hints = append(reasons, small), append(hints, "use a larger card, or a template for a smaller model")
	}
	if len(reasons) > 0 {
		return events.TaskCapability{}, e.t.gap(strings.Join(reasons, "; "), strings.Join(hints, "; "))
	}
	return events.TaskCapability{
		Task: e.t.Task, Lane: taskLanes[e.t.Task], Engine: e.t.engine(), Model: e.t.Model, Version: e.version(stats), Fidelity: events.FidelityFull,
		Takes: e.needs(), Factor: e.t.onlyFactor(),
	}, nil
}

// version is the template's own and the server's, which both decide what comes out.
func (e *comfyEngine) version(s comfyStats) string {
	return e.t.digest[:12] + " (ComfyUI " + s.System.Version + ")"
}

// weighs implements weighty: a card that is sold as so large reports a little less.
func (e *comfyEngine) weighs() int { return int(e.t.LeastVRAM * 1024 * 0.95) }

// unit implements keeper: the server unloads everything or nothing.
func (e *comfyEngine) unit() string { return "comfyui " + e.server.client.URL }

// unload implements keeper.
func (e *comfyEngine) unload(ctx context.Context) error { return e.server.client.free(ctx) }

// readMemory implements meter.
func (e *comfyEngine) readMemory(ctx context.Context) (reading, error) {
	stats, err := e.server.client.stats(ctx)
	if err != nil {
		return reading{}, err
	}
	for _, d := range stats.Devices {
		if d.Type != "cpu" && d.VRAMTotal > 0 {
			return reading{d.Name, int((d.VRAMTotal - d.VRAMFree) >> 20), int(d.VRAMTotal >> 20)}, nil
		}
	}
	return reading{}, errNoMeter
}

// Run implements engine. Inputs and outputs are those of the built-in engine of the task.
func (e *comfyEngine) Run(ctx context.Context, a *Attempt) (*Output, error) {
	stats, _, err := e.server.look(ctx)
	if err != nil {
		return nil, e.server.client.explain(ctx, err)
	}
	work, err := e.prepare(ctx, a)
	if err != nil {
		return nil, err
	}
	if err := e.generate(ctx, a, work); err != nil {
		e.server.doubt()
		return nil, err
	}
	out, err := work.finish(ctx, a)
	if err != nil {
		return nil, err
	}
	out.Fidelity, out.Engine, out.Model, out.Version = events.FidelityFull, e.t.engine(), e.t.Model, e.version(stats)
	out.Notes = append(out.Notes, work.notes...)
	if e.t.Licence != "" {
		out.Notes = append(out.Notes, "drawn with weights under this licence: "+e.t.Licence)
	}
	return out, nil
}

// comfyWork is one attempt on its way.
type comfyWork struct {
	uploads map[string]string // local files by slot
	values  map[string]any    // by slot
	copies  int               // of the chain
	raw     string            // where the server's result lies, with all that it wrote into it
	notes   []string
	finish  func(ctx context.Context, a *Attempt) (*Output, error)
}

// Shares of the percent: sending, the graph, fetching; what is left is finishing.
const (
	comfySent    = 5
	comfyMade    = 88
	comfyFetched = 90
)

// generate sends the inputs, runs the graph and fetches its result.
func (e *comfyEngine) generate(ctx context.Context, a *Attempt, work *comfyWork) error {
	c := e.server.client
	if a.Reduce > 0 {
		_ = c.free(ctx) // helps if it works; the graph itself will tell if the server is away
	}
	for _, slot := range slices.Sorted(maps.Keys(work.uploads)) {
		a.report(1, "sending files to ComfyUI")
		file := work.uploads[slot]
		name, err := c.upload(ctx, file, "myspinbot/"+a.JobID, slot+filepath.Ext(file))
		if err != nil {
			return c.explain(ctx, err)
		}
		work.values[slot] = name
	}
	// Another attempt is another file: a graph that is the same in every input is not
	// run, and names the file of its first run, even one that has been deleted.
	work.values["prefix"] = fmt.Sprintf("myspinbot/%s/%s-%d", a.JobID, a.Stage, a.Number)
	graph, err := e.t.fill(work.copies, work.values)
	if err != nil {
		return refusedValue(err)
	}
	p := comfyPrompt{id: a.ID, graph: graph, output: e.t.Output.Node}
	for n := 1; n < a.Number; n++ {
		p.before = append(p.before, events.AttemptID(a.JobID, a.Stage, n))
	}
	watch, stop := c.watch(ctx, p.id, graph, func(percent float64, message string) {
		a.report(comfySent+(comfyMade-comfySent)*percent/100, message)
	})
	state, err := c.execute(ctx, p, watch)
	stop()
	if err != nil {
		return err
	}
	return e.fetch(ctx, a, p, state, work)
}

func refusedValue(err error) error {
	var bad *slotError
	if errors.As(err, &bad) {
		return &TaskError{Class: events.ClassInvalidInput, Message: bad.text, Hint: "choose a value that the template allows"}
	}
	return err
}

// fetch brings the result here, and has the server forget the graph and its words.
func (e *comfyEngine) fetch(ctx context.Context, a *Attempt, p comfyPrompt, state comfyState, work *comfyWork) error {
	file, made := comfyOutput(state.outputs, p.output, e.t.Output.Extensions)
	if !made {
		return &TaskError{Class: events.ClassEngineRejected, Message: fmt.Sprintf("ComfyUI's %s gave no %s file", p.graph.describe(p.output), strings.Join(e.t.Output.Extensions, " or ")),
			Hint: "look at the template's output"}
	}
	a.report(comfyMade, "fetching the result from ComfyUI")
	work.raw = filepath.Join(a.Dir, "comfyui"+strings.ToLower(filepath.Ext(file.Filename)))
	if err := e.server.client.download(ctx, file, work.raw); err != nil {
		return e.server.client.explain(ctx, err)
	}
	_ = e.server.client.forget(ctx, p.id) // the result is here
	a.report(comfyFetched, "result fetched from ComfyUI")
	return nil
}
