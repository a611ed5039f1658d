//! The options of the builtin operators: the tables of the schema's two unions, and their enums.

use super::field::{Field, schema_enum};
use super::{Result, TensorType, TfliteError};
use crate::format::flatbuffer::{Table, TableValue};

schema_enum! { Padding: i8 { Same = 0, Valid = 1 } }
schema_enum! {
    ActivationFunctionType: i8 {
        None = 0, Relu = 1, ReluN1To1 = 2, Relu6 = 3, Tanh = 4, SignBit = 5,
    }
}
schema_enum! { FullyConnectedWeightsFormat: i8 { Default = 0, Shuffled4x16Int8 = 1 } }
schema_enum! { LstmKernelType: i8 { Full = 0, Basic = 1 } }
schema_enum! { LshProjectionType: i8 { Unknown = 0, Sparse = 1, Dense = 2 } }
schema_enum! { CombinerType: i8 { Sum = 0, Mean = 1, Sqrtn = 2 } }
schema_enum! { MirrorPadMode: i8 { Reflect = 0, Symmetric = 1 } }
schema_enum! { CustomOptionsFormat: i8 { Flexbuffers = 0 } }
schema_enum! { RngAlgorithm: i8 { Default = 0, Philox = 1, Threefry = 2 } }
schema_enum! {
    StablehloComparisonDirection: u32 { Eq = 0, Ne = 1, Ge = 2, Gt = 3, Le = 4, Lt = 5 }
}
schema_enum! {
    StablehloComparisonType: u32 {
        NoType = 0, Float = 1, FloatTotalOrder = 2, Signed = 3, Unsigned = 4,
    }
}
schema_enum! {
    ReduceWindowFunction: i32 {
        Unsupported = 0, Add = 1, Mul = 2, Minimum = 3, Maximum = 4, All = 5, Any = 6,
    }
}

macro_rules! default_or {
    () => {
        Default::default()
    };
    ($default:expr) => {
        $default
    };
}

/// One line a table: union code, variant, struct, and the fields by number, type and default.
macro_rules! builtin_options {
    ($(union $union:literal {
        empty { $($empty_code:literal $empty:ident),* $(,)? }
        $($code:literal $variant:ident $table:ident {
            $($id:literal $field:ident: $type:ty $(= $default:expr)?),* $(,)?
        })*
    })*) => {
        /// An operator's options: one variant for each table of the schema's two unions, those
        /// without fields as bare names.
        #[derive(Debug, Clone, PartialEq, Default)]
        pub enum BuiltinOptions {
            #[default]
            None,
            /// The union code of a table that is newer than this program; cannot be written.
            Unknown(u8),
            $($($empty,)* $($variant($table),)*)*
        }

        $($(
            #[derive(Debug, Clone, PartialEq)]
            pub struct $table { $(pub $field: $type,)* }

            impl Default for $table {
                fn default() -> Self {
                    Self { $($field: default_or!($($default)?),)* }
                }
            }

            impl $table {
                fn read(table: &Table) -> Result<Self> {
                    let default = Self::default();
                    Ok(Self { $($field: Field::read(table, $id, default.$field)?,)* })
                }

                fn to_table(&self) -> TableValue {
                    let default = Self::default();
                    let mut table = TableValue::new();
                    $(self.$field.write(&mut table, $id, default.$field);)*
                    table
                }
            }
        )*)*

        impl BuiltinOptions {
            /// A table that is absent has the defaults.
            pub(super) fn read(union: u8, code: u8, table: Option<Table>) -> Result<Self> {
                match (union, code, table) {
                    $(
                        $(($union, $empty_code, _) => Ok(Self::$empty),)*
                        $(
                            ($union, $code, Some(table)) => {
                                $table::read(&table).map(Self::$variant)
                            }
                            ($union, $code, None) => Ok(Self::$variant($table::default())),
                        )*
                    )*
                    _ => Ok(Self::Unknown(code)),
                }
            }

            /// The union (1 or 2), the code in it, and the table.
            pub(super) fn to_table(&self) -> Option<(u8, u8, TableValue)> {
                match self {
                    Self::None | Self::Unknown(_) => None,
                    $(
                        $(Self::$empty => Some(($union, $empty_code, TableValue::new())),)*
                        $(Self::$variant(table) => Some(($union, $code, table.to_table())),)*
                    )*
                }
            }
        }
    };
}

