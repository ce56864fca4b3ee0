//! Carries a choice out: weights are added up, the classes are cut, constants move into biases.
//!
//! Guarantees: a model whose values that stay are those of the original, rounding of sums apart; or the classes at
//! fault, and no model.

use super::choose::{Choice, Forbidden, Study};
use super::read::{Home, Reading, is_real};
use crate::analysis::{Atom, PINNED, stored};
use crate::cut::cut;
use crate::ir::{Model, Uses, ValueId};
use crate::onnx::SourceMap;
use crate::onnx::tensor::{DataType, Tensor};
use std::collections::{BTreeMap, BTreeSet};

/// The new model, or classes that must stay and why.
pub(super) fn carry_out(
    model: &Model,
    study: &Study,
    uses: &Uses,
    choice: &Choice,
    source: &SourceMap,
) -> Result<Model, Forbidden> {
    let mut edited = model.clone();
    merge(&mut edited, study, choice)?;
    let cut = cut(&edited, study.coupling, &choice.removed, source).map_err(|misfit| {
        let reason = (misfit.node, "checked-after-cut", misfit.text);
        misfit.classes.iter().map(|&c| (c, reason.clone())).collect::<Forbidden>()
    })?;
    let mut new = cut.model;
    fold(&mut new, study, uses, choice)?;
    Ok(new)
}

/// Adds the weights of what goes to those of what stays.
fn merge(model: &mut Model, study: &Study, choice: &Choice) -> Result<(), Forbidden> {
    let mut by_constant: BTreeMap<ValueId, Vec<usize>> = BTreeMap::new();
    for (i, merge) in choice.merges.iter().enumerate() {
        if let Ok(stored) = &study.readings.all[merge.reading].weight {
            by_constant.entry(stored.value).or_default().push(i);
        }
    }
    for (value, merges) in by_constant {
        let all = || merges.iter().map(|&i| &choice.merges[i]);
        let classes = || all().flat_map(|m| &study.readings.all[m.reading].classes[m.from]);
        let refuse = |text: String| {
            let node = all().next().map(|m| study.readings.all[m.reading].node);
            let reason = (node, "rounding", text);
            Err(classes().map(|&c| (c, reason.clone())).collect::<Forbidden>())
        };
        let name = model.value(value).name().to_owned();
        let Some(tensor) = model.constant(value).and_then(|t| Tensor::from_proto(t).ok()) else {
            return refuse(format!("'{name}' cannot be read"));
        };
        let Some(mut numbers) = tensor.to_f64() else { return refuse(format!("'{name}' cannot be read")) };
        for merge in all() {
            let Ok(stored) = &study.readings.all[merge.reading].weight else { continue };
            let (from, to) = (stored.positions[merge.from], stored.positions[merge.to]);
            let run: usize = tensor.shape()[stored.axis + 1..].iter().product();
            for block in numbers.chunks_mut(run * tensor.shape()[stored.axis]) {
                for i in 0..run {
                    block[to * run + i] += merge.factor * block[from * run + i];
                }
            }
        }
        match rounded(tensor.dtype(), tensor.shape(), &numbers) {
            Some(sums) => model.set_constant(value, &sums),
            None => return refuse(format!("the sums of the weights are no numbers of the type of '{name}'")),
        }
    }
    Ok(())
}

/// The numbers in their type. Single and double precision round; half precision would be too coarse, so that sums have
/// to be exact.
fn rounded(dtype: DataType, shape: &[usize], numbers: &[f64]) -> Option<Tensor> {
    let tensor = Tensor::from_f64(dtype, shape, numbers).filter(|t| is_real(dtype) && t.is_finite())?;
    let half = matches!(dtype, DataType::Float16 | DataType::Bfloat16);
    (!half || tensor.to_f64()? == numbers).then_some(tensor)
}

/// Moves constants into biases, after the cut: those of the filters that are left.
fn fold(model: &mut Model, study: &Study, uses: &Uses, choice: &Choice) -> Result<(), Forbidden> {
    let mut by_reading: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    choice.folds.iter().for_each(|&(r, q)| by_reading.entry(r).or_default().push(q));
    for (r, columns) in by_reading {
        let reading = &study.readings.all[r];
        let Some(total) = contribution(reading, &columns) else { continue };
        if total.iter().zip(&reading.filters).all(|(x, f)| *x == 0.0 || choice.removed.contains(f)) {
            continue;
        }
        let done = match reading.home {
            Ok(Home::Input { node, input }) => into_input(model, study, uses, reading, choice, &total, (node, input)),
            Ok(Home::Behind) => put_behind(model, study, reading, choice, &total),
            Err(_) => None,
        };
        if done.is_none() {
            let text = "the bias with the constant in it is no number of its type".to_owned();
            let reason = (Some(reading.node), "rounding", text);
            let classes: BTreeSet<Atom> =
                columns.iter().flat_map(|&q| &reading.classes[q]).copied().filter(|&c| c != PINNED).collect();
            return Err(classes.into_iter().map(|c| (c, reason.clone())).collect());
        }
    }
    Ok(())
}

