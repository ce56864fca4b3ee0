//! Primitive layout steps: what `Reshape`, `Transpose`, `Slice`, `Split`, `Gather`, `Flatten`, `DepthToSpace` and
//! their kin are made of. An operator that lowers to steps gets its shapes, its constant folding and its channel
//! labels from them.

use super::array;
use crate::onnx::tensor::{DataType, Tensor, bits_per_element};

/// One rearrangement of a tensor's elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Another shape for the same row-major elements.
    Reshape(Vec<usize>),
    /// Output axis `a` is input axis `perm[a]`.
    Permute(Vec<usize>),
    /// The entries at `indices` along `axis`, in that order.
    Take { axis: usize, indices: Vec<usize> },
    /// Repeats axes of extent 1 up to the given shape (same rank).
    Expand(Vec<usize>),
    /// Zeros (or another value that depends on no input) before and after the entries of `axis`.
    Pad { axis: usize, before: usize, after: usize },
}

impl Step {
    /// The shape after this step.
    pub fn shape(&self, from: &[usize]) -> Vec<usize> {
        match self {
            Self::Reshape(to) | Self::Expand(to) => to.clone(),
            Self::Permute(perm) => perm.iter().map(|&p| from[p]).collect(),
            Self::Take { axis, indices } => replaced(from, *axis, indices.len()),
            Self::Pad { axis, before, after } => replaced(from, *axis, before + from[*axis] + after),
        }
    }

    /// The elements after this step; `None` for padding, whose content is not a rearrangement.
    fn apply<T: Copy>(&self, data: Vec<T>, from: &[usize]) -> Option<Vec<T>> {
        Some(match self {
            Self::Reshape(_) => data,
            Self::Permute(perm) => array::permute(&data, from, perm),
            Self::Take { axis, indices } => array::take(&data, from, *axis, indices),
            Self::Expand(to) => array::expand(&data, from, to),
            Self::Pad { .. } => return None,
        })
    }
}

fn replaced(shape: &[usize], axis: usize, extent: usize) -> Vec<usize> {
    let mut out = shape.to_vec();
    out[axis] = extent;
    out
}

/// The shape after all steps.
pub fn shape_after(steps: &[Step], from: &[usize]) -> Vec<usize> {
    steps.iter().fold(from.to_vec(), |shape, step| step.shape(&shape))
}

/// Runs the steps on a tensor. `None` where they pad, or where elements are smaller than a byte.
pub fn apply(steps: &[Step], tensor: &Tensor) -> Option<Tensor> {
    if steps.iter().all(|s| matches!(s, Step::Reshape(_))) {
        return tensor.reshaped(shape_after(steps, tensor.shape()));
    }
    match bits_per_element(tensor.dtype())? {
        8 => apply_words::<1>(steps, tensor),
        16 => apply_words::<2>(steps, tensor),
        32 => apply_words::<4>(steps, tensor),
        64 => apply_words::<8>(steps, tensor),
        128 => apply_words::<16>(steps, tensor),
        _ => None,
    }
}

fn apply_words<const N: usize>(steps: &[Step], tensor: &Tensor) -> Option<Tensor> {
    let (words, _) = tensor.data().as_chunks::<N>();
    let mut data = words.to_vec();
    let mut shape = tensor.shape().to_vec();
    for step in steps {
        data = step.apply(data, &shape)?;
        shape = step.shape(&shape);
    }
    Tensor::new(tensor.dtype(), shape, data.as_flattened().to_vec().into())
}

/// Tensors end to end along `axis`. `None` where types or other extents differ.
pub fn concat(tensors: &[&Tensor], axis: usize) -> Option<Tensor> {
    let first = tensors.first()?;
    let (dtype, rank) = (first.dtype(), first.shape().len());
    let bytes = bits_per_element(dtype).filter(|b| b % 8 == 0)? / 8;
    let fits = |t: &&Tensor| {
        t.dtype() == dtype
            && t.shape().len() == rank
            && (0..rank).all(|a| a == axis || t.shape()[a] == first.shape()[a])
    };
    if axis >= rank || !tensors.iter().all(fits) {
        return None;
    }
    let outer = first.shape()[..axis].iter().product();
    let run: usize = first.shape()[axis + 1..].iter().product();
    let parts: Vec<(&[u8], usize)> = tensors.iter().map(|t| (&t.data()[..], t.shape()[axis])).collect();
    let data = array::concat(&parts, outer, run * bytes);
    Tensor::new(dtype, replaced(first.shape(), axis, tensors.iter().map(|t| t.shape()[axis]).sum()), data.into())
}

/// A tensor of one repeated element.
pub fn filled(shape: &[usize], element: &Tensor) -> Option<Tensor> {
    let bytes = bits_per_element(element.dtype()).filter(|b| b % 8 == 0)? / 8;
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
    count.checked_mul(bytes)?;
    Tensor::new(element.dtype(), shape.to_vec(), element.data().get(..bytes)?.repeat(count).into())
}

/// Element types whose zero is all bits zero: every number.
pub fn zero(dtype: DataType) -> Option<Tensor> {
    let bytes = bits_per_element(dtype).filter(|b| b % 8 == 0)? / 8;
    Tensor::new(dtype, vec![], vec![0; bytes].into())
}
