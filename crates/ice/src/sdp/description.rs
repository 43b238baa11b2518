//! An offer or answer: read, and patched rather than written anew.

use core::fmt;
use core::str::FromStr;
use std::collections::BTreeSet;

use super::attribute::Attribute;
use super::error::SdpError;
use super::fragment::SdpFragment;
use super::ice::{Destination, IceDescription, line};
use super::section::MediaSection;
use super::text::{self, MediaLine, Text};
use crate::candidate::{Candidate, CandidateAddress, Transport};
use crate::candidate_line::is_name;

/// A session description, of which only what concerns ICE (RFC 8839) is understood and changed. Everything
/// else stays as it is, byte for byte, and so does all of it if nothing is changed.
///
/// ```
/// use nilas_ice::{IceDescription, Parameters, SessionDescription};
/// let mut offer = SessionDescription::parse(
///     "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=x-own:kept\r\n\
///      m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\n",
/// )?;
/// let mut ice = IceDescription::new(Parameters::new("8hhY", "asd88fgpdd777uzjYhagZg"));
/// ice.candidates.push("candidate:1 1 udp 2130706431 192.0.2.1 8998 typ host".parse().unwrap());
/// ice.choose_destinations();
/// offer.set_ice(0, &ice)?;
/// assert!(offer.to_string().contains("m=application 8998 UDP/DTLS/SCTP"));
/// assert_eq!(offer.section(0).unwrap().ice(), ice);
/// # Ok::<(), nilas_ice::SdpError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct SessionDescription(Text);

impl SessionDescription {
    /// Reads a description: at most 512 KiB with 1024 sections, lines that end in CRLF or LF.
    ///
    /// Candidates and other attributes of ICE that cannot be read are as if they were not there; a ufrag or
    /// password that cannot be is an error.
    pub fn parse(text: &str) -> Result<Self, SdpError> {
        if !text.starts_with("v=0") {
            return Err(SdpError::Version);
        }
        Text::parse(text).map(Self)
    }

    /// Writes what a section says about ICE, in place of what it said (RFC 8839 sections 4.2.1.3, 4.2.1.4 and 4.2.1.5).
    ///
    /// The default destination becomes the `c=` line and the port of the `m=` line; that of RTCP an `rtcp`
    /// attribute (RFC 8839 section 4.2.2). Whether the agent is lite, and
    /// its pacing, are the whole session's (RFC 8839 sections 5.3 and 5.5) and change for all
    /// sections. With `mismatch` no candidate is written.
    pub fn set_ice(&mut self, index: usize, ice: &IceDescription) -> Result<(), SdpError> {
        // What is handed down to other sections may not fit them, and an error changes nothing.
        let mut changed = self.clone();
        changed.change_ice(index, ice)?;
        changed.0.check_credentials()?;
        *self = changed;
        Ok(())
    }

    fn change_ice(&mut self, index: usize, ice: &IceDescription) -> Result<(), SdpError> {
        let section = self.0.section(index).ok_or(SdpError::NoSection)?;
        if section.port() == 0 {
            return Err(SdpError::Rejected);
        }
        if section.ice() == *ice {
            return Ok(());
        }
        if let Some(parameters) = &ice.parameters {
            parameters.check_own()?;
            self.0.check_ufrag(index, parameters)?;
        }
        check_destinations(ice)?;
        let lines = ice.lines()?;
        let added: usize = lines.iter().map(|line| line.len() + 2).sum();
        if self.0.len() + added > text::MAX_TEXT {
            return Err(SdpError::TooLong);
        }
        self.set_for_session(index, ice)?;
        let part = self.0.section_mut(index)?;
        let at = text::remove(part, text::is_ice);
        let mut at = at.unwrap_or_else(|| text::end(part));
        for line in &lines {
            at = text::insert(part, at, line);
        }
        self.set_destinations(index, ice)
    }

    /// Rejects or removes a stream (RFC 8839 sections 4.2.1.6 and 4.4.1.1.2): its port becomes 0, and nothing about ICE stays.
    pub fn reject(&mut self, index: usize) -> Result<(), SdpError> {
        let part = self.0.section_mut(index)?;
        text::remove(part, text::is_ice);
        set_port(part, 0);
        Ok(())
    }

