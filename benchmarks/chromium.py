"""Drives a headless Chromium by its DevTools protocol, without other packages."""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

# Systems give Chromium, or Chrome, one of these names.
_NAMES = ("chromium", "chromium-browser", "google-chrome")

# Without them, Chromium asks a person before it uses a camera, and looks for a GPU, and
# refuses to run as root.
_OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--hide-scrollbars",
    "--use-fake-ui-for-media-stream",
    "--remote-debugging-pipe",
)


def find():
    """Returns the path of a Chromium on this machine, or `None`."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


# After so long a silence, something is wrong.
_MOST_SECONDS = 60


class Page:
    """A tab, which `opened` gives.

    Attributes:
        browser: Name and version of the browser.
        errors: What the page wrote to the console as errors, failed to load, or threw.
    """

    def __init__(self, commands, answers):
        self._commands, self._answers = commands, answers
        self._left, self._number, self._session = b"", 0, {}
        self._loaded = False
        self.browser = self._call("Browser.getVersion")["product"]
        self.errors = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "DOM", "Network"):
            self._call(f"{domain}.enable")

    def go(self, address):
        """Goes to an address, and waits until its page is loaded."""
        self._loaded = False
        self._call("Page.navigate", url=address)
        while not self._loaded:
            self._note(self._receive())

    def evaluate(self, expression):
        """Returns what a JavaScript expression, or the promise that it is, becomes."""
        answer = self._call(
            "Runtime.evaluate",
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {_text(answer['exceptionDetails'])}")
        return answer["result"].get("value")

    def wait_for(self, expression):
        """Returns the value of an expression as soon as it is true."""
        end = time.monotonic() + _MOST_SECONDS
        while True:
            if value := self.evaluate(expression):
                return value
            if time.monotonic() > end:
                raise TimeoutError(f"{expression}: not in {_MOST_SECONDS} seconds")
            time.sleep(0.02)

    def choose(self, selector, path):
        """Chooses a file in the input that a CSS selector finds."""
        root = self._call("DOM.getDocument")["root"]["nodeId"]
        node = self._call("DOM.querySelector", nodeId=root, selector=selector)
        self._call("DOM.setFileInputFiles", files=[str(path)], nodeId=node["nodeId"])

    def press(self, key, text=""):
        """Presses a key and releases it."""
        code = {"Tab": 9, "Enter": 13, " ": 32}[key]
        names = {"key": key, "windowsVirtualKeyCode": code}
        down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
        self._call("Input.dispatchKeyEvent", **down, **names)
        self._call("Input.dispatchKeyEvent", type="keyUp", **names)

    def show_as(self, width, height, scheme):
        """Sets the size of the window, and the colours (light or dark) that it asks."""
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self._call("Emulation.setEmulatedMedia", features=[feature])

    @contextlib.contextmanager
    def blocking(self, pattern):
        """Has requests to addresses of a pattern fail in the meantime."""
        self._call("Network.setBlockedURLs", urls=[pattern])
        yield
        self._call("Network.setBlockedURLs", urls=[])

    @contextlib.contextmanager
    def running_first(self, script):
        """Runs JavaScript before that of every page opened in the meantime."""
        name = "Page.addScriptToEvaluateOnNewDocument"
        added = self._call(name, source=script)
        yield
        self._call("Page.removeScriptToEvaluateOnNewDocument", **added)

    def picture(self):
        """Returns a picture of the whole page, as the bytes of a PNG file."""
        size = self._call("Page.getLayoutMetrics")["cssContentSize"]
        answer = self._call(
            "Page.captureScreenshot",
            clip={**size, "x": 0, "y": 0, "scale": 1},
            captureBeyondViewport=True,
        )
        return base64.b64decode(answer["data"])

    def _call(self, method, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        content = json.dumps({**message, **self._session}).encode() + b"\0"
        os.write(self._commands, content)
        while True:
            answer = self._receive()
            if answer.get("id") != self._number:
                self._note(answer)
            elif "error" in answer:
                raise RuntimeError(f"{method}: {answer['error']['message']}")
            else:
                return answer["result"]

    def _receive(self):
        while b"\0" not in self._left:
            if not select.select([self._answers], [], [], _MOST_SECONDS)[0]:
                raise TimeoutError(f"Chromium said nothing for {_MOST_SECONDS} seconds")
            content = os.read(self._answers, 1 << 20)
            if not content:
                raise RuntimeError("Chromium ended")
            self._left += content
        message, _, self._left = self._left.partition(b"\0")
        return json.loads(message)

    def _note(self, event):
        """Keeps what an event says if it is an error of the page."""
        method, about = event.get("method"), event.get("params", {})
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Runtime.exceptionThrown":
            self.errors.append(_text(about["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and about["type"] == "error":
            values = (
                each.get("value", each.get("description")) for each in about["args"]
            )
            self.errors.append(" ".join(map(str, values)))
        elif method == "Log.entryAdded" and about["entry"]["level"] == "error":
            entry = about["entry"]
            self.errors.append(f"{entry['text']} {entry.get('url', '')}".strip())


def _text(details):
    return details.get("exception", {}).get("description", details["text"])


@contextlib.contextmanager
def opened(*options):
    """Gives a `Page` of a new browser, which is closed afterwards.

    Args:
        *options: More options of Chromium's command line.

    Raises:
        OSError: If there is no Chromium.
    """
    browser = find()
    if browser is None:
        raise OSError(
            "There is no Chromium: on Debian and Ubuntu, apt-get install chromium."
        )
    read_commands, commands = os.pipe()
    answers, write_answers = os.pipe()
    # Chromium reads from descriptor 3 and writes to 4.
    shell = f'exec "$@" 3<&{read_commands} 4>&{write_answers}'
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            ["bash", "-c", shell, "bash", browser, *_OPTIONS, *options]
            + [f"--user-data-dir={profile}"],
            pass_fds=(read_commands, write_answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_commands)
        os.close(write_answers)
        try:
            yield Page(commands, answers)
        finally:
            process.terminate()
            process.wait(10)
            os.close(commands)
            os.close(answers)
