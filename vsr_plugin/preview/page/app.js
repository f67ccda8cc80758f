// One WebSocket brings both versions of every picture; split, views and loupe are drawn here, from true pixels.

const $ = (id) => document.getElementById(id);
const stage = $("stage"), picture = $("picture"), line = $("line"), loupe = $("loupe"), graph = $("graph");
const PATCH = { width: 28, height: 20, zoom: 8 };
const SKIP = 5; // seconds that an arrow key jumps

let socket, status = null, times = [], ended = false, flashed = 0;
let bicubic = null, network = null; // ImageBitmaps of the moment that is shown
let split = 0.5, view = "split", mouse = null, dragging = false, seeking = false;
let pointed = false; // whether the last thing that was used was not the keyboard
const arrivals = []; // when pictures came, for "this page"

function send(command) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(command));
}

function say(text) { $("message").textContent = text; }

function flash(text) { flashed = performance.now() + 3000; say(text); }

function connect() {
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`);
  socket.binaryType = "arraybuffer";
  socket.onmessage = ({ data }) => (typeof data === "string" ? words(JSON.parse(data)) : pictures(data));
  socket.onclose = async () => {
    if (ended) return;
    const answer = await fetch("/app.js", { cache: "no-store" }).catch(() => null);
    if (answer?.status === 403) return say("The preview was started anew: open the address that it printed");
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
    options($("view"), message.views, view);
  }
  if (message.status) { status = message.status; times = message.times; figures(); }
}

// Words and two files, each with its length in four bytes before it.
function unpacked(buffer) {
  const parts = [], bytes = new DataView(buffer);
  for (let at = 0; at < buffer.byteLength; at += 4 + bytes.getUint32(at)) {
    parts.push(buffer.slice(at + 4, at + 4 + bytes.getUint32(at)));
  }
  const [text, ...files] = parts;
  return [JSON.parse(new TextDecoder().decode(text)), ...files];
}

async function pictures(buffer) {
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
  const { width, height } = network, twice = view === "side by side";
  if (picture.width !== width * (twice ? 2 : 1) || picture.height !== height) {
    picture.width = width * (twice ? 2 : 1);
    picture.height = height;
  }
  const context = picture.getContext("2d", { alpha: false });
  if (twice) {
    context.drawImage(bicubic, 0, 0);
    context.drawImage(network, width, 0);
  } else if (view === "difference") {
    difference(context, width, height);
  } else {
    context.drawImage(network, 0, 0);
    const column = Math.round(split * width);
    if (view === "split" && column > 0) context.drawImage(bicubic, 0, 0, column, height, 0, 0, column, height);
  }
  picture.style.setProperty("--ratio", (picture.width * status.pixel_aspect) / height);
  line.hidden = view !== "split" && !twice;
  const place = picture.getBoundingClientRect(), around = stage.getBoundingClientRect();
  line.style.left = `${place.left - around.left + (twice ? 0.5 : split) * place.width}px`;
  line.style.top = `${place.top - around.top}px`;
  line.style.height = `${place.height}px`;
  line.setAttribute("aria-valuenow", Math.round(100 * split));
  line.tabIndex = twice ? -1 : 0;
  drawLoupe();
}

// 128 + 8 · (network − bicubic): both halves of the difference, each clamped at 0, added to and taken from gray.
function difference(context, width, height) {
  context.drawImage(network, 0, 0);
  const ours = context.getImageData(0, 0, width, height);
  context.drawImage(bicubic, 0, 0);
  const theirs = context.getImageData(0, 0, width, height).data;
  for (let i = 0; i < theirs.length; i++) if (i % 4 !== 3) ours.data[i] = 128 + 8 * (ours.data[i] - theirs[i]);
  context.putImageData(ours, 0, 0);
}

function drawLoupe() {
  loupe.hidden = !$("loupe-on").checked || !mouse || !network;
  if (loupe.hidden) return;
  const place = picture.getBoundingClientRect(), around = stage.getBoundingClientRect();
  const { width, height } = network, { zoom } = PATCH;
  const w = Math.min(PATCH.width, width), h = Math.min(PATCH.height, height);
  const across = (mouse.x - place.left) / place.width * picture.width % width;
  const down = (mouse.y - place.top) / place.height * height;
  const left = Math.round(Math.min(Math.max(0, across - w / 2), width - w));
  const top = Math.round(Math.min(Math.max(0, down - h / 2), height - h));
  loupe.width = 2 * w * zoom + 2;
  loupe.height = h * zoom;
  const context = loupe.getContext("2d", { alpha: false });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, loupe.width, loupe.height);
  context.imageSmoothingEnabled = false;
  context.drawImage(bicubic, left, top, w, h, 0, 0, w * zoom, h * zoom);
  context.drawImage(network, left, top, w, h, w * zoom + 2, 0, w * zoom, h * zoom);
  loupe.style.top = mouse.y - around.top > around.height / 2 ? "12px" : "";
  loupe.style.bottom = loupe.style.top ? "" : "12px";
  loupe.style.left = mouse.x - around.left > around.width / 2 ? "12px" : "";
  loupe.style.right = loupe.style.left ? "" : "12px";
}

function figures() {
  if ((network || status.notice) && performance.now() > flashed) say(status.notice);
  const s = status, ms = (value) => `${value.toFixed(1)} ms`;
  document.title = `${s.name} – vsr preview`;
  $("name").textContent = s.name;
  $("left").textContent = s.baseline;
  $("right").textContent = s.seen;
  $("model-line").textContent =
    `${s.seen} ×${s.seen_scale}   ${s.width}×${s.height} → ${s.width * s.seen_scale}×${s.height * s.seen_scale}   ${s.runs_on}`;
  options($("model"), s.models, s.model);
  options($("scale"), s.scales.map(String), String(s.scale));
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
  if (!seeking) $("time").value = s.target;
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

function options(select, names, chosen) {
  if (names.join() !== [...select.options].map((option) => option.value).join()) {
    select.replaceChildren(...names.map((name) => new Option(name === "difference" ? "difference × 8" : name, name)));
  }
  if (document.activeElement !== select) select.value = chosen;
}

function setSplit(part) { split = Math.min(1, Math.max(0, part)); draw(); }

function moveSplit(x) {
  const place = picture.getBoundingClientRect();
  setSplit((x - place.left) / place.width);
}

function setView(name) { view = name; $("view").value = name; draw(); }

async function save() {
  const answer = await fetch("/moment").catch(() => null);
  if (!answer?.ok) return flash("The pictures cannot be had: the connection is lost");
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

function full() { document.fullscreenElement ? document.exitFullscreen() : stage.requestFullscreen(); }

function help() {
  $("keys").hidden = !$("keys").hidden;
  $("help").setAttribute("aria-expanded", String(!$("keys").hidden));
}

function rescale(by) {
  const scales = [...status.scales].sort((a, b) => a - b), to = scales[scales.indexOf(status.scale) + by];
  if (to) send({ do: "scale", to });
}

const KEYS = {
  " ": () => send({ do: "pause" }),
  ArrowLeft: () => send({ do: "skip", by: -SKIP }),
  ArrowRight: () => send({ do: "skip", by: SKIP }),
  ",": () => send({ do: "step", by: -1 }), ArrowDown: () => send({ do: "step", by: -1 }),
  ".": () => send({ do: "step", by: 1 }), ArrowUp: () => send({ do: "step", by: 1 }),
  "+": () => rescale(1), "=": () => rescale(1), "-": () => rescale(-1),
  v: () => { const names = [...$("view").options].map((o) => o.value); setView(names[(names.indexOf(view) + 1) % names.length]); },
  l: () => { $("loupe-on").checked = !$("loupe-on").checked; drawLoupe(); },
  i: () => { $("figures").hidden = !$("figures").hidden; },
  s: save, f: full, "?": help,
};

// What a slider does with the keys.
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
    send({ do: "model", to: status.models[event.key - 1] });
  } else if (KEYS[event.key] && status) {
    KEYS[event.key]();
  } else return;
  event.preventDefault();
});

// The mouse leaves the keyboard to the page; whoever came by keyboard stays.
function leave(control) { if (pointed) control.blur(); }

addEventListener("pointerdown", () => { pointed = true; }, { capture: true });
stage.addEventListener("pointerdown", (event) => {
  if (view !== "split" || event.target.closest("#keys")) return;
  dragging = true;
  stage.setPointerCapture(event.pointerId);
  moveSplit(event.clientX);
});
stage.addEventListener("pointermove", (event) => {
  mouse = { x: event.clientX, y: event.clientY };
  dragging ? moveSplit(event.clientX) : drawLoupe();
});
for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, () => { dragging = false; });
stage.addEventListener("pointerleave", () => { mouse = null; drawLoupe(); });
stage.addEventListener("fullscreenchange", draw);
addEventListener("resize", draw);

$("pause").onclick = () => send({ do: "pause" });
$("time").oninput = () => { seeking = true; };
$("time").onchange = () => { send({ do: "seek", to: +$("time").value }); leave($("time")); };
for (const name of ["change", "pointerup", "pointercancel", "blur"]) $("time").addEventListener(name, () => { seeking = false; });
$("model").onchange = () => { send({ do: "model", to: $("model").value }); leave($("model")); };
$("scale").onchange = () => { send({ do: "scale", to: +$("scale").value }); leave($("scale")); };
$("view").onchange = () => { setView($("view").value); leave($("view")); };
$("loupe-on").onchange = drawLoupe;
$("save").onclick = save;
$("full").onclick = full;
$("help").onclick = help;
$("keys").onclick = help;

connect();
