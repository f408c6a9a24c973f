// A drawing surface. Its value is the picture as a PNG data URL; empty if nothing is drawn. An uploaded file is read
// by the browser: only the drawn square is sent.
const find = (selector) => element.querySelector(selector);
const canvas = find("canvas"), pen = find(".pen"), message = find(".message"), file = find("input");
const context = canvas.getContext("2d", { willReadFrequently: true });
const SIDE = canvas.width, INK = 18, STEP = 7, MOST_UNDO = 30;
const MOST_BYTES = 10e6, MOST_PIXELS = 50e6;
const KINDS = file.accept.split(",");
let earlier = [], at = { x: SIDE / 2, y: SIDE / 2 }, down = false, empty = true, sent = "";

const blank = () => {
  context.fillStyle = "white";
  context.fillRect(0, 0, SIDE, SIDE);
  empty = true;
};
const remember = () => {
  earlier.push({ image: context.getImageData(0, 0, SIDE, SIDE), empty });
  if (earlier.length > MOST_UNDO) earlier.shift();
};
const send = (text = "") => {
  message.textContent = text;
  sent = empty ? "" : canvas.toDataURL("image/png");
  props.value = sent;
  trigger("change");
};
const line = (from, to) => {
  context.strokeStyle = "black";
  context.lineWidth = INK;
  context.lineCap = "round";
  context.beginPath();
  context.moveTo(from.x, from.y);
  context.lineTo(to.x, to.y);
  context.stroke();
  empty = false;
};

// With a mouse, a finger or a pen.
const place = (event) => {
  const box = canvas.getBoundingClientRect();
  return { x: ((event.clientX - box.left) * SIDE) / box.width, y: ((event.clientY - box.top) * SIDE) / box.height };
};
let drawing = null;
canvas.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || drawing !== null) return;
  canvas.setPointerCapture(event.pointerId);
  drawing = event.pointerId;
  pen.hidden = true;
  remember();
  at = place(event);
  line(at, at);
});
canvas.addEventListener("pointermove", (event) => {
  if (event.pointerId !== drawing) return;
  const to = place(event);
  line(at, to);
  at = to;
});
for (const end of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(end, (event) => {
    if (event.pointerId !== drawing) return;
    drawing = null;
    send();
  });
}

// With the keyboard.
const showPen = () => {
  pen.hidden = false;
  pen.style.left = `${(100 * at.x) / SIDE}%`;
  pen.style.top = `${(100 * at.y) / SIDE}%`;
  pen.toggleAttribute("data-down", down);
};
const lift = () => {
  if (down) send();
  down = false;
};
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
canvas.addEventListener("keydown", (event) => {
  const move = MOVES[event.key];
  if (move) {
    const inside = (value) => Math.min(SIDE, Math.max(0, value));
    const to = { x: inside(at.x + STEP * move[0]), y: inside(at.y + STEP * move[1]) };
    if (down) line(at, to);
    at = to;
  } else if (event.key === " ") {
    if (down) lift();
    else {
      down = true;
      remember();
      line(at, at);
    }
  } else if (event.key === "Delete") {
    clear();
  } else return;
  event.preventDefault();
  showPen();
});
canvas.addEventListener("blur", () => {
  lift();
  pen.hidden = true;
});

// Tools.
const clear = () => {
  if (!empty) remember();
  down = false;
  blank();
  send();
};
find("[data-do=clear]").addEventListener("click", clear);
find("[data-do=undo]").addEventListener("click", () => {
  const last = earlier.pop();
  if (!last) return;
  context.putImageData(last.image, 0, 0);
  empty = last.empty;
  send();
});
const take = async (picture) => {
  if (!picture) return;
  if (!KINDS.includes(picture.type)) {
    message.textContent = "Not a PNG, JPEG, WebP, GIF or BMP picture.";
    return;
  }
  if (picture.size > MOST_BYTES) {
    message.textContent = `The picture has ${(picture.size / 1e6).toFixed(0)} MB; at most ${MOST_BYTES / 1e6} MB.`;
    return;
  }
  let image;
  try {
    image = await createImageBitmap(picture);
  } catch {
    message.textContent = "The picture is damaged and cannot be read.";
    return;
  }
  const { width, height } = image;
  if (width * height > MOST_PIXELS) {
    message.textContent = `The picture has ${width} x ${height} pixels; at most ${MOST_PIXELS / 1e6} million.`;
  } else {
    remember();
    blank();
    const scale = SIDE / Math.min(width, height);
    context.imageSmoothingQuality = "high";
    context.drawImage(image, (SIDE - width * scale) / 2, (SIDE - height * scale) / 2, width * scale, height * scale);
    empty = false;
    send(picture.name);
  }
  image.close();
};
file.addEventListener("change", async () => {
  await take(file.files[0]);
  file.value = "";
});
canvas.addEventListener("dragover", (event) => event.preventDefault());
canvas.addEventListener("drop", (event) => {
  event.preventDefault();
  take(event.dataTransfer.files[0]);
});

// The server may clear it.
watch("value", () => {
  if (props.value || sent === "") return;
  sent = "";
  earlier = [];
  message.textContent = "";
  blank();
});
blank();
