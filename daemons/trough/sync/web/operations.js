// What the role admin may do: draws the controls of controls.js, and carries out what they ask for.

import { ask } from './api.js';
import { CONTROLS } from './controls.js';
import { $, confirmed, h, setText, show } from './dom.js';
import { can, session } from './session.js';

let again = () => {};
/** By control: what it showed when it was drawn last, and its place in the page. */
const drawn = new Map();

/** What came of it: in the view's note, or, if it failed, above the view, where it stays until the next act. */
function tell(text, bad = false) {
  setText($('trouble'), bad ? text : '');
  show($('trouble'), bad);
  $('trouble').dataset.kind = bad ? 'act' : '';
  setText($('operations-note'), bad ? note() : text);
}

const note = () => can('admin') ? '' : `These need the role admin; this session has ${session.role ? `the role ${session.role}` : 'none'}.`;

/** POSTs something, says what came of it, and has the page look again. */
async function post(path, body, done) {
  try {
    await ask(path, { method: 'POST', body });
    tell(done);
  } catch (error) {
    tell(error.message, true);
  }
  again();
}

/** Empties a worker, or takes that back, once the person has agreed. */
export async function drain(node, to) {
  const agreed = to
    ? await confirmed(`Drain ${node}?`, 'Its segments are copied to other workers first and dropped here afterwards. It gets no new ones.', 'Drain')
    : await confirmed(`Take ${node} back?`, 'It gets its share of the segments again.', 'Take back');
  if (agreed) await post('/v1/drain', { node, drain: to }, to ? `${node} is being emptied.` : `${node} takes segments again.`);
}

/** `refresh` has the page look at the cluster again. */
export function begin(refresh) {
  again = refresh;
}

let role;

/** Draws the controls that the server offers, each anew where something that it shows has changed. */
export function update(document) {
  if (role !== session.role) {
    role = session.role;
    setText($('operations-note'), note());
  }
  for (const control of CONTROLS) {
    const offered = can('admin') && (control.offered?.(document) ?? true);
    const entry = drawn.get(control.id);
    const sign = JSON.stringify(control.sign(document)) ?? '';
    if (!offered) {
      entry?.card.remove();
      drawn.delete(control.id);
    } else if (entry?.sign !== sign) {
      const body = h('div', {});
      const card = h('section', { class: 'card', 'aria-labelledby': `control-${control.id}` },
        h('h3', { id: `control-${control.id}` }, control.title), h('p', { class: 'soft' }, control.text), body);
      control.draw(body, document, { post, drain });
      keepChoices(entry?.card, card);
      if (entry) entry.card.replaceWith(card);
      else $('controls').append(card);
      drawn.set(control.id, { card, sign });
    }
  }
}

/** What was chosen in a card's lists before it was drawn anew is chosen again. */
function keepChoices(before, card) {
  for (const select of card.querySelectorAll('select')) {
    const old = before?.querySelector(`#${select.id}`)?.value;
    if (old && [...select.options].some(option => option.value === old)) {
      select.value = old;
      select.dispatchEvent(new Event('change'));
    }
  }
}
