//! A description as text, cut at its `m=` lines, and how a line of it is exchanged.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use super::attribute::{Attribute, AttributeError};
use super::error::SdpError;
use super::section::MediaSection;
use crate::parameters::Parameters;

/// The longest text read, in bytes: several times what a conference of hundreds writes.
pub(super) const MAX_TEXT: usize = 1 << 19;
/// The most `m=` sections.
pub(super) const MAX_SECTIONS: usize = 1024;

/// The lines before the first `m=`, and then each `m=` with what follows. Together they are the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) session: String,
    pub(super) sections: Vec<String>,
    /// What the session's lines say for all sections.
    pub(super) defaults: Defaults,
}

/// What holds for every section that does not say otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Defaults {
    /// Empty where nothing was said.
    pub(super) parameters: Parameters,
    pub(super) end_of_candidates: bool,
    /// The value of the session's `c=` line.
    pub(super) connection: Option<String>,
}

impl Defaults {
    fn of(session: &str) -> Self {
        let mut parameters = Parameters::new("", "");
        let mut end_of_candidates = false;
        for attribute in attributes(session) {
            parameters.apply(&attribute);
            end_of_candidates |= attribute == Attribute::EndOfCandidates;
        }
        Self {
            parameters,
            end_of_candidates,
            connection: value(session, "c=").map(Into::into),
        }
    }
}

impl Text {
    /// Cuts the text at its `m=` lines and refuses what would be misunderstood.
    pub(super) fn parse(text: &str) -> Result<Self, SdpError> {
        if text.len() > MAX_TEXT {
            return Err(SdpError::TooLong);
        }
        let (mut session, mut sections) = (String::new(), Vec::<String>::new());
        let mut mids = BTreeSet::new();
        for (number, line) in (1..).zip(text.split_inclusive('\n')) {
            let content = content(line);
            check_line(number, content)?;
            if content.starts_with("m=") {
                MediaLine::parse(content).ok_or(SdpError::Media(number))?;
                if sections.len() == MAX_SECTIONS {
                    return Err(SdpError::TooManySections);
                }
                sections.push(String::new());
            } else if let Some(mid) = content.strip_prefix("a=mid:")
                && !sections.is_empty()
                && !mids.insert(mid)
            {
                return Err(SdpError::SameMid(number));
            }
            sections.last_mut().unwrap_or(&mut session).push_str(line);
        }
        let own = Self {
            defaults: Defaults::of(&session),
            session,
            sections,
        };
        own.check_credentials()?;
        Ok(own)
    }

    /// RFC 8839 section 5.4: "If two data streams have identical "ice-ufrag"s, they MUST have identical
    /// "ice-pwd"s."
    pub(super) fn check_credentials(&self) -> Result<(), SdpError> {
        let mut known = BTreeMap::new();
        for section in self.sections() {
            let parameters = section.parameters();
            // A stream that is rejected has no credentials, whatever it would inherit.
            let has_none = parameters.ufrag.is_empty() || parameters.pwd.is_empty();
            if has_none || section.port() == 0 {
                continue;
            }
            let earlier = known.insert(parameters.ufrag, parameters.pwd.clone());
            if earlier.is_some_and(|earlier| earlier != parameters.pwd) {
                return Err(SdpError::SameUfrag);
            }
        }
        Ok(())
    }

    /// The same, before a section other than these gets new parameters.
    pub(super) fn check_ufrag(&self, index: usize, own: &Parameters) -> Result<(), SdpError> {
        for (other, section) in self.sections().enumerate() {
            let told = section.parameters();
            let differs = told.ufrag == own.ufrag && told.pwd != own.pwd && !told.pwd.is_empty();
            if other != index && differs && section.port() != 0 {
                return Err(SdpError::SameUfrag);
            }
        }
        Ok(())
    }

    /// Its length in bytes.
    pub(super) fn len(&self) -> usize {
        self.session.len() + self.sections.iter().map(String::len).sum::<usize>()
    }

    pub(super) fn sections(&self) -> impl ExactSizeIterator<Item = MediaSection<'_>> {
        self.sections
            .iter()
            .map(|text| MediaSection::new(&self.defaults, text))
    }

    pub(super) fn section(&self, index: usize) -> Option<MediaSection<'_>> {
        let text = self.sections.get(index)?;
        Some(MediaSection::new(&self.defaults, text))
    }

    pub(super) fn section_mut(&mut self, index: usize) -> Result<&mut String, SdpError> {
        self.sections.get_mut(index).ok_or(SdpError::NoSection)
    }

    /// Where each `mid` is.
    pub(super) fn mids(&self) -> BTreeMap<&str, usize> {
        let mids = self.sections().map(|section| section.mid());
        mids.enumerate()
            .filter_map(|(index, mid)| Some((mid?, index)))
            .collect()
    }

    /// Changes the session's lines.
    pub(super) fn change_session(&mut self, change: impl FnOnce(&mut String)) {
        change(&mut self.session);
        self.defaults = Defaults::of(&self.session);
    }

    pub(super) fn write(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.session)?;
        self.sections
            .iter()
            .try_for_each(|section| f.write_str(section))
    }
}

