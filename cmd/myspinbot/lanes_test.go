// Tests of `lanes`.

package main

import (
	"bytes"
	"context"
	"testing"
)

func TestLanes(t *testing.T) {
	t.Parallel()
	askings(t, lanesCommand, false, map[string]asking{
		"list":          {nil, 0, "GET /api/lanes", "render  paused  ?       1        2      4\n"},
		"list as JSON":  {[]string{"list", "--json"}, 0, "GET /api/lanes", `"paused":true`},
		"pause":         {[]string{"pause", "render"}, 0, "POST /api/lanes/render/pause {}", "lane render is paused; 1 attempts go on to their end\n"},
		"resume":        {[]string{"resume", "tts"}, 0, "POST /api/lanes/tts/resume {}", "lane tts is open\n"},
		"unknown lane":  {[]string{"pause", "dance"}, 1, "POST /api/lanes/dance/pause {}", "cannot pause the lane: Not found (404 not_found): there is no lane"},
		"no lane":       {[]string{"pause"}, 2, "", "usage: myspinbot lanes [list]"},
		"another verb":  {[]string{"stop", "tts"}, 2, "", "usage: myspinbot lanes [list]"},
		"too many":      {[]string{"pause", "tts", "render"}, 2, "", "usage: myspinbot lanes [list]"},
		"unknown flags": {[]string{"--every"}, 2, "", "not defined"},
	}, map[string]saying{
		"GET /api/lanes":               {200, `{"items":[{"lane":"tts","paused":false,"bound":2,"slots":1,"running":0,"queued":3},{"lane":"render","paused":true,"bound":4,"slots":2,"running":1,"queued":null}],"next_cursor":null}`},
		"POST /api/lanes/render/pause": {200, `{"lane":"render","paused":true,"bound":4,"slots":2,"running":1,"queued":null}`},
		"POST /api/lanes/tts/resume":   {200, `{"lane":"tts","paused":false,"bound":4,"slots":2,"running":1,"queued":null}`},
	}, saying{404, `{"type":"about:blank","title":"Not found","status":404,"code":"not_found","detail":"there is no lane"}`})
}

func lanesCommand(ctx context.Context, args []string, stdout, stderr *bytes.Buffer) int {
	return runLanes(ctx, args, stdout, stderr)
}
