//! Says what is wrong with the volume in an image or on a block device that nobody has open.
//!
//! ```text
//! cargo run --release --example check -- IMAGE...
//! ```
//!
//! Exits with 0 if all is well, 1 if something is wrong, 2 if an image cannot be read.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use extent_map::Result;
use extent_map::device::FileDevice;
use extent_map::file::Volume;
use extent_map::mapping::Finding;

/// Says what is wrong with volumes that nobody has open.
#[derive(Debug, Parser)]
struct Arguments {
    /// Images of volumes, or block devices
    #[arg(required = true)]
    images: Vec<PathBuf>,
}

fn main() -> io::Result<ExitCode> {
    let mut out = io::stdout().lock();
    let mut worst = 0;
    for image in Arguments::parse().images {
        let name = image.display();
        match check(&image) {
            Ok(findings) if findings.is_empty() => writeln!(out, "{name}: clean")?,
            Ok(findings) => {
                worst = worst.max(1);
                for finding in findings {
                    writeln!(out, "{name}: {finding}")?;
                }
            }
            Err(error) => {
                worst = 2;
                writeln!(out, "{name}: {error}")?;
            }
        }
    }
    Ok(ExitCode::from(worst))
}

fn check(image: &Path) -> Result<Vec<Finding>> {
    Volume::check(&FileDevice::open_read_only(image)?)
}
