// Structures that turn: atoms as shaded spheres, bonds and cell edges as lines, drawn back to front on a canvas.
// Each <canvas data-structure="k"> shows structures[k] = {symbols, radii, colors, kind[], xyz[], bonds[i, dx, dy, dz, …], cell[], view[9], index[], error[],
// sigma[], order[]} with lengths in Å, a bond as its half that starts at atom i, the cell as end points of its edges, errors in meV/Å (null: not finite).
"use strict";
(() => {
  const {structures, top} = JSON.parse(document.getElementById("structures").textContent);
  const SHADES = [[237, 240, 244], [250, 204, 138], [240, 120, 62], [200, 30, 42], [110, 0, 40]];
  let byError = top > 0;
  const views = [];

  const shade = (x) => {
    const t = Math.max(0, Math.min(1, x)) * (SHADES.length - 1), k = Math.min(SHADES.length - 2, Math.floor(t));
    return SHADES[k].map((c, j) => Math.round(c + (t - k) * (SHADES[k + 1][j] - c)));
  };
  const css = (c, f = 1) => `rgb(${c.map((v) => Math.round(f > 1 ? v + (255 - v) * (f - 1) : v * f)).join()})`;
  const meV = (x) => (x === null ? "not finite" : (x >= 100 ? x.toFixed(0) : x.toPrecision(3)) + " meV/Å");

  function view(canvas) {
    const s = structures[canvas.dataset.structure], n = s.kind.length, pen = canvas.getContext("2d");
    const out = canvas.parentNode.querySelector("output"), centre = [0, 0, 0], points = s.xyz.concat(s.cell);
    for (let k = 0; k < 3; k++) {
      const column = points.filter((_, i) => i % 3 === k);
      centre[k] = (Math.min(...column) + Math.max(...column)) / 2;
    }
    let reach = 1.5, broad = 1.5, R = s.view, zoom = 1, chosen = -1, step = -1, drawn = [];
    const turn = (ax, ay) => {
      const [a, b, c, d] = [Math.cos(ay), Math.sin(ay), Math.cos(ax), Math.sin(ax)];
      const M = [a, 0, b, d * b, c, -d * a, -c * b, d, c * a], old = R;
      R = M.map((_, i) => [0, 1, 2].reduce((sum, k) => sum + M[3 * Math.floor(i / 3) + k] * old[3 * k + (i % 3)], 0));
    };
    const spin = (x, y, z) => [0, 3, 6].map((r) => R[r] * x + R[r + 1] * y + R[r + 2] * z);
    const place = (a, i) => spin(a[i] - centre[0], a[i + 1] - centre[1], a[i + 2] - centre[2]);
    for (let i = 0; i < points.length; i += 3) {
      const p = place(points, i);
      reach = Math.max(reach, Math.hypot(...p) + 0.6); broad = Math.max(broad, Math.abs(p[0]) / 1.2 + 0.7, Math.abs(p[1]) + 0.7);
    }
    const color = (i) => (!byError ? s.colors[s.kind[i]] : s.error[i] === null ? SHADES[4] : shade(s.error[i] / top));

    function draw() {
      const wide = canvas.clientWidth, high = canvas.clientHeight, ratio = window.devicePixelRatio || 1, style = getComputedStyle(document.documentElement);
      if (!wide) return;
      canvas.width = Math.round(wide * ratio); canvas.height = Math.round(high * ratio);
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      const scale = (zoom * high) / (2.2 * broad), eye = 5 * reach, items = [], ink = style.getPropertyValue("--ink");
      const screen = (p) => { const f = (scale * eye) / (eye - p[2]); return [wide / 2 + f * p[0], high / 2 - f * p[1], f]; };
      const line = (p, q, width, stroke) => items.push([(p[2] + q[2]) / 2, () => {
        const a = screen(p), b = screen(q);
        pen.beginPath(); pen.moveTo(a[0], a[1]); pen.lineTo(b[0], b[1]);
        pen.lineWidth = Math.max(0.8, width * a[2]); pen.strokeStyle = stroke; pen.stroke();
      }]);
      const xyz = Array.from({length: n}, (_, i) => place(s.xyz, 3 * i));
      drawn = xyz.map((p, i) => { const [x, y, f] = screen(p); return [x, y, f * s.radii[s.kind[i]], p[2], i]; });
      xyz.forEach((p, i) => items.push([p[2], () => ball(drawn[i], i, ink)]));
      for (let k = 0; k < s.bonds.length; k += 4) {
        const i = s.bonds[k], p = xyz[i], d = spin(s.bonds[k + 1], s.bonds[k + 2], s.bonds[k + 3]);
        const skin = (0.97 * s.radii[s.kind[i]]) / Math.hypot(...d); // a bond starts where it leaves the sphere
        if (skin < 1) line(p.map((v, j) => v + skin * d[j]), p.map((v, j) => v + d[j]), 0.16, css(color(i), 0.72));
      }
      for (let k = 0; k < s.cell.length; k += 6) {
        const p = place(s.cell, k), q = place(s.cell, k + 3), at = (t) => p.map((v, j) => v + t * (q[j] - v));
        for (let t = 0; t < 8; t++) line(at(t / 8), at((t + 1) / 8), 0, style.getPropertyValue("--soft"));
      }
      items.sort((a, b) => a[0] - b[0]).forEach((item) => item[1]());
    }
    function ball([x, y, r], i, ink) {
      const c = color(i), glow = pen.createRadialGradient(x - r / 3, y - r / 3, r / 10, x, y, r);
      glow.addColorStop(0, css(c, 1.65)); glow.addColorStop(0.55, css(c)); glow.addColorStop(1, css(c, 0.62));
      pen.beginPath(); pen.arc(x, y, r, 0, 7); pen.fillStyle = glow; pen.fill();
      pen.lineWidth = i === chosen ? 3 : 0.7; pen.strokeStyle = i === chosen ? ink : css(c, 0.45); pen.stroke();
      if (r < 8.5) return;
      pen.fillStyle = 0.3 * c[0] + 0.59 * c[1] + 0.11 * c[2] > 140 ? "#1f2733" : "#fff";
      pen.font = `600 ${Math.min(15, r)}px system-ui,sans-serif`; pen.textAlign = "center"; pen.textBaseline = "middle";
      pen.fillText(s.symbols[s.kind[i]], x, y);
    }
    function choose(i) {
      if (i === chosen) return;
      chosen = i;
      const e = i >= 0 && top > 0 ? `: ${meV(s.error[i])}` + (s.sigma.length ? `, σ ${meV(s.sigma[i])}` : "") : "";
      out.textContent = i < 0 ? "" : `${s.symbols[s.kind[i]]} ${s.index[i]}${e}`;
      draw();
    }
    const magnify = (f) => { zoom = Math.max(0.4, Math.min(12, zoom * f)); draw(); };
    const under = (event) => drawn.filter(([x, y, r]) => Math.hypot(event.offsetX - x, event.offsetY - y) < r).sort((a, b) => b[3] - a[3])[0];
    canvas.addEventListener("pointermove", (event) => {
      if (event.buttons & 1) { turn(event.movementY / 110, event.movementX / 110); draw(); } else choose((under(event) || {4: -1})[4]);
    });
    canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); canvas.focus(); choose((under(event) || {4: -1})[4]); });
    canvas.addEventListener("pointerleave", () => choose(-1));
    canvas.addEventListener("wheel", (event) => { // the page scrolls until the picture has been clicked
      if (document.activeElement === canvas) { event.preventDefault(); magnify(Math.exp(-event.deltaY / 600)); }
    }, {passive: false});
    canvas.addEventListener("keydown", (event) => {
      const act = {
        ArrowLeft: () => turn(0, -0.15), ArrowRight: () => turn(0, 0.15), ArrowUp: () => turn(-0.15, 0), ArrowDown: () => turn(0.15, 0),
        "+": () => magnify(1.2), "=": () => magnify(1.2), "-": () => magnify(1 / 1.2),
        "0": () => { R = s.view; zoom = 1; }, Escape: () => canvas.blur(),
        " ": () => choose(s.order[step = (step + 1) % s.order.length]),
      }[event.key];
      if (act) { event.preventDefault(); act(); draw(); }
    });
    views.push(draw);
    new ResizeObserver(draw).observe(canvas);
  }

  const redraw = () => views.forEach((draw) => draw());
  document.querySelectorAll("canvas[data-structure]").forEach(view);
  const button = document.getElementById("coloring"), bar = document.querySelector(".scale i");
  if (bar) bar.style.background = `linear-gradient(to right,${SHADES.map((c) => css(c)).join()})`;
  if (button) button.addEventListener("click", () => {
    byError = !byError;
    button.textContent = byError ? "colour by element" : "colour by force error";
    redraw();
  });
  ["(prefers-color-scheme:dark)", "print"].forEach((query) => matchMedia(query).addEventListener("change", redraw));
})();
