'use strict';
const $ = (id) => document.getElementById(id);
const EVERY = 2000, PEN = 26, TYPES = ['image/png', 'image/jpeg', 'image/bmp'];

// ---- the overview comes as the server draws it

async function refresh() {
  let answer;
  try {
    answer = await fetch('ui/overview', { cache: 'no-store' });
    if (!answer.ok) throw new Error(`the server answers ${answer.status}`);
    const text = await answer.text();
    const scrolled = [...document.querySelectorAll('.scroll')].map((box) => box.scrollLeft);
    $('overview').innerHTML = text;
    document.querySelectorAll('.scroll').forEach((box, i) => { box.scrollLeft = scrolled[i] || 0; });
    document.body.classList.remove('lost');
    offer();
  } catch (error) {
    document.body.classList.add('lost');
    const state = $('state');
    state.className = 'pill bad';
    state.textContent = answer ? error.message : 'the server does not answer';
  }
}

/** Models that take pictures, newly read. */
function offer() {
  const models = JSON.parse($('offers').dataset.models), select = $('model');
  const names = models.map((model) => model.name);
  $('try').hidden = !models.length;
  if (JSON.stringify(names) !== JSON.stringify([...select.options].map((option) => option.value))) {
    const chosen = select.value;
    select.replaceChildren(...models.map((model) => new Option(`${model.name} (${model.input}${model.grey ? ', grey' : ''})`, model.name)));
    if (names.includes(chosen)) select.value = chosen;
  }
}

// ---- pictures

const pad = $('pad').getContext('2d', { willReadFrequently: true }), size = $('pad').width;
let drawn = false, file = null, shown = null, busy = false, again = false, changed = 0;

function clear() {
  pad.fillStyle = '#fff';
  pad.fillRect(0, 0, size, size);
  drawn = false;
  file = null;
  changed++;
  if (shown) URL.revokeObjectURL(shown);
  shown = null;
  $('photo').hidden = true;
  $('hint').hidden = false;
  show(null);
}

/** The chosen file as it is, or what the browser makes of one that the server does not read. */
async function picture() {
  if (!file) return new Promise((done) => $('pad').toBlob(done, 'image/png'));
  if (TYPES.includes(file.type)) return file;
  const bitmap = await createImageBitmap(file);
  const canvas = Object.assign(document.createElement('canvas'), { width: bitmap.width, height: bitmap.height });
  canvas.getContext('2d').drawImage(bitmap, 0, 0);
  return new Promise((done) => canvas.toBlob(done, 'image/png'));
}

/** Asks once more after the answer to what was asked before. */
async function ask() {
  if (!drawn && !file) return;
  if (busy) { again = true; return; }
  busy = true;
  const at = changed;
  try {
    const answer = await fetch(`ui/models/${encodeURIComponent($('model').value)}:image`, { method: 'POST', body: await picture() });
    const found = await answer.json();
    if (!answer.ok) throw new Error(found.error);
    if (at === changed || drawn || file) show(found);
  } catch (error) {
    show(null, error.message);
  }
  busy = false;
  if (again) { again = false; ask(); }
}

const percent = (p) => (p > 0.9995 && p < 1 ? '> 99.9 %' : `${(100 * p).toFixed(1)} %`);

function show(found, trouble) {
  const best = found && found.classes[0];
  const name = best ? best.label : '–';
  $('trouble').textContent = trouble || '';
  $('trouble').hidden = !trouble;
  $('name').textContent = name;
  $('told').className = name.length < 3 ? 'short' : '';
  const time = found && (found.milliseconds < 9.95 ? found.milliseconds.toFixed(1) : found.milliseconds.toFixed(0));
  $('sure').textContent = best ? `${percent(best.probability)} sure · version ${found.version} · ${time} ms` : '';
  $('spoken').textContent = best ? `${name}, ${percent(best.probability)}` : trouble || '';
  $('seen').hidden = !(found && found.seen);
  if (found && found.seen) $('small').src = `data:image/png;base64,${found.seen}`;
  let classes = found ? found.classes : [];
  // few classes have a fixed place each, so that the bars grow instead of jumping
  if (classes.every((c) => c.label.length < 3)) classes = [...classes].sort((a, b) => a.class - b.class);
  const bars = $('bars');
  bars.style.setProperty('--names', classes.some((c) => c.label.length > 2) ? '11rem' : '1.2rem');
  while (bars.children.length > classes.length) bars.lastChild.remove();
  classes.forEach((c, i) => {
    const row = bars.children[i] || bars.appendChild(rowOfBar());
    row.className = c === best || c.class === best.class ? 'best' : '';
    row.children[0].textContent = row.children[0].title = c.label;
    row.querySelector('i').style.width = `${100 * c.probability}%`;
    row.children[2].textContent = percent(c.probability);
  });
}

function rowOfBar() {
  const row = document.createElement('li'), track = document.createElement('span');
  track.className = 'track';
  track.append(document.createElement('i'));
  row.append(document.createElement('span'), track, document.createElement('span'));
  return row;
}

function open(chosen) {
  if (!chosen) return;
  clear();
  file = chosen;
  shown = URL.createObjectURL(chosen);
  $('photo').src = shown;
  $('photo').hidden = false;
  $('hint').hidden = true;
  ask();
}

let last = null;
const point = (event) => {
  const box = $('pad').getBoundingClientRect();
  return [(event.clientX - box.left) * size / box.width, (event.clientY - box.top) * size / box.height];
};

function stroke(from, to) {
  pad.lineWidth = PEN;
  pad.lineCap = pad.lineJoin = 'round';
  pad.strokeStyle = '#15171c';
  pad.beginPath();
  pad.moveTo(...from);
  pad.lineTo(...to);
  pad.stroke();
}

$('pad').addEventListener('pointerdown', (event) => {
  if (file) clear();
  $('pad').setPointerCapture(event.pointerId);
  last = point(event);
  drawn = true;
  $('hint').hidden = true;
  stroke(last, last);
});
$('pad').addEventListener('pointermove', (event) => {
  if (!last) return;
  for (const each of event.getCoalescedEvents ? event.getCoalescedEvents() : [event]) {
    const next = point(each);
    stroke(last, next);
    last = next;
  }
  ask();
});
for (const end of ['pointerup', 'pointercancel']) $('pad').addEventListener(end, () => { if (last) { last = null; ask(); } });
$('photo').addEventListener('click', clear);
$('clear').addEventListener('click', clear);
$('model').addEventListener('change', ask);
$('file').addEventListener('change', () => { open($('file').files[0]); $('file').value = ''; });
addEventListener('dragover', (event) => { event.preventDefault(); document.body.classList.add('dropping'); });
addEventListener('dragleave', () => document.body.classList.remove('dropping'));
addEventListener('drop', (event) => {
  event.preventDefault();
  document.body.classList.remove('dropping');
  if (!$('try').hidden) open(event.dataTransfer.files[0]);
});

clear();
offer();
(async () => {
  for (;;) {
    await new Promise((done) => setTimeout(done, EVERY));
    if (!document.hidden) await refresh();
  }
})();
document.addEventListener('visibilitychange', () => { if (!document.hidden) refresh(); });