builtin_options! {
    union 1 {
        empty {
            22 Pad, 24 BatchToSpaceNd, 25 SpaceToBatchNd, 26 Transpose, 33 Exp, 34 TopKV2,
            36 LogSoftmax, 38 Dequantize, 39 MaximumMinimum, 41 Less, 42 Neg, 43 PadV2,
            44 Greater, 45 GreaterEqual, 46 LessEqual, 47 Select, 48 Slice, 51 Tile,
            52 ExpandDims, 53 Equal, 54 NotEqual, 56 Pow, 60 LogicalOr, 62 LogicalAnd,
            63 LogicalNot, 65 FloorDiv, 66 Square, 67 ZerosLike, 68 Fill, 72 FloorMod, 73 Range,
            76 SquaredDifference, 78 Abs, 81 ReverseV2, 82 AddN, 83 GatherNd, 84 Cos, 85 Where,
            86 Rank, 88 MatrixDiag, 89 Quantize, 90 MatrixSetDiag, 91 HardSwish,
            95 NonMaxSuppressionV4, 96 NonMaxSuppressionV5, 97 ScatterNd, 98 SelectV2, 99 Densify,
            100 SegmentSum, 104 BroadcastTo, 105 Rfft2d, 108 HashtableFind, 109 HashtableImport,
            110 HashtableSize, 112 ReadVariable, 113 AssignVariable, 117 DynamicUpdateSlice,
            118 UnsortedSegmentProd, 119 UnsortedSegmentMax, 120 UnsortedSegmentMin,
            121 UnsortedSegmentSum, 122 Atan2, 123 Sign, 124 Bitcast, 125 BitwiseXor,
            126 RightShift,
        }
        1 Conv2D Conv2DOptions {
            0 padding: Padding, 1 stride_w: i32, 2 stride_h: i32,
            3 fused_activation_function: ActivationFunctionType, 4 dilation_w_factor: i32 = 1,
            5 dilation_h_factor: i32 = 1, 6 quantized_bias_type: TensorType,
        }
        2 DepthwiseConv2D DepthwiseConv2DOptions {
            0 padding: Padding, 1 stride_w: i32, 2 stride_h: i32, 3 depth_multiplier: i32,
            4 fused_activation_function: ActivationFunctionType, 5 dilation_w_factor: i32 = 1,
            6 dilation_h_factor: i32 = 1,
        }
        3 ConcatEmbeddings ConcatEmbeddingsOptions {
            0 num_channels: i32, 1 num_columns_per_channel: Vec<i32>,
            2 embedding_dim_per_channel: Vec<i32>,
        }
        4 LshProjection LshProjectionOptions { 0 kind: LshProjectionType }
        5 Pool2D Pool2DOptions {
            0 padding: Padding, 1 stride_w: i32, 2 stride_h: i32, 3 filter_width: i32,
            4 filter_height: i32, 5 fused_activation_function: ActivationFunctionType,
        }
        6 Svdf SvdfOptions {
            0 rank: i32, 1 fused_activation_function: ActivationFunctionType,
            2 asymmetric_quantize_inputs: bool,
        }
        7 Rnn RnnOptions {
            0 fused_activation_function: ActivationFunctionType,
            1 asymmetric_quantize_inputs: bool,
        }
        8 FullyConnected FullyConnectedOptions {
            0 fused_activation_function: ActivationFunctionType,
            1 weights_format: FullyConnectedWeightsFormat, 2 keep_num_dims: bool,
            3 asymmetric_quantize_inputs: bool, 4 quantized_bias_type: TensorType,
            5 quant_spec: Vec<u8>,
        }
        9 Softmax SoftmaxOptions { 0 beta: f32 }
        10 Concatenation ConcatenationOptions {
            0 axis: i32, 1 fused_activation_function: ActivationFunctionType,
        }
        11 Add AddOptions {
            0 fused_activation_function: ActivationFunctionType, 1 pot_scale_int16: bool = true,
        }
        12 L2Norm L2NormOptions { 0 fused_activation_function: ActivationFunctionType }
        13 LocalResponseNormalization LocalResponseNormalizationOptions {
            0 radius: i32, 1 bias: f32, 2 alpha: f32, 3 beta: f32,
        }
        14 Lstm LstmOptions {
            0 fused_activation_function: ActivationFunctionType, 1 cell_clip: f32,
            2 proj_clip: f32, 3 kernel_type: LstmKernelType, 4 asymmetric_quantize_inputs: bool,
        }
        15 ResizeBilinear ResizeBilinearOptions {
            2 align_corners: bool, 3 half_pixel_centers: bool,
        }
        16 Call CallOptions { 0 subgraph: u32 }
        17 Reshape ReshapeOptions { 0 new_shape: Vec<i32> }
        18 SkipGram SkipGramOptions {
            0 ngram_size: i32, 1 max_skip_size: i32, 2 include_all_ngrams: bool,
        }
        19 SpaceToDepth SpaceToDepthOptions { 0 block_size: i32 }
        20 EmbeddingLookupSparse EmbeddingLookupSparseOptions { 0 combiner: CombinerType }
        21 Mul MulOptions { 0 fused_activation_function: ActivationFunctionType }
        23 Gather GatherOptions { 0 axis: i32, 1 batch_dims: i32 }
        27 Reducer ReducerOptions { 0 keep_dims: bool }
        28 Sub SubOptions {
            0 fused_activation_function: ActivationFunctionType, 1 pot_scale_int16: bool = true,
        }
        29 Div DivOptions { 0 fused_activation_function: ActivationFunctionType }
        30 Squeeze SqueezeOptions { 0 squeeze_dims: Vec<i32> }
        31 SequenceRnn SequenceRnnOptions {
            0 time_major: bool, 1 fused_activation_function: ActivationFunctionType,
            2 asymmetric_quantize_inputs: bool,
        }
        32 StridedSlice StridedSliceOptions {
            0 begin_mask: i32, 1 end_mask: i32, 2 ellipsis_mask: i32, 3 new_axis_mask: i32,
            4 shrink_axis_mask: i32, 5 offset: bool,
        }
        35 Split SplitOptions { 0 num_splits: i32 }
        37 Cast CastOptions { 0 in_data_type: TensorType, 1 out_data_type: TensorType }
        40 ArgMax ArgMaxOptions { 0 output_type: TensorType }
        49 TransposeConv TransposeConvOptions {
            0 padding: Padding, 1 stride_w: i32, 2 stride_h: i32,
            3 fused_activation_function: ActivationFunctionType, 4 quantized_bias_type: TensorType,
        }
        50 SparseToDense SparseToDenseOptions { 0 validate_indices: bool }
        55 Shape ShapeOptions { 0 out_type: TensorType }
        57 ArgMin ArgMinOptions { 0 output_type: TensorType }
        58 FakeQuant FakeQuantOptions {
            0 min: f32, 1 max: f32, 2 num_bits: i32, 3 narrow_range: bool,
        }
        59 Pack PackOptions { 0 values_count: i32, 1 axis: i32 }
        61 OneHot OneHotOptions { 0 axis: i32 }
        64 Unpack UnpackOptions { 0 num: i32, 1 axis: i32 }
        69 BidirectionalSequenceLstm BidirectionalSequenceLstmOptions {
            0 fused_activation_function: ActivationFunctionType, 1 cell_clip: f32,
            2 proj_clip: f32, 3 merge_outputs: bool, 4 time_major: bool = true,
            5 asymmetric_quantize_inputs: bool,
        }
        70 BidirectionalSequenceRnn BidirectionalSequenceRnnOptions {
            0 time_major: bool, 1 fused_activation_function: ActivationFunctionType,
            2 merge_outputs: bool, 3 asymmetric_quantize_inputs: bool,
        }
        71 UnidirectionalSequenceLstm UnidirectionalSequenceLstmOptions {
            0 fused_activation_function: ActivationFunctionType, 1 cell_clip: f32,
            2 proj_clip: f32, 3 time_major: bool, 4 asymmetric_quantize_inputs: bool,
            5 diagonal_recurrent_tensors: bool,
        }
        74 ResizeNearestNeighbor ResizeNearestNeighborOptions {
            0 align_corners: bool, 1 half_pixel_centers: bool,
        }
        75 LeakyRelu LeakyReluOptions { 0 alpha: f32 }
        77 MirrorPad MirrorPadOptions { 0 mode: MirrorPadMode }
        79 SplitV SplitVOptions { 0 num_splits: i32 }
        80 Unique UniqueOptions { 0 idx_out_type: TensorType = TensorType::Int32 }
        87 ReverseSequence ReverseSequenceOptions { 0 seq_dim: i32, 1 batch_dim: i32 }
        92 If IfOptions { 0 then_subgraph_index: i32, 1 else_subgraph_index: i32 }
        93 While WhileOptions { 0 cond_subgraph_index: i32, 1 body_subgraph_index: i32 }
        94 DepthToSpace DepthToSpaceOptions { 0 block_size: i32 }
        101 BatchMatMul BatchMatMulOptions {
            0 adj_x: bool, 1 adj_y: bool, 2 asymmetric_quantize_inputs: bool,
        }
        102 Cumsum CumsumOptions { 0 exclusive: bool, 1 reverse: bool }
        103 CallOnce CallOnceOptions { 0 init_subgraph_index: i32 }
        106 Conv3D Conv3DOptions {
            0 padding: Padding, 1 stride_d: i32, 2 stride_w: i32, 3 stride_h: i32,
            4 fused_activation_function: ActivationFunctionType, 5 dilation_d_factor: i32 = 1,
            6 dilation_w_factor: i32 = 1, 7 dilation_h_factor: i32 = 1,
        }
        107 Hashtable HashtableOptions {
            0 table_id: i32, 1 key_dtype: TensorType, 2 value_dtype: TensorType,
        }
        111 VarHandle VarHandleOptions { 0 container: String, 1 shared_name: String }
        114 Random RandomOptions { 0 seed: i64, 1 seed2: i64 }
        115 Bucketize BucketizeOptions { 0 boundaries: Vec<f32> }
        116 Gelu GeluOptions { 0 approximate: bool }
    }
    union 2 {
        empty {
            18 Dilate, 22 StablehloShiftLeft,
        }
        1 StablehloConcatenate StablehloConcatenateOptions { 0 dimension: i64 }
        2 StablehloBroadcastInDim StablehloBroadcastInDimOptions {
            0 broadcast_dimensions: Vec<i64>,
        }
        3 StablehloSlice StablehloSliceOptions {
            0 start_indices: Vec<i64>, 1 limit_indices: Vec<i64>, 2 strides: Vec<i64>,
        }
        4 StablehloConvolution StablehloConvolutionOptions {
            0 window_strides: Vec<i64>, 1 padding: Vec<i64>, 2 lhs_dilation: Vec<i64>,
            3 rhs_dilation: Vec<i64>, 4 window_reversal: Vec<bool>, 5 input_batch_dimension: i64,
            6 input_feature_dimension: i64, 7 input_spatial_dimensions: Vec<i64>,
            8 kernel_input_feature_dimension: i64, 9 kernel_output_feature_dimension: i64,
            10 kernel_spatial_dimensions: Vec<i64>, 11 output_batch_dimension: i64,
            12 output_feature_dimension: i64, 13 output_spatial_dimensions: Vec<i64>,
            14 feature_group_count: i64, 15 batch_group_count: i64, 16 precision_config: Vec<u32>,
        }
        5 StablehloCustomCall StablehloCustomCallOptions {
            0 call_target_name: String, 1 has_side_effect: bool, 2 backend_config: String,
            3 api_version: i32, 4 called_computations: Vec<i32>, 5 custom_attributes: Vec<u8>,
        }
        6 StablehloReduce StablehloReduceOptions {
            0 dimensions: Vec<i64>, 1 body_subgraph_index: i32,
        }
        7 StablehloScatter StablehloScatterOptions {
            0 indices_are_sorted: bool, 1 update_window_dims: Vec<i64>,
            2 inserted_window_dims: Vec<i64>, 3 scatter_dims_to_operand_dims: Vec<i64>,
            4 index_vector_dim: i64, 5 unique_indices: bool,
            6 update_computation_subgraph_index: i32,
        }
        8 StablehloCompare StablehloCompareOptions {
            0 comparison_direction: StablehloComparisonDirection,
            1 compare_type: StablehloComparisonType,
        }
        9 StablehloDynamicSlice StablehloDynamicSliceOptions { 0 slice_sizes: Vec<i64> }
        10 StablehloPad StablehloPadOptions {
            0 edge_padding_low: Vec<i64>, 1 edge_padding_high: Vec<i64>,
            2 interior_padding: Vec<i64>,
        }
        11 StablehloIota StablehloIotaOptions { 0 iota_dimension: i64 }
        12 StablehloDotGeneral StablehloDotGeneralOptions {
            0 lhs_batching_dimensions: Vec<i64>, 1 rhs_batching_dimensions: Vec<i64>,
            2 lhs_contracting_dimensions: Vec<i64>, 3 rhs_contracting_dimensions: Vec<i64>,
            4 precision_config: Vec<u32>,
        }
        13 StablehloReduceWindow StablehloReduceWindowOptions {
            0 window_dimensions: Vec<i64>, 1 window_strides: Vec<i64>, 2 base_dilations: Vec<i64>,
            3 window_dilations: Vec<i64>, 4 padding: Vec<i64>, 5 body_subgraph_index: i32,
        }
        14 StablehloSort StablehloSortOptions {
            0 dimension: i64, 1 is_stable: bool, 2 comparator_subgraph_index: i32,
        }
        15 StablehloWhile StablehloWhileOptions {
            0 cond_subgraph_index: i32, 1 body_subgraph_index: i32,
        }
        16 StablehloGather StablehloGatherOptions {
            0 offset_dims: Vec<i64>, 1 collapsed_slice_dims: Vec<i64>, 2 start_index_map: Vec<i64>,
            3 index_vector_dim: i64, 4 slice_sizes: Vec<i64>, 5 indices_are_sorted: bool,
        }
        17 StablehloTranspose StablehloTransposeOptions { 0 permutation: Vec<i64> }
        19 StablehloRngBitGenerator StablehloRngBitGeneratorOptions { 0 algorithm: RngAlgorithm }
        20 ReduceWindow ReduceWindowOptions { 0 reduce_function: ReduceWindowFunction }
        21 StablehloComposite StablehloCompositeOptions {
            0 name: String, 1 decomposition_subgraph_index: i32, 2 composite_attributes: Vec<u8>,
            3 composite_attributes_format: CustomOptionsFormat, 4 version: i32,
        }
        23 StablehloCase StablehloCaseOptions { 0 branch_subgraph_indices: Vec<i32> }
    }
}

