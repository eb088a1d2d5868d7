// Status, usage count and last use, kept up to date while the table is looked at. The page works without.
// Texts go in as text (textContent), never as markup.
"use strict";

const EVERY = 2000;
const table = document.querySelector("table[data-live]");

/** The cell of a row, or null. */
function cell(row, name) {
  return row.querySelector(`[data-cell="${name}"]`);
}

/** Puts a text into an element if it says something else; whether it did. */
function say(element, text) {
  if (element === null || element.textContent.trim() === text) return false;
  element.textContent = text;
  return true;
}

function showStatus(row, status) {
  const shown = cell(row, "status").querySelector(".status");
  if (!say(shown, status)) return false;
  shown.className = `status ${status}`;
  return true;
}

function showLastUsed(row, at, device, text) {
  if (at === null) return;
  const place = cell(row, "last_used");
  let time = place.querySelector("time");
  let on = place.querySelector("span");
  if (time === null || on === null) {
    time = document.createElement("time");
    on = document.createElement("span");
    place.replaceChildren(time, on);
  }
  time.dateTime = at;
  time.title = at;
  say(time, text);
  // With the space between the two.
  const where = device === null ? "" : ` on ${device}`;
  if (on.textContent !== where) on.textContent = where;
}

/** Shows what has come; says aloud, in one go, whose status has changed. */
function show(answer) {
  const changed = [];
  const rows = [...table.tBodies];
  for (const row of rows) {
    const now = answer.secrets[row.dataset.name];
    if (now === undefined) continue;
    if (showStatus(row, now.status)) changed.push(`${row.dataset.name} is ${now.status}`);
    say(cell(row, "usage_count"), String(now.usage_count));
    showLastUsed(row, now.last_used_at, now.last_used_on, now.last_used);
  }
  const names = rows.map((row) => row.dataset.name);
  const same = names.length === Object.keys(answer.secrets).length && names.every((name) => name in answer.secrets);
  document.getElementById("stale").hidden = same;
  if (changed.length > 0) say(document.getElementById("live"), changed.join(", "));
}

/** Whether it is worth asking again. */
async function ask() {
  try {
    const response = await fetch(table.dataset.live, { headers: { accept: "application/json" } });
    if (response.status === 403) {
      say(document.getElementById("live"), "The session has ended: run guillemet console for a new link.");
      return false;
    }
    if (response.ok) show(await response.json());
  } catch {
    // The daemon is away; it may come back.
  }
  return true;
}

async function watch() {
  let wanted = true;
  while (wanted) {
    await new Promise((resolve) => setTimeout(resolve, EVERY));
    if (document.visibilityState === "visible") wanted = await ask();
  }
}

if (table !== null) watch();
