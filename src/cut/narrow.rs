//! Attributes and parameters that state a number of channels follow the cut.

use super::{Misfit, patch};
use crate::analysis::{Atom, Coupling, Kept, Origin, contraction};
use crate::ir::{Model, NodeId, ValueId};
use crate::ops::{self, Call, Narrow};
use std::collections::BTreeSet;

/// Narrows every node that lost channels.
pub(super) fn narrow(
    old: &Model,
    coupling: &Coupling,
    removed: &BTreeSet<Atom>,
    new: &mut Model,
) -> Result<(), Misfit> {
    for n in old.walk() {
        let Ok((row, version)) = ops::lookup(old, old.node(n)) else { continue };
        if row.narrow == Narrow::Nothing || !matches!(coupling.worlds[0].shapes.effect(n), Some(Ok(_))) {
            continue;
        }
        let cutter = Cutter { old, coupling, removed, node: n, version };
        if !cutter.is_touched() {
            continue;
        }
        cutter.narrow(row.narrow, new).map_err(|text| cutter.misfit(text))?;
    }
    Ok(())
}

struct Cutter<'a> {
    old: &'a Model,
    coupling: &'a Coupling,
    removed: &'a BTreeSet<Atom>,
    node: NodeId,
    version: i64,
}

impl Cutter<'_> {
    fn values(&self) -> impl Iterator<Item = ValueId> + '_ {
        let node = self.old.node(self.node);
        node.inputs().iter().chain(node.outputs()).flatten().copied()
    }

    fn is_touched(&self) -> bool {
        self.values().any(|v| !self.coupling.classes_of(v).is_disjoint(self.removed))
    }

    fn misfit(&self, text: String) -> Misfit {
        let classes = self.values().flat_map(|v| self.coupling.classes_of(v)).filter(|c| self.removed.contains(c));
        Misfit { node: Some(self.node), text, classes: classes.collect() }
    }

    /// What stays of each axis of a value.
    fn kept(&self, value: Option<ValueId>) -> Result<Vec<Kept>, String> {
        let kept = value.and_then(|v| self.coupling.kept(0, v, self.removed));
        kept.ok_or_else(|| "what stays of an operand is not a whole slice".to_owned())
    }

    fn counts(&self, value: Option<ValueId>) -> Result<Vec<usize>, String> {
        Ok(self.kept(value)?.iter().map(Kept::count).collect())
    }

    fn with_call<T>(&self, f: impl FnOnce(&Call) -> T) -> T {
        let node = self.old.node(self.node);
        let shapes = &self.coupling.worlds[0].shapes;
        let inputs = shapes.inputs(node);
        f(&Call { node, version: self.version, inputs: &inputs })
    }

    fn narrow(&self, rule: Narrow, new: &mut Model) -> Result<(), String> {
        match rule {
            Narrow::Nothing => Ok(()),
            Narrow::Group => self.group(new),
            Narrow::Target { input, attribute } => self.target(new, input, attribute),
            Narrow::SplitSizes => self.split_sizes(new),
            Narrow::SliceBounds => self.slice_bounds(new),
            Narrow::Indices => self.indices(new),
            Narrow::PadAmounts => self.pad_amounts(new),
        }
    }

    fn group(&self, new: &mut Model) -> Result<(), String> {
        let node = self.old.node(self.node);
        if node.int("group").unwrap_or(1) == 1 {
            return Ok(());
        }
        let effect = self.coupling.worlds[0].shapes.effect(self.node).and_then(|e| e.as_ref().ok());
        let found = effect.and_then(contraction).and_then(|c| Some((c, c.operands.get(1)?)));
        let Some((c, view)) = found else { return Err("its weight is not known".to_owned()) };
        // Axis 1 of the weight counts the channels of one group, of the input or of the output; that side has all.
        let of_output = view.letters.get(2).is_some_and(|l| c.output.letters.contains(l));
        let whole = if of_output { node.output(0) } else { node.input(0) };
        let (channels, weight) = (self.counts(whole)?, self.counts(node.input(view.input))?);
        if weight[1] == 0 || channels[1] % weight[1] != 0 {
            return Err(format!("{} channels do not divide into groups of {}", channels[1], weight[1]));
        }
        new.node_mut(self.node).set_int("group", (channels[1] / weight[1]) as i64);
        Ok(())
    }

    fn target(&self, new: &mut Model, input: usize, attribute: &str) -> Result<(), String> {
        let node = self.old.node(self.node);
        if node.input(input).is_none() && node.ints(attribute).is_none() {
            // A Resize by scales states no extent.
            return Ok(());
        }
        let after = self.counts(node.output(0))?;
        let before = self.shape(node.output(0));
        let from_attribute = node.ints(attribute).map(<[i64]>::to_vec);
        let Some(target) = from_attribute.clone().or_else(|| self.with_call(|c| c.known(input).ok())) else {
            return Err("the target shape is not known".to_owned());
        };
        let source = self.counts(node.input(0)).unwrap_or_default();
        let skip = before.len() - target.len().min(before.len());
        let change: Vec<Option<i64>> = (0..target.len())
            .map(|j| {
                let (was, is) = (before[skip + j], after[skip + j]);
                match target[j] {
                    // 0 copies the input's extent, -1 takes what is left: both follow by themselves if they can.
                    0 if source.get(j) == Some(&is) => None,
                    -1 => None,
                    t if t == was as i64 || t == 0 => (is != was).then_some(is as i64),
                    _ => None,
                }
            })
            .collect();
        if from_attribute.is_some() {
            let patched = target.iter().zip(&change).map(|(t, c)| c.unwrap_or(*t)).collect();
            new.node_mut(self.node).set_ints(attribute, patched);
        } else {
            patch::patch(new, self.coupling, self.node, input, &target, &change);
        }
        Ok(())
    }

    fn shape(&self, value: Option<ValueId>) -> Vec<usize> {
        value.and_then(|v| self.coupling.worlds[0].shapes.shape(v)).unwrap_or(&[]).to_vec()
    }

    fn split_sizes(&self, new: &mut Model) -> Result<(), String> {
        let node = self.old.node(self.node);
        let (axis, before) = self.with_call(ops::split_sizes).map_err(|e| e.to_string())?;
        let after = node.outputs().iter().map(|&o| Ok(self.counts(o)?[axis])).collect::<Result<Vec<_>, String>>()?;
        if after == before {
            return Ok(());
        }
        let sizes: Vec<i64> = after.iter().map(|&d| d as i64).collect();
        if self.version < 13 {
            new.node_mut(self.node).set_ints("split", sizes);
        } else {
            if let Some(v) = node.input(1)
                && !patch::is_constant(self.coupling, v)
            {
                return Err("the sizes of the parts are computed at run time".to_owned());
            }
            patch::replace(new, self.node, 1, &sizes);
            new.node_mut(self.node).remove_attribute("num_outputs");
        }
        Ok(())
    }

    fn slice_bounds(&self, new: &mut Model) -> Result<(), String> {
        let node = self.old.node(self.node);
        let bounds = self.with_call(ops::slice_bounds).map_err(|e| e.to_string())?;
        let kept = self.kept(node.input(0))?;
        let (mut starts, mut ends) = (vec![None; bounds.starts.len()], vec![None; bounds.starts.len()]);
        for (j, &axis) in bounds.axes.iter().enumerate() {
            let kept = &kept[axis];
            if !kept.loses() {
                continue;
            }
            if bounds.steps[j] != 1 {
                return Err(format!("it takes every {}th channel", bounds.steps[j]));
            }
            let extent = kept.extent() as i64;
            let moved = |p: i64| {
                let at = if p < 0 { p.saturating_add(extent) } else { p }.clamp(0, extent) as usize;
                kept.before(at).map(|before| before as i64).ok_or_else(rows_differ)
            };
            starts[j] = Some(moved(bounds.starts[j])?);
            // An open end stays open.
            ends[j] = (bounds.ends[j] < extent).then(|| moved(bounds.ends[j])).transpose()?;
        }
        if self.version < 10 {
            let filled = |old: &[i64], new: &[Option<i64>]| old.iter().zip(new).map(|(o, n)| n.unwrap_or(*o)).collect();
            new.node_mut(self.node).set_ints("starts", filled(&bounds.starts, &starts));
            new.node_mut(self.node).set_ints("ends", filled(&bounds.ends, &ends));
        } else {
            patch::patch(new, self.coupling, self.node, 1, &bounds.starts, &starts);
            patch::patch(new, self.coupling, self.node, 2, &bounds.ends, &ends);
        }
        Ok(())
    }

    fn indices(&self, new: &mut Model) -> Result<(), String> {
        let node = self.old.node(self.node);
        let shape = self.shape(node.input(0));
        let axis = self.with_call(|c| c.axis("axis", 0, shape.len())).map_err(|e| e.to_string())?;
        let kept = self.kept(node.input(0))?.swap_remove(axis);
        if !kept.loses() {
            return Ok(());
        }
        let Some(v) = node.input(1).filter(|&v| patch::is_constant(self.coupling, v)) else {
            return Err("the positions are computed at run time".to_owned());
        };
        let indices = self.with_call(|c| c.known(1)).map_err(|e| e.to_string())?;
        let extent = kept.extent() as i64;
        let mut moved: Vec<i64> = Vec::new();
        for &i in &indices {
            let i = (if i < 0 { i + extent } else { i }) as usize;
            let (stays, before) = kept.stays(i).zip(kept.before(i)).ok_or_else(rows_differ)?;
            moved.extend(stays.then_some(before as i64));
        }
        if self.shape(Some(v)).len() != 1 && moved.len() != indices.len() {
            return Err("a position that is gathered on its own would be removed".to_owned());
        }
        if self.shape(Some(v)).len() > 1 {
            return Err("the positions form a table".to_owned());
        }
        patch::replace(new, self.node, 1, &moved);
        Ok(())
    }

    fn pad_amounts(&self, new: &mut Model) -> Result<(), String> {
        let node = self.old.node(self.node);
        let before = self.counts(node.input(0))?;
        let after = self.counts(node.output(0))?;
        let (full, padded) = (self.shape(node.input(0)), self.shape(node.output(0)));
        let mut amounts = self.with_call(ops::pad_amounts).map_err(|e| e.to_string())?;
        for axis in 0..full.len() {
            if before[axis] == full[axis] && after[axis] == padded[axis] {
                continue;
            }
            let (front, back) = amounts[axis];
            if (front, back) == (0, 0) {
                continue;
            }
            if node.string("mode").unwrap_or("constant") != "constant" || front < 0 || back < 0 {
                return Err("channels are padded with copies of others, or cut off".to_owned());
            }
            let origin = Origin::Padding { node: self.node, axis, before: front as usize, after: back as usize };
            let Some(atoms) = self.coupling.atoms.get(origin) else { continue };
            let stays: Vec<bool> = atoms.map(|a| !self.removed.contains(&self.coupling.atoms.find(a))).collect();
            let (head, tail) = stays.split_at(front as usize);
            amounts[axis] = (count(head) as i64, count(tail) as i64);
        }
        let axes: Vec<usize> = match node.input(3).filter(|_| self.version >= 18) {
            Some(_) => {
                let named = self.with_call(|c| c.known(3)).map_err(|e| e.to_string())?;
                named.iter().map(|&a| (if a < 0 { a + full.len() as i64 } else { a }) as usize).collect()
            }
            None => (0..full.len()).collect(),
        };
        let pads: Vec<i64> = axes.iter().map(|&a| amounts[a].0).chain(axes.iter().map(|&a| amounts[a].1)).collect();
        if self.version < 11 {
            let name = if node.attribute("pads").is_some() { "pads" } else { "paddings" };
            new.node_mut(self.node).set_ints(name, pads);
            return Ok(());
        }
        let old = self.with_call(|c| c.known(1)).map_err(|e| e.to_string())?;
        let change: Vec<Option<i64>> = pads.iter().zip(&old).map(|(p, o)| (p != o).then_some(*p)).collect();
        patch::patch(new, self.coupling, self.node, 1, &old, &change);
        Ok(())
    }
}

fn rows_differ() -> String {
    "each row keeps channels of its own, and they are picked by position".to_owned()
}

fn count(kept: &[bool]) -> usize {
    kept.iter().filter(|k| **k).count()
}