/// Empty lines pass: they are kept, and mean nothing. A ufrag or password that cannot be read is an error,
/// everything else of ICE that cannot be is as if it were not there.
fn check_line(number: u32, content: &str) -> Result<(), SdpError> {
    let bytes = content.as_bytes();
    let is_line = matches!(bytes, [kind, b'=', ..] if kind.is_ascii_alphabetic());
    if !(is_line || bytes.is_empty()) || bytes.contains(&b'\r') || bytes.contains(&0) {
        return Err(SdpError::Line(number));
    }
    if !content.starts_with("a=") {
        return Ok(());
    }
    match content.parse::<Attribute>() {
        Err(error @ AttributeError::Value("ice-ufrag" | "ice-pwd")) => {
            Err(SdpError::Credentials(number, error))
        }
        _ => Ok(()),
    }
}

/// `m=<media> <port>[/<number>] <proto> <fmt> …` (RFC 8866 section 5.14).
#[derive(Clone, Copy, Debug)]
pub(super) struct MediaLine<'a> {
    pub(super) media: &'a str,
    pub(super) port: u16,
    /// How many ports, with its slash.
    count: &'a str,
    pub(super) protocol: &'a str,
    formats: &'a str,
}

impl<'a> MediaLine<'a> {
    pub(super) fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.strip_prefix("m=")?.splitn(4, ' ');
        let (media, ports) = (fields.next()?, fields.next()?);
        let (protocol, formats) = (fields.next()?, fields.next()?);
        let (port, count) = ports.split_at(ports.find('/').unwrap_or(ports.len()));
        let digits =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let counted = count.is_empty() || digits(&count[1..]);
        if media.is_empty()
            || protocol.is_empty()
            || formats.is_empty()
            || !digits(port)
            || !counted
        {
            return None;
        }
        Some(Self {
            media,
            port: port.parse().ok()?,
            count,
            protocol,
            formats,
        })
    }

    pub(super) fn with_port(&self, port: u16) -> String {
        let Self {
            media,
            count,
            protocol,
            formats,
            ..
        } = self;
        format!("m={media} {port}{count} {protocol} {formats}")
    }
}

/// A line without its end.
fn content(line: &str) -> &str {
    match line.strip_suffix('\n') {
        Some(line) => line.strip_suffix('\r').unwrap_or(line),
        None => line,
    }
}

pub(super) fn lines(part: &str) -> impl Iterator<Item = &str> {
    part.split_inclusive('\n').map(content)
}

/// The attributes of ICE that can be read.
pub(super) fn attributes(part: &str) -> impl Iterator<Item = Attribute> {
    lines(part)
        .filter(|line| line.starts_with("a="))
        .filter_map(|line| line.parse().ok())
}

/// What follows the prefix in the first line that has it.
pub(super) fn value<'a>(part: &'a str, prefix: &str) -> Option<&'a str> {
    lines(part).find_map(|line| line.strip_prefix(prefix))
}

/// Whether the line is an attribute of ICE, readable or not.
pub(super) fn is_ice(line: &str) -> bool {
    line.starts_with("a=") && line.parse::<Attribute>() != Err(AttributeError::NotIce)
}

/// Whether the line is this attribute of ICE, readable or not.
pub(super) fn is(line: &str, attribute: &str) -> bool {
    name(line).is_some_and(|name| name.eq_ignore_ascii_case(attribute))
}

/// The name of an attribute.
pub(super) fn name(line: &str) -> Option<&str> {
    let attribute = line.strip_prefix("a=")?;
    attribute.split(':').next()
}

/// Removes lines, and says where the first of them was.
pub(super) fn remove(part: &mut String, mut which: impl FnMut(&str) -> bool) -> Option<usize> {
    let (mut kept, mut first) = (String::with_capacity(part.len()), None);
    for line in part.split_inclusive('\n') {
        match which(content(line)) {
            true => first = first.or(Some(kept.len())),
            false => kept.push_str(line),
        }
    }
    if first.is_some() {
        *part = kept;
    }
    first
}

/// Puts a line there, which is the beginning of another or the end, and says where the next one begins.
pub(super) fn insert(part: &mut String, at: usize, line: &str) -> usize {
    let end = match part.contains('\n') && !part.contains("\r\n") {
        true => "\n",
        false => "\r\n",
    };
    let open = at > 0 && !part[..at].ends_with('\n');
    let lead = if open { end } else { "" };
    part.insert_str(at, &format!("{lead}{line}{end}"));
    at + lead.len() + line.len() + end.len()
}

/// The end of the last line that is not empty.
pub(super) fn end(part: &str) -> usize {
    let last = part.trim_end_matches(['\r', '\n']).len();
    part[last..]
        .find('\n')
        .map_or(part.len(), |end| last + end + 1)
}

/// The end of the last line that is one of these, or of the last that is not empty.
pub(super) fn behind(part: &str, which: impl Fn(&str) -> bool) -> usize {
    let (mut at, mut last) = (0, None);
    for line in part.split_inclusive('\n') {
        at += line.len();
        if which(content(line)) {
            last = Some(at);
        }
    }
    last.unwrap_or_else(|| end(part))
}

/// Exchanges the first line with this prefix; false if there is none.
pub(super) fn replace(part: &mut String, prefix: &str, line: &str) -> bool {
    let mut at = 0;
    for old in part.split_inclusive('\n') {
        let content = content(old);
        if content.starts_with(prefix) {
            let range = at..at + content.len();
            part.replace_range(range, line);
            return true;
        }
        at += old.len();
    }
    false
}
