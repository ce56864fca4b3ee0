//! Removing classes from a model.
//!
//! Guarantees: either a model in which every constant lost the removed positions, every attribute and shape constant
//! that states a number of channels follows, and every shape, inferred afresh under every assignment of sizes, is the
//! old one less the removed positions; or a [`Misfit`] that names the node and the classes at fault, and no model.
//! How: slices each constant by its own labels, then narrows node by node, then infers and compares. Where statistics may
//! become those of what stays, `compensate` records them.

mod check;
mod compensate;
mod narrow;
mod patch;

use crate::analysis::{Atom, Coupling, Origin};
use crate::ir::{Model, NodeId, ValueId};
use crate::onnx::SourceMap;
use crate::onnx::tensor::Tensor;
use crate::plan::{InexactCut, TensorCut};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Why these classes cannot be removed together.
#[derive(Debug, Clone)]
pub struct Misfit {
    pub node: Option<NodeId>,
    pub text: String,
    /// The classes involved, by representative. Without them a cut may succeed.
    pub classes: BTreeSet<Atom>,
}

/// A cut model, with the same ids as the original for everything that both have.
#[derive(Debug, Clone)]
pub struct Cut {
    pub model: Model,
    /// Sorted by name and axis.
    pub tensors: Vec<TensorCut>,
    /// Statistics that are those of fewer channels now, in the order of the nodes; none unless the coupling allows it.
    pub inexact: Vec<InexactCut>,
}

/// Removes classes (by representative). Pages of `source` are handed back as soon as they are sliced.
pub fn cut(model: &Model, coupling: &Coupling, removed: &BTreeSet<Atom>, source: &SourceMap) -> Result<Cut, Misfit> {
    let kept = kept_by_constant(coupling, removed);
    let mut new = model.clone();
    let mut tensors = Vec::new();
    let mut written = Vec::new();
    let sliced: Vec<(ValueId, Option<Tensor>)> = kept
        .iter()
        .collect::<Vec<_>>()
        .par_iter()
        .map(|&(&value, axes)| (value, slice(model, value, axes, source)))
        .collect();
    for (value, tensor) in sliced {
        let name = model.value(value).name();
        let Some(tensor) = tensor.filter(|t| t.elements() > 0) else {
            return Err(Misfit {
                node: None,
                text: format!(
                    "the constant '{name}' cannot be sliced: its elements are no numbers, or none would be left"
                ),
                classes: coupling.classes_of(value).intersection(removed).copied().collect(),
            });
        };
        written.push((value, tensor));
        // A plan speaks of tensors of the file.
        let listed = kept[&value].iter().filter(|_| model.unnamed(value).is_none());
        for (&axis, AxisCut { size, kept }) in listed {
            let (kept, kept_by_block) = match &kept[..] {
                [all] => (all.clone(), Vec::new()),
                blocks => (Vec::new(), blocks.to_vec()),
            };
            tensors.push(TensorCut { name: name.to_owned(), axis, size: *size, kept, kept_by_block });
        }
    }
    new.set_constants(&written);
    tensors.sort_by(|a, b| (&a.name, a.axis).cmp(&(&b.name, b.axis)));
    narrow::narrow(model, coupling, removed, &mut new)?;
    check::declare(model, coupling, removed, &mut new)?;
    check::freeze(model, coupling, &mut new);
    let inexact = compensate::compensate(model, coupling, removed, &mut new)?;
    check::check(model, coupling, removed, &new)?;
    Ok(Cut { model: new, tensors, inexact })
}

/// What stays of an axis of a constant: in each of equal blocks along axis 0, one block where all keep the same.
struct AxisCut {
    size: usize,
    kept: Vec<Vec<usize>>,
}

/// Constants that lose something, by axis.
type KeptByConstant = BTreeMap<ValueId, BTreeMap<usize, AxisCut>>;

fn kept_by_constant(coupling: &Coupling, removed: &BTreeSet<Atom>) -> KeptByConstant {
    let mut out = KeptByConstant::new();
    for (origin, range) in coupling.atoms.origins() {
        let Origin::Constant { value, axis, blocks } = origin else { continue };
        let size = range.len() / blocks;
        let stays: Vec<bool> = range.map(|a| !removed.contains(&coupling.atoms.find(a))).collect();
        if stays.iter().all(|&s| s) {
            continue;
        }
        let kept = |block: &[bool]| block.iter().enumerate().filter(|(_, s)| **s).map(|(i, _)| i).collect();
        let kept = stays.chunks(size).map(kept).collect();
        out.entry(value).or_default().insert(axis, AxisCut { size, kept });
    }
    out
}

fn slice(model: &Model, value: ValueId, axes: &BTreeMap<usize, AxisCut>, source: &SourceMap) -> Option<Tensor> {
    let tensor = Tensor::from_proto(model.constant(value)?).ok()?;
    let whole: Vec<(usize, &[usize])> =
        axes.iter().filter(|(_, cut)| cut.kept.len() == 1).map(|(&axis, cut)| (axis, &cut.kept[0][..])).collect();
    let mut sliced = tensor.take_all(&whole)?;
    for (&axis, cut) in axes.iter().filter(|(_, cut)| cut.kept.len() > 1) {
        sliced = sliced.take_by_block(axis, &cut.kept)?;
    }
    source.release_bytes(tensor.data());
    Some(sliced)
}
