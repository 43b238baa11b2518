//! Who answers for a name, when and to whom (RFC 6762).
//!
//! Each name has one address and one owner: it is a random UUID, so nobody probes for it, and what others say of it is
//! not heard (draft-ietf-mmusic-mdns-ice-candidates-03, 3.1.1). It is announced twice, answered for at most once a
//! second, and taken back in the end. It lives on the interface that has the address, and there only.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use nilas_ice::Time;

use super::message::{Query, query, response};

/// RFC 6762.
pub(super) const PORT: u16 = 5353;
/// Names that are answered for, at most.
pub(super) const MAX_NAMES: usize = 1_024;
/// Questions and known answers of a packet that are looked at.
const MAX_RECORDS: usize = 64;
/// RFC 6762: the lifetime of what names an address, in seconds.
const TTL: u32 = 120;
/// RFC 6762: for resolvers that cannot know when it changes.
const LEGACY_TTL: u32 = 10;
/// RFC 6762: so many announcements.
const ANNOUNCEMENTS: u8 = 2;
/// RFC 6762: a record is not multicast again sooner. That, too, is between two announcements.
const INTERVAL: Duration = Duration::from_secs(1);
/// RFC 6762: what is told to one asker alone must have been multicast in the last quarter of its lifetime.
const RECENT: Duration = Duration::from_secs(TTL as u64 / 4);
/// RFC 6762: how long the rest of what the asker knows is waited for.
const PATIENCE: Duration = Duration::from_millis(450);
/// Answers to single askers in a second, at most: their addresses can be forged.
const MAX_UNICAST: u32 = 32;

/// Names that are answered for.
#[derive(Debug, Default)]
pub(super) struct Responder {
    records: Vec<Record>,
    /// Answers to single askers since then.
    unicast: (Time, u32),
}

#[derive(Debug)]
struct Record {
    name: String,
    address: IpAddr,
    announcements: u8,
    is_gone: bool,
    /// When it is multicast next.
    due: Option<Time>,
    /// Who asked and may yet say that it knows the answer.
    asker: Option<SocketAddr>,
    multicast_at: Option<Time>,
}

/// A response to be sent on the interface that has this address.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) on: IpAddr,
    /// To whom; `None`: to everybody on the link.
    pub(super) to: Option<SocketAddr>,
    pub(super) bytes: Vec<u8>,
}

impl Responder {
    /// Begins to answer for a name; false if there are too many.
    pub(super) fn register(&mut self, now: Time, name: &str, address: IpAddr) -> bool {
        let name = name.to_ascii_lowercase();
        if let Some(known) = self.records.iter_mut().find(|known| known.name == name) {
            if core::mem::take(&mut known.is_gone) {
                known.announce(now);
            }
            return true;
        }
        if self.records.len() >= MAX_NAMES {
            return false;
        }
        let mut record = Record {
            name,
            address,
            announcements: 0,
            is_gone: false,
            due: None,
            asker: None,
            multicast_at: None,
        };
        record.announce(now);
        self.records.push(record);
        true
    }

    /// Ends it, with a last word (RFC 6762).
    pub(super) fn unregister(&mut self, now: Time, name: &str) {
        let name = name.to_ascii_lowercase();
        if let Some(known) = self.records.iter_mut().find(|known| known.name == name) {
            (known.is_gone, known.due) = (true, Some(now));
        }
    }

