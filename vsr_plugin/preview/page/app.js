// One WebSocket brings both versions of every frame; split, views and loupe are drawn here, from true pixels.

const $ = (id) => document.getElementById(id);
const stage = $("stage"), canvas = $("canvas"), line = $("line"), loupe = $("loupe"), graph = $("graph");
const LOUPE = { width: 400, height: 280, title: 20, zooms: [2, 4, 8, 16] }; // of each half, in pixels of the page
const SKIP = 5; // seconds that an arrow key jumps

let socket, status = null, times = [], ended = false, flashed = 0;
let bicubic = null, network = null; // ImageBitmaps of the moment that is shown
let shown = { baseline: "", model: "" }; // what they were enlarged by
let split = 0.5, view = "split", mouse = null, held = "", seeking = false, sought = 0, zoom = 4;
const middle = { x: 0.5, y: 0.5 }; // of the visible part of a frame at 100 %, 0 to 1
let part = { left: 0, top: 0, width: 1, height: 1 }; // the visible part of a frame, in its pixels
const asked = {}; // control → what it was set to, until the player reports the same
let pointed = false; // whether the last input was not by keyboard
const arrivals = []; // when frames came, for "this page"

// Set a control for good: a report that the player sent before it got the command does not reset it.
function ask(id, value, command) {
  asked[id] = { value, until: performance.now() + 1500 };
  send(command);
}

function follow(id, value) {
  const wanted = asked[id], same = wanted?.value === value || Math.abs(wanted?.value - value) < 0.05;
  if (wanted && !same && performance.now() < wanted.until) return;
  delete asked[id];
  if (id === "time" || document.activeElement !== $(id)) $(id).value = value;
}

function send(command) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(command));
}

function say(text) { $("message").textContent = text; }

function flash(text) { flashed = performance.now() + 3000; say(text); }

