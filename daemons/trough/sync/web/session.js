// Who looks: the token, its role, and the theme.

import { Refused, ask, token } from './api.js';
import { $, setText, show } from './dom.js';

const RANK = { read: 1, write: 2, admin: 3 };
const THEMES = ['auto', 'light', 'dark'];

export const session = { role: null, known: false };

/** Whether the server would let this session do it. */
export const can = role => (RANK[session.role] ?? 0) >= RANK[role];

/** Asks for the role of the token that there is; false if the server refuses the token. */
async function learn() {
  try {
    const who = await ask('/v1/whoami');
    session.role = who.role;
    session.known = true;
    setText($('role'), who.role ? `role ${who.role}` : 'no role');
    show($('role'), true);
    return true;
  } catch (error) {
    if (!(error instanceof Refused) || error.status !== 401) throw error;
    session.role = null;
    session.known = true;
    setText($('role'), 'no role');
    return false;
  }
}

export function openToken(why = '') {
  const dialog = $('token-dialog');
  if (dialog.open) return;
  setText($('token-error'), why);
  $('token').value = '';
  show($('token-forget'), token.get() !== null);
  dialog.showModal();
  $('token').focus();
}

/** Sets the controls up; `changed` is called whenever the role may be another. */
export async function begin(changed) {
  $('token-button').addEventListener('click', () => openToken());
  $('token-cancel').addEventListener('click', () => $('token-dialog').close());
  $('token-forget').addEventListener('click', () => use(null));
  $('token-form').addEventListener('submit', event => {
    event.preventDefault();
    use($('token').value.trim());
  });
  const use = async wish => {
    const before = token.get();
    token.set(wish);
    let accepted = false;
    try {
      accepted = await learn();
    } catch (error) {
      setText($('token-error'), error.message);
      return;
    }
    if (!accepted) {
      token.set(before);
      await learn().catch(() => {});
      setText($('token-error'), 'The server does not know this token.');
      $('token').focus();
      return;
    }
    $('token-dialog').close();
    changed();
  };
  $('theme').addEventListener('click', () => {
    setTheme(THEMES[(THEMES.indexOf(localStorage.getItem('trough-theme') ?? 'auto') + 1) % THEMES.length]);
  });
  setTheme(localStorage.getItem('trough-theme') ?? 'auto');
  try {
    if (!await learn()) {
      token.set(null);
      await learn();
    }
  } catch { /* The first poll says what is wrong. */ }
  if (session.known && !session.role) openToken('This cluster answers only with a token.');
}

function setTheme(theme) {
  if (theme === 'auto') document.documentElement.removeAttribute('data-theme');
  else document.documentElement.dataset.theme = theme;
  localStorage.setItem('trough-theme', theme);
  setText($('theme'), `Theme: ${theme}`);
}
