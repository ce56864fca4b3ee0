//! One operator, one row.

use super::{Addend, Call, Effect, Eval, Narrow, Refusal, Row, Zero, addend, contract, layout, map, values};

type Rule = fn(&Call) -> Result<Effect, Refusal>;

const fn row(name: &'static str, rule: Rule) -> Row {
    Row {
        domain: "",
        name,
        since: 1,
        rule,
        eval: Eval::None,
        narrow: Narrow::Nothing,
        zero: Zero::Lost,
        ignores: &[],
        addend: |_| None,
    }
}

impl Row {
    const fn of(self, domain: &'static str) -> Self {
        Self { domain, ..self }
    }

    const fn since(self, since: i64) -> Self {
        Self { since, ..self }
    }

    const fn eval(self, eval: Eval) -> Self {
        Self { eval, ..self }
    }

    const fn narrow(self, narrow: Narrow) -> Self {
        Self { narrow, ..self }
    }

    const fn zero(self, zero: Zero) -> Self {
        Self { zero, ..self }
    }

    const fn ignores(self, ignores: &'static [(usize, usize)]) -> Self {
        Self { ignores, ..self }
    }

    const fn addend(self, addend: fn(&Call) -> Option<Addend>) -> Self {
        Self { addend, ..self }
    }
}

use Eval::{Binary, Compare, Custom, Unary};
use Zero::{AllOperands, Kept};

const fn target(input: usize, attribute: &'static str) -> Narrow {
    Narrow::Target { input, attribute }
}

fn round_half_even(x: f64) -> f64 {
    x.round_ties_even()
}

