// The controls of the view Operations. Each is {id, title, text, offered(document)?, sign(document), draw(body, document, act)}:
// `offered` says whether the server can do it, `sign` what it shows (it is drawn anew when that changes), `draw` fills it in, and
// `act` is operations.js's: it POSTs, says what came of it, and looks again.

import { lines } from './api.js';
import { h, setText } from './dom.js';
import { bytes, moment, number } from './format.js';

const THROTTLES = [
  ['move_segments', 'Segments moved per cycle'], ['move_bytes', 'Bytes moved per cycle (0: no limit)'],
  ['copy_bandwidth', 'Bytes a second of a worker’s copies (0: no limit)'], ['promotion_bandwidth', 'Bytes a second of a worker’s promotions (0: no limit)'],
  ['copy_thread_pool_size', 'Copies of a worker at the same time'],
];

const form = (submitted, ...fields) => h('form', { onsubmit: event => { event.preventDefault(); submitted(event); } }, fields);

const drainControl = {
  id: 'drain', title: 'Drain a worker', text: 'Moves everything off a worker, before it is stopped for long or for good.',
  sign: ({ cluster }) => cluster.workers.map(w => [w.node, w.draining]),
  draw(body, { cluster }, act) {
    const select = h('select', { id: 'drain-node' }, cluster.workers.map(w => h('option', { value: w.node }, w.draining ? `${w.node} (draining)` : w.node)));
    const worker = () => cluster.workers.find(w => w.node === select.value);
    const button = h('button', { class: 'go' });
    const name = () => setText(button, worker()?.draining ? 'Take back' : 'Drain');
    select.addEventListener('change', name);
    name();
    body.append(form(() => worker() && act.drain(worker().node, !worker().draining),
      h('label', { for: 'drain-node' }, 'Worker'), select, h('div', {}, button)));
  },
};

const pauseControl = {
  id: 'pause', title: 'Pause placement', text: 'Nothing is moved, repaired or dropped until it is resumed. Reads, writes and promotions go on.',
  offered: document => Boolean(document.controls),
  sign: document => document.controls?.paused,
  draw(body, { controls: { paused } }, act) {
    if (paused) {
      body.append(h('p', {}, `Paused since ${moment(1000 * paused.since)}${paused.reason ? `: ${paused.reason}` : ''}.`),
        form(() => act.post('/v1/resume', {}, 'Placement goes on.'), h('div', {}, h('button', { class: 'go' }, 'Resume'))));
      return;
    }
    const reason = h('input', { id: 'pause-reason', autocomplete: 'off' });
    body.append(form(() => act.post('/v1/pause', reason.value ? { reason: reason.value } : {}, 'Placement is paused.'),
      h('label', { for: 'pause-reason' }, 'Reason (optional)'), reason, h('div', {}, h('button', { class: 'go' }, 'Pause'))));
  },
};

const throttleControl = {
  id: 'throttle', title: 'Throttles', text: 'For the whole cluster, at once. An empty field is what the settings say.',
  offered: document => Boolean(document.controls?.throttles),
  sign: document => document.controls?.throttles,
  draw(body, { controls: { throttles } }, act) {
    const known = THROTTLES.filter(([name]) => name in throttles);
    const fields = known.map(([name, label]) => [h('label', { for: `throttle-${name}` }, label), h('input', {
      id: `throttle-${name}`, type: 'number', min: 0, step: 1, value: throttles[name].set, placeholder: `${throttles[name].setting} by the settings`,
    })]);
    body.append(form(() => {
      const value = i => fields[i][1].value === '' ? null : Number(fields[i][1].value);
      act.post('/v1/throttle', Object.fromEntries(known.map(([name], i) => [name, value(i)])), 'The throttles are set.');
    }, fields, h('div', {}, h('button', { class: 'go' }, 'Set'))));
  },
};

const scrubControl = {
  id: 'scrub', title: 'Scrub', text: 'Has the workers read their copies and compare them with what is recorded; broken ones are kept aside and fetched again.',
  offered: document => Boolean(document.controls),
  sign: ({ cluster }) => cluster.workers.map(w => w.node),
  draw(body, { cluster }) {
    const node = h('select', { id: 'scrub-node' }, h('option', { value: '' }, 'all workers'), cluster.workers.filter(w => w.tier === 'hot').map(w => h('option', { value: w.node }, w.node)));
    const matching = h('input', { id: 'scrub-matching', autocomplete: 'off', spellcheck: 'false', placeholder: 'regular expression; empty: all' });
    const check = h('input', { id: 'scrub-check', type: 'checkbox' });
    const progress = h('p', { class: 'soft', role: 'status' });
    const found = h('ul', {});
    const button = h('button', { class: 'go' }, 'Scrub');
    body.append(form(async () => {
      button.disabled = true;
      found.replaceChildren();
      setText(progress, 'Scrubbing…');
      try {
        const wish = { check: check.checked, ...node.value ? { node: node.value } : {}, ...matching.value ? { matching: matching.value } : {} };
        let ended = false;
        await lines('/v1/scrub', wish, line => {
          const counts = line.end ?? line.progress;
          ended ||= Boolean(line.end);
          if (line.finding) found.append(h('li', { class: 'error' }, [line.finding.segment, line.finding.node, line.finding.what, line.finding.detail].filter(Boolean).join(' · ')));
          if (counts) setText(progress, `${number(counts.done)} of ${number(counts.total)} copies, ${bytes(counts.bytes)}: ${number(counts.damaged)} damaged, ${number(counts.repaired)} repaired, ${number(counts.failed)} could not be read${line.end ? '. Done.' : ' so far.'}`);
        });
        if (!ended) setText(progress, 'The answer was cut off before the end.');
      } catch (error) {
        setText(progress, error.message);
      } finally {
        button.disabled = false;
      }
    }, h('label', { for: 'scrub-node' }, 'Copies of'), node, h('label', { for: 'scrub-matching' }, 'Segments matching'), matching,
    h('label', { class: 'line' }, check, 'Only report'), h('div', {}, button)), progress, found);
  },
};

export const CONTROLS = [drainControl, pauseControl, throttleControl, scrubControl];
