// Reads the gateway's stream of changes through fetch(), because EventSource cannot send a token.

import { hasToken, send } from "/api.js";

const FIRST_PAUSE = 1_000;
const LAST_PAUSE = 15_000;
// The gateway says something every 15 s; a stream that is silent for longer is dead without having been closed.
const SILENCE = 40_000;

/**
 * Splits a stream of server-sent events. Lines may end within a piece.
 * @param {(kind: string, data: any) => void} tell called for each event, with its JSON read
 * @returns {(piece: string) => void} takes the next piece of text
 */
export function parser(tell) {
  let rest = "";
  let kind = "message";
  let data = [];
  return (piece) => {
    const lines = (rest + piece).split("\n");
    rest = lines.pop();
    for (const raw of lines) {
      const entry = raw.endsWith("\r") ? raw.slice(0, -1) : raw;
      if (entry === "") {
        if (data.length > 0) tell(kind, JSON.parse(data.join("\n")));
        kind = "message";
        data = [];
      } else if (entry.startsWith("event:")) {
        kind = entry.slice(6).trim();
      } else if (entry.startsWith("data:")) {
        data.push(entry.slice(5).trimStart());
      }
    }
  };
}

/**
 * Follows the changes until there is no token any more. After an end it tries again, after 1 s at first and 15 s at last.
 * @param {{opened: () => void, event: (kind: string, data: any) => void, lost: (pause: number) => void}} listener
 *   `opened` before the first event of each stream; `lost` after its end, with the milliseconds until the next try
 * @returns {{retry: () => void, stop: () => void}} to try at once, and to end it
 */
export function follow(listener) {
  let pause = FIRST_PAUSE;
  let stopped = false;
  let wake = () => {};
  let current = null;

  const once = async () => {
    current = new AbortController();
    let watch = 0;
    const heard = () => {
      clearTimeout(watch);
      watch = setTimeout(() => current.abort(), SILENCE);
    };
    heard();
    try {
      const answer = await send("GET", "/v1/changes", undefined, { signal: current.signal });
      listener.opened();
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      const take = parser((kind, data) => {
        if (kind === "complete") pause = FIRST_PAUSE;
        listener.event(kind, data);
      });
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        heard();
        take(part.value);
      }
    } finally {
      clearTimeout(watch);
      current.abort();
    }
  };

  const run = async () => {
    while (!stopped && hasToken()) {
      await once().catch((error) => {
        if (!stopped && error.name !== "AbortError" && error.name !== "TypeError" && !error.status)
          console.error(error);
      });
      if (stopped || !hasToken()) return;
      listener.lost(pause);
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, pause);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      pause = Math.min(pause * 2, LAST_PAUSE);
    }
  };
  // The browser knows of a lost network long before the silence is noticed.
  const offline = () => current?.abort();
  const online = () => wake();
  addEventListener("offline", offline);
  addEventListener("online", online);
  run();

  return {
    retry: () => wake(),
    stop: () => {
      stopped = true;
      removeEventListener("offline", offline);
      removeEventListener("online", online);
      current?.abort();
      wake();
    },
  };
}
