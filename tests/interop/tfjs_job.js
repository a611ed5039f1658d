// Runs one model in TensorFlow.js: the same in Node and in a browser.

/**
 * `job`: {model: URL of model.json, inputs: {name: {url, dtype, shape}}, dynamic: has shapes that depend on values,
 * backend: what computes}.
 * Gives {outputs: {name: {dtype, shape, base64}}}, little-endian, or {error}.
 */
async function runJob(tf, job) {
  let model;
  const inputs = {};
  let made = [];
  try {
    if (!(await tf.setBackend(job.backend))) throw new Error(`no backend ${job.backend}`);
    model = await tf.loadGraphModel(job.model);
    for (const [name, { url, dtype, shape }] of Object.entries(job.inputs)) {
      const answer = await fetch(url);
      if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
      const bytes = await answer.arrayBuffer();
      const kinds = { float32: Float32Array, int32: Int32Array, bool: Uint8Array };
      inputs[name] = tf.tensor(new kinds[dtype](bytes), shape, dtype);
    }
    made = job.dynamic ? await model.executeAsync(inputs) : model.predict(inputs);
    made = Array.isArray(made) ? made : [made];
    const outputs = {};
    for (const [place, name] of model.executor.outputs.map((output) => output.name).entries()) {
      const { dtype, shape } = made[place];
      outputs[name] = { dtype, shape, base64: toBase64(await made[place].data()) };
    }
    return { outputs };
  } catch (error) {
    return { error: String(error.message || error) };
  } finally {
    tf.dispose([Object.values(inputs), made]);
    if (model) model.dispose();
  }
}

function toBase64(values) {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  let text = '';
  for (let at = 0; at < bytes.length; at += 32768) {
    text += String.fromCharCode(...bytes.subarray(at, at + 32768));
  }
  return btoa(text);
}

if (typeof module !== 'undefined') module.exports = { runJob };
