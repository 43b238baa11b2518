//! Questions and answers as bytes.

use core::net::IpAddr;

use simple_dns::rdata::{A, AAAA, NULL, RData};
use simple_dns::{
    CLASS, Name, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, Question, ResourceRecord, TYPE,
};

/// The type of records that say which others there are.
const NSEC: u16 = 47;

/// A question for the addresses of a name, of both families, as one packet.
pub(super) fn question(name: &str) -> Option<Vec<u8>> {
    // RFC 6762: the id is zero. The draft would rather have the answer sent to the asker alone (3.2.1); but several
    // programs share this port, and a datagram to it reaches only one of them (RFC 6762).
    let mut packet = Packet::new_query(0);
    for kind in [TYPE::A, TYPE::AAAA] {
        let (kind, class) = (QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN));
        let question = Question::new(Name::new(name).ok()?, kind, class, false);
        packet.questions.push(question);
    }
    packet.build_bytes_vec().ok()
}

/// The names that a response tells the addresses of, each with its address, as many as `limit`; none if it is no
/// response.
pub(super) fn answers(bytes: &[u8], limit: usize) -> Vec<(String, IpAddr)> {
    let Ok(packet) = Packet::parse(bytes) else {
        return Vec::new();
    };
    if !packet.has_flags(PacketFlag::RESPONSE) {
        return Vec::new();
    }
    let records = packet.answers.iter().chain(&packet.additional_records);
    let told = records.filter_map(|record| {
        // RFC 6762: a lifetime of zero takes a name back.
        if record.ttl == 0 {
            return None;
        }
        let name = record.name.to_string().to_ascii_lowercase();
        Some((name, address(&record.rdata)?))
    });
    told.take(limit).collect()
}

/// What somebody on the link asks.
#[derive(Debug, Default)]
pub(super) struct Query {
    pub(super) id: u16,
    pub(super) asked: Vec<Asked>,
    /// What the asker knows already: name, address and lifetime in seconds.
    pub(super) known: Vec<(String, IpAddr, u32)>,
    /// More of what is known follows in another packet.
    pub(super) is_truncated: bool,
}

/// One question of it.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) name: String,
    /// The answer may go to the asker alone (RFC 6762).
    pub(super) unicast: bool,
}

/// The questions for addresses that a packet has, as many as `limit`, and what its sender knows already; `None` if it is
/// no query.
pub(super) fn query(bytes: &[u8], limit: usize) -> Option<Query> {
    let packet = Packet::parse(bytes).ok()?;
    // RFC 6762: what is no standard query is ignored.
    if packet.has_flags(PacketFlag::RESPONSE) || packet.opcode() != OPCODE::StandardQuery {
        return None;
    }
    let is_wanted = |question: &&Question<'_>| {
        let kind = question.qtype;
        let class = question.qclass;
        matches!(
            kind,
            QTYPE::ANY | QTYPE::TYPE(TYPE::A) | QTYPE::TYPE(TYPE::AAAA)
        ) && matches!(class, QCLASS::ANY | QCLASS::CLASS(CLASS::IN))
    };
    let questions = packet.questions.iter().filter(is_wanted).take(limit);
    let answers = packet.answers.iter().take(limit);
    Some(Query {
        id: packet.id(),
        asked: questions
            .map(|question| Asked {
                name: question.qname.to_string().to_ascii_lowercase(),
                unicast: question.unicast_response,
            })
            .collect(),
        known: answers
            .filter_map(|record| {
                let name = record.name.to_string().to_ascii_lowercase();
                Some((name, address(&record.rdata)?, record.ttl))
            })
            .collect(),
        is_truncated: packet.has_flags(PacketFlag::TRUNCATION),
    })
}

fn address(data: &RData<'_>) -> Option<IpAddr> {
    match data {
        RData::A(a) => Some(IpAddr::V4(a.address.into())),
        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.address.into())),
        _ => None,
    }
}

