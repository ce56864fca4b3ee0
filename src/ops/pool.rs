//! Windows over positions: pools, resizing, sampling at given places. Batch and channels pass.

use super::call::{Action, Call, Contraction, Effect, Fact, Kind, Operand, Refusal, View, axis_at};
use crate::onnx::tensor::DataType;

/// Pools over windows: positions are mixed, batch and channels pass.
pub(super) fn pool(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape_of_rank(0, 3)?;
    let kernel = kernel(call)?;
    let positions = windows(call, &x[2..], &kernel, call.int("ceil_mode", 0) != 0)?;
    let shape = [&x[..2], &positions].concat();
    let operand = Operand::whole(0, x.len()).mixing(|a| a > 1);
    let mut effect = Effect::map(call, shape, vec![operand]);
    if call.output_count() > 1 {
        let indices = Fact { dtype: Some(DataType::Int64), ..effect.outputs[0].clone() };
        effect.outputs.push(indices);
    }
    Ok(effect)
}

pub(super) fn global_pool(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape_of_rank(0, 2)?;
    let shape = [&x[..2], &vec![1; x.len() - 2][..]].concat();
    Ok(Effect::map(call, shape, vec![Operand::whole(0, x.len()).mixing(|a| a > 1)]))
}

/// Number of window positions along every spatial axis, from strides, pads, dilations and `auto_pad`.
pub(super) fn windows(call: &Call, extents: &[usize], kernel: &[usize], ceil: bool) -> Result<Vec<usize>, Refusal> {
    let n = extents.len();
    if kernel.len() != n {
        return Err(Refusal::Invalid(format!("a kernel of {} axes over {n} axes", kernel.len())));
    }
    let (strides, dilations) = (call.list("strides", 1, n)?, call.list("dilations", 1, n)?);
    let pads = call.list("pads", 0, 2 * n)?;
    let auto = call.node.string("auto_pad").unwrap_or("NOTSET");
    (0..n)
        .map(|i| {
            // Attributes are any 64-bit numbers; sums and products of three of them fit 128 bits.
            let (s, d, x) = (i128::from(strides[i]), i128::from(dilations[i]), extents[i] as i128);
            if s <= 0 || d <= 0 {
                return Err(Refusal::Invalid(format!("stride {s} and dilation {d} on axis {i}")));
            }
            let reach = (kernel[i] as i128 - 1) * d + 1;
            let out = match auto {
                "SAME_UPPER" | "SAME_LOWER" => (x + s - 1) / s,
                _ => {
                    let (before, after) = if auto == "VALID" { (0, 0) } else { (pads[i], pads[n + i]) };
                    let (before, after) = (i128::from(before), i128::from(after));
                    let room = x + before + after - reach;
                    if room < 0 {
                        return Err(Refusal::Invalid(format!("a window of {reach} over an extent of {x} on axis {i}")));
                    }
                    let floor = room / s + 1;
                    // A last window that starts inside the padding at the end is not counted.
                    if ceil && room % s != 0 && floor * s < x + before { floor + 1 } else { floor }
                }
            };
            usize::try_from(out).map_err(|_| Refusal::Invalid(format!("{out} windows on axis {i}")))
        })
        .collect()
}

/// `Resize`: axes that change their extent are mixed.
pub(super) fn resize(call: &Call) -> Result<Effect, Refusal> {
    scaled(call, resized(call, true)?)
}

/// `Upsample`, which names two axes before version 7 and scales all of them since.
pub(super) fn upsample(call: &Call) -> Result<Effect, Refusal> {
    if call.version >= 7 {
        return scaled(call, resized(call, false)?);
    }
    let &[n, c, h, w] = call.shape(0)? else { return Err(Refusal::Invalid("four axes are needed".into())) };
    let (by_h, by_w) = (call.node.float("height_scale"), call.node.float("width_scale"));
    let (Some(by_h), Some(by_w)) = (by_h, by_w) else { return Err(Refusal::Invalid("no scales".into())) };
    let grown = |d: usize, by: f32| (d as f64 * f64::from(by)).floor() as usize;
    scaled(call, vec![n, c, grown(h, by_h), grown(w, by_w)])
}

fn scaled(call: &Call, to: Vec<usize>) -> Result<Effect, Refusal> {
    let x = call.shape(0)?;
    let operand = Operand::whole(0, x.len()).mixing(|a| to[a] != x[a]);
    Ok(Effect::map(call, to, vec![operand]))
}

