//! The seed corpora: what ordinary clients, servers and agents do, so that a fuzzer begins where the states are deep.

use nilas_stun::{Class, MessageBuilder, Method, TransactionId};
use nilas_turn::ChannelData;

use crate::choices::Script;
use crate::signaling::parts::message::{ClientMessage, SCHEMA, ServerMessage};
use crate::signaling::parts::signal::{Description, Signal};
use crate::signaling::parts::ticket::Ticket;

type Seed = (&'static str, &'static str, Vec<u8>);

/// Each with its target and its name.
pub fn all() -> Vec<Seed> {
    [
        server(),
        client(),
        framing(),
        lines(),
        agents(),
        rendezvous(),
        tickets(),
        servers(),
        recorded(),
    ]
    .concat()
}

/// Seeds that do not lead where they are to lead, by their names.
pub fn astray() -> Vec<String> {
    let deep = [
        ("agent", "host"),
        ("agent", "both-controlling"),
        ("agent", "stun"),
        ("agent", "relay-udp"),
        ("agent", "relay-tcp"),
        ("agent", "relay-both"),
        ("agent", "restart"),
        ("agent", "session"),
        ("agent", "session-relayed"),
        ("agent", "session-restarts"),
        ("turn_server", "talk"),
        ("turn_server", "talk-on-a-stream"),
        ("turn_client", "datagrams"),
        ("turn_client", "stream"),
        ("recording", "direct"),
        ("recording", "stun"),
        ("recording", "relay-udp"),
        ("recording", "relay-tls"),
        ("recording", "failed"),
    ];
    let seeds = all().into_iter();
    let missed = seeds.filter(|(target, name, bytes)| {
        deep.contains(&(*target, *name))
            && !match *target {
                "agent" => crate::agent::check(bytes),
                "turn_server" => crate::turn_server::check(bytes),
                "recording" => crate::recording::check(bytes),
                _ => crate::turn_client::check(bytes),
            }
    });
    missed
        .map(|(target, name, _)| format!("{target}/{name}"))
        .collect()
}

/// Recordings as they were made; with a byte changed, parts gone, twice and put in; and none at all.
fn recorded() -> Vec<Seed> {
    let seed = |name, bytes: &[u8]| ("recording", name, bytes.to_vec());
    vec![
        seed("direct", &[0]),
        seed("stun", &[2]),
        seed("relay-udp", &[4]),
        seed("relay-all", &[6]),
        seed("relay-tls", &[8]),
        seed("failed", &[10]),
        seed("changed", &[5, 1, 4, 0, 3, 0, 1, 80, 255]),
        seed("gone", &[4, 2, 2, 0, 60]),
        seed("twice", &[3, 3, 0, 150, 250]),
        seed("put-in", &[7, 4, 1, 0, 0, 3, 1, 2, 3]),
        seed("empty", &[255]),
        seed("cut-off", b"\xffnilasr\0\x01\x050.1.0\0"),
    ]
}

