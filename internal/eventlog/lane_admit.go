// What keeps a lane from accepting although a slot is free: a refusal of Admit, until
// Recheck, and a pause.

package eventlog

// admit asks whether the first command of a partition may be accepted.
func (n *lane) admit(cmd Record) bool {
	if n.cfg.Admit == nil {
		return true
	}
	ok := n.cfg.Admit(cmd)
	n.mu.Lock()
	defer n.mu.Unlock()
	if ok {
		delete(n.refused, cmd.At())
	} else {
		n.refused[cmd.At()], n.asked[cmd.At()] = cmd, true
	}
	return ok
}

// withdraw takes back what Admit was asked for a command.
func (n *lane) withdraw(cmd Record) {
	if n.cfg.Withdraw != nil {
		n.cfg.Withdraw(cmd)
	}
}

// withdrawAll takes back what has been refused so far.
func (n *lane) withdrawAll() {
	n.mu.Lock()
	refused := n.refused
	n.refused, n.asked = make(map[TopicPartition]Record), make(map[TopicPartition]bool)
	n.mu.Unlock()
	for _, cmd := range refused {
		n.withdraw(cmd)
	}
}

// Recheck has the lanes ask Admit again about what it has refused.
func (s *Lanes) Recheck() {
	for _, n := range s.hosted() {
		n.mu.Lock()
		clear(n.asked)
		n.mu.Unlock()
	}
	s.waker.wake()
}

// Pause keeps a lane from accepting, or has it go on. What runs goes on to its end, and
// the queue stays.
func (s *Lanes) Pause(lane string, paused bool) {
	for _, n := range s.hosted() {
		if n.cfg.Lane != lane {
			continue
		}
		n.mu.Lock()
		n.paused = paused
		n.mu.Unlock()
		if paused {
			n.withdrawAll()
		}
	}
	s.waker.wake()
}