    /// Adds a candidate that was found after the description was made, behind the others. RFC 8840 section 4.2: a later
    /// description has all candidates that have trickled.
    pub fn add_candidate(&mut self, index: usize, candidate: &Candidate) -> Result<(), SdpError> {
        let line = line(Attribute::Candidate(candidate.clone()))?;
        self.add_lines(vec![(index, line)])
    }

    /// Says that a section gets no more candidates (RFC 8840 section 8).
    pub fn end_candidates(&mut self, index: usize) -> Result<(), SdpError> {
        let section = self.0.section(index).ok_or(SdpError::NoSection)?;
        if section.ice().end_of_candidates {
            return Ok(());
        }
        self.add_lines(vec![(index, END_OF_CANDIDATES.into())])
    }

    /// Takes in what trickled to this description of the peer, and tells what is new in it, in its order (RFC 8840
    /// section 4.4): a fragment repeats everything that was sent before.
    ///
    /// A fragment of another generation, or of no section that is here, changes nothing.
    pub fn add_fragment(&mut self, fragment: &SdpFragment) -> Result<Vec<Trickled>, SdpError> {
        let mids = self.0.mids();
        let mut news = Vec::new();
        for told in fragment.sections() {
            let index = told.mid().and_then(|mid| mids.get(mid).copied());
            let index = index.ok_or(SdpError::NoSection)?;
            let known = self.0.section(index).ok_or(SdpError::NoSection)?;
            news.push(trickled(index, &known.ice(), &told.ice())?);
        }
        if fragment.ends_session() {
            let session = fragment.parameters();
            for (index, known) in self.0.sections().enumerate() {
                let ice = known.ice();
                let matches = ice
                    .parameters
                    .as_ref()
                    .is_some_and(|own| (&own.ufrag, &own.pwd) == (&session.ufrag, &session.pwd));
                if matches && !ice.end_of_candidates {
                    match news.iter_mut().find(|told| told.section == index) {
                        Some(told) => told.end_of_candidates = true,
                        None => news.push(Trickled {
                            section: index,
                            candidates: Vec::new(),
                            end_of_candidates: true,
                        }),
                    }
                }
            }
        }
        news.retain(|told| told.end_of_candidates || !told.candidates.is_empty());
        let mut lines = Vec::new();
        for told in &news {
            for candidate in &told.candidates {
                lines.push((told.section, line(Attribute::Candidate(candidate.clone()))?));
            }
            if told.end_of_candidates {
                lines.push((told.section, END_OF_CANDIDATES.into()));
            }
        }
        self.add_lines(lines)?;
        Ok(news)
    }

    /// All that this description says about ICE, as a fragment: what an agent sends when it has found another
    /// candidate and added it here (RFC 8840 section 4.4). Sections without a `mid` are left out.
    pub fn fragment(&self) -> SdpFragment {
        SdpFragment::of(&self.0)
    }

