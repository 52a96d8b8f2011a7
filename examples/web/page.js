/** What the page does: pictures in; classes and times out. */

import {drawSquare, pixelsOf, whyNoCamera} from "./picture.js";

const TOP = 5;
const ROUNDS_OF_A_PICTURE = 100;
// For how long the page may stand still while a picture is timed.
const SLICE_MILLISECONDS = 50;

/**
 * What the page has found out; tests and benchmarks/web.py read it.
 *
 * `step` is "starting", "ready", "classified" (the picture's classes are there), "timed"
 * (so are the times) or "failed".
 */
export const state = {step: "starting", picture: null, scores: [], times: []};

const element = (id) => document.getElementById(id);
const shown = element("shown");
const input = element("input");

let about = null;
let labels = [];
let networks = [];
let newRounds = null;
let stream = null;
// Counts pictures, so that the work on an earlier one ends when another comes.
let turn = 0;

function say(text) {
  element("status").textContent = text;
}

function complain(text) {
  element("error").textContent = text;
  element("error").hidden = !text;
}

async function get(file) {
  // Names of files may have characters that mean something in an address.
  const response = await fetch(encodeURIComponent(file)).catch(() => null);
  if (!response?.ok) {
    throw new Error(
      `The file ${file} is missing beside this page. ` +
        "Run python examples/web_page.py again.",
    );
  }
  return response;
}

async function start() {
  if (typeof WebAssembly === "undefined") {
    throw new Error(
      "This browser has no WebAssembly, or it is switched off, and the networks need " +
        "it. Today's Chrome, Edge, Firefox and Safari have it.",
    );
  }
  say("Loading the networks…");
  about = await (await get("networks.json")).json();
  labels = await (await get("labels.json")).json();
  // Not at the top of this file: so that the page can say what is wrong without it.
  const [litert, times] = await Promise.all([
    import("./network.js"),
    import("./times.js"),
  ]).catch((error) => {
    throw new Error(
      "LiteRT.js is missing beside this page, in node_modules. " +
        `Run python examples/web_page.py again. (${error.message})`,
    );
  });
  const files = await Promise.all(about.networks.map(({file}) => get(file)));
  await litert.startLiteRt();
  for (const [index, response] of files.entries()) {
    const content = new Uint8Array(await response.arrayBuffer());
    networks.push(await litert.Network.load(about.networks[index], content));
  }
  newRounds = () => new times.Rounds(networks);
  input.width = input.height = about.image_size;
  describe();
  element("choose").disabled = false;
  element("camera").disabled = false;
  say("Ready.");
  state.step = "ready";
}

/** Fills in what is known before any picture. */
function describe() {
  const size = `${about.image_size}×${about.image_size}`;
  const one = about.networks.length === 1;
  document.title = about.networks.map(({name}) => name).join(" beside ");
  if (one) {
    element("title").textContent = "What does it see?";
    element("intro").textContent =
      "A network looks at a picture, in this browser. No picture leaves it.";
    // There is nothing to compare its time with.
    element("ratio").hidden = true;
  }
  element("input-caption").textContent =
    `What the ${one ? "network gets" : "networks get"} of it: ${size} pixels`;
  element("networks").replaceChildren(...about.networks.map(card));
  element("times").replaceChildren(...about.networks.map(row));
  element("how").textContent =
    `One ${about.kind ? `${about.kind} ` : ""}picture of ${size} pixels at a time, on ` +
    "one thread of the processor, by LiteRT.js in WebAssembly." +
    (one ? "" : " The networks take turns.");
  element("worth").textContent = about.dataset ? worthOfWeights() : worthOfFiles();
}

/** What published weights are worth. */
function worthOfWeights() {
  const accuracies = about.networks
    .map(({name, top1}) => `${name} ${top1 === null ? "not measured" : percent(top1)}`)
    .join(", ");
  const other =
    about.image_size === about.trained_size
      ? ""
      : ` They learned from pictures of ${about.trained_size} pixels, and see those of ` +
        `${about.image_size} worse.`;
  return (
    `The networks know ${labels.length} classes and nothing else, learned from the ` +
    `small pictures of ${about.dataset} in a short training. Their first guess is ` +
    `right for this share of ${about.held_out_images.toLocaleString("en")} pictures ` +
    `that they had not seen: ${accuracies}. Whatever else they are shown, they name one ` +
    `of these classes.${other}`
  );
}

/** What files are worth of which nobody told how they were trained. */
function worthOfFiles() {
  return (
    `Whatever is in a picture, a network names one of its ${labels.length} classes. ` +
    "keras-shift verify tells how often that is right for pictures of yours, which it " +
    "should not have seen in its training."
  );
}

/** An element with a class name and content. */
function make(tag, className, ...content) {
  const made = document.createElement(tag);
  made.className = className;
  made.append(...content);
  return made;
}

function percent(share) {
  return `${(100 * share).toFixed(1)}%`;
}

function card(network) {
  const list = make("ol", "classes");
  for (let place = 0; place < TOP; place++) {
    list.append(make("li", "empty", "–"));
  }
  const section = make(
    "section",
    "network",
    make("h2", "", network.name),
    make(
      "p",
      "note",
      `${network.weights ?? network.file}, ${(network.bytes / 1e6).toFixed(1)} MB`,
    ),
    list,
  );
  section.setAttribute("aria-label", `What ${network.name} sees`);
  return section;
}

function row(network) {
  const box = make("div", "box", make("span", "range"), make("span", "median"));
  const name = make("th", "", network.name, box);
  name.scope = "row";
  return make("tr", "", name, make("td", "number", "–"), make("td", "number", "–"));
}

