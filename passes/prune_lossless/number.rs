//! Numbers that stand for what the slices of tensors hold.
//!
//! Guarantees: two slices with one number hold the same elements for every input, whatever node made them; a slice
//! whose number is a constant's holds that constant everywhere. Extents of 1 make no difference.
//! How: hash consing. A number is known by what it is made of, so that the same computation of the same things is the
//! same number.

use crate::ir::ValueId;
use crate::onnx::tensor::{DataType, Tensor};
use crate::ops::array;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::HashMap;

/// What a slice holds.
pub(super) type Number = u32;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    /// One real number everywhere, by its bits.
    Constant(u64),
    /// All of a value of which nothing else is known.
    Whole(ValueId),
    /// Stored elements, by their hash.
    Content([u8; 32]),
    /// Computed by a signature from operands, perhaps depending on a place.
    Made { by: u32, of: Vec<Number>, at: Vec<usize> },
    /// A slice of a slice: the place along some of its axes.
    Part { of: Number, axes: Vec<usize>, at: Vec<usize> },
    /// Slices side by side along axes of the given extents.
    Tuple { axes: Vec<usize>, extents: Vec<usize>, of: Vec<Number> },
}

/// The numbers of the slices of one tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Numbers {
    /// The axes that are fixed in a slice, ascending, of more than one position each.
    pub axes: Vec<usize>,
    /// Row-major over these axes.
    pub ids: Vec<Number>,
}

/// All numbers of one model.
#[derive(Debug, Default)]
pub(super) struct Table {
    keys: Vec<Key>,
    known: HashMap<Key, Number>,
    signatures: HashMap<String, u32>,
}

impl Table {
    fn intern(&mut self, key: Key) -> Number {
        if let Some(&n) = self.known.get(&key) {
            return n;
        }
        let n = Number::try_from(self.keys.len()).expect("fewer than 2^32 slices");
        self.keys.push(key.clone());
        self.known.insert(key, n);
        n
    }

    /// How many numbers there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// The number of a constant. What is not finite is no constant that anything could be folded into.
    pub fn constant(&mut self, value: f64) -> Number {
        // The sum makes one zero of both.
        self.intern(Key::Constant((value + 0.0).to_bits()))
    }

    /// The constant that a number stands for.
    pub fn as_constant(&self, number: Number) -> Option<f64> {
        match self.keys[number as usize] {
            Key::Constant(bits) => Some(f64::from_bits(bits)).filter(|x| x.is_finite()),
            _ => None,
        }
    }

    pub fn whole(&mut self, value: ValueId) -> Numbers {
        Numbers { axes: Vec::new(), ids: vec![self.intern(Key::Whole(value))] }
    }

    /// A name for a kind of computation: operator, attributes, shapes.
    pub fn signature(&mut self, text: String) -> u32 {
        let next = self.signatures.len() as u32;
        *self.signatures.entry(text).or_insert(next)
    }

    pub fn made(&mut self, by: u32, of: Vec<Number>, at: Vec<usize>) -> Number {
        self.intern(Key::Made { by, of, at })
    }

    /// The numbers over the given axes instead.
    pub fn over(&mut self, numbers: &Numbers, shape: &[usize], axes: &[usize]) -> Vec<Number> {
        let wanted: Vec<usize> = axes.iter().copied().filter(|&a| shape[a] > 1).collect();
        if wanted == numbers.axes {
            return numbers.ids.clone();
        }
        let kept: Vec<usize> = wanted.iter().copied().filter(|a| numbers.axes.contains(a)).collect();
        let coarse = self.coarsened(numbers, shape, kept);
        self.refined(&coarse, shape, &wanted)
    }

    /// The numbers of thicker slices, which are fixed along `kept` only.
    fn coarsened(&mut self, numbers: &Numbers, shape: &[usize], kept: Vec<usize>) -> Numbers {
        if kept == numbers.axes {
            return numbers.clone();
        }
        let extents: Vec<usize> = numbers.axes.iter().map(|&a| shape[a]).collect();
        let (stay, go): (Vec<usize>, Vec<usize>) = (0..extents.len()).partition(|&i| kept.contains(&numbers.axes[i]));
        let moved = array::permute(&numbers.ids, &extents, &[&stay[..], &go[..]].concat());
        let inner: Vec<usize> = go.iter().map(|&i| extents[i]).collect();
        let axes = ordinals(shape, &kept, &go.iter().map(|&i| numbers.axes[i]).collect::<Vec<_>>());
        let ids = moved.chunks(inner.iter().product()).map(|parts| self.tuple(parts, &axes, &inner)).collect();
        Numbers { axes: kept, ids }
    }

