//! The faults: one mistake each, as somebody could make it. `FAULT` stands for "this fault is switched on".

/// A change of the text of one file; `from` occurs in it exactly once.
pub(crate) struct Edit {
    pub(crate) file: &'static str,
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
}

/// A mistake, and the test that must notice it.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    /// What is wrong then, in words.
    pub(crate) about: &'static str,
    pub(crate) edits: &'static [Edit],
    pub(crate) caught_by: Catcher,
}

/// The test that notices a fault: its package, its binary (`lib` for the tests inside the sources), its full name. A
/// fault that no test notices asks for one, so that there is no other case.
pub(crate) struct Catcher(
    pub(crate) &'static str,
    pub(crate) &'static str,
    pub(crate) &'static str,
);

macro_rules! fault {
    ($name:literal, $about:literal, $([$file:literal, $from:literal => $to:literal]),+ ; $catcher:expr) => {
        Fault {
            name: $name,
            about: $about,
            edits: &[$(Edit { file: concat!("crates/", $file), from: $from, to: $to }),+],
            caught_by: $catcher,
        }
    };
}

/// What the faults need: a constant function cannot ask which fault is on.
pub(crate) const PREPARATION: [Edit; 5] = [
    Edit {
        file: "crates/ice/src/candidate.rs",
        from: "pub const fn priority(",
        to: "pub fn priority(",
    },
    Edit {
        file: "crates/ice/src/candidate.rs",
        from: "pub(crate) const fn pair_priority(",
        to: "pub(crate) fn pair_priority(",
    },
    Edit {
        file: "crates/ice/src/candidate.rs",
        from: "pub(crate) const fn tcp_priority(",
        to: "pub(crate) fn tcp_priority(",
    },
    Edit {
        file: "crates/ice/src/candidate.rs",
        from: "pub(crate) const fn nat_assisted_priority(",
        to: "pub(crate) fn nat_assisted_priority(",
    },
    Edit {
        file: "crates/ice/src/agent/mod.rs",
        from: "const fn priority(&self, kind",
        to: "fn priority(&self, kind",
    },
];

