//! Models to ONNX's textual syntax and back: `onnx_text IN.onnx OUT.onnxtxt` or `onnx_text IN.onnxtxt OUT.onnx`.
//! Directives of a fixture are applied. A third argument elides tensors of more elements than it says.

use secateur::onnx::text::{PrintOptions, parse_fixture, print};
use secateur::onnx::{read, write};
use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (input, output) = match args.as_slice() {
        [input, output, ..] => (Path::new(input), Path::new(output)),
        _ => return Err("usage: onnx_text IN OUT [ELIDE_ABOVE]; one of the files ends in .onnx".into()),
    };
    if input.extension().is_some_and(|extension| extension == "onnx") {
        let elide_above = args.get(2).map(|n| n.parse()).transpose()?;
        let text = print(&read(input)?.model, &PrintOptions { elide_above });
        std::fs::write(output, text)?;
    } else {
        write(&parse_fixture(&std::fs::read_to_string(input)?)?, output)?;
    }
    Ok(())
}
