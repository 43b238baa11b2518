//! Writes the seed corpora, or says which of them are not what it would write: `seeds` and `seeds --check`.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let check = std::env::args().any(|argument| argument == "--check");
    let mut stale = 0;
    for (target, name, bytes) in nilas_fuzz::seeds::all() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(target);
        let file = folder.join(name);
        if std::fs::read(&file).is_ok_and(|stored| stored == bytes) {
            continue;
        }
        if check {
            eprintln!("{} is stale", file.display());
            stale += 1;
        } else if let Err(error) =
            std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&file, &bytes))
        {
            eprintln!("{}: {error}", file.display());
            return ExitCode::FAILURE;
        }
    }
    for name in nilas_fuzz::seeds::astray() {
        eprintln!("{name} does not lead where it is to lead");
        stale += 1;
    }
    if stale == 0 {
        return ExitCode::SUCCESS;
    }
    eprintln!("write them anew: cargo run --manifest-path fuzz/Cargo.toml --bin seeds");
    ExitCode::FAILURE
}
