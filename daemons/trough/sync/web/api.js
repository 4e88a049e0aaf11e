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
  let answer = null;
  try { answer = JSON.parse(text); } catch { /* A text in the old manner. */ }
  if (!response.ok) {
    const why = answer?.error?.message ?? answer?.error ?? (text.trim() || response.statusText);
    throw new Refused(response.status, typeof why === 'string' ? why : JSON.stringify(why));
  }
  if (answer === null) throw new Refused(response.status, 'the answer is no JSON');
  return answer;
}

/** A path with a query; what is null or empty is left out. */
export function url(path, parameters) {
  const wanted = Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined && value !== '');
  return wanted.length ? `${path}?${new URLSearchParams(wanted)}` : path;
}
