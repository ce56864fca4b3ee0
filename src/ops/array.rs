//! Rearranging dense row-major arrays of any element. The same few kernels move tensor elements (constant folding,
//! shape values) and channel labels (coupling), so that the two cannot disagree about what a layout operator does.

/// Row-major strides, in elements.
pub fn strides(shape: &[usize]) -> Vec<usize> {
    let mut out = vec![1; shape.len()];
    for a in (1..shape.len()).rev() {
        out[a - 1] = out[a] * shape[a];
    }
    out
}

/// Reads `data` through one stride per output axis, in row-major order of `shape`.
pub fn strided<T: Copy>(data: &[T], shape: &[usize], stride: &[usize]) -> Vec<T> {
    let total = shape.iter().product();
    let mut out = Vec::with_capacity(total);
    if total == 0 {
        return out;
    }
    let Some((&run, outer)) = shape.split_last() else { return data[..1].to_vec() };
    let step = stride[shape.len() - 1];
    let mut at = vec![0usize; outer.len()];
    let mut base = 0;
    loop {
        if step == 1 {
            out.extend_from_slice(&data[base..base + run]);
        } else {
            out.extend((0..run).map(|i| data[base + i * step]));
        }
        let mut axis = outer.len();
        loop {
            if axis == 0 {
                return out;
            }
            axis -= 1;
            at[axis] += 1;
            base += stride[axis];
            if at[axis] < shape[axis] {
                break;
            }
            base -= stride[axis] * shape[axis];
            at[axis] = 0;
        }
    }
}

/// Output axis `a` is input axis `perm[a]`.
pub fn permute<T: Copy>(data: &[T], shape: &[usize], perm: &[usize]) -> Vec<T> {
    let from = strides(shape);
    let to: Vec<usize> = perm.iter().map(|&p| shape[p]).collect();
    let stride: Vec<usize> = perm.iter().map(|&p| from[p]).collect();
    strided(data, &to, &stride)
}

/// Repeats axes of extent 1 until `shape` has become `to` (same rank).
pub fn expand<T: Copy>(data: &[T], shape: &[usize], to: &[usize]) -> Vec<T> {
    let stride: Vec<usize> =
        strides(shape).iter().zip(shape).zip(to).map(|((&s, &d), &t)| if d == t { s } else { 0 }).collect();
    strided(data, to, &stride)
}

/// The entries at `indices` along one axis, in that order.
pub fn take<T: Copy>(data: &[T], shape: &[usize], axis: usize, indices: &[usize]) -> Vec<T> {
    let run: usize = shape[axis + 1..].iter().product();
    let block = run * shape[axis];
    let mut out = Vec::with_capacity(if block == 0 { 0 } else { data.len() / shape[axis] * indices.len() });
    for start in (0..data.len()).step_by(block.max(1)) {
        for &i in indices {
            out.extend_from_slice(&data[start + i * run..start + (i + 1) * run]);
        }
    }
    out
}

/// Arrays end to end along one axis; all other extents agree.
pub fn concat<T: Copy>(parts: &[(&[T], usize)], outer: usize, run: usize) -> Vec<T> {
    let mut out = Vec::with_capacity(parts.iter().map(|(d, _)| d.len()).sum());
    for block in 0..outer {
        for (data, extent) in parts {
            out.extend_from_slice(&data[block * extent * run..(block + 1) * extent * run]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permute_is_a_transpose() {
        assert_eq!(permute(&[1, 2, 3, 4, 5, 6], &[2, 3], &[1, 0]), [1, 4, 2, 5, 3, 6]);
        assert_eq!(permute(&[7], &[], &[]), [7]);
    }

    #[test]
    fn expand_repeats_only_axes_of_one() {
        assert_eq!(expand(&[1, 2], &[2, 1], &[2, 3]), [1, 1, 1, 2, 2, 2]);
    }

    #[test]
    fn take_along_a_middle_axis() {
        let data: Vec<usize> = (0..12).collect();
        assert_eq!(take(&data, &[2, 3, 2], 1, &[2, 0]), [4, 5, 0, 1, 10, 11, 6, 7]);
    }

    #[test]
    fn concat_along_a_middle_axis() {
        assert_eq!(
            concat(&[(&[1, 2, 3, 4][..], 1), (&[9, 8, 7, 6, 5, 4, 3, 2][..], 2)], 2, 2),
            [1, 2, 9, 8, 7, 6, 3, 4, 5, 4, 3, 2]
        );
    }
}