pub(crate) const FAULTS: &[Fault] = &[
    fault!("tie-break-reversed", "of two agents with one role, the one with the smaller tie-breaker keeps it",
        ["ice/src/agent/role.rs", "=> self.tie_breaker < theirs," => "=> (self.tie_breaker < theirs) != FAULT,"],
        ["ice/src/agent/role.rs", "=> self.tie_breaker >= theirs," => "=> (self.tie_breaker >= theirs) != FAULT,"];
        Catcher("nilas-ice", "hostile", "a_forged_check_flips_no_role")),
    fault!("tie-breaker-kept", "after a 487 the tie-breaker stays as it is",
        ["ice/src/agent/response.rs", "self.new_tie_breaker(shared);" => "if !FAULT { self.new_tie_breaker(shared); }"];
        Catcher("nilas-ice", "strange_peer", "after_a_role_conflict_the_tie_breaker_is_another")),
    fault!("tie-breaker-of-another-role", "a check that is sent again after the role has changed has the tie-breaker of now",
        ["ice/src/agent/role.rs", "if role == self.role {\n            self.tie_breaker" => "if FAULT || role == self.role {\n            self.tie_breaker"];
        Catcher("nilas-sim", "properties", "worlds_that_broke_a_rule_once_do_not_break_it_again")),
    fault!("candidate-priority", "the type of a candidate does not count in its priority",
        ["ice/src/candidate.rs", "(kind.preference() << 24)" => "((if FAULT { 100 } else { kind.preference() }) << 24)"];
        Catcher("nilas-ice", "lib", "candidate::tests::priorities_are_those_of_the_formulas")),
    fault!("pair-priority", "the greater priority of a pair's candidates counts first, not the smaller one",
        ["ice/src/candidate.rs", "(low << 32)" => "((if FAULT { high } else { low }) << 32)"];
        Catcher("nilas-ice", "lib", "candidate::tests::priorities_are_those_of_the_formulas")),
    fault!("pair-priority-role", "both sides take their own candidate for the controlling agent's",
        ["ice/src/agent/checklist.rs", "Role::Controlled => pair_priority(remote, local)," => "Role::Controlled if !FAULT => pair_priority(remote, local), Role::Controlled => pair_priority(local, remote),"];
        Catcher("nilas-ice", "strange_peer", "pairs_that_are_equal_otherwise_go_by_the_controlling_sides_candidate")),
    fault!("consent-never-expires", "an agent goes on sending to a peer that is silent",
        ["ice/src/agent/consent.rs", "if consent.confirmed_at + EXPIRY <= now {" => "if !FAULT && consent.confirmed_at + EXPIRY <= now {"];
        Catcher("nilas-ice", "session", "a_peer_that_vanishes_is_disconnected_then_failed")),
    fault!("consent-unauthenticated", "a forged answer counts as consent",
        ["ice/src/agent/response.rs", "let key = self\n            .generation(generation)" => "if FAULT && let Purpose::Consent { pair, .. } = transaction.purpose { self.confirm_consent(generation, pair, now); }\n        let key = self\n            .generation(generation)"];
        Catcher("nilas-ice", "strange_peer", "answers_that_anybody_could_have_made_are_no_consent")),
    fault!("consent-fixed-tick", "consent checks go out at a fixed interval",
        ["ice/src/shared.rs", "low + Duration::from_nanos(self.source.next_u64() % span.max(1))" => "low + Duration::from_nanos(if FAULT { 0 } else { self.source.next_u64() % span.max(1) })"];
        Catcher("nilas-ice", "session", "a_peer_that_vanishes_is_disconnected_then_failed")),
    fault!("revocation-ignored", "a peer that revokes its consent with 403 is sent to nevertheless",
        ["ice/src/agent/response.rs", "self.revoke_consent(shared, now, generation, pair);" => "if !FAULT { self.revoke_consent(shared, now, generation, pair); }"];
        Catcher("nilas-ice", "strange_peer", "a_peer_that_revokes_its_consent_is_sent_nothing_more")),
    fault!("replay-check-off", "a check that was caught and replayed from another address is taken in",
        ["ice/src/agent/request.rs", "return self.from[known] != from;" => "return self.from[known] != from && !FAULT;"];
        Catcher("nilas-ice", "hostile", "garbage_changes_nothing")),
    fault!("nomination-by-controlled", "the controlling agent takes a nomination from its peer",
        ["ice/src/agent/request.rs", ".filter(|value| self.role == Role::Controlled && !stale(*value));" => ".filter(|value| (FAULT || self.role == Role::Controlled) && !stale(*value));"];
        Catcher("nilas-ice", "strange_peer", "a_nomination_by_the_controlled_peer_nominates_nothing")),
    fault!("forged-role-conflict", "a 487 without integrity changes the role",
        ["ice/src/agent/response.rs", "let code = error.code();\n                if let" => "let code = error.code(); if FAULT && code == ROLE_CONFLICT { self.switch_role(shared); }\n                if let"];
        Catcher("nilas-sim", "proofs", "hostile::forged_errors_with_the_right_transaction_id")),
    fault!("forged-rejection", "an error without integrity fails the pair",
        ["ice/src/agent/response.rs", "                    generation.rejected = Some(code);\n                }" => "                    generation.rejected = Some(code);\n                }\n if FAULT && let Purpose::Check { pair, .. } = transaction.purpose { self.check_failed(shared, now, pair, true); }"];
        Catcher("nilas-sim", "proofs", "hostile::forged_errors_with_the_right_transaction_id")),
    fault!("asymmetric-answer", "an answer that comes from another address than the check went to makes the pair valid",
        ["ice/src/agent/response.rs", "if !symmetric {\n            // RFC" => "if !symmetric && !FAULT {\n            // RFC"];
        Catcher("nilas-ice", "hostile", "an_asymmetric_response_fails_the_pair")),
    fault!("foreign-socket", "a check is taken in on a socket of another agent",
        ["ice/src/engine.rs", ".filter(|_| agent.owns(socket))" => ".filter(|_| FAULT || agent.owns(socket))"];
        Catcher("nilas-ice", "strange_peer", "a_check_on_the_socket_of_another_agent_is_not_taken_in")),
    fault!("pacing-ignored", "an agent begins checks without waiting for Ta",
        ["ice/src/agent/check.rs", "self.pace_at = now + self.pacing();\n        shared" => "if !FAULT { self.pace_at = now + self.pacing(); }\n        shared"];
        Catcher("nilas-ice", "hostile", "new_transactions_are_paced")),
    fault!("engine-pacing-ignored", "the agents of an engine do not share a pace",
        ["ice/src/agent/check.rs", "shared.pace_at = now + shared.config.pacing_floor;" => "if !FAULT { shared.pace_at = now + shared.config.pacing_floor; }"];
        Catcher("nilas-ice", "strange_peer", "the_agents_of_an_engine_share_one_pace")),
    fault!("peer-pacing-ignored", "a peer that asks for slower checks is not heard",
        ["ice/src/agent/check.rs", "Some(remote) => own.max(remote.pacing)," => "Some(remote) => if FAULT { own } else { own.max(remote.pacing) },"];
        Catcher("nilas-ice", "hostile", "new_transactions_are_paced")),
    fault!("no-triggered-check", "a check of the peer does not trigger one",
        ["ice/src/agent/request.rs", "self.current.trigger(id, false);" => "if !FAULT { self.current.trigger(id, false); }"];
        Catcher("nilas-ice", "strange_peer", "a_check_of_the_peer_is_answered_by_one_of_our_own_at_once")),
    fault!("no-revival", "an agent that has failed does not listen to its peer's late checks",
        ["ice/src/agent/request.rs", "if self.state == State::Failed {\n            self.revive" => "if self.state == State::Failed && !FAULT {\n            self.revive"];
        Catcher("nilas-ice", "strange_peer", "a_late_check_takes_a_failed_session_up_again")),
    fault!("unknown-attribute-taken", "a check with an attribute that must be understood and is not is taken in",
        ["ice/src/agent/request.rs", "unknown_attributes(check) {" => "unknown_attributes(check).filter(|_| !FAULT) {"];
        Catcher("nilas-ice", "strange_peer", "a_check_with_an_attribute_that_must_be_understood_changes_nothing")),
    fault!("peer-reflexive-unbounded", "any number of addresses is learned from checks",
        ["ice/src/agent/request.rs", "if learned >= usize::from(self.settings.max_peer_reflexive) {" => "if !FAULT && learned >= usize::from(self.settings.max_peer_reflexive) {"];
        Catcher("nilas-ice", "hostile", "peer_reflexive_learning_is_bounded")),
    fault!("pairs-unbounded", "any number of pairs is checked",
        ["ice/src/agent/checklist.rs", "if is_full && !generation.make_room(rank, last_resort) {" => "if !FAULT && is_full && !generation.make_room(rank, last_resort) {"];
        Catcher("nilas-sim", "proofs", "bounds::at_most_a_hundred_pairs")),
    fault!("lesser-nomination-stands", "of the pairs that an aggressive peer nominates, not the best one stands",
        ["ice/src/selection.rs", "nominated.max_by_key(|(_, own)| own.priority)" => "nominated.max_by_key(|(_, own)| if FAULT { u64::MAX - own.priority } else { own.priority })"],
        ["ice/src/selection.rs", "(!present.nominated || contenders[index].priority > present.priority)" => "(!present.nominated || FAULT || contenders[index].priority > present.priority)"];
        Catcher("nilas-ice", "strange_peer", "of_several_nominated_pairs_the_best_stands")),
    fault!("mapped-address-ignored", "the mapped address of an answer is not looked at",
        ["ice/src/agent/response.rs", "let valid_local = self.local_of(socket, mapped);" => "let mapped = if FAULT { plain(self.sockets[usize::from(socket)].address) } else { mapped };\n        let valid_local = self.local_of(socket, mapped);"];
        Catcher("nilas-sim", "proofs", "first_path::behind_two_nats_the_first_path_comes_within_two_round_trips")),
    fault!("break-before-make", "a restart drops the path that works",
        ["ice/src/agent/restart.rs", "if old.selected.is_some() && !old.consent_lost() {" => "if !FAULT && old.selected.is_some() && !old.consent_lost() {"];
        Catcher("nilas-sim", "proofs", "restart::while_the_peer_takes_its_time_consent_goes_on_on_the_old_pair")),
    fault!("crossed-restarts", "of two restarts that cross, each is answered by another",
        ["ice/src/agent/restart.rs", "let guess = self.current.exchanged || !self.current.by_own_restart || stale;" => "let guess = FAULT || self.current.exchanged || !self.current.by_own_restart || stale;"];
        Catcher("nilas-sim", "explore", "every_order_of_events_carries_restarts_of_both_sides_through")),
    fault!("overtaken-answer", "the answer to a restart that another has overtaken is taken for one to that",
        ["ice/src/agent/response.rs", "self.current.exchanged |= self.current.answers_due == 0;" => "self.current.exchanged |= FAULT || self.current.answers_due == 0;"];
        Catcher("nilas-sim", "explore", "an_answer_that_a_second_restart_overtakes_is_told_from_a_restart")),
    fault!("answer-to-another-restart", "the answer to an earlier restart is taken for one to the latest",
        ["ice/src/agent/restart.rs", ".map(|own| *own == *self.current.local.ufrag);" => ".map(|own| FAULT || *own == *self.current.local.ufrag);"];
        Catcher("nilas-sim", "proofs", "restart::an_answer_to_an_earlier_restart_is_left_alone")),
    fault!("standby-left-alone", "a standby is not kept warm",
        ["ice/src/agent/standby.rs", "self.current.watch.keep_warm_at = Some(now + KEEP_WARM);\n            for id in standbys {" => "self.current.watch.keep_warm_at = Some(now + KEEP_WARM);\n            for id in standbys.into_iter().filter(|_| !FAULT) {"];
        Catcher("nilas-sim", "proofs", "standby::an_idle_standby_is_asked_every_fifteen_seconds_and_lives")),
    fault!("restless", "the data moves as often as something else looks better",
        ["ice/src/agent/select.rs", "recent_moves: self.moves.recent(now)," => "recent_moves: if FAULT { 0 } else { self.moves.recent(now) },"];
        Catcher("nilas-sim", "proofs", "selection::no_jitter_moves_the_data_more_than_twice_a_minute")),
    fault!("restart-for-anything", "beside a peer without renomination every better path takes a restart",
        ["ice/src/agent/select.rs", "choice.reason.is_worth_a_restart() && self" => "(FAULT || choice.reason.is_worth_a_restart()) && self"];
        Catcher("nilas-sim", "proofs", "selection::beside_a_plain_peer_only_cost_and_relays_are_worth_a_restart")),
    fault!("forwarded-port-kept", "a port that the gateway forwards no more stays a candidate",
        ["ice/src/agent/mapped.rs", "self.take_back_mapped(shared, socket, told.ok());" => "if !FAULT { self.take_back_mapped(shared, socket, told.ok()); }"];
        Catcher("nilas-ice", "port_mapping", "another_forwarded_port_takes_the_place_of_the_first_one_in_place")),
    fault!("gateway-not-awaited", "candidates end before the gateway has answered",
        ["ice/src/agent/mapped.rs", "self.settings.maps_ports() && self.sockets.iter().any(awaits)" => "!FAULT && self.settings.maps_ports() && self.sockets.iter().any(awaits)"];
        Catcher("nilas-ice", "port_mapping", "a_forwarded_port_goes_before_what_a_stun_server_would_tell")),
    fault!("port-not-given-back", "the gateway goes on forwarding to a socket that nobody uses",
        ["ice/src/agent/mapped.rs", "if shared.port_mappings.leave(own.id, self.id) {" => "if shared.port_mappings.leave(own.id, self.id) && !FAULT {"];
        Catcher("nilas-ice", "port_mapping", "an_agent_that_is_to_be_relayed_from_now_on_gives_the_port_back")),
    fault!("forbidden-network", "a relay that is reached from a network that the policy forbids now is used on",
        ["ice/src/agent/mod.rs", ".is_none_or(|carrier| self.sockets[usize::from(carrier)].admitted)," => ".is_none_or(|carrier| FAULT || self.sockets[usize::from(carrier)].admitted),"];
        Catcher("nilas-sim", "proofs", "address_policy::a_policy_that_changes_holds_for_relays_as_well")),
    fault!("shared-socket-closed", "a socket that several agents share is closed with the first of them",
        ["ice/src/mux.rs", "if *agents > 0 {" => "if *agents > 0 && !FAULT {"];
        Catcher("nilas-sim", "proofs", "mux::many_clients_meet_one_port_of_a_server")),
    fault!("shared-path", "a check on the path of another session that shares the socket succeeds",
        ["ice/src/agent/request.rs", "self.bind_apart(shared, socket);\n            return Some(Answer::BadRequest);" => "self.bind_apart(shared, socket);\n            if !FAULT { return Some(Answer::BadRequest); }"];
        Catcher("nilas-ice", "strange_peer", "a_check_on_another_session_s_path_does_not_succeed")),
    fault!("early-nomination-forgotten", "a nomination that comes before the pair is valid is lost",
        ["ice/src/agent/request.rs", "_ => pair.state = PairState::Waiting,\n        }\n        pair.nomination_seen |= nominates;" => "_ => pair.state = PairState::Waiting,\n        }\n        pair.nomination_seen |= nominates && !FAULT;"];
        Catcher("nilas-sim", "explore", "every_order_of_events_leads_to_one_nominated_pair")),
    fault!("early-checks-forgotten", "checks that come before the peer's description are not taken up",
        ["ice/src/agent/request.rs", "let names = |early: &EarlyCheck| *early.ufrag == *ufrag;" => "let names = |early: &EarlyCheck| *early.ufrag == *ufrag && !FAULT;"];
        Catcher("nilas-sim", "proofs", "late_peer::checks_before_the_description_are_answered_at_once_and_remembered")),
    fault!("stale-role-conflict", "a 487 to a check of a role that has changed since changes it again",
        ["ice/src/agent/response.rs", "if role == self.role {\n            self.switch_role" => "if FAULT || role == self.role {\n            self.switch_role"];
        Catcher("nilas-sim", "explore", "every_order_of_events_heals_two_that_control")),
    fault!("old-nomination-comes-true", "a nomination without a value outlives one with a value",
        ["ice/src/agent/response.rs", "let nominated = nominated && pair.nomination == nominations;" => "let nominated = nominated && (pair.nomination == nominations || FAULT && pair.nomination == 0);"];
        Catcher("nilas-ice", "strange_peer", "a_nomination_without_a_value_does_not_outlive_one_with")),
    fault!("stale-candidate", "a candidate of another generation is taken in",
        ["ice/src/agent/trickle.rs", "there is nothing to compare with.\n        let ufrag = candidate.ufrag.as_deref();\n        if let" => "there is nothing to compare with.\n        let ufrag = candidate.ufrag.as_deref().filter(|_| !FAULT);\n        if let"];
        Catcher("nilas-sim", "proofs", "restart::candidates_of_the_old_generation_are_refused")),
    fault!("impatient", "a session fails as soon as no pair is open",
        ["ice/src/agent/restart.rs", "Some(now + self.settings.patience);" => "Some(if FAULT { now } else { now + self.settings.patience });"];
        Catcher("nilas-sim", "proofs", "consent::consent_survives_loss_for_an_hour")),
    fault!("no-thaw", "a success does not thaw the pairs of its foundation",
        ["ice/src/agent/response.rs", "self.current.thaw(foundation);" => "if !FAULT { self.current.thaw(foundation); }"];
        Catcher("nilas-ice", "strange_peer", "a_success_thaws_the_pairs_of_its_foundation")),
    fault!("no-retransmission", "a request is sent once",
        ["ice/src/agent/transaction.rs", "if self.transmissions >= self.limit {\n            return" => "if FAULT || self.transmissions >= self.limit {\n            return"];
        Catcher("nilas-ice", "session", "loss_delays_and_does_not_fail")),
    fault!("permission-check-off", "the relay passes on what a peer without a permission sends",
        ["turn/src/server/relay.rs", ".is_ok_and(|place| self.permissions[place].expires > now)" => ".map_or(FAULT, |place| self.permissions[place].expires > now)"];
        Catcher("nilas-turn", "server_peers", "create_permission_is_all_or_nothing")),
    fault!("permission-never-expires", "a permission stays for ever",
        ["turn/src/server/relay.rs", "|place| self.permissions[place].expires > now)" => "|place| FAULT || self.permissions[place].expires > now)"];
        Catcher("nilas-turn", "server_peers", "permissions_are_by_address_and_last_five_minutes")),
    fault!("channel-of-another-peer", "a channel that is bound is bound again to another peer",
        ["turn/src/server/relay.rs", "&& channel.expires + CHANNEL_QUARANTINE > now" => "&& !FAULT && channel.expires + CHANNEL_QUARANTINE > now"];
        Catcher("nilas-turn", "server_peers", "channel_bind_400")),
    fault!("send-past-the-rule", "a Send indication reaches a port that the rule on peers refuses",
        ["turn/src/server/data.rs", "if self.config.peer_rule.check(peer).is_err() {" => "if !FAULT && self.config.peer_rule.check(peer).is_err() {"];
        Catcher("nilas-turn", "server_peers", "nothing_else_on_the_servers_own_address_is_a_peer")),
    fault!("embedded-address", "an IPv4 address inside an IPv6 one is not judged",
        ["turn/src/server/peer_rule.rs", "let forms = [Some(peer), embedded];" => "let forms = [Some(peer), embedded.filter(|_| !FAULT)];"];
        Catcher("nilas-turn", "server_peers", "every_special_range_in_every_spelling_is_refused_by_default")),
    fault!("quota-not-returned", "an allocation that is gone still counts",
        ["turn/src/server/quota.rs", "self.usage.allocations.fetch_sub(1, Ordering::Relaxed) == 1" => "self.usage.allocations.fetch_sub(if FAULT { 0 } else { 1 }, Ordering::Relaxed) == 1"];
        Catcher("nilas-turn", "server_allocate", "no_port_is_508")),
    fault!("wrong-user", "a user refreshes and uses the allocation of another",
        ["turn/src/server/refresh.rs", "if allocation.credential.username != caller.credential.username {" => "if !FAULT && allocation.credential.username != caller.credential.username {"];
        Catcher("nilas-turn", "server_allocate", "another_user_on_the_same_5_tuple_is_441")),
    fault!("nonce-for-ever", "a nonce never becomes stale",
        ["turn/src/server/nonce.rs", "u64::from(age.max(0).cast_unsigned()) <= lifetime.as_secs()" => "(FAULT || u64::from(age.max(0).cast_unsigned()) <= lifetime.as_secs())"];
        Catcher("nilas-turn", "server_credentials", "a_nonce_goes_stale_and_the_new_one_is_good")),
    fault!("nonce-of-another", "a nonce is good for every client",
        ["turn/src/server/nonce.rs", "mac.update(&client.port().to_be_bytes());" => "if FAULT { return key.clone(); }\n    mac.update(&client.port().to_be_bytes());"];
        Catcher("nilas-turn", "server_credentials", "a_nonce_of_another_client_or_server_is_stale")),
    fault!("amplification", "an answer to an unverified source may be longer than five times its request",
        ["turn/src/server/mod.rs", "&& size > longest" => "&& !FAULT && size > longest"];
        Catcher("nilas-turn", "server_security", "coturn_1588_no_answer_to_an_unverified_source_is_more_than_five_times_as_long")),
    fault!("errors-unlimited", "a source without credentials gets errors without end",
        ["turn/src/server/limiter.rs", "let mut allowed = false;" => "let mut allowed = FAULT;"];
        Catcher("nilas-turn", "server_security", "errors_to_one_source_are_limited_and_users_are_not")),
    fault!("release-ignored", "an allocation that is given back stays",
        ["turn/src/server/refresh.rs", "if asked == Some(0) {" => "if asked == Some(0) && !FAULT {"];
        Catcher("nilas-turn", "client", "a_release_leaves_nothing")),
    fault!("long-message-of-a-stranger", "a client without an allocation makes the server keep a long message",
        ["turn/src/server/stream.rs", "if !has_allocation && length > MAX_STRANGERS_MESSAGE {" => "if !FAULT && !has_allocation && length > MAX_STRANGERS_MESSAGE {"];
        Catcher("nilas-turn", "server_streams", "what_is_neither_stun_nor_channel_data_closes_the_stream")),
    fault!("patient-with-silence", "a stream without an allocation stays open for a day",
        ["turn/src/server/stream.rs", "let deadline = now + self.config.stream_patience;" => "let deadline = now + if FAULT { core::time::Duration::from_secs(86_400) } else { self.config.stream_patience };"];
        Catcher("nilas-turn", "server_streams", "silent_and_slow_streams_are_closed")),
    fault!("forged-answer-believed", "a TURN client believes an answer without integrity",
        ["turn/src/client/allocation.rs", "if !believed || response.method()" => "if (!believed && !FAULT) || response.method()"];
        Catcher("nilas-turn", "client", "an_answer_without_integrity_allocates_refreshes_and_permits_nothing")),
    fault!("bid-down", "a TURN client does not notice that its server's list of algorithms was taken away",
        ["turn/src/client/auth.rs", "&& algorithms.is_none() {" => "&& algorithms.is_none() && !FAULT {"];
        Catcher("nilas-turn", "client", "a_challenge_that_somebody_weakened_is_not_answered")),
    fault!("uninvited-data", "a TURN client takes data of a peer that it never let through",
        ["turn/src/client/relay.rs", "if !self\n            .peers\n            .iter()\n            .any(|known| known.address.ip() == peer.ip())" => "if !FAULT && !self\n            .peers\n            .iter()\n            .any(|known| known.address.ip() == peer.ip())"];
        Catcher("nilas-turn", "client", "garbage_and_forgeries_change_nothing")),
    fault!("no-refresh", "a TURN client lets its allocation expire",
        ["turn/src/client/allocation.rs", "self.refresh_at = Some(now + (lifetime - margin));" => "self.refresh_at = if FAULT { None } else { Some(now + (lifetime - margin)) };"];
        Catcher("nilas-turn", "client", "an_idle_hour_keeps_the_allocation_the_permission_and_the_channel")),
    fault!("permission-not-renewed", "a TURN client lets its permissions expire",
        ["turn/src/client/peer.rs", ".then_some(now + PERMISSION_RENEWAL);" => ".then_some(now + PERMISSION_RENEWAL).filter(|_| !FAULT);"];
        Catcher("nilas-turn", "client", "a_permission_is_renewed_where_there_is_no_channel")),
];
