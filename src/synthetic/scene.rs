//! Scenes of overlapping leaves.
//!
//! What cameras and microphones record has edges between regions that differ little in themselves, at all scales. The
//! dead leaves model (Matheron; Lee, Mumford and Huang, "Occlusion models for natural images", 2001) has the same
//! statistics and needs no data: shapes whose sizes follow a power law are laid over each other. Networks that learn
//! from such pictures learn much of what they learn from photographs (Baradad and others, "Learning to see by looking
//! at noise", 2021). Short axes (colours) are mixed rather than drawn over; the same is done along one axis (sound) and
//! along three (video, volumes).
//!
//! Guarantees: a scene depends on its shape and on the state of the generator alone, and is the same on every machine:
//! no function is used whose last bit differs between machines.

use crate::run::{normal, uniform};
use rand_chacha::ChaCha8Rng;

/// Axes of no more positions hold kinds (colours), not places.
const SHORT: usize = 4;
/// How much of the variance along short axes is common to all their positions.
const COMMON: f64 = 0.8;
/// The most leaves in a scene, and their radii relative to the extent of an axis.
const MOST_LEAVES: f64 = 100.0;
const RADII: (f64, f64) = (0.03, 0.6);
/// How strong the texture within a leaf is at most, relative to the spread of colours.
const TEXTURE: f64 = 0.25;
/// By how much each octave of the background is stronger than the finer one before it.
const COARSER: f64 = 1.8;

/// The axes of one input, without that of the batch.
struct Space {
    shape: Vec<usize>,
    /// Extent and stride of each long axis, and how many short positions there are, one block of each.
    long: Vec<(usize, usize)>,
    kinds: Vec<usize>,
}

impl Space {
    fn new(shape: &[usize]) -> Self {
        let (mut long, mut kinds, mut stride) = (Vec::new(), vec![0], 1);
        for &extent in shape.iter().rev() {
            match extent > SHORT {
                true => long.push((extent, stride)),
                false => kinds = (0..extent).flat_map(|i| kinds.iter().map(move |k| k + i * stride)).collect(),
            }
            stride *= extent;
        }
        long.reverse();
        Self { shape: shape.to_vec(), long, kinds }
    }

    fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// A number for each kind, much alike.
    fn colour(&self, rng: &mut ChaCha8Rng) -> Vec<f32> {
        let common = normal(rng) * COMMON.sqrt();
        self.kinds.iter().map(|_| (common + normal(rng) * (1.0 - COMMON).sqrt()) as f32).collect()
    }

    /// Calls `at` with the offset of every place in a box.
    fn visit(&self, bounds: &[(usize, usize)], at: &mut dyn FnMut(usize, &[usize])) {
        let mut place: Vec<usize> = bounds.iter().map(|b| b.0).collect();
        if bounds.iter().any(|b| b.0 >= b.1) {
            return;
        }
        loop {
            at(place.iter().zip(&self.long).map(|(p, (_, stride))| p * stride).sum(), &place);
            let Some(axis) = (0..place.len()).rev().find(|&a| place[a] + 1 < bounds[a].1) else { return };
            place[axis] += 1;
            (axis + 1..place.len()).for_each(|a| place[a] = bounds[a].0);
        }
    }
}

/// One scene of this shape: mean about 0, spread about 1.
pub(super) fn scene(shape: &[usize], rng: &mut ChaCha8Rng) -> Vec<f32> {
    let space = Space::new(shape);
    if space.long.is_empty() {
        return (0..space.elements()).map(|_| normal(rng) as f32).collect();
    }
    let texture = clouds(&space, rng);
    let mut scene = clouds(&space, rng);
    let leaves = 1 + (uniform(rng) * MOST_LEAVES) as usize;
    for _ in 0..leaves {
        leaf(&space, &texture, &mut scene, rng);
    }
    scene
}

/// Lays a leaf, an ellipsoid or a box, over the scene.
fn leaf(space: &Space, texture: &[f32], scene: &mut [f32], rng: &mut ChaCha8Rng) {
    // The number of leaves of at least a radius falls with its square.
    let (least, most) = (1.0 / (RADII.1 * RADII.1), 1.0 / (RADII.0 * RADII.0));
    let radius = 1.0 / (least + (most - least) * uniform(rng)).sqrt();
    let round = uniform(rng) < 0.5;
    let axes: Vec<(f64, f64)> = space
        .long
        .iter()
        .map(|&(extent, _)| {
            let stretched = radius * (0.7 + 0.7 * uniform(rng)) * extent as f64;
            (uniform(rng) * extent as f64, stretched.max(0.7))
        })
        .collect();
    let colour = space.colour(rng);
    let strength = (TEXTURE * normal(rng)) as f32;
    let bounds: Vec<(usize, usize)> = axes
        .iter()
        .zip(&space.long)
        .map(|(&(centre, radius), &(extent, _))| {
            ((centre - radius).ceil().max(0.0) as usize, ((centre + radius).floor() as usize + 1).min(extent))
        })
        .collect();
    space.visit(&bounds, &mut |offset, place| {
        let distance = |(&p, &(centre, radius)): (&usize, &(f64, f64))| ((p as f64 - centre) / radius).powi(2);
        if !round || place.iter().zip(&axes).map(distance).sum::<f64>() < 1.0 {
            for (kind, colour) in space.kinds.iter().zip(&colour) {
                scene[offset + kind] = colour + strength * texture[offset + kind];
            }
        }
    });
}

