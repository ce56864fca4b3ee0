//! Translation validation of a prune: the pruned model against the masked original.
//!
//! Guarantees: [`Outcome::Equal`] means that both were run on the same seeded inputs and no output differed by more
//! than the tolerance, relative to the largest magnitude of that output. A model that cannot be run in this process is
//! [`Outcome::Cannot`], with node and reason, never a success.
//! A model that was repaired after its cut computes something else on purpose: [`Outcome::Cannot`] as well.
//! Refuses: plans that name tensors, axes or positions that the original does not have.
//! How: the original's weights are set to zero where the plan says that contractions stop reading them; that is what
//! the removal means, so the two models compute the same function, and any difference is a bug of the rewrite. Where the
//! plan says that statistics became those of the channels that stay, the original takes them so too ([`rescale`]).

mod rescale;

use crate::analysis::{Sizes, fed_inputs, infer_all};
use crate::ir::Model;
use crate::onnx::tensor::{DataType, Tensor};
use crate::plan::{Outcome, Plan, ReadCut, Verified};
use crate::run::{CannotRun, MOST_ELEMENTS, Runner, admit_whole, random_inputs};
pub use rescale::rescale;
use std::collections::BTreeMap;

/// How to compare.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Seed of the inputs.
    pub seed: u64,
    /// Sizes given for symbolic dimensions, by symbol or `input.axis`.
    pub sizes: BTreeMap<String, usize>,
    /// Largest relative difference that counts as equal; by default [`TOLERANCE`], [`HALF_TOLERANCE`] where half
    /// precision takes part.
    pub tolerance: Option<f64>,
}

/// Relative difference allowed in single precision: the order of summation differs where channels are gone.
pub const TOLERANCE: f64 = 1e-3;
/// The same where half precision takes part.
pub const HALF_TOLERANCE: f64 = 1e-2;

/// Inputs are scaled down in these steps where the original overflows.
const SCALES: [f64; 3] = [1.0, 1e-2, 1e-4];

/// Why a plan cannot be applied to the original at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the plan does not fit the original: {0}")]
pub struct PlanMisfit(pub String);

