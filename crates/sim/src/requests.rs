//! What operators do to a cluster that is in order: switchovers, restarts, new copies, maintenance mode; and the members'
//! agreement to a primary that lost the DCS.

use crate::network::End;
use crate::remote;
use crate::sync_settings;
use crate::world::{Ev, World};
use pgherd_kernel::{Observation, failsafe, slots, wishes};
use pgherd_types::{
    ConfigKey, FailoverKey, Instant, Lsn, MemberName, RequestId, RestartWish, Settings, SyncSettings, Wish,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Members being asked for their agreement.
#[derive(Clone, Debug)]
pub struct AgreementRound {
    round: u64,
    asked_at: Instant,
    awaited: Vec<MemberName>,
    refused: Vec<(MemberName, String)>,
}

/// What operators have written into the `config` key.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct OperatorsConfig {
    /// Maintenance mode.
    pub pause: bool,
    /// The cluster follows another one.
    pub standby_cluster: bool,
    /// The time to live, if it was ever changed.
    pub ttl_s: Option<u64>,
    /// Synchronous replication, if it was ever changed.
    pub sync: Option<SyncSettings>,
    /// Logical slots came in at run time.
    pub slots: bool,
}

impl World {
    /// Somebody writes the `failover` key.
    pub fn ask_for_failover(&mut self, with_leader: bool) -> bool {
        let Some(leader) = self.etcd.leader() else { return false };
        let other = (leader + 1 + self.rng.below(self.nodes.len() as u64 - 1) as usize) % self.nodes.len();
        let named = !with_leader || self.rng.permille(500);
        let request = FailoverKey {
            mod_revision: self.etcd.cluster.revision + 1,
            leader: with_leader.then(|| self.nodes[leader].me.name.clone()),
            candidate: named.then(|| self.nodes[other].me.name.clone()),
            schedule: None,
        };
        if !with_leader {
            // whom an operator names may have less than another
            self.checks.forgiven_until = self.now + 3 * self.ms(self.setup.settings.ttl);
        }
        self.etcd.write_for_operator(|cluster| cluster.failover = Some(request));
        self.etcd_changed();
        true
    }

    /// Somebody asks a node.
    pub fn wish(&mut self, n: usize, wish: Wish) -> bool {
        let local = self.local(n);
        let Some(agent) = self.nodes[n].agent.as_ref().filter(|a| wishes::judge(&a.view, &wish, local).is_ok()) else {
            return false;
        };
        let id = RequestId(agent.view.last_operation + 1);
        let inc = self.nodes[n].inc;
        self.push(self.now, Ev::Turn { n, inc, fact: Box::new(Observation::Wished { id, wish }) });
        true
    }

    /// A restart of a node's PostgreSQL.
    pub fn ask_for_restart(&mut self, n: usize) -> bool {
        self.wish(n, Wish::Restart(RestartWish::default()))
    }

    /// A new copy of a node's data.
    pub fn ask_for_copy(&mut self, n: usize) -> bool {
        let from_leader = self.rng.permille(500);
        let force = self.rng.permille(500);
        self.wish(n, Wish::Reinitialize { force, from_leader })
    }

    /// Maintenance mode is switched on or off in the `config` key.
    pub fn set_pause(&mut self, pause: bool) {
        self.change_config(|config| config.pause = pause);
    }

    /// An operator changes the `config` key, which holds what this model knows of it. Did that change anything?
    pub fn change_config(&mut self, change: impl FnOnce(&mut OperatorsConfig)) -> bool {
        let before = self.config;
        change(&mut self.config);
        let OperatorsConfig { pause, ttl_s, standby_cluster, sync, slots } = self.config;
        let ttl = ttl_s.map_or_else(String::new, |ttl| format!(",\"ttl\":{ttl}"));
        let sync = sync.map_or_else(String::new, |sync| sync_settings::text(&sync));
        let slots = if slots { ",\"slots\":true" } else { "" };
        self.etcd.write_for_operator(|cluster| {
            let text = format!("{{\"pause\":{pause},\"standby_cluster\":{standby_cluster}{slots}{sync}{ttl}}}");
            cluster.config = Some(ConfigKey { mod_revision: cluster.revision + 1, text, valid: true });
        });
        self.etcd_changed();
        self.config != before
    }

