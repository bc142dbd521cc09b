// What a reader does on the page, in Swagger UI's terms.

/** Presses Authorize and enters a bearer key. */
export async function authorize(page, key) {
  await page.locator('button.authorize').first().click();
  const dialog = page.locator('.dialog-ux .auth-container', { hasText: 'ApiKey' });
  await dialog.locator('input').fill(key);
  await dialog.locator('button.authorize').click();
  await dialog.locator('button.btn-done').click();
}

export const operation = (page, id) => page.locator(`.opblock[id$="-${id}"]`);

/** Opens an operation, tries it out with its example body as `change` leaves it, and gives what came back. */
export async function tryOut(page, id, change) {
  const block = operation(page, id);
  await block.locator('.opblock-summary-control').click();
  await block.locator('button.try-out__btn').click();
  if (change) {
    const body = block.locator('textarea.body-param__text');
    const example = JSON.parse(await body.inputValue());
    await body.fill(JSON.stringify(change(example)));
  }
  await block.locator('button.execute').click();
  const response = block.locator('.live-responses-table tr.response');
  await response.waitFor();
  return {
    status: (await response.locator('.response-col_status').innerText()).trim().split('\n')[0],
    body: await response.locator('.response-col_description .highlight-code pre').first().innerText(),
  };
}
