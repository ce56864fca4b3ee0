//! Prunes half of every convolution's filters: `cargo run --example prune -- IN.onnx OUT.onnx`.

use secateur::ir::Model;
use secateur::passes::{Context, Pass, prune::Prune};
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (input, output) = (args.next().ok_or("no input")?, args.next().ok_or("no output")?);
    let loaded = secateur::onnx::read(Path::new(&input))?;
    let mut model = Model::import(loaded.model)?;
    let outcome = Prune::default().run(&mut model, &Context::default())?;
    println!("{}", outcome.summary);
    if let (Some(plan), Some(path)) = (&outcome.plan, args.next()) {
        std::fs::write(path, plan.to_json())?;
    }
    secateur::onnx::write(&model.export(), Path::new(&output))?;
    Ok(())
}
