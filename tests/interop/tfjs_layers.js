// Makes layers-models in TensorFlow.js, saves them as its `model.save` gives them, and writes what it predicts. No check lives here.
//
//   NODE_PATH="$(tests/peers/npm.sh)/node_modules" node tests/interop/tfjs_layers.js FOLDER [REGEX]
//
// For each case a folder with model.json, its weights in several files, and predicted.json: inputs and outputs, each with
// shape and data. Those whose names end in a type have their weights quantized to it, as the converter does, and are loaded again.

const fs = require('fs');
const path = require('path');
const tf = require('@tensorflow/tfjs');

const L = tf.layers;
const IMAGE = [9, 8, 4], SERIES = [11, 4], CUBE = [5, 6, 4, 2];

let state = 1;
const random = () => ((state = (state * 16807) % 2147483647) / 2147483647) * 2 - 1;

function one(shape, ...parts) {
  const given = tf.input({shape});
  return tf.model({inputs: given, outputs: parts.reduce((x, layer) => layer.apply(x), given)});
}

const cases = {};
for (const activation of ['relu', 'relu6', 'sigmoid', 'tanh', 'elu', 'selu', 'softplus', 'softsign', 'hardSigmoid', 'linear', 'softmax', 'logSoftmax', 'swish', 'mish', 'gelu', 'gelu_new']) {
  cases[`dense_${activation}`] = () => one([6], L.dense({units: 5, activation}));
  cases[`activation_${activation}`] = () => one(IMAGE, L.activation({activation}));
}
cases.dense_no_bias = () => one([6], L.dense({units: 5, useBias: false}));
cases.dense_of_rank_3 = () => one([3, 6], L.dense({units: 5, activation: 'tanh'}));
for (const padding of ['valid', 'same']) {
  for (const strides of [1, 2]) {
    const name = `${padding}_${strides}`;
    cases[`conv1d_${name}`] = () => one(SERIES, L.conv1d({filters: 5, kernelSize: 3, strides, padding, activation: 'relu'}));
    cases[`conv2d_${name}`] = () => one(IMAGE, L.conv2d({filters: 5, kernelSize: [3, 2], strides, padding, activation: 'relu'}));
    cases[`conv3d_${name}`] = () => one(CUBE, L.conv3d({filters: 3, kernelSize: [2, 3, 2], strides, padding}));
    cases[`conv2d_transpose_${name}`] = () => one(IMAGE, L.conv2dTranspose({filters: 5, kernelSize: [3, 2], strides, padding}));
    cases[`depthwise_conv2d_${name}`] = () => one(IMAGE, L.depthwiseConv2d({kernelSize: 3, strides, padding, depthMultiplier: 2}));
    cases[`separable_conv2d_${name}`] = () => one(IMAGE, L.separableConv2d({filters: 6, kernelSize: 3, strides, padding, depthMultiplier: 2}));
    cases[`max_pool1d_${name}`] = () => one(SERIES, L.maxPooling1d({poolSize: 3, strides, padding}));
    cases[`average_pool1d_${name}`] = () => one(SERIES, L.averagePooling1d({poolSize: 3, strides, padding}));
    cases[`max_pool2d_${name}`] = () => one(IMAGE, L.maxPooling2d({poolSize: [2, 3], strides, padding}));
    cases[`average_pool2d_${name}`] = () => one(IMAGE, L.averagePooling2d({poolSize: [3, 2], strides, padding}));
  }
}
cases.conv2d_dilated = () => one(IMAGE, L.conv2d({filters: 5, kernelSize: 3, dilationRate: 2, padding: 'same'}));
cases.conv2d_open_sizes = () => one([null, null, 4], L.conv2d({filters: 5, kernelSize: 3, strides: 2, padding: 'same'}), L.globalAveragePooling2d({}));
for (const kind of ['globalAveragePooling1d', 'globalMaxPooling1d']) cases[kind] = () => one(SERIES, L[kind]({}));
for (const kind of ['globalAveragePooling2d', 'globalMaxPooling2d']) cases[kind] = () => one(IMAGE, L[kind]({}));
cases.batch_norm = () => one(IMAGE, L.batchNormalization({}));
cases.batch_norm_no_scale = () => one(IMAGE, L.batchNormalization({scale: false, epsilon: 0.01}));
cases.batch_norm_no_center = () => one(IMAGE, L.conv2d({filters: 3, kernelSize: 2}), L.batchNormalization({center: false}));
cases.layer_norm = () => one(IMAGE, L.layerNormalization({}));
cases.layer_norm_two_axes = () => one(IMAGE, L.layerNormalization({axis: [2, 3], epsilon: 0.01}));
cases.relu_layer = () => one(IMAGE, L.reLU({maxValue: 0.5}));
cases.leaky_relu = () => one(IMAGE, L.leakyReLU({}));
cases.leaky_relu_alpha = () => one(IMAGE, L.leakyReLU({alpha: 0.05}));
cases.prelu = () => one(IMAGE, L.prelu({}));
cases.prelu_shared = () => one(IMAGE, L.prelu({sharedAxes: [1, 2]}));
cases.elu_layer = () => one(IMAGE, L.elu({alpha: 1}));
cases.softmax_layer = () => one([6], L.softmax({}));
cases.softmax_last_axis = () => one(IMAGE, L.softmax({axis: -1}));
cases.thresholded_relu = () => one(IMAGE, L.thresholdedReLU({theta: 0.3}));
cases.flatten = () => one(IMAGE, L.flatten());
cases.reshape = () => one(IMAGE, L.reshape({targetShape: [6, -1, 3]}));
cases.permute = () => one(IMAGE, L.permute({dims: [3, 1, 2]}));
cases.repeat_vector = () => one([6], L.repeatVector({n: 3}));
cases.zero_padding = () => one(IMAGE, L.zeroPadding2d({padding: [[1, 2], [0, 3]]}));
cases.cropping = () => one(IMAGE, L.cropping2D({cropping: [[1, 2], [0, 3]]}));
cases.up_sampling = () => one(IMAGE, L.upSampling2d({size: [2, 3]}));
cases.up_sampling_bilinear = () => one(IMAGE, L.upSampling2d({size: [2, 2], interpolation: 'bilinear'}));
cases.dropout = () => one([6], L.dense({units: 5}), L.dropout({rate: 0.5}), L.gaussianNoise({stddev: 1}), L.alphaDropout({rate: 0.2}));
cases.time_distributed = () => one([3, 6], L.timeDistributed({layer: L.dense({units: 4, activation: 'relu'})}));
cases.rescaling = () => one(IMAGE, L.rescaling({scale: 0.25, offset: -1}));
cases.embedding = () => {
  const words = tf.input({shape: [7], dtype: 'int32', name: 'words'});
  return tf.model({inputs: words, outputs: L.dense({units: 3}).apply(L.flatten().apply(L.embedding({inputDim: 20, outputDim: 4}).apply(words)))});
};
for (const kind of ['add', 'multiply', 'average', 'maximum', 'minimum', 'concatenate']) {
  cases[kind] = () => {
    const inputs = ['a', 'b'].map(name => tf.input({shape: IMAGE, name}));
    return tf.model({inputs, outputs: L[kind]({}).apply(inputs)});
  };
}
cases.dot = () => {
  const inputs = ['a', 'b'].map(name => tf.input({shape: [6], name}));
  return tf.model({inputs, outputs: L.dot({axes: -1}).apply(inputs)});
};
cases.sequential = () => tf.sequential({layers: [
  L.conv2d({filters: 6, kernelSize: 3, activation: 'relu', inputShape: IMAGE}), L.maxPooling2d({poolSize: 2}), L.batchNormalization({}),
  L.flatten(), L.dropout({rate: 0.3}), L.dense({units: 7, activation: 'relu'}), L.dense({units: 3, activation: 'softmax'}),
]});
cases.frozen_layers = () => tf.sequential({layers: [
  L.dense({units: 6, inputShape: [5], trainable: false}), L.batchNormalization({trainable: false}), L.dense({units: 4}), L.batchNormalization({}),
]});
cases.residual_nested = () => {
  const given = tf.input({shape: IMAGE, name: 'picture'});
  const block = name => tf.sequential({name, layers: [
    L.separableConv2d({filters: 4, kernelSize: 3, padding: 'same', inputShape: IMAGE, name: `${name}_conv`}), L.batchNormalization({name: `${name}_norm`}), L.activation({activation: 'relu'}),
  ]});
  let x = given;
  for (const name of ['one', 'two']) x = L.add().apply([x, block(name).apply(x)]);
  const outputs = [L.dense({units: 3, name: 'classes', activation: 'softmax'}).apply(L.globalAveragePooling2d({}).apply(x)), L.conv2d({filters: 1, kernelSize: 1, name: 'map'}).apply(x)];
  return tf.model({inputs: given, outputs});
};
cases.shared = () => {
  const inputs = ['left', 'right'].map(name => tf.input({shape: [6], name}));
  const dense = L.dense({units: 4, activation: 'tanh', name: 'shared'});
  return tf.model({inputs, outputs: L.concatenate().apply(inputs.map(x => dense.apply(x)))});
};
for (const type of ['float16', 'uint8', 'uint16']) cases[`quantized_${type}`] = cases.sequential;