    pub(super) fn unregister_all(&mut self, now: Time) {
        for record in &mut self.records {
            (record.is_gone, record.due) = (true, Some(now));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// A packet has come from somebody, on the interface that has the addresses for which `is_here` holds; what is
    /// answered to the asker alone, at once. The rest follows by [`poll`](Self::poll).
    pub(super) fn handle(
        &mut self,
        now: Time,
        from: SocketAddr,
        is_here: impl Fn(IpAddr) -> bool,
        bytes: &[u8],
    ) -> Vec<Response> {
        if self.records.is_empty() {
            return Vec::new();
        }
        let Some(query) = query(bytes, MAX_RECORDS) else {
            return Vec::new();
        };
        let mut alone = Vec::new();
        let (unicast, mut budget) = (&mut self.unicast, MAX_UNICAST);
        if now.since(unicast.0) < INTERVAL {
            budget -= unicast.1.min(MAX_UNICAST);
        } else {
            *unicast = (now, 0);
        }
        for record in self.records.iter_mut().filter(|own| is_here(own.address)) {
            let legacy = (from.port() != PORT).then_some(query.id);
            let Some(to_asker) = record.take(now, from, &query) else {
                continue;
            };
            if !to_asker || budget == 0 {
                continue;
            }
            let ttl = if legacy.is_some() { LEGACY_TTL } else { TTL };
            let bytes = response(&record.name, record.address, ttl, legacy);
            alone.extend(bytes.map(|bytes| Response {
                on: record.address,
                to: Some(from),
                bytes,
            }));
            budget -= 1;
            unicast.1 += 1;
        }
        alone
    }

    /// A response that is due.
    pub(super) fn poll(&mut self, now: Time) -> Option<Response> {
        let is_due = |own: &Record| own.due.is_some_and(|due| due <= now);
        let index = self.records.iter().position(is_due)?;
        let record = &mut self.records[index];
        let ttl = if record.is_gone { 0 } else { TTL };
        let bytes = response(&record.name, record.address, ttl, None).unwrap_or_default();
        let on = record.address;
        if record.is_gone {
            self.records.swap_remove(index);
        } else {
            record.announcements = record.announcements.saturating_sub(1);
            record.multicast_at = Some(now);
            record.due = (record.announcements > 0).then(|| now + INTERVAL);
            record.asker = None;
        }
        Some(Response {
            on,
            to: None,
            bytes,
        })
    }

    /// When `poll` has one.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.records.iter().filter_map(|own| own.due).min()
    }
}

impl Record {
    fn announce(&mut self, now: Time) {
        self.announcements = ANNOUNCEMENTS;
        self.multicast_later(now);
    }

    /// Now, or as soon as it may be multicast again.
    fn multicast_later(&mut self, at: Time) {
        let least = self.multicast_at.map_or(at, |last| last + INTERVAL);
        let at = at.max(least);
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Takes a query in: whether it is to be answered to the asker alone; `None` if it was not about this name, or is not
    /// to be answered.
    fn take(&mut self, now: Time, from: SocketAddr, query: &Query) -> Option<bool> {
        if self.is_gone {
            return None;
        }
        // RFC 6762: with at least half of its lifetime left.
        let knows = query.known.iter().any(|(name, address, ttl)| {
            *name == self.name && *address == self.address && *ttl >= TTL / 2
        });
        if knows {
            // RFC 6762: the rest of what was known.
            if self.asker == Some(from) {
                (self.asker, self.due) = (None, None);
            }
            return None;
        }
        let mut asked = query.asked.iter().filter(|asked| asked.name == self.name);
        let first = asked.next()?;
        let alone = first.unicast && asked.all(|other| other.unicast);
        if from.port() != PORT {
            return Some(true);
        }
        let is_recent = self.multicast_at.is_some_and(|at| now.since(at) < RECENT);
        if alone && is_recent {
            return Some(true);
        }
        if query.is_truncated && self.due.is_none() {
            self.asker = Some(from);
            self.multicast_later(now + PATIENCE);
        } else {
            self.multicast_later(now);
        }
        Some(false)
    }
}

#[cfg(test)]
mod tests {
    use simple_dns::rdata::RData;
    use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, TYPE};

    use super::super::message::{answers, response_of};
    use super::*;

    const NAME: &str = "9b36eaac-bb2e-49bb-bb78-21c41c499900.local";
    const OTHER: &str = "1f4712db-ea17-4bcf-a596-105139dfd8bf.local";

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn own() -> IpAddr {
        ip("192.0.2.1")
    }

    fn asker() -> SocketAddr {
        "192.0.2.9:5353".parse().expect("an address")
    }

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    /// One that has been announced, at ten seconds.
    fn announced() -> Responder {
        let mut responder = Responder::default();
        assert!(responder.register(Time::ZERO, NAME, own()));
        assert_eq!(multicast(&mut responder, 10_000), [0, 1_000]);
        responder
    }

