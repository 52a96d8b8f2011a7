/** Pictures as the networks get them. */

/** Draws the middle square of a picture or a video over all of a canvas. */
export function drawSquare(source, canvas) {
  const width = source.videoWidth ?? source.width;
  const height = source.videoHeight ?? source.height;
  const side = Math.min(width, height);
  const context = canvas.getContext("2d", {willReadFrequently: true});
  // Where a picture is transparent.
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  // Of the qualities, this one smooths before it leaves pixels out.
  context.imageSmoothingQuality = "high";
  context.drawImage(
    source,
    Math.floor((width - side) / 2),
    Math.floor((height - side) / 2),
    side,
    side,
    0,
    0,
    canvas.width,
    canvas.height,
  );
}

/** Returns the RGB values of a canvas, row by row. */
export function pixelsOf(canvas) {
  const {data} = canvas
    .getContext("2d", {willReadFrequently: true})
    .getImageData(0, 0, canvas.width, canvas.height);
  const pixels = new Uint8Array((data.length / 4) * 3);
  for (let from = 0, to = 0; from < data.length; from += 4, to += 3) {
    pixels[to] = data[from];
    pixels[to + 1] = data[from + 1];
    pixels[to + 2] = data[from + 2];
  }
  return pixels;
}

/** Says in plain words why there is no picture from the camera. */
export function whyNoCamera(error) {
  const reasons = {
    NotFoundError: "There is no camera on this machine.",
    NotAllowedError:
      "The browser was not allowed to use the camera. Allow it beside the address.",
    NotReadableError: "Another program uses the camera.",
  };
  return reasons[error.name] ?? `The camera does not start: ${error.message}`;
}