fn message(class: Class, method: Method, write: impl FnOnce(&mut MessageBuilder<'_>)) -> Vec<u8> {
    let mut buffer = vec![0; 512];
    let id = TransactionId::new(*b"nilas's seed");
    let mut builder = MessageBuilder::new(&mut buffer, class, method, id).expect("there is room");
    write(&mut builder);
    let length = builder.finish();
    buffer.truncate(length);
    buffer
}

/// The first request is challenged, the second has the nonce.
fn allocate(user: u8) -> Script {
    Script::default().times(2, &[1, user, 0, 1, 0, 0])
}

fn server() -> Vec<Seed> {
    let binding = message(Class::Request, Method::BINDING, |_| {});
    let data = b"application data";
    let talk = |user: u8| {
        allocate(user)
            .then(&[1, user, 2, 1, 2, 0]) // a permission
            .then(&[6, user, 0])
            .bytes(data) // Send
            .then(&[1, user, 3, 2, 4, 0, 2, 0]) // a channel
            .then(&[7, user, 0])
            .bytes(data) // ChannelData
            .then(&[8, 0, 0, 20, 9, 0, 0, 3, 4, 0, 0, 5, 0]) // a peer's data, and ICMP
    };
    vec![
        (
            "turn_server",
            "binding",
            Script::new(&[0, 0]).bytes(&binding).0,
        ),
        (
            "turn_server",
            "talk",
            talk(0).then(&[1, 0, 1, 1, 1, 2, 14, 4, 1, 0, 1, 1, 1, 0]).0,
        ),
        (
            "turn_server",
            "talk-sha256",
            Script::new(&[13, 4, 0]).then(&talk(0).0).0,
        ),
        ("turn_server", "talk-on-a-stream", talk(3).then(&[12, 3]).0),
        (
            "turn_server",
            "expiry",
            talk(0)
                .then(&[14, 3, 7, 0, 0])
                .bytes(data)
                .then(&[14, 5, 14, 7])
                .0,
        ),
        (
            "turn_server",
            "two-families",
            Script::default()
                .times(2, &[1, 0, 0, 2, 0, 0, 7, 0])
                .then(&[1, 0, 2, 2, 2, 0, 2, 2])
                .0,
        ),
        (
            "turn_server",
            "reservation",
            Script::default()
                .times(2, &[1, 0, 0, 2, 0, 0, 8, 1])
                .times(2, &[1, 2, 0, 2, 0, 0, 10])
                .0,
        ),
        (
            "turn_server",
            "forbidden-peers",
            allocate(0)
                .then(&[1, 0, 2, 1, 2, 6, 1, 0, 2, 1, 2, 8, 1, 0, 3, 2, 4, 0, 2, 10])
                .0,
        ),
        (
            "turn_server",
            "relay-to-relay",
            allocate(0)
                .then(&allocate(2).0)
                .then(&[1, 0, 2, 1, 2, 4, 1, 2, 2, 1, 2, 3, 6, 0, 4])
                .bytes(data)
                .0,
        ),
        (
            "turn_server",
            "moving",
            Script::default()
                .times(2, &[1, 0, 0, 2, 0, 0, 12, 0])
                .times(2, &[1, 2, 1, 1, 12, 1])
                .then(&[1, 2, 2, 1, 2, 0])
                .0,
        ),
        (
            "turn_server",
            "tcp",
            Script::default()
                .times(2, &[1, 4, 0, 1, 0, 1])
                .then(&[1, 4, 2, 1, 2, 0, 1, 4, 4, 1, 2, 0, 11, 0]) // a permission, Connect
                .times(2, &[1, 3, 5, 1, 11])
                .then(&[10, 0, 0, 11, 0, 12, 4])
                .0,
        ),
        (
            "turn_server",
            "spoiled",
            allocate(0)
                .then(&[5, 0, 0, 1, 0, 0, 1, 0, 5, 0, 1, 1, 1, 0, 2, 7])
                .0,
        ),
        (
            "turn_server",
            "drain-and-reload",
            talk(0)
                .then(&[13, 0, 13, 1, 1, 2, 0, 1, 0, 0, 13, 2, 13, 3])
                .0,
        ),
        (
            "turn_server",
            "many",
            (0..6)
                .fold(Script::default(), |script, user| {
                    script.then(&allocate(user).0)
                })
                .then(&[14, 5])
                .0,
        ),
    ]
}

fn client() -> Vec<Seed> {
    // Both allocate, let a peer through and bind a channel to it; the peer answers.
    let talk = |start: &[u8]| {
        Script::new(start)
            .times(6, &[0])
            .then(&[10, 0, 0, 0, 10, 0, 1])
            .times(4, &[0])
            .then(&[12, 0, 0, 0])
    };
    let days = |script: Script| script.times(12, &[14, 0, 0, 0]);
    vec![
        ("turn_client", "datagrams", days(talk(&[0, 0])).0),
        ("turn_client", "stream", days(talk(&[1, 0])).0),
        (
            "turn_client",
            "two-families",
            talk(&[0, 1]).then(&[10, 3, 1, 0, 0, 0]).0,
        ),
        (
            "turn_client",
            "released",
            talk(&[0, 0]).then(&[13, 1, 0, 0]).0,
        ),
        (
            "turn_client",
            "lost",
            talk(&[0, 0]).then(&[13, 0]).times(20, &[14, 0]).0,
        ),
        (
            "turn_client",
            "no-answer",
            Script::new(&[0, 0]).times(10, &[5, 14]).0,
        ),
        (
            "turn_client",
            "forged",
            Script::new(&[0, 0, 9, 1, 3, 5, 6, 7, 2, 9, 0, 3, 1, 2, 0, 3, 0])
                .times(6, &[0])
                .0,
        ),
        (
            "turn_client",
            "redirected",
            Script::new(&[0, 0, 9, 0, 3, 0, 0, 8, 9]).0,
        ),
        (
            "turn_client",
            "changed",
            talk(&[0, 0]).times(4, &[14, 4, 7, 0, 1, 9]).0,
        ),
    ]
}

fn framing() -> Vec<Seed> {
    let mut data = ChannelData::header(0x4000, 5).expect("a channel").to_vec();
    data.extend_from_slice(b"hello\0\0\0");
    let peer = "192.0.2.1:7".parse().expect("an address");
    let send = message(Class::Indication, Method::SEND, |b| {
        b.xor_peer_address(peer)
            .and_then(|b| b.data(b"data"))
            .expect("there is room");
    });
    let binding = message(Class::Request, Method::BINDING, |_| {});
    let stream = [&data[..], &send, &binding, &data].concat();
    vec![
        ("stream_framing", "bytes", Script::new(&[1]).then(&stream).0),
        (
            "stream_framing",
            "pieces",
            Script::new(&[7]).then(&stream).0,
        ),
        (
            "stream_framing",
            "misframed",
            Script::new(&[3]).then(&data).then(b"GET / HTTP/1.1").0,
        ),
        (
            "stream_framing",
            "unfinished",
            Script::new(&[2]).then(&stream[..stream.len() - 2]).0,
        ),
        (
            "stream_framing",
            "long",
            Script::new(&[100])
                .then(&[0x40, 0, 0xFF, 0xFF])
                .times(50, b"data")
                .0,
        ),
    ]
}

fn lines() -> Vec<Seed> {
    let text = |name, text: &str| ("candidate_lines", name, text.as_bytes().to_vec());
    vec![
        text(
            "host",
            "candidate:1 1 udp 2130706431 192.0.2.7 50000 typ host",
        ),
        text(
            "relay",
            "a=candidate:3 1 UDP 16777215 2001:db8::1 50000 typ relay raddr 192.0.2.7 rport 9 generation 0 ufrag abcd network-id 3\r\n",
        ),
        text(
            "name",
            "candidate:1 1 udp 1 4c5b3cd0-9d3b-4a1c-8a2e-5d1f6f7a8b9c.local 9 typ srflx raddr 0.0.0.0 rport 9",
        ),
        text(
            "tcp",
            "candidate:1 1 tcp 1518280447 192.0.2.7 9 typ host tcptype active",
        ),
        text(
            "description",
            "a=ice-lite\r\na=ice-ufrag:abcd\r\na=ice-pwd:a+password+of+22+chars\r\na=ice-pacing:20\r\na=ice-options:ice2 trickle\r\na=remote-candidates:1 192.0.2.1 7 2 2001:db8::1 8\r\na=end-of-candidates\r\n",
        ),
        text(
            "offer",
            "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nc=IN IP4 192.0.2.3\r\nt=0 0\r\na=group:BUNDLE 0 1\r\na=ice-options:ice2 trickle\r\na=ice-pacing:20\r\na=ice-ufrag:abcd\r\na=ice-pwd:a+password+of+22+chars\r\nm=audio 7000 UDP/TLS/RTP/SAVPF 0\r\na=rtcp:7001 IN IP4 192.0.2.3\r\na=mid:0\r\na=candidate:1 1 udp 9 192.0.2.3 7000 typ host\r\na=candidate:1 2 udp 8 192.0.2.3 7001 typ host\r\na=end-of-candidates\r\nm=video 0 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\na=bundle-only\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP6 ::\r\na=mid:2\r\na=ice-ufrag:efgh\r\na=ice-pwd:another+password+of+26+chars\r\n",
        ),
        text(
            "mismatch",
            "v=0\nc=IN IP4 host.example.org\na=ice-lite\na=end-of-candidates\nm=audio 5/2 RTP/AVP 0\na=ice-ufrag:abcd\na=ice-pwd:a+password+of+22+chars\na=ice-mismatch\na=remote-candidates:1 192.0.2.1 7\na=remote-candidates:2 192.0.2.1 8\n",
        ),
        text(
            "fragment",
            "a=ice-ufrag:abcd\r\na=ice-pwd:a+password+of+22+chars\r\na=group:BUNDLE 0 1\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\na=candidate:1 1 udp 9 192.0.2.3 7000 typ host\r\nm=audio 9 RTP/AVP 0\r\na=ice-ufrag:efgh\r\na=ice-pwd:another+password+of+26+chars\r\na=mid:1\r\na=end-of-candidates\r\n",
        ),
        text(
            "init",
            r#"{"candidate":"candidate:1 1 udp 1 192.0.2.7 9 typ prflx","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":"abcd"}"#,
        ),
        text(
            "parameters",
            r#"{"ufrag":"abcd","pwd":"a+password+of+22+chars","options":["ice2"],"pacing":20,"lite":true}"#,
        ),
        text(
            "w3c-parameters",
            r#"{"usernameFragment":"abcd","password":"a+password+of+22+chars","iceLite":true}"#,
        ),
    ]
}

fn agents() -> Vec<Seed> {
    const RUN: [u8; 3] = [0, 0, 63];
    let session = |first: u8, second: u8| Script::new(&[first, second]).times(6, &RUN);
    let data = [20, 0, 20, 1, 4, 0, 8];
    vec![
        ("agent", "host", session(0, 0).then(&data).0),
        ("agent", "both-controlling", session(0, 1).then(&data).0),
        ("agent", "stun", session(16 | 8, 16).then(&data).0),
        (
            "agent",
            "relay-udp",
            session(2 | 32, 0).times(4, &RUN).then(&data).0,
        ),
        (
            "agent",
            "relay-tcp",
            session(4 | 32, 0).times(4, &RUN).then(&data).0,
        ),
        (
            "agent",
            "relay-both",
            session(2 | 4 | 32, 2 | 32).times(6, &RUN).then(&data).0,
        ),
        (
            "agent",
            "small-bounds",
            session(64, 64)
                .times(4, &[14, 0, 0, 1, 1, 2, 0, 2, 0, 0])
                .then(&RUN)
                .0,
        ),
        (
            "agent",
            "restart",
            session(0, 0).then(&[21, 0, 2]).times(4, &RUN).then(&data).0,
        ),
        (
            "agent",
            "both-restart",
            session(0, 0)
                .then(&[21, 0, 2, 21, 1, 2])
                .times(4, &RUN)
                .then(&data)
                .0,
        ),
        (
            "agent",
            "consent-lost",
            session(0, 0).then(&[21, 0, 1, 40]).times(2, &RUN).0,
        ),
        (
            "agent",
            "changed",
            session(0, 0)
                .times(8, &[8, 0, 0, 0, 0, 150, 9, 0, 0, 1, 1, 40])
                .then(&RUN)
                .0,
        ),
        (
            "agent",
            "forged-answers",
            Script::new(&[0, 0, 0, 0, 6])
                .times(6, &[13, 0, 0, 1, 0, 0, 1, 1])
                .then(&RUN)
                .0,
        ),
        (
            "agent",
            "forged-checks",
            session(0, 0)
                .times(3, &[12, 1, 0, 1, 1, 3, 0, 1, 2, 1, 4, 1, 0, 0])
                .0,
        ),
        (
            "agent",
            "insider",
            session(0, 0)
                .times(3, &[14, 1, 0, 1, 1, 3, 0, 1, 2, 1, 4, 0, 0])
                .then(&RUN)
                .0,
        ),
        (
            "agent",
            "replayed",
            Script::new(&[0, 0, 0, 0, 8, 10, 0, 0, 0, 10, 0, 1, 1])
                .then(&RUN)
                .0,
        ),
        (
            "agent",
            "loss",
            Script::new(&[0, 0])
                .times(8, &[0, 0, 5, 6, 0, 0, 7, 0, 1, 5, 0, 2])
                .then(&RUN)
                .0,
        ),
        (
            "agent",
            "system",
            Script::new(&[
                31, 2, 18, 0, 0, 0, 18, 0, 1, 18, 0, 2, 17, 0, 3, 0, 3, 5, 16, 0, 0, 0,
            ])
            .times(3, &RUN)
            .0,
        ),
        // Two streams of two components: the third byte of an action says which of the four is meant.
        (
            "agent",
            "session",
            Script::new(&[128, 0])
                .times(6, &[0, 0, 0, 63])
                .then(&[20, 0, 3, 20, 1, 1, 4, 0, 0, 8])
                .0,
        ),
        (
            "agent",
            "session-relayed",
            Script::new(&[128 | 2 | 32, 16])
                .times(10, &[0, 0, 0, 63])
                .then(&[20, 0, 2, 20, 1, 2, 4, 0, 0, 8])
                .0,
        ),
        (
            "agent",
            "session-restarts",
            Script::new(&[128, 1])
                .times(6, &[0, 0, 0, 63])
                .then(&[21, 0, 3, 2, 21, 1, 2, 2, 21, 0, 0, 2])
                .times(4, &[0, 0, 0, 63])
                .then(&[20, 0, 3, 20, 1, 1, 4, 0, 0, 8])
                .0,
        ),
        (
            "agent",
            "session-closed-in-parts",
            Script::new(&[128, 0])
                .times(6, &[0, 0, 0, 63])
                .then(&[21, 0, 1, 0, 0, 4, 0, 0, 63, 21, 1, 2, 0, 1])
                .times(2, &[0, 0, 0, 63])
                .then(&[20, 0, 0, 20, 1, 0, 4, 0, 0, 8])
                .0,
        ),
        (
            "agent",
            "session-insider",
            Script::new(&[128, 64])
                .times(3, &[0, 0, 0, 63])
                .times(3, &[14, 1, 3, 0, 1, 1, 3, 0, 1, 2, 1, 4, 0, 0])
                .times(3, &[12, 0, 1, 0, 1, 1, 3, 0, 1, 2, 1, 4, 1, 0, 0])
                .then(&[0, 0, 0, 63])
                .0,
        ),
        (
            "agent",
            "hostile-signaling",
            Script::new(&[0, 0])
                .then(&RUN)
                .times(4, &[16, 0, 1, 7, 16, 0, 2, 9])
                .then(&RUN)
                .0,
        ),
    ]
}

fn rendezvous() -> Vec<Seed> {
    let signal = Signal::Description(Description::new("abcd", "a+password+of+22+chars"));
    let signal = serde_json::value::to_raw_value(&signal).expect("plain fields are always JSON");
    let code: crate::signaling::parts::code::Code = "7-amber-canyon".parse().expect("a code");
    let seed = |name, text: String| ("signaling", name, text.into_bytes());
    vec![
        seed("hello", ClientMessage::Hello { schema: SCHEMA.into() }.to_json()),
        seed("create", ClientMessage::Create.to_json()),
        seed("join", ClientMessage::Join { code: code.clone(), create: true }.to_json()),
        seed("signal", ClientMessage::Signal(&signal).to_json()),
        seed("created", ServerMessage::Created { code, expires_in: core::time::Duration::from_secs(600) }.to_json()),
        seed("peer-joined", ServerMessage::PeerJoined { controlling: true }.to_json()),
        seed("peer-left", ServerMessage::PeerLeft.to_json()),
        seed("error", r#"{"type":"error","error":"too_many_attempts","retry_after_s":9}"#.into()),
        seed("candidate", r#"{"type":"candidate","candidate":"candidate:1 1 udp 1 192.0.2.7 9 typ host","sdpMid":"0","sdpMLineIndex":0}"#.into()),
        seed("end", r#"{"type":"end_of_candidates","usernameFragment":"abcd"}"#.into()),
        seed("code", "7-amber-canyon".into()),
    ]
}

fn tickets() -> Vec<Seed> {
    let mut ticket =
        Ticket::new(Description::new("abcd", "a+password+of+22+chars")).expect("it is short");
    ticket
        .push_candidate("candidate:1 1 udp 1 192.0.2.7 9 typ host")
        .expect("it is short");
    let inside = r#"{"ufrag":"abcd","pwd":"a+password+of+22+chars","options":["trickle"],"pacing":5,"candidates":["candidate:1 1 udp 1 192.0.2.7 9 typ host"]}"#;
    vec![
        ("ticket", "line", ticket.to_string().into_bytes()),
        ("ticket", "inside", inside.as_bytes().to_vec()),
        ("ticket", "version", b"nilas2:AAAA".to_vec()),
    ]
}

fn servers() -> Vec<Seed> {
    let seed = |name, text: &str| ("ice_servers", name, text.as_bytes().to_vec());
    vec![
        seed(
            "w3c",
            r#"[{"urls":"stun:stun.example.org"},{"urls":["turn:turn.example.org","turns:turn.example.org:443?transport=tcp"],"username":"ann","credential":"secret"}]"#,
        ),
        seed(
            "configuration",
            r#"{"iceServers":{"urls":["turn:[2001:db8::1]:3478"],"username":"ann","credential":"secret"}}"#,
        ),
        seed(
            "url-and-urls",
            r#"{"ice_servers":[{"url":"stun:stun.example.org","urls":"stun:stun.example.org"}]}"#,
        ),
        seed(
            "shared-secret",
            r#"{"username":"1700000000:ann","password":"c2VjcmV0","ttl":600,"uris":["turn:192.0.2.1"]}"#,
        ),
        seed(
            "lines",
            "stun:stun.example.org\nturn:turn.example.org ann secret\n",
        ),
    ]
}