fn resized(call: &Call, is_resize: bool) -> Result<Vec<usize>, Refusal> {
    let x = call.shape(0)?;
    let floats = |i: usize| call.fact(i).and_then(|f| f.value.as_ref()).and_then(|t| t.to_f64());
    let (scales_at, sizes_at) = if is_resize && call.version >= 11 { (2, Some(3)) } else { (1, None) };
    let axes: Vec<usize> = match call.node.ints("axes").filter(|_| is_resize && call.version >= 18) {
        Some(axes) => axes.iter().map(|&a| axis_at(a, x.len())).collect::<Result<_, _>>()?,
        None => (0..x.len()).collect(),
    };
    if call.node.string("coordinate_transformation_mode") == Some("tf_crop_and_resize") {
        return Err(Refusal::Unknown("coordinate_transformation_mode tf_crop_and_resize".into()));
    }
    if call.node.string("keep_aspect_ratio_policy").is_some_and(|p| p != "stretch") {
        return Err(Refusal::Unknown("keep_aspect_ratio_policy".into()));
    }
    let mut to = x.to_vec();
    if let Some(i) = sizes_at.filter(|&i| call.has(i)) {
        let sizes = call.known(i)?;
        if sizes.is_empty() {
            // Left out in the way of version 11, where the scales count.
            return by_scales(call, &axes, floats(scales_at));
        }
        if sizes.len() != axes.len() || sizes.iter().any(|&s| s < 0) {
            return Err(Refusal::Invalid(format!("sizes {sizes:?} for {} axes", axes.len())));
        }
        axes.iter().zip(sizes).for_each(|(&a, s)| to[a] = s as usize);
        return Ok(to);
    }
    by_scales(call, &axes, floats(scales_at))
}

fn by_scales(call: &Call, axes: &[usize], input: Option<Vec<f64>>) -> Result<Vec<usize>, Refusal> {
    let x = call.shape(0)?;
    let scales = match call.node.attribute("scales") {
        Some(a) => a.floats.iter().map(|&s| f64::from(s)).collect(),
        None => input.ok_or_else(|| Refusal::Dynamic("the scales are not known".into()))?,
    };
    let mut to = x.to_vec();
    if scales.len() != axes.len() || !scales.iter().all(|s| s.is_finite() && *s > 0.0) {
        return Err(Refusal::Invalid(format!("scales {scales:?} for {} axes", axes.len())));
    }
    axes.iter().zip(scales).for_each(|(&a, s)| to[a] = (x[a] as f64 * s).floor() as usize);
    Ok(to)
}

/// `NhwcMaxPool` of com.microsoft: the channels are the last axis.
pub(super) fn nhwc_max_pool(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape_of_rank(0, 3)?;
    let last = x.len() - 1;
    let kernel = kernel(call)?;
    let positions = windows(call, &x[1..last], &kernel, call.int("ceil_mode", 0) != 0)?;
    let shape = [&x[..1], &positions, &x[last..]].concat();
    let operand = Operand::whole(0, x.len()).mixing(|a| a != 0 && a != last);
    Ok(Effect::map(call, shape, vec![operand]))
}

fn kernel(call: &Call) -> Result<Vec<usize>, Refusal> {
    let kernel = call.node.ints("kernel_shape").ok_or_else(|| Refusal::Invalid("no kernel_shape".into()))?;
    let kernel = kernel.iter().map(|&k| usize::try_from(k)).collect::<Result<Vec<_>, _>>();
    kernel.map_err(|_| Refusal::Invalid("a negative kernel extent".into()))
}

/// `MaxUnpool`: the indices count positions over all channels.
pub(super) fn max_unpool(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape_of_rank(0, 3)?;
    let n = x.len() - 2;
    let kernel = kernel(call)?;
    let (strides, pads) = (call.list("strides", 1, n)?, call.list("pads", 0, 2 * n)?);
    let shape = if call.has(2) {
        call.known(2)?.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<Vec<_>>>()
    } else {
        let positions = (0..n).map(|i| {
            let wide = |v: i64| i128::from(v);
            let reach = (x[2 + i] as i128 - 1) * wide(strides[i]) + *kernel.get(i)? as i128;
            usize::try_from(reach - wide(pads[i]) - wide(pads[n + i])).ok()
        });
        positions.collect::<Option<Vec<_>>>().map(|p| [&x[..2], &p].concat())
    };
    let shape = shape.ok_or_else(|| Refusal::Invalid("an output extent is negative".into()))?;
    let why = "its indices count positions over all channels";
    Ok(Effect::one(Fact::new(call.dtype(0), shape), Action::Opaque(why.into())))
}

/// One result of the given extents for each region in input 1.
fn regions(call: &Call, extents: [Option<usize>; 2]) -> Result<Effect, Refusal> {
    let x = call.shape(0)?;
    let rois = call.shape_of_rank(1, 2)?;
    let ([Some(h), Some(w)], &[_, c, _, _]) = (extents, x) else {
        return Err(Refusal::Invalid(format!("four axes and an output size are needed, not {x:?} and {extents:?}")));
    };
    let operand = Operand::over(0, vec![None, Some(1), None, None]);
    Ok(Effect::map(call, vec![rois[0], c, h, w], vec![operand]))
}

