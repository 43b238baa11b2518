//! Which questions go out when, and what an answer means (RFC 6762).
//!
//! The names are the peer's, and there may be thousands: so many are asked for at a time, three times each, and what is
//! more is refused at once. A name is asked for once however many want it, and is forgotten with its answer.

use core::net::IpAddr;
use core::time::Duration;

use nilas_ice::{ResolveError, Time};

use super::message::{answers, question};

/// Names asked for at a time.
pub(super) const MAX_QUERIES: usize = 16;
/// Records of a packet that are looked at.
const MAX_RECORDS: usize = 64;
/// RFC 6762: the second question a second after the first, and the next after twice that time.
const INTERVALS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];
/// How long the answer to the last question is waited for.
const LAST: Duration = Duration::from_secs(2);

/// Questions under way.
#[derive(Debug, Default)]
pub(super) struct Queries {
    queries: Vec<Query>,
}

#[derive(Debug)]
struct Query {
    name: String,
    asked: usize,
    /// When the next question is due, or the name is given up.
    due: Time,
}

/// What became of a name.
pub(super) type Answer = (String, Result<IpAddr, ResolveError>);

impl Queries {
    /// Begins to ask for a name, unless it is asked for already; false if there are too many.
    pub(super) fn ask(&mut self, now: Time, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        if self.queries.iter().any(|query| query.name == name) {
            return true;
        }
        if self.queries.len() >= MAX_QUERIES {
            return false;
        }
        self.queries.push(Query {
            name,
            asked: 0,
            due: now,
        });
        true
    }

    /// A question to be sent now.
    pub(super) fn poll(&mut self, now: Time) -> Option<Vec<u8>> {
        let due = self
            .queries
            .iter_mut()
            .find(|query| query.due <= now && query.asked <= INTERVALS.len())?;
        due.due = now + INTERVALS.get(due.asked).copied().unwrap_or(LAST);
        due.asked += 1;
        question(&due.name)
    }

    /// A name that nobody answers for.
    pub(super) fn expired(&mut self, now: Time) -> Option<Answer> {
        let over = |query: &Query| query.due <= now && query.asked > INTERVALS.len();
        let index = self.queries.iter().position(over)?;
        let name = self.queries.swap_remove(index).name;
        Some((name, Err(ResolveError::TimedOut)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queries.is_empty()
    }

    /// When `poll` or `expired` has something.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.queries.iter().map(|query| query.due).min()
    }

    /// A packet has come; what it tells of the names that are asked for.
    ///
    /// The draft has a name with more than one address ignored: it hides one host's one address.
    pub(super) fn handle(&mut self, bytes: &[u8]) -> Vec<Answer> {
        if self.queries.is_empty() {
            return Vec::new();
        }
        let told = answers(bytes, MAX_RECORDS);
        let mut found = Vec::new();
        self.queries.retain(|query| {
            let mut addresses: Vec<_> = told
                .iter()
                .filter(|(name, _)| *name == query.name)
                .map(|(_, address)| *address)
                .collect();
            addresses.sort_unstable();
            addresses.dedup();
            match addresses[..] {
                [] => return true,
                [address] => found.push((query.name.clone(), Ok(address))),
                _ => found.push((query.name.clone(), Err(ResolveError::Other))),
            }
            false
        });
        found
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::{asked, response_of};
    use super::*;

    const NAME: &str = "9b36eaac-bb2e-49bb-bb78-21c41c499900.local";

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_name_is_asked_for_three_times_and_given_up_after_five_seconds() {
        let mut queries = Queries::default();
        assert!(queries.ask(Time::ZERO, NAME));
        let mut sent = Vec::new();
        while let Some(now) = queries.deadline() {
            if let Some(packet) = queries.poll(now) {
                assert_eq!(asked(&packet), [NAME, NAME], "one question for each family");
                sent.push(now.as_nanos() / 1_000_000);
            } else if let Some(answer) = queries.expired(now) {
                assert_eq!(answer, (NAME.to_owned(), Err(ResolveError::TimedOut)));
                assert_eq!(now, Time::from_millis(5_000));
            }
        }
        assert_eq!(sent, [0, 1_000, 3_000]);
    }

    #[test]
    fn an_answer_ends_the_question() {
        let mut queries = Queries::default();
        assert!(queries.ask(Time::ZERO, &NAME.to_ascii_uppercase()));
        let question = queries.poll(Time::ZERO).expect("a question");
        // Questions of others, answers to others and what is taken back are none.
        for packet in [
            question,
            response_of("another.local", &[ip("192.0.2.1")], 120),
            response_of(NAME, &[ip("192.0.2.1")], 0),
            vec![0xff; 40],
        ] {
            assert_eq!(queries.handle(&packet), []);
        }
        let packet = response_of(NAME, &[ip("2001:db8::1")], 120);
        let found = (NAME.to_owned(), Ok(ip("2001:db8::1")));
        assert_eq!(queries.handle(&packet), [found]);
        assert_eq!(queries.handle(&packet), [], "it is not asked for any more");
        assert_eq!(queries.deadline(), None);
    }

    #[test]
    fn a_name_of_several_addresses_hides_none() {
        let mut queries = Queries::default();
        assert!(queries.ask(Time::ZERO, NAME));
        let packet = response_of(NAME, &[ip("192.0.2.1"), ip("192.0.2.2")], 120);
        let answer = (NAME.to_owned(), Err(ResolveError::Other));
        assert_eq!(queries.handle(&packet), [answer]);
    }

    #[test]
    fn thousands_of_names_cost_sixteen_questions_at_a_time() {
        let mut queries = Queries::default();
        let accepted = (0..10_000)
            .filter(|number| queries.ask(Time::ZERO, &format!("{number}.local")))
            .count();
        assert_eq!(accepted, MAX_QUERIES);
        // One that is asked for already costs nothing more.
        assert!(queries.ask(Time::ZERO, "3.local"));
        let mut packets = 0;
        while queries.poll(Time::ZERO).is_some() {
            packets += 1;
        }
        assert_eq!(packets, MAX_QUERIES);
    }
}
