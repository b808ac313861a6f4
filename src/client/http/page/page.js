// The page of the messenger's client. Texts from people go into the page as text (textContent),
// never as HTML.

const $ = id => document.getElementById(id);
const [view, log, outbox, state, more, form, name, text, door] =
  ['view', 'log', 'outbox', 'state', 'more', 'form', 'name', 'text', 'door'].map($);

// Messages per sheet. The browser lays out only the sheets near the screen, and old messages are
// removed by the sheet.
const SHEET_SIZE = 100;
// The most sheets in the page. With more, the oldest are removed.
const MAX_SHEETS = 101;
// The most messages that one frame adds to the page.
const MAX_BATCH = 200;
// A longer text is cut after this many characters or lines, until the reader asks for all of it.
const MAX_CHARACTERS = 10_000;
const MAX_LINES = 60;
// How many messages of this browser's user are remembered for the next visit.
const MAX_REMEMBERED = 1_000;
// Messages of one author within this time (ms) form a group.
const GROUP_TIME = 3 * 60_000;
// How long (ms) the page waits for an acknowledged message to arrive in the stream.
const ARRIVAL_TIMEOUT = 5_000;
// The client sends a comment every 15 s. After this much silence (ms) the connection is dead, even
// if the network has not noticed.
const SILENCE_TIMEOUT = 40_000;

const make = (tag, className, content = '') => {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = content;
  return node;
};

// A browser may forbid storage. Then the page remembers nothing.
const remember = (key, value) => {
  try { localStorage.setItem(key, value); } catch { /* no storage */ }
};
const recall = key => { try { return localStorage.getItem(key); } catch { return null; } };

// ---- The messages

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const calendar = new Intl.DateTimeFormat(
  undefined, { weekday: 'long', day: 'numeric', month: 'long', year: 'numeric' });

const loadOwn = () => {
  try { return new Set(JSON.parse(recall('own') ?? '[]')); } catch { return new Set(); }
};
// The times of the messages that this browser sent.
let own = loadOwn();
// The messages in the page, by time: {author, text, date, node}.
const shown = new Map();
// The same messages by node, to compare neighbours.
const records = new WeakMap();
// What the next frames will add: a message, null for a gap, undefined to clear the page.
let queue = [];
// Messages that were acknowledged and have not arrived in the stream yet, by time.
const acknowledged = new Map();

let lastDay = '';
let atEnd = true;
let unread = 0;
let unseen = 0;
let scheduled = false;

const arrive = item => {
  queue.push(item);
  const most = SHEET_SIZE * MAX_SHEETS;
  if (queue.length >= 2 * most) queue = [undefined, ...queue.slice(-most)];
  if (document.hidden && item) document.title = `(${++unseen}) messenger`;
  schedule();
};

const schedule = () => {
  if (!scheduled) requestAnimationFrame(draw);
  scheduled = true;
};

const draw = () => {
  scheduled = false;
  const before = unread;
  for (const item of queue.splice(0, MAX_BATCH)) {
    if (item) addMessage(item);
    else if (item === null) addGap();
    else clear();
  }
  // A reader of old messages keeps them, unless there are far too many.
  if (log.childElementCount > (atEnd ? MAX_SHEETS : 2 * MAX_SHEETS)) forget();
  log.setAttribute('aria-busy', queue.length > 0);
  $('empty').hidden = log.hasChildNodes() || outbox.hasChildNodes();
  if (atEnd) toEnd();
  else if (unread > before) showUnread();
  if (queue.length) schedule();
};

const addMessage = ({ author, text, sendTime }) => {
  const sent = acknowledged.get(sendTime);
  if (sent) {
    acknowledged.delete(sendTime);
    sent.node.remove();
  }
  const same = shown.get(sendTime);
  // After a gap the client may repeat messages that are here already.
  if (same && same.author === author && same.text === text) return;
  const date = new Date(`${sendTime.slice(0, 23)}Z`);
  const day = calendar.format(date);
  if (day !== lastDay) put(make('h2', 'day', day));
  lastDay = day;
  const node = bubble(author, text, own.has(sendTime));
  const time = make('time', '', clock.format(date));
  time.dateTime = time.title = sendTime;
  node.firstChild.append(time);
  const record = { author, text, date, node };
  shown.set(sendTime, record);
  records.set(node, record);
  put(node);
  group(node);
  if (!atEnd) unread += 1;
};

// Adds a node at the end.
const put = node => {
  const isFull = !log.lastChild || log.lastChild.childElementCount >= SHEET_SIZE;
  if (isFull) log.append(make('div', 'sheet'));
  log.lastChild.append(node);
};

