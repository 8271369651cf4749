package main

// This file is the list of known mistakes, by the promise that each would break.

var (
	lives   = checker{pkg: "aggregates", run: "."}
	chain   = checker{pkg: "events", run: "Chain"}
	core    = checker{pkg: "handlers", run: "^Test[^B]", args: []string{"-short"}}
	seeds   = checker{pkg: "internal/simulation", run: "^TestSeeds$", env: "SEEDS=400"}
	hours   = checker{pkg: "internal/brokersim", run: "^TestSeeds$/^seed$/^(119|158|199)$", args: []string{"-tags", "synctests"}}
	log     = checker{pkg: "internal/eventlog", run: "^TestConformanceInMemory$|^TestLane|^TestAWake"}
	reports = checker{pkg: "internal/eventlog", run: "^TestConformanceInMemory$/^LaneReportsWhatRan$"}
	leaders = checker{pkg: "internal/eventlog", run: "^TestAMarkerOfALaterLeaderIsNoLoss$"}
	onKafka = checker{pkg: "internal/eventlog", run: "^TestConformanceOnKafka$/^LanesChangeWithTheProcess$"}
	rows    = checker{pkg: "projections", run: "Fold|Duplicates|Life|Stage"}
	tables  = checker{pkg: "projections", run: "Readers|RebuildThatCompares|RebuildUnderLoad"}
	workers = checker{pkg: "gpu-consumers", run: "Stop|Settle|Reuse|Shared|Offered|Lease|Choice"}
	crowds  = checker{pkg: "gpu-consumers", run: "LanesAndTheCard", env: "LANE_LOADS=4"}
	card    = checker{pkg: "internal/vram", run: "."}
	places  = checker{pkg: "internal/placement", run: "."}
	pausing = checker{pkg: "gpu-consumers", run: "PausedLane"}
	keyed   = checker{pkg: "api", run: "TestAKeyIsOneRequestInEveryProcess|TestRefusalsOfTheJobHandler"}
	streams = checker{pkg: "api", run: "TestClientsThatAreCut"}
	erasing = checker{pkg: "internal/erasure", run: "."}
	sockets = checker{pkg: "api", run: "TestABadIDDisturbs"}
	doors   = checker{pkg: "internal/access", run: "."}
	guards  = checker{pkg: "api", run: "TestStreamsEndWithTheirKey|TestEveryOperationAsks|TestAForeignPageChanges|TestTryingKeys"}
	tenants = checker{pkg: "api", run: "TestAnothersThings|TestNothingOfOneTenant|TestTwoTenants|TestAPlaceIs|TestNoTenantTakes", args: []string{"-rapid.checks", "30"}}
)

