//! The program `nilas`.

use std::path::PathBuf;

/// `NILAS_BIN`, or what cargo built for release in the workspace.
pub(crate) fn program() -> Result<PathBuf, String> {
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/nilas");
    let path = std::env::var_os("NILAS_BIN").map_or_else(|| built.into(), PathBuf::from);
    if path.is_file() {
        return Ok(path);
    }
    Err(format!(
        "there is no {}: cargo build --release makes it",
        path.display()
    ))
}
