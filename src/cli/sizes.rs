//! `--input-shape`: sizes for symbolic dimensions.

use super::failure::Failure;
use super::near::did_you_mean;
use crate::analysis::fed_inputs;
use crate::ir::Model;
use crate::onnx::proto::{TypeProto, tensor_shape_proto::dimension, type_proto};
use std::collections::{BTreeMap, BTreeSet};

/// `NAME=1x3x224x224` or `SYMBOL=N`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SizeArg {
    name: String,
    extents: Vec<usize>,
}

impl std::str::FromStr for SizeArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "NAME=1x3x224x224 for an input or SYMBOL=N for a symbolic dimension is expected";
        let (name, extents) = text.rsplit_once('=').filter(|(n, _)| !n.is_empty()).ok_or(form)?;
        let positive = |e: &str| e.parse::<usize>().ok().filter(|&d| d > 0 && d < 1 << 31);
        let extents: Option<Vec<usize>> = extents.split('x').map(positive).collect();
        let extents = extents.ok_or_else(|| format!("sizes are positive whole numbers joined by 'x'; {form}"))?;
        Ok(Self { name: name.to_owned(), extents })
    }
}

/// The sizes by symbol, or by `input.axis` where a dimension has no symbol.
pub fn resolve(model: &Model, arguments: &[SizeArg]) -> Result<BTreeMap<String, usize>, Failure> {
    let mut sizes = BTreeMap::new();
    if arguments.is_empty() {
        return Ok(sizes);
    }
    let inputs: BTreeMap<&str, Vec<Dim>> =
        fed_inputs(model).into_iter().map(|(v, ty)| (model.value(v).name(), dims(model.value(v).name(), ty))).collect();
    let symbols: BTreeSet<&str> = inputs
        .values()
        .flatten()
        .filter_map(|d| match d {
            Dim::Symbol(s) => Some(&s[..]),
            Dim::Fixed(_) => None,
        })
        .collect();
    for argument in arguments {
        let name = &argument.name[..];
        let pairs: Vec<(&Dim, usize)> = match (inputs.get(name), &argument.extents[..]) {
            (Some(dims), extents) if dims.len() == extents.len() => dims.iter().zip(extents.iter().copied()).collect(),
            (_, &[size]) if symbols.contains(name) => {
                set(&mut sizes, name, size)?;
                continue;
            }
            (Some(dims), extents) => {
                return Err(Failure::usage(format!(
                    "--input-shape gives input '{name}' {} axes, the model gives it {}",
                    extents.len(),
                    dims.len()
                )));
            }
            (None, _) => {
                let known: Vec<String> = inputs.keys().chain(&symbols).map(|s| (*s).to_owned()).collect();
                return Err(Failure::usage(format!(
                    "--input-shape names '{name}', which is no input and no symbolic dimension{}",
                    did_you_mean(name, &known)
                )));
            }
        };
        for (axis, (dim, size)) in pairs.into_iter().enumerate() {
            match dim {
                Dim::Symbol(symbol) => set(&mut sizes, symbol, size)?,
                Dim::Fixed(d) if *d == size => {}
                Dim::Fixed(d) => {
                    return Err(Failure::usage(format!(
                        "--input-shape makes axis {axis} of input '{name}' {size}, the model fixes it to {d}"
                    )));
                }
            }
        }
    }
    Ok(sizes)
}

fn set(sizes: &mut BTreeMap<String, usize>, symbol: &str, size: usize) -> Result<(), Failure> {
    match sizes.insert(symbol.to_owned(), size) {
        Some(old) if old != size => {
            Err(Failure::usage(format!("--input-shape gives '{symbol}' two sizes, {old} and {size}")))
        }
        _ => Ok(()),
    }
}

enum Dim {
    Fixed(usize),
    /// The symbol, or `input.axis`: what the analysis calls it.
    Symbol(String),
}

fn dims(name: &str, ty: Option<&TypeProto>) -> Vec<Dim> {
    let Some(type_proto::Value::TensorType(t)) = ty.and_then(|t| t.value.as_ref()) else { return Vec::new() };
    let dims = t.shape.iter().flat_map(|s| &s.dim).enumerate();
    dims.map(|(axis, d)| match &d.value {
        Some(dimension::Value::DimValue(d)) if *d > 0 => Dim::Fixed(usize::try_from(*d).unwrap_or(usize::MAX)),
        Some(dimension::Value::DimParam(p)) if !p.is_empty() => Dim::Symbol(p.clone()),
        _ => Dim::Symbol(format!("{name}.{axis}")),
    })
    .collect()
}
