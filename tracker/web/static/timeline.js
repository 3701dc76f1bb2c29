// The time line: a lane for each target, coloured by its score; click or drag to go to a frame.

import { colourOf, scoreColour } from "./boxes.js";

const LANE = 16, GAP = 4, RULER = 22, WINDOW = 30;  // px; seconds of a live source that are shown

export class Timeline {
  constructor(canvas, boxes, seek) {
    Object.assign(this, { canvas, boxes, seek, facts: null, layer: document.createElement("canvas"), scheduled: false });
    new ResizeObserver(() => { boxes.whole = true; this.redraw(); }).observe(canvas);
    let down = false;
    canvas.addEventListener("pointerdown", (event) => { down = true; canvas.setPointerCapture(event.pointerId); this.go(event); });
    canvas.addEventListener("pointermove", (event) => down && this.go(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { down = false; });
  }

  show(facts) { this.facts = facts; this.redraw(); }

  redraw() {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => { this.scheduled = false; this.paint(); });
  }

  range() {
    const { live, start = 0, stop, frame = 0, fps = 30 } = this.facts;
    if (live) { const end = Math.max(frame + 1, WINDOW * fps); return [end - WINDOW * fps, end]; }
    if (stop) return [start, stop];
    const known = Math.max(frame + 1, this.longest ?? 0, start + 10 * fps);  // a file that does not say how long it is
    return [start, this.longest = known > (this.longest ?? 0) ? start + Math.ceil((known - start) * 1.3) : known];
  }

  go(event) {
    if (!this.facts?.open || this.facts.live) return;
    const bounds = this.canvas.getBoundingClientRect(), [first, end] = this.range();
    const share = (event.clientX - bounds.left) / bounds.width;
    this.seek(Math.round(Math.max(first, Math.min(end - 1, first + share * (end - first) - 0.5))));
  }

  paint() {
    const { canvas, layer, boxes, facts } = this, ratio = devicePixelRatio || 1;
    const ids = facts?.ids ?? [];
    const W = canvas.clientWidth, H = RULER + Math.max(1, ids.length) * (LANE + GAP) + GAP;
    if (!W) return;
    const size = [Math.round(W * ratio), Math.round(H * ratio)];
    if (canvas.width !== size[0] || canvas.height !== size[1]) {
      [canvas.width, canvas.height] = size;
      canvas.style.height = `${H}px`;
    }
    if (layer.width !== size[0] || layer.height !== size[1]) { [layer.width, layer.height] = size; boxes.whole = true; }
    const c = canvas.getContext("2d"), under = layer.getContext("2d");
    for (const one of [c, under]) one.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.clearRect(0, 0, W, H);
    if (!facts?.open) return;
    const [first, end] = this.range(), key = `${first} ${end} ${ids}`;
    const left = (frame) => (frame - first) / (end - first) * W, wide = Math.max(W / (end - first), 1);
    if (key !== this.key) { boxes.whole = true; this.key = key; }
    const stroke = (id, frame) => {
      const lane = ids.indexOf(id), row = boxes.at(id, frame);
      if (lane < 0 || !row || frame < first || frame >= end) return;
      const y = RULER + GAP / 2 + lane * (LANE + GAP);
      under.fillStyle = "#11171c";
      under.fillRect(left(frame), y, wide + 0.4, LANE);
      under.fillStyle = row.state === "lost" ? "#4a1d20" : scoreColour(row.score);
      const high = row.state === "lost" ? LANE : Math.max(3, LANE * (0.35 + 0.65 * row.score));
      under.fillRect(left(frame), y + LANE - high, wide + 0.4, high);
    };
    if (boxes.whole) {
      under.clearRect(0, 0, W, H);
      for (const id of ids) for (const frame of boxes.rows.get(id)?.keys() ?? []) stroke(id, frame);
    } else for (const [id, frame] of boxes.fresh) stroke(id, frame);
    boxes.whole = false;
    boxes.fresh = [];

    this.ruler(c, first, end, W, left);
    ids.forEach((id, lane) => {
      const y = RULER + GAP / 2 + lane * (LANE + GAP);
      c.fillStyle = "#1a222a";
      c.fillRect(0, y, W, LANE);
    });
    c.drawImage(layer, 0, 0, W, H);
    ids.forEach((id, lane) => {  // a diamond where a person said where the target is
      const y = RULER + GAP / 2 + lane * (LANE + GAP) + LANE / 2;
      for (const frame of facts.given?.[id] ?? []) {
        const x = left(frame + 0.5);
        c.fillStyle = facts.gone?.[id]?.includes(frame) ? "#11171c" : colourOf(id);
        c.strokeStyle = "#0b0f13";
        c.lineWidth = 1.5;
        c.beginPath();
        c.moveTo(x, y - 6); c.lineTo(x + 5, y); c.lineTo(x, y + 6); c.lineTo(x - 5, y);
        c.closePath();
        c.fill();
        c.stroke();
      }
    });
    const x = left(facts.frame + 0.5);
    c.fillStyle = "#fff";
    c.fillRect(x - 1, 0, 2, H);
    c.beginPath();
    c.moveTo(x - 6, 0); c.lineTo(x + 6, 0); c.lineTo(x, 8);
    c.fill();
  }

  ruler(c, first, end, W, left) {
    const fps = this.facts.fps || 30, seconds = (end - first) / fps;
    const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200];
    const step = steps.find((s) => seconds / s * 62 < W) ?? 7200;
    c.fillStyle = "#74828f";
    c.font = "11px system-ui, sans-serif";
    c.textBaseline = "top";
    for (let t = Math.ceil(first / fps / step) * step; t * fps < end; t += step) {
      const x = left(t * fps);
      c.fillRect(x, RULER - 6, 1, 4);
      if (x < W - 30) c.fillText(clock(t, step), x + 4, 5);
    }
  }
}

// Seconds as m:ss, with tenths where they matter.
export function clock(seconds, step = 0.1) {
  const minutes = Math.floor(seconds / 60 + 1e-9), rest = Math.max(0, seconds - 60 * minutes);
  return `${minutes}:${step < 1 ? rest.toFixed(1).padStart(4, "0") : String(Math.round(rest)).padStart(2, "0")}`;
}
