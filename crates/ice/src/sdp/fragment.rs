//! Candidates that trickle: `application/trickle-ice-sdpfrag` (RFC 8840 section 9).

use core::fmt;
use core::str::FromStr;

use super::attribute::Attribute;
use super::error::SdpError;
use super::ice::{IceDescription, line};
use super::section::MediaSection;
use super::text::{self, Text};
use crate::parameters::Parameters;

/// A fragment of a session description: for each stream, by its `mid`, the candidates found so far.
///
/// Every fragment of a generation repeats what those before it said, so that one may be lost or come late
/// (RFC 8840 section 4.4). [`SessionDescription::fragment`](crate::SessionDescription::fragment) makes one, and
/// [`SessionDescription::add_fragment`](crate::SessionDescription::add_fragment) takes one in.
///
/// ```
/// use nilas_ice::SdpFragment;
/// let fragment = SdpFragment::parse(
///     "a=ice-ufrag:8hhY\r\na=ice-pwd:asd88fgpdd777uzjYhagZg\r\nm=audio 9 RTP/AVP 0\r\na=mid:1\r\n\
///      a=candidate:1 1 UDP 2130706431 192.0.2.1 5010 typ host\r\na=end-of-candidates\r\n",
/// )?;
/// let ice = fragment.section("1").unwrap().ice();
/// assert_eq!(ice.candidates.len(), 1);
/// assert!(ice.end_of_candidates);
/// # Ok::<(), nilas_ice::SdpError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct SdpFragment(Text);

impl SdpFragment {
    /// The media type of its text.
    pub const MEDIA_TYPE: &'static str = "application/trickle-ice-sdpfrag";

    /// A fragment without sections, with these parameters for all (RFC 8840 section 9.2).
    pub fn new(parameters: &Parameters) -> Result<Self, SdpError> {
        parameters.check()?;
        let mut session = String::new();
        for attribute in parameters.attributes() {
            let at = session.len();
            text::insert(&mut session, at, &line(attribute)?);
        }
        Text::parse(&session).map(Self)
    }

    /// Reads a fragment, within the bounds of a description. Unknown attributes are ignored, as RFC 8840
    /// section 9.2 demands, and other lines as well.
    pub fn parse(text: &str) -> Result<Self, SdpError> {
        let own = Text::parse(text)?;
        let mut number = text::lines(&own.session).count() as u32 + 1;
        for (part, section) in own.sections.iter().zip(own.sections()) {
            if section.mid().is_none() {
                return Err(SdpError::NoMid(number));
            }
            number += text::lines(part).count() as u32;
        }
        Ok(Self(own))
    }

    /// Adds a section for a stream, with what is told of it; parameters only where they differ from those of the
    /// whole fragment. Its `m=` line has the values that RFC 8840 section 4.4 demands of one who does not know the
    /// stream's own.
    pub fn push(&mut self, mid: &str, ice: &IceDescription) -> Result<(), SdpError> {
        if self.section(mid).is_some() || !is_tag(mid) {
            return Err(SdpError::Unwritable);
        }
        let session = &self.0.defaults.parameters;
        let own = ice.parameters.as_ref().filter(|own| *own != session);
        if let Some(own) = own {
            own.check()?;
        }
        let ice = IceDescription {
            parameters: own.cloned(),
            ..ice.clone()
        };
        self.0
            .sections
            .push(part("m=audio 9 RTP/AVP 0", mid, &ice.lines()?));
        Ok(())
    }

    /// The stream's section.
    pub fn section(&self, mid: &str) -> Option<MediaSection<'_>> {
        self.sections().find(|own| own.mid() == Some(mid))
    }

    /// The sections, in their order.
    pub fn sections(&self) -> impl ExactSizeIterator<Item = MediaSection<'_>> {
        self.0.sections()
    }

    /// Whether no stream of the session gets any more candidates.
    pub const fn ends_session(&self) -> bool {
        self.0.defaults.end_of_candidates
    }

    /// The parameters told for all sections; the credentials are empty where each tells its own.
    pub const fn parameters(&self) -> &Parameters {
        &self.0.defaults.parameters
    }

    /// The streams that are bundled, by their `mid`, as far as the fragment tells (RFC 8840 section 7).
    pub fn bundle(&self) -> impl Iterator<Item = &str> {
        text::value(&self.0.session, BUNDLE)
            .unwrap_or_default()
            .split(' ')
            .filter(|mid| !mid.is_empty())
    }

    /// RFC 8840 section 4.4: credentials stand where the description has them, and the `m=` lines may be the
    /// description's.
    pub(super) fn of(description: &Text) -> Self {
        let mut session = String::new();
        for line in text::lines(&description.session) {
            if text::is_ice(line) || line.starts_with(BUNDLE) {
                let at = session.len();
                text::insert(&mut session, at, line);
            }
        }
        let mut own = Self(Text {
            session,
            sections: Vec::new(),
            defaults: description.defaults.clone(),
        });
        for section in description.sections() {
            let lines: Vec<&str> = section.lines().filter(|line| text::is_ice(line)).collect();
            let first = section.lines().next();
            if let (Some(media), Some(mid), false) = (first, section.mid(), lines.is_empty()) {
                own.0.sections.push(part(media, mid, &lines));
            }
        }
        own.0.change_session(|_| {});
        own
    }
}

const BUNDLE: &str = "a=group:BUNDLE ";

/// RFC 8840 section 4.4: the "mid" attribute MUST immediately precede the list of candidates.
fn part(media: &str, mid: &str, lines: &[impl AsRef<str>]) -> String {
    let is_listed = |line: &str| {
        matches!(
            line.parse(),
            Ok(Attribute::Candidate(_) | Attribute::EndOfCandidates)
        )
    };
    let lines = || lines.iter().map(AsRef::as_ref);
    let mid = format!("a=mid:{mid}");
    let ordered = core::iter::once(media)
        .chain(lines().filter(|line| !is_listed(line)))
        .chain(core::iter::once(mid.as_str()))
        .chain(lines().filter(|line| is_listed(line)));
    ordered.fold(String::new(), |mut part, line| {
        part.push_str(line);
        part.push_str("\r\n");
        part
    })
}

fn is_tag(mid: &str) -> bool {
    !mid.is_empty() && mid.len() <= 256 && mid.bytes().all(|byte| byte.is_ascii_graphic())
}

impl fmt::Display for SdpFragment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(f)
    }
}

impl fmt::Debug for SdpFragment {
    /// Passwords stay out of logs, and so does the rest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SdpFragment")
            .field("sections", &self.0.sections.len())
            .finish_non_exhaustive()
    }
}

impl FromStr for SdpFragment {
    type Err = SdpError;

    fn from_str(text: &str) -> Result<Self, SdpError> {
        Self::parse(text)
    }
}
