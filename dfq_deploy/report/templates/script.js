(() => {
  "use strict";
  const tip = document.getElementById("tip");
  const show = (target) => {
    tip.replaceChildren();
    if (target.dataset.head) {
      const head = document.createElement("b");
      head.textContent = target.dataset.head;
      tip.append(head, document.createElement("br"));
    }
    tip.append(target.dataset.tip);
    tip.hidden = false;
    const at = target.getBoundingClientRect(), box = tip.getBoundingClientRect(), edge = 8;
    const left = Math.min(Math.max(edge, at.left + at.width / 2 - box.width / 2), innerWidth - box.width - edge);
    const above = at.top - box.height - edge;
    tip.style.left = `${Math.max(edge, left)}px`;
    tip.style.top = `${target.closest("svg") ? Math.max(edge, at.top + edge) : above > edge ? above : at.bottom + edge}px`;
  };
  const over = (event) => {
    const target = event.target instanceof Element && event.target.closest("[data-tip]");
    if (target) show(target); else tip.hidden = true;
  };
  document.addEventListener("pointerover", over);
  document.addEventListener("focusin", over);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });
  document.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });

  const compare = (one, other) => (typeof one === "number" && typeof other === "number" ? one - other : String(one).localeCompare(String(other)));
  const key = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.v === undefined ? cell.textContent.trim() : Number(cell.dataset.v);
  };
  for (const button of document.querySelectorAll("button.sort")) {
    button.addEventListener("click", () => {
      const head = button.closest("th"), table = head.closest("table"), body = table.tBodies[0];
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].map((row) => [key(row, head.cellIndex), row]);
      rows.sort((one, other) => (down ? -1 : 1) * compare(one[0], other[0]));
      body.append(...rows.map((row) => row[1]));
    });
  }

  const legacy = (text) => {
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  };
  for (const button of document.querySelectorAll("button.copy")) {
    button.addEventListener("click", async () => {
      let done = true;
      try { await navigator.clipboard.writeText(button.dataset.copy); } catch { done = legacy(button.dataset.copy); }
      button.textContent = done ? "Copied" : "Select and copy";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
  }

  const open = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const folded = target && target.closest("details");
    if (folded) { folded.open = true; target.scrollIntoView(); }
  };
  addEventListener("hashchange", open);
  open();

  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute("aria-current");
      links.get(entry.target.id)?.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-15% 0px -75% 0px" });
  for (const section of document.querySelectorAll("main > section")) seen.observe(section);
})();
