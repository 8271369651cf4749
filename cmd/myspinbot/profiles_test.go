// Tests of `profiles`.

package main

import (
	"bytes"
	"context"
	"testing"
)

func profilesCommand(ctx context.Context, args []string, stdout, stderr *bytes.Buffer) int {
	return runProfiles(ctx, args, stdout, stderr)
}

const (
	adaDoc = `{"id":"p1","version":4,"status":"active","label":"Ada","content":"available","consent":{"by":"Ada","statement":"I agree."},"consent_withdrawn_at":null,
		"portrait":{"artifact_id":"a","media_type":"image/png","sha256":"0","size":99,"width":80,"height":64,"duration_ms":null,"fidelity":"prepared","engine":"ffmpeg","from_job":"j1"},
		"voice":null,"lora":null,"transcript":null,"created_at":"2026-11-01T12:00:00Z","updated_at":"2026-11-01T12:00:00Z","archived_at":null,"erased_at":null,"erasure_completed_at":null}`
	goneDoc = `{"id":"p2","version":9,"status":"erased","label":null,"content":"erased","consent":null,"consent_withdrawn_at":"2026-11-02T12:00:00Z","portrait":null,"voice":null,"lora":null,
		"transcript":null,"created_at":"2026-11-01T12:00:00Z","updated_at":"2026-11-03T12:00:00Z","archived_at":null,"erased_at":"2026-11-03T12:00:00Z","erasure_completed_at":"2026-11-03T12:01:00Z"}`
)

func TestProfilesCommand(t *testing.T) {
	t.Parallel()
	askings(t, profilesCommand, true, map[string]asking{
		"list":             {nil, 0, "GET /api/profiles?limit=200", "p1       active  Ada    given      portrait  2026-11-01"},
		"list some":        {[]string{"list", "--status", "active,erased"}, 0, "GET /api/profiles?limit=200&status=active%2Cerased", "p2       erased  -      withdrawn"},
		"list as JSON":     {[]string{"list", "--json"}, 0, "GET /api/profiles?limit=200", `"next_cursor": null`},
		"show":             {[]string{"show", "p1"}, 0, "GET /api/profiles/p1", "consent  Ada: I agree.\nportrait image/png, 99 bytes, made by ffmpeg in job j1\n"},
		"show what is not": {[]string{"show", "p2"}, 0, "GET /api/profiles/p2", "all gone 2026-11-03"},
		"rename":           {[]string{"rename", "p1", "Grace"}, 0, `PATCH /api/profiles/p1 {"label":"Grace"}`, "profile p1 (Ada) is active; its consent is given\n"},
		"consent": {[]string{"consent", "p1", "--by", "Ada", "--statement", "yes"}, 0, `PATCH /api/profiles/p1 {"consent":{"by":"Ada","statement":"yes"}}`,
			"its consent is given"},
		"withdraw":           {[]string{"withdraw", "p1"}, 0, `PATCH /api/profiles/p1 {"consent":null}`, "profile p1"},
		"archive":            {[]string{"archive", "p1"}, 0, `PATCH /api/profiles/p1 {"archived":true}`, "profile p1"},
		"restore":            {[]string{"restore", "p1", "--json"}, 0, `PATCH /api/profiles/p1 {"archived":false}`, `"id":"p1"`},
		"erase":              {[]string{"erase", "p1", "--yes"}, 0, "DELETE /api/profiles/p1", "profile p1: the profile is erased"},
		"erase unasked":      {[]string{"erase", "p1"}, 2, "", "erase ID --yes"},
		"change what is not": {[]string{"archive", "p2"}, 1, `PATCH /api/profiles/p2 {"archived":true}`, "cannot archive the profile: The profile was erased (410 profile_erased)"},
		"consent of nobody":  {[]string{"consent", "p1", "--by", "Ada"}, 2, "", "usage: myspinbot profiles"},
		"no id":              {[]string{"show"}, 2, "", "usage: myspinbot profiles"},
		"another verb":       {[]string{"burn", "p1"}, 2, "", "usage: myspinbot profiles"},
	}, map[string]saying{
		"GET /api/profiles":       {200, `{"items": [` + adaDoc + `,` + goneDoc + `], "next_cursor": null}`},
		"GET /api/profiles/p1":    {200, adaDoc},
		"PATCH /api/profiles/p1":  {200, adaDoc},
		"GET /api/profiles/p2":    {200, goneDoc},
		"DELETE /api/profiles/p1": {202, `{"id":"p1","command":"erase","outcome":"accepted","status":"erasing","version":5,"detail":"the profile is erased: its status is erased once nothing of it is left"}`},
	}, saying{410, `{"type":"about:blank","title":"The profile was erased","status":410,"code":"profile_erased","detail":"make a new one"}`})
}
