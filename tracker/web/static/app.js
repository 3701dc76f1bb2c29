// The page: what is shown, and what its buttons ask of the server.

import { Boxes, colourOf, scoreColour } from "./boxes.js";
import { Link } from "./link.js";
import { Stage } from "./stage.js";
import { Timeline, clock } from "./timeline.js";

const $ = (id) => document.getElementById(id);
const boxes = new Boxes();
let facts = {}, wasPlaying = false, choices = null, seeking = null;

const link = new Link(onMoment, (state) => {
  $("link").className = `dot ${state}`;
  $("link").title = state === "on" ? "connected" : "no connection; trying again";
  if (state === "on") loadChoices();
});
const stage = new Stage($("view"), boxes, {
  begin() { wasPlaying = facts.playing; facts.live ? ask("hold", { frame: facts.frame }) : wasPlaying && ask("pause"); },
  cancel() { if (wasPlaying && !facts.live) ask("play"); },
  choose,
  async draw(box, frame) {
    if (await ask("add", { box, frame }) === undefined) return;
    if (wasPlaying && !facts.live) ask("play");
  },
  async move(id, box, frame) {
    await ask("redraw", { id, box, frame });
    if (wasPlaying && !facts.live) ask("play");
  },
});
const timeline = new Timeline($("timeline"), boxes, (frame) => {
  const busy = seeking !== null;
  seeking = frame;
  if (!busy) sendSeek();
});

async function sendSeek() {  // while the pointer is dragged: the newest place only
  const frame = seeking;
  await ask("seek", { frame });
  if (seeking !== frame) sendSeek(); else seeking = null;
}

async function ask(name, words) {
  try { return (await link.ask(name, words)) ?? null; } catch (error) { toast(error.message); return undefined; }
}

function toast(words, good = false) {
  const note = document.createElement("div");
  note.className = good ? "toast good" : "toast";
  note.textContent = words;
  $("toasts").append(note);
  setTimeout(() => note.remove(), 6000);
}

// --- what comes from the server

let lastProblem = "", lastStates = new Map();
let toTap = null;  // how many objects were detected, which is said once they are shown

function sayFound() {
  if (!toTap || !facts.found?.length) return;
  toast(`${toTap} object${toTap > 1 ? "s" : ""} found: tap what to follow`, true);
  toTap = null;
}

function onMoment(next, picture) {
  boxes.take(next);
  facts = next;
  stage.show(next, picture);
  timeline.show(next);
  sayFound();
  if (next.problem && next.problem !== lastProblem) toast(next.problem);
  lastProblem = next.problem;
  $("title").textContent = $("title").title = next.title;
  $("work").hidden = !next.work;
  $("work").lastElementChild.textContent = next.work;
  document.body.classList.toggle("playing", Boolean(next.playing));
  $("play").classList.toggle("call", Boolean(next.open && !next.playing && next.ids?.length && !next.ended && countRows(next.ids) === next.ids.length));
  for (const id of ["back", "play", "forth"]) $(id).disabled = !next.open;
  $("back").disabled ||= Boolean(next.live);
  $("speed").disabled = !next.open || Boolean(next.live);
  if (document.activeElement !== $("speed")) $("speed").value = next.speed;
  if (document.activeElement !== $("weights") && [...$("weights").options].some((o) => o.value === next.weights)) $("weights").value = next.weights;
  showClock(next);
  showTargets(next);
  showSpeed(next);
  for (const link of $("downloads").children) link.classList.toggle("off", !boxes.rows.size);
  showLabels(next);
  const empty = next.open && !next.ids?.length;
  $("hint").hidden = !empty;
  $("hint").textContent = "Draw a box around what to follow";
  offer();
  if (next.open && $("chooser").open && next.title !== openChooser.before) $("chooser").close();
}

function offer() {  // once, when nothing is open and it is known what there is
  if (offer.done || !facts.ready || facts.open || facts.work || choices?.mode !== "serve") return;
  offer.done = true;
  if (!$("chooser").open) openChooser();
}

const countRows = (ids) => ids.reduce((sum, id) => sum + (boxes.rows.get(id)?.size ?? 0), 0);

