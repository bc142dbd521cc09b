// A Chromium that can reach the server under test and nothing else.
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  // A page that needs another host shows it by not working.
  '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
];

export const launch = () => chromium.launch({ executablePath: process.env.TEST_CHROMIUM, args: FLAGS });

/** A fresh page, with what it asked for and what it complained about. */
export async function openPage(browser) {
  const context = await browser.newContext();
  const page = await context.newPage();
  const requests = [];
  const complaints = [];
  context.on('request', (request) => requests.push(request.url()));
  page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
  page.on('pageerror', (error) => complaints.push(String(error)));
  return { page, requests, complaints, close: () => context.close() };
}

/** What the page looked like, for whoever reads the failure. */
export async function screenshot(page, name) {
  const path = join(process.env.TEST_SCREENSHOTS, `${name.replace(/\W+/g, '-')}.png`);
  await mkdir(process.env.TEST_SCREENSHOTS, { recursive: true });
  await page.screenshot({ path, fullPage: true });
  console.error(`screenshot: ${path}`);
}