/// Smooth noise of all octaves, the coarser the stronger, with unit spread.
fn clouds(space: &Space, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let mut out = vec![0f32; space.elements()];
    let longest = space.long.iter().map(|l| l.0).max().unwrap_or(1);
    let all: Vec<(usize, usize)> = space.long.iter().map(|l| (0, l.0)).collect();
    let (mut cell, mut strength) = (1, 1.0f32);
    while cell <= longest {
        let grid: Vec<usize> = space.long.iter().map(|l| l.0.div_ceil(cell) + 1).collect();
        let knots: Vec<Vec<f32>> = (0..grid.iter().product()).map(|_| space.colour(rng)).collect();
        space.visit(&all, &mut |offset, place| {
            // Linear between the corners of the cell: each corner counts by how near it is.
            for corner in 0..1usize << place.len() {
                let (mut knot, mut weight) = (0, strength);
                for (axis, &p) in place.iter().enumerate() {
                    let (low, part) = (p / cell, (p % cell) as f32 / cell as f32);
                    let up = corner >> axis & 1;
                    knot = knot * grid[axis] + low + up;
                    weight *= if up == 1 { part } else { 1.0 - part };
                }
                if weight > 0.0 {
                    for (kind, value) in space.kinds.iter().zip(&knots[knot]) {
                        out[offset + kind] += weight * value;
                    }
                }
            }
        });
        cell *= 2;
        strength *= COARSER as f32;
    }
    let spread = (out.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / out.len().max(1) as f64).sqrt();
    if spread > 0.0 {
        out.iter_mut().for_each(|v| *v /= spread as f32);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::SeedableRng;

    fn one(shape: &[usize]) -> Vec<f32> {
        scene(shape, &mut ChaCha8Rng::seed_from_u64(3))
    }

    /// Mean square of the differences along an axis of `[outer][extent][inner]`, relative to twice the variance.
    fn roughness(values: &[f32], extent: usize, inner: usize) -> f64 {
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let variance = values.iter().map(|v| f64::from(v - mean).powi(2)).sum::<f64>() / values.len() as f64;
        let (mut sum, mut count) = (0.0, 0);
        for (i, v) in values.iter().enumerate().filter(|(i, _)| i / inner % extent + 1 < extent) {
            sum += f64::from(values[i + inner] - v).powi(2);
            count += 1;
        }
        sum / f64::from(count) / (2.0 * variance)
    }

    #[test]
    fn neighbours_are_alike_and_so_are_colours_wherever_the_axes_are() {
        let (nchw, nhwc) = (one(&[3, 32, 40]), one(&[32, 40, 3]));
        for (scene, along) in [(&nchw, [(40, 1), (32, 40), (3, 32 * 40)]), (&nhwc, [(40, 3), (32, 120), (3, 1)])] {
            assert!(scene.iter().all(|v| v.is_finite()));
            for (extent, inner) in along {
                let roughness = roughness(scene, extent, inner);
                assert!((0.01..0.6).contains(&roughness), "{extent} {inner}: {roughness}");
            }
        }
    }

    #[test]
    fn any_number_of_axes_makes_a_scene() {
        for shape in [&[][..], &[3], &[200], &[1, 500], &[2, 6, 7, 8], &[49, 10, 1], &[5, 5, 5, 5, 5]] {
            let scene = one(shape);
            assert_eq!(scene.len(), shape.iter().product::<usize>());
            assert!(scene.iter().all(|v| v.is_finite()));
            if scene.len() < 100 {
                continue;
            }
            let square = scene.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / scene.len() as f64;
            assert!((0.01..20.0).contains(&square), "{shape:?}: {square}");
        }
        assert_eq!(one(&[9, 9]), one(&[9, 9]));
        assert_ne!(one(&[9, 9]), scene(&[9, 9], &mut ChaCha8Rng::seed_from_u64(4)));
    }
}