    fn tuple(&mut self, parts: &[Number], axes: &[usize], extents: &[usize]) -> Number {
        let alike = parts.iter().all(|p| *p == parts[0]);
        if alike && matches!(self.keys[parts[0] as usize], Key::Constant(_)) {
            return parts[0];
        }
        // All parts of one slice, each in its place, are that slice.
        if let Key::Part { of, axes: a, .. } = &self.keys[parts[0] as usize]
            && a == axes
        {
            let of = *of;
            let in_place = parts.iter().enumerate().all(|(i, p)| {
                matches!(&self.keys[*p as usize], Key::Part { of: o, axes: a, at }
                    if *o == of && a == axes && *at == place(i, extents))
            });
            if in_place {
                return of;
            }
        }
        self.intern(Key::Tuple { axes: axes.to_vec(), extents: extents.to_vec(), of: parts.to_vec() })
    }

    /// The numbers of thinner slices.
    fn refined(&mut self, numbers: &Numbers, shape: &[usize], wanted: &[usize]) -> Vec<Number> {
        if wanted == numbers.axes {
            return numbers.ids.clone();
        }
        let extents: Vec<usize> = wanted.iter().map(|&a| shape[a]).collect();
        let added: Vec<usize> = wanted.iter().copied().filter(|a| !numbers.axes.contains(a)).collect();
        let axes = ordinals(shape, &numbers.axes, &added);
        let from = spread(&numbers.ids, &numbers.axes, wanted, shape);
        let new: Vec<usize> = (0..wanted.len()).filter(|&i| added.contains(&wanted[i])).collect();
        let at = |i: usize| {
            let place = place(i, &extents);
            new.iter().map(|&j| place[j]).collect::<Vec<usize>>()
        };
        from.into_iter().enumerate().map(|(i, of)| self.part(of, &axes, at(i))).collect()
    }

    fn part(&mut self, of: Number, axes: &[usize], at: Vec<usize>) -> Number {
        match &self.keys[of as usize] {
            Key::Constant(_) => of,
            Key::Tuple { axes: a, extents, of: parts } if a == axes => {
                parts[at.iter().zip(extents).fold(0, |i, (p, d)| i * d + p)]
            }
            _ => self.intern(Key::Part { of, axes: axes.to_vec(), at }),
        }
    }

    /// The numbers of the slices of stored content over some axes.
    pub fn content(&mut self, content: &Reals, shape: &[usize], axes: &[usize]) -> Vec<Number> {
        let count = axes.iter().map(|&a| shape[a]).product();
        let mut first: Vec<Option<f64>> = vec![None; count];
        let mut uniform = vec![true; count];
        each(shape, axes, |slot, i| {
            let x = content.at(i);
            let like = *first[slot].get_or_insert(x);
            uniform[slot] &= x == like;
        });
        let rest: Vec<usize> = (0..shape.len()).filter(|a| !axes.contains(a) && shape[*a] > 1).collect();
        let rest: Vec<usize> = rest.into_iter().map(|a| shape[a]).collect();
        let head = Sha256::new_with_prefix(format!("{rest:?}"));
        let mut hashes: Vec<Option<Sha256>> = uniform.iter().map(|u| (!u).then(|| head.clone())).collect();
        if uniform.contains(&false) {
            each(shape, axes, |slot, i| {
                if let Some(hash) = &mut hashes[slot] {
                    hash.update((content.at(i) + 0.0).to_bits().to_le_bytes());
                }
            });
        }
        let number = |(hash, x): (Option<Sha256>, Option<f64>)| match hash {
            Some(hash) => self.intern(Key::Content(hash.finalize().into())),
            None => self.constant(x.unwrap_or(0.0)),
        };
        hashes.into_iter().zip(first).map(number).collect()
    }
}

/// Numbers spread over more axes, each repeated along those that it does not have.
pub(super) fn spread(ids: &[Number], axes: &[usize], wanted: &[usize], shape: &[usize]) -> Vec<Number> {
    let own = array::strides(&axes.iter().map(|&a| shape[a]).collect::<Vec<_>>());
    let extents: Vec<usize> = wanted.iter().map(|&a| shape[a]).collect();
    let stride: Vec<usize> = wanted.iter().map(|a| axes.iter().position(|b| a == b).map_or(0, |i| own[i])).collect();
    array::strided(ids, &extents, &stride)
}