    /// When it multicasts until then.
    fn multicast(responder: &mut Responder, until: u64) -> Vec<u64> {
        let mut times = Vec::new();
        while let Some(now) = responder.deadline().filter(|now| *now <= at(until)) {
            let sent = responder.poll(now).expect("it is due");
            assert_eq!((sent.on, sent.to), (own(), None));
            assert_eq!(answers(&sent.bytes, 9), [(NAME.to_owned(), own())]);
            times.push(now.as_nanos() / 1_000_000);
        }
        times
    }

    fn question(name: &str, kind: QTYPE, unicast: bool) -> Packet<'_> {
        let mut packet = Packet::new_query(0);
        let class = QCLASS::CLASS(CLASS::IN);
        let name = Name::new(name).expect("a name");
        packet
            .questions
            .push(Question::new(name, kind, class, unicast));
        packet
    }

    fn bytes(packet: &Packet<'_>) -> Vec<u8> {
        packet.build_bytes_vec().expect("room")
    }

    fn any(_: IpAddr) -> bool {
        true
    }

    #[test]
    fn a_name_is_announced_twice_and_answered_for_once_a_second() {
        let mut responder = announced();
        let upper = NAME.to_ascii_uppercase();
        for (n, kind) in [
            QTYPE::TYPE(TYPE::A),
            QTYPE::TYPE(TYPE::AAAA),
            QTYPE::ANY,
            QTYPE::TYPE(TYPE::A),
        ]
        .into_iter()
        .enumerate()
        {
            let packet = bytes(&question(&upper, kind, false));
            let now = at(10_000 + n as u64);
            assert_eq!(responder.handle(now, asker(), any, &packet), []);
        }
        // At once, and never sooner than a second after it.
        assert_eq!(multicast(&mut responder, 10_010), [10_000]);
        let packet = bytes(&question(NAME, QTYPE::ANY, false));
        responder.handle(at(10_020), asker(), any, &packet);
        assert_eq!(multicast(&mut responder, 99_000), [11_000]);
    }

    #[test]
    fn an_answer_says_that_there_is_no_address_of_the_other_family() {
        for (address, kind) in [("192.0.2.1", TYPE::A), ("2001:db8::1", TYPE::AAAA)] {
            let bytes = response(NAME, ip(address), TTL, None).expect("room");
            let packet = Packet::parse(&bytes).expect("a packet");
            assert!(packet.has_flags(PacketFlag::AUTHORITATIVE_ANSWER));
            assert!(packet.answers[0].cache_flush && packet.questions.is_empty());
            assert!(packet.answers[0].match_qtype(QTYPE::TYPE(kind)));
            let RData::NSEC(absent) = &packet.additional_records[0].rdata else {
                panic!("no NSEC");
            };
            let bitmap = &absent.type_bit_maps[0].bitmap;
            let number = u16::from(kind);
            let types: Vec<u16> = (0..8 * bitmap.len() as u16)
                .filter(|n| bitmap[usize::from(n / 8)] & (0x80 >> (n % 8)) != 0)
                .collect();
            assert_eq!(types, [number]);
        }
    }

    #[test]
    fn nothing_is_said_to_other_questions_on_other_interfaces_or_to_who_knows() {
        let mut responder = announced();
        let now = at(10_000);
        let wanted = bytes(&question(NAME, QTYPE::ANY, false));
        let mut knowing = question(NAME, QTYPE::ANY, false);
        let told = response_of(NAME, &[own()], TTL / 2);
        knowing.answers = Packet::parse(&told).expect("a packet").answers;
        for packet in [
            bytes(&question(OTHER, QTYPE::ANY, false)),
            bytes(&question(NAME, QTYPE::TYPE(TYPE::TXT), false)),
            bytes(&knowing),
            // What others say of the name is nothing to us.
            response_of(NAME, &[ip("192.0.2.66")], 120),
            vec![0xff; 40],
        ] {
            assert_eq!(responder.handle(now, asker(), any, &packet), []);
        }
        let elsewhere = |address| address != own();
        assert_eq!(responder.handle(now, asker(), elsewhere, &wanted), []);
        assert_eq!(responder.deadline(), None);
        // What is known will have run out soon.
        let told = response_of(NAME, &[own()], TTL / 2 - 1);
        let mut knowing = question(NAME, QTYPE::ANY, false);
        knowing.answers = Packet::parse(&told).expect("a packet").answers;
        responder.handle(now, asker(), any, &bytes(&knowing));
        assert_eq!(responder.deadline(), Some(now));
    }

