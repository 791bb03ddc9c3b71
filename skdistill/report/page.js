"use strict";
// Without this script the tables are plain ones, in the order in which they were written.
{
  const { compare } = new Intl.Collator(undefined, { numeric: true });
  const textOf = (row, column) => {
    const cell = row.cells[column];
    return (cell.dataset.value ?? cell.textContent).trim();
  };
  const sort = (table, head, column, descending) => {
    const inOrder = head.dataset.type === "number" ? (a, b) => a - b : compare;
    const rows = [...table.tBodies[0].rows].map((row) => [textOf(row, column), row]);
    rows.sort(([a], [b]) => {
      // What is missing comes last either way.
      if (a === "" || b === "") return (a === "") - (b === "");
      return descending ? inOrder(b, a) : inOrder(a, b);
    });
    table.tBodies[0].append(...rows.map(([, row]) => row));
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const descending = head.getAttribute("aria-sort") === "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", descending ? "descending" : "ascending");
        sort(table, head, column, descending);
      });
    });
  }
}