function showClock({ open, live, time, frame, start, stop, fps, dropped }) {
  const shown = $("clock");
  shown.replaceChildren();
  if (!open) { shown.textContent = "–"; return; }
  const bold = document.createElement("b");
  if (live) {
    bold.className = "live";
    bold.textContent = "● live";
    shown.append(bold, ` ${clock(time)} · frame ${frame}${dropped ? ` · ${dropped} dropped` : ""}`);
    return;
  }
  bold.textContent = clock(time);
  shown.append(bold, `${stop ? ` / ${clock(stop / fps)}` : ""} · frame ${frame}`);
}

function showTargets({ ids = [], frame, fps }) {
  const list = $("targets");
  const known = [...list.children].map((item) => Number(item.dataset.id));
  if (known.join() !== ids.join()) {
    list.replaceChildren(...ids.map(makeTarget));
    if (stage.chosen !== null && !ids.includes(stage.chosen)) choose(null);
  }
  for (const item of list.children) {
    const id = Number(item.dataset.id), row = boxes.at(id, frame), state = item.querySelector(".state");
    const words = facts.names ? labelWords(id, frame, row) : row ? { tracking: "tracking", uncertain: "in doubt", lost: "lost, searching" }[row.state] : "not followed here";
    state.textContent = words;
    state.className = `state ${row?.state ?? ""}`;
    const bar = item.querySelector(".score i");
    bar.style.width = `${Math.round(100 * (row && row.state !== "lost" ? row.score : 0))}%`;
    bar.style.background = scoreColour(row?.score ?? 0);
    item.classList.toggle("chosen", id === stage.chosen);
    const size = boxes.rows.get(id)?.size ?? 0;
    if (item.dataset.seen !== `${boxes.epoch} ${size}` ) {
      if (size % 5 === 0 || lastStates.get(id) !== row?.state || !facts.playing) { showEvents(item, id, fps); item.dataset.seen = `${boxes.epoch} ${size}`; }
    }
    if (row && lastStates.get(id) === "lost" && row.state !== "lost" && facts.playing) toast(`Target ${id + 1} is found again`, true);
    lastStates.set(id, row?.state);
  }
}

function makeTarget(id) {
  const item = document.createElement("li");
  item.className = "target";
  item.dataset.id = id;
  item.innerHTML = `<i class="mark"></i><span class="name">target ${id + 1}</span><span class="state"></span>
    <button class="bin" title="remove this target and its boxes">×</button><span class="score"><i></i></span><span class="events"></span>`;
  if (facts.names) {
    const name = document.createElement("input");
    name.className = "name";
    name.maxLength = 60;
    name.setAttribute("aria-label", `name of target ${id + 1}`);
    name.value = facts.names[id];
    name.onclick = (event) => event.stopPropagation();
    name.onkeydown = (event) => event.key === "Enter" && name.blur();
    name.onchange = () => ask("rename", { id, name: name.value });
    item.querySelector(".name").replaceWith(name);
  }
  item.querySelector(".mark").style.background = colourOf(id);
  item.querySelector(".bin").onclick = (event) => { event.stopPropagation(); ask("remove", { id }); };
  item.onclick = () => choose(stage.chosen === id ? null : id);
  return item;
}

function showEvents(item, id, fps) {
  const spans = boxes.lost(id).slice(-6);
  item.querySelector(".events").replaceChildren(...spans.map(([first, last]) => {
    const jump = document.createElement("a");
    jump.textContent = `lost ${clock(first / fps)}–${clock(last / fps)}`;
    jump.onclick = (event) => { event.stopPropagation(); if (!facts.live) ask("seek", { frame: first }); };
    return jump;
  }));
}

// --- labels

const labelWords = (id, frame, row) => facts.gone[id]?.includes(frame) ? "gone (key)"
  : facts.given[id]?.includes(frame) ? "key" : !row ? "gone" : { tracking: "sure", uncertain: "in doubt", lost: "a guess" }[row.state];

function showLabels({ names, doubts = {}, proposing, ids = [], frame, given = {} }) {
  $("label-card").hidden = $("label-keys").hidden = !names;
  if (!names) return;
  $("speed-card").hidden = true;  // nothing is in a hurry here
  const count = Object.values(doubts).reduce((sum, frames) => sum + frames.length, 0);
  $("label-work").textContent = proposing ? "tracking …" : ids.length ? "all tracked" : "";
  $("next-doubt").textContent = count ? `next of ${count} doubt${count > 1 ? "s" : ""}` : "no doubts";
  $("next-doubt").disabled = !count;
  $("gone").disabled = theOne() === null;
  $("drop-key").disabled = theOne() === null || !given[theOne()]?.includes(frame);
  $("write").disabled = !ids.length;
}

