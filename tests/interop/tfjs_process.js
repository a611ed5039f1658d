// Runs jobs in TensorFlow.js and writes what came out to JOBS.json.results, a JSON line a job.
//
//   node tfjs_process.js PACKAGES JOBS.json              in this process
//   node tfjs_process.js PACKAGES JOBS.json PROFILE URL  in a browser, on a page of that server
//
// PACKAGES is the folder that holds node_modules. `tfjs_job.js` says what a job is.

const fs = require('fs');
const path = require('path');
const { createRequire } = require('module');
const { runJob } = require('./tfjs_job.js');
const { withBrowser } = require('./chromium.js');

const [packages, list, profile, url] = process.argv.slice(2);
const load = createRequire(path.join(packages, 'package.json'));

function print(result) {
  fs.appendFileSync(`${list}.results`, JSON.stringify(result) + '\n');
}

const WASM = 'packages/@tensorflow/tfjs-backend-wasm/dist/';

async function inNode(jobs) {
  console.log = console.info = console.warn = () => {};
  const tf = load('@tensorflow/tfjs');
  const wasm = load('@tensorflow/tfjs-backend-wasm');
  wasm.setWasmPaths(path.join(packages, WASM.replace('packages', 'node_modules')));
  for (const job of jobs) print(await runJob(tf, job));
}

async function inBrowser(jobs) {
  await withBrowser(load, profile, async (page) => {
    await page.goto(url);
    await page.addScriptTag({ url: '/packages/@tensorflow/tfjs/dist/tf.min.js' });
    await page.addScriptTag({ url: `/${WASM}tf-backend-wasm.min.js` });
    await page.addScriptTag({ path: path.join(__dirname, 'tfjs_job.js') });
    await page.evaluate((folder) => tf.wasm.setWasmPaths(folder), `/${WASM}`);
    for (const job of jobs) print(await page.evaluate((job) => runJob(tf, job), job));
  });
}

const jobs = JSON.parse(fs.readFileSync(list, 'utf8'));
(url ? inBrowser(jobs) : inNode(jobs)).catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