    /// What the `config` key says, as far as it matters here, in the very turn in which it was read.
    pub fn follow_config(&mut self, n: usize) {
        let now = self.clocks(n);
        let Some(agent) = self.nodes[n].agent.as_mut() else { return };
        let config = agent.view.cluster.get().and_then(|c| c.config.as_ref()).filter(|config| config.valid);
        let Some(text) = config.map(|config| config.text.as_str()) else { return };
        let pause = text.contains("\"pause\":true");
        let standby_cluster = text.contains("\"standby_cluster\":true").then(remote::section);
        let sync = sync_settings::read(text).unwrap_or(self.setup.settings.sync);
        let ttl_s = text.split_once("\"ttl\":").and_then(|(_, rest)| rest.trim_end_matches('}').parse().ok());
        let before = &agent.view.settings;
        let ttl = ttl_s.map_or(before.ttl, Duration::from_secs);
        if before.pause != pause {
            self.trace.count(if pause { "happened:pause seen" } else { "happened:resume seen" });
        }
        if before.sync != sync {
            self.trace.count("happened:synchronous mode changed at run time");
        }
        let mut slots = before.slots.clone();
        if text.contains("\"slots\":true") {
            slots.permanent.clone_from(&self.setup.settings.slots.permanent);
        }
        let known = (before.pause, before.ttl, &before.standby_cluster, before.sync, &before.slots);
        if known != (pause, ttl, &standby_cluster, sync, &slots) {
            let settings = Settings { pause, ttl, standby_cluster, sync, slots, ..before.clone() };
            agent.view.apply(Observation::Settings(settings), now);
        }
    }

    /// A primary asks all members whether it may go on.
    pub fn ask_for_agreement(&mut self, n: usize, round: u64, members: &BTreeMap<MemberName, String>) {
        let (now, inc, asked_at) = (self.now, self.nodes[n].inc, self.local(n));
        let me = self.nodes[n].me.name.clone();
        let others: Vec<MemberName> = members.keys().filter(|name| **name != me).cloned().collect();
        let patience = failsafe::PATIENCE.as_millis() as u64;
        if let Some(agent) = self.nodes[n].agent.as_mut() {
            let (awaited, refused) = (others.clone(), Vec::new());
            agent.agreement = Some(AgreementRound { round, asked_at, awaited, refused });
        }
        let told = self.nodes[n].agent.as_ref().map(|agent| slots::told_in_failsafe(&agent.view, asked_at));
        let told = Arc::new(told.unwrap_or_default());
        for name in others {
            let peer = self.nodes.iter().position(|node| node.me.name == name);
            let delay = peer.and_then(|peer| self.net.delay(&mut self.rng, End::Node(n), End::Node(peer)));
            if let (Some(peer), Some(delay)) = (peer, delay) {
                self.push(
                    now + delay,
                    Ev::AgreementAsked { n, inc, round, peer, until: now + patience, slots: told.clone() },
                );
            }
        }
        self.push(now + patience, Ev::AgreementEnd { n, inc, round });
    }

    /// The question reaches a member.
    pub fn agreement_asked(
        &mut self,
        n: usize,
        inc: u32,
        round: u64,
        peer: usize,
        until: u64,
        slots: Arc<BTreeMap<String, Lsn>>,
    ) {
        let node = &self.nodes[peer];
        if !node.up || node.agent.is_none() {
            return;
        }
        if node.paused_until > self.now {
            let at = node.paused_until;
            return self.push(at, Ev::AgreementAsked { n, inc, round, peer, until, slots });
        }
        let to = self.nodes[n].me.name.clone();
        let local = self.local(peer);
        let agrees = self.nodes[peer].agent.as_ref().is_some_and(|agent| failsafe::may_promise(&agent.view, local));
        if agrees {
            self.turn(peer, Some(Observation::FailsafePromised { to, slots: slots.as_ref().clone() }));
        }
        let delay = self.net.delay(&mut self.rng, End::Node(peer), End::Node(n)).filter(|d| self.now + d < until);
        if let Some(delay) = delay {
            self.push(self.now + delay, Ev::AgreementSaid { n, inc, round, peer, agrees });
        }
    }

    /// A member's answer.
    pub fn agreement_said(&mut self, n: usize, round: u64, peer: usize, agrees: bool) {
        let name = self.nodes[peer].me.name.clone();
        let Some(agent) = self.nodes[n].agent.as_mut() else { return };
        let Some(asking) = agent.agreement.as_mut().filter(|a| a.round == round) else { return };
        asking.awaited.retain(|awaited| *awaited != name);
        if !agrees {
            asking.refused.push((name, "no".to_owned()));
        }
        if asking.awaited.is_empty() {
            self.agreement_end(n, round);
        }
    }

    /// All have answered, or the time is up.
    pub fn agreement_end(&mut self, n: usize, round: u64) {
        let Some(agent) = self.nodes[n].agent.as_mut() else { return };
        let Some(asked) = agent.agreement.take_if(|a| a.round == round) else { return };
        let AgreementRound { round, asked_at, awaited, mut refused } = asked;
        refused.extend(awaited.into_iter().map(|name| (name, "no answer".to_owned())));
        self.trace.count(if refused.is_empty() {
            "happened:all members agreed"
        } else {
            "happened:a member did not agree"
        });
        self.turn(n, Some(Observation::FailsafeAsked { round, asked_at, refused }));
    }
}
