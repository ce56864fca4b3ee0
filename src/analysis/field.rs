//! Label fields: which atom each position of a tensor belongs to.
//!
//! A field stores atoms only for the axes along which it varies; along all others it is constant, so that the
//! labels of a convolution's output cost as many entries as it has channels, whatever its extent in space. The fields
//! of one tensor vary along disjoint sets of axes; an axis that none varies along is fixed.

use super::label::Atom;
use crate::ops::step::Step;

/// Atoms over some axes of a tensor, row-major.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The axes it varies along, ascending.
    pub axes: Vec<usize>,
    pub atoms: Vec<Atom>,
}

impl Field {
    /// A field along one axis.
    pub fn along(axis: usize, atoms: Vec<Atom>) -> Self {
        Self { axes: vec![axis], atoms }
    }

    pub fn varies(&self, axis: usize) -> bool {
        self.axes.contains(&axis)
    }

    /// Whether each row along the last of several axes may keep positions of its own, equally many in all: where that
    /// axis has the most positions. In row-major order what a row keeps then stays side by side, whatever is split or
    /// merged; along any other axis it would not.
    pub fn is_ragged(&self, shape: &[usize]) -> bool {
        self.axes
            .split_last()
            .is_some_and(|(&last, rows)| !rows.is_empty() && rows.iter().all(|&a| shape[a] < shape[last]))
    }

    /// The atoms of each row along the last axis.
    pub fn rows(&self, shape: &[usize]) -> Vec<Vec<Atom>> {
        let last = self.axes.last().map_or(1, |&a| shape[a]);
        self.atoms.chunks(last.max(1)).map(<[Atom]>::to_vec).collect()
    }

    /// Extents of its own axes in a tensor of the given shape.
    pub fn extents(&self, shape: &[usize]) -> Vec<usize> {
        self.axes.iter().map(|&a| shape[a]).collect()
    }

    /// The atoms spread over more axes, in row-major order of those.
    pub fn spread(&self, axes: &[usize], shape: &[usize]) -> Vec<Atom> {
        if axes == self.axes {
            return self.atoms.clone();
        }
        let own = crate::ops::array::strides(&self.extents(shape));
        let extents: Vec<usize> = axes.iter().map(|&a| shape[a]).collect();
        let stride: Vec<usize> =
            axes.iter().map(|a| self.axes.iter().position(|b| a == b).map_or(0, |i| own[i])).collect();
        crate::ops::array::strided(&self.atoms, &extents, &stride)
    }

    /// Rows of the atoms with `axis` moved to the front: one list for every position along it.
    pub fn slices(&self, axis: usize, shape: &[usize]) -> Vec<Vec<Atom>> {
        let at = self.axes.iter().position(|&a| a == axis).expect("the field varies along the axis");
        let extents = self.extents(shape);
        let perm: Vec<usize> = std::iter::once(at).chain((0..extents.len()).filter(|&i| i != at)).collect();
        let moved = crate::ops::array::permute(&self.atoms, &extents, &perm);
        moved.chunks(moved.len() / extents[at].max(1)).map(<[Atom]>::to_vec).collect()
    }

    /// The field after one layout step on a tensor of the given shape. `padding` gives the atoms of channels that a
    /// pad adds (before, after).
    pub fn step(
        mut self,
        step: &Step,
        shape: &[usize],
        padding: &mut dyn FnMut(usize, usize, usize) -> Vec<Atom>,
    ) -> Self {
        match step {
            Step::Permute(perm) => {
                let moved: Vec<usize> = perm.iter().copied().filter(|&p| self.varies(p)).collect();
                let order: Vec<usize> =
                    moved.iter().map(|m| self.axes.iter().position(|a| a == m).expect("it varies there")).collect();
                let atoms = crate::ops::array::permute(&self.atoms, &self.extents(shape), &order);
                let axes = (0..perm.len()).filter(|&a| self.varies(perm[a])).collect();
                Self { axes, atoms }
            }
            Step::Take { axis, indices } => {
                if let Some(at) = self.axes.iter().position(|a| a == axis) {
                    self.atoms = crate::ops::array::take(&self.atoms, &self.extents(shape), at, indices);
                }
                self
            }
            Step::Expand(_) => self,
            Step::Pad { axis, before, after } => {
                if let Some(at) = self.axes.iter().position(|a| a == axis) {
                    self.pad(at, shape, &padding(*axis, *before, *after), *before);
                }
                self
            }
            Step::Reshape(to) => self.reshape(shape, to),
        }
    }

    /// How many atoms a step will need.
    pub fn size_after(&self, step: &Step, shape: &[usize]) -> usize {
        let per = |axis: usize| if self.varies(axis) { self.atoms.len() / shape[axis].max(1) } else { 0 };
        let grown = match step {
            Step::Permute(_) | Step::Expand(_) => 0,
            Step::Take { axis, indices } => per(*axis).saturating_mul(indices.len()),
            Step::Pad { axis, before, after } => {
                per(*axis).saturating_mul(before.saturating_add(*after).saturating_add(shape[*axis]))
            }
            Step::Reshape(to) => {
                let varying = matching_axes(shape, to).into_iter().filter(|(a, _)| a.iter().any(|&x| self.varies(x)));
                varying.flat_map(|(a, _)| a).map(|a| shape[a]).fold(1, usize::saturating_mul)
            }
        };
        grown.max(self.atoms.len())
    }