pub(super) static ROWS: &[Row] = &[
    // Sums of products.
    row("Conv", contract::conv).narrow(Narrow::Group).addend(addend::conv),
    row("ConvTranspose", contract::conv_transpose).narrow(Narrow::Group).addend(addend::conv_transpose),
    row("Einsum", contract::einsum).since(12).addend(addend::product),
    row("Gemm", contract::gemm).since(7).addend(addend::gemm),
    row("GRU", contract::recurrent).since(7),
    row("LSTM", contract::recurrent).since(7),
    row("MatMul", contract::matmul).addend(addend::product),
    row("QLinearConv", contract::quantised_conv).since(10).narrow(Narrow::Group),
    row("RNN", contract::recurrent).since(7),
    // Rearrangements.
    row("Concat", layout::concat),
    row("DepthToSpace", layout::depth_to_space).zero(Kept),
    row("Expand", layout::expand).since(8).narrow(target(1, "")).zero(Kept),
    row("Flatten", layout::flatten).zero(Kept),
    row("Gather", layout::gather).narrow(Narrow::Indices),
    row("Identity", layout::identity).zero(Kept),
    row("Pad", layout::pad).since(2).narrow(Narrow::PadAmounts),
    row("Reshape", layout::reshape).narrow(target(1, "shape")).zero(Kept),
    row("Slice", layout::slice).narrow(Narrow::SliceBounds).zero(Kept),
    row("SpaceToDepth", layout::space_to_depth).zero(Kept),
    row("Split", layout::split).since(2).narrow(Narrow::SplitSizes).zero(Kept),
    row("Squeeze", layout::squeeze).zero(Kept),
    row("Tile", layout::tile).since(6).zero(Kept),
    row("Transpose", layout::transpose).zero(Kept),
    row("Unsqueeze", layout::unsqueeze).zero(Kept),
    // Shapes and small constants.
    row("ConstantOfShape", values::constant_of_shape)
        .since(9)
        .eval(Custom(values::evaluate_fill))
        .narrow(target(0, "")),
    row("Range", values::range).since(11).eval(Custom(values::evaluate_range)),
    row("Shape", values::shape),
    row("Size", values::size),
    // Arithmetic.
    row("Add", map::broadcasting).eval(Binary(i64::checked_add, |a, b| a + b)).zero(AllOperands),
    row("And", map::broadcasting).zero(Kept),
    row("BitShift", map::broadcasting).since(11),
    row("Div", map::broadcasting).eval(Binary(i64::checked_div, |a, b| a / b)).zero(Kept).ignores(&[(0, 1)]),
    row("Equal", map::predicate).eval(Compare(|a, b| a == b)),
    row("Greater", map::predicate).eval(Compare(|a, b| a > b)),
    row("GreaterOrEqual", map::predicate).since(12).eval(Compare(|a, b| a >= b)),
    row("Less", map::predicate).eval(Compare(|a, b| a < b)),
    row("LessOrEqual", map::predicate).since(12).eval(Compare(|a, b| a <= b)),
    row("Max", map::broadcasting).since(8).eval(Binary(|a, b| Some(a.max(b)), values::larger)),
    row("Mean", map::broadcasting).since(8).zero(AllOperands),
    row("Min", map::broadcasting).since(8).eval(Binary(|a, b| Some(a.min(b)), values::smaller)),
    row("Mod", map::broadcasting).since(10).eval(Custom(values::evaluate_mod)),
    row("Mul", map::broadcasting).eval(Binary(i64::checked_mul, |a, b| a * b)).zero(Kept).ignores(&[(0, 1), (1, 0)]),
    row("Or", map::broadcasting),
    row("Pow", map::broadcasting).since(7).eval(Binary(|_, _| None, f64::powf)),
    row("PRelu", map::prelu).zero(Kept).ignores(&[(0, 1)]),
    row("Sub", map::broadcasting).eval(Binary(i64::checked_sub, |a, b| a - b)).zero(AllOperands),
    row("Sum", map::broadcasting).since(8).zero(AllOperands),
    row("Where", map::select).since(9).eval(Custom(values::evaluate_where)),
    row("Xor", map::broadcasting),
    // Functions of one operand.
    row("Abs", map::unary).eval(Unary(f64::abs)).zero(Kept),
    row("Acos", map::unary),
    row("Acosh", map::unary),
    row("Asin", map::unary).zero(Kept),
    row("Asinh", map::unary).zero(Kept),
    row("Atan", map::unary).zero(Kept),
    row("Atanh", map::unary).zero(Kept),
    row("Bernoulli", map::unary).since(15),
    row("Cast", map::cast).since(6).eval(Custom(values::evaluate_cast)).zero(Kept),
    row("CastLike", map::cast).since(15),
    row("Ceil", map::unary).eval(Unary(f64::ceil)).zero(Kept),
    row("Celu", map::unary).since(12).zero(Kept),
    row("Clip", map::unary).eval(Custom(values::evaluate_clip)),
    row("Cos", map::unary),
    row("Cosh", map::unary),
    row("Dropout", map::dropout).zero(Kept),
    row("Elu", map::unary).zero(Kept),
    row("Erf", map::unary).zero(Kept),
    row("Exp", map::unary).eval(Unary(f64::exp)),
    row("Floor", map::unary).eval(Unary(f64::floor)).zero(Kept),
    row("Gelu", map::unary).since(20).zero(Kept),
    row("HardSigmoid", map::unary),
    row("HardSwish", map::unary).since(14).zero(Kept),
    row("IsInf", map::unary).since(10),
    row("IsNaN", map::unary).since(9),
    row("LeakyRelu", map::unary).zero(Kept),
    row("Log", map::unary).eval(Unary(f64::ln)),
    row("Mish", map::unary).since(18).zero(Kept),
    row("Neg", map::unary).eval(Unary(|x| -x)).zero(Kept),
    row("Not", map::unary).eval(Unary(|x| f64::from(u8::from(x == 0.0)))),
    row("Reciprocal", map::unary).eval(Unary(f64::recip)),
    row("Relu", map::unary).eval(Unary(|x| values::larger(x, 0.0))).zero(Kept),
    row("Round", map::unary).since(11).eval(Unary(round_half_even)).zero(Kept),
    row("Selu", map::unary).zero(Kept),
    row("Shrink", map::unary).since(9),
    row("Sigmoid", map::unary),
    row("Sign", map::unary).since(9).eval(Unary(|x| if x == 0.0 { 0.0 } else { x.signum() })).zero(Kept),
    row("Sin", map::unary).zero(Kept),
    row("Sinh", map::unary).zero(Kept),
    row("Softplus", map::unary),
    row("Softsign", map::unary).zero(Kept),
    row("Sqrt", map::unary).eval(Unary(f64::sqrt)).zero(Kept),
    row("Swish", map::unary).since(24).zero(Kept),
    row("Tan", map::unary).zero(Kept),
    row("Tanh", map::unary).eval(Unary(f64::tanh)).zero(Kept),
    row("ThresholdedRelu", map::unary),
    // Normalisation.
    row("BatchNormalization", map::batch_norm).ignores(&[(1, 0)]),
    row("GroupNormalization", map::group_norm).since(18),
    row("Hardmax", map::softmax),
    row("InstanceNormalization", map::instance_norm).since(6).ignores(&[(1, 0)]),
    row("LayerNormalization", map::layer_norm).since(17),
    row("LogSoftmax", map::softmax),
    row("LpNormalization", map::along_axis),
    row("LRN", map::across_channels),
    row("MeanVarianceNormalization", map::mean_variance_norm).since(9),
    row("RMSNormalization", map::layer_norm).since(23),
    row("Softmax", map::softmax),
    // Pools, reductions, resizing.
    row("ArgMax", map::arg_reduce),
    row("ArgMin", map::arg_reduce),
    row("AveragePool", map::pool),
    row("GlobalAveragePool", map::global_pool),
    row("GlobalLpPool", map::global_pool).since(2),
    row("GlobalMaxPool", map::global_pool),
    row("LpPool", map::pool).since(11),
    row("MaxPool", map::pool),
    row("ReduceL1", map::reduce),
    row("ReduceL2", map::reduce),
    row("ReduceLogSum", map::reduce),
    row("ReduceLogSumExp", map::reduce),
    row("ReduceMax", map::reduce),
    row("ReduceMean", map::reduce),
    row("ReduceMin", map::reduce),
    row("ReduceProd", map::reduce).eval(Custom(values::evaluate_reduce_prod)),
    row("ReduceSum", map::reduce),
    row("ReduceSumSquare", map::reduce),
    row("Resize", map::resize).since(10).narrow(target(3, "")),
    row("Upsample", map::resize).since(7),
    // Quantisation.
    row("DequantizeLinear", map::quantize).since(10).eval(Custom(values::evaluate_dequantize)),
    row("QuantizeLinear", map::quantize).since(10),
    row("QLinearAdd", map::quantised_broadcasting).of("com.microsoft"),
    row("QLinearAveragePool", map::quantised_pool).of("com.microsoft"),
    row("QLinearGlobalAveragePool", map::quantised_pool).of("com.microsoft"),
    row("QLinearMul", map::quantised_broadcasting).of("com.microsoft"),
    row("QLinearSigmoid", map::unary).of("com.microsoft"),
    row("QLinearLeakyRelu", map::unary).of("com.microsoft"),
    row("QGemm", contract::quantised_gemm).of("com.microsoft"),
];