    /// The sections, in their order.
    pub fn sections(&self) -> impl ExactSizeIterator<Item = MediaSection<'_>> {
        self.0.sections()
    }

    /// The section at this place, from 0 (W3C's `sdpMLineIndex`).
    pub fn section(&self, index: usize) -> Option<MediaSection<'_>> {
        self.0.section(index)
    }

    /// The place of the section with this `mid`.
    pub fn index_of(&self, mid: &str) -> Option<usize> {
        self.sections().position(|own| own.mid() == Some(mid))
    }

    /// The section whose transport carries this one: the first of its `BUNDLE` group, or itself.
    ///
    /// So it is in an answer, and in an offer after one; a first offer only proposes it (RFC 8829 section 4.1.1 tells the
    /// policies).
    pub fn carrier(&self, index: usize) -> usize {
        let mid = self.section(index).and_then(|section| section.mid());
        let first = mid.and_then(|mid| {
            text::lines(&self.0.session)
                .filter_map(|line| line.strip_prefix("a=group:BUNDLE "))
                .find(|group| group.split(' ').any(|own| own == mid))
                .and_then(|group| group.split(' ').next())
        });
        first
            .and_then(|first| self.index_of(first))
            .unwrap_or(index)
    }

    /// Whether the default destination of a section is none of its candidates (RFC 8839 section 4.2.5): something on
    /// the way has changed addresses, and ICE cannot be used. A section that another one carries and that has no
    /// candidates is never mismatched (RFC 8840 section 7).
    pub fn is_mismatched(&self, index: usize) -> bool {
        let Some(section) = self.section(index) else {
            return false;
        };
        let carried = || section.ice().candidates.is_empty() && self.carrier(index) != index;
        section.is_mismatched() && !carried()
    }

    /// What the session's lines say for all sections: changed there, and handed down to the other sections
    /// where it holds for this one no more.
    fn set_for_session(&mut self, index: usize, ice: &IceDescription) -> Result<(), SdpError> {
        let before = self.0.defaults.clone();
        let told = &before.parameters;
        if before.end_of_candidates && !ice.end_of_candidates {
            self.hand_down(index, |line| text::is(line, "end-of-candidates"));
        }
        let Some(own) = &ice.parameters else {
            // RFC 8839 section 4.3.2: no attribute of ICE, and none that would be inherited.
            let credentials = |line: &str| text::is(line, "ice-ufrag") || text::is(line, "ice-pwd");
            self.hand_down(index, credentials);
            return Ok(());
        };
        if own.options.is_empty() && !told.options.is_empty() {
            self.hand_down(index, |line| text::is(line, "ice-options"));
        }
        if own.lite == told.lite && own.pacing == told.pacing {
            return Ok(());
        }
        for part in &mut self.0.sections {
            text::remove(part, is_for_session);
        }
        let lite = own.lite.then_some(Attribute::IceLite);
        let pacing = own.pacing.map(Attribute::IcePacing);
        let lines = lite.into_iter().chain(pacing).map(line);
        let lines = lines.collect::<Result<Vec<_>, _>>()?;
        self.0.change_session(|session| {
            let at = text::remove(session, is_for_session);
            let mut at = at.unwrap_or_else(|| text::end(session));
            for line in &lines {
                at = text::insert(session, at, line);
            }
        });
        Ok(())
    }

    /// Moves lines of the session to all sections but this one, where they do not say it themselves.
    fn hand_down(&mut self, except: usize, which: impl Fn(&str) -> bool) {
        let found = text::lines(&self.0.session).filter(|line| which(line));
        let lines: Vec<String> = found.map(Into::into).collect();
        for (index, part) in self.0.sections.iter_mut().enumerate() {
            let live = MediaSection::new(&self.0.defaults, part).port() != 0;
            for line in lines.iter().filter(|_| live && index != except) {
                let name = text::name(line).unwrap_or_default();
                if !text::lines(part).any(|own| text::is(own, name)) {
                    let at = text::end(part);
                    text::insert(part, at, line);
                }
            }
        }
        self.0.change_session(|session| {
            text::remove(session, which);
        });
    }

    /// RFC 8839 section 4.2.1.2: the default candidate is in the `c=` and `m=` lines.
    fn set_destinations(&mut self, index: usize, ice: &IceDescription) -> Result<(), SdpError> {
        let section = self.0.section(index).ok_or(SdpError::NoSection)?;
        let now = section.ice();
        let inherits = !section.lines().any(|line| line.starts_with("c="));
        let part = self.0.section_mut(index)?;
        if now.destination != ice.destination {
            set_port(part, ice.destination.port());
            let connection = format!("c={}", ice.destination);
            if inherits || !text::replace(part, "c=", &connection) {
                // RFC 8866 section 5: behind the title.
                let title = |line: &&str| line.starts_with("m=") || line.starts_with("i=");
                let head = part.split_inclusive('\n').take_while(|line| title(line));
                let at = head.map(str::len).sum();
                text::insert(part, at, &connection);
            }
        }
        // Only now: an rtcp attribute without an address has that of the `c=` line.
        let section = self.0.section(index).ok_or(SdpError::NoSection)?;
        let rtcp_destination = section.ice().rtcp_destination;
        let part = self.0.section_mut(index)?;
        if rtcp_destination != ice.rtcp_destination {
            let at = text::remove(part, |line| line.starts_with("a=rtcp:"));
            if let Some(rtcp) = &ice.rtcp_destination {
                let at = at.unwrap_or_else(|| text::end(part));
                text::insert(part, at, &format!("a=rtcp:{} {rtcp}", rtcp.port()));
            }
        }
        Ok(())
    }

    /// Adds lines behind what their sections, told in groups, say about ICE.
    fn add_lines(&mut self, lines: Vec<(usize, String)>) -> Result<(), SdpError> {
        let added: usize = lines.iter().map(|(_, line)| line.len() + 2).sum();
        if self.0.len() + added > text::MAX_TEXT {
            return Err(SdpError::TooLong);
        }
        for (index, _) in &lines {
            let section = self.0.section(*index).ok_or(SdpError::NoSection)?;
            if section.port() == 0 {
                return Err(SdpError::Rejected);
            }
        }
        for group in lines.chunk_by(|(one, _), (other, _)| one == other) {
            let part = self.0.section_mut(group[0].0)?;
            let at = text::behind(part, text::is_ice);
            let tail = part.split_off(at);
            for (_, line) in group {
                let end = part.len();
                text::insert(part, end, line);
            }
            part.push_str(&tail);
        }
        Ok(())
    }
}