    #[test]
    fn who_knows_more_than_one_packet_holds_is_heard_out() {
        for knows in [false, true] {
            let mut responder = announced();
            let mut first = question(NAME, QTYPE::ANY, false);
            first.set_flags(PacketFlag::TRUNCATION);
            responder.handle(at(10_000), asker(), any, &bytes(&first));
            let mut rest = Packet::new_query(0);
            let told = response_of(if knows { NAME } else { OTHER }, &[own()], TTL);
            rest.answers = Packet::parse(&told).expect("a packet").answers;
            responder.handle(at(10_100), asker(), any, &bytes(&rest));
            let wanted = if knows { vec![] } else { vec![10_450] };
            assert_eq!(multicast(&mut responder, 99_000), wanted);
        }
    }

    #[test]
    fn who_asks_for_it_is_answered_alone_if_the_others_have_heard_lately() {
        let mut responder = announced();
        let packet = bytes(&question(NAME, QTYPE::ANY, true));
        let alone = responder.handle(at(10_000), asker(), any, &packet);
        let [alone] = &alone[..] else {
            panic!("one answer: {alone:?}");
        };
        assert_eq!((alone.on, alone.to), (own(), Some(asker())));
        assert_eq!(answers(&alone.bytes, 9), [(NAME.to_owned(), own())]);
        assert_eq!(responder.deadline(), None);
        // A quarter of the lifetime after the last announcement.
        assert_eq!(responder.handle(at(31_000), asker(), any, &packet), []);
        assert_eq!(multicast(&mut responder, 99_000), [31_000]);
    }

    #[test]
    fn a_resolver_that_knows_nothing_of_multicast_gets_its_question_back() {
        let mut responder = announced();
        let plain: SocketAddr = "192.0.2.9:40000".parse().expect("an address");
        let mut packet = question(NAME, QTYPE::TYPE(TYPE::A), false);
        packet.set_id(4711);
        let alone = responder.handle(at(10_000), plain, any, &bytes(&packet));
        let answer = Packet::parse(&alone[0].bytes).expect("a packet");
        assert_eq!((answer.id(), answer.questions.len()), (4711, 1));
        let record = &answer.answers[0];
        assert_eq!((record.ttl, record.cache_flush), (LEGACY_TTL, false));
        assert_eq!(alone[0].to, Some(plain));
    }

    #[test]
    fn single_askers_get_no_more_than_so_many_answers_a_second() {
        let mut responder = announced();
        let plain: SocketAddr = "192.0.2.9:40000".parse().expect("an address");
        let packet = bytes(&question(NAME, QTYPE::ANY, false));
        let mut flood = |from: u64| -> usize {
            let times = from..from + 900;
            times
                .map(|ms| responder.handle(at(ms), plain, any, &packet).len())
                .sum()
        };
        assert_eq!(flood(10_000), MAX_UNICAST as usize);
        assert_eq!(flood(11_000), MAX_UNICAST as usize);
    }

    #[test]
    fn a_name_that_ends_says_so_once_and_is_silent_then() {
        let mut responder = announced();
        responder.unregister(at(10_000), NAME);
        let packet = bytes(&question(NAME, QTYPE::ANY, false));
        assert_eq!(responder.handle(at(10_000), asker(), any, &packet), []);
        let last = responder.poll(at(10_000)).expect("a last word");
        let packet = Packet::parse(&last.bytes).expect("a packet");
        assert_eq!((packet.answers.len(), packet.answers[0].ttl), (1, 0));
        assert!(responder.is_empty() && responder.poll(at(99_000)).is_none());
        // Taken up again before that was said, it lives on.
        let mut responder = announced();
        responder.unregister(at(10_000), NAME);
        assert!(responder.register(at(10_000), NAME, own()));
        assert_eq!(multicast(&mut responder, 99_000), [10_000, 11_000]);
    }

    #[test]
    fn there_is_an_end_to_the_names() {
        let mut responder = Responder::default();
        let accepted = (0..2 * MAX_NAMES)
            .filter(|n| responder.register(Time::ZERO, &format!("{n}.local"), own()));
        assert_eq!(accepted.count(), MAX_NAMES);
        assert!(responder.register(Time::ZERO, "3.local", own()), "known");
    }
}
