// Requests to the server that the page came from. The token is kept for this tab only.

const KEY = 'trough-token';
const LIMIT = 20_000;

export const token = {
  get: () => sessionStorage.getItem(KEY),
  set: value => value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY),
};

/** The server refused, or did not answer. `status` is 0 for the latter. */
export class Refused extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

function headers(more = {}) {
  const bearer = token.get();
  return { accept: 'application/json', ...(bearer ? { authorization: `Bearer ${bearer}` } : {}), ...more };
}

/** POSTs, and gives each line of JSON of the answer as it comes, however long that takes. */
export async function lines(path, body, take) {
  let response;
  try {
    response = await fetch(path, { method: 'POST', headers: headers({ 'content-type': 'application/json' }), body: JSON.stringify(body) });
  } catch {
    throw new Refused(0, 'the server cannot be reached');
  }
  if (!response.ok) throw refusal(response, await response.text());
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const whole = (rest + part.value).split('\n');
    rest = whole.pop();
    whole.filter(Boolean).forEach(line => take(JSON.parse(line)));
  }
}

/** What a refusal says: our JSON, or a text in the old manner. */
function refusal(response, text) {
  let why = text.trim() || response.statusText;
  try {
    const answer = JSON.parse(text);
    why = answer.error?.message ?? answer.error ?? why;
  } catch { /* A text. */ }
  return new Refused(response.status, typeof why === 'string' ? why : JSON.stringify(why));
}

/** Asks, and reads the JSON. What has not changed since it was asked for last comes from the browser's cache (ETag). */
export async function ask(path, { method = 'GET', body, limit = LIMIT } = {}) {
  let response;
  let text;
  try {
    response = await fetch(path, {
      method, cache: 'no-cache', signal: AbortSignal.timeout(limit), headers: headers(body ? { 'content-type': 'application/json' } : {}),
      body: body ? JSON.stringify(body) : undefined,
    });
    text = await response.text();
  } catch (error) {
    throw new Refused(0, error.name === 'TimeoutError' ? `no answer within ${limit / 1000} s` : 'the server cannot be reached');
  }
  if (!response.ok) throw refusal(response, text);
  try {
    return JSON.parse(text);
  } catch {
    throw new Refused(response.status, 'the answer is no JSON');
  }
}

/** A path with a query; what is null or empty is left out. */
export function url(path, parameters) {
  const wanted = Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined && value !== '');
  return wanted.length ? `${path}?${new URLSearchParams(wanted)}` : path;
}