/// Why an original cannot be stated as a plan says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unstated {
    #[error(transparent)]
    Misfit(#[from] PlanMisfit),
    /// What the plan says can be said of the original, but not be computed in this process.
    #[error(transparent)]
    Cannot(#[from] CannotRun),
}

/// Compares `pruned` with `original` masked as the plan says, and its statistics rescaled where the plan has inexact
/// entries; the plan of a lossless removal masks nothing.
pub fn verify(original: &Model, pruned: &Model, plan: &Plan, options: &Options) -> Result<Verified, PlanMisfit> {
    let masked = mask(original, &plan.reads)?;
    let reference = plan.reference;
    if let Some(first) = plan.repair.as_ref().and_then(|r| r.fitted.first()) {
        let reason = format!(
            "node '{}': it was fitted to data after the cut, which changes what is computed; only the cut itself can be \
             compared, as the plan's 'verified' says it was, or after a prune with --no-repair",
            first.node
        );
        return Ok(Verified { outcome: Outcome::Cannot, reference, max_relative_error: None, reason: Some(reason) });
    }
    let compared = match rescale(&masked, &plan.inexact, &options.sizes) {
        Ok(masked) => compare(&masked, pruned, options),
        Err(Unstated::Cannot(cannot)) => Err(cannot),
        Err(Unstated::Misfit(misfit)) => return Err(misfit),
    };
    Ok(match compared {
        Ok((error, tolerance)) => Verified {
            outcome: if error <= tolerance { Outcome::Equal } else { Outcome::Different },
            reference,
            max_relative_error: Some(error),
            reason: None,
        },
        Err(cannot) => {
            Verified { outcome: Outcome::Cannot, reference, max_relative_error: None, reason: Some(cannot.to_string()) }
        }
    })
}

/// The original with everything set to zero that the plan's contractions stop reading.
pub fn mask(original: &Model, reads: &[ReadCut]) -> Result<Model, PlanMisfit> {
    let mut masked = original.clone();
    let by_name: BTreeMap<&str, crate::ir::ValueId> =
        original.constants().map(|v| (original.value(v).name(), v)).collect();
    let mut positions: BTreeMap<&str, Vec<&ReadCut>> = BTreeMap::new();
    for read in reads {
        positions.entry(&read.tensor).or_default().push(read);
    }
    for (name, reads) in positions {
        let value = *by_name.get(name).ok_or_else(|| PlanMisfit(format!("it has no constant '{name}'")))?;
        let tensor = original.constant(value).and_then(|t| Tensor::from_proto(t).ok());
        let zeroed = reads.iter().try_fold(tensor, |t, r| Some(t?.zeroed(r.axis, &r.removed, r.rows)));
        let tensor = zeroed.flatten().ok_or_else(|| {
            PlanMisfit(format!("the constant '{name}' does not have the axes and positions that are to be zeroed"))
        })?;
        masked.set_constant(value, &tensor);
    }
    Ok(masked)
}

/// Largest difference over all outputs, each relative to its own magnitude, and the tolerance that applies.
fn compare(masked: &Model, pruned: &Model, options: &Options) -> Result<(f64, f64), CannotRun> {
    let cannot = |reason: &str| CannotRun { node: None, reason: reason.to_owned() };
    let worlds = infer_all(masked, &options.sizes);
    let sizes = &worlds.first().ok_or_else(|| cannot("the input shapes are not known"))?.sizes;
    let shapes = input_shapes(masked, sizes).ok_or_else(|| cannot("an input is not a tensor, or has no type"))?;
    admit_whole(masked, &worlds[0])?;
    let (a, b) = (Runner::load(&masked.export(), &shapes)?, Runner::load(&pruned.export(), &shapes)?);
    let mut last = cannot("the original's outputs are not finite on any of the inputs tried");
    for scale in SCALES {
        let inputs: Vec<Tensor> = random_inputs(&shapes, options.seed).iter().map(|t| scaled(t, scale)).collect();
        let (x, y) = (a.run(&inputs)?, b.run(&inputs)?);
        match difference(&x, &y) {
            Ok((error, half)) => {
                let default = if half { HALF_TOLERANCE } else { TOLERANCE };
                return Ok((error, options.tolerance.unwrap_or(default)));
            }
            Err(reason) => last = cannot(&reason),
        }
    }
    Err(last)
}

/// Concrete types and shapes of everything that has to be fed.
pub fn input_shapes(model: &Model, sizes: &Sizes) -> Option<Vec<(String, DataType, Vec<usize>)>> {
    fed_inputs(model)
        .into_iter()
        .map(|(v, ty)| {
            let name = model.value(v).name().to_owned();
            let (dtype, shape) = sizes.shape(Some(&name), ty?)?;
            let shape = shape?;
            let elements = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
            (elements <= MOST_ELEMENTS).then_some((name, dtype?, shape))
        })
        .collect()
}

fn scaled(tensor: &Tensor, scale: f64) -> Tensor {
    let real = matches!(tensor.dtype(), DataType::Float | DataType::Double | DataType::Float16 | DataType::Bfloat16);
    let values = (real && scale != 1.0).then(|| tensor.to_f64()).flatten();
    let scaled = values.and_then(|v| {
        let v: Vec<f64> = v.into_iter().map(|x| x * scale).collect();
        Tensor::from_f64(tensor.dtype(), tensor.shape(), &v)
    });
    scaled.unwrap_or_else(|| tensor.clone())
}

/// Largest relative difference, and whether half precision took part. Fails where the first is not finite.
fn difference(x: &[Tensor], y: &[Tensor]) -> Result<(f64, bool), String> {
    let (mut worst, mut half) = (0f64, false);
    if x.len() != y.len() {
        return Ok((f64::INFINITY, half));
    }
    for (i, (u, v)) in x.iter().zip(y).enumerate() {
        half |= matches!(u.dtype(), DataType::Float16 | DataType::Bfloat16);
        if u.shape() != v.shape() || u.dtype() != v.dtype() {
            return Ok((f64::INFINITY, half));
        }
        let (Some(p), Some(q)) = (u.to_f64(), v.to_f64()) else { continue };
        if p.iter().any(|a| !a.is_finite()) {
            return Err(format!("output {i} of the original is not finite on the inputs tried"));
        }
        let magnitude = p.iter().fold(1e-6f64, |m, a| m.max(a.abs()));
        let gap =
            p.iter().zip(&q).fold(0f64, |m, (a, b)| if b.is_finite() { m.max((a - b).abs()) } else { f64::INFINITY });
        worst = worst.max(gap / magnitude);
    }
    Ok((worst, half))
}
