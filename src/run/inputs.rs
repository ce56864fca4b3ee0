//! Inputs to run a model on when there is no data.

use crate::onnx::tensor::{DataType, Tensor, bits_per_element};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

/// A tensor for each of `shapes`: floats as good as N(0, 1), integers 0 or 1, booleans. Each depends on `seed` and the
/// input's own name alone, and is the same on every machine.
pub fn random_inputs(shapes: &[(String, DataType, Vec<usize>)], seed: u64) -> Vec<Tensor> {
    shapes.iter().map(|(name, dtype, shape)| random(name, *dtype, shape, seed)).collect()
}

fn random(name: &str, dtype: DataType, shape: &[usize], seed: u64) -> Tensor {
    let mut rng = generator(name, seed);
    let elements = shape.iter().product::<usize>();
    if matches!(dtype, DataType::Float | DataType::Double | DataType::Float16 | DataType::Bfloat16) {
        let values: Vec<f64> = (0..elements).map(|_| normal(&mut rng)).collect();
        return Tensor::from_f64(dtype, shape, &values).expect("a type of real numbers");
    }
    // Types without a fixed size, which nothing here runs, get booleans.
    let (dtype, bits) = bits_per_element(dtype).map_or((DataType::Bool, 8), |bits| (dtype, bits));
    let mut data = vec![0; (elements * bits).div_ceil(8)];
    data.iter_mut().step_by((bits / 8).max(1)).for_each(|byte| *byte = (rng.next_u32() & 1) as u8);
    Tensor::new(dtype, shape.to_vec(), data.into()).expect("bytes for every element")
}

/// A stream of random numbers for everything of this name.
pub fn generator(name: &str, seed: u64) -> ChaCha8Rng {
    let key = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(name).finalize();
    ChaCha8Rng::from_seed(key.into())
}

/// A number from 0 to 1, without 1.
pub fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    f64::from(rng.next_u32()) / (1u64 << 32) as f64
}

/// The sum of twelve uniform numbers less six: mean 0, variance 1, no value beyond 6. Unlike the exact transforms it
/// needs no logarithm, whose last bit differs between machines.
pub fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let sum: u64 = (0..12).map(|_| u64::from(rng.next_u32())).sum();
    sum as f64 / (1u64 << 32) as f64 - 6.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_types_and_independence_of_order() {
        let shapes = |names: &[(&str, DataType)]| {
            names.iter().map(|&(n, t)| (n.to_owned(), t, vec![40, 50])).collect::<Vec<_>>()
        };
        let all =
            shapes(&[("a", DataType::Float), ("b", DataType::Float16), ("c", DataType::Int64), ("d", DataType::Bool)]);
        let one = random_inputs(&all, 7);
        let values = one[0].to_f64().unwrap();
        let mean = values.iter().sum::<f64>() / 2000.0;
        let variance = values.iter().map(|v| v * v).sum::<f64>() / 2000.0 - mean * mean;
        assert!(mean.abs() < 0.1 && (variance - 1.0).abs() < 0.15, "{mean} {variance}");
        for t in &one[2..] {
            let ones: i64 = t.to_i64().unwrap().iter().inspect(|v| assert!((0..2).contains(*v))).sum();
            assert!((900..1100).contains(&ones), "{ones}");
        }
        assert_eq!(random_inputs(&all[1..2], 7)[0], one[1]);
        assert_ne!(random_inputs(&all[..1], 8)[0], one[0]);
        assert_eq!(one[0].to_f32().unwrap()[..3], random_inputs(&all, 7)[0].to_f32().unwrap()[..3]);
    }
}
