"""A headless Chromium that is spoken to through two pipes (the DevTools protocol), so that no driver is needed."""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WAIT = 60  # seconds that an answer of a busy machine may take


def executable():
    """Path of a Chromium; None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page in a browser without a network.

    ``errors`` are the uncaught exceptions and the messages of level error so far, ``requests`` the addresses asked for.
    """

    def __init__(self, folder, width=1280, height=900):
        commands, answers = os.pipe(), os.pipe()

        def descriptors():
            # Chromium reads commands from descriptor 3 and writes answers to 4; the pipes' own ends may have them.
            copies = os.dup(commands[0]), os.dup(answers[1])
            for copy, wanted in zip(copies, (3, 4), strict=True):
                os.dup2(copy, wanted)

        options = ["--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        options += ["--disable-background-networking", "--disable-dev-shm-usage", "--hide-scrollbars"]
        options += [f"--user-data-dir={folder}", f"--window-size={width},{height}", "about:blank"]
        self._process = subprocess.Popen(
            [executable(), *options],
            preexec_fn=descriptors,
            close_fds=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands[0])
        os.close(answers[1])
        self._out, self._in = commands[1], answers[0]
        self._buffer, self._count, self._session = b"", 0, None
        self.errors, self.requests, self._loaded = [], [], False
        target = next(t for t in self._ask("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self._session = self._ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._ask(f"{domain}.enable")
        self._ask(
            "Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1
        )
        self.size(width, height)

    def close(self):
        """End the browser."""
        with contextlib.suppress(OSError, TimeoutError):
            self._session = None
            self._ask("Browser.close")
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._out)
        os.close(self._in)

    def _ask(self, method, **parameters):
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._count:
            self._note(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def _next(self):
        until = time.monotonic() + WAIT
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(until - time.monotonic(), 0))
            some = os.read(self._in, 2**20) if ready else b""
            if not some:
                raise TimeoutError("the browser does not answer" if not ready else "the browser has ended")
            self._buffer += some
        text, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(text)

    def _note(self, event):
        method, found = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            details = found["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and found["type"] in ("error", "assert"):
            self.errors.append(" ".join(str(each.get("value")) for each in found["args"]))
        elif method == "Log.entryAdded" and found["entry"]["level"] == "error":
            self.errors.append(found["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(found["request"]["url"])
        elif method == "Page.loadEventFired":
            self._loaded = True

    def open(self, path, fragment=""):
        """Load a file, to the end of its load event."""
        for url in ("about:blank", path.resolve().as_uri() + fragment):  # or another fragment would load nothing
            self._loaded = False
            self._ask("Page.navigate", url=url)
            while not self._loaded:
                self._note(self._next())

    def value(self, expression):
        """What a JavaScript expression is, awaited; an exception in it is an error here."""
        found = self._ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"]["exception"]["description"])
        return found["result"].get("value")

    def wait(self, expression):
        """Until a JavaScript expression is true."""
        until = time.monotonic() + WAIT
        while not self.value(expression):
            if time.monotonic() > until:
                raise TimeoutError(f"never true: {expression}")
            time.sleep(0.05)

    def size(self, width, height, scale=1):
        """Make the window so large; below 500 pixels it is a phone's."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 500}
        self._ask("Emulation.setDeviceMetricsOverride", **metrics)

    def prefer(self, **features):
        """Say what the reader prefers: ``color_scheme="dark"``, ``reduced_motion="reduce"``."""
        found = [{"name": f"prefers-{key.replace('_', '-')}", "value": value} for key, value in features.items()]
        self._ask("Emulation.setEmulatedMedia", features=found)

    def press(self, *keys):
        """Press keys one after another, by their names in the DOM (``"Enter"``, ``"ArrowDown"``, ``"a"``)."""
        codes = {"Enter": 13, "Escape": 27, "Tab": 9, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        for key in keys:
            down = {"key": key, "code": key, "windowsVirtualKeyCode": codes.get(key, 0)}
            if key == "Enter" or len(key) == 1:
                down["text"] = "\r" if key == "Enter" else key
            self._ask("Input.dispatchKeyEvent", type="keyDown", **down)
            self._ask("Input.dispatchKeyEvent", type="keyUp", **{k: v for k, v in down.items() if k != "text"})

    def move(self, x, y):
        """Move the mouse there, in pixels of the window."""
        self._ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, x, y):
        """Press and release the left button of the mouse there."""
        for kind in ("mousePressed", "mouseReleased"):
            self._ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path, *, whole=False):
        """Write what is seen, or the whole page, as PNG."""
        found = self._ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))


@contextlib.contextmanager
def opened(folder, **options):
    """A :class:`Browser` whose profile is in ``folder``, closed at the end."""
    browser = Browser(folder, **options)
    try:
        yield browser
    finally:
        browser.close()
