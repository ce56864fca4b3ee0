//! Statistics over channels, made to speak for those that are gone.
//!
//! Guarantees: where a removal passed a statistic, as [`Inexact::Norm`] allows, the statistic of the new model is the
//! mean over the channels that stay, brought to the number of all of them: what a mean is without more, a sum is
//! multiplied by what its number fell by, a length by the root of that. Each one is recorded, so that the original can be
//! stated with the same statistic. Refuses: with a [`Misfit`], a removal that is not the same share of every statistic of
//! a node, or that differs with the sizes of the symbolic dimensions.

use super::Misfit;
use crate::analysis::{Atom, Coupling, Inexact, World};
use crate::ir::{Model, NodeId};
use crate::onnx::tensor::{DataType, Tensor};
use crate::ops::{self, Action, Average, Operand};
use crate::plan::InexactCut;
use std::collections::BTreeSet;

/// Compensates and records every statistic that lost something, in the order of the nodes.
pub(super) fn compensate(
    old: &Model,
    coupling: &Coupling,
    removed: &BTreeSet<Atom>,
    new: &mut Model,
) -> Result<Vec<InexactCut>, Misfit> {
    if coupling.allowed != Inexact::Norm {
        return Ok(Vec::new());
    }
    let mut out = Vec::new();
    for &n in old.graph(old.main()).nodes() {
        let average = ops::lookup(old, old.node(n)).map_or(Average::None, |(row, _)| row.average);
        if average == Average::None {
            continue;
        }
        let Some(lost) = lost(old, coupling, removed, n).map_err(|text| misfit(old, coupling, removed, n, text))?
        else {
            continue;
        };
        scale(old, coupling, n, average, &lost, new).map_err(|text| misfit(old, coupling, removed, n, text))?;
        out.push(lost);
    }
    Ok(out)
}

fn misfit(old: &Model, coupling: &Coupling, removed: &BTreeSet<Atom>, n: NodeId, text: String) -> Misfit {
    let values = old.node(n).inputs().iter().chain(old.node(n).outputs()).flatten();
    let classes = values.flat_map(|&v| coupling.classes_of(v)).filter(|c| removed.contains(c)).collect();
    Misfit { node: Some(n), text, classes }
}

/// What the statistic of a node loses, which has to be the same under every assignment of sizes.
fn lost(old: &Model, coupling: &Coupling, removed: &BTreeSet<Atom>, n: NodeId) -> Result<Option<InexactCut>, String> {
    let mut worlds = coupling.worlds.iter().map(|world| lost_in(old, coupling, world, removed, n));
    let first = worlds.next().transpose()?.flatten();
    for other in worlds {
        if other? != first {
            return Err("what it is averaged over loses another share for other sizes of the input".to_owned());
        }
    }
    Ok(first)
}

fn lost_in(
    old: &Model,
    coupling: &Coupling,
    world: &World,
    removed: &BTreeSet<Atom>,
    n: NodeId,
) -> Result<Option<InexactCut>, String> {
    let node = old.node(n);
    let Some(Ok(effect)) = world.shapes.effect(n) else { return Ok(None) };
    let Action::Map(operands) = &effect.action else { return Ok(None) };
    let Some((operand, averaged)) = operands.first().and_then(|o| Some((o, o.averaged.as_ref()?))) else {
        return Ok(None);
    };
    let found = node.input(operand.input).and_then(|v| Some((v, world.shapes.shape(v)?)));
    let (Some((v, shape)), Some(output)) = (found, node.output(0)) else { return Ok(None) };
    for field in &world.fields[v.index()] {
        let gone: Vec<Atom> =
            field.atoms.iter().map(|&a| Atom::from(removed.contains(&coupling.atoms.find(a)))).collect();
        let seen = crate::analysis::Field { axes: field.axes.clone(), atoms: gone }.squeezed(shape);
        let Some(&last) = seen.axes.last().filter(|_| seen.axes.iter().any(|&a| operand.axes[a].is_none())) else {
            continue;
        };
        let flags: Vec<bool> = seen.atoms.iter().map(|&g| g == 1).collect();
        let rows: Vec<&[bool]> = flags.chunks(shape[last]).collect();
        return share(&rows, averaged.blocks, operand, last).map(|(parts, removed, count)| {
            let output = old.value(output).name().to_owned();
            let op = node.op_type().to_owned();
            Some(InexactCut { output, op, input: operand.input, axes: seen.axes.clone(), parts, removed, count })
        });
    }
    Ok(None)
}

/// The parts of a statistic, those that go in each row, and how many there are before and after.
type Share = (usize, Vec<Vec<usize>>, [usize; 2]);

fn share(rows: &[&[bool]], blocks: usize, operand: &Operand, last: usize) -> Result<Share, String> {
    let uneven = || "it averages over channels of which not every statistic loses the same share".to_owned();
    if operand.axes[last].is_some() {
        return Err(uneven());
    }
    let extent = rows[0].len();
    let whole = |parts: &usize| {
        let each = extent / parts;
        extent.is_multiple_of(*parts)
            && parts.is_multiple_of(blocks)
            && rows.iter().all(|row| row.chunks(each).all(|part| part.iter().all(|&g| g == part[0])))
    };
    let parts = (1..=extent).find(whole).ok_or_else(uneven)?;
    let firsts = |row: &[bool]| row.iter().step_by(extent / parts).copied().collect::<Vec<bool>>();
    let rows: Vec<Vec<bool>> = rows.iter().map(|row| firsts(row)).collect();
    let kept = |flags: &[bool]| flags.iter().filter(|&&g| !g).count();
    let each = parts / blocks;
    let stays = kept(&rows[0][..each]);
    if stays == 0 || !rows.iter().all(|row| row.chunks(each).all(|block| kept(block) == stays)) {
        return Err(uneven());
    }
    let mut removed: Vec<Vec<usize>> =
        rows.iter().map(|row| (0..parts).filter(|&p| row[p]).collect()).collect::<Vec<_>>();
    if removed.iter().all(|r| *r == removed[0]) {
        removed.truncate(1);
    }
    Ok((parts, removed, [each, stays]))
}

/// Multiplies the result of a node that grows with the number of elements.
fn scale(
    old: &Model,
    coupling: &Coupling,
    n: NodeId,
    average: Average,
    lost: &InexactCut,
    new: &mut Model,
) -> Result<(), String> {
    let factor = average.factor(old.node(n).int("p").unwrap_or(2), lost.count[0], lost.count[1]);
    if factor == 1.0 {
        return Ok(());
    }
    let dtype = old.node(n).output(0).and_then(|v| coupling.worlds[0].shapes.fact(v)?.dtype);
    let real = |t: &DataType| matches!(t, DataType::Float | DataType::Double | DataType::Float16 | DataType::Bfloat16);
    let tensor = dtype.filter(real).and_then(|t| Tensor::from_f64(t, &[], &[factor]));
    let tensor = tensor.ok_or_else(|| "its result is not of a type that can be scaled".to_owned())?;
    let graph = old.node(n).graph();
    let with = new.add_initializer(graph, &format!("{}.share", lost.output), &tensor);
    new.follow_by(n, 0, "Mul", with);
    Ok(())
}
