"""Makes the ONNX files of fixtures/fuzz: "$(tests/peers/venv.sh)" fuzz/make_corpus.py

One small graph a line: its name, its inputs and outputs, its nodes, in ONNX's text form; `k` are constants of seeded values.
"""

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper

FOLDER = Path(__file__).resolve().parents[1] / "fixtures/fuzz"
GRAPHS = {
    # one or a few of each family
    "conv_relu_pool": ("float[N,3,8,8] x", "float[N,4,2,2] y", "a = Conv<pads=[1,1,1,1]>(x, k4_3_3_3, k4) b = Relu(a) y = MaxPool<kernel_shape=[3,3], strides=[4,4]>(b)"),
    "conv_depthwise": ("float[1,4,6,6] x", "float[1,4,3,3] y", 'y = Conv<group=4, strides=[2,2], auto_pad="SAME_UPPER">(x, k4_1_3_3)'),
    "conv_transpose": ("float[1,2,3,3] x", "float[1,3,7,7] y", "y = ConvTranspose<strides=[2,2]>(x, k2_3_3_3)"),
    "average_pool": ("float[1,2,7,7] x", "float[1,2,4,4] y", "y = AveragePool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1>(x)"),
    "dense": ("float[N,6] x", "float[N,3] y", "a = Gemm<transB=1>(x, k3_6, k3) y = Softmax<axis=-1>(a)"),
    "batch_matmul": ("float[2,3,4] x, float[2,4,5] z", "float[2,3,5] y", "y = MatMul(x, z)"),
    "einsum": ("float[2,3,4] x", "float[2,4,5] y", 'y = Einsum<equation="bij,ik->bjk">(x, k3_5)'),
    "batch_norm": ("float[N,3,4,4] x", "float[N,3,4,4] y", "y = BatchNormalization(x, k3, k3b, k3c, k3d)"),
    "layer_norm": ("float[2,5] x", "float[2,5] y", "y = LayerNormalization<axis=-1>(x, k5, k5b)"),
    "reduce": ("float[2,3,4] x", "float[2,1,4] y", "a = Constant<value_ints=[1]>() y = ReduceMean(x, a)"),
    "arg_max": ("float[2,3,4] x", "int64[2,4] y", "y = ArgMax<axis=1, keepdims=0>(x)"),
    "top_k": ("float[2,6] x", "float[2,3] y, int64[2,3] i", "k = Constant<value_ints=[3]>() y, i = TopK(x, k)"),
    "gather": ("float[5,3] x, int64[2] i", "float[2,3] y", "y = Gather<axis=0>(x, i)"),
    "gather_nd": ("float[3,4] x", "float[2] y", "y = GatherND(x, i2_2)"),
    "scatter_nd": ("float[4,4] x", "float[4,4] y", "y = ScatterND(x, i2_2, k2)"),
    "slice": ("float[N,8,3] x", "float[N,3,3] y", "s = Constant<value_ints=[1]>() e = Constant<value_ints=[7]>() t = Constant<value_ints=[2]>() y = Slice(x, s, e, s, t)"),
    "pad": ("float[2,3] x", "float[4,3] y", 'p = Constant<value_ints=[1,0,1,0]>() y = Pad<mode="constant">(x, p)'),
    "concat_split": ("float[2,4] x", "float[2,8] y", "a, b = Split<axis=1, num_outputs=2>(x) y = Concat<axis=1>(b, x, a)"),
    "transpose_reshape": ("float[2,3,4] x", "float[4,6] y", "a = Transpose<perm=[2,0,1]>(x) s = Constant<value_ints=[4,-1]>() y = Reshape(a, s)"),
    "shape_of": ("float[N,3,M] x", "float[K] y", "s = Shape(x) p = ReduceProd<keepdims=1>(s) y = Reshape(x, p)"),
    "resize": ("float[1,2,3,3] x", "float[1,2,6,6] y", 's = Constant<value_floats=[1.0,1.0,2.0,2.0]>() y = Resize<mode="linear">(x, , s)'),
    "depth_to_space": ("float[1,8,2,2] x", "float[1,2,4,4] y", "y = DepthToSpace<blocksize=2>(x)"),
    "tile_expand": ("float[2,1] x", "float[4,6] y", "s = Constant<value_ints=[2,3]>() a = Expand(x, s) r = Constant<value_ints=[2,2]>() y = Tile(a, r)"),
    "where": ("float[2,3] x", "float[2,3] y", "z = Constant<value_float=0.5>() c = Greater(x, z) y = Where(c, x, z)"),
    "logic": ("bool[2,3] x, bool[3] z", "bool[2,3] y", "a = And(x, z) b = Or(a, x) y = Not(b)"),
    "arithmetic": ("float[2,3] x, float[3] z", "float[2,3] y", "a = Add(x, z) b = Mul(a, x) c = Sub(b, z) d = Abs(c) y = Sqrt(d)"),
    "integers": ("int32[4] x", "int32[4] y", "t = Constant<value = int32[1] {3}>() a = Mod(x, t) y = Div(a, t)"),
    "activations": ("float[2,3] x", "float[2,3] y", "a = Sigmoid(x) b = Elu(a) c = LeakyRelu(b) d = HardSwish(c) y = Clip(d)"),
    "cast": ("float[3] x", "float[3] y", "a = Cast<to=6>(x) y = Cast<to=1>(a)"),
    "half": ("float16[2,3] x", "float16[2,3] y", "a = Exp(x) y = Softmax(a)"),
    "cum_sum": ("float[2,3] x", "float[2,3] y", "a = Constant<value = int64 {1}>() y = CumSum(x, a)"),
    "one_hot": ("int64[3] x", "float[3,4] y", "d = Constant<value = int64 {4}>() v = Constant<value_floats=[0.0,1.0]>() y = OneHot(x, d, v)"),
    "lstm": ("float[3,1,2] x", "float[3,1,1,2] y", "y = LSTM<hidden_size=2>(x, k1_8_2, k1_8_2b)"),
    "gru": ("float[3,2,2] x, int32[2] l", "float[3,2,2,2] y, float[2,2,2] h", 'y, h = GRU<hidden_size=2, direction="bidirectional", linear_before_reset=1>(x, k2_6_2, k2_6_2b, k2_12, l)'),
    "lstm_states": (
        "float[N,3,2] x, float[1,N,2] h, float[1,N,2] c", "float[3,1,N,2] y, float[1,N,2] p, float[1,N,2] q",
        "a = Transpose<perm=[1,0,2]>(x) y, p, q = LSTM<hidden_size=2>(a, k1_8_2, k1_8_2b, k1_16, , h, c)",
    ),
    "if": (
        "float[2,3] x", "float[2,3] y",
        "s = ReduceSum<keepdims=0>(x) z = Constant<value_float=0.0>() c = Greater(s, z) "
        "y = If<then_branch = t () => (float[2,3] a) { a = Relu(x) }, else_branch = e () => (float[2,3] b) { b = Neg(x) }>(c)",
    ),
    "loop": (
        "float[1,4] x, int64[1] i", "float[1,4] y, float[3,4] z",
        "n = Constant<value_int=3>() y, z = Loop<body = b (int64 t, bool g, float[1,4] s) => (bool h, float[1,4] r, float[4] o) "
        "{ h = Identity(g) r = Mul(s, x) f = Constant<value_ints=[4]>() o = Reshape(r, f) }>(n, , x)",
    ),
    "loop_until": (
        "float[2] x, int64 n", "float[2] y",
        "c = Constant<value = bool {1}>() y = Loop<body = b (int64 t, bool g, float[2] s) => (bool h, float[2] r) "
        "{ r = Add(s, s) m = ReduceMax<keepdims=0>(r) l = Constant<value_float=100.0>() h = Less(m, l) }>(n, c, x)",
    ),
    "scan": (
        "float[2] x, float[3,2] z", "float[2] y, float[3,2] w",
        "y, w = Scan<num_scan_inputs=1, body = b (float[2] s, float[2] e) => (float[2] r, float[2] o) { r = Add(s, e) o = Mul(r, e) }>(x, z)",
    ),
    "non_max_suppression": (
        "float[1,6,4] x, float[1,2,6] z", "int64[K,3] y",
        "m = Constant<value_ints=[3]>() o = Constant<value_floats=[0.5]>() t = Constant<value_floats=[0.1]>() y = NonMaxSuppression(x, z, m, o, t)",
    ),
    "non_zero": ("float[2,3] x", "int64[2,K] y", "z = Constant<value_float=0.0>() a = Greater(x, z) y = NonZero(a)"),
    "scatter_elements": ("float[3,3] x, int64[2,3] i, float[2,3] u", "float[3,3] y", 'y = ScatterElements<axis=0, reduction="mul">(x, i, u)'),
    "scatter_nd_max": ("float[4,4] x, int64[2,1] i, float[2,4] u", "float[4,4] y", 'y = ScatterND<reduction="max">(x, i, u)'),
    "grid_sample": ("float[1,2,3,4] x, float[1,2,2,2] z", "float[1,2,2,2] y", 'y = GridSample<mode="linear", padding_mode="reflection", align_corners=1>(x, z)'),
    "grid_sample_cubic": ("float[1,1,3,4] x, float[1,2,2,2] z", "float[1,1,2,2] y", 'y = GridSample<mode="cubic">(x, z)'),
    "resize_cubic": ("float[1,1,4,4] x", "float[1,1,3,6] y", 's = Constant<value_ints=[1,1,3,6]>() y = Resize<mode="cubic", coordinate_transformation_mode="pytorch_half_pixel">(x, , , s)'),
    "computed_slice": ("float[2,8] x, int64[1] e", "float[2,K] y", "s = Constant<value_ints=[1]>() a = Constant<value_ints=[1]>() y = Slice(x, s, e, a)"),
    "quantized_conv": (
        "float[N,2,4,4] x", "float[N,3,4,4] y",
        "s = Constant<value_float=0.05>() z = Constant<value = int8 {3}>() q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) "
        "t = Constant<value_floats=[0.02,0.03,0.04]>() v = QuantizeLinear<axis=0>(k3_2_3_3, t) w = DequantizeLinear<axis=0>(v, t) "
        "c = Conv<pads=[1,1,1,1]>(d, w) a = Relu(c) p = QuantizeLinear(a, s, z) y = DequantizeLinear(p, s, z)",
    ),
    "quantized": ("float[2,3] x", "float[2,3] y", "s = Constant<value_float=0.05>() z = Constant<value = uint8 {128}>() q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)"),
    "no_elements": ("float[0,3] x", "float[0,3] y", "y = Relu(x)"),
    "scalar": ("float x", "float y", "y = Neg(x)"),
    # findings
    "finding_pool_of_more_axes": ("float[1,28,28] x", "float[1,28,28] y", "y = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>(x)"),
    "finding_huge_input": ("int32[2147483647,5] x", "float[4,5] y", "y = EyeLike<dtype=1>(x)"),
    "finding_huge_window": ("float[1] x", "float[10] y", "n = Constant<value = int32 {1064304640}>() a = BlackmanWindow(n) y = Add(a, x)"),
    "finding_number_without_elements": ("float[3] x", "float[3] y", "m = Constant<value = bool[0] {}>() r = Constant<value_float=0.5>() y = Dropout(x, r, m)"),
    "finding_infinite_scale": ("float[1,1,4,4] x", "float[1,1,2,2] y", 's = Constant<value = float[4] {-inf, 1.0, 0.6, 0.6}>() y = Resize<mode="cubic", antialias=1>(x, , s)'),
    "finding_huge_resize": ("float[1,1,2,4] x", "float[1,1,2,2] y", "s = Constant<value_ints=[1,1,1055486197,1]>() y = Resize(x, , , s)"),
    "finding_celu": ("float[3,3] x", "float[3,3] y", "a = Celu<alpha=3.0>(x) y = Celu<alpha=4.0>(a)"),
    "finding_scalar_index": ("float[3] x, float z", "float[3] y", "y = GatherND(x, z)"),
    "finding_axis_past_rank": ("float[1,5] x, int64[1,2] i, float[1,2] u", "float[1,5] y", "y = ScatterElements<axis=17>(x, i, u)"),
    "finding_pool_of_a_row": ("float x", "float[1] y", "l = Constant<value_float=5.0>() d = Constant<value_float=1.0>() r = Range(x, l, d) y = AveragePool<kernel_shape=[3,3], pads=[2,2,2,2]>(r)"),
    "finding_batch_norm_of_a_row": ("float[3] x", "float[3] y", "y = BatchNormalization(x, k3, k3b, k3c, k3d)"),
    "finding_number_behind_identity": ("float[3] x", "float[3] y", "m = Constant<value = bool[0] {}>() i = Identity(m) r = Constant<value_float=0.5>() y = Dropout(x, r, i)"),
    "finding_remainder_by_zero": ("int32[64] x, int32[64] z", "int32[64] y", "y = Mod<fmod=1>(x, z)"),
    "finding_endless_loop": (
        "int32[2] x", "int32[2] y",
        "n = Constant<value_int=4611686018427387904>() "
        "y = Loop<body = b (int64 t, bool g, int32[2] s) => (bool h, int32[2] r) { h = Identity(g) r = Add(s, s) }>(n, , x)",
    ),
}


def constants(body, random):
    """Values for the names k3_4 (floats of that shape), k3b (others) and i2_2 (indices)."""
    words = {word for word in body.replace("(", " ").replace(")", " ").replace(",", " ").split()}
    for name in sorted(words):
        digits = name[1:].rstrip("bcd")
        if name[0] in "ki" and digits.replace("_", "").isdigit():
            shape = [int(n) for n in digits.split("_")]
            values = random.integers(0, 2, shape) if name[0] == "i" else np.abs(random.standard_normal(shape)).astype(np.float32)
            yield numpy_helper.from_array(values, name)


def main():
    FOLDER.mkdir(exist_ok=True)
    random = np.random.default_rng(5)
    for name, (inputs, outputs, body) in GRAPHS.items():
        model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]> graph ({inputs}) => ({outputs}) {{ {body} }}')
        model.graph.initializer.extend(constants(body, random))
        (FOLDER / f"{name}.onnx").write_bytes(model.SerializeToString())


if __name__ == "__main__":
    main()