/// That a name has this address, and none of the other family (RFC 6762); with a lifetime of zero, that it has
/// it no longer. With the id of a question, the answer to a resolver that knows nothing of multicast, which
/// repeats the question.
pub(super) fn response(
    name: &str,
    address: IpAddr,
    ttl: u32,
    legacy: Option<u16>,
) -> Option<Vec<u8>> {
    let mut packet = Packet::new_reply(legacy.unwrap_or_default());
    packet.set_flags(PacketFlag::RESPONSE | PacketFlag::AUTHORITATIVE_ANSWER);
    let owner = Name::new(name).ok()?;
    // The only address of a name of one owner: others that a cache has of it are to be forgotten.
    let record = |data| {
        let record = ResourceRecord::new(owner.clone(), CLASS::IN, ttl, data);
        record.with_cache_flush(legacy.is_none())
    };
    let (kind, data, kinds): (_, _, &[u8]) = match address {
        IpAddr::V4(v4) => {
            let address = v4.into();
            (TYPE::A, RData::A(A { address }), &[0x40])
        }
        IpAddr::V6(v6) => {
            let address = v6.into();
            (TYPE::AAAA, RData::AAAA(AAAA { address }), &[0, 0, 0, 0x08])
        }
    };
    packet.answers.push(record(data));
    if legacy.is_some() {
        let question = Question::new(
            owner.clone(),
            QTYPE::TYPE(kind),
            QCLASS::CLASS(CLASS::IN),
            false,
        );
        packet.questions.push(question);
    }
    let absent = nsec(name, kinds);
    if ttl > 0 {
        let absent = RData::NULL(NSEC, NULL::new(&absent).ok()?);
        packet.additional_records.push(record(absent));
    }
    packet.build_bytes_vec().ok()
}

/// The data of an NSEC record (RFC 4034): the name itself, and the first window of the types that it has. The
/// crate's own writes a wrong length.
fn nsec(name: &str, kinds: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    for label in name.split('.') {
        data.push(label.len() as u8);
        data.extend_from_slice(label.as_bytes());
    }
    data.extend_from_slice(&[0, 0, kinds.len() as u8]);
    data.extend_from_slice(kinds);
    data
}

/// A response as another machine on the link would send it.
#[cfg(test)]
pub(super) fn response_of(name: &str, addresses: &[IpAddr], ttl: u32) -> Vec<u8> {
    let mut packet = Packet::new_reply(0);
    packet.set_flags(PacketFlag::RESPONSE | PacketFlag::AUTHORITATIVE_ANSWER);
    for address in addresses {
        let data = match address {
            IpAddr::V4(v4) => RData::A(A {
                address: (*v4).into(),
            }),
            IpAddr::V6(v6) => RData::AAAA(AAAA {
                address: (*v6).into(),
            }),
        };
        let name = Name::new(name).expect("a name");
        let record = ResourceRecord::new(name, CLASS::IN, ttl, data);
        packet.answers.push(record.with_cache_flush(true));
    }
    packet.build_bytes_vec().expect("room")
}

/// The names that are asked for in a question.
#[cfg(test)]
pub(super) fn asked(bytes: &[u8]) -> Vec<String> {
    let packet = Packet::parse(bytes).expect("a question");
    packet
        .questions
        .iter()
        .map(|question| question.qname.to_string())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Anybody on the link may send anything: packets with bytes changed, cut off and added are read or refused.
    #[test]
    fn packets_of_strangers_are_read_or_refused() {
        const NAME: &str = "9b36eaac-bb2e-49bb-bb78-21c41c499900.local";
        let addresses = ["192.0.2.1", "2001:db8::1"].map(|text| text.parse().expect("an address"));
        let whole = [
            question(NAME).expect("room"),
            response(NAME, addresses[0], 120, None).expect("room"),
            response(NAME, addresses[1], 10, Some(7)).expect("room"),
            response_of(NAME, &addresses, 120),
        ];
        let seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut state = seed;
        let mut next = |below: usize| {
            // xorshift
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        for round in 0..20_000 {
            let mut packet = whole[next(whole.len())].clone();
            for _ in 0..=next(4) {
                let at = next(packet.len());
                packet[at] = next(256) as u8;
            }
            packet.truncate(packet.len() - next(2) * next(packet.len()));
            packet.extend((0..next(2) * next(40)).map(|n| n as u8));
            let (told, asked) = (answers(&packet, 4), query(&packet, 4));
            let is_bounded = told.len() <= 4
                && asked.is_none_or(|asked| asked.asked.len() <= 4 && asked.known.len() <= 4);
            assert!(is_bounded, "seed {seed}, round {round}");
        }
    }
}