function fill(model) {
  const values = model.getWeights().map((weight, index) => {
    const variance = model.weights[index].originalName.includes('variance');
    return tf.tensor(Array.from({length: weight.size}, () => (variance ? 1.5 + random() : random())), weight.shape);
  });
  model.setWeights(values);
}

// IEEE half precision, to nearest even.
function half(number) {
  const bits = new Uint32Array(new Float32Array([number]).buffer)[0];
  const sign = (bits >>> 16) & 0x8000, exponent = ((bits >>> 23) & 255) - 112, fraction = bits & 0x7fffff;
  if (exponent <= 0) return sign;
  const rounded = (exponent << 10) + (fraction >>> 13) + (((fraction & 0x1fff) + ((fraction >>> 13) & 1)) > 0x1000 ? 1 : 0);
  return sign | rounded;
}

function quantized(artifacts, type) {
  const all = new Float32Array(artifacts.weightData);
  const parts = [];
  let at = 0;
  const weightSpecs = artifacts.weightSpecs.map(spec => {
    const values = all.subarray(at, (at += spec.shape.reduce((a, b) => a * b, 1)));
    if (type === 'float16') {
      parts.push(Buffer.from(Uint16Array.from(values, half).buffer));
      return {...spec, quantization: {dtype: type, original_dtype: 'float32'}};
    }
    const most = type === 'uint8' ? 255 : 65535;
    const min = values.reduce((a, b) => Math.min(a, b)), max = values.reduce((a, b) => Math.max(a, b));
    const scale = (max - min) / most || 1;
    const Kind = type === 'uint8' ? Uint8Array : Uint16Array;
    parts.push(Buffer.from(Kind.from(values, value => Math.round((value - min) / scale)).buffer));
    return {...spec, quantization: {dtype: type, min, scale, original_dtype: 'float32'}};
  });
  const data = Buffer.concat(parts);
  return {...artifacts, weightSpecs, weightData: data.buffer.slice(data.byteOffset, data.byteOffset + data.length)};
}

