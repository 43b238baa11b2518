//! Questions and answers as bytes.

use core::net::IpAddr;

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, TYPE};

/// A question for the addresses of a name, of both families, as one packet.
pub(super) fn question(name: &str) -> Option<Vec<u8>> {
    // RFC 6762: the id is zero.
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
        let address = match &record.rdata {
            RData::A(a) => IpAddr::V4(a.address.into()),
            RData::AAAA(aaaa) => IpAddr::V6(aaaa.address.into()),
            _ => return None,
        };
        Some((record.name.to_string().to_ascii_lowercase(), address))
    });
    told.take(limit).collect()
}

/// A response as a machine on the link would send it.
#[cfg(test)]
pub(super) fn response(name: &str, addresses: &[IpAddr], ttl: u32) -> Vec<u8> {
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::{A, AAAA};
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
