// What is known of the targets: a row for each in each frame, as it came from the server.

export const STATES = ["tracking", "uncertain", "lost"];
const COLOURS = ["#3fd0a4", "#5aa9f7", "#f58bd0", "#f5b94a", "#b39bff", "#ff8a5c", "#8fdb4f", "#4fd8e8"];

export const colourOf = (id) => COLOURS[id % COLOURS.length];

export class Boxes {
  constructor() { this.clear(-1); }

  clear(epoch) {
    this.epoch = epoch;
    this.rows = new Map();  // id -> frame -> { box, score, state }
    this.fresh = [];  // [id, frame] that came since the time line was drawn
    this.whole = true;  // the time line must be drawn anew
  }

  take(facts) {
    if (facts.epoch !== this.epoch) this.clear(facts.epoch);
    for (const [id, frame, x, y, w, h, score, state] of facts.rows) {
      if (!this.rows.has(id)) { this.rows.set(id, new Map()); this.whole = true; }
      this.rows.get(id).set(frame, { box: [x, y, w, h], score, state: STATES[state] });
      this.fresh.push([id, frame]);
    }
  }

  at(id, frame) { return this.rows.get(id)?.get(frame); }

  // Centres of the last frames, oldest first, back to where the target was lost.
  trail(id, frame, length = 30) {
    const points = [], rows = this.rows.get(id);
    for (let f = frame; rows && f > frame - length; f--) {
      const row = rows.get(f);
      if (!row) continue;
      if (row.state === "lost") break;
      const [x, y, w, h] = row.box;
      points.unshift([x + w / 2, y + h / 2]);
    }
    return points;
  }

  // First and last frame of each stretch in which a target is lost.
  lost(id) {
    const spans = [], rows = this.rows.get(id) ?? new Map();
    let open = null;
    for (const frame of [...rows.keys()].sort((a, b) => a - b)) {
      if (rows.get(frame).state === "lost") {
        if (!open) spans.push(open = [frame, frame]);
        open[1] = frame;
      } else open = null;
    }
    return spans;
  }
}

// The colour of a score: red, amber, green.
export function scoreColour(score) {
  const ramp = [[242, 99, 95], [245, 185, 74], [63, 208, 164]];
  const at = Math.max(0, Math.min(1, score)) * 2, low = Math.min(1, Math.floor(at)), part = at - low;
  const mixed = ramp[low].map((v, i) => Math.round(v + (ramp[low + 1][i] - v) * part));
  return `rgb(${mixed})`;
}
