// A headless Chromium that talks to nobody but the page's own server.

const FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** Runs `use(page, complaints)`; `profile` is an empty folder. What the page logs as an error is in `complaints`. */
async function withBrowser(load, profile, use, viewport = { width: 1024, height: 720 }) {
  const { chromium } = load('playwright-core');
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    args: FLAGS,
    viewport,
    deviceScaleFactor: 1,
  });
  try {
    const page = context.pages()[0] || (await context.newPage());
    const complaints = [];
    page.on('pageerror', (error) => complaints.push(String(error)));
    page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
    page.on('response', (answer) => answer.status() >= 400 && complaints.push(`${answer.url()}: ${answer.status()}`));
    page.on('requestfailed', (request) => complaints.push(`${request.url()}: failed`));
    return await use(page, complaints);
  } finally {
    await context.close();
  }
}

module.exports = { withBrowser };
