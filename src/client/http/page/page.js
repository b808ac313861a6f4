// The page of the messenger's client. Every text of a person goes into the page as text (textContent), never as HTML.

const $ = id => document.getElementById(id);
const [view, log, outbox, state, more, form, name, text, door] =
  ['view', 'log', 'outbox', 'state', 'more', 'form', 'name', 'text', 'door'].map($);

// The messages stand in sheets of so many, which a browser lays out only near the screen, and which go as a whole.
const SHEET = 100;
// Sheets that stay in the page; with more the oldest go.
const SHEETS = 101;
// Messages that are put into the page at once; the rest waits for the next frame.
const BATCH = 200;
// Characters and lines of a longer text that are shown until somebody asks for all of it.
const CUT = 10_000;
const LINES = 60;
// Own messages that are remembered for the next visit.
const REMEMBERED = 1_000;
// Messages of one author within this time (ms) stand together.
const TOGETHER = 3 * 60_000;
// How long (ms) an acknowledged message is waited for.
const RETURN = 5_000;
// The client says something every 15 s. After so much silence (ms) the connection is dead, even if the network has not noticed.
const SILENCE = 40_000;

const make = (tag, className, content = '') => {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = content;
  return node;
};

// A browser may forbid a page to remember anything; then it does not.
const remember = (key, value) => { try { localStorage.setItem(key, value); } catch { /* nothing to be done */ } };
const recall = key => { try { return localStorage.getItem(key); } catch { return null; } };

// ---- The messages

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const calendar = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long', year: 'numeric' });

const loadOwn = () => {
  try { return new Set(JSON.parse(recall('own') ?? '[]')); } catch { return new Set(); }
};
// The times of the messages that were sent from this browser.
let own = loadOwn();
// What is in the page, by time: {author, text, date, node}.
const shown = new Map();
// The same by node, to see what stands beside what.
const records = new WeakMap();
// What has come and is not in the page yet: messages, and null where messages may be missing.
let queue = [];
// Sent and acknowledged, but not come back yet, by time.
const acknowledged = new Map();

let lastDay = '';
let atEnd = true;
let unread = 0;
let unseen = 0;
let scheduled = false;

const arrive = item => {
  queue.push(item);
  if (queue.length >= 2 * SHEET * SHEETS) queue = [undefined, ...queue.slice(-SHEET * SHEETS)];
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
  for (const item of queue.splice(0, BATCH)) {
    if (item) addMessage(item);
    else if (item === null) addGap();
    else clear();
  }
  // Not under the eyes of somebody who reads the old ones, unless there are far too many.
  if (log.childElementCount > (atEnd ? SHEETS : 2 * SHEETS)) forget();
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
  // After a gap the client may begin with what is here already.
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

// Puts something at the end.
const put = node => {
  if (!log.lastChild || log.lastChild.childElementCount >= SHEET) log.append(make('div', 'sheet'));
  log.lastChild.append(node);
};

const bubble = (author, text, mine) => {
  const node = make('article', mine ? 'own' : '');
  const head = make('header', '');
  const who = make('b', '', author || 'nobody');
  who.dir = 'auto';
  // The same name has the same colour everywhere.
  let hue = 0;
  for (const char of author) hue = (hue * 31 + char.codePointAt(0)) % 360;
  node.style.setProperty('--hue', hue);
  head.append(who, make('span', 'you', '(you)'));
  const said = make('p', 'text');
  said.dir = 'auto';
  node.append(head, said);
  const short = text.split('\n', LINES).join('\n').slice(0, CUT);
  said.textContent = text;
  if (short.length < text.length) {
    // Not in the middle of a character.
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

// Whether a message stands under the name of the one before it.
const group = node => {
  const [one, other] = [node?.previousElementSibling, node].map(node => records.get(node));
  if (!other) return;
  const mine = record => record.node.classList.contains('own');
  const together = one && one.author === other.author && mine(one) === mine(other) && Math.abs(other.date - one.date) < TOGETHER;
  node.classList.toggle('cont', Boolean(together));
};

const addGap = () => {
  if (log.lastChild?.lastChild.className !== 'gap') put(make('p', 'gap', 'Messages may be missing here'));
};

const forget = () => {
  while (log.childElementCount > SHEETS) log.firstChild.remove();
  for (const [time, { node }] of shown) {
    if (node.isConnected) break;
    shown.delete(time);
  }
  $('older').hidden = false;
};

const clear = () => {
  shown.clear();
  // They were among what is not shown, or are still to come.
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

// ---- Where the reader looks

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

// Only somebody who goes up leaves the end. What is above may also move because messages get their real height, or go: then the whole
// height changes too.
view.addEventListener('scroll', () => {
  const now = measure();
  const moved = now.height === seen.height && now.box === seen.box || performance.now() - touched < 500;
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

// ---- The token, where the client asks for one

let token = recall('token');
// A link may bring it, behind a sign that no server gets to see.
if (location.hash.startsWith('#token=')) {
  token = decodeURIComponent(location.hash.slice(7));
  history.replaceState(null, '', location.pathname);
}
const allowed = headers => (token ? { ...headers, Authorization: `Bearer ${token}` } : headers);

// Asks for the token, until somebody gives one.
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

// Reads the stream for ever. Not with EventSource: that gives up for good at the first answer which is not 200, and does not notice a
// connection that has died without a word.
const follow = async () => {
  for (let failures = 0; ; failures += 1) {
    const abort = new AbortController();
    let silence;
    const alive = () => {
      clearTimeout(silence);
      silence = setTimeout(() => abort.abort(), SILENCE);
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
    } catch { /* the network's reasons say nothing to a reader */ }
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

// One event of the stream.
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

// crypto.randomUUID is not there where the page does not come from this machine or over https.
const newKey = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), byte => byte.toString(16).padStart(2, '0')).join('');

// One after the other, so that they stand in the chat as they were written.
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
  remember('own', JSON.stringify([...own].slice(-REMEMBERED)));
  item.fate.textContent = '';
  // It may have come back before the answer.
  if (markOwn(time)) return item.node.remove();
  acknowledged.set(time, item);
  // It may also never come, where messages are missing. It is in the chat all the same.
  setTimeout(() => {
    if (acknowledged.has(time)) arrive({ author: item.author, text: item.text, sendTime: time });
  }, RETURN);
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
  // Under the same key: if the first one has arrived after all, this is no second message.
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
  const item = { author: name.value, text: text.value, key: newKey(), node: bubble(name.value, text.value, true) };
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
  // 229: a key that belongs to an input method, which Safari says only so.
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  form.requestSubmit();
};
name.onchange = () => remember('name', name.value);
name.value = recall('name') ?? '';
(name.value ? text : name).focus();

// Another tab has sent something.
addEventListener('storage', event => {
  if (event.key !== 'own') return;
  own = loadOwn();
  own.forEach(markOwn);
});

follow();
