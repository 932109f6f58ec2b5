// The search of a page runs in a worker, which browsers refuse to pages that are opened from disk.
// There a hidden frame of the page stands for it: what is posted to one arrives at the other.
"use strict";
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    onmessage = null;
    onerror = null;

    constructor(url) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.append(this.frame);
      const inside = this.frame.contentWindow;
      this.ready = new Promise((resolve, reject) => {
        const document_ = this.frame.contentDocument;
        const load = (source) =>
          new Promise((loaded, failed) => {
            const script = document_.createElement("script");
            script.src = source;
            script.onload = loaded;
            script.onerror = failed;
            document_.head.append(script);
          });
        inside.importScripts = (...sources) =>
          sources.reduce((before, source) => before.then(() => load(source)), Promise.resolve());
        inside.postMessage = (data) => this.tell(new MessageEvent("message", { data }));
        load(new URL(url, location.href).href).then(resolve, reject);
      });
      this.ready.catch(() => this.tell(new ErrorEvent("error", { filename: String(url) })));
    }

    tell(event) {
      this.dispatchEvent(event);
      this[`on${event.type}`]?.(event);
    }

    postMessage(data) {
      const inside = this.frame.contentWindow;
      this.ready.then(() => {
        const event = new inside.MessageEvent("message", { data });
        inside.dispatchEvent(event);
      });
    }

    terminate() {
      this.frame.remove();
    }
  };
}
