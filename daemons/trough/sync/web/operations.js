// What the role admin may do. A control is an entry of CONTROLS: {id, title, text, draw(body, document)}; `draw` is called
// when the view is opened and after each change of the role, `update(document)`, if it is there, with each look at the cluster.

import { ask } from './api.js';
import { $, confirmed, h, setText, show } from './dom.js';
import { can, session } from './session.js';

let again = () => {};
let drawn = '';

/** POSTs something, says what came of it, and has the page look again. */
export async function act(path, body, done) {
  try {
    await ask(path, { method: 'POST', body });
    tell(done);
  } catch (error) {
    tell(error.message, true);
  }
  again();
}

/** What came of it: in the view's note, or, if it failed, above the view, where it stays until the next act. */
function tell(text, bad = false) {
  setText($('trouble'), bad ? text : '');
  show($('trouble'), bad);
  $('trouble').dataset.kind = bad ? 'act' : '';
  setText($('operations-note'), bad ? note() : text);
}

const note = () => can('admin') ? '' : `These need the role admin; this session has ${session.role ? `the role ${session.role}` : 'none'}.`;

/** Empties a worker, or takes that back, once the person has agreed. */
export async function drain(node, to) {
  const agreed = to
    ? await confirmed(`Drain ${node}?`, `Its segments are copied to other workers first and dropped here afterwards. It gets no new ones.`, 'Drain')
    : await confirmed(`Take ${node} back?`, 'It gets its share of the segments again.', 'Take back');
  if (agreed) await act('/v1/drain', { node, drain: to }, to ? `${node} is being emptied.` : `${node} takes segments again.`);
}

const CONTROLS = [
  {
    id: 'drain', title: 'Drain a worker', text: 'Moves everything off a worker, before it is stopped for long or for good.',
    draw(body, { cluster }) {
      const select = h('select', { id: 'drain-node' }, cluster.workers.map(w => h('option', { value: w.node }, w.draining ? `${w.node} (draining)` : w.node)));
      const worker = () => cluster.workers.find(w => w.node === select.value);
      const button = h('button', { class: 'go' });
      const name = () => setText(button, worker()?.draining ? 'Take back' : 'Drain');
      select.addEventListener('change', name);
      name();
      body.append(h('form', { onsubmit: event => { event.preventDefault(); if (worker()) drain(worker().node, !worker().draining); } },
        h('label', { for: 'drain-node' }, 'Worker'), select, h('div', {}, button)));
    },
  },
];

/** `refresh` has the page look at the cluster again. */
export function begin(refresh) {
  again = refresh;
}

/** Draws the controls anew where something that they show has changed. */
export function update(document) {
  const sign = JSON.stringify([session.role, document.cluster.workers.map(w => [w.node, w.draining])]);
  if (sign === drawn) return;
  drawn = sign;
  setText($('operations-note'), note());
  const chosen = $('drain-node')?.value;
  $('controls').replaceChildren(...can('admin') ? CONTROLS.map(control => {
    const body = h('div', {});
    const card = h('section', { class: 'card', 'aria-labelledby': `control-${control.id}` },
      h('h3', { id: `control-${control.id}` }, control.title), h('p', { class: 'soft' }, control.text), body);
    control.draw(body, document);
    return card;
  }) : []);
  const select = $('drain-node');
  if (select && chosen && document.cluster.workers.some(w => w.node === chosen)) {
    select.value = chosen;
    select.dispatchEvent(new Event('change'));
  }
}
