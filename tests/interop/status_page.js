// Opens pages of `mlctl serve` in headless Chromium and prints what is on them.
//
//   node status_page.js PACKAGES PROFILE JOB.json
//
// JOB: {url, drawings: {name: strokes as in tfjs_demo.js}, pictures: [path, …], version: {from, to} a folder to place while
// the page is open, guarded: {url, key} a page that asks for a key, asking: [url, …] pages that say in their title how a request of theirs went, screenshots: folder or null}.
// Prints {state, versions, drawn: {name: label}, opened: [label, …], after, wide: [page, …], guarded: state, asking: [title, …], complaints: […]}.

const fs = require('fs');
const path = require('path');
const { createRequire } = require('module');
const { withBrowser } = require('./chromium.js');

const [packages, profile, list] = process.argv.slice(2);
const load = createRequire(path.join(packages, 'package.json'));
const job = JSON.parse(fs.readFileSync(list, 'utf8'));

const versions = (page) =>
  page.evaluate(() => [...document.querySelectorAll('tr[data-version]')].map((row) => [row.dataset.version, row.dataset.state]));

const answer = async (page) => {
  await page.waitForFunction(() => document.getElementById('spoken').textContent !== '' && !busy && !again, null, { timeout: 30000 });
  return page.evaluate(() => document.getElementById('name').textContent + document.getElementById('trouble').textContent);
};

async function draw(page, strokes) {
  await page.click('#clear');
  await page.locator('#pad').scrollIntoViewIfNeeded();
  const box = await page.locator('#pad').boundingBox();
  const move = ([x, y]) => page.mouse.move(box.x + x * box.width, box.y + y * box.height);
  for (const [first, ...rest] of strokes) {
    await move(first);
    await page.mouse.down();
    for (const point of rest) await move(point);
    await page.mouse.up();
  }
  return answer(page);
}

async function use(page, complaints) {
  await page.emulateMedia({ colorScheme: 'light' });
  await page.goto(job.url);
  const text = (id) => page.evaluate((id) => document.getElementById(id).textContent, id);
  const found = { state: await text('state'), versions: await versions(page), drawn: {}, opened: [], wide: [], asking: [] };
  for (const [name, strokes] of Object.entries(job.drawings)) found.drawn[name] = await draw(page, strokes);
  for (const picture of job.pictures) {
    await page.click('#clear');
    await page.setInputFiles('#file', picture);
    found.opened.push(await answer(page));
  }
  const beside = path.join(path.dirname(job.version.to), '.placing');
  fs.cpSync(job.version.from, beside, { recursive: true });
  fs.renameSync(beside, job.version.to);
  const number = String(Number(path.basename(job.version.to)));
  await page.waitForFunction((number) => document.querySelector(`tr[data-version="${number}"][data-state=AVAILABLE]`), number, { timeout: 30000 });
  await page.waitForFunction(() => document.querySelectorAll('tr[data-version]').length === 1, null, { timeout: 30000 });
  found.after = await versions(page);
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme });
    for (const width of [1180, 800, 390]) {
      await page.setViewportSize({ width, height: 900 });
      await page.waitForTimeout(150);
      if (await page.evaluate(() => document.documentElement.scrollWidth > innerWidth)) found.wide.push(`${colorScheme} ${width}`);
      if (job.screenshots) await page.screenshot({ path: path.join(job.screenshots, `${colorScheme}-${width}.png`), fullPage: true });
    }
  }
  await page.context().setHTTPCredentials({ username: 'anyone', password: job.guarded.key });
  await page.goto(job.guarded.url);
  await page.waitForResponse((response) => response.url().endsWith('/ui/overview') && response.ok(), { timeout: 10000 });
  found.guarded = await text('state');
  found.complaints = [...complaints];
  for (const url of job.asking) {
    await page.goto(url);
    await page.waitForFunction(() => document.title !== '', null, { timeout: 10000 });
    found.asking.push(await page.title());
  }
  process.stdout.write(JSON.stringify(found));
}

withBrowser(load, profile, use, { width: 1180, height: 900 }).catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
