//! Writes the seeds that are made of the recorded traces.
//!
//! ```text
//! cargo run --manifest-path fuzz/Cargo.toml --no-default-features --example seeds
//! ```

use std::fs;
use std::io;
use std::path::Path;

use extent_map_fuzz::recorded::{self, Seed};

fn main() -> io::Result<()> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    for Seed {
        target,
        name,
        bytes,
    } in recorded::seeds(&home.join("../tests/traces"))
    {
        let folder = home.join("seeds").join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}
