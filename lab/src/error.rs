//! What can go wrong, in words that say what to do.

use std::fmt;
use std::io;

use crate::node::Node;
use crate::spec::SpecError;
use crate::wire::WireError;

/// What a machine lacks that the laboratory needs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Missing {
    /// Programs that were not found, each with the Debian package that has it.
    pub programs: Vec<(&'static str, &'static str)>,
    /// The process may not make network namespaces.
    pub privilege: bool,
    /// The kernel has no IPv6.
    pub ipv6: bool,
    /// The file `/dev/net/tun` cannot be opened, and the kind `nat64` needs it.
    pub tun: bool,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sentences = Vec::new();
        if !self.programs.is_empty() {
            let names: Vec<_> = self.programs.iter().map(|(program, _)| *program).collect();
            let mut packages: Vec<_> = self.programs.iter().map(|(_, package)| *package).collect();
            packages.dedup();
            sentences.push(format!(
                "The laboratory needs {}; install with: apt-get install -y {}",
                names.join(" and "),
                packages.join(" ")
            ));
        }
        if self.privilege {
            sentences.push(
                "Making network namespaces is not permitted here; run as root, or where user namespaces are allowed \
                 type first: unshare --user --map-root-user --net --mount"
                    .to_owned(),
            );
        }
        if self.ipv6 {
            sentences.push("This kernel has no IPv6; boot it without ipv6.disable=1".to_owned());
        }
        if self.tun {
            sentences.push("The kind nat64 needs /dev/net/tun, which cannot be opened; it takes the real root and the module tun (modprobe tun)".to_owned());
        }
        f.write_str(&sentences.join(". "))
    }
}

impl std::error::Error for Missing {}

/// Why a laboratory could not be built or used.
#[derive(Debug)]
#[non_exhaustive]
pub enum LabError {
    /// Network namespaces exist on Linux only.
    NotLinux,
    /// The machine lacks something.
    Missing(Missing),
    /// The two sides do not fit together.
    Spec(SpecError),
    /// The wire's settings make no sense.
    Wire(WireError),
    /// The kernel refused something.
    Kernel {
        /// What was being done.
        doing: String,
        /// Its answer.
        source: io::Error,
    },
    /// A program that sets something up failed.
    Program {
        /// Its name.
        program: String,
        /// On which machine.
        node: Node,
        /// What it said.
        said: String,
    },
    /// This topology has no such machine.
    NoSuchNode(Node),
    /// An event that cannot happen in this topology, and why.
    Event(String),
}

impl fmt::Display for LabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLinux => {
                f.write_str("the laboratory needs Linux: its NATs are the Linux kernel's own")
            }
            Self::Missing(missing) => missing.fmt(f),
            Self::Spec(error) => error.fmt(f),
            Self::Wire(error) => error.fmt(f),
            Self::Kernel { doing, source } => {
                write!(f, "{doing}: {source}")?;
                match source.kind() {
                    io::ErrorKind::PermissionDenied => {
                        f.write_str("; run as root, or in a user namespace")
                    }
                    io::ErrorKind::ReadOnlyFilesystem => {
                        f.write_str("; in a container, /proc/sys is writable with --privileged")
                    }
                    _ => Ok(()),
                }
            }
            Self::Program {
                program,
                node,
                said,
            } => write!(f, "{program} failed on {node}: {}", said.trim()),
            Self::NoSuchNode(node) => write!(f, "this topology has no machine {node}"),
            Self::Event(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for LabError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Missing(error) => Some(error),
            Self::Spec(error) => Some(error),
            Self::Wire(error) => Some(error),
            Self::Kernel { source, .. } => Some(source),
            Self::NotLinux | Self::Program { .. } | Self::NoSuchNode(_) | Self::Event(_) => None,
        }
    }
}

impl From<Missing> for LabError {
    fn from(error: Missing) -> Self {
        Self::Missing(error)
    }
}

impl From<SpecError> for LabError {
    fn from(error: SpecError) -> Self {
        Self::Spec(error)
    }
}

impl From<WireError> for LabError {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

impl LabError {
    /// A refusal of the kernel's.
    pub(crate) fn kernel(doing: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Kernel {
            doing: doing.into(),
            source: source.into(),
        }
    }
}
