//! What was asked for is noted, before it is sent: the same facts do not lead to the same request twice.

use super::{Memory, Running, View};
use crate::asked::Ask;
use crate::sync::duty;
use crate::{Action, Decision, Reason, wishes};
use pgherd_types::{DcsWrite, Instant, Now, Operation};

impl View {
    /// Note what a decision asked for, before it is sent.
    pub fn dispatched(&mut self, decision: &Decision, now: Now) {
        let now = now.mono;
        match &decision.role {
            Action::Hold | Action::Exit => {}
            Action::Acquire => self.asked.acquire = Some(Ask::new((), now)),
            Action::Release(status) => {
                self.asked.release = Some(Ask::new((), now));
                self.releasing = Some(status.clone());
                let makes_way = matches!(
                    decision.because,
                    Reason::StoppedToFailOver | Reason::StartFailedReleasing { .. } | Reason::HandingOver { .. }
                );
                if makes_way {
                    self.made_way_at = Some(now);
                }
            }
            Action::Start { id, operation, .. } => {
                match operation {
                    Operation::CopySlots { .. } => self.slots.copy_begins(now),
                    Operation::Promote { .. } => self.note_unsafe_slots(now),
                    _ => {}
                }
                self.last_operation = id.0;
                self.makes_room &= !operation.needs_lock();
                self.operation = Some(Running { id: *id, operation: operation.clone(), since: now, cancelled: false });
            }
            Action::Cancel(id) => {
                if let Some(running) = self.operation.as_mut().filter(|running| running.id == *id) {
                    running.cancelled = true;
                }
            }
            Action::Probe { round, .. } => {
                self.last_round = self.last_round.max(*round);
                self.asked.probe = Some(Ask::new(*round, now));
            }
            Action::Write(write) => self.note_write(write, now),
        }
        if let Reason::Diverged(found) | Reason::Rewinding { found, .. } | Reason::ReplacingDiverged { found, .. } =
            &decision.because
        {
            self.diverged = Some(found.clone());
        }
        self.remember(decision, now);
        self.note_upkeep(decision, now);
    }

    fn remember(&mut self, decision: &Decision, now: Instant) {
        match &decision.remember {
            None => {}
            Some(Memory::Handover(handover)) => self.handover = Some(handover.clone()),
            Some(Memory::HandoverOver) => self.handover = None,
            Some(Memory::MakesRoom) => self.makes_room = true,
            Some(Memory::RestartBegun) => {
                if let Some(scheduled) = self.scheduled_restart.take() {
                    self.pending = Some(wishes::restart(None, &scheduled.wish, now));
                }
            }
            Some(Memory::ScheduleDropped) => self.scheduled_restart = None,
            Some(Memory::OtherSlotsAwaited) => self.slots.copies.others_awaited_since = Some(now),
            Some(Memory::CopyOwed) => self.slots.copies.owed_since = Some(now),
            Some(Memory::LeavesForCopy) => self.slots.copies.leaves_since = Some(now),
            Some(Memory::CopyNotOwed) => self.slots.copies.over(),
        }
    }

    fn note_upkeep(&mut self, decision: &Decision, now: Instant) {
        let upkeep = &decision.upkeep;
        if let Some(prove) = upkeep.renew {
            // a move is a request about the lock, whoever asks for it
            self.asked.renew = Some(Ask::new(prove || upkeep.new_ttl.is_some(), now));
        }
        if let Some(ttl) = upkeep.new_ttl {
            self.asked.moved = Some(Ask::new(ttl, now));
            self.lease.begin_move(ttl, now);
        }
        for write in &upkeep.writes {
            self.note_write(write, now);
        }
        if upkeep.repair_config {
            self.asked.config = Some(Ask::new((), now));
        }
        if upkeep.look {
            self.asked.look = Some(now);
        }
        if let Some((round, _)) = &upkeep.failsafe {
            self.last_round = self.last_round.max(*round);
            self.asked.failsafe = Some(Ask::new(*round, now));
        }
        if wishes::restart_ended(self, now).is_some() {
            self.pending = None; // its end is among the answers
        }
        if let Some((round, apply)) = &upkeep.sync {
            self.last_round = self.last_round.max(*round);
            self.sync.ordered = duty::ordered(apply);
            self.asked.sync = Some((*round, Ask::new(apply.clone(), now)));
        }
        if let Some((round, target)) = &upkeep.slots {
            self.last_round = self.last_round.max(*round);
            if target.compare.is_some() {
                self.slots.readiness.asked(now);
            }
            self.asked.slots = Some((*round, Ask::new(target.clone(), now)));
        }
    }

    fn note_write(&mut self, write: &DcsWrite, now: Instant) {
        self.asked.writes.insert(write.key(), Ask::new(write.clone(), now));
    }
}