func mutants() []mutant {
	return []mutant{
		// L1, L2: one job for each key.
		{"conflict-unseen", "another body under a used key is taken for a repeat", "aggregates/decide.go",
			"		if c.Request.BodyDigest != d.job.Request.BodyDigest {", "		if false {", lives},
		{"index-unread", "jobs that ended are forgotten at a restart, and start again", "handlers/index.go",
			"		p.close(k, short(e), e.Labelled)\n	}\n	p.indexed", "		_ = e\n	}\n	p.indexed", core},
		{"labels-undone", "a command on labels that comes again undoes what others said since", "aggregates/decide.go",
			"slices.Contains(d.job.Labelled, d.cause.ID) || ", "", lives},
		{"labels-side-by-side", "two commands on labels in one transaction do not see each other", "handlers/index.go",
			"	if o := p.open.jobs[k]; o != nil {\n		return o.end, false, o.job.Terminal()\n	}\n", "", seeds},
		{"archived-forgotten", "an archived job can start again", "handlers/index.go",
			"	p.archived[k.hash()] = owner", "	_ = p.archived", core},
		// L3: legal facts, one chain, one end.
		{"no-terminal-guard", "a job that has ended goes on", "aggregates/decide.go",
			"	if j.Chain.Version == 0 || j.Terminal() {", "	if j.Chain.Version == 0 {", lives},
		{"predecessor-unnamed", "facts do not name the one before them", "aggregates/decide.go",
			"PrevID: d.job.Chain.LastID,", "PrevID: \"\",", lives},
		{"chain-unchecked", "a fold takes a fact that names another predecessor", "events/chain.go",
			"if m.Version != c.Version+1 || m.PrevID != c.LastID {", "if m.Version != c.Version+1 {", chain},
		{"one-id-for-all", "all facts of a decision have one id", "aggregates/decide.go",
			"events.EventID(d.cause.OccurredAt, d.cause.ID, len(d.facts))", "events.EventID(d.cause.OccurredAt, d.cause.ID, 0)", seeds},
		{"impatient-stages", "stages start before those that they wait for", "aggregates/advance.go",
			"		if e.To == id && !done(d.job.stage(e.From)) {", "		if e.To == id && d.job.stage(e.From).State == StageFailed {", lives},
		{"time-runs-back", "occurred_at may fall within a partition", "handlers/partition.go",
			"	if last := p.latest(); m.OccurredAt.Before(last) {\n		return last\n	}", "", core},
		// L4, L6: one counted result for each attempt, and only of the current one.
		{"any-attempt-counts", "a result of another attempt counts", "aggregates/decide.go",
			"	return st, st.Attempt == d.cause.Attempt && (st.State == StageQueued || st.State == StageRunning)",
			"	return st, st.State == StageQueued || st.State == StageRunning", lives},
		{"late-after-failure", "a success counts after the same attempt has failed", "aggregates/decide.go",
			"late := st.State == StageWaiting && st.Expired &&", "late := st.State == StageWaiting &&", lives},
		// L5: cancelled means cancelled.
		{"cancel-retries", "a job that is being cancelled schedules another attempt", "aggregates/decide.go",
			"st.DeadlineMS == c.DeadlineMS && !d.job.Cancelling {\n			d.schedule(", "st.DeadlineMS == c.DeadlineMS {\n			d.schedule(", lives},
		{"cancel-starts", "an attempt starts although its job is being cancelled", "aggregates/decide.go",
			"	if !ok || st.State != StageQueued || d.job.Cancelling {", "	if !ok || st.State != StageQueued {", seeds},
		{"cancel-advances", "a result advances a job that is being cancelled", "aggregates/decide.go",
			"	if d.job.Cancelling {\n		d.stopped()\n		return\n	}\n	i, _ := d.job.Node(d.cause.Stage)", "	i, _ := d.job.Node(d.cause.Stage)", lives},
		{"stop-unsaid", "what runs is not stopped when its job is cancelled", "handlers/advance.go",
			"		return stopAll(j, f, \"the job is being cancelled\")", "		return nil", core},
		// L7: bounded attempts, back-off, deadlines.
		{"one-attempt-more", "a stage gets one attempt more than it may", "aggregates/ending.go",
			"if !retryable || attempt >= d.s.Policy.MaxAttempts {", "if !retryable || attempt > d.s.Policy.MaxAttempts {", lives},
		{"no-back-off", "another attempt follows at once", "aggregates/ending.go",
			"	return d.s.At.Add(d.backOff(share, attempt)).UnixMilli()", "	return d.s.At.UnixMilli() + share - share + 1", lives},
		{"schedule-ignored", "a job starts before its not-before", "aggregates/decide.go",
			"	if d.job.State != JobScheduled {\n		d.advance()\n	}", "	d.advance()", lives},
		{"deadline-void", "a passed deadline ends nothing", "aggregates/decide.go",
			"		if d.job.DeadlineMS == c.DeadlineMS {\n			d.overdue()\n		}", "", lives},
		{"far-times-forgotten", "what is due in more than an hour is not looked at again", "handlers/due.go",
			"		next = min(next, d.AtMS)", "		if d.AtMS-time.Now().UnixMilli() < 3_600_000 {\n			next = min(next, d.AtMS)\n		}", hours},
		// L8: everything ends.
		{"lease-unwatched", "a silent worker keeps its attempt", "aggregates/ending.go",
			"	if st, ok := d.current(); !ok || st.State != StageRunning {", "	if st, ok := d.current(); !ok || st.State == StageRunning {", lives},
		{"recovered-unheard", "after a restart the beats of what runs are not heard, and its lease runs out", "handlers/recover.go",
			"		live.hear(job, p.recovered) // from here on their beats count\n", "", core},
		{"deaf-lease-clock", "silence counts while nobody listens", "handlers/lease.go",
			"	if !c.beats.current {", "	if false {", core},
		{"reply-unsaid", "a refused command gets no answer", "handlers/commands.go",
			"	if answered(input) {\n		r := outcome(0, refusal)", "	if answered(input) && refusal == nil {\n		r := outcome(0, refusal)", core},
		// L9: folds and recovery.
		{"recovery-too-late", "recovery starts behind the oldest live job", "handlers/recover.go",
			"			return l.first\n		}\n	}\n	facts := factOffsets(out)", "			return l.first + 1\n		}\n	}\n	facts := factOffsets(out)", core},
		{"carried-unread", "a fold cannot start at a carried-forward event", "aggregates/job.go",
			"	return carried && j.Chain.Version == 0", "	return carried && j.Chain.Version < 0", lives},
		{"abort-remembered", "what an aborted transaction decided stays in memory", "handlers/recover.go",
			"		delete(c.parts, n)\n	}", "	}", core},
		// The log: transactions, fencing, the bound of lanes.
		{"dirty-reads", "readers see what transactions have dropped", "internal/eventlog/config.go",
			"kgo.FetchIsolationLevel(kgo.ReadCommitted())", "kgo.FetchIsolationLevel(kgo.ReadUncommitted())", log},
		{"expired-is-lost", "a reader ends where a topic has dropped with time what it had not read", "internal/eventlog/read.go",
			"		case errors.Is(err, ErrDataLoss) && !t.passes(ctx, err):", "		case errors.Is(err, ErrDataLoss):", log},
		{"source-again", "without offsets the last decided input is decided again", "internal/eventlog/runner.go",
			"			o[tp] = max(have, offset+1)", "			o[tp] = max(have, offset)", log},
		{"lane-bound-broken", "two commands of one partition run at once", "internal/eventlog/lane_held.go",
			"		if _, busy := n.busy[p]; busy && !n.ending[p] || !n.settling[p].over() {", "		if !n.settling[p].over() {", log},
		{"neighbour-not-awaited", "a new owner does not wait for the attempt of the former one", "internal/eventlog/lane_held.go",
			"busy && !n.ending[p] || !n.settling[p].over() {", "busy && !n.ending[p] {", log},
		{"woken-left-behind", "commands that have arrived wait for as long as others are accepted", "internal/eventlog/member.go",
			"len(held) > 0 {", "len(held) > 1000 {", log},
		{"report-given-up", "what came of a command is not written where nothing is accepted", "internal/eventlog/lane_report.go",
			"			s.write(some...)\n", "", reports},
		{"markers-forgotten", "a leader that moves twice around a marker looks like a loss", "internal/eventlog/config.go",
			"		kgo.KeepControlRecords(),\n", "", leaders},
		{"stranger-commits", "offsets are taken from whoever has left the group", "internal/eventlog/transaction.go",
			"	req.MemberID, req.Generation = m.cl.GroupMetadata()\n	req.InstanceID = kmsg.StringPtr(m.log.cfg.Instance)\n	req.Topics = p.topics", "	req.Topics = p.topics", log},
		{"old-subscription", "a process that comes back with other lanes is given what it had", "internal/eventlog/lanes.go",
			"ok && slices.Equal(", "ok || slices.Equal(", onKafka},
		{"dead-peers-stay", "the open transaction of a dead peer blocks the others", "internal/eventlog/group.go",
			"		if alive[id] {\n			continue\n		}", "		if id != \"\" {\n			continue\n		}", log},
		// Scheduling: slots, the card's budget, patience, affinity.
		{"lane-overfull", "a lane runs more attempts of a partition at once than one", "internal/eventlog/lane_held.go",
			"		if _, busy := n.busy[p]; busy && !n.ending[p] || !n.settling[p].over() {", "		if !n.settling[p].over() {", crowds},
		{"slots-overrun", "an attempt that was accepted ahead begins before a slot is free", "gpu-consumers/turns.go",
			"make(chan struct{}, t.roster.slots[lane])", "make(chan struct{}, t.roster.slots[lane]+1)", crowds},
		{"card-overfull", "commands are accepted whatever the card has room for", "gpu-consumers/memory.go",
			"		m.waits[c.ID] = true\n	}\n	return ok", "		m.waits[c.ID] = true\n	}\n	return true", crowds},
		{"neighbours-uncounted", "a process does not count what others have of the card", "internal/vram/card.go",
			"append([]*share{&c.own}, others...)", "append([]*share{&c.own}, others[:0]...)", card},
		{"loaded-uncounted", "models that stay loaded are not counted", "internal/vram/rules.go",
			"	for _, mib := range loaded {\n		total += mib", "	for _, mib := range loaded {\n		total += 0 * mib", card},
		{"unloaded-at-work", "a model is unloaded while somebody works with it", "internal/vram/rules.go",
			"			delete(last, c.Unit)", "			_ = c.Unit", card},
		{"large-starves", "a large claim is overtaken for ever", "internal/vram/rules.go",
			"			if present && blocks {", "			if present && blocks && !a.due(other) {", card},
		{"batch-first", "batch work goes before interactive work", "internal/vram/rules.go",
			" || !a.due(w) && w.Batch && !other.Batch", "", card},
		{"affinity-ignored", "the model in memory does not matter", "internal/placement/placement.go",
			"	if warm >= 0 {", "	if warm >= n {", places},
		{"affinity-unbounded", "who has the model is preferred however long its queue is", "internal/placement/placement.go",
			" && ahead[at] <= ahead[best]+Affinity", "", places},
		{"pause-forgotten", "a worker that starts does not know which lanes are paused", "gpu-consumers/pause.go",
			"		opened[i].Paused = p.paused[opened[i].Lane]", "		opened[i].Paused = false", pausing},
		// Workers, tables, edge.
		{"stop-unheard", "a worker runs on when it is told to stop", "gpu-consumers/stop.go",
			"		cancel(errStopped)\n		return true", "		return true", workers},
		{"stopped-starts", "an attempt that was stopped before it began runs all the same", "gpu-consumers/stop.go",
			"	if _, stopped := s.asked[attempt]; stopped {\n		return false\n	}", "", workers},
		{"another-engine-offered", "a result passes for another engine's", "gpu-consumers/reuse.go",
			"	return r.task.Engine == r.can.Engine+\"/\"+r.can.Version+\"/\"+r.can.Model && r.task.Reduce == 0", "	return true", workers},
		// Engines that a job allows.
		{"preview-for-real", "a preview counts as the result of a job that takes none", "aggregates/decide.go",
			"d.job.Request.Engines == events.EnginesReal && !events.IsReal(t.Fidelity)", "false", lives},
		{"parents-preview-for-real", "a parent's preview stands in for real work", "aggregates/reuse.go",
			"!ok || !d.s.Engines.allow(n.Task, d.job.Request.Engines, r.Result)", "!ok", lives},
		{"unreal-plan", "a job is planned that no engine may do", "aggregates/capable.go",
			"in.Engines.serve(n, in.Request.Engines, has)", "in.Engines.serve(n, \"\", has)", lives},
		{"any-engine-picked", "a worker runs an attempt on an engine that its job does not allow", "gpu-consumers/lanes.go",
			"		if !s.can.Serves(a.Engines, a.Wants) {", "		if false {", workers},
		{"others-preview-for-real", "another job's preview stands in for real work", "gpu-consumers/reuse.go",
			"	if r.task.Engines == events.EnginesReal && !events.IsReal(made.Result.Fidelity) {", "	if false {", workers},
		{"unsafe-words-spoken", "a pipeline from a file may speak words that no filter has seen", "aggregates/define_check.go",
			"key != \"\" && !safe[key]", "false && safe[key]", lives},
		{"rows-counted-twice", "a fact that is read twice is applied twice", "projections/fold.go",
			"		f.counts.Duplicates++\n		return false", "		f.counts.Duplicates++\n		return true", rows},
		{"snapshot-mixes", "a snapshot is taken before the views are held", "projections/reader.go",
			"tx.Exec(ctx, lockViews)", "tx.Exec(ctx, \"SELECT 1\")", tables},
		{"retired-written", "a projector that waited for the switch goes on with the old tables", "projections/commit.go",
			"AND g.shape = $4 AND g.status = $5 ORDER BY", "AND g.shape = $4 AND $5 <> '' ORDER BY", tables},
		{"switch-goes-back", "a generation is shown before it is as far as the live one", "projections/switch.go",
			"		goal[tp] = min(reached[tp], r.Stable)", "		goal[tp] = min(0*reached[tp], r.Stable)", tables},
		{"reply-unheard", "the handler's answer reaches nobody", "api/replies.go",
			"		if w.command != command {", "		if true {", keyed},
		// A4: erased means erased.
		{"erased-is-used", "a job may use a profile that was erased", "aggregates/profile.go",
			"	case p.Gone():\n		return reason(", "	case false:\n		return reason(", lives},
		{"erased-goes-on", "an erased profile can be changed and restored", "aggregates/profile.go",
			"	case p.Gone():\n		return &events.Reason{", "	case false:\n		return &events.Reason{", lives},
		{"erased-too-soon", "an erasure is complete although the last look has found something", "internal/erasure/eraser.go",
			"found == 0 && p.looked && !p.done", "found >= 0 && p.looked && !p.done", erasing},
		{"uploads-last", "the uploads of an erased profile are looked for when nothing tells them any more", "internal/objects/erase.go",
			"		folders = append(uploads, folder)", "		folders = append(folders, uploads...)", checker{pkg: "internal/objects", run: "Erasure"}},
		// W1: a client that resumes sees each event once, in order.
		{"place-on-the-event", "an id of the stream of all jobs lies on its event and not behind it", "api/sse_all.go",
			"		st.next[e.at.partition] = e.at.offset + 1", "		st.next[e.at.partition] = e.at.offset", streams},
		{"forgotten-unread", "what the ring has forgotten is not read from the log", "api/feed_all.go",
			"		if next[p] < begin {", "		if next[p] < 0*begin {", streams},
		{"resumed-with-a-hole", "a stream that resumes begins one event late", "api/sse.go",
			"	if st.last >= 0 && st.last+1 >= begin {", "	if st.last++; st.last >= 0 && st.last+1 >= begin {", streams},
		{"one-fault-for-all", "an id that cannot be followed ends what a WebSocket follows beside it", "api/socket_talk.go",
			"		t.server.feed.part(t.sub, id)\n		return t.say(ctx, wish{job: id, fault:", "		t.server.feed.unsubscribe(t.sub)\n		return t.say(ctx, wish{job: id, fault:", sockets},
		// Who may ask: keys and tokens that hold, for what their scopes say.
		{"expired-holds", "a key opens what it did beyond its expiry", "internal/access/keys.go",
			"g == nil || g.expired(now)", "g == nil", doors},
		{"revoked-holds", "a revoked key goes on to hold", "internal/access/keys.go",
			"		k.forget(id)\n		if err", "		if err", doors},
		{"unread-is-open", "a record that cannot be read leaves its key as it was", "internal/access/keys.go",
			"		k.forget(id)\n		if err := k.take(id, r); err != nil {", "		if _, err := readKey(r); err == nil {\n			k.forget(id)\n		}\n		if err := k.take(id, r); err != nil {", doors},
		{"unread-is-refused", "keys are refused for good before the log has been read", "internal/access/keys.go",
			"	case !whole:", "	case whole && !whole:", doors},
		{"any-audience", "a token that was made for somebody else opens this server", "internal/access/issuer.go",
			"ClientID: i.cfg.Audience", "SkipClientIDCheck: true", doors},
		{"kept-for-ever", "a key that the issuer has taken back is trusted on", "internal/access/issuer_keys.go",
			"	case now.Sub(k.got) > keysFresh:", "	case k.got.IsZero():", doors},
		{"any-scope", "a key does what its scopes do not say", "api/caller.go",
			"lacks := need &^ who.scopes", "lacks := need &^ need", guards},
		{"stream-outlives-key", "the stream of a job goes on when its key is revoked", "api/sse.go",
			"		case <-st.texts.ctx.Done():\n			return nil\n", "", guards},
		{"socket-outlives-key", "a WebSocket goes on when its key is revoked", "api/socket_talk.go",
			"		case <-t.lasts.Done():\n			return websocket.StatusPolicyViolation, kinds[codeKeyUnknown].title\n", "", guards},
		{"cookie-from-anywhere", "a page of another port changes things by the cookie", "api/caller.go",
			"byCookie && fromElsewhere(c)", "false && fromElsewhere(c) && byCookie", guards},
		// W2: what belongs to another tenant does not exist.
		{"strangers-heeded", "a client may change a job of another tenant", "aggregates/tenants.go",
			"	if !ok || j.Chain.Version == 0 || m.Tenant == j.Tenant {", "	if !ok || j.Chain.Version >= 0 {", seeds},
		{"strangers-told", "a client is told how a job of another tenant has ended", "handlers/commands.go",
			"	if answered(input) && ownerOf(events.OwnerOf(m.Tenant)) != e.owner {", "	if false {", core},
		{"strangers-content", "a command may name another tenant's files and texts", "aggregates/tenants.go",
			"	if !o.foreign {", "	if true {", lives},
		{"keys-shared", "two tenants with one key have one job", "api/jobs.go",
			"events.JobID(sub.who.tenant, sub.route, sub.key)", "events.JobID(\"\", sub.route, sub.key)", tenants},
		{"answers-shared", "what one tenant was answered lately is known to others", "api/recent.go",
			"	if !ok || s.tenant != tenant {", "	if !ok {", tenants},
		{"ring-shared", "a live stream begins with what happened to another tenant's job", "api/feed_job.go",
			"{ return e.tenant != tenant })", "{ return false && e.tenant != tenant })", tenants},
		{"stream-shared", "the stream of all jobs is that of all tenants", "api/sse_all.go",
			"	return e.tenant == f.tenant && within(f.types, e.Type)", "	return within(f.types, e.Type)", tenants},
		{"files-shared", "a file is found whoever asks for it", "projections/artifacts.go",
			"\"WHERE id = $1 AND tenant = $2 ORDER BY created_at, job_id LIMIT 1\"", "\"WHERE id = $1 AND tenant <> $2 || 'x' ORDER BY created_at, job_id LIMIT 1\"", tenants},
		{"pages-shared", "a page of jobs is that of all tenants", "projections/jobs.go",
			"	w := where{\"tenant = $1\", []any{tenant}}", "	w := where{\"tenant <> $1 || 'x'\", []any{tenant}}", tenants},
		{"place-among-all", "a job's place in the queue counts the jobs of others", "api/forecast.go",
			"l.own[j.tenant].ahead(", "l.all.ahead(", tenants},
	}
}
