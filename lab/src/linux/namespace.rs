//! One machine: a network namespace that exists as long as its file is open.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::linux::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};

use crate::error::LabError;

/// A network namespace without a name. It ends when this file and all threads and sockets in it have.
#[derive(Clone, Debug)]
pub(crate) struct Namespace {
    file: Arc<File>,
}

impl Namespace {
    /// Makes a namespace and moves the calling thread into it. A thread does not come back, so that it
    /// should be one that ends soon.
    pub(crate) fn create() -> Result<Self, LabError> {
        unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|error| LabError::kernel("making a network namespace", error))?;
        let file = File::open("/proc/thread-self/ns/net")
            .map_err(|error| LabError::kernel("opening /proc/thread-self/ns/net", error))?;
        Ok(Self {
            file: Arc::new(file),
        })
    }

    /// Moves the calling thread into the namespace, for good.
    pub(crate) fn enter(&self) -> io::Result<()> {
        Ok(setns(&*self.file, CloneFlags::CLONE_NEWNET)?)
    }

    /// A way in that does not keep the namespace alive.
    pub(crate) fn door(&self) -> Door {
        Door(Arc::downgrade(&self.file))
    }

    /// A path under which other processes of the same user find it.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }

    /// What tells it apart from every other namespace.
    pub(crate) fn identity(&self) -> Option<(u64, u64)> {
        self.file
            .metadata()
            .ok()
            .map(|metadata| (metadata.st_dev(), metadata.st_ino()))
    }

    /// The processes, other than this one, whose main thread is in one of these namespaces.
    pub(crate) fn inhabitants(namespaces: &[(u64, u64)]) -> Vec<u32> {
        let Ok(processes) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        processes
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|pid| *pid != std::process::id())
            .filter(|pid| {
                fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|metadata| {
                    namespaces.contains(&(metadata.st_dev(), metadata.st_ino()))
                })
            })
            .collect()
    }
}

/// A way into a namespace for as long as there is one.
#[derive(Clone, Debug)]
pub(crate) struct Door(Weak<File>);

impl Door {
    /// Moves the calling thread into the namespace, for good.
    pub(crate) fn enter(&self) -> io::Result<()> {
        let file = self.0.upgrade().ok_or(Errno::ESTALE)?;
        Ok(setns(&*file, CloneFlags::CLONE_NEWNET)?)
    }
}

/// Writes a setting of the calling thread's namespace. What this kernel does not know is passed over: it
/// is either newer or lacks the feature that the setting would tame.
pub(crate) fn write_setting(name: &str, value: &str) -> Result<(), LabError> {
    let path = format!("/proc/sys/net/{name}");
    match fs::write(&path, value) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(LabError::kernel(format!("writing {path}"), error))
        }
        _ => Ok(()),
    }
}
