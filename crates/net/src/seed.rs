//! Randomness, from the operating system.

use std::io;

/// The seed of an engine's generator: every password and transaction id comes from it.
///
/// # Errors
/// When the operating system has no randomness to give, which leaves nothing to go on with.
pub fn os_seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(io::Error::from)?;
    Ok(seed)
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_seeds_differ() {
        assert_ne!(super::os_seed().unwrap(), super::os_seed().unwrap());
    }
}