async function make(name, build, folder) {
  tf.disposeVariables();
  let model = build();
  fill(model);
  let artifacts;
  await model.save({save: async found => { artifacts = found; return {modelArtifactsInfo: {dateSaved: new Date(), modelTopologyType: 'JSON'}}; }});
  if (name.startsWith('quantized_')) {
    artifacts = quantized(artifacts, name.split('_')[1]);
    model = await tf.loadLayersModel({load: async () => artifacts});
  }
  const data = Buffer.from(artifacts.weightData), cut = 4 * Math.floor(data.length / 12) + 1;
  const shards = data.length > 8 ? [data.subarray(0, cut), data.subarray(cut)] : [data];
  const paths = shards.map((_, index) => `group1-shard${index + 1}of${shards.length}.bin`);
  fs.mkdirSync(folder, {recursive: true});
  shards.forEach((shard, index) => fs.writeFileSync(path.join(folder, paths[index]), shard));
  const {modelTopology, generatedBy, weightSpecs} = artifacts;
  fs.writeFileSync(path.join(folder, 'model.json'), JSON.stringify({format: 'layers-model', generatedBy, modelTopology, weightsManifest: [{paths, weights: weightSpecs}]}));
  const inputs = model.inputs.map(input => {
    const shape = input.shape.map((size, axis) => size ?? (axis ? 6 : 2));
    const length = shape.reduce((a, b) => a * b, 1);
    const values = Array.from({length}, () => (input.dtype === 'int32' ? Math.floor((random() + 1) * 9.9) : random() * 2));
    return {name: input.sourceLayer.name, dtype: input.dtype, shape, data: values};
  });
  const made = model.predict(inputs.map(input => tf.tensor(input.data, input.shape, input.dtype)));
  const outputs = (Array.isArray(made) ? made : [made]).map((output, index) => ({name: model.outputNames[index], shape: output.shape, data: Array.from(output.dataSync())}));
  fs.writeFileSync(path.join(folder, 'predicted.json'), JSON.stringify({inputs, outputs}));
}

(async () => {
  const [folder, only] = process.argv.slice(2);
  for (const [name, build] of Object.entries(cases)) {
    if (!new RegExp(only ?? '').test(name)) continue;
    try {
      await make(name, build, path.join(folder, name));
    } catch (error) {
      fs.mkdirSync(path.join(folder, name), {recursive: true});
      fs.writeFileSync(path.join(folder, name, 'not_made'), String(error));
    }
  }
})();
