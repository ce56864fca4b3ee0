//! Arrays that are not part of a model: calibration and evaluation data in NumPy's files.

mod npy;
pub mod npz;

pub use npz::{DataError, read, read_named};