/** Shows the best classes of every network. */
function showScores(scores) {
  document.querySelectorAll(".classes").forEach((list, index) => {
    // Files without a softmax have other numbers.
    const areShares = scores[index].every((score) => score >= 0 && score < 1.001);
    const order = [...scores[index].keys()]
      .sort((one, other) => scores[index][other] - scores[index][one])
      .slice(0, TOP);
    const items = order.map((place) => {
      const share = scores[index][place];
      const item = make(
        "li",
        "",
        make("span", "name", labels[place]),
        make("span", "share", areShares ? percent(share) : share.toFixed(2)),
      );
      item.style.setProperty("--share", areShares ? share : 0);
      return item;
    });
    list.replaceChildren(...items);
  });
  state.scores = scores.map((each) => Array.from(each));
}

/** Shows the times of the rounds so far. */
function showTimes(rounds) {
  const times = rounds.summary();
  const most = Math.max(...times.map(({milliseconds}) => milliseconds.high));
  const rows = element("times").rows;
  times.forEach(({milliseconds: {low, median, high}}, index) => {
    rows[index].cells[1].textContent = `${median.toFixed(2)} ms`;
    rows[index].cells[2].textContent = `${low.toFixed(2)} to ${high.toFixed(2)}`;
    for (const [name, value] of Object.entries({low, median, high})) {
      rows[index].style.setProperty(`--${name}`, value / most);
    }
  });
  const last = about.networks.at(-1).name;
  const texts = times.slice(0, -1).map(
    ({ratio: {low, median, high}}, index) =>
      `${about.networks[index].name} takes ${median.toFixed(2)} of ${last}’s time ` +
      `(${low.toFixed(2)} to ${high.toFixed(2)} in the middle half of ` +
      `${rounds.count} rounds).`,
  );
  element("ratio").textContent = texts.join(" ");
  state.times = times;
}

/** Draws a picture or a frame of a video, and returns what the networks get of it. */
function look(source) {
  drawSquare(source, shown);
  drawSquare(source, input);
  element("invitation").hidden = true;
  return pixelsOf(input);
}

/** Lets the browser draw before the work goes on. */
function nextFrame() {
  return new Promise((resolve) => requestAnimationFrame(resolve));
}

/** Classifies a file with a picture, and times the networks on it. */
async function classifyFile(file) {
  stopCamera();
  const own = ++turn;
  let picture;
  try {
    picture = await createImageBitmap(file);
  } catch {
    complain(`${file.name} is not a picture that this browser can read.`);
    return;
  }
  if (own !== turn) {
    return;
  }
  complain("");
  const pixels = look(picture);
  picture.close();
  shown.setAttribute("aria-label", file.name);
  const rounds = newRounds();
  state.times = [];
  showScores(await rounds.run(pixels));
  state.picture = file.name;
  state.step = "classified";
  say(`${file.name}: ${guesses()}.`);
  while (rounds.count < ROUNDS_OF_A_PICTURE) {
    const end = performance.now() + SLICE_MILLISECONDS;
    while (performance.now() < end && rounds.count < ROUNDS_OF_A_PICTURE) {
      await rounds.run(pixels);
    }
    await nextFrame();
    if (own !== turn) {
      return;
    }
    showTimes(rounds);
  }
  state.step = "timed";
}

/** What every network calls the picture. */
function guesses() {
  const names = [...document.querySelectorAll(".classes li:first-child .name")];
  return names
    .map((name, index) => `${about.networks[index].name} sees ${name.textContent}`)
    .join(", ");
}

async function startCamera() {
  const own = ++turn;
  complain("");
  if (!navigator.mediaDevices) {
    complain("Browsers give the camera only to pages of https:// or of localhost.");
    return;
  }
  const video = document.createElement("video");
  video.muted = true;
  video.playsInline = true;
  try {
    const found = await navigator.mediaDevices.getUserMedia({
      video: {facingMode: "environment"},
    });
    if (own !== turn) {
      found.getTracks().forEach((track) => track.stop());
      return;
    }
    stream = found;
    video.srcObject = stream;
    await video.play();
  } catch (error) {
    stopCamera();
    complain(whyNoCamera(error));
    return;
  }
  element("camera").textContent = "Stop the camera";
  shown.setAttribute("aria-label", "What the camera sees");
  state.picture = "camera";
  say("The camera runs.");
  stream.getVideoTracks()[0].addEventListener("ended", () => {
    stopCamera();
    complain("The camera was switched off.");
  });
  const rounds = newRounds();
  while (own === turn && stream) {
    showScores(await rounds.run(look(video)));
    showTimes(rounds);
    state.step = "timed";
    await nextFrame();
  }
}

function stopCamera() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  element("camera").textContent = "Start the camera";
}

function failed(error) {
  complain(error.message);
  say("");
  state.step = "failed";
}

/** Has a function say what goes wrong in it. */
function guarded(work) {
  return (...values) => work(...values).catch(failed);
}

const classify = guarded(classifyFile);

element("choose").addEventListener("click", () => element("file").click());
element("file").addEventListener("change", ({target}) => {
  if (target.files.length) {
    classify(target.files[0]);
  }
  // So that the same file can be chosen again.
  target.value = "";
});
element("camera").addEventListener("click", () => {
  if (stream) {
    turn++;
    stopCamera();
    say("The camera is off.");
  } else {
    guarded(startCamera)();
  }
});
// Anywhere on the page: a browser would leave it for a picture dropped beside the stage.
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  element("stage").classList.add("over");
});
document.addEventListener("dragleave", () => {
  element("stage").classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  element("stage").classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (!networks.length) {
    complain("The networks are not there yet.");
  } else if (file) {
    classify(file);
  } else {
    complain("What was dropped is not a file. Save the picture first.");
  }
});

guarded(start)();