impl BuiltinOptions {
    /// The subgraphs that the operator calls.
    pub fn called_subgraphs(&self) -> Vec<i64> {
        match self {
            Self::Call(options) => vec![options.subgraph.into()],
            Self::CallOnce(options) => vec![options.init_subgraph_index.into()],
            Self::If(options) => {
                vec![options.then_subgraph_index.into(), options.else_subgraph_index.into()]
            }
            Self::While(options) => {
                vec![options.cond_subgraph_index.into(), options.body_subgraph_index.into()]
            }
            Self::StablehloWhile(options) => {
                vec![options.cond_subgraph_index.into(), options.body_subgraph_index.into()]
            }
            Self::StablehloReduce(options) => vec![options.body_subgraph_index.into()],
            Self::StablehloReduceWindow(options) => vec![options.body_subgraph_index.into()],
            Self::StablehloSort(options) => vec![options.comparator_subgraph_index.into()],
            Self::StablehloScatter(options) => {
                vec![options.update_computation_subgraph_index.into()]
            }
            Self::StablehloComposite(options) => vec![options.decomposition_subgraph_index.into()],
            Self::StablehloCustomCall(options) => {
                options.called_computations.iter().map(|&called| called.into()).collect()
            }
            Self::StablehloCase(options) => {
                options.branch_subgraph_indices.iter().map(|&called| called.into()).collect()
            }
            _ => Vec::new(),
        }
    }
}