/// What some columns add to each filter's sum, with the factor of the operator.
fn contribution(reading: &Reading, columns: &[usize]) -> Option<Vec<f64>> {
    let (taps, addend) = (reading.taps.as_ref()?, reading.addend?);
    let of = |o: usize, q: usize| -> Option<f64> {
        let at = o * taps.columns + q;
        if !taps.live[at] {
            return Some(0.0);
        }
        Some(taps.sum[at] * reading.constants[reading.group[o] * taps.columns + q]?)
    };
    let sum = |o: usize| columns.iter().try_fold(0.0, |total, &q| Some(total + of(o, q)?));
    (0..taps.outs).map(|o| Some(addend.of_sum * sum(o)?)).collect()
}

/// The addend becomes a list of one number for each filter that is left.
fn into_input(
    model: &mut Model,
    study: &Study,
    uses: &Uses,
    reading: &Reading,
    choice: &Choice,
    total: &[f64],
    (node, input): (crate::ir::NodeId, usize),
) -> Option<()> {
    let stays = |o: usize| !choice.removed.contains(&reading.filters[o]);
    let factor = if node == reading.node { reading.addend?.of_addend } else { 1.0 };
    let total: Vec<f64> = (0..total.len()).filter(|&o| stays(o)).map(|o| total[o] / factor).collect();
    let graph = model.node(node).graph();
    let Some(old) = model.node(node).input(input) else {
        let weight = model.node(node).input(1)?;
        let dtype = study.coupling.worlds.first()?.shapes.fact(model.node(node).output(0)?)?.dtype?;
        let bias = rounded(dtype, &[total.len()], &total)?;
        let hint = format!("{}_bias", model.value(weight).name());
        let new = model.add_initializer(graph, &hint, &bias);
        model.set_input(node, input, Some(new));
        return Some(());
    };
    let before = stored(model, old)?;
    let values = before.to_f64()?;
    let one = |o: usize| if values.len() == 1 { values[0] } else { values[o] };
    let sums: Vec<f64> = total.iter().enumerate().map(|(o, x)| one(o) + x).collect();
    let shape = if before.elements() == sums.len() { before.shape().to_vec() } else { vec![sums.len()] };
    let bias = rounded(before.dtype(), &shape, &sums)?;
    let own = uses.readers(old) == [(node, input)] && !uses.is_output(old);
    if own && model.constant(old).is_some() && shape == before.shape() {
        model.set_constant(old, &bias);
    } else {
        let hint = format!("{}_folded", model.value(old).name());
        let new = model.add_initializer(graph, &hint, &bias);
        model.set_input(node, input, Some(new));
    }
    Some(())
}

/// A copy of the node computes the sums from now on, and the node itself becomes the `Add` behind it, so that its
/// output keeps its name.
fn put_behind(model: &mut Model, study: &Study, reading: &Reading, choice: &Choice, total: &[f64]) -> Option<()> {
    let n = reading.node;
    let (taps, world) = (reading.taps.as_ref()?, study.coupling.worlds.first()?);
    let out = model.node(n).output(0)?;
    let shape = world.shapes.shape(out)?;
    let extents: Vec<usize> = (0..shape.len()).map(|a| if taps.out_axes.contains(&a) { shape[a] } else { 1 }).collect();
    let dtype = world.shapes.fact(out)?.dtype?;
    let all = Tensor::from_f64(DataType::Double, &extents, total)?;
    let kept = study.coupling.kept(0, out, &choice.removed)?;
    let kept: Vec<Vec<usize>> =
        taps.out_axes.iter().map(|&a| (0..shape[a]).filter(|&i| kept[a].stays(i) == Some(true)).collect()).collect();
    let axes: Vec<(usize, &[usize])> = taps.out_axes.iter().zip(&kept).map(|(&a, k)| (a, &k[..])).collect();
    let left = all.take_all(&axes)?;
    let lead = left.shape().iter().take_while(|&&d| d == 1).count().min(left.shape().len().saturating_sub(1));
    let bias = rounded(dtype, &left.shape()[lead..], &left.to_f64()?)?;
    let weight = model.node(n).input(1)?;
    let hint = format!("{}_bias", model.value(weight).name());
    let graph = model.node(n).graph();
    let copy = model.add_copy(n, n)?;
    let sums = model.node(copy).output(0)?;
    let bias = model.add_initializer(graph, &hint, &bias);
    let names: Vec<String> = model.node(n).attributes().iter().map(|a| a.name().to_owned()).collect();
    names.iter().for_each(|name| model.node_mut(n).remove_attribute(name));
    model.set_operator(n, "Add");
    model.set_input(n, 0, Some(sums));
    model.set_input(n, 1, Some(bias));
    Some(())
}
