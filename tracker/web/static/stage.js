// The picture with its boxes, and the pointer that draws, moves and stretches them.

import { colourOf } from "./boxes.js";

const HANDLE = 7;  // px, half the side of a handle
const REACH = 16;  // px, how near a finger must come to it
const TAP = 5;  // px, a press that moves less is a tap
const SMALLEST = 4;  // frame px, of a box

export class Stage {
  // act: { draw(box), move(id, box), choose(id), begin(), cancel() }
  constructor(canvas, boxes, act) {
    Object.assign(this, { canvas, boxes, act, facts: null, picture: null, chosen: null, drag: null, scheduled: false });
    this.context = canvas.getContext("2d");
    new ResizeObserver(() => this.redraw()).observe(canvas);
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.pull(event));
    canvas.addEventListener("pointerup", (event) => this.release(event));
    canvas.addEventListener("pointercancel", () => this.giveUp());
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  show(facts, picture) {
    if (this.drag) { picture?.close(); return; }  // who draws, draws on a picture that stands still
    if (this.picture && this.picture !== picture) this.picture.close();
    this.facts = facts;
    this.picture = picture;
    if (facts.size) this.canvas.parentElement.style.setProperty("--aspect", facts.size[0] / facts.size[1]);
    this.redraw();
  }

  redraw() {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => { this.scheduled = false; this.paint(); });
  }

  // --- where things are: frame px <-> canvas px

  fit() {
    const { clientWidth: W, clientHeight: H } = this.canvas, [w, h] = this.facts?.size ?? [16, 9];
    const scale = Math.min(W / w, H / h);
    return { scale, x: (W - w * scale) / 2, y: (H - h * scale) / 2 };
  }

  toFrame(event) {
    const bounds = this.canvas.getBoundingClientRect(), { scale, x, y } = this.fit();
    return [(event.clientX - bounds.left - x) / scale, (event.clientY - bounds.top - y) / scale];
  }

  // --- painting

  paint() {
    const { canvas, context: c } = this, ratio = devicePixelRatio || 1;
    const W = canvas.clientWidth, H = canvas.clientHeight;
    if (canvas.width !== Math.round(W * ratio) || canvas.height !== Math.round(H * ratio)) {
      canvas.width = Math.round(W * ratio);
      canvas.height = Math.round(H * ratio);
    }
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.clearRect(0, 0, W, H);
    if (!this.picture || !this.facts?.size) return;
    const { scale, x, y } = this.fit(), [w, h] = this.facts.size;
    c.imageSmoothingQuality = "high";
    c.drawImage(this.picture, x, y, w * scale, h * scale);
    const place = ([bx, by, bw, bh]) => [x + bx * scale, y + by * scale, bw * scale, bh * scale];
    for (const found of this.facts.found ?? []) this.paintFound(place(found), found[5], found[4]);
    const gone = [];
    for (const id of this.facts.ids ?? []) {
      const row = this.boxes.at(id, this.facts.frame);
      if (!row || this.drag?.id === id) continue;
      if (row.state === "lost" && !this.facts.names) { gone.push(id); continue; }
      this.paintTrail(this.boxes.trail(id, this.facts.frame), colourOf(id), (px, py) => [x + px * scale, y + py * scale]);
      this.paintBox(place(row.box), id, row, id === this.chosen);
    }
    gone.forEach((id, i) => this.tag(x + 12, y + 12 + 30 * i, colourOf(id), `${id + 1} lost, searching`, null));
    if (this.drag?.box) this.paintBox(place(this.drag.box), this.drag.id, null, true);
  }

  paintBox([x, y, w, h], id, row, chosen) {
    const c = this.context, colour = id === null || id === undefined ? "#ffffff" : colourOf(id);
    c.lineJoin = "round";
    c.setLineDash(row?.state === "uncertain" ? [7, 6] : row?.state === "lost" ? [3, 6] : []);
    for (const [width, paint] of [[5, "#0b0f13b0"], [2.4, colour]]) {
      c.lineWidth = width;
      c.strokeStyle = paint;
      c.strokeRect(x, y, w, h);
    }
    c.setLineDash([]);
    if (chosen) {
      c.fillStyle = colour + "1f";
      c.fillRect(x, y, w, h);
      c.fillStyle = "#fff";
      c.strokeStyle = "#0b0f13";
      c.lineWidth = 1.5;
      for (const [hx, hy] of corners([x, y, w, h])) {
        c.beginPath();
        c.arc(hx, hy, HANDLE - 2, 0, 7);
        c.fill();
        c.stroke();
      }
    }
    if (row) this.tag(x - 1, y > 34 ? y - 30 : y + 6, colour, this.label(id, row), row.score);
  }

  paintFound([x, y, w, h], name, score) {
    const c = this.context;
    c.setLineDash([2, 4]);
    for (const [width, paint] of [[3, "#0b0f1390"], [1.5, "#ffffff"]]) {
      c.lineWidth = width;
      c.strokeStyle = paint;
      c.strokeRect(x, y, w, h);
    }
    c.setLineDash([]);
    c.font = "12px system-ui, sans-serif";
    c.textBaseline = "alphabetic";
    c.fillStyle = "#ffffff";
    c.shadowColor = "#000000";
    c.shadowBlur = 4;
    c.fillText(`${name} ${score.toFixed(2)}`.trim(), x + 4, y + h - 5);
    c.shadowBlur = 0;
  }

  label(id, { state }) {
    const doubt = { uncertain: "  in doubt", lost: "  a guess" }[state] ?? "";
    return `${this.facts.names?.[id] && this.facts.names[id] !== "target" ? this.facts.names[id] : id + 1}${doubt}`;
  }

  tag(x, y, colour, words, score) {
    const c = this.context;
    c.font = "600 13px system-ui, sans-serif";
    const text = c.measureText(words).width, width = text + 26 + (score === null ? 0 : 42);
    x = Math.max(4, Math.min(x, this.canvas.clientWidth - width - 4));
    c.fillStyle = "#0b0f13d8";
    c.beginPath();
    c.roundRect(x, y, width, 24, 7);
    c.fill();
    c.fillStyle = colour;
    c.beginPath();
    c.roundRect(x + 7, y + 8, 8, 8, 2);
    c.fill();
    c.fillStyle = "#fff";
    c.textBaseline = "middle";
    c.fillText(words, x + 20, y + 12.5);
    if (score !== null) {
      c.fillStyle = "#aebac4";
      c.font = "12px system-ui, sans-serif";
      c.fillText(score.toFixed(2), x + text + 30, y + 12.5);
    }
  }

  paintTrail(points, colour, place) {
    const c = this.context;
    c.lineCap = "round";
    for (let i = 1; i < points.length; i++) {
      const age = i / points.length;
      c.strokeStyle = colour;
      c.globalAlpha = 0.15 + 0.6 * age;
      c.lineWidth = 1 + 2 * age;
      c.beginPath();
      c.moveTo(...place(...points[i - 1]));
      c.lineTo(...place(...points[i]));
      c.stroke();
    }
    c.globalAlpha = 1;
  }

  // --- the pointer

  press(event) {
    if (!this.facts?.size || event.button > 0) return;
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    const at = this.toFrame(event), { scale } = this.fit();
    this.drag = { from: at, start: [event.clientX, event.clientY], moved: false, id: null, box: null, kind: "draw", frame: this.facts.frame };
    const row = this.chosen === null ? null : this.boxes.at(this.chosen, this.facts.frame);
    if (row && this.isThere(row)) {
      const reach = REACH / scale, [x, y, w, h] = row.box;
      const corner = corners(row.box).findIndex(([cx, cy]) => Math.hypot(cx - at[0], cy - at[1]) < reach);
      if (corner >= 0) Object.assign(this.drag, { kind: "stretch", corner, id: this.chosen, was: row.box });
      else if (at[0] > x && at[0] < x + w && at[1] > y && at[1] < y + h) Object.assign(this.drag, { kind: "move", id: this.chosen, was: row.box });
    }
    if (this.drag.kind === "draw") this.drag.id = this.chosen;
    this.act.begin();
  }

  pull(event) {
    const drag = this.drag;
    if (!drag) { this.hover(event); return; }
    if (Math.hypot(event.clientX - drag.start[0], event.clientY - drag.start[1]) >= TAP) drag.moved = true;
    if (!drag.moved) return;
    const [w, h] = this.facts.size, inside = ([x, y]) => [Math.max(0, Math.min(w, x)), Math.max(0, Math.min(h, y))];
    const at = this.toFrame(event);
    if (drag.kind === "move") {
      drag.box = [drag.was[0] + at[0] - drag.from[0], drag.was[1] + at[1] - drag.from[1], drag.was[2], drag.was[3]];
    } else if (drag.kind === "stretch") {
      drag.box = between(corners(drag.was)[(drag.corner + 2) % 4], at);
    } else {
      drag.box = between(inside(drag.from), inside(at));
    }
    this.redraw();
  }

  release(event) {
    const drag = this.drag;
    if (!drag) return;
    this.drag = null;
    if (!drag.moved) {
      const at = this.toFrame(event), hit = this.under(at), found = hit === null ? this.foundUnder(at) : null;
      if (found) { this.act.draw(found, drag.frame); this.redraw(); return; }
      this.act.choose(hit === this.chosen ? null : hit);
      this.act.cancel();
    } else if (!drag.box || drag.box[2] < SMALLEST || drag.box[3] < SMALLEST) {
      this.act.cancel();
    } else if (drag.id === null) {
      this.act.draw(drag.box, drag.frame);
    } else {
      this.act.move(drag.id, drag.box, drag.frame);
    }
    this.redraw();
  }

  giveUp() {
    if (!this.drag) return;
    this.drag = null;
    this.act.cancel();
    this.redraw();
  }

  // The smallest box under a point; null: none.
  under([x, y]) {
    const found = (this.facts.ids ?? []).map((id) => [id, this.boxes.at(id, this.facts.frame)])
      .filter(([, row]) => row && this.isThere(row) && x >= row.box[0] && x <= row.box[0] + row.box[2] && y >= row.box[1] && y <= row.box[1] + row.box[3]);
    found.sort((a, b) => a[1].box[2] * a[1].box[3] - b[1].box[2] * b[1].box[3]);
    return found.length ? found[0][0] : null;
  }

  // The smallest box that a detector found under a point; null: none.
  foundUnder([x, y]) {
    const boxes = (this.facts.found ?? []).filter(([bx, by, bw, bh]) => x >= bx && x <= bx + bw && y >= by && y <= by + bh);
    boxes.sort((a, b) => a[2] * a[3] - b[2] * b[3]);
    return boxes.length ? boxes[0].slice(0, 4) : null;
  }

  // Whether a row has a box to take hold of: a lost target has none, a guess to be labelled has.
  isThere(row) { return row.state !== "lost" || Boolean(this.facts.names); }

  hover(event) {
    if (!this.facts?.size) return;
    const at = this.toFrame(event), row = this.chosen === null ? null : this.boxes.at(this.chosen, this.facts.frame);
    let cursor = "crosshair";
    if (row && this.isThere(row)) {
      const reach = REACH / this.fit().scale;
      const corner = corners(row.box).findIndex(([x, y]) => Math.hypot(x - at[0], y - at[1]) < reach);
      if (corner >= 0) cursor = corner % 2 ? "nesw-resize" : "nwse-resize";
      else if (this.under(at) === this.chosen) cursor = "move";
    }
    this.canvas.style.cursor = cursor;
  }
}

const corners = ([x, y, w, h]) => [[x, y], [x + w, y], [x + w, y + h], [x, y + h]];
const between = ([ax, ay], [bx, by]) => [Math.min(ax, bx), Math.min(ay, by), Math.abs(ax - bx), Math.abs(ay - by)];