const bubble = (author, text, mine) => {
  const node = make('article', mine ? 'own' : '');
  const head = make('header', '');
  const who = make('b', '', author || 'nobody');
  who.dir = 'auto';
  // A name has the same colour everywhere.
  let hue = 0;
  for (const char of author) hue = (hue * 31 + char.codePointAt(0)) % 360;
  node.style.setProperty('--hue', hue);
  head.append(who, make('span', 'you', '(you)'));
  const said = make('p', 'text');
  said.dir = 'auto';
  node.append(head, said);
  const short = text.split('\n', MAX_LINES).join('\n').slice(0, MAX_CHARACTERS);
  said.textContent = text;
  if (short.length < text.length) {
    // Do not cut a character in half.
    said.textContent = `${short.replace(/[\ud800-\udbff]$/, '')} …`;
    const all = make('button', 'link', `Show all ${text.length.toLocaleString()} characters`);
    all.type = 'button';
    all.onclick = () => {
      said.textContent = text;
      all.remove();
      view.focus();
    };
    node.append(all);
  }
  return node;
};

// Hides the name above a message if the message before it has the same author.
const group = node => {
  const [one, other] = [node?.previousElementSibling, node].map(node => records.get(node));
  if (!other) return;
  const mine = record => record.node.classList.contains('own');
  const together = one && one.author === other.author && mine(one) === mine(other)
    && Math.abs(other.date - one.date) < GROUP_TIME;
  node.classList.toggle('cont', Boolean(together));
};

const addGap = () => {
  if (log.lastChild?.lastChild.className === 'gap') return;
  put(make('p', 'gap', 'Messages may be missing here'));
};

const forget = () => {
  while (log.childElementCount > MAX_SHEETS) log.firstChild.remove();
  for (const [time, { node }] of shown) {
    if (node.isConnected) break;
    shown.delete(time);
  }
  $('older').hidden = false;
};

const clear = () => {
  shown.clear();
  // They were among the messages that are not shown, or will still arrive.
  for (const { node } of acknowledged.values()) node.remove();
  acknowledged.clear();
  log.replaceChildren();
  $('older').hidden = false;
  lastDay = '';
};

const markOwn = time => {
  const record = shown.get(time);
  if (!record) return false;
  record.node.classList.add('own');
  group(record.node);
  group(record.node.nextElementSibling);
  return true;
};

// ---- The scroll position

const measure = () => ({ top: view.scrollTop, height: view.scrollHeight, box: view.clientHeight });
let seen = measure();
let touched = -Infinity;

const toEnd = () => {
  view.scrollTop = view.scrollHeight;
  seen = measure();
  unread = 0;
  more.hidden = true;
};

const showUnread = () => {
  more.textContent = `${unread.toLocaleString()} new message${unread === 1 ? '' : 's'} ↓`;
  more.hidden = false;
};

// Only a reader who scrolls up leaves the end. Messages above may also move because they get their
// real height, or are removed: then the whole height changes too.
view.addEventListener('scroll', () => {
  const now = measure();
  const sameSize = now.height === seen.height && now.box === seen.box;
  const moved = sameSize || performance.now() - touched < 500;
  if (now.height - now.box - now.top < 48) atEnd = true;
  else if (now.top < seen.top && moved) atEnd = false;
  seen = now;
  if (atEnd) toEnd();
}, { passive: true });
for (const touch of ['wheel', 'touchmove', 'keydown', 'pointerdown']) {
  view.addEventListener(touch, () => { touched = performance.now(); }, { passive: true });
}
const settled = new ResizeObserver(() => { if (atEnd) toEnd(); });
for (const node of [view, log, outbox]) settled.observe(node);
more.onclick = () => {
  atEnd = true;
  toEnd();
  view.focus();
};
document.addEventListener('visibilitychange', () => {
  if (document.hidden) return;
  unseen = 0;
  document.title = 'messenger';
});

// ---- The token, if the client needs one

let token = recall('token');
// A link may contain it in the fragment, which browsers do not send to servers.
if (location.hash.startsWith('#token=')) {
  token = decodeURIComponent(location.hash.slice(7));
  history.replaceState(null, '', location.pathname);
}
const allowed = headers => (token ? { ...headers, Authorization: `Bearer ${token}` } : headers);

// Asks the reader for the token.
const ask = () => new Promise(resolve => {
  say('away', token ? 'This is not the token.' : 'This chat asks for a token.');
  form.hidden = !(door.hidden = false);
  $('token').focus();
  door.onsubmit = event => {
    event.preventDefault();
    token = $('token').value;
    form.hidden = !(door.hidden = true);
    resolve();
  };
});

// ---- The stream

const words = {
  open: 'Connected',
  down: 'The server is away. Your client waits for it.',
  away: 'Your client is away. Trying again …',
};
const say = (is, sentence = words[is]) => {
  if (state.textContent === sentence) return;
  state.dataset.is = is;
  state.textContent = sentence;
};

let lastId;
let hurry = () => {};

