// Runs a graph-model in TensorFlow.js: node browser_model.cjs PACKAGES MODEL.json INPUT.bin OUTPUT.json, with the input's shape and
// type in INPUT.bin.json. Every output of the graph is written, in its order.
const fs = require("fs");
const path = require("path");

async function main([packages, model, input, output]) {
  console.log = console.warn = () => {};
  const tf = require(path.join(packages, "@tensorflow/tfjs"));
  await tf.setBackend("cpu");
  const document = JSON.parse(fs.readFileSync(model));
  const groups = document.weightsManifest;
  const beside = (name) => fs.readFileSync(path.join(path.dirname(model), name));
  const weights = new Uint8Array(Buffer.concat(groups.flatMap((group) => group.paths.map(beside)))).buffer;
  const artifacts = { ...document, weightSpecs: groups.flatMap((group) => group.weights), weightData: weights };
  const graph = await tf.loadGraphModel({ load: async () => artifacts });
  const { shape, type } = JSON.parse(fs.readFileSync(`${input}.json`));
  const bytes = new Uint8Array(fs.readFileSync(input)).buffer;
  const values = type === "int32" ? new Int32Array(bytes) : new Float32Array(bytes);
  let made = await graph.executeAsync(tf.tensor(values, shape, type));
  made = Array.isArray(made) ? made : [made];
  fs.writeFileSync(output, JSON.stringify(made.map((tensor) => ({ shape: tensor.shape, data: Array.from(tensor.dataSync()) }))));
}

main(process.argv.slice(2));
