//! One operator, one row.

use super::{Addend, Average, Call, Effect, Eval, Extents, Kind, Narrow, Places, Refusal, Row, Zero};
use super::{
    addend, affine, contract, gather, layout, map, normalise, pool, quantised, random, reduction, signal, values,
};

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
        layer: None,
        places: Places::First,
        extents: Extents::ByAction,
        zero_points: &[],
        average: Average::None,
        statistics: 0..0,
        random: false,
        of_scores: false,
        like: None,
        ignores: &[],
        addend: |_| None,
        affine: affine::none,
    }
}

/// An operator of onnxruntime.
const fn fused(name: &'static str, rule: Rule) -> Row {
    Row { domain: "com.microsoft", ..row(name, rule) }
}

impl Row {
    const fn like(self, version: i64) -> Self {
        Self { like: Some(version), ..self }
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

    const fn layer(self, layer: Kind) -> Self {
        Self { layer: Some(layer), ..self }
    }

    const fn places(self, places: Places) -> Self {
        Self { places, ..self }
    }

    const fn extents(self, extents: Extents) -> Self {
        Self { extents, ..self }
    }

    const fn zero_points(self, zero_points: &'static [(usize, usize)]) -> Self {
        Self { zero_points, ..self }
    }

    const fn average(self, average: Average) -> Self {
        Self { average, ..self }
    }

    const fn statistics(self, statistics: std::ops::Range<usize>) -> Self {
        Self { statistics, ..self }
    }

    const fn random(self) -> Self {
        Self { random: true, ..self }
    }

    const fn ignores(self, ignores: &'static [(usize, usize)]) -> Self {
        Self { ignores, ..self }
    }

    const fn of_scores(self) -> Self {
        Self { of_scores: true, ..self }
    }

    const fn affine(self, affine: fn(&Call, usize, affine::Constants) -> Option<affine::Affine>) -> Self {
        Self { affine, ..self }
    }

    const fn addend(self, addend: fn(&Call) -> Option<Addend>) -> Self {
        Self { addend, ..self }
    }
}

use Eval::{Binary, Compare, Custom, Unary};
use Zero::{AllOperands, AnyOperand, Kept, Parts};

const fn target(input: usize, attribute: &'static str) -> Narrow {
    Narrow::Target { input, attribute }
}

fn round_half_even(x: f64) -> f64 {
    x.round_ties_even()
}

pub(super) static ROWS: &[Row] = &[
    // Sums of products.
    row("Attention", signal::attention).since(23),
    row("CausalConvWithState", signal::causal_conv).since(27).places(Places::All),
    row("Col2Im", pool::col2im).since(18),
    row("Conv", contract::conv)
        .narrow(Narrow::Group)
        .layer(Kind::Conv)
        .extents(Extents::Conv)
        .zero(AllOperands)
        .addend(addend::conv),
    row("ConvTranspose", contract::conv_transpose)
        .narrow(Narrow::Group)
        .layer(Kind::Conv)
        .extents(Extents::Conv)
        .zero(AllOperands)
        .addend(addend::conv_transpose),
    row("DeformConv", contract::deform_conv)
        .since(19)
        .narrow(Narrow::Group)
        .layer(Kind::Conv)
        .extents(Extents::Conv)
        .zero(AllOperands),
    row("Einsum", contract::einsum).since(12).layer(Kind::Dense).zero(AllOperands).addend(addend::product),
    row("Gemm", contract::gemm).layer(Kind::Dense).extents(Extents::Gemm).zero(AllOperands).addend(addend::gemm),
    row("GRU", contract::recurrent).layer(Kind::Recurrent),
    row("LSTM", contract::recurrent).layer(Kind::Recurrent),
    row("MatMul", contract::matmul)
        .layer(Kind::Dense)
        .extents(Extents::MatMul)
        .zero(AllOperands)
        .addend(addend::product),
    row("RNN", contract::recurrent).layer(Kind::Recurrent),
    // Elements at given positions.
    row("Compress", gather::compress).since(9).zero(Kept),
    row("GatherElements", gather::gather_elements).since(11),
    row("GatherND", gather::gather_nd).since(11),
    row("OneHot", gather::one_hot).since(9),
    row("Scatter", gather::scatter_elements).since(9),
    row("ScatterElements", gather::scatter_elements).since(11),
    row("ScatterND", gather::scatter_nd).since(11),
    row("TensorScatter", gather::tensor_scatter).since(24),
    row("TopK", gather::top_k).places(Places::All),
    // Along an axis, or over matrices.
    row("BlackmanWindow", signal::window).since(17),
    row("CenterCropPad", signal::center_crop_pad).since(18).zero(Kept),
    row("CumProd", signal::cumulative).since(26),
    row("CumSum", signal::cumulative).since(11).zero(Kept),
    row("Det", signal::determinant).since(11),
    row("DFT", signal::dft).since(17).zero(Kept),
    row("EyeLike", signal::eye_like).since(9),
    row("HammingWindow", signal::window).since(17),
    row("HannWindow", signal::window).since(17),
    row("MelWeightMatrix", signal::mel_weights).since(17),
    row("ReverseSequence", signal::reverse_sequence).since(10).zero(Kept),
    row("RotaryEmbedding", signal::rotary).since(23).zero(Kept),
    row("STFT", signal::stft).since(17).zero(Kept),
    row("Trilu", signal::matrices).since(14).zero(Kept),
    // Rearrangements.
    row("Concat", layout::concat).zero(Parts),
    row("DepthToSpace", layout::depth_to_space).zero(Kept),
    row("Expand", layout::expand).since(8).narrow(target(1, "")).zero(Kept),
    row("Flatten", layout::flatten).zero(Kept).extents(Extents::Flatten),
    row("Gather", gather::gather).narrow(Narrow::Indices).zero(Kept).extents(Extents::Gather),
    row("Identity", layout::identity).zero(Kept).affine(affine::identity),
    row("Pad", layout::pad).narrow(Narrow::PadAmounts),
    row("Reshape", layout::reshape).narrow(target(1, "shape")).zero(Kept).extents(Extents::Target),
    row("Slice", layout::slice).narrow(Narrow::SliceBounds).zero(Kept),
    row("SpaceToDepth", layout::space_to_depth).zero(Kept),
    row("Split", layout::split).narrow(Narrow::SplitSizes).zero(Kept),
    row("Squeeze", layout::squeeze).zero(Kept).extents(Extents::Squeeze),
    row("Tile", layout::tile).zero(Kept),
    row("Transpose", layout::transpose).zero(Kept),
    row("Unsqueeze", layout::unsqueeze).zero(Kept).extents(Extents::Unsqueeze),
    // Shapes and small constants.
    row("ConstantOfShape", values::constant_of_shape)
        .since(9)
        .eval(Custom(values::evaluate_fill))
        .narrow(target(0, "")),
    row("Range", values::range).since(11).eval(Custom(values::evaluate_range)),
    row("Shape", values::shape).extents(Extents::Shape),
    row("Size", values::size).extents(Extents::Size),
    // Random numbers.
    row("Bernoulli", random::like).since(15).random(),
    row("Multinomial", random::multinomial).since(7).random(),
    row("RandomNormal", random::shaped).random(),
    row("RandomNormalLike", random::like).random(),
    row("RandomUniform", random::shaped).random(),
    row("RandomUniformLike", random::like).random(),
    // Arithmetic.
    row("Add", map::broadcasting).eval(Binary(i64::checked_add, |a, b| a + b)).zero(AllOperands).affine(affine::sum),
    row("And", map::broadcasting).zero(AnyOperand),
    row("BitShift", map::broadcasting).since(11),
    row("BitwiseAnd", map::broadcasting).since(18).zero(AnyOperand),
    row("BitwiseOr", map::broadcasting).since(18).zero(AllOperands),
    row("BitwiseXor", map::broadcasting).since(18).zero(AllOperands),
    row("Div", map::broadcasting).eval(Binary(i64::checked_div, |a, b| a / b)).zero(Kept).ignores(&[(0, 1)]),
    row("Equal", map::predicate).eval(Compare(|a, b| a == b)),
    row("Greater", map::predicate).eval(Compare(|a, b| a > b)),
    row("GreaterOrEqual", map::predicate).since(12).eval(Compare(|a, b| a >= b)),
    row("Less", map::predicate).eval(Compare(|a, b| a < b)),
    row("LessOrEqual", map::predicate).since(12).eval(Compare(|a, b| a <= b)),
    row("Max", map::broadcasting).eval(Binary(|a, b| Some(a.max(b)), values::larger)),
    row("Mean", map::broadcasting).zero(AllOperands),
    row("Min", map::broadcasting).eval(Binary(|a, b| Some(a.min(b)), values::smaller)),
    row("Mod", map::broadcasting).since(10).eval(Custom(values::evaluate_mod)),
    row("Mul", map::broadcasting)
        .eval(Binary(i64::checked_mul, |a, b| a * b))
        .zero(AnyOperand)
        .ignores(&[(0, 1), (1, 0)])
        .affine(affine::product),
    row("Or", map::broadcasting),
    row("Pow", map::broadcasting).eval(Binary(|_, _| None, f64::powf)),
    row("PRelu", map::prelu).zero(Kept).ignores(&[(0, 1)]),
    row("Sub", map::broadcasting).eval(Binary(i64::checked_sub, |a, b| a - b)).zero(AllOperands),
    row("Sum", map::broadcasting).zero(AllOperands).affine(affine::sum),
    row("SwiGLU", map::broadcasting).since(28).zero(AnyOperand),
    row("Where", map::select).since(9).eval(Custom(values::evaluate_where)),
    row("Xor", map::broadcasting),
    // Functions of one operand.
    row("Abs", map::unary).eval(Unary(f64::abs)).zero(Kept),
    row("Acos", map::unary).since(7),
    row("Acosh", map::unary).since(9),
    row("Affine", map::unary),
    row("Asin", map::unary).since(7).zero(Kept),
    row("Asinh", map::unary).since(9).zero(Kept),
    row("Atan", map::unary).since(7).zero(Kept),
    row("Atanh", map::unary).since(9).zero(Kept),
    row("BitCast", map::cast).since(26).zero(Kept),
    row("BitwiseNot", map::unary).since(18),
    row("Cast", map::cast).eval(Custom(values::evaluate_cast)).zero(Kept),
    row("CastLike", map::cast_like).since(15),
    row("Ceil", map::unary).eval(Unary(f64::ceil)).zero(Kept),
    row("Celu", map::unary).since(12).zero(Kept),
    row("Clip", map::unary).eval(Custom(values::evaluate_clip)).affine(affine::clip),
    row("Cos", map::unary).since(7),
    row("Cosh", map::unary).since(9),
    row("Dropout", map::dropout).zero(Kept).places(Places::All).random().affine(affine::dropout),
    row("Elu", map::unary).zero(Kept),
    row("Erf", map::unary).since(9).zero(Kept),
    row("Exp", map::unary).eval(Unary(f64::exp)),
    row("Floor", map::unary).eval(Unary(f64::floor)).zero(Kept),
    row("Gelu", map::unary).since(20).zero(Kept),
    row("HardSigmoid", map::unary),
    row("HardSwish", map::unary).since(14).zero(Kept),
    row("ImageScaler", map::image_scaler),
    row("IsInf", map::unary_predicate).since(10),
    row("IsNaN", map::unary_predicate).since(9),
    row("LeakyRelu", map::unary).zero(Kept),
    row("Log", map::unary).eval(Unary(f64::ln)),
    row("Mish", map::unary).since(18).zero(Kept),
    row("Neg", map::unary).eval(Unary(|x| -x)).zero(Kept),
    row("Not", map::unary).eval(Unary(|x| f64::from(u8::from(x == 0.0)))),
    row("ParametricSoftplus", map::unary),
    row("Reciprocal", map::unary).eval(Unary(f64::recip)),
    row("Relu", map::unary).eval(Unary(|x| values::larger(x, 0.0))).zero(Kept).affine(affine::relu),
    row("Round", map::unary).since(11).eval(Unary(round_half_even)).zero(Kept),
    row("ScaledTanh", map::unary).zero(Kept),
    row("Selu", map::unary).zero(Kept),
    row("Shrink", map::unary).since(9),
    row("Sigmoid", map::unary),
    row("Sign", map::unary).since(9).eval(Unary(|x| if x == 0.0 { 0.0 } else { x.signum() })).zero(Kept),
    row("Sin", map::unary).since(7).zero(Kept),
    row("Sinh", map::unary).since(9).zero(Kept),
    row("Softplus", map::unary),
    row("Softsign", map::unary).zero(Kept),
    row("Sqrt", map::unary).eval(Unary(f64::sqrt)).zero(Kept),
    row("Swish", map::unary).since(24).zero(Kept),
    row("Tan", map::unary).since(7).zero(Kept),
    row("Tanh", map::unary).eval(Unary(f64::tanh)).zero(Kept),
    row("ThresholdedRelu", map::unary).since(10),
    // Normalisation.
    row("BatchNormalization", normalise::batch_norm).statistics(3..5).ignores(&[(1, 0)]).affine(affine::batch_norm),
    row("GroupNormalization", normalise::group_norm).since(18).average(Average::Deviation),
    row("Hardmax", normalise::softmax),
    row("InstanceNormalization", normalise::instance_norm).ignores(&[(1, 0)]).average(Average::Deviation),
    row("LayerNormalization", normalise::layer_norm).since(17).average(Average::Deviation),
    row("LogSoftmax", normalise::softmax),
    row("LpNormalization", normalise::along_axis).average(Average::Length),
    row("LRN", normalise::across_channels),
    row("MeanVarianceNormalization", normalise::mean_variance_norm).since(9),
    row("RMSNormalization", normalise::layer_norm).since(23).average(Average::MeanSquare),
    row("SimplifiedLayerNormalization", normalise::layer_norm).average(Average::MeanSquare),
    row("Softmax", normalise::softmax).of_scores(),
    // Pools, reductions, resizing.
    row("AffineGrid", pool::affine_grid).since(20),
    row("ArgMax", map::arg_reduce),
    row("ArgMin", map::arg_reduce),
    row("AveragePool", pool::pool),
    row("Crop", pool::crop),
    row("GlobalAveragePool", pool::global_pool),
    row("GlobalLpPool", pool::global_pool),
    row("GlobalMaxPool", pool::global_pool),
    row("GridSample", pool::grid_sample).since(16).zero(Kept),
    row("LpPool", pool::pool),
    row("MaxPool", pool::pool),
    row("MaxRoiPool", pool::max_roi_pool),
    row("MaxUnpool", pool::max_unpool).since(9),
    row("ReduceL1", map::reduce).average(Average::Sum(1.0)),
    row("ReduceL2", map::reduce).average(Average::Sum(0.5)),
    row("ReduceLogSum", map::reduce),
    row("ReduceLogSumExp", map::reduce),
    row("ReduceMax", map::reduce).eval(Custom(reduction::evaluate_max)),
    row("ReduceMean", map::reduce).average(Average::Mean),
    row("ReduceMin", map::reduce).eval(Custom(reduction::evaluate_min)),
    row("ReduceProd", map::reduce).eval(Custom(reduction::evaluate_product)),
    row("ReduceSum", map::reduce).eval(Custom(reduction::evaluate_sum)).average(Average::Sum(1.0)),
    row("ReduceSumSquare", map::reduce).average(Average::Sum(1.0)),
    row("Resize", pool::resize).since(10).narrow(target(3, "")),
    row("RoiAlign", pool::roi_align).since(10),
    row("Upsample", pool::upsample),
    // Quantisation.
    row("ConvInteger", quantised::conv_integer)
        .since(10)
        .narrow(Narrow::Group)
        .layer(Kind::Conv)
        .extents(Extents::Conv)
        .zero_points(&[(0, 2), (1, 3)]),
    row("DequantizeLinear", quantised::dequantize)
        .since(10)
        .eval(Custom(values::evaluate_dequantize))
        .zero(Kept)
        .zero_points(&[(0, 2)])
        .affine(affine::dequantize),
    row("DynamicQuantizeLinear", quantised::dynamic_quantize).since(11).places(Places::All),
    row("MatMulInteger", quantised::matmul_integer).since(10).layer(Kind::Dense).zero_points(&[(0, 2), (1, 3)]),
    row("QLinearConv", quantised::conv)
        .since(10)
        .narrow(Narrow::Group)
        .layer(Kind::Conv)
        .extents(Extents::Conv)
        .zero_points(&[(0, 2), (3, 5)]),
    row("QLinearMatMul", quantised::matmul).since(10).layer(Kind::Dense).zero_points(&[(0, 2), (3, 5)]),
    row("QuantizeLinear", quantised::quantize).since(10).zero(Kept).affine(affine::quantize),
    // Operators of onnxruntime.
    fused("BiasAdd", map::broadcasting).zero(AllOperands),
    fused("BiasGelu", map::broadcasting).zero(AllOperands),
    fused("CropAndResize", pool::crop_and_resize),
    fused("DequantizeLinear", quantised::dequantize)
        .like(13)
        .zero(Kept)
        .zero_points(&[(0, 2)])
        .affine(affine::dequantize),
    fused("DynamicQuantizeMatMul", quantised::dynamic_matmul).layer(Kind::Dense),
    fused("ExpandDims", layout::unsqueeze).zero(Kept).extents(Extents::Unsqueeze),
    fused("FastGelu", map::broadcasting).zero(AllOperands),
    fused("FusedConv", contract::fused_conv).narrow(Narrow::Group).layer(Kind::Conv).extents(Extents::Conv),
    fused("FusedGemm", contract::fused_gemm).layer(Kind::Dense).extents(Extents::Gemm),
    fused("FusedMatMul", contract::fused_matmul).layer(Kind::Dense).zero(AllOperands),
    fused("GatherND", gather::gather_nd),
    fused("Gelu", map::unary).zero(Kept),
    fused("GridSample", pool::grid_sample).zero(Kept),
    fused("Inverse", signal::matrices),
    fused("MatMulIntegerToFloat", quantised::matmul_to_float).layer(Kind::Dense).zero_points(&[(0, 4), (1, 5)]),
    fused("MulInteger", quantised::mul_integer),
    fused("NhwcMaxPool", pool::nhwc_max_pool),
    fused("Pad", layout::pad).like(13).narrow(Narrow::PadAmounts),
    fused("QGemm", quantised::gemm).layer(Kind::Dense).zero_points(&[(0, 2), (3, 5)]),
    fused("QLinearAdd", quantised::broadcasting),
    fused("QLinearAveragePool", quantised::average_pool),
    fused("QLinearConcat", quantised::concat),
    fused("QLinearConv", quantised::conv)
        .narrow(Narrow::Group)
        .layer(Kind::Conv)
        .extents(Extents::Conv)
        .zero_points(&[(0, 2), (3, 5)]),
    fused("QLinearGlobalAveragePool", quantised::global_pool),
    fused("QLinearLeakyRelu", map::unary),
    fused("QLinearMul", quantised::broadcasting),
    fused("QLinearReduceMean", quantised::reduce_mean),
    fused("QLinearSigmoid", map::unary),
    fused("QLinearSoftmax", quantised::softmax),
    fused("QLinearWhere", quantised::select),
    fused("QuantizeLinear", quantised::quantize).like(13).affine(affine::quantize),
    fused("QuickGelu", map::unary).zero(Kept),
    fused("SampleOp", layout::identity).zero(Kept),
    fused("SkipLayerNormalization", normalise::skip_layer_norm).places(Places::All).average(Average::SumDeviation),
    fused("SkipSimplifiedLayerNormalization", normalise::skip_layer_norm)
        .places(Places::All)
        .average(Average::SumMeanSquare),
    fused("TransposeMatMul", contract::fused_matmul).layer(Kind::Dense).zero(AllOperands),
    fused("Trilu", signal::matrices).zero(Kept),
];
