// What went wrong on a ComfyUI server, in our own words and with a class. The server's
// words may hold user text: they go into the sealed log tail alone.

package gpu

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// errLost is a prompt that the server no longer knows.
var errLost = errors.New("the prompt is in neither queue nor history")

// lostPrompt is a normal end: another attempt follows.
func lostPrompt() error {
	return &TaskError{Class: events.ClassEngineUnavailable, Message: "ComfyUI no longer knows the work: it was restarted, or its queue was emptied",
		Hint: "another attempt follows", Err: errLost}
}

func stalledPrompt(idle time.Duration) error {
	return &TaskError{Class: events.ClassStalled, Message: fmt.Sprintf("ComfyUI's graph made no progress for %v", idle),
		Hint: "look at ComfyUI's log; where models load longer than that, raise engines.comfyui.idle"}
}

// comfyNodeFault is what validation says of a node.
type comfyNodeFault struct {
	Class     string   `json:"class_type"`
	Dependent []string `json:"dependent_outputs"`
	Errors    []struct {
		Type    string `json:"type"`
		Message string `json:"message"`
		Details string `json:"details"`
	} `json:"errors"`
}

// comfyWord is a code that can be shown: the server's vocabulary, never a user's text.
var comfyWord = regexp.MustCompile(`^[a-z_]{1,60}$`)

func shown(word string) string {
	if comfyWord.MatchString(word) {
		return word
	}
	return "no known reason"
}

// describe names a node by what our own graph says of it.
func (g comfyGraph) describe(node string) string {
	if n, known := g[node]; known {
		return fmt.Sprintf("node %s (%s)", node, n.Class)
	}
	return "a node"
}

// refusedGraph reads a 400 of POST /prompt.
func refusedGraph(g comfyGraph, body string) error {
	var said struct {
		Error struct {
			Type string `json:"type"`
		} `json:"error"`
		NodeErrors map[string]comfyNodeFault `json:"node_errors"`
	}
	if json.Unmarshal([]byte(body), &said) != nil || said.Error.Type == "" {
		return fmt.Errorf("%w: a refusal without a reason", errComfyFormat)
	}
	e := nodeFaults(g, said.NodeErrors)
	if len(said.NodeErrors) == 0 {
		e.Message += ": " + shown(said.Error.Type)
	}
	e.LogTail = tailOf(body)
	return e
}

// nodeFaults is one sentence over all faulty nodes.
func nodeFaults(g comfyGraph, faults map[string]comfyNodeFault) *TaskError {
	var parts []string
	for _, id := range slices.Sorted(maps.Keys(faults)) {
		for _, fault := range faults[id].Errors {
			parts = append(parts, g.describe(id)+": "+shown(fault.Type))
		}
	}
	e := &TaskError{Class: events.ClassEngineRejected, Message: "ComfyUI refused the graph", Hint: "compare the template with the nodes and models that this ComfyUI has"}
	if len(parts) > 0 {
		e.Message += ": " + strings.Join(parts, "; ")
	}
	return e
}

// faultOfOutput looks for errors that concern the wanted output: a graph is accepted
// as long as some other output of it can run.
func faultOfOutput(p comfyPrompt, faults map[string]comfyNodeFault) error {
	ours := map[string]comfyNodeFault{}
	for id, fault := range faults {
		if id == p.output || len(fault.Dependent) == 0 || slices.Contains(fault.Dependent, p.output) {
			ours[id] = fault
		}
	}
	if len(ours) == 0 {
		return nil
	}
	e := nodeFaults(p.graph, ours)
	if text, err := json.Marshal(ours); err == nil {
		e.LogTail = tailOf(string(text))
	}
	return e
}

// Words by which a failure of a node is known, in lower case.
var (
	comfyOOM   = []string{"out of memory", "outofmemory", "allocation on device", "not enough memory"}
	comfyFault = []string{"cuda error", "cudnn", "cublas", "device-side assert", "hip error", "illegal memory access"}
)

// failedPrompt gives a prompt that ended badly its class.
func failedPrompt(p comfyPrompt, s comfyState) error {
	if s.phase == comfyInterrupted {
		return &TaskError{Class: events.ClassEngineUnavailable, Message: "the work was interrupted in ComfyUI", Hint: "another attempt follows; cancel the job to end it"}
	}
	f := s.failure
	said := strings.ToLower(f.Type + " " + f.Message)
	has := func(words []string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(said, w) })
	}
	e := &TaskError{LogTail: tailOf(fmt.Sprintf("%s: %s\n%v", f.Type, f.Message, f.Traceback))}
	where := p.graph.describe(f.Node)
	switch {
	case has(comfyOOM):
		e.Class, e.Message = events.ClassOOM, "the graphics card's memory ran out at "+where
		e.Hint = "ask for a smaller or shorter picture, or end what else uses the card"
	case has(comfyFault):
		e.Class, e.Message, e.Hint = events.ClassEngineUnavailable, "the graphics card failed at "+where, "restart ComfyUI, and look at its log"
	default:
		e.Class, e.Message, e.Hint = events.ClassEngineRejected, "ComfyUI failed at "+where, "the end of the log has its own words"
	}
	return e
}
