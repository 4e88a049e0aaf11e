// The page: which view is shown, and how often the server is asked. Only what the view shows is asked for.

import * as activity from './activity.js';
import { ask } from './api.js';
import { $, setText, show } from './dom.js';
import { moment, number, span } from './format.js';
import * as operations from './operations.js';
import * as overview from './overview.js';
import * as problems from './problems.js';
import * as query from './query.js';
import * as segments from './segments.js';
import * as session from './session.js';
import * as story from './story.js';
import * as workers from './workers.js';

const EVERY = 2_000;
/** Looks between two of the counts of problems, where no list of them is shown. */
const COUNTS = 5;
const VIEWS = ['overview', 'problems', 'segments', 'query', 'operations'];

let view = 'overview';
let looks = 0;
let lastAnswer = null;
let timer;

function route() {
  const [name, ...rest] = location.hash.slice(1).split('/');
  const argument = rest.length ? decodeURIComponent(rest.join('/')) : null;
  const before = view;
  view = VIEWS.includes(name) ? name : 'overview';
  if (view !== before) scrollTo(0, 0);
  for (const id of VIEWS) show($(`view-${id}`), id === view);
  for (const link of document.querySelectorAll('nav a')) {
    if (link.hash === `#${view}`) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  document.title = view === 'overview' ? 'trough' : `${view} – trough`;
  if (view === 'problems') problems.choose(argument);
  if (view === 'segments') story.open(argument).catch(trouble);
  if (view === 'query' && argument) query.prepare(argument);
  look();
}

function trouble(error) {
  setText($('trouble'), error?.message ?? '');
  show($('trouble'), Boolean(error));
}

function say(level, sentence) {
  if ($('health').dataset.level !== level) $('health').dataset.level = level;
  setText($('sentence'), sentence);
}

async function look() {
  clearTimeout(timer);
  const first = lastAnswer === null;
  try {
    const said = await ask('/v1/cluster?named=5');
    lastAnswer = Date.now();
    header(said);
    overview.update(said);
    workers.update(said);
    operations.update(said);
    const more = { overview: activity.refresh, problems: problems.refresh, segments: story.refresh }[view];
    const asked = [more?.(), view !== 'problems' && looks % COUNTS === 0 ? problems.count() : null];
    looks += 1;
    await Promise.all(asked);
    if (first) performance.mark('trough-interactive');
  } catch (error) {
    failed(error);
  }
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(look, EVERY);
}

function failed(error) {
  if (error.status === 401 || error.status === 403) {
    say('warn', 'This cluster answers only with a token.');
    return;
  }
  say('bad', `${error.message[0].toUpperCase()}${error.message.slice(1)}.${lastAnswer ? ` What you see is ${span((Date.now() - lastAnswer) / 1000)} old.` : ''}`);
}

function header(said) {
  const { cluster, health } = said;
  say(health.level, health.sentence);
  const of = said.standing === 'master' ? '' : ` of ${said.master ?? 'nobody'}`;
  setText($('who'), `${said.node}, ${said.standing}${of}, version ${said.version}`);
  setText($('when'), cluster.at ? `Store ${said.store}. Looked at ${moment(1000 * cluster.at)}, which took ${number(cluster.took_ms)} ms; epoch ${cluster.epoch}, plan ${cluster.generation}.` : 'Not looked at yet.');
  const notes = [
    cluster.error && `The last reconciliation failed: ${cluster.error}`,
    said.metadata_error && `The metadata does not answer, so the workers are shown as they were last seen: ${said.metadata_error}`,
    cluster.missing_count > 0 && `${number(cluster.missing_count)} segments have copies but no file in the canonical store, as ${cluster.missing.join(', ')}: promote them again, restore their files, or shred them.`,
  ].filter(Boolean);
  if (notes.length) trouble({ message: notes.join('\n') });
  else if ($('trouble').dataset.kind !== 'act') trouble(null);
}

async function start() {
  segments.begin();
  problems.begin();
  workers.begin();
  activity.begin();
  query.begin();
  operations.begin(look);
  addEventListener('hashchange', route);
  document.addEventListener('visibilitychange', () => { if (!document.hidden) look(); });
  await session.begin(() => { looks = 0; route(); });
  route();
}

start();
