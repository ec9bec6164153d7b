/* Keeps the run page fresh: fetches its changing part while the run lives and somebody looks.
   What the reader has opened or scrolled stays as it is. */
"use strict";
(() => {
  const EVERY = 2000, SLOWEST = 30000, WHOLE_AFTER = 8;
  const place = document.getElementById("live");
  let wait = EVERY, seen = new Date(), unchanged = 0;

  const page = () => place.querySelector("[data-mark]");

  function keep() {
    const opened = [...place.querySelectorAll("details[open]")].map((one) => one.dataset.key);
    const scrolled = [...place.querySelectorAll(".picture, .scroll")].map((one) => [one.scrollLeft, one.scrollTop]);
    const focused = place.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    return () => {
      for (const one of place.querySelectorAll("details[data-key]")) one.open = opened.includes(one.dataset.key);
      place.querySelectorAll(".picture, .scroll").forEach((one, at) => {
        if (scrolled[at]) [one.scrollLeft, one.scrollTop] = scrolled[at];
      });
      if (focused) place.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
    };
  }

  function lost() {
    const said = place.querySelector(".lost");
    said.querySelector(".seen").textContent = seen.toLocaleTimeString();
    said.hidden = false;
    wait = Math.min(wait * 2, SLOWEST);
  }

  async function refresh() {
    const url = page()?.dataset.live;
    if (!url) return;
    if (!document.hidden && !window.getSelection().toString()) {
      try {
        const wish = new URLSearchParams(window.location.search);
        if (unchanged < WHOLE_AFTER) wish.set("seen", page().dataset.mark);
        const answer = await fetch(`${url}?${wish}`);
        if (answer.redirected) { window.location.reload(); return; }
        if (!answer.ok) throw new Error(String(answer.status));
        if (answer.status === 204) unchanged += 1;
        else {
          const text = await answer.text();
          const restore = keep();
          place.innerHTML = text;
          restore();
          unchanged = 0;
        }
        wait = EVERY;
        seen = new Date();
      } catch { lost(); }
    }
    window.setTimeout(refresh, wait);
  }

  if (place && page()?.dataset.live) window.setTimeout(refresh, EVERY);
})();
