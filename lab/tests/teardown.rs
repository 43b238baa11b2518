//! Nothing of a laboratory is left: after it is dropped, after a panic, after SIGKILL.
#![cfg(target_os = "linux")]

mod probe;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::linux::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nilas_lab::{Lab, Node};
use probe::{lab, wired_lab};

/// Which file a namespace is.
type Identity = (u64, u64);

fn identity(path: impl AsRef<Path>) -> Option<Identity> {
    fs::metadata(path)
        .ok()
        .map(|metadata| (metadata.st_dev(), metadata.st_ino()))
}

fn identities(lab: &Lab) -> Vec<Identity> {
    lab.nodes()
        .into_iter()
        .map(|node| identity(lab.namespace_path(node).unwrap()).unwrap())
        .collect()
}

/// Where any of these namespaces is still in use: by a thread, an open file or a mount of any process.
fn users(namespaces: &[Identity]) -> Vec<String> {
    let listed = |directory: &str| {
        fs::read_dir(directory)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
    };
    let mut users = Vec::new();
    for process in listed("/proc").filter(|path| path.join("ns/net").exists()) {
        let process = process.display();
        let threads = listed(&format!("{process}/task")).map(|thread| thread.join("ns/net"));
        let files = listed(&format!("{process}/fd"));
        for path in threads.chain(files) {
            if identity(&path).is_some_and(|identity| namespaces.contains(&identity)) {
                users.push(path.display().to_string());
            }
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounted = mounts.lines().filter(|line| {
        namespaces
            .iter()
            .any(|(_, inode)| line.contains(&format!("net:[{inode}]")))
    });
    users.extend(mounted.map(String::from));
    users
}

/// Tries until it holds; the kernel takes namespaces away in its own time.
fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    for _ in 0..1_200 {
        if let Some(result) = check() {
            return result;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{what}");
}

fn assert_gone(namespaces: &[Identity]) {
    assert!(!namespaces.is_empty());
    eventually("a namespace is still in use", || {
        users(namespaces).is_empty().then_some(())
    });
    let ours = fs::read_to_string("/proc/net/dev").unwrap();
    for interface in ["wa", "wb", "wc", "s0", "lanbr", "uwa", "lwa", "nat64"] {
        assert!(
            !ours
                .lines()
                .any(|line| line.trim_start().starts_with(&format!("{interface}:"))),
            "{ours}"
        );
    }
}

fn process_runs(pid: u32) -> bool {
    // A process that has ended but not been waited for has no namespaces any more.
    Path::new(&format!("/proc/{pid}/ns/net")).exists()
}

#[test]
fn dropping_takes_everything_down_with_what_runs_on_it() {
    let lab = wired_lab("multi,v6fw", "delay=1");
    let namespaces = identities(&lab);
    // A program, and one that the program leaves behind.
    let mut shell = lab.command(Node::B, "sh").unwrap();
    let mut shell = shell
        .args(["-c", "sleep 1000 & echo $!; wait"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(shell.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let orphan: u32 = line.trim().parse().unwrap();
    let thread = lab.spawn_in(Node::A, || 42).unwrap();
    assert_eq!(thread.join().unwrap(), 42);
    assert!(users(&namespaces).len() >= namespaces.len());
    drop(lab);
    assert!(!shell.wait().unwrap().success());
    eventually("a process is left", || {
        (!process_runs(orphan)).then_some(())
    });
    assert_gone(&namespaces);
}

#[test]
fn the_translator_ends_too_and_not_before() {
    // It outlives the thread that built it, and no further.
    let lab = std::thread::spawn(|| lab("nat64,plain")).join().unwrap();
    let home = [identity(lab.namespace_path(Node::HomeA).unwrap()).unwrap()];
    let translators = || {
        let mut users = users(&home);
        users.retain(|user| {
            user.ends_with("/ns/net")
                && !user.starts_with(&format!("/proc/{}/", std::process::id()))
        });
        users
    };
    assert_eq!(translators().len(), 1, "{:?}", translators());
    let namespaces = identities(&lab);
    drop(lab);
    assert_gone(&namespaces);
}

#[test]
fn the_kernel_really_takes_the_machines_away() {
    let lab = wired_lab("cgn:plain:plain,dual", "");
    // With the core's namespace held open, its interfaces show what becomes of the machines they lead to.
    let core = File::open(lab.namespace_path(Node::Core).unwrap()).unwrap();
    let interfaces = || {
        let mut list = Command::new("ip");
        list.args(["-oneline", "link"]);
        let core = core.try_clone().unwrap();
        let list = std::thread::spawn(move || {
            nix::sched::setns(&core, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            list.output().unwrap()
        });
        String::from_utf8(list.join().unwrap().stdout).unwrap()
    };
    assert_eq!(
        interfaces().lines().count(),
        4,
        "lo, s0, wa, wb: {}",
        interfaces()
    );
    drop(lab);
    eventually("an interface is left", || {
        (interfaces().lines().count() == 1).then_some(())
    });
}

#[test]
fn a_panic_takes_it_down_too() {
    let mut namespaces = Vec::new();
    let result = catch_unwind(AssertUnwindSafe(|| {
        let lab = lab("plain,sym");
        namespaces = identities(&lab);
        lab.run_in(Node::A, || panic!("as a failing test does"))
            .unwrap();
    }));
    let panic = result.unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"as a failing test does"));
    assert_gone(&namespaces);
}

#[test]
fn sigkill_takes_it_down_too() {
    const CHILD: &str = "NILAS_LAB_TEST_CHILD";
    if std::env::var_os(CHILD).is_some() {
        be_killed();
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sigkill_takes_it_down_too", "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut namespaces = Vec::new();
    let mut processes = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        match *line.split(' ').collect::<Vec<_>>().as_slice() {
            ["namespace", device, inode] => {
                namespaces.push((device.parse().unwrap(), inode.parse().unwrap()))
            }
            ["process", pid] => processes.push(pid.parse().unwrap()),
            ["ready"] => break,
            _ => {}
        }
    }
    assert_eq!(processes.len(), 2);
    assert!(!users(&namespaces).is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    for process in processes {
        eventually("a process is left", || {
            (!process_runs(process)).then_some(())
        });
    }
    assert_gone(&namespaces);
}

/// The child's part: a laboratory with all there can be on it, and then nothing until the end.
#[allow(
    clippy::zombie_processes,
    reason = "nobody is left to wait: that is the point"
)]
fn be_killed() -> ! {
    let lab = wired_lab("multi,cgn:plain:sym", "delay=5");
    let mut out = std::io::stdout();
    for (device, inode) in identities(&lab) {
        writeln!(out, "namespace {device} {inode}").unwrap();
    }
    let sleep = lab
        .command(Node::A, "sleep")
        .unwrap()
        .arg("1000")
        .spawn()
        .unwrap();
    // Its own process group, so that a signal to the parent's cannot be what ends it.
    let apart = lab
        .command(Node::Server, "sleep")
        .unwrap()
        .arg("1000")
        .process_group(0)
        .spawn()
        .unwrap();
    writeln!(out, "process {}\nprocess {}\nready", sleep.id(), apart.id()).unwrap();
    out.flush().unwrap();
    std::thread::sleep(Duration::from_secs(600));
    panic!("nobody has killed this process");
}