// The target that is meant: the chosen one, or the only one.
const theOne = () => stage.chosen ?? (facts.ids?.length === 1 ? facts.ids[0] : null);

function nextDoubt() {
  const places = Object.entries(facts.doubts ?? {}).flatMap(([id, frames]) => frames.map((frame) => [frame, Number(id)])).sort((a, b) => a[0] - b[0]);
  if (!places.length) return;
  const [frame, id] = places.find(([frame]) => frame > facts.frame) ?? places[0];
  choose(id);
  ask("seek", { frame });
}

async function writeLabels() {
  const folder = await ask("write", { layout: $("layout").value });
  if (folder) toast(`written: ${folder}`, true);
}

function showSpeed({ ms, rate, playing }) {
  $("rate").textContent = playing && rate ? `${rate.toFixed(0)} frames/s` : "";
  if (!ms) return;
  const sum = ms[0] + ms[1] + ms[2], full = Math.max(sum, 33);
  [...$("stages").children].forEach((part, i) => { part.style.width = `${100 * ms[i] / full}%`; });
  $("ms").textContent = `${sum.toFixed(1)} ms`;
}

function choose(id) {
  stage.chosen = id;
  for (const item of $("targets").children) item.classList.toggle("chosen", Number(item.dataset.id) === id);
  stage.redraw();
}

// --- what can be opened

async function loadChoices() {
  choices = await (await fetch("/api/choices")).json();
  $("weights").replaceChildren(...choices.weights.map((name) => new Option(name)));
  if (facts.weights && !choices.weights.includes(facts.weights)) $("weights").add(new Option(facts.weights.split("/").pop(), facts.weights));
  if (facts.weights) $("weights").value = facts.weights;
  $("speed").replaceChildren(...choices.speeds.map((speed) => new Option(speed ? `${speed} ×` : "fastest", speed)));
  $("speed").value = facts.speed ?? 1;
  $("server-files").hidden = !choices.files.length;
  $("files").replaceChildren(...choices.files.map(({ root, folder, name }) => {
    const item = document.createElement("li"), button = document.createElement("button"), small = document.createElement("small");
    small.textContent = folder;
    button.append(small, name === "." ? "(images)" : name);
    button.onclick = () => openSource({ kind: "file", root, name });
    item.append(button);
    return item;
  }));
  $("drop").hidden = !choices.most;
  $("detect").hidden = $("detect-keys").hidden = !choices.detector;
  $("layout").replaceChildren(...choices.layouts.map((name) => new Option(name === "boxes" ? "boxes.csv" : name.toUpperCase(), name)));
  $("open").hidden = choices.mode === "label";
  offer();
}

function openChooser() {
  openChooser.before = facts.title;
  $("chooser-problem").hidden = true;
  loadChoices();
  if (!$("chooser").open) $("chooser").showModal();
}

async function openSource(words) {
  $("chooser-problem").hidden = true;
  try {
    await link.ask("open", words);
    $("chooser").close();
    choose(null);
  } catch (error) { chooserProblem(error.message); }
}

function chooserProblem(words) {
  if (!$("chooser").open) { toast(words); return; }
  $("chooser-problem").textContent = words;
  $("chooser-problem").hidden = false;
}

function upload(file) {
  if (!file) return;
  if (choices && file.size > choices.most) { chooserProblem(`${file.name} has ${(file.size / 1e6).toFixed(0)} MB; at most ${(choices.most / 1e6).toFixed(0)} MB may be uploaded`); return; }
  const request = new XMLHttpRequest(), bar = $("sent");
  request.open("POST", `/api/upload?name=${encodeURIComponent(file.name)}`);
  bar.hidden = false;
  $("upload-words").textContent = file.name;
  request.upload.onprogress = (event) => { bar.value = event.loaded / event.total; };
  request.onloadend = () => {
    bar.hidden = true;
    $("upload-words").textContent = "choose it, or drop it here";
    $("file").value = "";
    if (request.status === 200) { $("chooser").close(); choose(null); return; }
    let words = "the upload broke off";
    try { words = JSON.parse(request.responseText).detail; } catch { /* no answer in words */ }
    chooserProblem(words);
  };
  request.send(file);
}