pub(super) fn roi_align(call: &Call) -> Result<Effect, Refusal> {
    let extent = |name: &str| usize::try_from(call.int(name, 1)).ok();
    regions(call, [extent("output_height"), extent("output_width")])
}

pub(super) fn max_roi_pool(call: &Call) -> Result<Effect, Refusal> {
    let pooled = call.node.ints("pooled_shape").unwrap_or_default();
    let extent = |i: usize| usize::try_from(*pooled.get(i)?).ok();
    regions(call, [extent(0), extent(1)])
}

/// `CropAndResize` of com.microsoft: the size is an input.
pub(super) fn crop_and_resize(call: &Call) -> Result<Effect, Refusal> {
    let size = call.known(3)?;
    let extent = |i: usize| usize::try_from(*size.get(i)?).ok();
    regions(call, [extent(0), extent(1)])
}

/// `GridSample`: `[n, c, ..]` at the places `[n, .., r]` becomes `[n, c, ..]`.
pub(super) fn grid_sample(call: &Call) -> Result<Effect, Refusal> {
    let (x, grid) = (call.shape_of_rank(0, 3)?, call.shape(1)?);
    if grid.len() != x.len() || grid[0] != x[0] || grid[grid.len() - 1] != x.len() - 2 {
        return Err(Refusal::Invalid(format!("the grid {grid:?} does not fit the input {x:?}")));
    }
    let shape = [&x[..2], &grid[1..grid.len() - 1]].concat();
    Ok(Effect::map(call, shape, vec![Operand::whole(0, x.len()).mixing(|a| a > 1)]))
}

/// `AffineGrid`: places for each sample of a batch; no channel is among its axes.
pub(super) fn affine_grid(call: &Call) -> Result<Effect, Refusal> {
    let theta = call.shape_of_rank(0, 3)?;
    let size = call.known(1)?.iter().map(|&d| usize::try_from(d)).collect::<Result<Vec<_>, _>>();
    let size = size.map_err(|_| Refusal::Invalid("a negative extent".into()))?;
    if size.len() < 4 || size[0] != theta[0] {
        return Err(Refusal::Invalid(format!("the size {size:?} does not fit theta {theta:?}")));
    }
    let shape = [&size[..1], &size[2..], &[size.len() - 2]].concat();
    let operand = Operand::over(0, vec![Some(0), None, None]);
    Ok(Effect::map(call, shape, vec![operand]))
}

/// `Col2Im`: `[n, c * block, l]` becomes `[n, c, image..]`; what lies in one block is summed.
pub(super) fn col2im(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape(0)?;
    let (image, block) = (call.known(1)?, call.known(2)?);
    let extents = |v: &[i64]| v.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<Vec<_>>>();
    let bad = || Refusal::Invalid(format!("blocks {block:?} of an image {image:?} from {x:?}"));
    let (image, size) = (extents(&image).ok_or_else(bad)?, extents(&block).ok_or_else(bad)?);
    let size = size.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&b| b > 0).ok_or_else(bad)?;
    let &[n, columns, l] = x else { return Err(bad()) };
    if columns % size != 0 {
        return Err(bad());
    }
    let c = columns / size;
    let shape = [&[n, c], &image[..]].concat();
    let places = (0..image.len()).map(|i| char::from_u32(0x300 + i as u32).unwrap_or('\u{300}'));
    let contraction = Contraction {
        operands: vec![View { input: 0, shape: vec![n, c, size, l], letters: vec!['n', 'c', '\u{100}', '\u{101}'] }],
        output: View { input: 0, shape: shape.clone(), letters: ['n', 'c'].into_iter().chain(places).collect() },
        also: Vec::new(),
        fold: Vec::new(),
        groups: None,
        windows: None,
        macs: 0,
        kind: Kind::Dense,
    };
    Ok(Effect::one(Fact::new(call.dtype(0), shape), Action::Contract(contraction)))
}

/// `Crop` of the first versions: `border` is left, top, right, bottom.
pub(super) fn crop(call: &Call) -> Result<Effect, Refusal> {
    let &[n, c, h, w] = call.shape(0)? else { return Err(Refusal::Invalid("four axes are needed".into())) };
    let border = call.list("border", 0, 4)?;
    let scale = call.node.ints("scale").map(<[i64]>::to_vec);
    let extent = |d: usize, stated: Option<i64>, before: i64, after: i64| {
        let rest = (d as i64).checked_sub(before)?.checked_sub(after)?;
        usize::try_from(stated.unwrap_or(rest)).ok()
    };
    let stated = |i: usize| scale.as_ref().and_then(|s| s.get(i).copied());
    let to = extent(h, stated(0), border[1], border[3]).zip(extent(w, stated(1), border[0], border[2]));
    let (to_h, to_w) = to.ok_or_else(|| Refusal::Invalid("an output extent is negative".into()))?;
    Ok(Effect::map(call, vec![n, c, to_h, to_w], vec![Operand::whole(0, 4).mixing(|a| a > 1)]))
}
