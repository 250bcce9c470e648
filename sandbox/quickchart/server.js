"use strict";
/*
 * A local stand-in for QuickChart (https://quickchart.io): the same POST /chart, drawn by the real Chart.js, on
 * 127.0.0.1 only. Charts are JSON, as an object or as text. Unlike the service, it never runs JavaScript in a chart.
 *
 *     node server.js [PORT]      0, the default, picks a free port
 *
 * Prints {"port": N} when it listens, and exits when standard input closes, so that it never outlives its parent.
 */
const http = require("node:http");
const path = require("node:path");

const { createCanvas, GlobalFonts } = require("@napi-rs/canvas");
const ChartJs2 = require("chart.js");
const { Chart: ChartJs4 } = require("chart.js-v4/auto");

const FONT = "Chart Sans"; // ships with the server, since a machine may have no fonts
const MAX_BODY_BYTES = 100 * 1024; // the limit of the service
const MAX_SIDE = 3000;

for (const weight of [400, 700]) {
  const file = path.dirname(require.resolve("@fontsource/noto-sans/package.json"));
  GlobalFonts.registerFromPath(path.join(file, "files", `noto-sans-latin-${weight}-normal.woff2`), FONT);
}
ChartJs2.defaults.global.defaultFontFamily = FONT;
ChartJs4.defaults.font.family = FONT;

/** An error in the request: answered with its status and an image of its message. */
class ChartError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The Chart.js for a request's `version`: "2", "2.9.4" (the default) or "4". */
function chartJs(version = "2.9.4") {
  const major = String(version).split(".")[0];
  if (major === "2") return ChartJs2;
  if (major === "4") return ChartJs4;
  throw new ChartError(400, `Chart.js version ${version} is unknown; valid are 2.9.4 and 4`);
}

/** A width or height in CSS pixels, within the limits of the service. */
function side(name, value, fallback) {
  const pixels = value === undefined ? fallback : Number(value);
  if (!Number.isInteger(pixels) || pixels < 1 || pixels > MAX_SIDE) {
    throw new ChartError(400, `${name} is ${value}; valid is 1 to ${MAX_SIDE} pixels`);
  }
  return pixels;
}

function parseJson(text, what) {
  let value;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new ChartError(400, `${what} is not JSON: ${error.message}`);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new ChartError(400, `${what} is not a JSON object`);
  }
  return value;
}

/** A Chart.js plugin that paints the background; Chart.js leaves it transparent. */
function background(color) {
  return {
    id: "background",
    beforeDraw({ ctx, width, height }) {
      ctx.save();
      ctx.fillStyle = color;
      ctx.fillRect(0, 0, width, height);
      ctx.restore();
    },
  };
}

/** Render the chart of a request as PNG. */
function render(body) {
  const Chart = chartJs(body.version);
  if ((body.format ?? "png") !== "png") throw new ChartError(400, `format is ${body.format}; valid is png`);
  if (body.chart === undefined) throw new ChartError(400, "You are missing variable `c` or `chart`");
  const config = parseJson(typeof body.chart === "string" ? body.chart : JSON.stringify(body.chart), "chart");

  const ratio = Number(body.devicePixelRatio ?? 2);
  if (!(ratio >= 1 && ratio <= 4)) throw new ChartError(400, `devicePixelRatio is ${body.devicePixelRatio}; valid is 1 to 4`);
  const canvas = createCanvas(side("width", body.width, 500), side("height", body.height, 300));
  canvas.style = {}; // Chart.js writes the CSS size of a browser's canvas here

  config.options = { ...config.options, animation: false, responsive: false, events: [], devicePixelRatio: ratio };
  config.plugins = [background(body.backgroundColor ?? "transparent")];
  let chart;
  try {
    chart = new Chart(canvas, config);
    return canvas.toBuffer("image/png");
  } catch (error) {
    throw new ChartError(400, error.message);
  } finally {
    chart?.destroy();
  }
}

/** An image of an error message, as the service sends. */
function picture(message) {
  const canvas = createCanvas(Math.min(MAX_SIDE, 40 + 8 * message.length), 40);
  const ctx = canvas.getContext("2d");
  ctx.fillStyle = "#fff";
  ctx.fillRect(0, 0, canvas.width, canvas.height);
  ctx.fillStyle = "#c00";
  ctx.font = `14px ${FONT}`;
  ctx.fillText(message, 10, 25);
  return canvas.toBuffer("image/png");
}

async function readBody(request) {
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size <= MAX_BODY_BYTES) chunks.push(chunk); // read and drop the rest, so that the client receives the answer
  }
  if (size > MAX_BODY_BYTES) throw new ChartError(413, `The request is larger than ${MAX_BODY_BYTES} bytes`);
  return Buffer.concat(chunks).toString("utf8");
}

async function answer(request, response) {
  const route = `${request.method} ${request.url.split("?")[0]}`;
  if (route === "GET /healthcheck") {
    response.writeHead(200, { "Content-Type": "application/json" }).end('{"success":true}');
    return;
  }
  let status = 200;
  let png;
  const headers = { "Content-Type": "image/png" };
  try {
    if (route !== "POST /chart") throw new ChartError(404, `${route} is unknown; valid are POST /chart and GET /healthcheck`);
    png = render(parseJson(await readBody(request), "The request"));
  } catch (error) {
    const message = `Chart Error: ${error.message}`.replace(/[^\x20-\x7e]+/g, " ").slice(0, 300);
    status = error.status ?? 500;
    headers["X-quickchart-error"] = message;
    png = picture(message);
  }
  response.writeHead(status, { ...headers, "Content-Length": png.length }).end(png);
}

const server = http.createServer((request, response) => {
  answer(request, response).catch((error) => response.destroy(error));
});
server.listen(Number(process.argv[2] ?? 0), "127.0.0.1", () => {
  console.log(JSON.stringify({ port: server.address().port }));
});
process.stdin.on("end", () => process.exit(0)).resume();