// Reads the stream, and reconnects when it ends. EventSource would give up at the first answer that
// is not 200, and does not notice a dead connection.
const follow = async () => {
  for (let failures = 0; ; failures += 1) {
    const abort = new AbortController();
    let silence;
    const alive = () => {
      clearTimeout(silence);
      silence = setTimeout(() => abort.abort(), SILENCE_TIMEOUT);
    };
    let reason;
    try {
      alive();
      const headers = allowed(lastId ? { 'Last-Event-ID': lastId } : {});
      const answer = await fetch('messages', { headers, cache: 'no-store', signal: abort.signal });
      if (answer.status === 401) {
        clearTimeout(silence);
        await ask();
        failures = -1;
        continue;
      }
      if (answer.ok) {
        failures = 0;
        if (token) remember('token', token);
        const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
        for (let rest = ''; ;) {
          const { done, value } = await reader.read();
          if (done) break;
          alive();
          const blocks = (rest + value).split('\n\n');
          rest = blocks.pop();
          blocks.forEach(receive);
        }
      } else {
        reason = (await answer.json().catch(() => ({}))).detail;
      }
    } catch { /* network errors tell a reader nothing */ }
    clearTimeout(silence);
    say('away', reason && `Your client says: ${reason}. Trying again …`);
    const pause = Math.min(300 * 2 ** failures, 5_000) * (0.75 + Math.random() / 2);
    await new Promise(resolve => {
      hurry = resolve;
      setTimeout(resolve, pause);
    });
  }
};
addEventListener('online', () => hurry());
document.addEventListener('visibilitychange', () => { if (!document.hidden) hurry(); });

// Handles one event of the stream.
const receive = block => {
  const event = {};
  for (const line of block.split('\n')) {
    const colon = line.indexOf(': ');
    if (colon > 0) event[line.slice(0, colon)] = line.slice(colon + 2);
  }
  if (event.event === 'state') say(event.data);
  else if (event.event === 'gap') arrive(null);
  else if (event.data) arrive(JSON.parse(event.data));
  lastId = event.id ?? lastId;
  $('empty').hidden = queue.length > 0 || log.hasChildNodes() || outbox.hasChildNodes();
};

// ---- Sending

// crypto.randomUUID exists only over https and on localhost.
const newKey = () => Array.from(crypto.getRandomValues(new Uint8Array(16)),
  byte => byte.toString(16).padStart(2, '0')).join('');

// Messages are sent one after the other, so that the chat has them in the order of writing.
let last = Promise.resolve();
const send = item => {
  item.node.className = 'own waits';
  item.fate.textContent = 'Sending …';
  last = last.then(() => post(item));
};

const post = async item => {
  let problem;
  try {
    const answer = await fetch('sendMessage', {
      method: 'POST',
      headers: allowed({ 'Content-Type': 'application/json', 'Idempotency-Key': item.key }),
      body: JSON.stringify({ author: item.author, text: item.text }),
      signal: AbortSignal.timeout(60_000),
    });
    const body = await answer.json().catch(() => ({}));
    if (answer.ok) return accepted(item, body.sendTime);
    problem = body.detail ?? `the answer was ${answer.status}`;
  } catch {
    problem = 'your client gave no answer: the message may or may not be in the chat';
  }
  failed(item, `${problem[0].toUpperCase()}${problem.slice(1)}.`);
};

const accepted = (item, time) => {
  own = loadOwn().add(time);
  remember('own', JSON.stringify([...own].slice(-MAX_REMEMBERED)));
  item.fate.textContent = '';
  // The message may arrive in the stream before the answer.
  if (markOwn(time)) return item.node.remove();
  acknowledged.set(time, item);
  // After a gap it may never arrive, but it is in the chat.
  setTimeout(() => {
    if (acknowledged.has(time)) arrive({ author: item.author, text: item.text, sendTime: time });
  }, ARRIVAL_TIMEOUT);
};

const failed = (item, sentence) => {
  item.node.className = 'own failed';
  item.fate.textContent = sentence;
  const button = (label, act) => {
    const node = make('button', 'link', label);
    node.type = 'button';
    node.onclick = () => {
      text.focus();
      act();
    };
    item.fate.append(' ', node);
  };
  // With the same key: if the first attempt succeeded after all, there is no second message.
  button('Send again', () => send(item));
  button('Discard', () => item.node.remove());
};

const fit = () => {
  text.style.height = 'auto';
  text.style.height = `${text.scrollHeight + text.offsetHeight - text.clientHeight}px`;
};

form.onsubmit = event => {
  event.preventDefault();
  if (!text.value.trim()) return text.focus();
  const node = bubble(name.value, text.value, true);
  const item = { author: name.value, text: text.value, key: newKey(), node };
  item.fate = make('p', 'fate');
  item.fate.setAttribute('role', 'status');
  item.node.append(item.fate);
  outbox.append(item.node);
  $('empty').hidden = true;
  text.value = '';
  fit();
  text.focus();
  atEnd = true;
  toEnd();
  send(item);
};
text.oninput = fit;
text.onkeydown = event => {
  // 229 is a key for an input method. Safari reports it in no other way.
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  form.requestSubmit();
};
name.onchange = () => remember('name', name.value);
name.value = recall('name') ?? '';
(name.value ? text : name).focus();

// Another tab sent a message.
addEventListener('storage', event => {
  if (event.key !== 'own') return;
  own = loadOwn();
  own.forEach(markOwn);
});

follow();