const END_OF_CANDIDATES: &str = "a=end-of-candidates";

fn is_for_session(line: &str) -> bool {
    text::is(line, "ice-lite") || text::is(line, "ice-pacing")
}

fn set_port(part: &mut String, port: u16) {
    let line = text::lines(part)
        .next()
        .and_then(MediaLine::parse)
        .map(|media| media.with_port(port));
    if let Some(line) = line {
        text::replace(part, "m=", &line);
    }
}

/// A port of 0 would reject the section, and a name must be one.
fn check_destinations(ice: &IceDescription) -> Result<(), SdpError> {
    let fits = |destination: &Destination| match destination {
        Destination::Unknown => true,
        Destination::Address(address) => address.port() != 0,
        Destination::Name { name, port } => *port != 0 && is_name(name),
    };
    match fits(&ice.destination) && ice.rtcp_destination.as_ref().is_none_or(fits) {
        true => Ok(()),
        false => Err(SdpError::Unwritable),
    }
}

/// What trickled to a section and was not known before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trickled {
    /// The place of the section in the description.
    pub section: usize,
    /// The candidates, in the order in which they were sent.
    pub candidates: Vec<Candidate>,
    /// No more follow.
    pub end_of_candidates: bool,
}

/// RFC 8840 section 4.4: "Such candidates are considered to be equal if their IP address port, transport,
/// and component ID are the same."
fn trickled(
    section: usize,
    known: &IceDescription,
    told: &IceDescription,
) -> Result<Trickled, SdpError> {
    let credentials = |ice: &IceDescription| {
        let parameters = ice.parameters.as_ref()?;
        Some((parameters.ufrag.clone(), parameters.pwd.clone()))
    };
    if credentials(told).is_none() || credentials(told) != credentials(known) {
        return Err(SdpError::Generation);
    }
    let identity = |candidate: &Candidate| {
        let (host, port) = match &candidate.address {
            CandidateAddress::Ip(address) => (address.ip().to_string(), address.port()),
            CandidateAddress::Name { name, port } => (name.to_string(), *port),
        };
        let transport = match &candidate.transport {
            Transport::Udp => "udp".into(),
            Transport::Tcp(kind) => format!("tcp {kind}"),
            Transport::Other(token) => token.to_string(),
        };
        (candidate.component, transport, host, port)
    };
    let mut seen: BTreeSet<_> = known.candidates.iter().map(identity).collect();
    let candidates = told.candidates.iter();
    Ok(Trickled {
        section,
        candidates: candidates
            .filter(|candidate| seen.insert(identity(candidate)))
            .cloned()
            .collect(),
        end_of_candidates: told.end_of_candidates && !known.end_of_candidates,
    })
}

impl fmt::Display for SessionDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(f)
    }
}

impl fmt::Debug for SessionDescription {
    /// Passwords stay out of logs, and so does the rest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionDescription")
            .field("sections", &self.0.sections.len())
            .finish_non_exhaustive()
    }
}

impl FromStr for SessionDescription {
    type Err = SdpError;

    fn from_str(text: &str) -> Result<Self, SdpError> {
        Self::parse(text)
    }
}