/// Which of the axes that are not in `fixed` each of `axes` is, extents of 1 not counted.
fn ordinals(shape: &[usize], fixed: &[usize], axes: &[usize]) -> Vec<usize> {
    let free: Vec<usize> = (0..shape.len()).filter(|a| shape[*a] > 1 && !fixed.contains(a)).collect();
    axes.iter().map(|a| free.iter().position(|f| f == a).expect("it is free, and not of extent 1")).collect()
}

/// The coordinates of a row-major index.
pub(super) fn place(mut index: usize, extents: &[usize]) -> Vec<usize> {
    let mut out = vec![0; extents.len()];
    for (p, d) in out.iter_mut().zip(extents).rev() {
        *p = index % d;
        index /= d;
    }
    out
}

/// Every element of a tensor in order, with the index of its slice over `axes`.
pub(super) fn each(shape: &[usize], axes: &[usize], mut f: impl FnMut(usize, usize)) {
    let own = array::strides(&axes.iter().map(|&a| shape[a]).collect::<Vec<_>>());
    let stride: Vec<usize> =
        (0..shape.len()).map(|a| axes.iter().position(|&b| a == b).map_or(0, |i| own[i])).collect();
    // Elements of one slice that lie side by side.
    let inner = stride.iter().rposition(|&s| s != 0).map_or(0, |a| a + 1);
    let run: usize = shape[inner..].iter().product();
    let blocks: usize = shape[..inner].iter().product();
    let mut at = vec![0usize; inner];
    let mut slot = 0;
    for block in 0..blocks {
        for i in block * run..(block + 1) * run {
            f(slot, i);
        }
        for a in (0..inner).rev() {
            at[a] += 1;
            slot += stride[a];
            if at[a] < shape[a] {
                break;
            }
            slot -= stride[a] * shape[a];
            at[a] = 0;
        }
    }
}

/// The elements of a constant, as they are read.
pub(super) enum Reals<'a> {
    Single(Cow<'a, [f32]>),
    Double(Vec<f64>),
}

impl<'a> Reals<'a> {
    /// `None` for elements that 64-bit reals do not hold exactly.
    pub fn of(tensor: &'a Tensor) -> Option<Self> {
        match tensor.dtype() {
            DataType::Float => Some(Self::Single(tensor.to_f32()?)),
            DataType::Int64 | DataType::Uint64 => {
                let exact = tensor.to_i64()?.iter().all(|v| v.unsigned_abs() <= 1 << 53);
                exact.then(|| tensor.to_f64().map(Self::Double))?
            }
            _ => Some(Self::Double(tensor.to_f64()?)),
        }
    }

    pub fn at(&self, i: usize) -> f64 {
        match self {
            Self::Single(values) => f64::from(values[i]),
            Self::Double(values) => values[i],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_of_slices_come_together_again() {
        let mut t = Table::default();
        let by = t.signature("some".into());
        let ids = vec![t.made(by, vec![], vec![0]), t.made(by, vec![], vec![1])];
        let n = Numbers { axes: vec![1], ids };
        let shape = [3, 2, 1, 4];
        let thin = Numbers { axes: vec![0, 1], ids: t.over(&n, &shape, &[0, 1]) };
        assert_eq!(thin.ids.len(), 6);
        assert_eq!(t.over(&thin, &shape, &[1]), n.ids);
        let thick = Numbers { axes: vec![0], ids: t.over(&thin, &shape, &[0]) };
        assert_eq!(t.over(&thick, &shape, &[0, 1]), thin.ids);
    }

    #[test]
    fn content_is_compared_slice_by_slice() {
        let mut t = Table::default();
        let tensor = Tensor::from_f32(&[2, 4], &[1.0, 0.0, 1.0, -0.0, 2.0, 0.0, 2.0, 0.0]);
        let n = t.content(&Reals::of(&tensor).unwrap(), &[2, 4], &[1]);
        assert_eq!((n[0], n[1]), (n[2], n[3]));
        assert_eq!((t.as_constant(n[0]), t.as_constant(n[1])), (None, Some(0.0)));
        // Across axes too: a column of one tensor may be the row of another.
        let other = Tensor::from_f32(&[1, 2], &[1.0, 2.0]);
        assert_eq!(t.content(&Reals::of(&other).unwrap(), &[1, 2], &[]), [n[0]]);
    }
}
