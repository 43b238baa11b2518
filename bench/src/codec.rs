//! One connectivity check: a request of 96 bytes with USERNAME, PRIORITY, ICE-CONTROLLING,
//! MESSAGE-INTEGRITY and FINGERPRINT, and a response of 64 bytes; built, and parsed and verified.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::process::{Command, ExitCode};

use is::stun::{StunMessage, TransId};
use is::{DefaultSha1HmacProvider, Sha1HmacProvider};
use nilas_stun::{Class, Fingerprint, Key, Message, MessageBuilder, Method, TransactionId};

use crate::allocator::allocations;
use crate::clock::{median, nanoseconds_each};
use crate::floor;
use crate::report::{Bar, Figure, Report};

const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";
const ID: [u8; 12] = *b"0123456789ab";
const PRIORITY: u32 = 0x6E00_01FF;
const TIE_BREAKER: u64 = 0x932F_F9B1_5126_3B36;
const MAPPED: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 32853);

/// What a contender does, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    BuildRequest,
    VerifyRequest,
    BuildResponse,
    VerifyResponse,
}

const STEPS: [(Step, &str); 4] = [
    (Step::BuildRequest, "build request, 96 bytes"),
    (Step::VerifyRequest, "parse + verify request"),
    (Step::BuildResponse, "build response, 64 bytes"),
    (Step::VerifyResponse, "parse + verify response"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contender {
    Floor,
    Nilas,
    Is,
}

const CONTENDERS: [Contender; 3] = [Contender::Floor, Contender::Nilas, Contender::Is];

/// Everything a step needs, so that it measures only itself.
struct Bench {
    floor_key: floor::PreparedKey,
    nilas_key: Key,
    trans_id: TransId,
    request: [u8; 96],
    response: [u8; 64],
}

impl Bench {
    fn new() -> Self {
        let floor_key = floor::prepare(PASSWORD);
        let (mut request, mut response) = ([0; 96], [0; 64]);
        floor::build_request(&mut request, &floor_key, &ID, PRIORITY, TIE_BREAKER);
        floor::build_response(&mut response, &floor_key, &ID, MAPPED);
        let trans_id = StunMessage::parse(&request).expect("a request").trans_id();
        let bench = Self {
            floor_key,
            nilas_key: Key::short_term(PASSWORD).expect("a password of ice-chars"),
            trans_id,
            request,
            response,
        };
        bench.check();
        bench
    }

    /// All contenders write the same bytes, or nothing could be compared.
    fn check(&self) {
        let mut buffer = [0; 256];
        let length = nilas_request(&mut buffer, &self.nilas_key);
        assert_eq!(buffer[..length], self.request);
        let length = nilas_response(&mut buffer, &self.nilas_key);
        assert_eq!(buffer[..length], self.response);
        // This one puts its attributes into another order, of the same length.
        assert_eq!(is_request(&mut buffer, self.trans_id), 96);
        assert_eq!(is_response(&mut buffer, self.trans_id), 64);
    }

    fn run(&self, contender: Contender, step: Step) {
        let (request, response) = (black_box(&self.request), black_box(&self.response));
        let mut buffer = [0; 128];
        let good = match (contender, step) {
            (Contender::Floor, Step::BuildRequest) => {
                let mut bytes = [0; 96];
                floor::build_request(
                    &mut bytes,
                    black_box(&self.floor_key),
                    black_box(&ID),
                    PRIORITY,
                    TIE_BREAKER,
                );
                black_box(bytes)[0] == 0
            }
            (Contender::Floor, Step::VerifyRequest) => {
                floor::verify_request(request, &self.floor_key)
            }
            (Contender::Floor, Step::BuildResponse) => {
                let mut bytes = [0; 64];
                floor::build_response(
                    &mut bytes,
                    black_box(&self.floor_key),
                    black_box(&ID),
                    MAPPED,
                );
                black_box(bytes)[0] == 1
            }
            (Contender::Floor, Step::VerifyResponse) => {
                floor::verify_response(response, &self.floor_key)
            }
            (Contender::Nilas, Step::BuildRequest) => {
                nilas_request(black_box(&mut buffer), black_box(&self.nilas_key)) == 96
            }
            (Contender::Nilas, Step::VerifyRequest) => {
                nilas_verify_request(request, &self.nilas_key)
            }
            (Contender::Nilas, Step::BuildResponse) => {
                nilas_response(black_box(&mut buffer), black_box(&self.nilas_key)) == 64
            }
            (Contender::Nilas, Step::VerifyResponse) => {
                nilas_verify_response(response, &self.nilas_key)
            }
            (Contender::Is, Step::BuildRequest) => {
                is_request(black_box(&mut buffer), black_box(self.trans_id)) == 96
            }
            (Contender::Is, Step::VerifyRequest) => is_verify(request),
            (Contender::Is, Step::BuildResponse) => {
                is_response(black_box(&mut buffer), black_box(self.trans_id)) == 64
            }
            (Contender::Is, Step::VerifyResponse) => is_verify(response),
        };
        assert!(good, "{contender:?} {step:?}");
    }
}

fn nilas_request(buffer: &mut [u8], key: &Key) -> usize {
    let mut build = || -> Result<usize, nilas_stun::BuildError> {
        let id = TransactionId::new(black_box(ID));
        let mut builder = MessageBuilder::new(buffer, Class::Request, Method::BINDING, id)?;
        builder
            .username_pair(black_box("remoteuf"), black_box("localufr"))?
            .priority(PRIORITY)?
            .ice_controlling(TIE_BREAKER)?
            .message_integrity(key)?
            .fingerprint()?;
        Ok(builder.finish())
    };
    build().expect("it fits")
}

fn nilas_verify_request(bytes: &[u8], key: &Key) -> bool {
    let verify = || -> Option<bool> {
        let message = Message::parse(bytes).ok()?;
        let request = message.authenticate(key).ok()?;
        Some(
            message.fingerprint() == Fingerprint::Valid
                && request.class() == Class::Request
                && request.username().ok()?? == "remoteuf:localufr"
                && request.priority().ok()?? == PRIORITY
                && request.ice_controlling().ok()?? == TIE_BREAKER
                && !request.use_candidate(),
        )
    };
    verify() == Some(true)
}

fn nilas_response(buffer: &mut [u8], key: &Key) -> usize {
    let mut build = || -> Result<usize, nilas_stun::BuildError> {
        let id = TransactionId::new(black_box(ID));
        let mut builder = MessageBuilder::new(buffer, Class::SuccessResponse, Method::BINDING, id)?;
        builder
            .xor_mapped_address(black_box(SocketAddr::V4(MAPPED)))?
            .message_integrity(key)?
            .fingerprint()?;
        Ok(builder.finish())
    };
    build().expect("it fits")
}

fn nilas_verify_response(bytes: &[u8], key: &Key) -> bool {
    let verify = || -> Option<bool> {
        let message = Message::parse(bytes).ok()?;
        let response = message.authenticate(key).ok()?;
        Some(
            message.fingerprint() == Fingerprint::Valid
                && response.class() == Class::SuccessResponse
                && response.transaction_id().as_bytes() == &ID
                && response.xor_mapped_address().ok()?? == SocketAddr::V4(MAPPED),
        )
    };
    verify() == Some(true)
}

fn hmac(key: &[u8], payloads: &[&[u8]]) -> [u8; 20] {
    DefaultSha1HmacProvider.sha1_hmac(key, payloads)
}

fn is_request(buffer: &mut [u8], id: TransId) -> usize {
    StunMessage::binding_request(
        black_box("remoteuf:localufr"),
        id,
        true,
        TIE_BREAKER,
        PRIORITY,
        false,
    )
    .to_bytes(Some(PASSWORD.as_bytes()), buffer, hmac)
    .expect("it fits")
}

fn is_response(buffer: &mut [u8], id: TransId) -> usize {
    StunMessage::binding_reply(id, black_box(SocketAddr::V4(MAPPED)))
        .to_bytes(Some(PASSWORD.as_bytes()), buffer, hmac)
        .expect("it fits")
}

fn is_verify(bytes: &[u8]) -> bool {
    StunMessage::parse(bytes).is_ok_and(|message| message.verify(PASSWORD.as_bytes(), hmac))
}

pub(crate) fn measure(report: &mut Report) {
    const ROUNDS: usize = 15;
    const TIMES: u32 = 20_000;
    let bench = Bench::new();
    for (step, name) in STEPS {
        let mut rounds: Vec<[f64; 3]> = Vec::new();
        // The first round warms up and is dropped.
        for _ in 0..=ROUNDS {
            rounds.push(
                CONTENDERS.map(|contender| nanoseconds_each(TIMES, || bench.run(contender, step))),
            );
        }
        rounds.remove(0);
        let of = |contender: usize| median(rounds.iter().map(|round| round[contender]).collect());
        let ratio = median(rounds.iter().map(|round| round[1] / round[0]).collect());
        let mut figure = Figure::new(name, "ns", of(1))
            .beside("floor", of(0))
            .beside("is", of(2))
            .ratio(ratio);
        // The bar is set for the check: the request.
        if matches!(step, Step::BuildRequest | Step::VerifyRequest) {
            figure = figure.bar(Bar::AtMost(1.6));
        }
        report.add(figure);
    }
    for (step, name) in STEPS {
        let before = allocations();
        bench.run(Contender::Nilas, step);
        let count = (allocations() - before) as f64;
        let name = format!("{name}: allocations");
        report.add(Figure::new(name, "", count).bar(Bar::AtMost(0.0)));
    }
    count_instructions(report);
}

/// Instructions, by running this program again under callgrind.
fn count_instructions(report: &mut Report) {
    if Command::new("valgrind").arg("--version").output().is_err() {
        report.note(
            "Instructions were not counted: valgrind is not installed (apt-get install valgrind).",
        );
        return;
    }
    for (step, name) in &STEPS[..2] {
        let counted = CONTENDERS.map(|contender| instructions(contender, *step));
        let [Some(floor), Some(nilas), Some(is)] = counted else {
            report.note("Instructions were not counted: valgrind could not run this program.");
            return;
        };
        let name = format!("{name}: instructions");
        let figure = Figure::new(name, "", nilas)
            .beside("floor", floor)
            .beside("is", is);
        report.add(figure.ratio(nilas / floor).bar(Bar::AtMost(1.6)));
    }
    report.note(
        "Instructions are counted by callgrind. Where valgrind lacks the processor's SHA extensions, SHA-1 is \
         counted in software for all contenders alike, which pulls the ratio towards one; the times do not suffer \
         from that.",
    );
}

/// The instructions of one step: the difference between two runs of different length.
fn instructions(contender: Contender, step: Step) -> Option<f64> {
    let run = |rounds: u32| -> Option<f64> {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(std::env::current_exe().ok()?)
            .args([
                "--count",
                &format!("{contender:?}-{step:?}"),
                &rounds.to_string(),
            ])
            .output()
            .ok()?;
        let text = String::from_utf8(output.stderr).ok()?;
        let line = text.lines().find(|line| line.contains("Collected :"))?;
        line.rsplit(':').next()?.trim().parse().ok()
    };
    let (short, long) = (run(1_000)?, run(3_000)?);
    Some((long - short) / 2_000.0)
}

/// The other end of [`instructions`].
pub(crate) fn run_counted(arguments: &[String]) -> ExitCode {
    let [name, rounds] = arguments else {
        return ExitCode::from(2);
    };
    let Ok(rounds) = rounds.parse::<u32>() else {
        return ExitCode::from(2);
    };
    let bench = Bench::new();
    for contender in CONTENDERS {
        for (step, _) in STEPS {
            if *name == format!("{contender:?}-{step:?}") {
                (0..rounds).for_each(|_| bench.run(contender, step));
                return ExitCode::SUCCESS;
            }
        }
    }
    ExitCode::from(2)
}
