//! One run of `nilas turn bench` on the first core.

use std::process::{Command, Stdio};

use serde_json::Value;

use super::Failure;
use super::servers::{PASSWORD, Server, USER};
use crate::program::program;

/// What a run came to.
pub(crate) struct Load {
    pub(crate) packets_per_second: f64,
    pub(crate) allocations_per_second: f64,
}

impl Load {
    pub(crate) fn run(server: &Server, arguments: &[&str]) -> Result<Self, Failure> {
        let url = format!("turn:{}?transport=udp", server.address());
        let output = Command::new("taskset")
            .args(["-c", "0"])
            .arg(program()?)
            .args([
                "turn",
                "bench",
                &url,
                "--user",
                USER,
                "--password",
                PASSWORD,
            ])
            .args(["--peer", "local", "--json"])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("taskset (util-linux): {error}"))?;
        if !output.status.success() {
            let told = String::from_utf8_lossy(&output.stderr);
            return Err(format!("the load on {} ended badly: {told}", server.name()).into());
        }
        let report: Value = serde_json::from_slice(&output.stdout)?;
        let number = |value: &Value| value.as_f64().unwrap_or_default();
        Ok(Self {
            packets_per_second: number(&report["load"]["packets_per_s"]),
            allocations_per_second: number(&report["allocations_per_s"]),
        })
    }
}
