"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const inOrder = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

  // Colours: as the system has them, or as chosen here.
  const themes = { "": "as the system", light: "light", dark: "dark" };
  const button = document.getElementById("theme");
  const setTheme = (theme) => {
    document.documentElement.dataset.theme = theme;
    button.textContent = `Colours: ${themes[theme]}`;
  };
  let kept = "";
  try {
    kept = localStorage.getItem("fewshot-bench-theme") || "";
  } catch {
    // A page opened from disk may have no storage.
  }
  setTheme(kept in themes ? kept : "");
  button.hidden = false;
  button.addEventListener("click", () => {
    const names = Object.keys(themes);
    const next = names[(names.indexOf(document.documentElement.dataset.theme) + 1) % names.length];
    setTheme(next);
    try {
      localStorage.setItem("fewshot-bench-theme", next);
    } catch {
      // Then it is forgotten with the page.
    }
  });

  // Sorting: a row without a value stays last, whichever way the others go.
  const compare = (a, b, sign) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    const difference = Number(a) - Number(b);
    return sign * (Number.isNaN(difference) ? inOrder.compare(a, b) : difference);
  };
  for (const head of all("thead th")) {
    head.firstElementChild.addEventListener("click", () => {
      const body = head.closest("table").tBodies[0];
      const before = head.getAttribute("aria-sort");
      const first = head.classList.contains("number") ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const direction = before === first ? other : first;
      for (const one of all("th", head.parentElement)) one.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", direction);
      const sign = direction === "ascending" ? 1 : -1;
      const rows = [...body.rows].map((row) => ({ row, value: row.cells[head.cellIndex].dataset.value }));
      rows.sort((a, b) => compare(a.value, b.value, sign));
      body.append(...rows.map(({ row }) => row));
    });
  }

  // Filtering: tables by text, data set and split; pictures by the latter two.
  const form = document.getElementById("filter");
  const fits = (element, { dataset, split }) =>
    (!dataset || element.dataset.dataset === dataset) &&
    (!split || !element.dataset.split || element.dataset.split === split);
  const rows = all("tbody tr").map((row) => ({ row, text: row.textContent.toLowerCase() }));
  const filter = () => {
    const wanted = Object.fromEntries(new FormData(form));
    const words = wanted.text.toLowerCase().split(/\s+/).filter(Boolean);
    for (const { row, text } of rows) {
      row.hidden = !(fits(row, wanted) && words.every((word) => text.includes(word)));
    }
    for (const table of all("table")) {
      const body = [...table.tBodies[0].rows];
      const shown = body.filter((row) => !row.hidden).length;
      const count = document.getElementById(`${table.id}-count`);
      count.textContent = shown === body.length ? `${shown} rows` : `${shown} of ${body.length} rows`;
    }
    for (const group of all(".group")) group.hidden = !fits(group, wanted);
  };
  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter));
  filter(); // a browser may fill in what the form held before
})();
