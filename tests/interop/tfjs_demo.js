// Opens a page of `convert --demo` in headless Chromium, draws and opens pictures, and prints what the page then says.
//
//   node tfjs_demo.js PACKAGES PROFILE JOB.json
//
// JOB: {url, drawings: [[[[x, y], [x, y], …], …], …] strokes of points from 0 to 1, pictures: [path, …], screenshot: path or null,
// dark: true for dark colours}.
// Prints {title, lead, trouble, drawn: [answer, …], opened: [answer, …], complaints: […]}; an answer is {name, sure, rows}.

const fs = require('fs');
const path = require('path');
const { createRequire } = require('module');
const { withBrowser } = require('./chromium.js');

const [packages, profile, list] = process.argv.slice(2);
const load = createRequire(path.join(packages, 'package.json'));
const job = JSON.parse(fs.readFileSync(list, 'utf8'));

const answer = (page) =>
  page.evaluate(() => ({
    name: document.getElementById('name').textContent,
    sure: document.getElementById('sure').textContent,
    rows: [...document.querySelectorAll('#bars li')].map((row) => [row.firstChild.textContent, row.lastChild.textContent]),
  }));

/** Until the answer to what was done before is there. */
async function settled(page) {
  await page.waitForFunction(() => document.getElementById('spoken').textContent !== '' && !asked, null, { timeout: 60000 });
  await page.waitForTimeout(300);
}

async function draw(page, strokes) {
  await page.click('#clear');
  const box = await page.locator('#pad').boundingBox();
  const move = ([x, y]) => page.mouse.move(box.x + x * box.width, box.y + y * box.height);
  for (const [first, ...rest] of strokes) {
    await move(first);
    await page.mouse.down();
    for (const point of rest) await move(point);
    await page.mouse.up();
  }
  await settled(page);
  return answer(page);
}

async function use(page, complaints) {
  await page.emulateMedia({ colorScheme: job.dark ? 'dark' : 'light' });
  await page.goto(job.url);
  await page.waitForFunction(() => document.body.dataset.ready || !document.getElementById('trouble').hidden, null, { timeout: 60000 });
  const text = (id) => page.evaluate((id) => document.getElementById(id).textContent, id);
  const found = { title: await text('title'), lead: await text('lead'), trouble: await text('trouble'), drawn: [], opened: [], complaints };
  const works = await page.evaluate(() => document.body.dataset.ready === 'yes');
  for (const strokes of works ? job.drawings : []) found.drawn.push(await draw(page, strokes));
  for (const picture of works ? job.pictures : []) {
    await page.click('#clear');
    await page.setInputFiles('#file', picture);
    await settled(page);
    found.opened.push(await answer(page));
  }
  if (job.screenshot) await page.screenshot({ path: job.screenshot });
  process.stdout.write(JSON.stringify(found));
}

withBrowser(load, profile, use, { width: 860, height: 600 }).catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