// --- what can be taken along

const KINDS = [["csv", "CSV"], ["json", "JSON"], ["mot", "MOT"], ["otb", "OTB"], ["coco", "COCO"]];

function makeDownloads() {
  const links = KINDS.map(([kind, name]) => {
    const anchor = document.createElement("a");
    anchor.href = `/api/boxes/${kind}`;
    anchor.textContent = name;
    anchor.download = "";
    anchor.id = `get-${kind}`;
    return anchor;
  });
  const video = document.createElement("button");
  video.className = "wide";
  video.id = "get-video";
  video.innerHTML = "<span>Video with boxes</span><i></i>";
  video.onclick = drawVideo;
  $("downloads").append(...links, video);
}

async function drawVideo() {
  const button = $("get-video"), words = button.firstElementChild, bar = button.lastElementChild;
  button.disabled = true;
  try {
    for (;;) {
      const answer = await fetch("/api/overlay", { method: "POST" });
      const state = await answer.json();
      if (!answer.ok || state.problem) throw new Error(state.detail ?? state.problem);
      words.textContent = `drawing ${Math.round(100 * state.share)} %`;
      bar.style.width = `${100 * state.share}%`;
      if (state.done) break;
      await new Promise((resolve) => setTimeout(resolve, 400));
    }
    const anchor = document.createElement("a");
    anchor.href = "/api/overlay.webm";
    anchor.download = "tracked.webm";
    anchor.click();
  } catch (error) { toast(error.message); }
  words.textContent = "Video with boxes";
  bar.style.width = "0";
  button.disabled = false;
}

// --- buttons and keys

makeDownloads();
$("open").onclick = openChooser;
$("try").onclick = () => openSource({ kind: "sample" });
$("file").onchange = () => upload($("file").files[0]);
$("camera").onsubmit = (event) => { event.preventDefault(); openSource({ kind: "camera", camera: Number($("camera-number").value) }); };
$("stream").onsubmit = (event) => { event.preventDefault(); openSource({ kind: "stream", address: $("address").value }); };
$("play").onclick = () => ask(facts.playing ? "pause" : "play");
$("back").onclick = () => ask("step", { count: -1 });
$("forth").onclick = () => ask("step", { count: 1 });
$("speed").onchange = () => { ask("speed", { speed: Number($("speed").value) }); $("speed").blur(); };
$("weights").onchange = () => { ask("weights", { name: $("weights").value }); $("weights").blur(); };
$("next-doubt").onclick = nextDoubt;
$("gone").onclick = () => ask("gone", { id: theOne() });
$("drop-key").onclick = () => ask("drop_key", { id: theOne() });
$("undo").onclick = async () => { if (await ask("undo") === false) toast("there is nothing to take back"); };
$("write").onclick = writeLabels;
$("detect").onclick = async () => {
  toTap = await ask("detect") ?? null;
  if (toTap === 0) toast("no objects found");
  sayFound();
};
$("add").onclick = () => { choose(null); toast("Draw a box around the next target", true); };
for (const kind of ["dragover", "drop", "dragleave"]) {
  addEventListener(kind, (event) => {
    event.preventDefault();
    $("stage").classList.toggle("drag", kind === "dragover");
    if (kind === "drop") upload(event.dataTransfer.files[0]);
  });
}
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("chooser").open || /^(INPUT|SELECT)$/.test(event.target.tagName)) return;
  const keys = {
    " ": () => $("play").click(),
    ArrowLeft: () => $("back").click(),
    ArrowRight: () => $("forth").click(),
    Escape: () => { stage.giveUp(); choose(null); },
    n: () => $("add").click(),
    o: () => choices?.detector && $("detect").click(),
    ...(facts.names && { d: nextDoubt, g: () => $("gone").click(), k: () => $("drop-key").click(), z: () => $("undo").click() }),
    Delete: () => stage.chosen !== null && ask("remove", { id: stage.chosen }),
    Backspace: () => stage.chosen !== null && ask("remove", { id: stage.chosen }),
  };
  if (/^[1-9]$/.test(event.key) && facts.ids?.[event.key - 1] !== undefined) choose(facts.ids[event.key - 1]);
  else if (keys[event.key]) keys[event.key]();
  else return;
  event.preventDefault();
});
