"use strict";
// Sorting by a button in each header, a filter of rows, and one of groups of columns. Without this script the tables
// are complete, in their original order.
const status = document.getElementById("status");

function valueOf(row, column) {
  const cell = row.cells[column];
  if (column === 0) return cell.textContent;
  return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
}

// Cells without a value come last in both directions.
function sortBy(table, header, column) {
  const descending = header.getAttribute("aria-sort") !== "descending" && column > 0
    || header.getAttribute("aria-sort") === "ascending";
  const body = table.tBodies[0];
  const rows = Array.from(body.rows).map((row) => [row, valueOf(row, column)]);
  rows.sort(([, a], [, b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    const order = typeof a === "string" ? a.localeCompare(b) : a - b;
    return descending ? -order : order;
  });
  for (const other of table.querySelectorAll("[aria-sort]")) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
  body.append(...rows.map(([row]) => row));
  status.textContent = `Sorted by ${header.textContent}, ${descending ? "descending" : "ascending"}.`;
}

function filterRows(table, text) {
  const query = text.trim().toLowerCase();
  let shown = 0;
  for (const row of table.tBodies[0].rows) {
    row.hidden = !row.cells[0].textContent.toLowerCase().includes(query);
    shown += row.hidden ? 0 : 1;
  }
  status.textContent = `${shown} of ${table.tBodies[0].rows.length} rows.`;
}

for (const section of document.querySelectorAll("section:has(table)")) {
  const table = section.querySelector("table");
  const form = section.querySelector("form");
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.elements.rows.addEventListener("input", (event) => filterRows(table, event.target.value));
  for (const box of form.querySelectorAll("[name=group]")) {
    box.addEventListener("change", () => {
      for (const cell of table.querySelectorAll("[data-group]")) {
        if (cell.dataset.group === box.value) cell.hidden = !box.checked;
      }
    });
  }
  const headers = table.tHead.rows[table.tHead.rows.length - 1].cells;
  Array.from(headers).forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => sortBy(table, header, column));
  });
}
