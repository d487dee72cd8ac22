//! Prints what an input of a target that works on files means.
//!
//! ```text
//! cargo run --manifest-path fuzz/Cargo.toml --no-default-features --example show -- file_ops INPUT
//! ```

use std::env;
use std::error::Error;
use std::fs;

use arbitrary::{Arbitrary, Unstructured};
use extent_map::testing::Script;
use extent_map_fuzz::dealt::Dealt;
use extent_map_fuzz::faulted::Faulted;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [target, input] = &arguments[..] else {
        return Err("show TARGET INPUT".into());
    };
    let bytes = fs::read(input)?;
    let mut source = Unstructured::new(&bytes);
    match target.as_str() {
        "file_ops" => println!("{:#?}", Script::arbitrary(&mut source)?),
        "device_faults" => println!("{:#?}", Faulted::arbitrary(&mut source)?),
        "file_concurrent" => println!("{:#?}", Dealt::arbitrary(&mut source)?),
        _ => return Err(format!("the inputs of {target} have no form of their own").into()),
    }
    Ok(())
}