function connect() {
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`);
  socket.binaryType = "arraybuffer";
  socket.onmessage = ({ data }) => (typeof data === "string" ? words(JSON.parse(data)) : arrived(data));
  socket.onclose = async () => {
    if (ended) return;
    const answer = await fetch("/app.js", { cache: "no-store" }).catch(() => null);
    if (answer?.status === 403) return say("The preview was started again: open the address that it printed");
    say("The connection is lost; trying again…");
    setTimeout(connect, 1000);
  };
}

function words(message) {
  if (message.error) { ended = true; say(message.error); }
  if (message.keys) {
    $("keys").replaceChildren(...Object.entries(message.keys).flatMap(([key, what]) => {
      const dt = document.createElement("dt"), dd = document.createElement("dd");
      dt.textContent = key; dd.textContent = what;
      return [dt, dd];
    }));
    options("view", message.views, view);
    options("baseline", message.baselines, message.baselines[0]);
  }
  if (message.shown) shown = message.shown;
  if (message.status) { status = message.status; times = message.times; figures(message.viewers); }
}

// JSON and two files, each preceded by its length in four bytes.
function unpacked(buffer) {
  const parts = [], bytes = new DataView(buffer);
  for (let at = 0; at < buffer.byteLength; at += 4 + bytes.getUint32(at)) {
    parts.push(buffer.slice(at + 4, at + 4 + bytes.getUint32(at)));
  }
  const [text, ...files] = parts;
  return [JSON.parse(new TextDecoder().decode(text)), ...files];
}

async function arrived(buffer) {
  const [message, ...files] = unpacked(buffer);
  words(message);
  try {
    const both = await Promise.all(files.map((file) => createImageBitmap(new Blob([file], { type: "image/jpeg" }))));
    bicubic?.close(); network?.close();
    [bicubic, network] = both;
    arrivals.push(performance.now());
    draw();
  } finally {
    send({ do: "next" });
  }
}

function draw() {
  if (!network) return;
  const twice = view === "side by side", count = twice ? 2 : 1;
  part = visible(count);
  const { left, top, width, height } = part;
  if (canvas.width !== width * count || canvas.height !== height) {
    canvas.width = width * count;
    canvas.height = height;
  }
  const context = canvas.getContext("2d", { alpha: false });
  const paint = (image, x = 0, w = width) => context.drawImage(image, left, top, w, height, x, 0, w, height);
  if (view === "difference") {
    difference(context, paint);
  } else {
    paint(network, twice ? width : 0);
    const columns = twice ? width : view === "split" ? Math.round(split * width) : 0;
    if (columns) paint(bicubic, 0, columns);
  }
  canvas.style.setProperty("--ratio", (canvas.width * status.pixel_aspect) / height);
  canvas.style.setProperty("--actual", `${(canvas.width * status.pixel_aspect) / devicePixelRatio}px`);
  line.hidden = view !== "split" && !twice;
  line.classList.toggle("fixed", twice);
  const place = canvas.getBoundingClientRect(), around = stage.getBoundingClientRect();
  line.style.left = `${place.left - around.left + (twice ? 0.5 : split) * place.width}px`;
  line.style.top = `${place.top - around.top}px`;
  line.style.height = `${place.height}px`;
  $("left").textContent = shown.baseline;
  $("right").textContent = seen();
  $("alone").hidden = !line.hidden;
  $("alone").textContent = view === "network" ? seen() : `${seen()} − ${shown.baseline}, × 8`;
  line.setAttribute("aria-valuenow", Math.round(100 * split));
  line.tabIndex = twice ? -1 : 0;
  drawLoupe();
}

// 128 + 8 · (network − bicubic): both halves of the difference, each clamped at 0, added to and taken from gray.
function difference(context, paint) {
  paint(network);
  const ours = context.getImageData(0, 0, part.width, part.height);
  paint(bicubic);
  const theirs = context.getImageData(0, 0, part.width, part.height).data;
  for (let i = 0; i < theirs.length; i++) if (i % 4 !== 3) ours.data[i] = 128 + 8 * (ours.data[i] - theirs[i]);
  context.putImageData(ours, 0, 0);
}

function seen() { return shown.model || shown.baseline; }

// The visible part of each of `count` images: all of it, or at 100 % as much as there is room for.
function visible(count) {
  const { width, height } = network;
  if (!$("actual").checked) return { left: 0, top: 0, width, height };
  const inside = (axis, length, room) => {
    const most = Math.max(1, Math.min(length, Math.floor(room * devicePixelRatio)));
    middle[axis] = Math.min(Math.max(most / 2 / length, middle[axis]), 1 - most / 2 / length);
    return [Math.round(middle[axis] * length - most / 2), most];
  };
  const [left, columns] = inside("x", width, stage.clientWidth / status.pixel_aspect / count);
  const [top, rows] = inside("y", height, stage.clientHeight);
  return { left, top, width: columns, height: rows };
}

function drawLoupe() {
  loupe.hidden = !$("loupe-on").checked || !mouse || !network;
  if (loupe.hidden) return;
  const place = canvas.getBoundingClientRect(), around = stage.getBoundingClientRect();
  const { width, height } = network, { title } = LOUPE, density = devicePixelRatio;
  const w = Math.min(width, Math.floor(Math.min(LOUPE.width, around.width / 2 - 16) / zoom));
  const h = Math.min(height, Math.floor(Math.min(LOUPE.height, around.height / 2 - title - 16) / zoom));
  const across = part.left + (mouse.x - place.left) / place.width * canvas.width % part.width;
  const down = part.top + (mouse.y - place.top) / place.height * part.height;
  const left = Math.round(Math.min(Math.max(0, across - w / 2), width - w));
  const top = Math.round(Math.min(Math.max(0, down - h / 2), height - h));
  const wide = 2 * w * zoom + 2, high = h * zoom + title;
  loupe.width = wide * density;
  loupe.height = high * density;
  loupe.style.width = `${wide}px`;
  const context = loupe.getContext("2d", { alpha: false });
  context.scale(density, density);
  context.fillStyle = "#fff";
  context.fillRect(0, 0, wide, high);
  context.imageSmoothingEnabled = false;
  [[bicubic, shown.baseline, 0], [network, seen(), w * zoom + 2]].forEach(([image, name, x]) => {
    context.drawImage(image, left, top, w, h, x, title, w * zoom, h * zoom);
    context.fillStyle = "#16181c";
    context.fillRect(x, 0, w * zoom, title);
    context.fillStyle = "#eceef1";
    context.font = "13px system-ui, sans-serif";
    context.fillText(`${name}  ${zoom}×`, x + 6, 14, w * zoom - 8);
  });
  loupe.style.top = mouse.y - around.top > around.height / 2 ? "8px" : "";
  loupe.style.bottom = loupe.style.top ? "" : "8px";
  loupe.style.left = mouse.x - around.left > around.width / 2 ? "8px" : "";
  loupe.style.right = loupe.style.left ? "" : "8px";
}

function magnify(steps) {
  const place = LOUPE.zooms.indexOf(zoom) + ($("loupe-on").checked ? steps : 0);
  $("loupe-on").checked = true;
  zoom = LOUPE.zooms[Math.min(Math.max(0, place), LOUPE.zooms.length - 1)];
  drawLoupe();
}

function figures(viewers) {
  if ((network || status.notice) && performance.now() > flashed) say(status.notice);
  const s = status, ms = (value) => `${value.toFixed(1)} ms`;
  document.title = `${s.name} – vsr preview`;
  $("name").textContent = s.name;
  $("viewers").hidden = viewers < 2;
  $("viewers").textContent = `${viewers} viewers share this player: what one changes, all see`;
  const percent = Math.round(100 * canvas.getBoundingClientRect().height / canvas.height * devicePixelRatio);
  $("model-line").textContent = [
    `${s.seen}${s.seen_scale ? ` ×${s.seen_scale}` : ""}`,
    `${s.width}×${s.height} → ${s.seen_width}×${s.seen_height}${network ? `, shown at ${percent} %` : ""}`,
    s.runs_on,
  ].filter(Boolean).join(" · ");
  options("model", s.models, s.model);
  $("scale").parentElement.hidden = !s.scale;  // a size was asked for
  options("scale", s.scales.map(String), String(s.scale));
  follow("baseline", s.baseline);
  $("copy").disabled = !s.command;
  $("source").textContent = s.source_fps ? `${+s.source_fps.toFixed(3)} fps` : "–";
  $("shown").textContent = `${s.shown_fps.toFixed(1)} fps`;
  $("dropped").textContent = s.dropped;
  $("decode").textContent = ms(s.decode_ms);
  $("network").textContent = ms(s.network_ms);
  $("display").textContent = ms(s.display_ms);
  const now = performance.now();
  while (arrivals.length && arrivals[0] < now - 2000) arrivals.shift();
  $("here").textContent = `${(arrivals.length / 2).toFixed(1)} fps`;
  $("pause").textContent = s.paused ? "▶" : "❚❚";
  $("time").disabled = !s.duration;
  $("time").max = s.duration || 1;
  if (!seeking) follow("time", s.target);
  $("clock").textContent = clock(s.position) + (s.duration ? ` / ${clock(s.duration)}` : "");
  drawGraph();
}

function clock(seconds) {
  const minutes = Math.floor(seconds / 60);
  return `${minutes}:${(seconds % 60).toFixed(2).padStart(5, "0")}`;
}

function drawGraph() {
  const density = devicePixelRatio, width = graph.clientWidth, height = graph.clientHeight;
  graph.width = width * density;
  graph.height = height * density;
  const context = graph.getContext("2d"), colors = getComputedStyle(document.body);
  context.scale(density, density);
  const limit = status.source_fps ? 1000 / status.source_fps : 0;
  const top = Math.max(1, 1.5 * limit, ...times.map(([, taken]) => 1.1 * taken));
  const y = (taken) => height - 2 - (taken / top) * (height - 4);
  context.strokeStyle = colors.getPropertyValue("--dim");
  if (limit) { context.beginPath(); context.moveTo(0, y(limit)); context.lineTo(width, y(limit)); context.stroke(); }
  context.strokeStyle = colors.getPropertyValue("--accent");
  context.beginPath();
  for (const [ago, taken] of times) context.lineTo(width * (1 - ago / 10), y(taken));
  context.stroke();
}

function options(id, names, chosen) {
  if (names.join() !== [...$(id).options].map((option) => option.value).join()) {
    $(id).replaceChildren(...names.map((name) => new Option(name === "difference" ? "difference × 8" : name, name)));
    $(id).value = chosen;
  }
  follow(id, chosen);
}

function setSplit(place) { split = Math.min(1, Math.max(0, place)); draw(); }

function moveSplit(x) {
  const place = canvas.getBoundingClientRect();
  setSplit((x - place.left) / place.width);
}

function setView(name) { view = name; $("view").value = name; draw(); }

function setActual(on) { $("actual").checked = on; stage.classList.toggle("actual", on); draw(); }

function next(id) { return $(id).options[($(id).selectedIndex + 1) % $(id).options.length].value; }

function setBaseline(name) { $("baseline").value = name; ask("baseline", name, { do: "baseline", to: name }); }

async function copy() {
  const command = status?.command;
  if (!command) return flash("There is no vsr-encode command for a camera");
  try {
    await navigator.clipboard.writeText(command);
    flash(`copied: ${command}`);
  } catch { // allowed only on pages of this machine or by https
    flash(command);
  }
}

async function save() {
  const answer = await fetch("/moment").catch(() => null);
  if (!answer?.ok) return flash("Nothing is saved: the connection is lost");
  const [{ names }, ...files] = unpacked(await answer.arrayBuffer());
  names.forEach((name, i) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([files[i]], { type: "image/png" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
  flash(`saved ${names.join(", ")}`);
}

function full() { document.fullscreenElement ? document.exitFullscreen() : $("player").requestFullscreen().catch(() => flash("This browser gives no full screen")); }

function help() {
  $("keys").hidden = !$("keys").hidden;
  $("help").setAttribute("aria-expanded", String(!$("keys").hidden));
}

function rescale(by) {
  const scales = [...status.scales].sort((a, b) => a - b), to = scales[scales.indexOf(status.scale) + by];
  if (to) ask("scale", String(to), { do: "scale", to });
}

const KEYS = {
  " ": () => send({ do: "pause" }),
  ArrowLeft: () => send({ do: "skip", by: -SKIP }),
  ArrowRight: () => send({ do: "skip", by: SKIP }),
  ",": () => send({ do: "step", by: -1 }), ArrowDown: () => send({ do: "step", by: -1 }),
  ".": () => send({ do: "step", by: 1 }), ArrowUp: () => send({ do: "step", by: 1 }),
  "+": () => rescale(1), "=": () => rescale(1), "-": () => rescale(-1),
  v: () => setView(next("view")), b: () => setBaseline(next("baseline")), z: () => setActual(!$("actual").checked),
  "[": () => magnify(-1), "]": () => magnify(1), c: copy,
  l: () => { $("loupe-on").checked = !$("loupe-on").checked; drawLoupe(); },
  i: () => { $("figures").hidden = !$("figures").hidden; },
  s: save, f: full, "?": help,
};

// Where each key moves the split line.
const SLIDE = {
  ArrowLeft: () => split - 0.02, ArrowDown: () => split - 0.02, ArrowRight: () => split + 0.02, ArrowUp: () => split + 0.02,
  PageDown: () => split - 0.1, PageUp: () => split + 0.1, Home: () => 0, End: () => 1,
};

addEventListener("keydown", (event) => {
  pointed = false;
  const typing = event.target.matches("select") || (event.target.matches("button, input[type=checkbox]") && event.key === " ");
  if (event.ctrlKey || event.metaKey || event.altKey || typing) return;
  if (event.target === line && SLIDE[event.key]) {
    setSplit(SLIDE[event.key]());
  } else if (event.key === "Escape" && !$("keys").hidden) {
    help();
  } else if (/^[1-9]$/.test(event.key) && status?.models[event.key - 1]) {
    ask("model", status.models[event.key - 1], { do: "model", to: status.models[event.key - 1] });
  } else if (KEYS[event.key] && status) {
    KEYS[event.key]();
  } else return;
  event.preventDefault();
});

// After the mouse, the page gets the keyboard back; after the keyboard, the control keeps it.
function leave(control) { if (pointed) control.blur(); }

addEventListener("pointerdown", () => { pointed = true; }, { capture: true });
stage.addEventListener("pointerdown", (event) => {
  if (event.target.closest("#keys")) return;
  held = $("actual").checked && !event.target.closest("#line") ? "frame" : view === "split" ? "line" : "";
  if (!held) return;
  stage.setPointerCapture(event.pointerId);
  if (held === "line") moveSplit(event.clientX);
});
stage.addEventListener("pointermove", (event) => {
  const before = mouse;
  mouse = { x: event.clientX, y: event.clientY };
  if (held === "line") return moveSplit(event.clientX);
  if (held === "frame" && before && network) {
    middle.x -= (mouse.x - before.x) * devicePixelRatio / status.pixel_aspect / network.width;
    middle.y -= (mouse.y - before.y) * devicePixelRatio / network.height;
    return draw();
  }
  drawLoupe();
});
for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, () => { held = ""; });
stage.addEventListener("pointerleave", () => { mouse = null; drawLoupe(); });
stage.addEventListener("wheel", (event) => {
  if (!$("loupe-on").checked || event.ctrlKey) return;
  event.preventDefault();
  magnify(event.deltaY < 0 ? 1 : -1);
}, { passive: false });
$("player").addEventListener("fullscreenchange", draw);
addEventListener("resize", draw);

$("pause").onclick = () => send({ do: "pause" });
function seek() {
  sought = performance.now();
  ask("time", +$("time").value, { do: "seek", to: +$("time").value });
}

$("time").oninput = () => { seeking = true; if (performance.now() > sought + 150) seek(); };
$("time").onchange = () => { seek(); leave($("time")); };
for (const name of ["change", "pointerup", "pointercancel", "blur"]) $("time").addEventListener(name, () => { seeking = false; });
// The time at the mouse, beside the displayed one; half the handle of the range lies beyond either end.
$("time").onpointermove = (event) => {
  const { left, width, height } = $("time").getBoundingClientRect(), handle = Math.min(16, height);
  const along = Math.min(1, Math.max(0, (event.clientX - left - handle / 2) / (width - handle)));
  $("at").textContent = clock(along * $("time").max);
  $("at").style.left = `${event.clientX - $("bar").getBoundingClientRect().left}px`;
  $("at").hidden = !status?.duration;
};
$("time").onpointerleave = () => { $("at").hidden = true; };
$("model").onchange = () => { ask("model", $("model").value, { do: "model", to: $("model").value }); leave($("model")); };
$("scale").onchange = () => { ask("scale", $("scale").value, { do: "scale", to: +$("scale").value }); leave($("scale")); };
$("baseline").onchange = () => { setBaseline($("baseline").value); leave($("baseline")); };
$("actual").onchange = () => setActual($("actual").checked);
$("view").onchange = () => { setView($("view").value); leave($("view")); };
$("loupe-on").onchange = drawLoupe;
$("save").onclick = save;
$("copy").onclick = copy;
$("full").onclick = full;
$("help").onclick = help;
$("keys").onclick = help;

connect();
