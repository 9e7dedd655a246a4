"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const CLASSES = ["#0a84d0", "#d55e00", "#009e73", "#cc4f9d", "#8a63d2", "#a07a00", "#d23b3b",
    "#4b8b3b", "#3c8fa6", "#9a6b4f", "#b04ad0", "#6b7fa8"];
  const RANGES = ["#3b6fd4", "#1f9a9a", "#4b9a3b", "#b08a10", "#d2502d"];
  const BLANK = "#808080";
  const GRID = 9999, MARGIN = 18, REACH = 12, CLOSER = 1.5, CLOSEST = 200;
  const find = (id) => document.getElementById(id);
  const canvas = find("dots"), pen = canvas.getContext("2d");
  const pointed = find("pointed"), crop = find("pointed-crop");
  const n = data.rows.length;
  let map = data.maps[0], column = null, hidden = new Set(), current = -1;
  let zoom = 1, left = 0, top = 0, dragged = null;

  // All dots as they were drawn last: pointing at one draws none of them anew.
  const picture = document.createElement("canvas");
  let width = 1, height = 1, scale = 1, firstX = 0, firstY = 0, ring = 4;

  // Asking the page for its measures takes far longer than a dot: they are kept.
  function measure() {
    width = canvas.clientWidth;
    height = canvas.clientHeight;
    scale = zoom * (Math.min(width, height) - 2 * MARGIN) / GRID;
    firstX = width / 2 - GRID / 2 * scale + left;
    firstY = height / 2 - GRID / 2 * scale + top;
  }

  // Where the dot i lies, in pixels of the page within the canvas.
  const across = (i) => firstX + map.x[i] * scale;
  const down = (i) => firstY + map.y[i] * scale;
  const code = (i) => (column ? column.codes[i] : 0);
  const isShown = (i) => !hidden.has(code(i));
  const colourOf = (number) => {
    if (number < 0) return BLANK;
    return column && column.ranges ? RANGES[number % RANGES.length] : CLASSES[number % CLASSES.length];
  };

  function draw() {
    measure();
    const ratio = window.devicePixelRatio || 1;
    for (const one of [canvas, picture]) {
      one.width = Math.round(width * ratio);
      one.height = Math.round(height * ratio);
    }
    const brush = picture.getContext("2d");
    brush.setTransform(ratio, 0, 0, ratio, 0, 0);
    const size = n > 5000 ? 2 : n > 1000 ? 3 : 4;
    ring = size + 4;
    brush.globalAlpha = n > 5000 ? 0.6 : 0.85;
    // What has no class lies below what has one.
    const order = [...Array(n).keys()].sort((a, b) => (code(a) >= 0) - (code(b) >= 0));
    for (const i of order) {
      const x = across(i), y = down(i);
      if (!isShown(i) || x < -size || y < -size || x > width + size || y > height + size) continue;
      brush.fillStyle = colourOf(code(i));
      brush.beginPath();
      brush.arc(x, y, size, 0, 2 * Math.PI);
      brush.fill();
    }
    show();
  }

  // Show the dots, and a ring around the one that is pointed at.
  function show() {
    const ratio = canvas.width / width;
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(picture, 0, 0);
    if (current < 0) return;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.strokeStyle = getComputedStyle(document.body).color;
    pen.lineWidth = 2;
    pen.beginPath();
    pen.arc(across(current), down(current), ring, 0, 2 * Math.PI);
    pen.stroke();
  }

  function line(text) {
    const element = document.createElement("div");
    element.textContent = text;
    return element;
  }

  function point(i) {
    current = i;
    pointed.hidden = i < 0;
    if (i >= 0) {
      const strip = data.strips[i];
      find("pointed-window").hidden = !strip;
      if (strip) crop.src = "data:image/jpeg;base64," + strip;
      else crop.removeAttribute("src");
      crop.alt = "Crop of row " + data.rows[i];
      const lines = ["row " + data.rows[i] + " at " + data.places[i]];
      if (data.names) lines.push(data.names.column + ": " + data.names.cells[i]);
      if (column) lines.push(column.name + ": " + (code(i) < 0 ? "blank" : column.labels[code(i)]));
      if (!strip) lines.push("no crop of this row is in the report");
      find("pointed-text").replaceChildren(...lines.map(line));
      const x = across(i), y = down(i), wide = pointed.offsetWidth, high = pointed.offsetHeight;
      const beside = x + 16 + wide < width ? x + 16 : x - 16 - wide;
      pointed.style.left = Math.max(0, beside) + "px";
      pointed.style.top = Math.max(0, Math.min(y - high / 2, height - high)) + "px";
    }
    show();
  }

  function nearest(x, y) {
    let best = -1, least = REACH * REACH;
    for (let i = 0; i < n; i++) {
      if (!isShown(i)) continue;
      const dx = across(i) - x, dy = down(i) - y, distance = dx * dx + dy * dy;
      if (distance <= least) {
        best = i;
        least = distance;
      }
    }
    return best;
  }

  // The nearest dot in a direction, counting what lies aside twice.
  function next(dx, dy) {
    let best = -1, least = Infinity;
    for (let i = 0; i < n; i++) {
      if (i === current || !isShown(i)) continue;
      const x = across(i) - across(current), y = down(i) - down(current);
      const ahead = x * dx + y * dy, aside = Math.abs(x * dy) + Math.abs(y * dx);
      if (ahead <= 0 || aside > 2 * ahead) continue;
      const distance = ahead + 2 * aside;
      if (distance < least) {
        best = i;
        least = distance;
      }
    }
    return best;
  }

  // Draw the dots anew, and what is pointed at where it lies now.
  function drawAll() {
    draw();
    point(current);
  }

  function magnify(factor) {
    const wanted = Math.min(CLOSEST, Math.max(1, zoom * factor));
    left *= wanted / zoom;
    top *= wanted / zoom;
    zoom = wanted;
    drawAll();
  }

  function fit() {
    zoom = 1;
    left = top = 0;
    drawAll();
  }

  function showLegend() {
    const counts = new Map();
    for (let i = 0; i < n; i++) counts.set(code(i), (counts.get(code(i)) || 0) + 1);
    const numbers = column ? column.labels.map((_, number) => number) : [];
    if (counts.has(-1)) numbers.push(-1);
    find("legend").replaceChildren(...numbers.filter((number) => counts.has(number)).map((number) => {
      const button = document.createElement("button"), mark = document.createElement("i");
      button.type = "button";
      mark.style.background = colourOf(number);
      const text = (number < 0 ? "blank" : column.labels[number]) + " (" + counts.get(number) + ")";
      button.append(mark, text);
      button.setAttribute("aria-pressed", String(!hidden.has(number)));
      button.addEventListener("click", () => {
        if (!hidden.delete(number)) hidden.add(number);
        button.setAttribute("aria-pressed", String(!hidden.has(number)));
        if (current >= 0 && !isShown(current)) current = -1;
        drawAll();
      });
      return button;
    }));
  }

  function fill(select, names, chosen) {
    select.replaceChildren(...names.map((name, number) => new Option(name, String(number))));
    select.addEventListener("change", () => chosen(Number(select.value)));
  }

  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    if (dragged) {
      left += event.clientX - dragged.x;
      top += event.clientY - dragged.y;
      dragged = { x: event.clientX, y: event.clientY };
      current = -1;
      drawAll();
      return;
    }
    const found = nearest(event.clientX - box.left, event.clientY - box.top);
    if (found !== current) point(found);
  });
  canvas.addEventListener("pointerdown", (event) => {
    dragged = { x: event.clientX, y: event.clientY };
    canvas.setPointerCapture(event.pointerId);
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { dragged = null; });
  canvas.addEventListener("pointerleave", () => { if (!dragged) point(-1); });
  canvas.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key in steps) {
      let found = -1;
      if (current >= 0) found = next(...steps[event.key]);
      else for (let i = 0; i < n && found < 0; i++) if (isShown(i)) found = i;
      if (found >= 0) point(found);
    } else if (event.key === "+" || event.key === "=") magnify(CLOSER);
    else if (event.key === "-") magnify(1 / CLOSER);
    else if (event.key === "Escape") point(-1);
    else return;
    event.preventDefault();
  });
  find("closer").addEventListener("click", () => magnify(CLOSER));
  find("farther").addEventListener("click", () => magnify(1 / CLOSER));
  find("fit").addEventListener("click", fit);
  window.addEventListener("resize", drawAll);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

  find("panel").hidden = false;
  find("map-choice").hidden = data.maps.length < 2;
  fill(find("maps"), data.maps.map((one) => one.name), (number) => {
    map = data.maps[number];
    fit();
  });
  fill(find("columns"), [...data.columns.map((one) => one.name), "nothing"], (number) => {
    column = data.columns[number] || null;
    hidden = new Set();
    showLegend();
    drawAll();
  });
  column = data.columns[0] || null;
  showLegend();
  draw();
})();
