// The WebSocket: moments come in as binary frames, commands go out as JSON and are answered by number.

export class Link {
  constructor(onMoment, onState) {
    this.onMoment = onMoment;
    this.onState = onState;
    this.waiting = new Map();
    this.number = 0;
    this.line = Promise.resolve();  // moments are shown in the order in which they come
    this.connect();
  }

  connect() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const width = Math.min(1920, Math.round(innerWidth * Math.min(devicePixelRatio, 2)));
    this.socket = new WebSocket(`${scheme}://${location.host}/ws?width=${width}`);
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => this.onState("on");
    this.socket.onclose = () => {
      this.onState("off");
      for (const { reject } of this.waiting.values()) reject(new Error("the server is gone"));
      this.waiting.clear();
      setTimeout(() => this.connect(), 1500);
    };
    this.socket.onmessage = (message) => { this.line = this.line.then(() => this.receive(message.data)); };
  }

  async receive(data) {
    if (typeof data === "string") {
      const { answer, value, error } = JSON.parse(data);
      const waits = this.waiting.get(answer);
      this.waiting.delete(answer);
      if (waits) error === undefined ? waits.resolve(value) : waits.reject(new Error(error));
      return;
    }
    const length = new DataView(data).getUint32(0, true);
    const facts = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
    const jpeg = new Uint8Array(data, 4 + length);
    let picture = null;
    if (jpeg.length) {
      try { picture = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" })); } catch { /* a damaged one is left out */ }
    }
    this.onMoment(facts, picture);
    // Only now may the server send more: who draws slowly gets fewer pictures, never old ones.
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send('{"do":"seen"}');
  }

  // Ask the server to do something; resolves with its answer, rejects with its words.
  ask(name, words = {}) {
    if (this.socket.readyState !== WebSocket.OPEN) return Promise.reject(new Error("no connection to the server"));
    const number = ++this.number;
    this.socket.send(JSON.stringify({ do: name, number, ...words }));
    return new Promise((resolve, reject) => this.waiting.set(number, { resolve, reject }));
  }
}
