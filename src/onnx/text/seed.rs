//! Fixtures: text models whose weights are made up.
//!
//! Guarantees: a weight depends on nothing but its name, its type and the seed, so that a fixture can be changed in
//! one place without changing it in another; the same bytes on any machine.
//! How: `# secateur: key=value` lines among the comments before the model are directives. With `seed=N`, every value
//! that a graph's `<...>` list gives a type but no content, and that nothing produces, becomes an initializer: a
//! ChaCha8 stream keyed by SHA-256 of seed and name fills it. Only sums, products and a square root are taken, which
//! round alike everywhere.

use super::parse::parse;
use super::scan::ParseError;
use crate::onnx::proto::tensor_shape_proto::dimension::Value::DimValue;
use crate::onnx::proto::*;
use crate::onnx::tensor::{DataType, Tensor, bits_per_element};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};
use std::collections::HashSet;

/// The directives of a fixture, in order: one `# secateur: key=value` a line, among the comments and blank lines
/// before the model. The value reaches to the end of the line; without `=` it is empty.
pub fn directives(text: &str) -> Vec<(String, String)> {
    lines(text).map(|(_, key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Line number, key and value.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str, &str)> {
    let header = text.lines().map(str::trim).take_while(|line| line.is_empty() || line.starts_with('#'));
    header.enumerate().filter_map(|(i, line)| {
        let directive = line.trim_start_matches('#').trim_start().strip_prefix("secateur:")?;
        let (key, value) = directive.split_once('=').unwrap_or((directive, ""));
        Some((i + 1, key.trim(), value.trim()))
    })
}

/// [`parse`], then the directives that concern the model: `seed=N` fills what is declared without content.
///
/// Floats of rank two or more get a bell of standard deviation `1 / sqrt(elements of one output)`, those of lower rank
/// values from 0.5 to 1.5, so that they can serve as variances; integers get small ones, 0 to 7 or -4 to 3.
pub fn parse_fixture(text: &str) -> Result<ModelProto, ParseError> {
    let mut model = parse(text)?;
    for (line, key, value) in lines(text) {
        if key == "seed" {
            let message = || format!("the seed '{value}' is not a number");
            let seed: u64 = value.parse().map_err(|_| ParseError { line, column: 1, message: message() })?;
            let graph = model.graph.as_mut().expect("the parser makes a graph");
            fill(graph, &HashSet::new(), seed).map_err(|(name, why)| {
                let (line, column) = place(text, &name);
                ParseError { line, column, message: format!("'{name}' cannot be seeded: {why}") }
            })?;
        }
    }
    Ok(model)
}

/// Where a name first stands by itself.
fn place(text: &str, name: &str) -> (usize, usize) {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let alone = |at: usize| {
        !text[..at].chars().next_back().is_some_and(part) && !text[at + name.len()..].chars().next().is_some_and(part)
    };
    let at = text.match_indices(name).map(|(at, _)| at).find(|&at| alone(at)).unwrap_or(0);
    let start = text[..at].rfind('\n').map_or(0, |n| n + 1);
    (text[..at].matches('\n').count() + 1, text[start..at].chars().count() + 1)
}

type Refusal = (String, &'static str);

/// Seeds a graph and those within it. `outer` are the names that the graphs around it define.
fn fill(graph: &mut GraphProto, outer: &HashSet<String>, seed: u64) -> Result<(), Refusal> {
    let mut defined = outer.clone();
    defined.extend(graph.input.iter().map(|value| value.name().to_owned()));
    defined.extend(graph.initializer.iter().map(|tensor| tensor.name().to_owned()));
    defined.extend(graph.node.iter().flat_map(|node| node.output.iter().cloned()));
    let (described, made_up): (Vec<_>, Vec<_>) =
        graph.value_info.drain(..).partition(|value| defined.contains(value.name()));
    graph.value_info = described;
    for value in made_up {
        let name = value.name().to_owned();
        let tensor = random(&value, seed).map_err(|why| (name.clone(), why))?;
        graph.initializer.push(tensor.to_proto(&name));
        defined.insert(name);
    }
    for attribute in graph.node.iter_mut().flat_map(|node| &mut node.attribute) {
        for inner in attribute.g.iter_mut().chain(&mut attribute.graphs) {
            fill(inner, &defined, seed)?;
        }
    }
    Ok(())
}

fn random(value: &ValueInfoProto, seed: u64) -> Result<Tensor, &'static str> {
    let Some(type_proto::Value::TensorType(of)) = value.r#type.as_ref().and_then(|of| of.value.as_ref()) else {
        return Err("it is not a tensor, and nothing produces it");
    };
    let dims = of.shape.iter().flat_map(|shape| &shape.dim);
    let shape = dims.map(|dim| match dim.value {
        Some(DimValue(extent)) => usize::try_from(extent).ok(),
        _ => None,
    });
    let shape: Option<Vec<usize>> = of.shape.as_ref().and_then(|_| shape.collect());
    let shape = shape.ok_or("its shape has dimensions that are not numbers, and nothing produces it")?;
    let dtype = DataType::try_from(of.elem_type()).unwrap_or(DataType::Undefined);
    let elements = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= 1 << 28);
    let elements = elements.ok_or("it is too large for a fixture")?;

    let key = Sha256::new_with_prefix(seed.to_le_bytes()).chain_update(value.name()).finalize();
    let mut rng = ChaCha8Rng::from_seed(key.into());
    let fan_in: usize = shape.iter().skip(1).product();
    let mut draw = || match dtype {
        DataType::Float | DataType::Double | DataType::Float16 | DataType::Bfloat16 if shape.len() >= 2 => {
            // Twelve uniform numbers have the variance 1; unlike logarithms they are the same on any machine.
            let bell: f64 = (0..12).map(|_| uniform(&mut rng)).sum::<f64>() - 6.0;
            bell / (fan_in.max(1) as f64).sqrt()
        }
        DataType::Float | DataType::Double | DataType::Float16 | DataType::Bfloat16 => 0.5 + uniform(&mut rng),
        DataType::Bool => f64::from(rng.next_u32() & 1),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => f64::from(rng.next_u32() & 7) - 4.0,
        _ => f64::from(rng.next_u32() & 7),
    };
    let values: Vec<f64> = (0..elements).map(|_| draw()).collect();
    if let Some(tensor) = Tensor::from_f64(dtype, &shape, &values) {
        return Ok(tensor);
    }
    // Types that have no arithmetic get bits; small ones, so that bytes read as floats of eight bits are no NaN.
    let bytes = bits_per_element(dtype).ok_or("its elements are not numbers")? * elements;
    let data: Vec<u8> = (0..bytes.div_ceil(8)).map(|_| (rng.next_u32() & 0x33) as u8).collect();
    Tensor::new(dtype, shape, data.into()).ok_or("its elements are not numbers")
}

/// From 0 to below 1, in steps of 2^-24.
fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    f64::from(rng.next_u32() >> 8) / f64::from(1 << 24)
}