    fn pad(&mut self, at: usize, shape: &[usize], new: &[Atom], before: usize) {
        let extents = self.extents(shape);
        let run: usize = extents[at + 1..].iter().product();
        let outer: usize = extents[..at].iter().product();
        let mut atoms = Vec::with_capacity(self.atoms.len() + outer * new.len() * run);
        for block in self.atoms.chunks(extents[at] * run) {
            atoms.extend(new[..before].iter().flat_map(|&a| std::iter::repeat_n(a, run)));
            atoms.extend_from_slice(block);
            atoms.extend(new[before..].iter().flat_map(|&a| std::iter::repeat_n(a, run)));
        }
        self.atoms = atoms;
    }

    /// A reshape splits into independent groups of axes with equal products; only the groups that the field varies
    /// in are rearranged.
    fn reshape(self, from: &[usize], to: &[usize]) -> Self {
        let mut old = Vec::new();
        let mut new = Vec::new();
        for (a, b) in matching_axes(from, to) {
            if a.iter().any(|&x| self.varies(x)) {
                old.extend(a);
                new.extend(b);
            }
        }
        Self { atoms: self.spread(&old, from), axes: new }.squeezed(to)
    }

    /// Drops axes along which the atoms do not differ.
    pub fn squeezed(mut self, shape: &[usize]) -> Self {
        let mut at = 0;
        while at < self.axes.len() {
            let axis = self.axes[at];
            let slices = self.slices(axis, shape);
            if slices.windows(2).all(|w| w[0] == w[1]) {
                let atoms = slices.into_iter().next().unwrap_or_default();
                self.axes.remove(at);
                self.atoms = atoms;
            } else {
                at += 1;
            }
        }
        self
    }
}

/// Runs of axes of two shapes with equal products, extents of 1 left out.
pub fn matching_axes(from: &[usize], to: &[usize]) -> Vec<(Vec<usize>, Vec<usize>)> {
    let real = |s: &[usize]| (0..s.len()).filter(|&a| s[a] != 1).collect::<Vec<_>>();
    let (old, new) = (real(from), real(to));
    let (mut i, mut j) = (0, 0);
    let mut out = Vec::new();
    while i < old.len() && j < new.len() {
        let (mut a, mut b) = (vec![old[i]], vec![new[j]]);
        let (mut pa, mut pb) = (from[old[i]], to[new[j]]);
        (i, j) = (i + 1, j + 1);
        while pa != pb {
            if pa < pb && i < old.len() {
                pa *= from[old[i]];
                a.push(old[i]);
                i += 1;
            } else if pb < pa && j < new.len() {
                pb *= to[new[j]];
                b.push(new[j]);
                j += 1;
            } else {
                break;
            }
        }
        out.push((a, b));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(field: Field, step: &Step, shape: &[usize]) -> Field {
        field.step(step, shape, &mut |_, before, after| vec![99; before + after])
    }

    #[test]
    fn a_reshape_touches_only_its_own_axes() {
        let f = Field::along(1, vec![1, 2, 3, 4]);
        let split = plain(f, &Step::Reshape(vec![2, 2, 2, 5, 5]), &[2, 4, 5, 5]);
        assert_eq!(split, Field { axes: vec![1, 2], atoms: vec![1, 2, 3, 4] });
    }

    #[test]
    fn channel_shuffle_permutes_the_atoms() {
        let f = Field::along(1, vec![1, 2, 3, 4]);
        let f = plain(f, &Step::Reshape(vec![1, 2, 2, 9]), &[1, 4, 9]);
        let f = plain(f, &Step::Permute(vec![0, 2, 1, 3]), &[1, 2, 2, 9]);
        let f = plain(f, &Step::Reshape(vec![1, 4, 9]), &[1, 2, 2, 9]);
        assert_eq!(f, Field::along(1, vec![1, 3, 2, 4]));
    }

    #[test]
    fn flatten_repeats_each_channel_over_its_positions() {
        let f = plain(Field::along(1, vec![7, 8]), &Step::Reshape(vec![1, 6]), &[1, 2, 3]);
        assert_eq!(f, Field::along(1, vec![7, 7, 7, 8, 8, 8]));
        let back = plain(f, &Step::Reshape(vec![1, 2, 3]), &[1, 6]);
        assert_eq!(back, Field::along(1, vec![7, 8]));
    }

    #[test]
    fn padding_adds_atoms_only_where_the_field_varies() {
        let step = Step::Pad { axis: 1, before: 1, after: 2 };
        assert_eq!(plain(Field::along(1, vec![1, 2]), &step, &[1, 2]), Field::along(1, vec![99, 1, 2, 99, 99]));
        assert_eq!(plain(Field::along(0, vec![1, 2]), &step, &[2, 2]), Field::along(0, vec![1, 2]));
    }
}
